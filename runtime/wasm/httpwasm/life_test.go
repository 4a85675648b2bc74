package httpwasm

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"os"

	"wasmgate/runtime/fault"
	"wasmgate/runtime/filter"
	"wasmgate/runtime/netloop"
	"wasmgate/runtime/route"
	"wasmgate/runtime/server"
	"wasmgate/runtime/wasm"
)

// echo answers with the request's body, or with its URI.
func echo(t testing.TB) net.Addr {
	b := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Saw", fmt.Sprint(r.Header["X-User"], r.Header["Authorization"]))
		if n, _ := io.Copy(w, r.Body); n == 0 {
			_, _ = io.WriteString(w, r.RequestURI)
		}
	}))
	t.Cleanup(b.Close)
	return b.Listener.Addr()
}

// TestPluginsAsTheirAuthorsWriteThem: what people do with such plugins.
func TestPluginsAsTheirAuthorsWriteThem(t *testing.T) {
	auth, _ := load(t, authGuest, Options{Config: []byte("dTpw")}, wasm.Limits{})
	redact, _ := load(t, redactGuest, Options{Config: []byte("secret")}, wasm.Limits{})
	g := newGate(t, setup{backend: echo(t), route: []filter.Filter{auth, redact}})
	r := g.send("POST /a", strings.NewReader("my secret"))
	if r.status != 401 || r.body != "who goes?" || r.header.Get("WWW-Authenticate") == "" || r.length != 9 {
		t.Errorf("without credentials: %+v", r)
	}
	r = g.send("POST /a", strings.NewReader("my secret"), "Authorization: Basic dTpw")
	if r.status != 200 || r.body != "my ######" || r.length != 9 || r.header.Get("X-Saw") != "[known] []" {
		t.Errorf("with credentials: %+v", r)
	}
	if r = g.send("GET /the/secret", nil, "Authorization: Basic dTpw"); r.body != "/the/######" {
		t.Errorf("an answer: %+v", r)
	}
	if _, err := tryLoad(t, redactGuest, Options{}, wasm.Limits{}, &journal{}); err == nil || fault.From(err).Phase != "start" {
		t.Errorf("without its configuration: %v", err)
	}
}

// TestPublicExamples are the examples of the module that the public conformance kit comes with, as they are there.
func TestPublicExamples(t *testing.T) {
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/http-wasm/http-wasm-host-go").Output()
	if err != nil {
		t.Fatal(err)
	}
	example := func(name string, o Options) (*gate, *journal) {
		module, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(out)), "examples", name+".wasm"))
		if err != nil {
			t.Fatal(err)
		}
		p, j := load(t, module, o, wasm.Limits{})
		return newGate(t, setup{backend: echo(t), route: []filter.Filter{p}}), j
	}
	g, _ := example("auth", Options{})
	if r := g.send("GET /", nil); r.status != 401 {
		t.Errorf("auth: %+v", r)
	}
	if r := g.send("GET /x", nil, "Authorization: Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="); r.status != 200 || r.body != "/x" {
		t.Errorf("auth: %+v", r)
	}
	g, _ = example("router", Options{})
	if r := g.send("GET /host/a?b", nil); r.body != "/a?b" {
		t.Errorf("router: %+v", r)
	}
	if r := g.send("GET /", nil); r.body != "hello world" {
		t.Errorf("router: %+v", r)
	}
	g, _ = example("redact", Options{Config: []byte("open sesame")})
	if r := g.send("POST /", strings.NewReader("say open sesame")); r.body != "say ###########" {
		t.Errorf("redact: %+v", r)
	}
	for features := range byte(8) {
		g, _ = example("config", Options{Config: []byte{features, 0, 0, 0, 0, 0, 0, 0}})
		if r := g.send("GET /", nil); r.body != "/" {
			t.Errorf("config %d: %+v", features, r)
		}
	}
	g, j := example("log", Options{LogLevel: wasm.LogInfo})
	r := g.send("POST /v1.0/hi?name=panda", strings.NewReader(`{"hello": "panda"}`))
	if r.status != 200 || len(j.all()) == 0 {
		t.Errorf("log: %+v, %v", r, j.texts())
	}
	g, j = example("wasi", Options{})
	if r := g.send("GET /v1.0/hi?name=panda", nil); r.status != 200 || len(j.all()) == 0 {
		t.Errorf("wasi: %+v, %v", r, j.texts())
	}
}

// gatekeeper is a backend that lets requests wait until it is told to go on.
type gatekeeper struct {
	*httptest.Server
	came chan string
	open chan struct{}
}

func newGatekeeper(t testing.TB) *gatekeeper {
	k := &gatekeeper{came: make(chan string, 2000), open: make(chan struct{})}
	k.Server = httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		k.came <- r.RequestURI
		select {
		case <-k.open:
		case <-r.Context().Done():
		}
	}))
	t.Cleanup(k.Close)
	return k
}

// TestAnInstanceSeesAnExchangeToItsEnd has many requests wait for the upstream at once: each finds what it left in its own
// instance, and there are as many as it takes, for as long.
func TestAnInstanceSeesAnExchangeToItsEnd(t *testing.T) {
	const n = 200
	k := newGatekeeper(t)
	// A hundred instances of a loop are made one after the other: who comes last waits for all of them.
	p, j := load(t, kitGuest, Options{Loops: 2, LogRate: 1e6, MaxPerLoop: 4, MaxWait: 20 * time.Second, IdleAfter: time.Millisecond}, wasm.Limits{})
	g := newGate(t, setup{backend: k.Listener.Addr(), loops: 2, route: []filter.Filter{p}})
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			r := g.send("GET /", nil, fmt.Sprintf("x-request: N %d", i+1), fmt.Sprintf("x-response: h 1 x-id %d;l 0 id %d", i+1, i+1))
			if r.status != 200 || r.header.Get("X-Id") != fmt.Sprint(i+1) {
				t.Errorf("request %d: %+v", i+1, r)
			}
		})
	}
	for range n {
		<-k.came
	}
	eventually(t, "the instances are counted", func() bool { return p.Stats().Live == n })
	close(k.open)
	wg.Wait()
	texts := j.texts()
	for i := range n {
		if !slices.Contains(texts, fmt.Sprintf("response 1 context %d error 0", i+1)) {
			t.Errorf("the context of request %d is lost", i+1)
		}
	}
	eventually(t, "idle instances are closed", func() bool { return p.Stats().Live == 0 })
	if s := p.Stats(); s.Calls != 2*n || s.Failures != [fault.Kinds]uint64{} || s.ClosedIdle < n {
		t.Errorf("%+v", s)
	}
}

// TestAPluginOfRequestsOnlyWaitsForNothing: its handle_response is empty, so one instance is enough for all.
func TestAPluginOfRequestsOnlyWaitsForNothing(t *testing.T) {
	k := newGatekeeper(t)
	p, _ := load(t, authGuest, Options{Config: []byte("dTpw"), MaxPerLoop: 1}, wasm.Limits{})
	g := newGate(t, setup{backend: k.Listener.Addr(), route: []filter.Filter{p}})
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if r := g.send("GET /", nil, "Authorization: Basic dTpw"); r.status != 200 {
				t.Errorf("%+v", r)
			}
		})
	}
	for range 20 {
		<-k.came
	}
	if s := p.Stats(); s.Live != 1 || s.Calls != 20 {
		t.Errorf("%+v", s)
	}
	close(k.open)
	wg.Wait()
	if s := p.Stats(); s.Calls != 20 {
		t.Errorf("%+v", s)
	}
}

// TestWhoFindsNoInstanceWaits has one instance, which waits for the upstream: the second request comes after it, or too late.
func TestWhoFindsNoInstanceWaits(t *testing.T) {
	k := newGatekeeper(t)
	p, _ := load(t, kitGuest, Options{MaxPerLoop: 1, MaxWaits: 1, MaxWait: 300 * time.Millisecond}, wasm.Limits{})
	g := newGate(t, setup{backend: k.Listener.Addr(), route: []filter.Filter{p}})
	results := make(chan reply, 3)
	for range 3 {
		go func() { results <- g.send("GET /", nil, "x-request: N 0") }()
	}
	<-k.came
	<-k.came
	if r := <-results; r.status != 503 || !strings.Contains(r.body, "plugin_unavailable") {
		t.Errorf("who waits too long: %+v", r)
	}
	close(k.open)
	for range 2 {
		if r := <-results; r.status != 200 {
			t.Errorf("%+v", r)
		}
	}
	if s := p.Stats(); s.Failures[fault.PluginUnavailable] != 1 || s.Live != 2 {
		t.Errorf("%+v", s)
	}

	// Who comes after the others has more time here than a machine stands still.
	k = newGatekeeper(t)
	p, _ = load(t, kitGuest, Options{MaxPerLoop: 1, MaxWaits: 1, MaxWait: 20 * time.Second}, wasm.Limits{})
	g = newGate(t, setup{backend: k.Listener.Addr(), route: []filter.Filter{p}})
	for range 3 {
		go func() { results <- g.send("GET /", nil, "x-request: N 0") }()
	}
	<-k.came
	<-k.came
	close(k.open)
	for range 3 {
		if r := <-results; r.status != 200 {
			t.Errorf("%+v", r)
		}
	}
	eventually(t, "the instances are counted", func() bool { return p.Stats().Live == 2 })
	if s := p.Stats(); s.Failures != [fault.Kinds]uint64{} || s.Started != 2 {
		t.Errorf("%+v", s)
	}
}

// TestAClientThatGoesAway before the upstream has its body, and while the guest waits for its body: the instance is free again, the
// guest is told, and nobody is blamed.
func TestAClientThatGoesAway(t *testing.T) {
	k := newGatekeeper(t)
	p, j := load(t, kitGuest, Options{LogRate: 1e6, Breaker: &wasm.Breaker{Failures: 1, Percent: 1, Window: time.Hour, Open: time.Hour}}, wasm.Limits{})
	g := newGate(t, setup{backend: k.Listener.Addr(), route: []filter.Filter{p}})
	dial := func(head string) net.Conn {
		c, err := net.Dial("tcp", g.addr.String())
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(c, "%s\r\n\r\n", strings.ReplaceAll(head, "\n", "\r\n"))
		return c
	}
	c := dial("POST /gone HTTP/1.1\nHost: h\nContent-Length: 100\nx-request: N 3\nx-response: s;g 0 host")
	<-k.came
	c.Close()
	eventually(t, "the exchange ends", func() bool { return len(g.watcher.all()) == 1 })
	close(k.open)
	// The body ends too early, or the client has gone while a guest is kept for it: what is seen first counts, and nobody is
	// there to be answered.
	texts := j.texts()
	if i := slices.Index(texts, "response 1 s = 0"); i >= 0 {
		texts[i] = "response 1 s = 400"
	}
	if !slices.Equal(texts, []string{"response 1 context 3 error 1", "response 1 s = 400", "response 1 g 0 host = 1:h,"}) {
		t.Errorf("%q", texts)
	}
	// The guest is parked in read_body.
	for i, script := range []string{"F 1;B 0 100", "B 0 100", "F 5;n 2", "w 0 abc;N 0"} {
		c := dial(fmt.Sprintf("POST /%d HTTP/1.1\nHost: h\nContent-Length: 100\nx-request: l 0 here;%s", i, script))
		eventually(t, "the guest reads "+script, func() bool { return strings.Count(strings.Join(j.texts(), "\n"), "here") == i+1 })
		fmt.Fprint(c, "not all")
		c.Close()
		eventually(t, "the exchange ends", func() bool { return len(g.watcher.all()) == 2+i })
		if e := g.watcher.all()[1+i]; !strings.HasPrefix(e.err, "client_closed") {
			t.Errorf("%s: %s", script, e.err)
		}
	}
	if r := g.send("GET /", nil, "x-request: w 1 well"); r.body != "well" {
		t.Errorf("afterwards: %+v", r)
	}
	if s := p.Stats(); s.Failures != [fault.Kinds]uint64{} || s.BreakerOpened != 0 {
		t.Errorf("%+v", s)
	}
}

// TestAnExchangeWithoutAnAnswer: the guest is told, can still look at the request, and changes nothing.
func TestAnExchangeWithoutAnAnswer(t *testing.T) {
	g, err := netloop.New(netloop.Options{Loops: 1})
	if err != nil {
		t.Fatal(err)
	}
	g.Start()
	t.Cleanup(g.Close)
	p, j := load(t, kitGuest, Options{LogRate: 1e6}, wasm.Limits{})
	ask := func(script string) (after string) {
		on(g, func(task *netloop.Task) {
			x := newExchange(t, task, "GET /p HTTP/1.1\nHost: h\na: 1\nx-request: F 7;N 3\nx-response: "+script, nil)
			x.Trace.Sampled = true
			if v, err := p.Request(x, filter.Route, 0); v != filter.Continue || err != nil {
				t.Errorf("%v, %v", v, err)
			}
			p.End(x, 0)
			after = fmt.Sprintf("%s %s %d %d %s", x.Request.Method, x.Request.Path, x.Request.Len(), x.Response.Len(), x.Calls[len(x.Calls)-1].Outcome)
		})
		return after
	}
	if after := ask("s;m;u;g 0 host;n 1;n 2;n 3;B 0 9;B 1 9;S 200;h 1 a b;h 3 c d;w 1 x;w 0 x;M POST;U /q;h 0 a 2;h 2 b 2;r 0 a;r 1 a;F 0"); after != "GET /p 4 0 no_answer" {
		t.Error(after)
	}
	want := []string{"context 3 error 1", "s = 0", "m = GET", "u = /p", "g 0 host = 1:h,", "n 1 = 0:", "n 2 = 0:", "n 3 = 0:", "B 0 9 = 0 0 ", "B 1 9 = 0 0 ", "F 0 = 7"}
	var said []string
	for _, l := range j.all() {
		said = append(said, l.Text)
	}
	for _, w := range want {
		if !slices.Contains(said, w) {
			t.Errorf("no %q in %q", w, said)
		}
	}
	for try := uint64(1); ; try++ { // the machine may have stood still
		began := time.Now()
		if after := ask("x"); after != "GET /p 4 0 error" || p.Stats().Failures[fault.PluginFuel] != try {
			t.Errorf("%s, %+v", after, p.Stats())
		}
		took := time.Since(began)
		if took <= time.Second {
			break
		}
		if try == 3 {
			t.Fatalf("it took %v", took)
		}
	}
}

// TestMatchers: next is yes, an answer is one, and anything else is no, and then nothing has happened.
func TestMatchers(t *testing.T) {
	p, j := load(t, kitGuest, Options{LogRate: 1e6}, wasm.Limits{})
	g := newGate(t, setup{backend: echo(t), routes: func(one *server.Route) *route.Table[*server.Route] {
		asked := *one
		asked.Name, asked.Matcher = "asked", p
		asked.Response = server.Edits{Set: []server.Field{{Name: []byte("X-Route"), Value: []byte("asked")}}}
		table, err := route.New(make([]route.Rule, 2), []*server.Route{&asked, one})
		if err != nil {
			t.Fatal(err)
		}
		return table
	}})
	for script, want := range map[string]string{
		"N 0": "200 asked /path", "l 0 no": "200  /path", "U /other;h 0 a b;M POST": "200  /path", "U /other;N 0": "200 asked /other", "S 403": "403  ", "w 1 own": "200  own",
	} {
		r := g.send("GET /path", nil, "x-request: "+script, "x-response: s")
		if got := fmt.Sprintf("%d %s %s", r.status, r.header.Get("X-Route"), r.body); got != want {
			t.Errorf("%s: %q, want %q", script, got, want)
		}
	}
	if strings.Contains(strings.Join(j.texts(), "\n"), "context") {
		t.Errorf("a matcher was shown an answer: %q", j.texts())
	}
	if s := p.Stats(); s.Live != 1 {
		t.Errorf("%+v", s)
	}
}

// TestListenersAndRoutes: the same plugin in both places, and another between, each with its own of the exchange.
func TestListenersAndRoutes(t *testing.T) {
	p, j := load(t, kitGuest, Options{LogRate: 1e6}, wasm.Limits{})
	auth, _ := load(t, authGuest, Options{Config: []byte("dTpw")}, wasm.Limits{})
	g := newGate(t, setup{backend: echo(t), listener: []filter.Filter{p}, route: []filter.Filter{auth, p}})
	r := g.send("GET /a", nil, "x-request: u;U /b;H 1 x-seen yes;N 4", "x-response: g 1 x-seen")
	if r.status != 401 || r.header.Get("X-Seen") != "yes" {
		t.Errorf("%+v", r)
	}
	r = g.send("GET /a", nil, "x-request: u;U /b;H 1 x-seen yes;N 4", "x-response: g 1 x-seen", "Authorization: Basic dTpw")
	if r.status != 200 || r.body != "/b" || len(r.header.Values("X-Seen")) != 2 {
		t.Errorf("%+v", r)
	}
	want := []string{"u = /a", "context 4 error 0", "g 1 x-seen = 1:yes,", "u = /a", "u = /b", "context 4 error 0", "g 1 x-seen = 1:yes,", "context 4 error 0", "g 1 x-seen = 2:yes,yes,"}
	var said []string
	for _, l := range j.all() {
		said = append(said, l.Text)
	}
	if !slices.Equal(said, want) {
		t.Errorf("%q", said)
	}
}

func TestLogs(t *testing.T) {
	p, j := load(t, kitGuest, Options{LogLevel: wasm.LogWarn, LogRate: 10, Config: []byte("start:l 1 it begins;l 5 none")}, wasm.Limits{Fuel: 1 << 30})
	g := newGate(t, setup{backend: echo(t), route: []filter.Filter{p}})
	g.send("GET /", nil, "x-request: l -1 debug;l 0 info;l 1 warn;l 2 error;l 3 none;l 4 none;l -7 lowest;l 1")
	if got := j.texts(); !slices.Equal(got, []string{"start 2 it begins", "request 2 warn", "request 3 error", "request 2 "}) {
		t.Errorf("%q", got)
	}
	p, j = load(t, kitGuest, Options{LogRate: 1e6, LogLevel: wasm.LogInfo}, wasm.Limits{})
	g = newGate(t, setup{backend: echo(t), route: []filter.Filter{p}})
	g.send("GET /", nil, "x-request: L -1;L 0;L 1;L 2;L 3;L -7;L 9;a;c;C 3")
	said := strings.Join(j.texts(), "\n")
	for _, want := range []string{"L -1 = 0\n", "L 0 = 1\n", "L 1 = 1\n", "L 2 = 1\n", "L 3 = 0\n", "L -7 = 0\n", "L 9 = 0\n", "C 3 = 0"} {
		if !strings.Contains(said, want) {
			t.Errorf("no %q in:\n%s", want, said)
		}
	}
	if !regexp.MustCompile(`(?m)a = 127\.0\.0\.1:[1-9][0-9]*$`).MatchString(said) {
		t.Errorf("no address in:\n%s", said)
	}
	began := time.Now()
	flood, j := load(t, kitGuest, Options{LogRate: 5}, wasm.Limits{Fuel: 1 << 30})
	g = newGate(t, setup{backend: echo(t), route: []filter.Filter{flood}})
	for range 50 {
		g.send("GET /", nil, "x-request: "+strings.Repeat("l 0 much;", 20))
	}
	if n, took := len(j.all()), time.Since(began); float64(n) > max(20, 5+5*(took.Seconds()+1)) {
		t.Errorf("%d lines of 1000 in %v, at 5 a second", n, took)
	}
}

// TestOldProtocol: HTTP/1.0, without Host, and no trailers to it.
func TestOldProtocol(t *testing.T) {
	p, j := load(t, kitGuest, Options{LogRate: 1e6}, wasm.Limits{})
	g := newGate(t, setup{backend: echo(t), route: []filter.Filter{p}})
	got := g.raw("GET /old HTTP/1.0\r\nx-request: p;g 0 host;n 0;F 4;h 1 a b;h 3 x-sum 1;w 1 own\r\n\r\n")
	if !strings.HasPrefix(got, "HTTP/1.1 200 OK\r\n") || !strings.Contains(got, "Content-Length: 3\r\n") || !strings.HasSuffix(got, "\r\n\r\nown") {
		t.Errorf("%q", got)
	}
	said := strings.Join(j.texts(), "\n")
	for _, want := range []string{"p = HTTP/1.0\n", "g 0 host = 0:\n", "n 0 = 1:x-request,\n"} {
		if !strings.Contains(said, want) {
			t.Errorf("no %q in:\n%s", want, said)
		}
	}
}

// TestStarts: what can go wrong before the first request.
func TestStarts(t *testing.T) {
	for script, want := range map[string]string{
		"t": "unreachable", "x": "out of fuel", "m": "get_method: there is no request while the module starts", "w 1 a": "write_body: there is no request", "h 0 a b": "set_header_value: there is no request",
		"n 0": "get_header_names: there is no request", "s": "get_status_code: there is no request",
	} {
		_, err := tryLoad(t, kitGuest, Options{Config: []byte("start:" + script)}, wasm.Limits{StartFuel: 1_000_000}, &journal{})
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "plugin p, phase start") {
			t.Errorf("%s: %v, want %s", script, err, want)
		}
	}
	if e, _ := engine(); e.Instances() < 0 {
		t.Error("too many were closed")
	}
}

// TestPluginsComeAndGo: nothing is left of a hundred that were used and closed, some with an exchange under way.
func TestPluginsComeAndGo(t *testing.T) {
	e, err := engine()
	if err != nil {
		t.Fatal(err)
	}
	instances, memory := e.Instances(), e.MemoryInUse()
	g, err := netloop.New(netloop.Options{Loops: 1})
	if err != nil {
		t.Fatal(err)
	}
	g.Start()
	t.Cleanup(g.Close)
	for range 100 {
		p, err := tryLoad(t, kitGuest, Options{}, wasm.Limits{}, &journal{})
		if err != nil {
			t.Fatal(err)
		}
		on(g, func(task *netloop.Task) {
			x := newExchange(t, task, "GET / HTTP/1.1\nHost: h\nx-request: N 1", nil)
			if v, err := p.Request(x, filter.Route, 3); v != filter.Continue || err != nil {
				t.Errorf("%v, %v", v, err)
			}
			p.End(x, 3)
			p.End(x, 3)
			p.End(x, 7)
		})
		p.Close()
		p.Close()
	}
	if e.Instances() != instances || e.MemoryInUse() != memory {
		t.Errorf("%d instances and %d bytes are left", e.Instances()-instances, e.MemoryInUse()-memory)
	}
}

// TestUpgrades: the guest sees the answer that begins a tunnel, and is free while that lasts; it may answer otherwise.
func TestUpgrades(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				r := bufio.NewReader(c)
				if _, err := http.ReadRequest(r); err == nil {
					fmt.Fprint(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n")
					_, _ = io.Copy(c, r)
				}
			}()
		}
	}()
	p, j := load(t, kitGuest, Options{LogRate: 1e6, MaxPerLoop: 1, MaxWaits: 1}, wasm.Limits{})
	g := newGate(t, setup{backend: ln.Addr(), route: []filter.Filter{p}})
	ask := func(request, response string) (net.Conn, *bufio.Reader, *http.Response) {
		c, err := net.Dial("tcp", g.addr.String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: echo\r\nx-request: %s\r\nx-response: %s\r\n\r\n", request, response)
		r := bufio.NewReader(c)
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Fatal(err)
		}
		return c, r, resp
	}
	for i := range 5 { // at once, through two instances
		c, r, resp := ask("F 2;h 1 x-a b;w 1 early;N 6", "s;b 1 9;h 1 x-c d;w 1 late")
		if resp.StatusCode != 101 || resp.Header.Get("X-A") != "b" || resp.Header.Get("X-C") != "d" || resp.Header.Get("Upgrade") != "echo" {
			t.Errorf("%d: %+v", i, resp)
		}
		fmt.Fprint(c, "ping")
		b := make([]byte, 4)
		if _, err := io.ReadFull(r, b); err != nil || string(b) != "ping" {
			t.Errorf("%q, %v", b, err)
		}
	}
	if n := strings.Count(strings.Join(j.texts(), "\n"), "response 1 context 6 error 0\nresponse 1 s = 101\nresponse 1 b 1 9 = 1 early"); n != 5 {
		t.Errorf("%q", j.texts())
	}
	_, _, resp := ask("N 0", "S 403;w 1 no")
	if b, err := io.ReadAll(resp.Body); resp.StatusCode != 403 || string(b) != "no" || err != nil {
		t.Errorf("%+v, %q, %v", resp, b, err)
	}
	if s := p.Stats(); s.Live != 1 && s.Live != 2 || s.Failures != [fault.Kinds]uint64{} {
		t.Errorf("%+v", s)
	}
}
