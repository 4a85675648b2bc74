package gateway_test

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"wasmgate/runtime/internal/testkit"
)

// ground is where attacks take place: a gateway with one loop, by TLS or not, in front of a backend. Whoever is beside an attack is so on that
// loop.
type ground struct {
	*plant
	dial  func() net.Conn
	asked *atomic.Int64 // requests that have come to the backend
	busy  *atomic.Int64 // those that it is at
}

// What clients are given in these tests: body_idle_timeout; and head_timeout, within which a busy machine has to read on where a head was
// read in part.
const patience, headPatience = 500 * time.Millisecond, 2 * time.Second

// onGrounds runs a test in cleartext and by TLS.
func onGrounds(t *testing.T, test func(t *testing.T, g *ground)) {
	for _, secure := range []bool{false, true} {
		name := map[bool]string{false: "h2c", true: "h2 by TLS"}[secure]
		t.Run(name, func(t *testing.T) { test(t, newGround(t, secure)) })
	}
}

func newGround(t *testing.T, secure bool) *ground {
	t.Helper()
	g := &ground{asked: &atomic.Int64{}, busy: &atomic.Int64{}}
	over, piece := make(chan struct{}), make([]byte, 32<<10)
	web := newBackend(t, func(w http.ResponseWriter, r *http.Request) {
		g.asked.Add(1)
		g.busy.Add(1)
		defer g.busy.Add(-1)
		switch r.URL.Path {
		case "/large":
			for range 4 << 20 / len(piece) {
				_, _ = w.Write(piece)
				runtime.Gosched() // 800 of these at once are beside the gateway's loop on the test's own CPUs
			}
		case "/slow":
			_, _ = io.Copy(io.Discard, r.Body) // before its end nobody sees that the connection goes
			<-r.Context().Done()
		case "/stuck":
			<-over
		case "/read":
			n, err := io.Copy(io.Discard, r.Body)
			fmt.Fprint(w, n, err)
		default:
			fmt.Fprint(w, "hello")
		}
	})
	text := fmt.Sprintf("loops: 1\nlimits: { body_idle_timeout: %v, head_timeout: %v }\nupstreams: { web: { targets: ['%s'] } }\n%s", patience, headPatience, web, h2Routes)
	var trust *tls.Config
	if secure {
		a := newIssuer(t)
		text = "listeners: [" + a.listener("") + "]\n" + text
		trust = a.trust()
		trust.NextProtos = []string{"h2"}
	}
	g.plant = startPlant(t, text)
	t.Cleanup(func() { close(over) })
	g.dial = func() net.Conn {
		var c net.Conn
		var err error
		if secure {
			c, err = tls.Dial("tcp", g.addr.String(), trust)
		} else {
			c, err = net.Dial("tcp", g.addr.String())
		}
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	return g
}

// beside runs an attack while another client asks, whose answers must be right, and come soon. It looks meanwhile at how much more memory is in
// use than before, which must not be more than so many bytes; the attacker's own is among it.
func (g *ground) beside(t *testing.T, most int64, attack func(t *testing.T)) {
	t.Helper()
	despiteStalls(t, func(wrong func(format string, args ...any)) { g.look(t, most, attack, wrong) })
}

// look is one try at beside. An answer that comes late is told as wrong.
func (g *ground) look(t *testing.T, most int64, attack func(t *testing.T), wrong func(format string, args ...any)) {
	t.Helper()
	v := newH2(t, g.dial())
	_ = v.WriteWindowUpdate(0, 1<<30) // of what is read nothing is given back
	id, slowest, largest := uint32(1), time.Duration(0), int64(0)
	ask := func() {
		begun := time.Now()
		_ = v.get(id, "/")
		if status, body, code := v.answer(id); status != "200" || body != "hello" || code != 0 {
			t.Errorf("another client's request: %s %q %v", status, body, code)
		}
		id += 2
		slowest = max(slowest, time.Since(begun))
	}
	ask()
	before := heap()
	done := make(chan struct{})
	go func() {
		defer close(done)
		attack(t)
	}()
	for n := 0; !t.Failed(); n++ {
		ask()
		if n%20 == 0 {
			largest = max(largest, inUse()-before)
		}
		select {
		case <-done:
			if n >= 20 {
				t.Logf("%d answers beside it, the slowest after %v; %d KiB more in use", n+1, slowest.Round(10*time.Microsecond), largest>>10)
				if slowest > 3*time.Second {
					wrong("a request of another client took %v", slowest)
				}
				if largest > most {
					t.Errorf("that is more than %d KiB", most>>10)
				}
				return
			}
		default:
		}
	}
	<-done
}

func inUse() int64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapInuse + m.StackInuse) //nolint:gosec // far below
}

// foe2 is a client that does its worst, and hears how that is taken.
type foe2 struct {
	*h2Raw
	mu   sync.Mutex
	code http2.ErrCode // of GOAWAY
	resets,
	statuses map[string]int // by code
	answered chan [8]byte // PING that was answered
	over     chan struct{}
}

// attack connects, and reads what comes from then on.
func (g *ground) attack(t *testing.T, settings ...http2.Setting) *foe2 {
	f := &foe2{h2Raw: newH2(t, g.dial(), settings...), answered: make(chan [8]byte, 1<<16), over: make(chan struct{}), resets: map[string]int{}, statuses: map[string]int{}}
	go f.listen()
	return f
}

func (f *foe2) listen() {
	defer close(f.over)
	for {
		frame, err := f.ReadFrame()
		if err != nil {
			return
		}
		f.mu.Lock()
		switch frame := frame.(type) {
		case *http2.GoAwayFrame:
			f.code = frame.ErrCode
		case *http2.RSTStreamFrame:
			f.resets[frame.ErrCode.String()]++
		case *http2.MetaHeadersFrame:
			f.statuses[frame.PseudoValue("status")]++
		case *http2.PingFrame:
			if frame.IsAck() {
				f.answered <- frame.Data
			}
		}
		f.mu.Unlock()
	}
}

// fence says whether all that was sent so far has been taken: it is false when the connection is over.
func (f *foe2) fence() bool {
	if f.WritePing(false, [8]byte{'f', 'e', 'n', 'c', 'e'}) != nil {
		return false
	}
	for {
		select {
		case data := <-f.answered:
			if data == [8]byte{'f', 'e', 'n', 'c', 'e'} {
				return true
			}
		case <-f.over:
			return false
		}
	}
}

// ended waits for the end, and returns the code that was told.
func (f *foe2) ended(t *testing.T) http2.ErrCode {
	t.Helper()
	select {
	case <-f.over:
	case <-time.After(30 * time.Second):
		t.Error("the connection stays")
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.code
}

// heard is how often a code of a reset, or a status, came.
func (f *foe2) heard(what string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.resets[what] + f.statuses[what]
}

// tell says what came, in a test that has failed.
func (f *foe2) tell(t *testing.T) {
	if f.mu.Lock(); t.Failed() {
		t.Logf("statuses %v, resets %v, GOAWAY %v", f.statuses, f.resets, f.code)
	}
	f.mu.Unlock()
}

func to(method, path string, more ...string) []string {
	return append([]string{":method", method, ":scheme", "http", ":authority", "h", ":path", path}, more...)
}

// TestFloods: frames that move nothing forward end their connection with ENHANCE_YOUR_CALM, after no more of them than a connection may send in
// a second, however often the attacker comes again.
func TestFloods(t *testing.T) {
	const again, batch = 4, 50
	onGrounds(t, func(t *testing.T, g *ground) {
		for name, a := range map[string]struct {
			most  int // frames that are taken in a second
			begin func(f *foe2)
			send  func(f *foe2, n int) error
		}{
			"rapid reset": {500, nil, func(f *foe2, n int) error {
				id := uint32(2*n + 1)
				_ = f.ask(id, true, to("GET", "/slow")...)
				return f.WriteRSTStream(id, http2.ErrCodeCancel)
			}},
			"rapid reset by the server": {500, nil, func(f *foe2, n int) error { // CVE-2025-8671
				id := uint32(2*n + 1)
				_ = f.ask(id, false, to("POST", "/slow")...)
				return f.WriteRawFrame(http2.FrameWindowUpdate, 0, id, make([]byte, 4))
			}},
			"PING":            {1000, nil, func(f *foe2, _ int) error { return f.WritePing(false, [8]byte{}) }},
			"SETTINGS":        {1000, nil, func(f *foe2, _ int) error { return f.WriteSettings() }},
			"SETTINGS, acks":  {1000, nil, func(f *foe2, _ int) error { return f.WriteSettingsAck() }},
			"PRIORITY":        {1000, nil, func(f *foe2, _ int) error { return f.WritePriority(1, http2.PriorityParam{StreamDep: 3}) }},
			"unknown frames":  {1000, nil, func(f *foe2, _ int) error { return f.WriteRawFrame(0xfa, 0, 0, make([]byte, 1000)) }},
			"windows that do": {1000, nil, func(f *foe2, _ int) error { return f.WriteWindowUpdate(0, 1) }},
			"empty DATA": {1000, func(f *foe2) { _ = f.ask(1, false, to("POST", "/read")...) }, func(f *foe2, _ int) error {
				return f.WriteData(1, false, nil)
			}},
			"empty DATA, padded": {1000, func(f *foe2) { _ = f.ask(1, false, to("POST", "/read")...) }, func(f *foe2, _ int) error {
				return f.WriteDataPadded(1, false, nil, make([]byte, 255))
			}},
			"moving windows of many streams": {100, func(f *foe2) {
				for n := range 100 {
					_ = f.ask(uint32(2*n+1), true, to("GET", "/slow")...)
				}
			}, func(f *foe2, n int) error {
				return f.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: uint32(n % 2 * 1000)})
			}},
		} {
			t.Run(name, func(t *testing.T) {
				g.beside(t, 48<<20, func(t *testing.T) {
					for range again {
						begun, f, n := time.Now(), g.attack(t), 0
						if a.begin != nil {
							a.begin(f)
						}
						for ok := true; ok; ok = f.fence() {
							for range batch {
								if ok = a.send(f, n) == nil; !ok {
									break
								}
								n++
							}
						}
						if code := f.ended(t); code != http2.ErrCodeEnhanceYourCalm {
							t.Errorf("ended with %v after %d", code, n)
						}
						if most := a.most*int(1+time.Since(begun)/time.Second) + batch; n > most {
							t.Errorf("%d of them were sent; %d are allowed", n, most)
						}
					}
				})
				testkit.Eventually(t, "the backend is left alone", func() bool { return g.busy.Load() == 0 })
			})
		}
	})
}
