package gateway_test

import (
	"bytes"
	"fmt"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"wasmgate/runtime/internal/testkit"
)

// TestStalls: clients that take nothing, or hardly anything, or send nothing, hold what windows and buffers allow, until their time is over.
func TestStalls(t *testing.T) {
	const conns, streams = 8, 100
	onGrounds(t, func(t *testing.T, g *ground) {
		for name, a := range map[string]struct {
			each  int64 // bytes of memory for a connection of 100 requests: both sides, the backend, and what is garbage already
			begin []http2.Setting
			ask   func(f *foe2, id uint32)
			drip  func(f *foe2) error // again and again
			code  http2.ErrCode       // the connection's
			heard string              // what came of each request; "": the connection ends before
		}{
			"zero window": {16 << 20, []http2.Setting{{ID: http2.SettingInitialWindowSize, Val: 0}},
				func(f *foe2, id uint32) { _ = f.ask(id, true, to("GET", "/large")...) }, nil, 0, "INTERNAL_ERROR"},
			"windows of a byte": {16 << 20, []http2.Setting{{ID: http2.SettingInitialWindowSize, Val: 1}},
				func(f *foe2, id uint32) { _ = f.ask(id, true, to("GET", "/large")...) },
				func(f *foe2) error { return f.WriteWindowUpdate(1, 1) }, http2.ErrCodeEnhanceYourCalm, ""},
			"slow POST": {16 << 20, nil, func(f *foe2, id uint32) {
				_ = f.ask(id, false, to("POST", "/read", "content-length", "1000000")...)
				_ = f.WriteData(id, false, []byte("x"))
			}, nil, 0, "408"},
			"slow POST, windows full": {16 << 20, nil, func(f *foe2, id uint32) {
				_ = f.ask(id, false, to("POST", "/stuck")...)
				if id < 32 {
					for range 4 {
						_ = f.WriteData(id, false, make([]byte, 16<<10-1))
					}
				}
			}, nil, 0, "408"},
		} {
			t.Run(name, func(t *testing.T) {
				g.beside(t, conns*a.each, func(t *testing.T) {
					var foes []*foe2
					for range conns {
						f := g.attack(t, a.begin...)
						for n := range streams {
							a.ask(f, uint32(2*n+1))
						}
						foes = append(foes, f)
					}
					for _, f := range foes {
						for ok := a.drip != nil; ok; ok = f.fence() {
							for range 50 { // more in a second than is allowed, however slow the machine is
								_ = a.drip(f)
							}
						}
						if a.code != 0 {
							if code := f.ended(t); code != a.code {
								t.Errorf("ended with %v", code)
							}
							continue
						}
						t.Cleanup(func() { f.tell(t) })
						testkit.Eventually(t, "each request has ended", func() bool { return f.heard(a.heard) == streams })
						f.conn.Close()
					}
				})
			})
		}
	})
}

// TestSlowRead: clients that leave everything in their sockets, whatever windows they give, hold one backlog each, and are given up.
func TestSlowRead(t *testing.T) {
	const conns, streams = 8, 100
	onGrounds(t, func(t *testing.T, g *ground) {
		g.beside(t, conns*16<<20, func(t *testing.T) {
			before := g.asked.Load()
			for range conns {
				v := newH2(t, g.dial(), http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1<<31 - 1})
				_ = v.WriteWindowUpdate(0, 1<<30)
				for n := range streams {
					_ = v.ask(uint32(2*n+1), true, to("GET", "/large")...)
				}
			}
			testkit.Eventually(t, "they are all there", func() bool { return g.asked.Load() >= before+conns*streams/2 })
			// Or their connections are: whichever is late first, the answers or what is to be written.
			testkit.Eventually(t, "the answers are given up", func() bool { return g.busy.Load() == 0 })
		})
	})
}

// TestHeadAttacks: heads that never end, or that say little and mean much, end their connections at once, or are answered by 431, and cost no
// more memory than a head may have.
func TestHeadAttacks(t *testing.T) {
	onGrounds(t, func(t *testing.T, g *ground) {
		begin := func(f *foe2) {
			_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte{0x83}}) // :method POST, and more to come
		}
		for name, a := range map[string]struct {
			code http2.ErrCode
			do   func(f *foe2)
		}{
			"CONTINUATION, empty": {http2.ErrCodeEnhanceYourCalm, func(f *foe2) {
				begin(f)
				for range 65 { // not one more is needed
					_ = f.WriteContinuation(1, false, nil)
				}
			}},
			"CONTINUATION, full": {http2.ErrCodeEnhanceYourCalm, func(f *foe2) {
				begin(f)
				for n := range 5 { // 80 KiB
					_ = f.WriteContinuation(1, false, append([]byte{0x00, 1, byte('a' + n), 0x7f, 0xfe, 0x7b}, bytes.Repeat([]byte("x"), 16<<10-6)...))
				}
			}},
			"a string that is too long": {http2.ErrCodeCompression, func(f *foe2) {
				begin(f)
				_ = f.WriteContinuation(1, false, []byte{0x00, 1, 'a', 0x7f, 0xff, 0xff, 0x7f})
			}},
			"a table that is too large": {http2.ErrCodeCompression, func(f *foe2) {
				_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte{0x3f, 0xe1, 0xff, 0xff, 0x7f}, EndHeaders: true})
			}},
			"an integer without end": {http2.ErrCodeCompression, func(f *foe2) {
				_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: append([]byte{0x3f}, bytes.Repeat([]byte{0xff}, 20)...), EndHeaders: true})
			}},
			"half a head": {http2.ErrCodeEnhanceYourCalm, begin},
			"a head that drips": {http2.ErrCodeEnhanceYourCalm, func(f *foe2) {
				_, _ = f.conn.Write([]byte{0, 0, 100, 1, 4, 0, 0, 0, 1, 0x83})
			}},
		} {
			t.Run(name, func(t *testing.T) {
				g.beside(t, 24<<20, func(t *testing.T) {
					var foes []*foe2
					for range 8 {
						foes = append(foes, g.attack(t))
						a.do(foes[len(foes)-1])
					}
					for _, f := range foes {
						if code := f.ended(t); code != a.code {
							t.Errorf("ended with %v", code)
						}
					}
				})
			})
		}
		t.Run("header bomb", func(t *testing.T) { g.beside(t, 24<<20, g.bomb) })
		t.Run("table sizes", func(t *testing.T) { g.beside(t, 24<<20, g.resizes) })
	})
}

// bomb names a large field of the table 16,000 times in a frame, which would be 64 MB of head.
func (g *ground) bomb(t *testing.T) {
	const bombs = 40
	f := g.attack(t)
	_ = f.ask(1, true, to("GET", "/", "bomb", strings.Repeat("x", 3900))...)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for n := range bombs {
		block := append([]byte{0x82, 0x86, 0x84, 0x41, 0x01, 'h'}, bytes.Repeat([]byte{0xbf}, 16<<10-6)...) // the newest but one: :authority came behind it
		if n > 0 {
			block[3] = 0xbe // which is there already
			block = append(block[:4], block[6:]...)
		}
		_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: uint32(2*n + 3), BlockFragment: block, EndStream: true, EndHeaders: true})
	}
	testkit.Eventually(t, "each is answered", func() bool { return f.heard("431") == bombs })
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; n > 64<<20 { // of all who are there, for what would be 2.5 GB
		t.Errorf("%d MiB were allocated", n>>20)
	}
}

// resizes has the table emptied again and again in each head, and by SETTINGS.
func (g *ground) resizes(t *testing.T) {
	f := g.attack(t)
	block := append(bytes.Repeat([]byte{0x20, 0x3f, 0xe1, 0x1f}, 4000), 0x82, 0x86, 0x84, 0x01, 0x01, 'h')
	for n := range 100 {
		_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: uint32(2*n + 1), BlockFragment: block, EndStream: true, EndHeaders: true})
		_ = f.WriteSettings(http2.Setting{ID: http2.SettingHeaderTableSize, Val: uint32(n % 2 * (1<<32 - 1))})
		if !f.fence() {
			t.Fatal("the connection has ended")
		}
	}
	testkit.Eventually(t, "each is answered", func() bool { return f.heard("200") == 100 })
}

// TestClientsThatTakeBack: a request that was taken back ends at its upstream a moment later; one that is answered within that moment costs no
// connection.
func TestClientsThatTakeBack(t *testing.T) {
	b := startBackends(t, 1)[0]
	var free atomic.Pointer[chan struct{}]
	b.does(func(a *asked) reply {
		switch a.path {
		case "/soon":
			return reply{until: *free.Load()}
		case "/never":
			return reply{hang: true}
		}
		return reply{}
	})
	p := startPlant(t, "loops: 1\nupstreams: { web: { targets: ["+fmt.Sprintf("'http://%s'", b.addr)+"] } }\n"+h2Routes)
	v := dialH2(t, p.addr.String())
	id, cut := uint32(1), 0 // the next stream, and how many requests were ended at their upstream
	// Once, or again where the moment was over before the answer was there.
	despiteStalls(t, func(wrong func(format string, args ...any)) {
		goOn := make(chan struct{})
		free.Store(&goOn)
		_ = v.get(id, "/soon")
		testkit.Eventually(t, "it is asked", func() bool { return b.busy.Load() == 1 })
		_ = v.WriteRSTStream(id, http2.ErrCodeCancel)
		id += 2
		_ = v.WritePing(false, [8]byte{1})
		for acked := false; !acked; {
			f, err := v.ReadFrame()
			if err != nil {
				t.Fatal(err)
			}
			ping, ok := f.(*http2.PingFrame)
			acked = ok && ping.IsAck()
		}
		close(goOn)
		testkit.Eventually(t, "its connection waits for another, or is gone", func() bool {
			return p.metric(`wasmgate_upstream_connections{upstream="web",state="idle"}`) == 1 || p.closedFor("client_aborted") > cut
		})
		if now := p.closedFor("client_aborted"); now > cut {
			cut = now
			wrong("it has cost its connection")
		}
	})
	accepted := int64(cut + 1)
	if _ = v.get(id, "/"); b.accepted.Load() != accepted {
		t.Errorf("%d connections", b.accepted.Load())
	}
	if status, _, _ := v.answer(id); status != "200" || b.accepted.Load() != accepted {
		t.Errorf("%s, and %d connections", status, b.accepted.Load())
	}
	_ = v.get(id+2, "/never")
	testkit.Eventually(t, "it is asked", func() bool { return b.busy.Load() == 1 })
	begun := time.Now()
	v.conn.Close()
	testkit.Eventually(t, "it is cancelled", func() bool { return b.open.Load() == 0 })
	if took := time.Since(begun); took > 20*time.Second {
		t.Errorf("after %v", took)
	}
	testkit.Eventually(t, "its connection is told of, after its end", func() bool { return p.closedFor("client_aborted") > cut })
	if n := p.closedFor("client_aborted"); n != cut+1 {
		t.Errorf("%d: %s", n, p.journal)
	}
}
