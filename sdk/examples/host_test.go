package examples

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"wasmgate/runtime/exchange"
	"wasmgate/runtime/fault"
	"wasmgate/runtime/filter"
	"wasmgate/runtime/http1"
	"wasmgate/runtime/kv"
	"wasmgate/runtime/netloop"
	"wasmgate/runtime/wasm"
	"wasmgate/runtime/wasm/native"
	"wasmgate/sdk/abi"
)

var engine = sync.OnceValues(func() (*wasm.Engine, error) { return wasm.New(wasm.Options{NoCache: true}) })

// host runs a plugin as the gateway does, on one event loop.
type host struct {
	t      testing.TB
	loop   *netloop.Loop
	plugin *native.Plugin
	lines  []string // that the plugin wrote, and calls that it made, in the exchange under way; on the loop
	store  *kv.Store
}

// compiled keeps compiled modules until their test has ended, so that none is compiled for each configuration anew.
type compileFunc func(name string) (*wasm.Compiled, error)

func compiled(t testing.TB, module []byte) compileFunc {
	t.Helper()
	e, err := engine()
	if err != nil {
		t.Fatal(err)
	}
	compile := func(name string) (*wasm.Compiled, error) {
		return e.Compile(context.Background(), name, module, native.ABI, wasm.Limits{})
	}
	kept, err := compile("kept")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(kept.Close)
	return compile
}

// upstreams are those of the tests, and their ids.
var upstreams = map[string]int{"users": 1, "acme-upstream": 2, "globex-upstream": 3, "gold": 4, "standard": 5}

// start loads a plugin with a configuration. The error is what the gateway says about it.
func start(t testing.TB, compile compileFunc, config string) (*host, error) {
	t.Helper()
	c, err := compile("example")
	if err != nil {
		t.Fatal(err)
	}
	h := &host{t: t, store: kv.New(kv.Options{MaxValue: 1000})}
	h.plugin, err = native.New(c, h.options(config))
	if err != nil {
		return nil, err
	}
	g, err := netloop.New(netloop.Options{Loops: 1})
	if err != nil {
		t.Fatal(err)
	}
	g.Start()
	h.loop = g.Loop(0)
	t.Cleanup(func() {
		h.plugin.Close()
		g.Close()
	})
	return h, nil
}

// options are what the host grants a plugin with a configuration.
func (h *host) options(config string) native.Options {
	return native.Options{
		Name: "example", Config: []byte(config), LogLevel: abi.LogDebug, LogRate: 1e6, Log: h.line,
		RequestBody: 1 << 20, ResponseBody: 1 << 20,
		Backoff: &wasm.Backoff{}, Breaker: &wasm.Breaker{},
		Grants: native.Grants{
			Upstreams: upstreams, DynamicUpstream: exchange.NoUpstream,
			Calls: map[string]int{"auth": authService}, Caller: h, Stores: map[string]*kv.Store{"cache": h.store, "sessions": h.store},
		},
	}
}

// authService is the id of the upstream that plugins may call.
const authService = 9

// Call answers plugins' own requests as an authorisation service would: filter.Caller.
func (h *host) Call(t *netloop.Task, c *filter.Call) *fault.Error {
	t.Sleep(time.Millisecond)
	c.AnswerFields.Reset()
	c.AnswerTrailers.Reset()
	c.Answer = nil
	said := fmt.Sprintf("called %d %s %s for %s", c.Upstream, c.Method, c.Path, c.Timeout)
	for i := range c.Fields.Len() {
		said += fmt.Sprintf(", %s: %s", bytes.ToLower(c.Fields.Name(i)), c.Fields.Value(i))
	}
	h.lines = append(h.lines, said)
	credential, _ := c.Fields.Get("authorization")
	switch scheme, user, _ := strings.Cut(string(credential), " "); scheme {
	case "Bearer":
		c.Status = 200
		c.AnswerFields.Add("X-User", user)
		c.AnswerFields.Add("X-Answer", user)
	case "Nobody":
		c.Status = 200
	case "Bad":
		c.Status = 403
	case "Unknown":
		c.Status = 401
	case "Broken":
		c.Status = 500
	case "Late":
		return fault.New(fault.RequestTimeout, fault.Upstream, 504, "late")
	default:
		return fault.New(fault.Connect, fault.Upstream, 502, "refused")
	}
	return nil
}

func (h *host) line(l native.Line) {
	if l.Guest && l.Phase != "start" && l.Phase != "configure" {
		h.lines = append(h.lines, fmt.Sprintf("log %d %s", l.Level, l.Text))
	}
}

// on runs fn as a task of the loop and waits for it.
func (h *host) on(fn func(*netloop.Task)) {
	done := make(chan struct{})
	h.loop.Post(func() {
		h.loop.Go(func(t *netloop.Task) {
			defer close(done)
			fn(t)
		})
	})
	<-done
}

// message is a request that a plugin is asked about, and its answer if there is one.
type message struct {
	line    string // default "GET /"
	host    string // default example.com
	fields  []string
	answer  string // such as "200 OK"; "": there is none
	headers []string
	sampled bool
}

func (m *message) request() []byte {
	line, host := m.line, m.host
	if line == "" {
		line = "GET /"
	}
	if host == "" {
		host = "example.com"
	}
	return lines(line+" HTTP/1.1", append([]string{"Host: " + host}, m.fields...))
}

func lines(first string, fields []string) []byte {
	return []byte(first + "\r\n" + strings.Join(append(fields, "", ""), "\r\n"))
}

// ask sends a message through the plugin and writes down everything that came of it.
func (h *host) ask(m *message) (got string) {
	h.on(func(task *netloop.Task) {
		x := &exchange.Exchange{Task: task}
		got = h.exchange(x, m)
		if e, ok := any(h.plugin).(filter.Ender); ok {
			e.End(x, 0)
		}
	})
	return got
}

func (h *host) exchange(x *exchange.Exchange, m *message) string {
	h.lines = nil
	x.Reset()
	if _, err := x.Request.Parse(m.request(), nil); err != nil {
		return "the request is none: " + err.Error()
	}
	x.Client = exchange.Client{Addr: netip.MustParseAddr("192.0.2.7"), Scheme: "http"}
	x.Route, x.Trace.Sampled = "test", m.sampled
	v, err := h.plugin.Request(x, filter.Route, 0)
	s := h.outcome(x, v, err)
	if m.answer == "" || err != nil || v != filter.Continue || !h.plugin.WantsResponse() {
		return s
	}
	h.lines, x.Tags = nil, nil
	if _, err := x.Response.Parse(lines("HTTP/1.1 "+m.answer, m.headers), nil, x.Request.Method); err != nil {
		return "the answer is none: " + err.Error()
	}
	v, err = h.plugin.Response(x, 0)
	return s + h.outcome(x, v, err)
}

var verdicts = [...]string{filter.Continue: "continue", filter.NoMatch: "no match", filter.Respond: "respond", filter.Rematch: "rematch"}

// reports begins what the host says of a plugin that could not decide.
const reports = "the plugin reports: "

// outcome is a line for the verdict, and one for each thing that is said of the message then.
func (h *host) outcome(x *exchange.Exchange, v filter.Verdict, err error) string {
	var s strings.Builder
	head, word := &x.Request.Head, "> "
	if f := fault.From(err); err != nil && strings.HasPrefix(f.Detail, reports) {
		fmt.Fprintf(&s, "error %q\n", f.Detail[len(reports):])
	} else if err != nil {
		fmt.Fprintln(&s, "failed:", f.Kind)
	} else {
		fmt.Fprint(&s, verdicts[v])
		if id := x.Target.Upstream; id != exchange.NoUpstream {
			fmt.Fprint(&s, " with upstream ", id)
		}
		fmt.Fprintln(&s)
	}
	if v == filter.Respond || x.Response.Status != 0 {
		head, word = &x.Response.Head, "< "
		fmt.Fprintln(&s, word+fmt.Sprint(x.Response.Status))
	} else {
		fmt.Fprintf(&s, "%s%s %s %s\n", word, x.Request.Method, x.Request.Authority, x.Request.Path)
	}
	for i := range head.Len() {
		if id := head.ID(i); id != http1.FieldHost && !http1.IsFraming(id) {
			fmt.Fprintf(&s, "%s%s: %s\n", word, bytes.ToLower(head.Name(i)), head.Value(i))
		}
	}
	if v == filter.Respond && len(x.Local.Body) > 0 {
		fmt.Fprintf(&s, "%s%q\n", word, x.Local.Body)
	}
	for _, tag := range x.Tags {
		fmt.Fprintf(&s, "attribute %s: %s\n", tag.Key, tag.Value)
	}
	for _, l := range h.lines {
		fmt.Fprintln(&s, l)
	}
	return s.String()
}
