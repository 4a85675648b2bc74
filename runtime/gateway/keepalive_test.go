package gateway_test

import (
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// raceTime is how long TestTheKeepAliveRace runs: WASMGATE_RACE, as in 60s.
func raceTime(t *testing.T) time.Duration {
	text := os.Getenv("WASMGATE_RACE")
	if text == "" {
		return 8 * time.Second
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		t.Fatalf("WASMGATE_RACE: %v", err)
	}
	return d
}

const answerTime = 30 * time.Millisecond

// lateAnswer is a backend's that takes so long that requests of one moment need a connection each.
func lateAnswer(fields string) func(io.Writer, *originRequest) bool {
	return func(w io.Writer, _ *originRequest) bool {
		time.Sleep(answerTime)
		_, err := io.WriteString(w, "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n"+fields+"\r\nok\n")
		return err == nil
	}
}

// racers post to a path at the very moment in which a backend closes the connections that have been idle for a second.
type racers struct {
	name, addr, path string
	backend          *origin // whose requests are counted
	learned          string  // what the pool has to say in the end; empty: it is not asked
	record           bool    // failures are for the record

	posts, failed atomic.Int64
	late          atomic.Int64           // nanoseconds by which a client, or its answer, was late at most
	first         atomic.Pointer[string] // failure
}

// rhythm is the time from one round of POSTs to the next: they come when their connections have been idle for a second.
const rhythm = time.Second + answerTime

// run is one client. All of them ask at the same moment, a few milliseconds up or down, so that each needs a connection of
// its own. In one round of four they do so at the time from which on wasmgate trusts no connection.
func (r *racers) run(t *testing.T, begin, until time.Time) {
	c := dialed(t, r.addr)
	for round := time.Duration(0); c != nil; round++ {
		at := begin.Add(round*rhythm + time.Duration(rand.IntN(10_000)-5_000)*time.Microsecond)
		if round%4 == 3 {
			at = at.Add(-time.Duration(rand.IntN(250)) * time.Millisecond)
		}
		if at.After(until) {
			_ = c.Close()
			return
		}
		time.Sleep(time.Until(at))
		r.posts.Add(1)
		head, body, err := c.try("POST " + r.path + " HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello")
		raise(&r.late, int64(time.Since(at)-answerTime))
		if err != nil || string(body) != "ok\n" {
			what := fmt.Sprint(err, head, string(body))
			r.failed.Add(1)
			r.first.CompareAndSwap(nil, &what)
		}
		if err != nil {
			_ = c.Close()
			c = dialed(t, r.addr)
		}
	}
}

// TestTheKeepAliveRace: a backend closes connections that were idle for a second, and POSTs come at that very moment, which
// nobody may send twice. None fails, none comes twice, and the pool says what it has learned. (Rows "learned idle timeout"
// and ping.) Beside it, for the record: wasmgate without all that, and HAProxy. The pool closes a tenth of the second earlier than
// the backend: there is another try where the machine stood still for about as long.
func TestTheKeepAliveRace(t *testing.T) {
	for try := 1; ; try++ {
		wrong, late := keepAliveRace(t)
		if len(wrong) == 0 {
			return
		}
		if late < 80*time.Millisecond || try == 4 {
			t.Fatal(strings.Join(wrong, "\n"))
		}
		t.Logf("try %d, in which an answer was late by %v: %s", try, late, strings.Join(wrong, "\n"))
	}
}

// keepAliveRace says what was wrong, and by how much an answer was late at most.
func keepAliveRace(t *testing.T) (wrong []string, late time.Duration) {
	t.Helper()
	errorf := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }
	backend := func(fields string) *origin {
		o := startOrigin(t, lateAnswer(fields))
		o.idle.Store(int64(time.Second))
		return o
	}
	behindNginx := startOrigin(t, lateAnswer(""))
	byNginx := startNginxLog(t, "", "keepalive_timeout 1s; location /behind { proxy_pass http://"+behindNginx.addr+"; }")
	hintedBehind := startOrigin(t, lateAnswer(""))
	hintedNginx := startNginxLog(t, "", "keepalive_timeout 1s 1s; location /behind { proxy_pass http://"+hintedBehind.addr+"; }")
	plain, pinged, hinted, bare, forHAProxy := backend(""), backend(""), backend("Keep-Alive: timeout=1\r\n"), backend(""), backend("")
	s := startSite(t, fmt.Sprintf(`
loops: 2
listeners: [{ name: test, address: '127.0.0.1:0' }]
upstreams:
  plain: { targets: ['http://%s'] }
  pinged: { targets: ['http://%s'], pool: { ping: expect_continue } }
  only_pinged: { targets: ['http://%[2]s'], pool: { ping: expect_continue, learn_idle_timeout: false } }
  hinted: { targets: ['http://%s'] }
  nginx: { targets: ['http://%s'] }
  nginx_hinted: { targets: ['http://%s'] }
  bare: { targets: ['http://%s'], pool: { ping: 'off', learn_idle_timeout: false } }
routes:
  - { match: { path_prefix: /plain }, upstream: plain }
  - { match: { path_prefix: /pinged }, upstream: pinged }
  - { match: { path_prefix: /only_pinged }, upstream: only_pinged }
  - { match: { path_prefix: /hinted }, upstream: hinted }
  - { match: { path_prefix: /nginx }, rewrite: { path: /behind }, upstream: nginx }
  - { match: { path_prefix: /nginx_hinted }, rewrite: { path: /behind }, upstream: nginx_hinted }
  - { match: { path_prefix: /bare }, upstream: bare }
`, plain.addr, pinged.addr, hinted.addr, byNginx.addr, hintedNginx.addr, bare.addr))
	const observed, field = "observed", "keep-alive field"
	all := []*racers{
		{name: "plain", backend: plain, learned: observed},
		{name: "pinged", backend: pinged, learned: observed},
		{name: "only_pinged"},
		{name: "hinted", backend: hinted, learned: field},
		{name: "nginx", backend: behindNginx, learned: observed},
		{name: "nginx_hinted", backend: hintedBehind, learned: field},
		{name: "bare", record: true},
		{name: "haproxy", record: true, addr: haproxy(t, "modes.cfg", "BACKEND="+forHAProxy.addr, "MODE=http", "REUSE=always", "OPTION=http-keep-alive")},
	}
	begin := time.Now().Add(10 * time.Millisecond)
	until := begin.Add(raceTime(t))
	var wg sync.WaitGroup
	for i, r := range all {
		if r.path = "/" + r.name; r.addr == "" {
			r.addr = s.at("test")
		}
		for range 32 {
			wg.Go(func() { r.run(t, begin.Add(time.Duration(i)*rhythm/time.Duration(len(all))), until) })
		}
	}
	wg.Wait()
	for _, r := range all {
		t.Logf("%-12s %d POSTs, %d failed", r.name, r.posts.Load(), r.failed.Load())
		if r.record {
			continue
		}
		late = max(late, time.Duration(r.late.Load()))
		if r.failed.Load() > 0 {
			errorf("%s: %d of %d POSTs failed, first: %s", r.name, r.failed.Load(), r.posts.Load(), *r.first.Load())
		}
		if r.backend != nil && r.name != "pinged" && r.backend.requests.Load() != r.posts.Load() {
			errorf("%s: %d POSTs were sent, and %d came", r.name, r.posts.Load(), r.backend.requests.Load())
		}
		if r.learned == "" {
			continue
		}
		p := s.pool(r.name)
		m := p.Members[0]
		retired := s.metric(fmt.Sprintf(`wasmgate_upstream_connections_closed_total{upstream="%s",reason="learned_idle_timeout"}`, r.name))
		t.Logf("%-12s the pool has learned %q (%s), and has retired %s connections for it", r.name, m.LearnedIdle, m.LearnedFrom, retired)
		d, err := time.ParseDuration(m.LearnedIdle)
		if err != nil || d < 900*time.Millisecond || d > 1250*time.Millisecond || m.LearnedFrom != r.learned {
			errorf("%s: the pool says that it has learned %q, %q", r.name, m.LearnedIdle, m.LearnedFrom)
		}
	}
	if got, want := pinged.requests.Load(), all[1].posts.Load()+all[2].posts.Load(); got != want {
		errorf("pinged: %d POSTs were sent, and %d came", want, got)
	}
	if s.closedFor("learned_idle_timeout") == 0 {
		errorf("no connection was retired before the backend closed it: %s", s.reasons())
	}
	t.Log(s.reasons())
	return wrong, late
}
