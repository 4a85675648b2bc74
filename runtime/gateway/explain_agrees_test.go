package gateway_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"wasmgate/config"
	"wasmgate/runtime/exchange"
	"wasmgate/runtime/explain"
	"wasmgate/runtime/gateway"
	"wasmgate/runtime/internal/testkit"
	"wasmgate/runtime/upstream/facts"
)

// account is an upstream that takes down each request to the byte, and answers it with nothing.
type account struct {
	name string // of its upstream
	addr string
	got  chan string
}

func startAccount(t *testing.T, name string) *account {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	a := &account{name: name, addr: ln.Addr().String(), got: make(chan string, 16)}
	t.Cleanup(func() { _ = ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go a.serve(c)
		}
	}()
	return a
}

func (a *account) serve(c net.Conn) {
	defer c.Close()
	var raw bytes.Buffer
	r := bufio.NewReader(io.TeeReader(oneByOne{bufio.NewReader(c)}, &raw))
	for {
		req, err := http.ReadRequest(r)
		if err != nil {
			return
		}
		if _, err := io.Copy(io.Discard, req.Body); err != nil {
			return
		}
		a.got <- raw.String()
		raw.Reset()
		if _, err := io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"); err != nil {
			return
		}
	}
}

// oneByOne never has more than a byte, so that nothing is read ahead.
type oneByOne struct{ io.Reader }

func (o oneByOne) Read(b []byte) (int, error) { return o.Reader.Read(b[:1]) }

// ends takes down how exchanges ended.
type ends chan ended

type ended struct{ route, upstream, address, err string }

func (e ends) Exchange(x *exchange.Exchange) {
	one := ended{route: x.Route}
	if a := x.Attempt(); a != nil {
		one.upstream, one.address = a.Upstream, a.Address.String()
	}
	if x.Err != nil {
		one.err = x.Err.Error()
	}
	e <- one
}
func (ends) ConnOpened(*facts.Connection) {}
func (ends) ConnClosed(*facts.Connection) {}

// speaker is a client that sends bytes as they are.
type speaker struct {
	t    *testing.T
	from string // its address
	to   string
	conn net.Conn
	r    *bufio.Reader
}

func (s *speaker) close() {
	if s.conn != nil {
		_ = s.conn.Close()
		s.conn = nil
	}
}

func (s *speaker) dial() {
	if s.conn != nil {
		return
	}
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(s.from)}, Timeout: 10 * time.Second}
	var err error
	if s.conn, err = d.Dial("tcp", s.to); err != nil {
		s.t.Fatal(err)
	}
	s.r = bufio.NewReader(s.conn)
}

// say sends a request and returns the answer, head and body; "": the connection was closed without one.
func (s *speaker) say(request []byte, method string) string {
	_ = s.conn.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := s.conn.Write(request); err != nil {
		s.t.Fatal(err)
	}
	var head strings.Builder
	for !strings.HasSuffix(head.String(), "\r\n\r\n") {
		line, err := s.r.ReadString('\n')
		if head.WriteString(line); err != nil {
			s.close()
			return ""
		}
	}
	resp, err := http.ReadResponse(bufio.NewReader(io.MultiReader(strings.NewReader(head.String()), s.r)), &http.Request{Method: method})
	if err != nil {
		s.t.Fatalf("%v: %q", err, head.String())
	}
	length := max(resp.ContentLength, 0)
	if resp.TransferEncoding != nil {
		s.t.Fatalf("chunks: %q", head.String())
	}
	if method == "HEAD" || resp.StatusCode == 204 || resp.StatusCode == 304 {
		length = 0
	}
	body := make([]byte, length)
	if _, err := io.ReadFull(s.r, body); err != nil {
		s.t.Fatal(err)
	}
	if resp.Close {
		s.close()
	}
	return head.String() + string(body)
}

// written is a message of an explanation, put together.
func written(m *explain.Message) string {
	var b strings.Builder
	b.WriteString(m.Line + "\r\n")
	for _, f := range m.Fields {
		b.WriteString(f.Name + ": " + f.Value + "\r\n")
	}
	return b.String() + "\r\n" + m.Body
}

// varies are the parts of messages that differ each time; what is left of them is their shape.
var varies = regexp.MustCompile(`(?im)^(date|retry-after|traceparent|x-request-id): ([^\r]*)`)

func shape(message string) string {
	letters := strings.NewReplacer(strings.Split("0,#,1,#,2,#,3,#,4,#,5,#,6,#,7,#,8,#,9,#,a,#,b,#,c,#,d,#,e,#,f,#", ",")...)
	return varies.ReplaceAllStringFunc(message, func(line string) string {
		name, value, _ := strings.Cut(line, ": ")
		switch name = strings.ToLower(name); name {
		case "date", "retry-after":
			return name + ": varies"
		}
		flags := value[strings.LastIndexByte(value, '-')+1:]
		return name + ": " + letters.Replace(value) + " " + flags
	})
}

// site is a config with 200 routes, five plugins and four upstreams, and what its clients like to ask for.
type explainSite struct {
	random *rand.Rand
	config strings.Builder
	paths  []string // that its routes are about
}

func (s *explainSite) pick(list ...string) string { return list[s.random.IntN(len(list))] }
func (s *explainSite) chance(percent int) bool    { return s.random.IntN(100) < percent }

var explainHosts = []string{"a.example", "b.example", "*.tenants.example", "www.example", "*.deep.tenants.example"}

// route writes one, whose paths begin with /rN in one way or another.
func (s *explainSite) route(n int, plugins []string) {
	b := &s.config
	at := fmt.Sprintf("/r%d", n/3) // several are about the same paths
	fmt.Fprintf(b, "  - name: route-%d\n    match:\n", n)
	capture := false
	switch s.random.IntN(4) {
	case 0:
		fmt.Fprintf(b, "      path: %s/exact\n", at)
	case 1:
		fmt.Fprintf(b, "      path_regex: '^%s/([a-z%%0-9]+)(/.*)?$'\n", at)
		capture = true
	default:
		fmt.Fprintf(b, "      path_prefix: %s\n", at)
	}
	s.paths = append(s.paths, at)
	if s.chance(40) {
		fmt.Fprintf(b, "      host: [%q, %q]\n", s.pick(explainHosts...), s.pick(explainHosts...))
	}
	if s.chance(25) {
		fmt.Fprintf(b, "      methods: [%s]\n", s.pick("GET", "POST", "GET, HEAD", "PUT, POST, DELETE"))
	}
	if s.chance(25) {
		fmt.Fprintf(b, "      headers: { x-tier: %s }\n", s.pick("gold", "{ regex: '^(gold|tin)$' }", "{ present: true }", "{ absent: true }"))
	}
	if s.chance(20) {
		fmt.Fprintf(b, "      query: { v: %s }\n", s.pick("'1'", "{ regex: '^[0-9]+$' }", "{ present: true }", "{ absent: true }"))
	}
	if s.chance(45) {
		names := []string{s.pick(plugins...)}
		for s.chance(30) {
			if next := s.pick(plugins...); next != names[0] {
				names = append(names, next)
				break
			}
		}
		fmt.Fprintf(b, "    plugins: [%s]\n", strings.Join(names, ", "))
	}
	if s.chance(12) {
		fmt.Fprintf(b, "    respond: { status: %s, body: 'route %d', headers: { x-route: r%d } }\n", s.pick("200", "404", "302", "410", "503"), n, n)
		if s.chance(50) {
			b.WriteString("    response_headers: { set: { x-by: gateway }, remove: [x-route] }\n")
		}
		return
	}
	fmt.Fprintf(b, "    upstream: %s\n", s.pick("one", "two", "three", "down", "hashed", "sticky"))
	switch {
	case capture && s.chance(60):
		fmt.Fprintf(b, "    rewrite: { path: %s }\n", s.pick("'/$1'", "'/new/$1$2'", "'/deep$2'"))
	case !capture && s.chance(40):
		fmt.Fprintf(b, "    rewrite: { strip_prefix: %s, add_prefix: /x }\n", at)
	}
	if s.chance(25) {
		b.WriteString("    request_headers: { set: { x-by: route }, remove: [x-user], add: { x-more: 'yes' } }\n")
	}
	if s.chance(20) {
		fmt.Fprintf(b, "    host: %s\n", s.pick("upstream", "fixed.example", "preserve"))
	}
}

// request makes one that is likely to meet one of the routes, and is odd now and then.
func (s *explainSite) request() explain.Request {
	host := s.pick("a.example", "A.Example:8080", "b.example.", "acme.tenants.example", "x.deep.tenants.example", "www.example", "other.example", "[::1]:81")
	path := s.pick(s.paths...) + s.pick("", "/", "/exact", "/abc", "/abc/def", "/%41b/c", "/a%2fb", "/a//b", "/./x/../y", "/a;b=c", "/admin", "x")
	if s.chance(8) {
		path = s.pick("/", "/old", "/blog/a/b", "/nowhere", "/admin", "/admin/x", "/%00", "/a b", "/..", "/%zz", "/"+strings.Repeat("long/", 2000), "/\x7f", "/%2e%2e/r1", "/again/exact", "//r1")
	}
	r := explain.Request{Method: s.pick("GET", "GET", "GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "PURGE"), URL: "http://" + host + path}
	if s.chance(30) {
		r.URL += s.pick("?", "?v=1", "?v=x&v=2", "?%76=1", "?v", "?a=b&v=%31", "?"+strings.Repeat("q", 300), "?a?b", "?v=\x01")
	}
	add := func(name string, values ...string) {
		r.Fields = append(r.Fields, explain.Field{Name: name, Value: s.pick(values...)})
	}
	for _, f := range []struct {
		percent int
		name    string
		values  []string
	}{
		{40, "x-tier", []string{"gold", "tin", "", "golden"}},
		{30, "X-User", []string{"ann", "bob", "carl", "dora", "é"}},
		{25, "x-tenant", []string{"acme", "GLOBEX", "nobody"}},
		{10, "x-canary", []string{"canary", "stable"}},
		{15, "X-Forwarded-For", []string{"192.0.2.1", "192.0.2.66, 127.0.0.5", "junk"}},
		{8, "X_Forwarded_For", []string{"192.0.2.9"}},
		{8, "Forwarded", []string{"for=192.0.2.4"}},
		{8, "X-Forwarded-Proto", []string{"https"}},
		{12, "traceparent", []string{"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00", "junk"}},
		{6, "Connection", []string{"x-user", "close", "keep-alive, x-tier"}},
		{6, "TE", []string{"trailers", "gzip"}},
		{20, "Cookie", []string{"a=b; lane=x", "lane=x.s1", "lane=s2"}},
		{3, "Upgrade", []string{"h2c", "websocket"}},
		{2, "x-again", []string{"/r1/exact", "/r5/abc?v=1", "/nowhere"}},
		{4, "x-again-host", []string{"b.example", "www.example"}},
		{1, "bad name", []string{"x"}},
		{1, "Content-Length", []string{"+1", "1, 2"}},
		{1, "x-break", []string{"a\x00b"}},
		{4, "x-many", []string{strings.Repeat("x", 5000)}},
	} {
		for s.chance(f.percent) {
			add(f.name, f.values...)
		}
	}
	if r.Method == "POST" || r.Method == "PUT" || r.Method == "PATCH" {
		if r.Body = s.pick("", "x", "{\"a\":1}", strings.Repeat("body ", 1+s.random.IntN(8000))); s.chance(30) {
			add("Transfer-Encoding", "chunked")
		}
	}
	return r
}

// builtPlugins are the five plugins, and what a config says of them: modules in C of each ABI, and with others of them in Go.
func builtPlugins(t *testing.T, dir string, whole bool) (names []string, listener []string, config string) {
	t.Helper()
	for name, from := range map[string]string{
		"tenant": "../../plugins/tenant-router/tenant-router.wasm", "probe": "../wasm/proxywasm/testdata/probe.wasm", "hostile": "testdata/hostile.wasm",
		"rewriter": "../wasm/proxywasm/testdata/probe.wasm", "redact": "../wasm/httpwasm/testdata/kit.wasm",
	} {
		b, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name+".wasm"), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	config = fmt.Sprintf(`
  tenant: { module: %[1]s/tenant.wasm, upstreams: [one, two], config: { default: one, tenants: { acme: two, globex: one } } }
  again: { module: %[1]s/rewriter.wasm, config: "request set 0 :path /again/exact\nrequest set 0 x-round 2" }
  answers: { module: %[1]s/probe.wasm, config: "request respond 418 teapot -1 x-answer yes" }
  trap: { module: %[1]s/hostile.wasm, config: "line breaks", breaker: { failures: 1000000 } }
  opens: { module: %[1]s/hostile.wasm, config: "out of range", on_error: fail_open, breaker: { failures: 1000000 } }
`, dir)
	names = []string{"tenant", "again", "answers", "opens"}
	if !whole {
		return names, nil, config
	}
	for _, name := range []string{"ip-allow", "header-policy", "redirects", "rate-limit", "canary-split"} {
		b, err := os.ReadFile(goPlugin(t, "../../plugins/"+name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name+".wasm"), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	config += fmt.Sprintf(`
  office: { module: %[1]s/ip-allow.wasm, config: { allow: [127.0.0.0/8, 192.0.2.0/24], deny: [192.0.2.66], body: "not from here\n" } }
  headers: { module: %[1]s/header-policy.wasm, config: { request: { remove: [x-role], set: { x-client: "{client}", x-entry: "{method} {host} via {route}" }, rename: { x-tier: x-rank } }, response: { set: { x-served: "{status} by {route}" } } } }
  moved: { module: %[1]s/redirects.wasm, config: { rules: [{ path: /old, to: /new }, { prefix: /blog, to: /news }, { regex: "^/r1/([a-z]+)$", to: "/R/$1" }] } }
  limits: { module: %[1]s/rate-limit.wasm, state: [buckets], config: { store: buckets, headers: false, limits: { user: { key: "{header.x-user}", rate: 5/d } } } }
  canary: { module: %[1]s/canary-split.wasm, upstreams: [two, three], config: { variants: { stable: { weight: 70, upstream: two }, canary: { weight: 30, upstream: three } }, force: "{header.x-canary}", key: "{client}", header: x-variant } }
`, dir)
	return append(names, "office", "headers", "limits", "canary"), []string{"moved", "headers"}, config
}

// TestExplainAgreesWithWhatHappens asks about random requests, sends each of them, and compares: the route, the upstream, the
// bytes that it got, or those of the gateway's own answer, and the error that it is about.
func TestExplainAgreesWithWhatHappens(t *testing.T) {
	requests, whole := 5_000, true
	if thorough() {
		requests = 10_000
	}
	if testing.Short() || raceEnabled || portableLoops {
		requests, whole = 400, false
	}
	dir := t.TempDir()
	names, listener, plugins := builtPlugins(t, dir, whole)
	accounts := map[string]*account{}
	collector := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer collector.Close()
	s := &explainSite{random: rand.New(rand.NewPCG(7, 7))}
	s.config.WriteString("telemetry: { access_log: { output: 'off' }, traces: { endpoint: '" + collector.URL + "', sample: 1.0 } }\n" +
		"admin: { address: '' }\nplugin_cache: { dir: 'off' }\nlisteners: [{ name: test, address: '127.0.0.1:0', trusted_proxies: [127.0.0.5], forwarded: { headers: both }, plugins: [" +
		strings.Join(listener, ", ") + "] }]\nupstreams:\n")
	for _, name := range []string{"one", "two", "three"} {
		accounts[name] = startAccount(t, name)
		fmt.Fprintf(&s.config, "  %s: { targets: ['http://%s'] }\n", name, accounts[name].addr)
	}
	for _, name := range []string{"hashed", "sticky"} {
		var list []string
		for i := range 3 {
			key := fmt.Sprint(name, i)
			accounts[key] = startAccount(t, name)
			list = append(list, fmt.Sprintf("{ url: 'http://%s', route: s%d }", accounts[key].addr, i))
		}
		fmt.Fprintf(&s.config, "  %s: { targets: [%s], %s }\n", name, strings.Join(list, ", "), map[string]string{"hashed": "balance: hash(header x-user)", "sticky": "sticky: { cookie: lane }"}[name])
	}
	accounts["dynamic"] = startAccount(t, "dynamic")
	_, port, _ := net.SplitHostPort(accounts["dynamic"].addr)
	fmt.Fprintf(&s.config, "  dynamic: { dynamic: { allow: ['127.0.0.1:%s'] }, host: upstream }\n", port)
	s.config.WriteString("  down: { targets: [{ url: 'http://192.0.2.1', state: disabled }] }\nplugins:" + plugins + "routes:\n")
	for i := range 199 {
		if i == 30 { // where those come that are sent back to the routes
			s.config.WriteString("  - { name: again, match: { path: /again/exact, headers: { x-round: '2' } }, upstream: three, request_headers: { remove: [x-round] } }\n")
			s.config.WriteString("  - { name: traps, match: { path: /trap }, plugins: [trap], upstream: one }\n")
			continue
		}
		if i == 31 {
			s.config.WriteString("  - { name: admin, match: { path_prefix: /admin }, plugins: [tenant], upstream: one }\n")
			fmt.Fprintf(&s.config, "  - { name: captured, match: { path_regex: '^/to/([a-z0-9.-]*)' }, upstream: dynamic, authority: '$1:%s' }\n", port)
			s.paths = append(s.paths, "/to/127.0.0.1", "/to/192.0.2.1", "/to/")
			continue
		}
		s.route(i, names)
	}
	ended := make(ends, 16)
	c, _, err := config.Load(config.Source{File: "test.yaml", Data: []byte(s.config.String())})
	if err != nil {
		t.Fatal(err)
	}
	g, err := gateway.New(gateway.Options{Config: c, Log: zerolog.New(&testkit.Buffer{}), Watcher: ended})
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	if err := g.Start(); err != nil {
		t.Fatal(err)
	}
	to := g.Addr("test").String()
	clients := []*speaker{{t: t, from: "127.0.0.1", to: to}, {t: t, from: "127.0.0.5", to: to}}
	defer clients[0].close()
	defer clients[1].close()
	seen := map[string]int{}
	for i := range requests {
		r := s.request()
		if i%100 == 50 && i < 300 { // after three failures in a row the gateway waits before it makes another instance
			r = explain.Request{URL: "http://a.example/trap"}
		}
		client := clients[s.random.IntN(2)]
		client.dial()
		r.Client = client.conn.LocalAddr().String()
		u, err := explain.ParseURL(r.URL)
		if err != nil {
			t.Fatal(err)
		}
		sent, err := r.Bytes(u)
		if err != nil {
			t.Fatal(err)
		}
		e, err := g.Explain(context.Background(), r)
		if err != nil {
			t.Fatalf("%d: %+v: %v", i, r, err)
		}
		answer := client.say(sent, r.Method)
		end := <-ended
		if wrong := disagree(e, end, answer, accounts); wrong != "" {
			t.Fatalf("request %d:\n%.1000s\n%s", i, sent, wrong)
		}
		if seen[e.Outcome]++; e.Upstream != nil && e.Outcome == explain.Forwarded && chosen(e) != "" {
			seen["chosen of "+e.Upstream.Name]++
		}
		seen["kind "+e.Kind]++
		for _, step := range e.Steps {
			if p := step.Plugin; p != nil {
				seen[p.Name+" "+p.Decision]++
			}
		}
		if strings.HasPrefix(answer, "HTTP/1.1 4") && strings.Contains(answer, "malformed") {
			client.close()
		}
	}
	t.Logf("%v", seen)
	wanted := []string{"forwarded", "answered", "kind no_route", "kind no_target_available", "kind malformed", "kind plugin_answer", "again rematch", "answers respond", "tenant route", "tenant deny", "opens fail_open"}
	if whole {
		wanted = append(wanted, "chosen of hashed", "chosen of sticky", "chosen of dynamic", "kind denied", "limits respond", "limits continue", "office respond", "moved respond", "canary route", "headers continue")
	}
	for _, outcome := range wanted {
		if seen[outcome] == 0 {
			t.Errorf("no request came to %s", outcome)
		}
	}
}

// chosen is the address that an explanation is sure of; "": it is not.
func chosen(e *explain.Explanation) string {
	for _, m := range e.Upstream.Members {
		if m.Choice == explain.Chosen {
			return m.Address
		}
	}
	return ""
}

// disagree says where an explanation and what has happened differ.
func disagree(e *explain.Explanation, end ended, answer string, accounts map[string]*account) string {
	got := ""
	for _, a := range accounts {
		select {
		case bytes := <-a.got:
			got += a.name + ": " + bytes
		default:
		}
	}
	want := ""
	if e.Sent != nil {
		want = e.Upstream.Name + ": " + written(e.Sent)
	}
	switch {
	case e.Route != end.route:
		return "the route was " + strconv.Quote(end.route) + ", explained was " + strconv.Quote(e.Route)
	case e.Error != end.err:
		return "the error was " + strconv.Quote(end.err) + ", explained was " + strconv.Quote(e.Error)
	case shape(got) != shape(want):
		return "the upstream got\n" + shape(got) + "\nexplained was\n" + shape(want)
	case e.Outcome == explain.Forwarded && (end.upstream != e.Upstream.Name || !strings.HasPrefix(answer, "HTTP/1.1 200 ")):
		return "it was forwarded to " + end.upstream + " and answered with " + answer
	case e.Outcome == explain.Forwarded && chosen(e) != "" && chosen(e) != end.address:
		return "it went to " + end.address + ", explained was " + chosen(e)
	case e.Outcome == explain.Answered && shape(answer) != shape(written(e.Answer)):
		return "the answer was\n" + shape(answer) + "\nexplained was\n" + shape(written(e.Answer))
	case e.Outcome == explain.Closed && answer != "":
		return "the answer was\n" + answer + "\nexplained was a connection that is closed"
	}
	return ""
}
