package gateway_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"wasmgate/config"
	"wasmgate/runtime/exchange"
	"wasmgate/runtime/gateway"
	"wasmgate/runtime/internal/testkit"
	"wasmgate/runtime/upstream/facts"
)

// asked is a request as a backend has read it. It is valid until its answer has been made.
type asked struct {
	method, path string
	head         []byte // with the request line
	body         []byte
	nth          int64 // on its connection, from 1
}

// get is the value of a field.
func (a *asked) get(name string) string {
	for line := range bytes.SplitSeq(a.head, []byte("\r\n")) {
		if n, v, ok := strings.Cut(string(line), ":"); ok && strings.EqualFold(n, name) {
			return strings.TrimSpace(v)
		}
	}
	return ""
}

// reply is what a backend does about a request. The zero value answers 200 with the backend's name.
type reply struct {
	status int
	head   string        // further fields, each with its end of line
	body   string        // empty: the backend's name
	after  time.Duration // before the answer
	until  chan struct{} // before the answer, if it is not nil
	reset  bool          // instead of an answer
	hang   bool          // no answer: the connection stays open until the gateway closes it
	end    bool          // the connection is closed after the answer
}

// backend is a server at an address of its own whose faults are the test's to choose. It counts what reaches it, and costs
// little: it reads requests as far as it needs to, and no more.
type backend struct {
	name, addr string
	serve      atomic.Pointer[func(*asked) reply] // nil: the zero reply

	requests, accepted, open, most, busy, mostBusy atomic.Int64

	usual []byte // the zero reply
	mu    sync.Mutex
	ln    net.Listener
	conns map[*net.TCPConn]struct{}
	done  sync.WaitGroup
}

// startBackends starts n backends on one port of as many loopback addresses, as machines of their own would be.
func startBackends(t testing.TB, n int) []*backend {
	t.Helper()
	for {
		port, block := 20000+rand.IntN(12000), rand.IntN(200)+20
		var list []*backend
		for i := range n {
			b := &backend{name: fmt.Sprintf("b%d", i+1), addr: fmt.Sprintf("127.0.%d.%d:%d", block, i+1, port), conns: map[*net.TCPConn]struct{}{}}
			b.usual = b.compose(reply{})
			if err := b.listen(); err != nil {
				if !errors.Is(err, syscall.EADDRINUSE) {
					t.Fatal(err)
				}
				break
			}
			list = append(list, b)
		}
		if len(list) == n {
			t.Cleanup(func() {
				for _, b := range list {
					b.stop()
					b.done.Wait()
				}
			})
			return list
		}
		for _, b := range list {
			b.stop()
		}
	}
}

// ip is the address without the port.
func (b *backend) ip() string { return netip.MustParseAddrPort(b.addr).Addr().String() }

// port is that of all backends of one startBackends.
func (b *backend) port() uint16 { return netip.MustParseAddrPort(b.addr).Port() }

// listen begins to accept, or begins again after stop.
func (b *backend) listen() error {
	ln, err := net.Listen("tcp", b.addr)
	if err != nil {
		return err
	}
	b.mu.Lock()
	b.ln = ln
	b.mu.Unlock()
	b.done.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			b.mu.Lock()
			if b.ln != ln {
				b.mu.Unlock()
				_ = c.Close()
				return
			}
			tc := c.(*net.TCPConn)
			b.conns[tc] = struct{}{}
			b.mu.Unlock()
			b.accepted.Add(1)
			raise(&b.most, b.open.Add(1))
			b.done.Go(func() { b.talk(tc) })
		}
	})
	return nil
}

// stop closes everything: connections are reset, new ones refused.
func (b *backend) stop() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ln != nil {
		_ = b.ln.Close()
		b.ln = nil
	}
	for c := range b.conns {
		_ = c.SetLinger(0)
		_ = c.Close()
	}
}

// does has the backend answer as f says; nil: as usual.
func (b *backend) does(f func(*asked) reply) {
	if f == nil {
		b.serve.Store(nil)
		return
	}
	b.serve.Store(&f)
}

// always has the backend give the same answer to all.
func (b *backend) always(r reply) { b.does(func(*asked) reply { return r }) }

func raise(most *atomic.Int64, n int64) {
	for was := most.Load(); n > was && !most.CompareAndSwap(was, n); was = most.Load() {
	}
}

func (b *backend) compose(r reply) []byte {
	body := r.body
	if body == "" {
		body = b.name
	}
	return fmt.Appendf(nil, "HTTP/1.1 %d X\r\nContent-Length: %d\r\nX-Backend: %s\r\n%s\r\n%s", max(r.status, 200), len(body), b.name, r.head, body)
}

// talk serves one connection.
func (b *backend) talk(c *net.TCPConn) {
	left := sync.OnceFunc(func() { b.open.Add(-1) })
	defer func() {
		left()
		_ = c.Close()
		b.mu.Lock()
		delete(b.conns, c)
		b.mu.Unlock()
	}()
	buf, have := make([]byte, 4096), 0
	for nth := int64(1); ; nth++ {
		var a asked
		end := 0
		for end = parse(buf[:have], &a); end == 0; end = parse(buf[:have], &a) {
			if have == len(buf) {
				buf = slices.Concat(buf, buf) // twice as long; what is behind have does not matter
			}
			n, err := c.Read(buf[have:])
			if err != nil {
				return
			}
			have += n
		}
		a.nth = nth
		b.requests.Add(1)
		raise(&b.mostBusy, b.busy.Add(1))
		out, ok := b.usual, true
		if f := b.serve.Load(); f != nil {
			out, ok = b.act(c, (*f)(&a))
		}
		b.busy.Add(-1)
		if !ok {
			left() // who has the answer knows that the connection ends
		}
		if out != nil {
			if _, err := c.Write(out); err != nil {
				return
			}
		}
		if !ok {
			return
		}
		have = copy(buf, buf[end:have])
	}
}

// act does what the reply asks for up to its bytes, which are to be written then; not ok: the connection ends.
func (b *backend) act(c *net.TCPConn, r reply) (out []byte, ok bool) {
	if r.after > 0 {
		time.Sleep(r.after)
	}
	if r.until != nil {
		<-r.until
	}
	switch {
	case r.hang:
		_, _ = io.Copy(io.Discard, c)
		return nil, false
	case r.reset:
		_ = c.SetLinger(0)
		return nil, false
	case r.status == 0 && r.body == "" && r.head == "":
		return b.usual, !r.end
	}
	return b.compose(r), !r.end
}

// parse reads a request with a body of a known length; 0: it is not whole yet.
func parse(b []byte, a *asked) (end int) {
	n := bytes.Index(b, []byte("\r\n\r\n"))
	if n < 0 {
		return 0
	}
	a.head, end = b[:n], n+4
	method, rest, _ := bytes.Cut(a.head, []byte(" "))
	path, _, _ := bytes.Cut(rest, []byte(" "))
	a.method, a.path = string(method), string(path)
	if a.method == "GET" {
		return end
	}
	length, _ := strconv.Atoi(a.get("Content-Length"))
	if len(b) < end+length {
		return 0
	}
	a.body = b[end : end+length]
	return end + length
}

// total adds up what was counted at backends.
func total(list []*backend, of func(*backend) *atomic.Int64) (sum int64) {
	for _, b := range list {
		sum += of(b).Load()
	}
	return sum
}

func requestsOf(b *backend) *atomic.Int64 { return &b.requests }
func busyOf(b *backend) *atomic.Int64     { return &b.busy }
func acceptedOf(b *backend) *atomic.Int64 { return &b.accepted }

// targets is the list of backends as a config has it, each with more keys of its own, if there are any.
func targets(list []*backend, more ...string) string {
	var b strings.Builder
	b.WriteString("[")
	for i, one := range list {
		extra := ""
		if i < len(more) && more[i] != "" {
			extra = ", " + more[i]
		}
		fmt.Fprintf(&b, "{ url: 'http://%s'%s }, ", one.addr, extra)
	}
	return b.String() + "]"
}

// journal remembers log lines with the time at which they were written, and what a gateway tells of requests and of
// connections.
type journal struct {
	mu       sync.Mutex
	lines    []logged
	opened   map[string]int // connections, by why
	closed   map[string]int
	failures map[failure]int
}

type logged struct {
	at   time.Time
	text string
}

// failure is a request that was not answered with a status below 500, by what a rule can say about it.
type failure struct {
	method   string
	status   int
	kind     string // of the error; empty: the backend's own answer
	attempts int
	budget   bool // it was not sent again because the budget was used up
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.lines = append(j.lines, logged{time.Now(), string(p)})
	return len(p), nil
}

// String is the log so far.
func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	var b strings.Builder
	for _, l := range j.lines {
		b.WriteString(l.text)
	}
	return b.String()
}

func (j *journal) Exchange(x *exchange.Exchange) {
	if x.StatusSent < 500 && x.Err == nil {
		return
	}
	f := failure{method: string(x.Request.Method), status: x.StatusSent, attempts: len(x.Attempts)}
	if x.Err != nil {
		f.kind = x.Err.Kind.String()
	}
	f.budget = slices.Contains(x.Tags, exchange.Tag{Key: "wasmgate.retry.refused", Value: "budget"})
	j.mu.Lock()
	defer j.mu.Unlock()
	j.failures[f]++
}

func (j *journal) ConnOpened(c *facts.Connection) { j.count(j.opened, c.WhyOpened) }
func (j *journal) ConnClosed(c *facts.Connection) { j.count(j.closed, c.WhyClosed) }

func (j *journal) count(in map[string]int, why string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	in[why]++
}

// closedFor is how many connections were closed for a reason.
func (j *journal) closedFor(why string) int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.closed[why]
}

// failed is how many requests failed in a way.
func (j *journal) failed(is func(failure) bool) (n int) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for f, count := range j.failures {
		if is(f) {
			n += count
		}
	}
	return n
}

// change is a line of the log that tells that a member's state is another one.
type change struct {
	at                  time.Time
	address, state, why string
}

// changes are all of them so far, of one address if that is not empty.
func (j *journal) changes(address string) (list []change) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, l := range j.lines {
		var said struct{ Address, State, Why, Message string }
		if json.Unmarshal([]byte(l.text), &said) == nil && said.State != "" && said.Address != "" && (address == "" || said.Address == address) {
			list = append(list, change{l.at, said.Address, said.State, said.Why})
		}
	}
	return list
}

// states are the words of changes.
func (j *journal) states(address string) string {
	var words []string
	for _, c := range j.changes(address) {
		words = append(words, c.state)
	}
	return strings.Join(words, " ")
}

// plant is a gateway with an admin endpoint whose doings are written down.
type plant struct {
	*testing.T
	*gateway.Gateway
	*journal
	addr netip.AddrPort
}

// plantConfig reads a config and adds a listener, an admin endpoint and no access log, unless it speaks of them itself.
func plantConfig(t testing.TB, text string) *config.Config {
	t.Helper()
	for _, section := range []string{
		"telemetry: { access_log: { output: 'off' } }", "admin: { address: '127.0.0.1:0' }", "plugin_cache: { dir: 'off' }",
		"listeners: [{ name: test, address: '127.0.0.1:0' }]",
	} {
		if key, _, _ := strings.Cut(section, " "); !strings.Contains("\n"+text, "\n"+key) {
			text = section + "\n" + text
		}
	}
	c, _, err := config.Load(config.Source{File: "test.yaml", Data: []byte(text)})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func startPlant(t *testing.T, text string) *plant {
	t.Helper()
	before := runtime.NumGoroutine()
	j := &journal{opened: map[string]int{}, closed: map[string]int{}, failures: map[failure]int{}}
	g, err := gateway.New(gateway.Options{Config: plantConfig(t, text), Log: zerolog.New(j), Watcher: j})
	if err != nil {
		t.Fatal(err)
	}
	if err := g.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		g.Close()
		http.DefaultClient.CloseIdleConnections()
		testkit.Eventually(t, "no goroutine is left over", func() bool { return runtime.NumGoroutine() <= before })
	})
	return &plant{t, g, j, g.Addr("test")}
}

func (p *plant) url(path string) string { return "http://" + p.addr.String() + path }

// reload puts another config in force.
func (p *plant) reload(text string) {
	p.Helper()
	if err := p.Reload(plantConfig(p, text)); err != nil {
		p.Fatal(err)
	}
}

// upstream is what GET /upstreams/{name} says.
type upstreamSays struct {
	Open        int  `json:"connections_open"`
	Waiting     int  `json:"requests_waiting"`
	BreakerOpen bool `json:"breaker_open"`
	Members     []memberSays
}

type memberSays struct {
	Target, Address, Session, State, Health, Why string
	Weight, Tier                                 int
	Share                                        float64
	Open                                         int  `json:"connections_open"`
	Live                                         bool `json:"differs_from_config"`
}

func (p *plant) upstream(name string) (u upstreamSays) {
	p.Helper()
	if err := json.Unmarshal([]byte(get(p.T, "http://"+p.AdminAddr().String()+"/upstreams/"+name)), &u); err != nil {
		p.Fatal(err)
	}
	return u
}

// member is what the admin endpoint says of a backend.
func (p *plant) member(upstream string, b *backend) memberSays {
	p.Helper()
	for _, m := range p.upstream(upstream).Members {
		if m.Address == b.addr {
			return m
		}
	}
	p.Fatalf("upstream %s has no member %s", upstream, b.addr)
	return memberSays{}
}

// patch changes a target while the gateway runs, with curl, as an operator would.
func (p *plant) patch(upstream, target, change string) string {
	p.Helper()
	return run(p.T, "curl", "-sS", "--fail-with-body", "-X", "PATCH", "-d", change, "http://"+p.AdminAddr().String()+"/upstreams/"+upstream+"/targets/"+target)
}

// metric is the value of a metric's line that begins like this; -1: there is none.
func (p *plant) metric(line string) float64 {
	p.Helper()
	for l := range strings.SplitSeq(get(p.T, "http://"+p.AdminAddr().String()+"/metrics"), "\n") {
		if v, ok := strings.CutPrefix(l, line+" "); ok {
			f, _ := strconv.ParseFloat(v, 64)
			return f
		}
	}
	return -1
}

// stopped says whether nothing is accepted.
func (b *backend) stopped() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.ln == nil
}
