package suite

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"wasmgate/runtime/plugintest"
)

// Difference is something that is not as it was expected.
type Difference struct {
	What string `json:"what"`
	Want string `json:"want"`
	Got  string `json:"got"`
}

// comparison gathers differences.
type comparison struct {
	list   []Difference
	prefix string
}

func (c *comparison) add(what, want, got string) {
	c.list = append(c.list, Difference{c.prefix + what, want, got})
}

// text compares a text; "" is one that is not there.
func (c *comparison) text(what string, want *Match, got string) {
	if !want.set {
		return
	}
	var values []string
	if got != "" || len(want.exact) == 1 && want.exact[0] == "" {
		values = []string{got}
	}
	if !want.takes(values) {
		c.add(what, want.String(), show(values))
	}
}

// phase compares what came of a message with what was expected.
func (c *comparison) phase(e *Expect, o *plugintest.Phase) {
	c.decision(e, o)
	if e == nil {
		return
	}
	c.text("upstream", &e.Upstream, o.Upstream)
	c.text("address", &e.Address, o.Address)
	if e.Status != 0 && e.Status != o.Status {
		got := strconv.Itoa(o.Status)
		if o.Status == 0 {
			got = "no answer"
		}
		c.add("status", strconv.Itoa(e.Status), got)
	}
	c.text("method", &e.Method, o.Method)
	c.text("authority", &e.Authority, o.Authority)
	c.text("path", &e.Path, o.Path)
	c.text("query", &e.Query, o.Query)
	c.fields("headers", e.Headers, o.Fields)
	c.edits(e, o)
	c.fields("trailers", e.Trailers, o.Trailers)
	c.text("body", &e.Body, o.Body)
	if e.Timeout != nil && e.Timeout.Std() != o.Timeout {
		c.add("timeout", e.Timeout.Std().String(), duration(o.Timeout))
	}
	attributes := make([]plugintest.Field, 0, len(o.Attributes))
	for _, a := range o.Attributes {
		attributes = append(attributes, plugintest.Field{Name: a.Key, Value: a.Value})
	}
	c.fields("attributes", e.Attributes, attributes)
	c.log(e, o)
	if e.MaxFuel != 0 && o.Fuel > int64(e.MaxFuel) {
		c.add("max_fuel", strconv.Itoa(e.MaxFuel)+" at most", strconv.FormatInt(o.Fuel, 10))
	}
}

func duration(d time.Duration) string {
	if d == 0 {
		return "nothing"
	}
	return d.String()
}

// decision compares the decision. A failure that nobody expects is told with its text.
func (c *comparison) decision(e *Expect, o *plugintest.Phase) {
	failure := ""
	if o.Failure != nil {
		failure = o.Failure.Error()
	}
	want := ""
	if e != nil {
		want = e.Decision
		if e.Error.set && want == "" {
			want = plugintest.Failed
		}
	}
	// An answer is one also without a body, and a choice of the plugin's leads on.
	same := want == o.Decision || want == plugintest.Respond && o.Decision == plugintest.Denied
	switch {
	case o.Failure != nil && want != plugintest.Failed:
		if want == "" {
			want = "the plugin does not fail"
		}
		c.add("decision", want, "fail: "+failure)
	case want != "" && !same:
		c.add("decision", want, o.Decision)
	}
	if e != nil && e.Error.set && o.Failure != nil {
		wanted := e.Error
		if len(wanted.exact) == 1 {
			wanted = Match{set: true, within: wanted.exact[0]}
		}
		c.text("error", &wanted, failure)
	}
}

// fields compares the fields that are named.
func (c *comparison) fields(what string, want map[string]Match, have []plugintest.Field) {
	for _, name := range slices.Sorted(maps.Keys(want)) {
		var values []string
		for _, f := range have {
			if strings.EqualFold(f.Name, name) {
				values = append(values, f.Value)
			}
		}
		if m := want[name]; !m.takes(values) {
			c.add(what+"."+name, m.String(), show(values))
		}
	}
}

// edits compares all that was set and removed.
func (c *comparison) edits(e *Expect, o *plugintest.Phase) {
	if e.Set != nil {
		want := map[string]Match{}
		for name, m := range e.Set {
			want[strings.ToLower(name)] = m
		}
		for _, name := range slices.Sorted(maps.Keys(want)) {
			if m := want[name]; !m.takes(o.Set[name]) {
				c.add("set."+name, m.String(), show(o.Set[name]))
			}
		}
		for _, name := range slices.Sorted(maps.Keys(o.Set)) {
			if _, ok := want[name]; !ok {
				c.add("set."+name, "nothing", show(o.Set[name]))
			}
		}
	}
	if e.Removed != nil {
		want := make([]string, 0, len(*e.Removed))
		for _, name := range *e.Removed {
			want = append(want, strings.ToLower(name))
		}
		slices.Sort(want)
		if !slices.Equal(want, o.Removed) {
			c.add("removed", show(want), show(o.Removed))
		}
	}
}

// log compares the lines that the plugin wrote.
func (c *comparison) log(e *Expect, o *plugintest.Phase) {
	if e.Log == nil {
		return
	}
	var lines []string
	for _, l := range o.Lines {
		if l.Guest {
			lines = append(lines, l.Text)
		}
	}
	for i := range max(len(*e.Log), len(lines)) {
		what := fmt.Sprintf("log[%d]", i)
		switch {
		case i >= len(lines):
			c.add(what, (*e.Log)[i].String(), "nothing")
		case i >= len(*e.Log):
			c.add(what, "nothing", strconv.Quote(lines[i]))
		default:
			wanted := (*e.Log)[i]
			if len(wanted.exact) == 1 {
				wanted = Match{set: true, within: wanted.exact[0]}
			}
			if !wanted.takes(lines[i : i+1]) {
				c.add(what, wanted.String(), strconv.Quote(lines[i]))
			}
		}
	}
}
