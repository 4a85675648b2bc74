package gateway_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"wasmgate/runtime/internal/testkit"
)

// oneUpstream is a gateway with one upstream, of which more is said, in YAML's flow style.
func oneUpstream(t *testing.T, addr, more string) *site {
	t.Helper()
	if more != "" {
		more = ", " + more
	}
	return startSite(t, fmt.Sprintf(`
loops: 2
listeners: [{ name: test, address: '127.0.0.1:0' }]
upstreams: { app: { targets: ['http://%s']%s } }
routes: [{ upstream: app }]
`, addr, more))
}

const (
	aGET  = "GET /x HTTP/1.1\r\nHost: h\r\n\r\n"
	aPOST = "POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello"
)

// together has n clients ask once each, at the same time, and returns their answers' heads and bodies.
func together(t *testing.T, addr string, n int, text string) (heads, bodies []string) {
	t.Helper()
	heads, bodies = make([]string, n), make([]string, n)
	var wg sync.WaitGroup
	for i := range n {
		c := call(t, addr)
		wg.Go(func() {
			head, body, err := c.try(text)
			if err != nil {
				t.Error(err)
			}
			heads[i], bodies[i] = head, string(body)
		})
	}
	wg.Wait()
	return heads, bodies
}

// holding is a backend's answer that is not given before release is called.
func holding() (answer func(io.Writer, *originRequest) bool, release func()) {
	gate := make(chan struct{})
	return func(w io.Writer, _ *originRequest) bool {
		<-gate
		_, err := io.WriteString(w, originOK)
		return err == nil
	}, sync.OnceFunc(func() { close(gate) })
}

// TestMaxConnectionsUnderLoad: max_connections holds for the whole process, counted at the backend, and nobody fails for
// it. (Row "max" of Upstream connection pool.)
func TestMaxConnectionsUnderLoad(t *testing.T) {
	o := startOrigin(t, func(w io.Writer, _ *originRequest) bool {
		time.Sleep(time.Millisecond)
		_, err := io.WriteString(w, originOK)
		return err == nil
	})
	s := oneUpstream(t, o.addr, "pool: { max_connections: 4, acquire_timeout: 10s }")
	var failed atomic.Int64
	var wg sync.WaitGroup
	for range 64 {
		c := call(t, s.at("test"))
		wg.Go(func() {
			for range 30 {
				if head, _, err := c.try(aGET); err != nil || !strings.HasPrefix(head, "HTTP/1.1 200") {
					failed.Add(1)
				}
			}
		})
	}
	wg.Wait()
	t.Logf("%d requests of 64 clients: at most %d connections at a time, %d in all; %d failed", o.requests.Load(), o.most.Load(), o.accepted.Load(), failed.Load())
	if o.most.Load() > 4 || failed.Load() > 0 {
		t.Error("the limit is 4, and nobody had to fail")
	}
}

// TestPoolExhausted: who waits for longer than acquire_timeout is told what is busy and which key says so, and who comes
// to a full queue is told at once. (Rows acquire of the pool, and "balancer timeout, maxconn + queue".)
func TestPoolExhausted(t *testing.T) {
	answer, release := holding()
	o := startOrigin(t, answer)
	defer release()
	s := oneUpstream(t, o.addr, "pool: { max_connections: 2, acquire_timeout: 300ms }, queue: { max: 1 }")
	var wg sync.WaitGroup
	for range 2 {
		c := call(t, s.at("test"))
		wg.Go(func() {
			if _, body, err := c.try(aGET); err != nil || string(body) != "ok\n" {
				t.Errorf("who has a connection: %q, %v", body, err)
			}
		})
	}
	testkit.Eventually(t, "two requests are there", func() bool { return o.requests.Load() == 2 })
	asked := 2
	for try := 1; ; try++ { // the queue is full for 300 ms: once more if the machine stood still for as long
		waiter := call(t, s.at("test"))
		over := make(chan struct{})
		began := time.Now()
		wg.Go(func() {
			defer close(over)
			head, body, err := waiter.try(aGET)
			took := time.Since(began)
			if err != nil || !strings.HasPrefix(head, "HTTP/1.1 503") || !strings.Contains(head, "Retry-After: 1\r\n") ||
				!strings.Contains(string(body), "pool exhausted: 2 of 2 busy for 300ms") || !strings.Contains(string(body), "see pool.max_connections") {
				t.Errorf("who waited: %v %q %q", err, head, body)
			}
			if took < 300*time.Millisecond || took > 5*time.Second {
				t.Errorf("it waited %s; acquire_timeout is 300ms", took)
			}
		})
		waits, late := false, false
		for !waits && !late {
			waits = s.pool("app").Waiting == 1
			select {
			case <-over:
				late = true
			default:
			}
		}
		head, body := call(t, s.at("test")).say(aGET)
		<-over
		asked += 2
		if waits && strings.HasPrefix(head, "HTTP/1.1 503") && strings.Contains(body, "pool exhausted: 2 of 2 busy and the queue is full") && strings.Contains(body, "see queue.max") {
			break
		}
		if try == 5 {
			t.Errorf("one waits, as the admin endpoint says: %v; who comes to a full queue: %q %q", waits, head, body)
			break
		}
	}
	testkit.Eventually(t, "its time is over", func() bool { return s.pool("app").Waiting == 0 })
	release()
	wg.Wait()
	for _, l := range s.lines(asked) {
		if l.Status == 503 && l.Error != "pool_exhausted" {
			t.Errorf("the access log says %+v", l)
		}
	}
}

// TestIdleConnectionsAboveKeepIdleClose: those above keep_idle close after idle_timeout, those below stay. (Row smax, ttl.)
func TestIdleConnectionsAboveKeepIdleClose(t *testing.T) {
	answer, release := holding()
	o := startOrigin(t, answer)
	s := oneUpstream(t, o.addr, "pool: { keep_idle: 2, idle_timeout: 200ms }")
	var wg sync.WaitGroup
	wg.Go(func() { together(t, s.at("test"), 6, aGET) })
	testkit.Eventually(t, "six requests are there", func() bool { return o.requests.Load() == 6 })
	release()
	wg.Wait()
	testkit.Eventually(t, "two are left, for the gateway too", func() bool {
		return o.open.Load() == 2 && s.closedFor("idle_timeout") == 4 && s.pool("app").Open == 2
	})
	time.Sleep(600 * time.Millisecond) // three times the timeout
	if got := o.open.Load(); got != 2 || s.closedFor("idle_timeout") != 4 {
		t.Errorf("%d connections are left: %s", got, s.reasons())
	}
	if p := s.pool("app"); p.Open != 2 || p.Idle != 2 {
		t.Errorf("the admin endpoint says %+v", p)
	}
	if o.answers(nil); true {
		call(t, s.at("test")).say(aGET)
	}
	if o.accepted.Load() != 6 {
		t.Error("a connection that was kept is not used")
	}
}

// TestConnectionsAreOpenedAhead: min_idle connections are there before anybody asks, and /readyz waits for them if it is
// told to. (Row min.)
func TestConnectionsAreOpenedAhead(t *testing.T) {
	// The backend's address is known before it listens.
	port := freePort(t)
	addr := fmt.Sprintf("127.0.0.1:%d", port)
	s := oneUpstream(t, addr, "pool: { min_idle: 3, ready: true }")
	status, text := s.admin("/readyz")
	if status != 503 || !strings.Contains(text, "upstream app: pool.min_idle connections are not open yet") {
		t.Errorf("without a backend /readyz says %d %q", status, text)
	}
	if status, _ := s.admin("/healthz"); status != 200 {
		t.Errorf("/healthz says %d", status)
	}
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	var accepted atomic.Int64
	server := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok\n") }),
		ConnState: func(_ net.Conn, state http.ConnState) {
			if state == http.StateNew {
				accepted.Add(1)
			}
		},
	}
	go func() { _ = server.Serve(ln) }()
	t.Cleanup(func() { _ = server.Close() })
	testkit.Eventually(t, "it is ready", func() bool { status, _ := s.admin("/readyz"); return status == 200 })
	if p := s.pool("app"); p.Idle != 3 {
		t.Errorf("ready with %+v", p)
	}
	testkit.Eventually(t, "the backend has accepted what was opened ahead", func() bool { return accepted.Load() == 3 && s.openedFor("prewarm") == 3 })
	for range 5 {
		call(t, s.at("test")).say(aGET)
	}
	for _, l := range s.lines(5) {
		if l.WhyNew != "" {
			t.Errorf("a request opened a connection although some were there: %+v", l)
		}
	}
}

// TestEveryConnectionHasAReason: why a connection was opened and closed is in the access log and in a metric. (Row
// disablereuse/enablereuse.)
func TestEveryConnectionHasAReason(t *testing.T) {
	opened := func(s *site, why string) string {
		return s.metric(`wasmgate_upstream_connections_opened_total{upstream="app",reason="` + why + `"}`)
	}
	reasons := func(lines []accessLine) (list []string) {
		for _, l := range lines {
			list = append(list, l.WhyNew+"/"+l.WhyClosed)
		}
		return list
	}
	ask := func(s *site, texts ...string) []string {
		c := call(t, s.at("test"))
		for _, text := range texts {
			c.say(text)
		}
		return reasons(s.lines(len(texts)))
	}
	t.Run("never", func(t *testing.T) {
		o := startOrigin(t, nil)
		s := oneUpstream(t, o.addr, "pool: { reuse: never }")
		got := ask(s, aGET, aGET, aPOST)
		if !slices.Equal(got, []string{"reuse_never/reuse_never", "reuse_never/reuse_never", "reuse_never/reuse_never"}) || o.used.Load() != 3 {
			t.Errorf("%v, %d connections", got, o.used.Load())
		}
		if m := opened(s, "reuse_never"); m != "3" {
			t.Errorf("the metric says %q", m)
		}
		said := get(t, "http://"+s.AdminAddr().String()+"/upstreams/app")
		for _, counts := range []string{"requests_on_new_connections_by_reason", "connections_opened_by_reason", "connections_closed_by_reason"} {
			if !regexp.MustCompile(`"` + counts + `": \{\s+"reuse_never": 3\s+\}`).MatchString(said) {
				t.Errorf("the admin endpoint does not say %s:\n%s", counts, said)
			}
		}
	})
	t.Run("safe", func(t *testing.T) {
		o := startOrigin(t, nil)
		s := oneUpstream(t, o.addr, "pool: { reuse: safe }")
		got := ask(s, aGET, aGET, aPOST, aGET)
		if !slices.Equal(got, []string{"first/", "/", "reuse_safe/", "/"}) || o.used.Load() != 2 {
			t.Errorf("%v, %d connections", got, o.used.Load())
		}
		if m := opened(s, "reuse_safe"); m != "1" {
			t.Errorf("the metric says %q", m)
		}
	})
	t.Run("always", func(t *testing.T) {
		o := startOrigin(t, nil)
		s := oneUpstream(t, o.addr, "")
		ask(s, aGET, aPOST)
		o.answers(func(w io.Writer, _ *originRequest) bool {
			_, _ = io.WriteString(w, "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nok\n")
			return false
		})
		ask(s, aGET, aGET)
		if got := reasons(s.lines(4)); !slices.Equal(got, []string{"first/", "/", "/upstream_said_close", "first/upstream_said_close"}) &&
			!slices.Equal(got, []string{"first/", "/", "/upstream_said_close", "no_idle/upstream_said_close"}) {
			t.Errorf("%v", got)
		}
		if m := s.metric(`wasmgate_upstream_connections_closed_total{upstream="app",reason="upstream_said_close"}`); m != "2" {
			t.Errorf("the metric says %q", m)
		}
	})
}

// TestConnectionsRetireWithoutFailing: max_requests and max_age end connections between requests, and none is lost for it.
// (Row max_requests, max_age.)
func TestConnectionsRetireWithoutFailing(t *testing.T) {
	var most atomic.Int64
	o := startOrigin(t, func(w io.Writer, r *originRequest) bool {
		for was := most.Load(); int64(r.nth) > was && !most.CompareAndSwap(was, int64(r.nth)); was = most.Load() {
		}
		_, err := io.WriteString(w, originOK)
		return err == nil
	})
	for name, c := range map[string]struct{ pool, reason string }{
		"max_requests": {"max_requests: 10", "max_requests"},
		"max_age":      {"max_age: 100ms, max_age_jitter: 0.5", "max_age"},
	} {
		t.Run(name, func(t *testing.T) {
			most.Store(0)
			s := oneUpstream(t, o.addr, "pool: { "+c.pool+" }")
			var wg sync.WaitGroup
			var done, failed atomic.Int64
			// A second is plenty, but for a machine that stands still meanwhile.
			until := time.Now().Add(time.Second)
			goOn := func() bool {
				now := time.Now()
				return now.Before(until) || s.closedFor(c.reason) < 8 && now.Before(until.Add(20*time.Second))
			}
			for i := range 8 {
				text := aGET
				if i%2 == 0 {
					text = aPOST
				}
				client := call(t, s.at("test"))
				wg.Go(func() {
					for goOn() {
						if head, _, err := client.try(text); err != nil || !strings.HasPrefix(head, "HTTP/1.1 200") {
							failed.Add(1)
							return
						}
						done.Add(1)
					}
				})
			}
			wg.Wait()
			t.Logf("%d requests, %d failed, at most %d on a connection: %s", done.Load(), failed.Load(), most.Load(), s.reasons())
			if failed.Load() > 0 || s.closedFor(c.reason) < 8 || name == "max_requests" && most.Load() > 10 {
				t.Error("connections have to retire, and nobody has to notice")
			}
		})
	}
}

// fullBacklog is an address that answers no connection: so many wait to be accepted that the kernel takes no more.
func fullBacklog(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	raw, err := ln.(*net.TCPListener).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if e := raw.Control(func(fd uintptr) { err = syscall.Listen(int(fd), 0) }); e != nil || err != nil {
		t.Fatal(e, err)
	}
	for unanswered := 0; unanswered < 2; { // one may have been answered too late for a machine that stood still
		c, err := net.DialTimeout("tcp", ln.Addr().String(), 300*time.Millisecond)
		if err != nil {
			unanswered++
			continue
		}
		unanswered = 0
		t.Cleanup(func() { _ = c.Close() })
	}
	return ln.Addr().String()
}

// TestEveryTimeoutSaysWhichItWas: each expiry has a message of its own, which names its key, in the access log; the client
// sees 504, and 503 where nobody was asked. A route may have others than its upstream. (Row connectiontimeout, timeout,
// ProxyTimeout.)
func TestEveryTimeoutSaysWhichItWas(t *testing.T) {
	stop := make(chan struct{})
	silent := startOrigin(t, func(io.Writer, *originRequest) bool { <-stop; return false })
	half := startOrigin(t, func(w io.Writer, _ *originRequest) bool {
		_, _ = io.WriteString(w, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
		<-stop
		return false
	})
	mute, err := net.Listen("tcp", "127.0.0.1:0") // accepts by its backlog, and says nothing
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = mute.Close() })
	defer close(stop)
	s := startSite(t, fmt.Sprintf(`
listeners: [{ name: test, address: '127.0.0.1:0' }]
upstreams:
  dark: { targets: ['http://%s'], timeouts: { connect: 200ms }, retries: { attempts: 1 } }
  mute: { targets: ['https://%s'], timeouts: { tls_handshake: 210ms }, retries: { attempts: 1 } }
  silent: { targets: ['http://%s'], timeouts: { response_header: 220ms } }
  slow: { targets: ['http://%[3]s'], timeouts: { request: 230ms } }
  tried: { targets: ['http://%[3]s'], retries: { attempts: 1, per_try_timeout: 240ms } }
  half: { targets: ['http://%[4]s'], timeouts: { idle_read: 250ms } }
routes:
  - { match: { path: /dark }, upstream: dark }
  - { match: { path: /mute }, upstream: mute }
  - { match: { path: /silent }, upstream: silent }
  - { match: { path: /slow }, upstream: slow }
  - { match: { path: /tried }, upstream: tried }
  - { match: { path: /half }, upstream: half }
  - { match: { path: /sooner }, upstream: silent, timeouts: { response_header: 110ms } }
`, fullBacklog(t), mute.Addr(), silent.addr, half.addr))
	for i, c := range []struct {
		path, kind, key string
		limit           time.Duration
		status          int
	}{
		{"/dark", "connect_timeout", "timeouts.connect", 200 * time.Millisecond, 504},
		{"/mute", "tls", "timeouts.tls_handshake", 210 * time.Millisecond, 504},
		{"/silent", "response_header_timeout", "timeouts.response_header", 220 * time.Millisecond, 504},
		{"/slow", "request_timeout", "timeouts.request", 230 * time.Millisecond, 504},
		{"/tried", "response_header_timeout", "retries.per_try_timeout", 240 * time.Millisecond, 504},
		{"/sooner", "response_header_timeout", "timeouts.response_header", 110 * time.Millisecond, 504},
		{"/half", "idle_read_timeout", "timeouts.idle_read", 250 * time.Millisecond, 200},
	} {
		began := time.Now()
		head, body, err := call(t, s.at("test")).try("GET " + c.path + " HTTP/1.1\r\nHost: h\r\n\r\n")
		took := time.Since(began)
		l := s.lines(i + 1)[i]
		t.Logf("%-8s %s: %d %s: %s", c.path, took.Round(time.Millisecond), l.Status, l.Error, l.Detail)
		if c.status == 504 && (err != nil || !strings.HasPrefix(head, "HTTP/1.1 504") || !strings.Contains(string(body), c.kind)) {
			t.Errorf("%s: %v %q %q", c.path, err, head, body)
		}
		if c.status == 200 && err == nil {
			t.Errorf("%s: an answer that was cut off is taken for whole: %q", c.path, body)
		}
		if l.Path != c.path || l.Status != c.status || l.Error != c.kind || !strings.Contains(l.Detail, c.key) {
			t.Errorf("%s: the access log says %+v; want %d %s and %s", c.path, l, c.status, c.kind, c.key)
		}
		if took < c.limit || took > c.limit+2*time.Second {
			t.Errorf("%s: it took %s; the limit is %s", c.path, took, c.limit)
		}
	}
}

// TestAnUpstreamOfHTTP10: what clients speak and what the upstream speaks are two things. (Row "HTTP/1.0 upstreams".)
func TestAnUpstreamOfHTTP10(t *testing.T) {
	saying := func(says string) func(io.Writer, *originRequest) bool {
		return func(w io.Writer, r *originRequest) bool {
			_, _ = fmt.Fprintf(w, "HTTP/1.0 200 OK\r\nContent-Length: %d\r\n%s\r\n%s", len(r.body), says, r.body)
			return says != ""
		}
	}
	o := startOrigin(t, saying("Connection: keep-alive\r\n"))
	s := oneUpstream(t, o.addr, "protocol: http1.0")
	c := call(t, s.at("test"))
	head, body := c.say("POST /x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n4\r\ndefg\r\n0\r\n\r\n")
	if !strings.HasPrefix(head, "HTTP/1.1 200") || body != "abcdefg" {
		t.Errorf("%q %q", head, body)
	}
	if got := strings.ToLower(o.last()); !strings.HasPrefix(got, "post /x http/1.0\r\n") || !strings.Contains(got, "\r\nconnection: keep-alive") ||
		!strings.Contains(got, "\r\ncontent-length: 7") || strings.Contains(got, "transfer-encoding") || !strings.Contains(got, "\r\nhost: ") {
		t.Errorf("the upstream was sent %q", o.last())
	}
	for range 4 {
		c.say(aGET)
	}
	if o.used.Load() != 1 {
		t.Errorf("%d connections although the upstream says keep-alive", o.used.Load())
	}
	o.answers(saying(""))
	for range 3 {
		c.say(aGET)
	}
	if o.used.Load() != 3 || s.closedFor("http10_no_keepalive") != 3 {
		t.Errorf("%d connections; the first of three requests had one already: %s", o.used.Load(), s.reasons())
	}
}

// TestHowLongClientsStay: max_requests, max_age, and what clients are told of it; nothing of it concerns the upstream's
// connections. (Rows KeepAlive and "the header is missing".)
func TestHowLongClientsStay(t *testing.T) {
	o := startOrigin(t, nil)
	s := startSite(t, fmt.Sprintf(`
listeners:
  - { name: counted, address: '127.0.0.1:0', keep_alive: { max_requests: 3, idle_timeout: 20s }, advertise_keep_alive: true }
  - { name: aged, address: '127.0.0.1:0', keep_alive: { max_age: 300ms } }
  - { name: idle, address: '127.0.0.1:0', keep_alive: { idle_timeout: 200ms } }
  - { name: plain, address: '127.0.0.1:0', keep_alive: { max_requests: 5 } }
upstreams: { app: { targets: ['http://%s'] } }
routes: [{ upstream: app }]
`, o.addr))
	said := regexp.MustCompile(`(?im)^(connection|keep-alive): *(.*?)\r?$`)
	fields := func(head string) (list []string) {
		for _, m := range said.FindAllStringSubmatch(head, -1) {
			list = append(list, m[2])
		}
		slices.Sort(list)
		return list
	}
	c := call(t, s.at("counted"))
	for i, want := range [][]string{{"keep-alive", "timeout=20, max=2"}, {"keep-alive", "timeout=20, max=1"}, {"close"}} {
		if head, _ := c.say(aGET); !slices.Equal(fields(head), want) {
			t.Errorf("answer %d says %v; want %v", i+1, fields(head), want)
		}
	}
	if !c.ended() {
		t.Error("the connection stays after max_requests")
	}
	for try := 1; ; try++ { // it is not young any more if the machine stood still: then another one
		began := time.Now()
		c = call(t, s.at("aged"))
		head, _ := c.say(aGET)
		if fields(head) == nil {
			break
		}
		if time.Since(began) < 300*time.Millisecond || try == 5 {
			t.Errorf("a young connection says %v", fields(head))
			break
		}
	}
	time.Sleep(350 * time.Millisecond)
	if head, _ := c.say(aGET); !slices.Equal(fields(head), []string{"close"}) || !c.ended() {
		t.Errorf("a connection older than max_age says %v", fields(head))
	}
	c = call(t, s.at("idle"))
	began := time.Now() // before the request, since its answer may reach us late
	c.say(aGET)
	if !c.ended() || time.Since(began) < 150*time.Millisecond {
		t.Errorf("an idle connection was closed after %s; idle_timeout is 200ms", time.Since(began))
	}
	c = call(t, s.at("plain"))
	if head, _ := c.say("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"); !slices.Contains(fields(head), "keep-alive") {
		t.Errorf("a client of HTTP/1.0 that asks for keep-alive is told %v", fields(head))
	}
	if head, _ := c.say("GET / HTTP/1.0\r\n\r\n"); slices.Contains(fields(head), "keep-alive") || !c.ended() {
		t.Errorf("one that does not is told %v", fields(head))
	}
	if o.used.Load() != 1 {
		t.Errorf("%d connections to the upstream; the clients' ends are no reason for a second", o.used.Load())
	}
}
