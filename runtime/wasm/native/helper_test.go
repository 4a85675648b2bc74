package native

import (
	"context"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"wasmgate/runtime/exchange"
	"wasmgate/runtime/fault"
	"wasmgate/runtime/filter"
	"wasmgate/runtime/netloop"
	"wasmgate/runtime/wasm"
)

// bench is a loop and a plugin, for tests.
type bench struct {
	t     testing.TB
	group *netloop.Group
	mu    sync.Mutex
	lines []Line
}

func newBench(t testing.TB) *bench {
	t.Helper()
	g, err := netloop.New(netloop.Options{Loops: 1})
	if err != nil {
		t.Fatal(err)
	}
	g.Start()
	t.Cleanup(g.Close)
	return &bench{t: t, group: g}
}

var engine = sync.OnceValues(func() (*wasm.Engine, error) { return wasm.New(wasm.Options{NoCache: true}) })

// compile compiles a module for the native ABI.
func compile(t testing.TB, module []byte, limits wasm.Limits) (*wasm.Compiled, error) {
	t.Helper()
	e, err := engine()
	if err != nil {
		t.Fatal(err)
	}
	return e.Compile(context.Background(), "p", module, ABI, limits)
}

// load starts a plugin; what it logs is kept.
func (b *bench) load(module []byte, o Options, limits wasm.Limits) (*Plugin, error) {
	b.t.Helper()
	c, err := compile(b.t, module, limits)
	if err != nil {
		return nil, err
	}
	o.Loops = 1
	o.Log = func(l Line) {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.lines = append(b.lines, l)
	}
	p, err := New(c, o)
	if err == nil {
		b.t.Cleanup(p.Close)
	}
	return p, err
}

func (b *bench) mustLoad(module []byte, o Options, limits wasm.Limits) *Plugin {
	b.t.Helper()
	p, err := b.load(module, o, limits)
	if err != nil {
		b.t.Fatal(err)
	}
	return p
}

// on runs fn as a task of the loop and waits for it.
func (b *bench) on(fn func(*netloop.Task)) {
	done := make(chan struct{})
	l := b.group.Loop(0)
	l.Post(func() {
		l.Go(func(t *netloop.Task) {
			defer close(done)
			fn(t)
		})
	})
	<-done
}

func (b *bench) logged() []Line {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]Line(nil), b.lines...)
}

// newExchange makes an exchange of a request's head, whose lines are separated by "\n".
func newExchange(t testing.TB, task *netloop.Task, head string) *exchange.Exchange {
	t.Helper()
	x := &exchange.Exchange{Task: task}
	x.Reset()
	b := []byte(strings.ReplaceAll(head, "\n", "\r\n") + "\r\n\r\n")
	if n, err := x.Request.Parse(b, nil); err != nil || n != len(b) {
		t.Errorf("%q: %d of %d, %v", head, n, len(b), err)
	}
	x.Client = exchange.Client{Addr: netip.MustParseAddr("192.0.2.7"), Scheme: "http"}
	x.Route = "r"
	return x
}

const simpleHead = "GET /app?q=1 HTTP/1.1\nHost: example.com\nX-Tenant: acme\nCookie: a=1\nCookie: b=2"

// result is what a call came to.
type result struct {
	x       *exchange.Exchange
	verdict filter.Verdict
	err     *fault.Error
}

// request sends one request through the plugin.
func (b *bench) request(p *Plugin, head string, role filter.Role) (r result) {
	b.t.Helper()
	b.on(func(task *netloop.Task) {
		r.x = newExchange(b.t, task, head)
		var err error
		if r.verdict, err = p.Request(r.x, role, 0); err != nil {
			r.err = fault.From(err)
		}
	})
	return r
}

// fields writes a head's fields, one a line.
func fields(x *exchange.Exchange) string {
	var s strings.Builder
	for i := range x.Request.Len() {
		s.Write(x.Request.Name(i))
		s.WriteString(": ")
		s.Write(x.Request.Value(i))
		s.WriteString("\n")
	}
	return s.String()
}
