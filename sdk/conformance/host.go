package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"wasmgate/runtime/exchange"
	"wasmgate/runtime/fault"
	"wasmgate/runtime/filter"
	"wasmgate/runtime/http1"
	"wasmgate/runtime/kv"
	"wasmgate/runtime/netloop"
	"wasmgate/runtime/plugintest"
	"wasmgate/runtime/wasm"
	"wasmgate/runtime/wasm/native"
	"wasmgate/sdk/abi"
)

// host runs plugins as the gateway does, on one event loop.
type host struct {
	module []byte
	output io.Writer
	runs   *plugintest.Host
	first  *wasm.Compiled // keeps the compiled module between cases

	plugin *native.Plugin // of the last case
	config string
	loaded bool
	lines  []string // what was logged in the case under way; on the loop
	calls  []string // and what was called
	ticks  chan struct{}
	stores map[string]*kv.Store
}

func newHost(module []byte, output io.Writer) (*host, error) {
	h := &host{module: module, output: output, ticks: make(chan struct{}, 1), stores: map[string]*kv.Store{}}
	for _, name := range []string{"sessions", "counts"} {
		h.stores[name] = kv.New(kv.Options{MaxValue: 1000})
	}
	var err error
	if h.runs, err = plugintest.New(plugintest.Options{}); err != nil {
		return nil, err
	}
	if h.first, err = h.compile(); err != nil {
		h.runs.Close()
		return nil, err
	}
	return h, nil
}

// plentyOfFuel is for a megabyte that a plugin moves byte by byte: the kit asks what answers are, not what they cost.
const plentyOfFuel = 1_000_000_000

func (h *host) compile() (*wasm.Compiled, error) {
	return h.runs.Compile("conformance", h.module, native.ABI, wasm.Limits{Fuel: plentyOfFuel, StartFuel: plentyOfFuel})
}

func (h *host) close() {
	h.unload()
	h.first.Close()
	h.runs.Close()
}

func (h *host) unload() {
	if h.plugin != nil {
		h.plugin.Close()
	}
	h.plugin, h.loaded = nil, false
}

// load configures the plugin, if it is not the last case's.
func (h *host) load(config string) error {
	if h.loaded && h.config == config {
		return nil
	}
	h.unload()
	c, err := h.compile()
	if err != nil {
		return err
	}
	upstreams := map[string]int{"users": users, "orders": orders}
	for i := range manyUpstreams {
		upstreams[upstreamName(i)] = 100 + i
	}
	h.plugin, err = native.New(c, native.Options{
		Config: []byte(config), LogLevel: abi.LogDebug, LogRate: 1e6, Log: h.line,
		Backoff: &wasm.Backoff{}, Breaker: &wasm.Breaker{}, // a case that shall fail must not change the next
		RequestBody: longestBody, ResponseBody: longestBody, TickLoop: h.runs.Loop(),
		Grants: native.Grants{
			Upstreams: upstreams, DynamicUpstream: dynamic, DynamicAllow: func(a []byte) bool { return string(a) == allowedAddress },
			Calls: map[string]int{"auth": auth, "other": other}, Caller: (*services)(h), Stores: h.stores,
		},
	})
	if err == nil {
		h.config, h.loaded = config, true
	}
	return err
}

// The upstreams that the plugin is granted.
const (
	users          = 4
	orders         = 7
	dynamic        = 9
	auth           = 21
	other          = 22
	allowedAddress = "10.0.0.7:8080"
	manyUpstreams  = 700
)

func upstreamName(i int) string { return fmt.Sprintf("%03d-%s", i, strings.Repeat("u", 100)) }

// line takes a line of the log. Standard output and error are not compared: what a runtime says there is its own.
func (h *host) line(l native.Line) {
	switch {
	case !l.Guest:
		return // outcome tells it
	case l.Phase == "start":
	case strings.HasPrefix(l.Text, logMark):
		h.lines = append(h.lines, fmt.Sprintf("log %s %d %s", l.Phase, l.Level, shorten(l.Text)))
		return
	}
	fmt.Fprintf(h.output, "%s: %s\n", l.Phase, l.Text)
}

// logMark begins the lines that cases have the plugin write.
const logMark = "kit:"

// run runs a case and says what differs.
func (h *host) run(c *testCase) string {
	h.on(func(*netloop.Task) { h.clear() })
	if err := h.load(c.config); err != nil {
		why := fault.From(err).Detail
		if refusal := (*wasm.Refusal)(nil); errors.As(err, &refusal) {
			why = refusal.Text
		}
		return difference(c.want, "refused: "+why)
	}
	if c.ticks {
		return difference(c.want, h.tick())
	}
	var got string
	h.on(func(t *netloop.Task) { got = h.exchange(t, c) })
	return difference(c.want, got)
}

// on runs fn as a task of the loop and waits for it.
func (h *host) on(fn func(*netloop.Task)) { h.runs.On(fn) }

// exchange sends a case's request, and its answer if it has one, through the plugin.
func (h *host) exchange(t *netloop.Task, c *testCase) string {
	x := &exchange.Exchange{Task: t}
	x.Reset()
	if err := c.parse(&x.Request); err != nil {
		return "the case's own request: " + err.Error()
	}
	x.Client = exchange.Client{Addr: netip.MustParseAddr("192.0.2.7"), Scheme: "http"}
	if c.tls != nil {
		x.Client.Scheme, x.Client.TLS = "https", c.tls
	}
	x.Route, x.Trace.Sampled = "everything", c.sampled
	was := snapshot(x)
	way := content(t, c.body)
	x.RequestBody = way
	v, err := h.plugin.Request(x, c.role, 0)
	if c.answer == "" {
		return h.outcome(x, v, err, was) + sent(t, way, v, err) + h.left()
	}
	if err != nil || v != filter.Continue {
		return "in the request phase: " + h.outcome(x, v, err, was)
	}
	if err := c.parseAnswer(x); err != nil {
		return "the case's own answer: " + err.Error()
	}
	was = snapshot(x)
	way = content(t, c.answerBody)
	x.ResponseBody = way
	v, err = h.plugin.Response(x, 0)
	return h.outcome(x, v, err, was) + sent(t, way, v, err) + h.left()
}

// limits let a case's head be as long as it wants.
var limits = func() *http1.Limits {
	l := http1.DefaultLimits
	l.Head, l.Target, l.Fields = 1<<20, 1<<20, 1000
	return &l
}()

func (c *testCase) parse(r *http1.Request) error {
	line := c.line
	if line == "" {
		line = "GET /app?q=1"
	}
	host := c.host
	if host == "" {
		host = "example.com"
	}
	b := []byte(line + " HTTP/1.1\r\nHost: " + host + "\r\n")
	for _, f := range c.fields {
		b = append(b, f+"\r\n"...)
	}
	for _, cmd := range c.commands {
		b = append(b, "X-Cmd: "+cmd+"\r\n"...)
	}
	_, err := r.Parse(append(b, "\r\n"...), limits)
	return err
}

func (c *testCase) parseAnswer(x *exchange.Exchange) error {
	b := []byte("HTTP/1.1 " + c.answer + "\r\n")
	for _, f := range c.answerFields {
		b = append(b, f+"\r\n"...)
	}
	for _, cmd := range c.answerCommands {
		b = append(b, "X-Cmd: "+cmd+"\r\n"...)
	}
	_, err := x.Response.Parse(append(b, "\r\n"...), limits, x.Request.Method)
	x.Local.Set = c.local
	return err
}

// state is a message before the plugin changed it.
type state struct{ request, fields, answerFields string }

func snapshot(x *exchange.Exchange) state {
	r := &x.Request
	s := state{request: fmt.Sprintf("%s %s %s", r.Method, r.Authority, shorten(string(r.Path)))}
	if r.HasQuery() {
		s.request += "?" + shorten(string(r.Query()))
	}
	s.fields, s.answerFields = fieldLines("field", &r.Head), fieldLines("answer", &x.Response.Head)
	return s
}

// fieldLines lists a head's fields, but for Host and commands.
func fieldLines(word string, h *http1.Head) string {
	var s strings.Builder
	for i := range h.Len() {
		if name := h.Name(i); h.ID(i) != http1.FieldHost && !http1.EqualFold(name, "x-cmd") {
			fmt.Fprintf(&s, "%s %s: %s\n", word, bytes.ToLower(name), shorten(string(h.Value(i))))
		}
	}
	return s.String()
}

var verdictNames = [...]string{filter.Continue: "continue", filter.NoMatch: "no match", filter.Respond: "respond", filter.Rematch: "rematch"}

// outcome writes what became of an exchange: the verdict, and everything that is not as it was.
func (h *host) outcome(x *exchange.Exchange, v filter.Verdict, err error, was state) string {
	var s strings.Builder
	switch f := fault.From(err); {
	case err == nil:
		fmt.Fprintln(&s, verdictNames[v])
	case f.Source != fault.Plugin:
		fmt.Fprintln(&s, "refused", f.Kind, f.Status)
	case strings.HasPrefix(f.Detail, "the plugin reports: "):
		fmt.Fprintln(&s, "error", shorten(f.Detail[len("the plugin reports: "):]))
	default:
		fmt.Fprintln(&s, "failed", f.Kind)
		fmt.Fprintf(h.output, "%v\n", f)
	}
	now := snapshot(x)
	if now.request != was.request {
		fmt.Fprintln(&s, "request", now.request)
	}
	if now.fields != was.fields {
		s.WriteString(now.fields)
	}
	if id := x.Target.Upstream; id != exchange.NoUpstream {
		fmt.Fprintln(&s, "upstream", id)
	}
	if len(x.Target.Dynamic) > 0 {
		fmt.Fprintf(&s, "address %s\n", x.Target.Dynamic)
	}
	if d := x.Target.Timeout; d != 0 {
		fmt.Fprintln(&s, "timeout", d)
	}
	if k := x.Target.HashKey; k != 0 {
		fmt.Fprintln(&s, "hash key", k)
	}
	if w := *x.Word(0); w != 0 {
		fmt.Fprintln(&s, "word", w)
	}
	if v == filter.Respond {
		fmt.Fprintln(&s, "status", x.Response.Status)
		s.WriteString(bodyText(string(x.Local.Body)))
	}
	if now.answerFields != was.answerFields {
		s.WriteString(now.answerFields)
	}
	for _, tag := range x.Tags {
		fmt.Fprintf(&s, "attribute %s: %s\n", tag.Key, tag.Value)
	}
	for _, l := range h.lines {
		fmt.Fprintln(&s, l)
	}
	return s.String()
}

// bodyText writes a body. What an echo says of the clock and of chance is replaced by whether it can be.
func bodyText(body string) string {
	if !strings.HasPrefix(body, "role=") {
		if body == "" {
			return ""
		}
		return "body " + shorten(body) + "\n"
	}
	var s strings.Builder
	for l := range strings.Lines(body) {
		name, value, _ := strings.Cut(strings.TrimSuffix(l, "\n"), "=")
		n, err := strconv.ParseInt(value, 10, 64)
		switch {
		case name == "time" && err == nil && time.Since(time.UnixMilli(n)).Abs() < time.Minute:
			value = "now"
		case name == "seed" && value != "0":
			value = "random"
		}
		fmt.Fprintf(&s, "| %s=%s\n", name, shorten(value))
	}
	return s.String()
}

// shorten writes runs of more than 50 equal bytes as one, with their number.
func shorten(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); {
		n := 1
		for i+n < len(s) && s[i+n] == s[i] {
			n++
		}
		if n > 50 {
			fmt.Fprintf(&b, "<%d × %c>", n, s[i])
		} else {
			b.WriteString(s[i : i+n])
		}
		i += n
	}
	return b.String()
}

// difference is empty if both texts have the same lines.
func difference(want, got string) string {
	want, got = trimLines(want), trimLines(got)
	if want == got {
		return ""
	}
	indent := func(s string) string { return "    " + strings.ReplaceAll(s, "\n", "\n    ") }
	return "  wanted:\n" + indent(want) + "\n  got:\n" + indent(got)
}

// trimLines takes the white space off the ends of lines, where an empty value leaves some.
func trimLines(s string) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	for i := range lines {
		lines[i] = strings.TrimRight(lines[i], " ")
	}
	return strings.Join(lines, "\n")
}
