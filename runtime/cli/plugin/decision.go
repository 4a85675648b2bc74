package plugin

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"wasmgate/runtime/exchange"
	"wasmgate/runtime/fault"
	"wasmgate/runtime/plugintest"
	"wasmgate/runtime/plugintest/suite"
)

// decision tells what a plugin decided about a message, with its edits.
func (t *trying) decision(x *exchange.Exchange, response bool, o *plugintest.Phase) string {
	var b strings.Builder
	word := o.Decision
	colour := "good"
	switch {
	case o.Failure != nil:
		colour = "bad"
	case o.Decision == plugintest.Denied || o.Decision == plugintest.Respond:
		colour = "warn"
		word += " " + strconv.Itoa(o.Status)
	}
	if o.Failure != nil {
		t.decided.put(o.Failure.Error())
	}
	head := fmt.Sprintf("%s %s", x.Request.Method, target(x))
	if response {
		head = "  answer " + strconv.Itoa(x.Response.Status)
	}
	fmt.Fprintf(&b, "%s → %s", head, t.paint.in(colour, word))
	if o.Upstream != "" {
		fmt.Fprintf(&b, " %s", o.Upstream)
	}
	if o.Address != "" {
		fmt.Fprintf(&b, " %s", o.Address)
	}
	fmt.Fprintf(&b, "%s\n", t.paint.in("faint", fmt.Sprintf("  (%s, %s fuel)", micros(o.Took), suite.Thousands(o.Fuel))))
	line := func(format string, args ...any) { fmt.Fprintf(&b, "    "+format+"\n", args...) }
	if o.Failure != nil && !t.logged.take(o.Failure.Error()) {
		line("%s", t.paint.in("bad", o.Failure.Error()))
	}
	for _, e := range []struct{ what, value string }{{"method", o.Method}, {"authority", o.Authority}, {"path", o.Path}, {"query", o.Query}} {
		if e.value != "" {
			line("%s: %s", e.what, e.value)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(o.Set)) {
		line("set %s: %s", name, strings.Join(o.Set[name], ", "))
	}
	for _, name := range o.Removed {
		line("removed %s", name)
	}
	for _, a := range o.Attributes {
		line("attribute %s: %s", a.Key, a.Value)
	}
	if o.Body != "" {
		line("body: %s", shorten(o.Body))
	}
	return b.String()
}

// texts are texts that were told, so that they are not told again beside it. They may be used on all loops.
type texts struct {
	mu   sync.Mutex
	told map[string]bool
}

// mostTexts bounds them: a failure may have an address of the guest's in it.
const mostTexts = 256

func (f *texts) put(s string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.told == nil || len(f.told) >= mostTexts {
		f.told = map[string]bool{}
	}
	f.told[s] = true
}

// has says whether a text was told.
func (f *texts) has(s string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.told[s]
}

// take says whether a text was told, and forgets it.
func (f *texts) take(s string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	told := f.told[s]
	delete(f.told, s)
	return told
}

// failure is what a request failed by; only its kind, if the plugin's decision has told the rest.
func (t *trying) failure(err error) string {
	if f := fault.From(err); t.decided.has(f.Error()) {
		return f.Kind.String()
	}
	return err.Error()
}

// target is what the client asked for.
func target(x *exchange.Exchange) string { return printable(string(x.Request.Target)) }

// shorten is the beginning of a body, in one line.
func shorten(s string) string {
	const most = 80
	s = strings.TrimSuffix(s, "\n")
	if len(s) > most {
		s = s[:most] + "…"
	}
	return printable(strings.ReplaceAll(s, "\n", " ⏎ "))
}

// printable is a text as it may stand on a terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 || r == 0xfffd {
			return '?'
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
}

func micros(d time.Duration) string { return suite.Micros(float64(d) / 1e3) }
