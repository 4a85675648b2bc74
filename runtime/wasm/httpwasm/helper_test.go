package httpwasm

import (
	"bufio"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"wasmgate/runtime/exchange"
	"wasmgate/runtime/filter"
	"wasmgate/runtime/http1"
	"wasmgate/runtime/netloop"
	"wasmgate/runtime/proxy"
	"wasmgate/runtime/route"
	"wasmgate/runtime/server"
	"wasmgate/runtime/upstream"
	"wasmgate/runtime/upstream/pool"
	"wasmgate/runtime/upstream/resolve"
	"wasmgate/runtime/wasm"
)

var engine = sync.OnceValues(func() (*wasm.Engine, error) { return wasm.New(wasm.Options{NoCache: true}) })

// compile compiles a module for the ABI.
func compile(t testing.TB, module []byte, limits wasm.Limits) (*wasm.Compiled, error) {
	t.Helper()
	e, err := engine()
	if err != nil {
		t.Fatal(err)
	}
	if (limits == wasm.Limits{}) { // most tests use the same few
		if _, there := compiled.LoadOrStore(sha256.Sum256(module), true); !there {
			if _, err := e.Compile(context.Background(), "kept", module, ABI, limits); err != nil {
				return nil, err
			}
		}
	}
	return e.Compile(context.Background(), "p", module, ABI, limits)
}

// compiled are the modules of which a handle is kept, so that they are not compiled again.
var compiled sync.Map

// journal is what plugins said.
type journal struct {
	mu    sync.Mutex
	lines []wasm.Line
}

func (j *journal) add(l wasm.Line) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.lines = append(j.lines, l)
}

func (j *journal) all() []wasm.Line {
	j.mu.Lock()
	defer j.mu.Unlock()
	return append([]wasm.Line(nil), j.lines...)
}

// texts are the lines, "phase level text" each.
func (j *journal) texts() (list []string) {
	for _, l := range j.all() {
		list = append(list, fmt.Sprintf("%s %d %s", l.Phase, l.Level, l.Text))
	}
	return list
}

// watcher remembers the exchanges that ended.
type watcher struct {
	mu   sync.Mutex
	list []ended
}

type ended struct {
	status int
	err    string
	calls  []exchange.PluginCall
}

func (w *watcher) Begin(x *exchange.Exchange)                           { x.Trace.Sampled = true }
func (w *watcher) AttemptStarted(*exchange.Exchange, *exchange.Attempt) {}
func (w *watcher) EndCall(*exchange.Exchange)                           {}
func (w *watcher) End(x *exchange.Exchange) {
	e := ended{status: x.StatusSent, calls: append([]exchange.PluginCall(nil), x.Calls...)}
	if x.Err != nil {
		e.err = x.Err.Error()
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.list = append(w.list, e)
}

func (w *watcher) all() []ended {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]ended(nil), w.list...)
}

// gate is a server with plugins in front of a backend.
type gate struct {
	testing.TB
	addr    netip.AddrPort
	url     string
	watcher *watcher
}

// setup says what a gate is like.
type setup struct {
	backend  net.Addr // nil: nobody listens
	loops    int
	listener []filter.Filter
	route    []filter.Filter
	routes   func(one *server.Route) *route.Table[*server.Route]
}

func newGate(t testing.TB, s setup) *gate {
	t.Helper()
	s.loops = max(s.loops, 1)
	g, err := netloop.New(netloop.Options{Loops: s.loops})
	if err != nil {
		t.Fatal(err)
	}
	limits := http1.DefaultLimits
	one := &server.Route{Name: "all", Chain: s.route, Upgrades: server.Upgrades{Any: true}}
	table := tableOf
	if s.routes != nil {
		table = s.routes
	}
	snap := &server.Snapshot{
		Name: "test", Limits: &limits, HeadTimeout: 5 * time.Second, BodyIdle: 5 * time.Second, Filters: s.listener,
		KeepAlive: server.KeepAlive{Enabled: true, IdleTimeout: 10 * time.Second}, Routes: table(one),
		Upstreams: []server.Upstream{{Plan: server.Plan{Options: proxy.Options{ResponseHeader: 20 * time.Second, IdleRead: 5 * time.Second, Attempts: 1, Limits: &limits}}}},
	}
	target := upstream.Target{Host: "127.0.0.1", Port: 1}
	if s.backend != nil {
		target.Port = uint16(s.backend.(*net.TCPAddr).Port)
	}
	names := resolve.New(resolve.Options{})
	snap.Upstreams[0].Upstream = upstream.New(g, upstream.Config{
		Name: "backend", Connect: time.Second, Targets: []upstream.Target{target},
		Pool: pool.Options{MaxConnections: 2000, IdleTimeout: 10 * time.Second}, Queue: upstream.Queue{Acquire: 5 * time.Second, Max: 2000}, Budget: upstream.Budget{Least: 10},
	}, names, nil)
	w := &watcher{}
	observers := make([]server.Observer, s.loops)
	for i := range observers {
		observers[i] = w
	}
	srv := server.New(g, snap.Prepare(s.loops), observers)
	ln, err := g.Listen("127.0.0.1:0", netloop.ListenOptions{Accept: srv.Accept})
	if err != nil {
		t.Fatal(err)
	}
	g.Start()
	t.Cleanup(func() {
		for _, f := range append(append([]filter.Filter(nil), s.listener...), s.route...) {
			if p, ok := f.(*Plugin); ok {
				p.Close()
			}
		}
		g.Close()
		names.Close()
		if n := g.Panics(); n != 0 {
			t.Errorf("%d handlers panicked", n)
		}
	})
	return &gate{TB: t, addr: ln.Addr(), url: "http://" + ln.Addr().String(), watcher: w}
}

func tableOf(one *server.Route) *route.Table[*server.Route] {
	table, err := route.New(make([]route.Rule, 1), []*server.Route{one})
	if err != nil {
		panic(err)
	}
	return table
}

// load starts a plugin for so many loops; what it says is in the journal. A gate closes it.
func load(t testing.TB, module []byte, o Options, limits wasm.Limits) (*Plugin, *journal) {
	t.Helper()
	j := &journal{}
	p, err := tryLoad(t, module, o, limits, j)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p, j
}

func tryLoad(t testing.TB, module []byte, o Options, limits wasm.Limits, j *journal) (*Plugin, error) {
	t.Helper()
	c, err := compile(t, module, limits)
	if err != nil {
		return nil, err
	}
	o.Log = j.add
	return New(c, o)
}

// reply is an answer as a client reads it.
type reply struct {
	status   int
	header   http.Header
	body     string
	trailers http.Header
	length   int64
	err      error
}

// send sends a request, "METHOD /path" with fields "name: value", and reads the answer.
func (g *gate) send(line string, body io.Reader, fields ...string) reply {
	g.Helper()
	method, path, _ := strings.Cut(line, " ")
	r, err := http.NewRequest(method, g.url+path, body)
	if err != nil {
		g.Fatal(err)
	}
	for _, f := range fields {
		name, value, _ := strings.Cut(f, ": ")
		r.Header.Add(name, value)
	}
	return g.do(r)
}

var client = &http.Client{
	Transport:     &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: 100},
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	Timeout:       30 * time.Second,
}

func (g *gate) do(r *http.Request) reply {
	g.Helper()
	resp, err := client.Do(r)
	if err != nil {
		return reply{err: err}
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return reply{resp.StatusCode, resp.Header, string(b), resp.Trailer, resp.ContentLength, err}
}

// raw sends bytes and reads until the connection ends.
func (g *gate) raw(text string) string {
	g.Helper()
	c, err := net.Dial("tcp", g.addr.String())
	if err != nil {
		g.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := io.WriteString(c, text); err != nil {
		g.Fatal(err)
	}
	b, _ := io.ReadAll(bufio.NewReader(c))
	return string(b)
}

// eventually waits for a fact.
func eventually(t testing.TB, what string, fact func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !fact(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain: %s", what)
		}
	}
}

// on runs fn as a task of the first loop and waits for it.
func on(g *netloop.Group, fn func(*netloop.Task)) {
	done := make(chan struct{})
	l := g.Loop(0)
	l.Post(func() {
		l.Go(func(t *netloop.Task) {
			defer close(done)
			fn(t)
		})
	})
	<-done
}

// newExchange makes an exchange of a request's head, whose lines are separated by "\n", and a body.
func newExchange(t testing.TB, task *netloop.Task, head string, b exchange.Body) *exchange.Exchange {
	t.Helper()
	x := &exchange.Exchange{Task: task}
	x.Reset()
	text := []byte(strings.ReplaceAll(head, "\n", "\r\n") + "\r\n\r\n")
	if n, err := x.Request.Parse(text, nil); err != nil || n != len(text) {
		t.Errorf("%q: %d of %d, %v", head, n, len(text), err)
	}
	x.RequestBody = b
	x.Client = exchange.Client{Peer: netip.MustParseAddrPort("192.0.2.7:1234"), Addr: netip.MustParseAddr("192.0.2.7"), Scheme: "http", Version: exchange.VersionOf(&x.Request)}
	return x
}
