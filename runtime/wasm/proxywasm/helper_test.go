package proxywasm

import (
	stdcontext "context"
	"fmt"
	"io"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"wasmgate/runtime/body"
	"wasmgate/runtime/exchange"
	"wasmgate/runtime/fault"
	"wasmgate/runtime/filter"
	"wasmgate/runtime/http1"
	"wasmgate/runtime/internal/testkit"
	"wasmgate/runtime/netloop"
	"wasmgate/runtime/wasm"
)

// bench is loops and what plugins say.
type bench struct {
	t     testing.TB
	group *netloop.Group
	mu    sync.Mutex
	lines []wasm.Line
}

func newBench(t testing.TB) *bench { return newBenchOf(t, 1) }

func newBenchOf(t testing.TB, loops int) *bench {
	t.Helper()
	g, err := netloop.New(netloop.Options{Loops: loops, OnPanic: func(v any, stack []byte) { t.Errorf("panic: %v\n%s", v, stack) }})
	if err != nil {
		t.Fatal(err)
	}
	g.Start()
	t.Cleanup(g.Close)
	return &bench{t: t, group: g}
}

var engine = sync.OnceValues(func() (*wasm.Engine, error) { return wasm.New(wasm.Options{NoCache: true}) })

// compile compiles a module.
func compile(t testing.TB, module []byte, limits wasm.Limits) (*wasm.Compiled, error) {
	t.Helper()
	e, err := engine()
	if err != nil {
		t.Fatal(err)
	}
	return e.Compile(stdcontext.Background(), "p", module, ABI, limits)
}

var probe = sync.OnceValues(func() ([]byte, error) { return os.ReadFile("testdata/probe.wasm") })

// load starts a plugin; what it logs is kept.
func (b *bench) load(module []byte, o Options, limits wasm.Limits) (*Plugin, error) {
	b.t.Helper()
	c, err := compile(b.t, module, limits)
	if err != nil {
		return nil, err
	}
	o.Group = b.group
	if o.LogRate == 0 {
		o.LogRate = 1e6
	}
	o.Log = func(l wasm.Line) {
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

// probe starts the guest that does what lines say.
func (b *bench) probe(o Options, script ...string) *Plugin {
	b.t.Helper()
	module, err := probe()
	if err != nil {
		b.t.Fatal(err)
	}
	o.Config = []byte(strings.Join(script, "\n"))
	return b.mustLoad(module, o, wasm.Limits{})
}

// says is what the plugin has logged, one line each, and forgets it.
func (b *bench) says() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	var all []string
	for _, l := range b.lines {
		if l.Guest {
			all = append(all, l.Text)
		} else {
			all = append(all, "! "+l.Text)
		}
	}
	b.lines = nil
	return all
}

// wantSays waits for these lines, in this order, and no others.
func (b *bench) wantSays(want ...string) {
	b.t.Helper()
	var got []string
	deadline := time.Now().Add(40 * time.Second)
	for {
		got = append(got, b.says()...)
		if slices.Equal(got, want) || time.Now().After(deadline) {
			break
		}
		if len(got) >= len(want) {
			break
		}
		time.Sleep(time.Millisecond)
	}
	if !slices.Equal(got, want) {
		b.t.Errorf("the plugin says\n\t%s\nwant\n\t%s", strings.Join(got, "\n\t"), strings.Join(want, "\n\t"))
	}
}

// awaitSays waits until a line has come that contains this.
func (b *bench) awaitSays(part string) {
	b.t.Helper()
	b.awaitCount(part, 1)
}

// awaitCount waits for so many lines with a part.
func (b *bench) awaitCount(part string, n int) {
	b.t.Helper()
	testkit.Eventually(b.t, fmt.Sprintf("the plugin says %s %d times", part, n), func() bool {
		b.mu.Lock()
		defer b.mu.Unlock()
		found := 0
		for _, l := range b.lines {
			if strings.Contains(l.Text, part) {
				found++
			}
		}
		return found >= n
	})
}

// on runs fn as a task of loop i and waits for it.
func (b *bench) onLoop(i int, fn func(*netloop.Task)) {
	done := make(chan struct{})
	l := b.group.Loop(i)
	l.Post(func() {
		l.Go(func(t *netloop.Task) {
			defer close(done)
			fn(t)
		})
	})
	<-done
}

func (b *bench) on(fn func(*netloop.Task)) { b.onLoop(0, fn) }

// pieces is a body.Source of so many pieces.
type pieces struct {
	list     []string
	trailers http1.Head
	read     int
	gate     func(t *netloop.Task, i int) // called before each piece
}

func (p *pieces) Done() bool             { return p.read == len(p.list) }
func (p *pieces) Trailers() *http1.Head  { return &p.trailers }
func (p *pieces) Ready() ([]byte, error) { return nil, nil }

func (p *pieces) Next(t *netloop.Task) ([]byte, error) {
	if p.Done() {
		return nil, io.EOF
	}
	if p.gate != nil {
		p.gate(t, p.read)
	}
	p.read++
	return []byte(p.list[p.read-1]), nil
}

// message is a message with a body, as a test writes it: a head whose lines end with "\n", and pieces of a body.
type message struct {
	head     string
	body     []string
	trailers []string // name, value, ...
	chunked  bool
	gate     func(t *netloop.Task, i int)
}

func (m message) source() *pieces {
	p := &pieces{list: m.body, gate: m.gate}
	for i := 0; i+1 < len(m.trailers); i += 2 {
		p.trailers.Add(m.trailers[i], m.trailers[i+1])
	}
	return p
}

func (m message) wire() []byte {
	head := strings.TrimSuffix(m.head, "\n")
	switch n := len(strings.Join(m.body, "")); {
	case m.chunked || len(m.trailers) > 0:
		head += "\nTransfer-Encoding: chunked"
	case len(m.body) > 0:
		head += fmt.Sprintf("\nContent-Length: %d", n)
	}
	return []byte(strings.ReplaceAll(head, "\n", "\r\n") + "\r\n\r\n")
}

const simpleHead = "GET /app?q=1 HTTP/1.1\nHost: example.com\nX-Tenant: acme"

// ride is an exchange on its way, and what comes of it.
type ride struct {
	b       *bench
	x       *exchange.Exchange
	request body.Body
	answer  body.Body
	verdict filter.Verdict
	err     *fault.Error
	sent    string // body of the request as the upstream gets it
	framing http1.Framing
	got     string // body of the answer as the client gets it
	got1    http1.Framing
	sendErr error
}

// begin makes an exchange of a request.
func (b *bench) begin(t *netloop.Task, m message) *ride {
	r := &ride{b: b, x: &exchange.Exchange{}}
	x := r.x
	x.Reset()
	x.Task = t
	wire := m.wire()
	if n, err := x.Request.Parse(wire, nil); err != nil || n != len(wire) {
		b.t.Errorf("%q: %d of %d, %v", wire, n, len(wire), err)
	}
	l := t.Loop()
	x.Client = exchange.Client{
		Conn: 7, Addr: netip.MustParseAddr("192.0.2.7"), Peer: netip.MustParseAddrPort("192.0.2.7:4711"), Local: netip.MustParseAddrPort("192.0.2.1:80"), Scheme: "http",
	}
	x.Route, x.Started, x.WallStarted = "r", l.Now(), l.WallNow()
	r.request.Init(t, m.source(), x.Request.Framing, false)
	x.RequestBody = &r.request
	return r
}

// ask shows the plugins the request, in order.
func (r *ride) ask(role filter.Role, ps ...*Plugin) {
	for i, p := range ps {
		v, err := p.Request(r.x, role, i)
		r.verdict = v
		if err != nil {
			r.err = fault.From(err)
		}
		if v != filter.Continue || err != nil {
			return
		}
	}
}

// forward reads the request's body, as it is sent.
func (r *ride) forward(t *netloop.Task) {
	r.framing = r.request.Framing()
	var all []byte
	for {
		data, err := r.request.Next(t)
		if err != nil {
			if err != io.EOF {
				r.sendErr = err
			}
			break
		}
		all = append(all, data...)
	}
	r.sent = string(all)
}

// reply has the upstream answer, and shows that to the plugins.
func (r *ride) reply(t *netloop.Task, m message, ps ...*Plugin) {
	x := r.x
	wire := m.wire()
	if n, err := x.Response.Parse(wire, nil, x.Request.Method); err != nil || n != len(wire) {
		r.b.t.Errorf("%q: %d of %d, %v", wire, n, len(wire), err)
	}
	r.answer.Init(t, m.source(), x.Response.Framing, x.Response.Framing.Kind == http1.NoBody)
	x.ResponseBody = &r.answer
	for i := len(ps) - 1; i >= 0; i-- {
		v, err := ps[i].Response(x, i)
		r.verdict = v
		if err != nil {
			r.err = fault.From(err)
		}
		if v != filter.Continue || err != nil {
			return
		}
	}
	r.got1 = r.answer.Framing()
	x.StatusSent = x.Response.Status
	var all []byte
	for {
		data, err := r.answer.Next(t)
		if err != nil {
			if err != io.EOF {
				r.sendErr = err
			}
			break
		}
		all = append(all, data...)
	}
	r.got = string(all)
}

func (r *ride) end(ps ...*Plugin) {
	r.x.Ended = r.x.Task.Loop().Now()
	for i, p := range ps {
		p.End(r.x, i)
	}
}

var okAnswer = message{head: "HTTP/1.1 200 OK\nServer: s", body: []string{"hello"}}

// exchange sends a request through the plugins, and the answer back.
func (b *bench) exchange(request, reply message, ps ...*Plugin) *ride {
	b.t.Helper()
	var r *ride
	b.on(func(t *netloop.Task) {
		r = b.begin(t, request)
		defer r.end(ps...)
		r.ask(filter.Route, ps...)
		if r.verdict == filter.Respond || r.err != nil {
			return
		}
		r.forward(t)
		if r.sendErr != nil {
			return
		}
		r.reply(t, reply, ps...)
	})
	return r
}

// fields writes a head's fields, one a line.
func fields(h *http1.Head) string {
	var s strings.Builder
	for i := range h.Len() {
		fmt.Fprintf(&s, "%s: %s\n", h.Name(i), h.Value(i))
	}
	return s.String()
}

// caller is a filter.Caller that answers as it is told.
type caller struct {
	mu     sync.Mutex
	answer func(t *netloop.Task, c *filter.Call) *fault.Error
	made   []string
	open   int
	most   int
}

func (c *caller) Call(t *netloop.Task, call *filter.Call) *fault.Error {
	c.mu.Lock()
	c.made = append(c.made, fmt.Sprintf("%s %d %s %s %s %q %s%s %v", call.Filter, call.Upstream, call.Method, call.Authority, call.Path, call.Body, fields(&call.Fields), fields(&call.Trailers), call.Timeout))
	c.open++
	c.most = max(c.most, c.open)
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		c.open--
		c.mu.Unlock()
	}()
	return c.answer(t, call)
}

func (c *caller) calls() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.made)
}

// allow answers 200 with a field and a body.
func allow(_ *netloop.Task, c *filter.Call) *fault.Error {
	c.Status = 200
	c.AnswerFields.Add("x-user", "anna")
	c.Answer = []byte("allowed")
	return nil
}
