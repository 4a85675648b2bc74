package gateway_test

import (
	"sync"
	"testing"

	"golang.org/x/net/http2"

	"wasmgate/runtime/internal/testkit"
)

// h2Holder is an upstream that answers a request when the test says so: each connection's requests wait until then.
type h2Holder struct {
	*h2Peer
	mu      sync.Mutex
	waiting []func()
	nth     []int // the connections that the requests came on
}

func startHolder(t *testing.T, streams uint32) *h2Holder {
	h := &h2Holder{}
	h.h2Peer = startH2Peer(t, nil, func(l *h2Link, m *http2.MetaHeadersFrame) {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.nth = append(h.nth, l.nth)
		id := m.StreamID
		h.waiting = append(h.waiting, func() { l.answer(id, "well") })
	}, http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: streams})
	return h
}

// arrived waits until so many requests have come that were not answered.
func (h *h2Holder) arrived(n int) {
	h.t.Helper()
	testkit.Eventually(h.t, "the requests are there", func() bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		return len(h.waiting) == n
	})
}

// answerAll answers those that wait.
func (h *h2Holder) answerAll() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, one := range h.waiting {
		one()
	}
	h.waiting = nil
}

// limit changes what a connection allows, and waits for the gateway to know.
func (h *h2Holder) limit(nth int, streams uint32) {
	h.t.Helper()
	l := func() *h2Link {
		h.h2Peer.mu.Lock()
		defer h.h2Peer.mu.Unlock()
		return h.links[nth-1]
	}()
	acks := func() (n int) {
		l.mu.Lock()
		defer l.mu.Unlock()
		for _, s := range l.said {
			if s == "SETTINGS" {
				n++
			}
		}
		return n
	}
	was := acks()
	h.mu.Lock() // no answer is in the midst of being written
	_ = l.WriteSettings(http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: streams})
	h.mu.Unlock()
	testkit.Eventually(h.t, "SETTINGS are acknowledged", func() bool { return acks() > was })
}

// asking asks n times at once, and returns what waits for the answers.
func asking(p *plant, n int) (wait func()) {
	var all sync.WaitGroup
	for range n {
		all.Go(func() {
			if a := p.ask("GET", "/"); a.status != 200 {
				p.Errorf("%d %s; %s", a.status, a.body, p.journal)
			}
		})
	}
	return all.Wait
}

// TestTheLimitOfStreamsChanges: what an upstream allows at a time is kept to from the moment on that it says so, and what does not
// fit any more goes on connections that are opened for it, or waits where there may be no more of them.
func TestTheLimitOfStreamsChanges(t *testing.T) {
	for _, c := range []struct {
		name  string
		keys  string
		limit uint32 // after two requests have come
		more  int    // so many are asked then
		now   int    // so many come at once, with those two
		conns int    // on so many connections
	}{
		{"lowered below what is open", "", 1, 3, 5, 2},
		{"lowered to 0", "", 0, 3, 5, 2},
		{"raised", "", 6, 4, 6, 1},
		{"lowered, and no further connection", "pool: { max_connections: 1, acquire_timeout: 20s }", 1, 3, 2, 1},
		{"lowered to 0, and no further connection", "pool: { max_connections: 1, acquire_timeout: 20s }", 0, 3, 2, 1},
		{"raised, and no further connection", "pool: { max_connections: 1, acquire_timeout: 20s }", 6, 4, 6, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := startHolder(t, 4)
			keys := ""
			if c.keys != "" {
				keys = ", " + c.keys
			}
			p := startPlant(t, "loops: 1\n"+h2Upstream(h.addr, keys)+h2Routes)
			first := asking(p, 2)
			h.arrived(2)
			h.limit(1, c.limit)
			second := asking(p, c.more)
			h.arrived(c.now)
			if c.now < c.more+2 {
				testkit.Eventually(t, "the others wait", func() bool { return p.upstream("web").Waiting == c.more+2-c.now })
			}
			if n := h.connections(); n != c.conns {
				t.Errorf("%d connections", n)
			}
			h.mu.Lock()
			for _, nth := range h.nth[2:] {
				if c.conns == 2 && nth != 2 {
					t.Errorf("a request came on connection %d", nth)
				}
			}
			h.mu.Unlock()
			done := make(chan struct{})
			go func() { defer close(done); first(); second() }()
			testkit.Eventually(t, "all are answered", func() bool {
				h.answerAll()
				select {
				case <-done:
					return true
				default:
					return false
				}
			})
			if n := h.count("RST_STREAM"); n != 0 {
				t.Errorf("%d streams were reset", n)
			}
		})
	}
}

// TestWhoWaitsIsServedWhenTheLimitIsRaised, although nothing else happens on the connection.
func TestWhoWaitsIsServedWhenTheLimitIsRaised(t *testing.T) {
	h := startHolder(t, 1)
	p := startPlant(t, "loops: 1\n"+h2Upstream(h.addr, ", pool: { max_connections: 1, acquire_timeout: 20s }")+h2Routes)
	wait := asking(p, 5)
	h.arrived(1)
	testkit.Eventually(t, "the others wait", func() bool { return p.upstream("web").Waiting == 4 })
	h.limit(1, 3)
	h.arrived(3)
	h.limit(1, 100)
	h.arrived(5)
	h.answerAll()
	wait()
	if n := h.connections(); n != 1 {
		t.Errorf("%d connections", n)
	}
}

// TestAnUpstreamThatAllowsNoStream: an idle connection on which nothing may be asked is closed, a new one is waited for until it
// allows something, and if it never does the error says so.
func TestAnUpstreamThatAllowsNoStream(t *testing.T) {
	h := startHolder(t, 4)
	p := startPlant(t, "loops: 1\n"+h2Upstream(h.addr, "")+h2Routes)
	for range 2 {
		wait := asking(p, 1)
		h.arrived(1)
		h.answerAll()
		wait()
	}
	testkit.Eventually(t, "the connection is idle", func() bool { return p.metric(`wasmgate_upstream_connections{upstream="web",state="idle"}`) == 1 })
	l := h.links[0]
	_ = l.WriteSettings(http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: 0})
	if last, _ := h.ended(); last != "GOAWAY 0 NO_ERROR" {
		t.Errorf("%s", last)
	}
	// The peer sees the end before it is told of.
	testkit.Eventually(t, "it was closed since it allows nothing", func() bool { return p.closedFor("max_requests") == 1 })

	late := startHolder(t, 0)
	q := startPlant(t, "loops: 1\n"+h2Upstream(late.addr, "")+h2Routes)
	wait := asking(q, 2)
	testkit.Eventually(t, "it is connected to", func() bool { return late.connections() == 1 && late.count("SETTINGS") >= 2 })
	_ = late.links[0].WriteSettings(http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: 2})
	late.arrived(2)
	late.answerAll()
	wait()

	never := startHolder(t, 0)
	r := startPlant(t, "loops: 1\n"+h2Upstream(never.addr, ", timeouts: { tls_handshake: 100ms }, retries: { attempts: 1 }")+h2Routes)
	if a := r.ask("GET", "/"); a.status != 504 {
		t.Errorf("%d %s", a.status, a.body)
	}
	if n := never.count("HEADERS"); n != 0 {
		t.Errorf("it was asked %d times", n)
	}
}
