package http2

import (
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"wasmgate/runtime/fault"
	"wasmgate/runtime/http1"
	"wasmgate/runtime/netloop"
)

// What is tested here makes a peer work more than whoever sends it: each of these is counted, or bounded.

// TestProvokedResetsCount: a client that has the server reset its requests, one after the other and each of them awaited, takes them back as
// one does that resets them itself (CVE-2025-8671). So does one whose requests are malformed.
func TestProvokedResetsCount(t *testing.T) {
	const nuisance = 100
	post := func(v *visitor, id uint32, more ...string) { v.ask(id, false, more...) }
	for name, provoke := range map[string]func(v *visitor, id uint32){
		"a window of 0": func(v *visitor, id uint32) {
			post(v, id)
			_ = v.WriteRawFrame(http2.FrameWindowUpdate, 0, id, make([]byte, 4))
		},
		"a window too large": func(v *visitor, id uint32) { post(v, id); _ = v.WriteWindowUpdate(id, 1<<31-1) },
		"more than its length": func(v *visitor, id uint32) {
			post(v, id, "content-length", "1")
			_ = v.WriteData(id, false, []byte("xy"))
		},
		"less than its length": func(v *visitor, id uint32) {
			post(v, id, "content-length", "3")
			_ = v.WriteData(id, true, []byte("xy"))
		},
		"bad trailers":         func(v *visitor, id uint32) { post(v, id); v.head(id, true, ":path", "/") },
		"trailers without end": func(v *visitor, id uint32) { post(v, id); v.head(id, false, "a", "b") },
		"no path":              func(v *visitor, id uint32) { v.head(id, true, ":method", "GET", ":scheme", "http", ":authority", "h") },
		"a line in a field":    func(v *visitor, id uint32) { v.ask(id, true, "a", "b\r\nc: d") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // each waits for a second before it closes
			s := open(t, Options{Nuisance: nuisance}, func(task *netloop.Task, r *Request) {
				var q http1.Request
				if r.Fill(&q, nil) == nil {
					r.OnGone(task.Wake)
					for !r.Gone() {
						task.Park()
					}
				}
			})
			v := s.visit()
			resets := 0
			for id := uint32(1); ; id += 2 {
				provoke(v, id)
				if _, _, code, ok := v.answered(id); !ok {
					break
				} else if code == 0 {
					t.Fatal("it was answered")
				}
				resets++
			}
			conn := <-s.conns
			<-<-s.ended
			if conn.code != http2.ErrCodeEnhanceYourCalm || resets > 3*nuisance { // 50 of them in a second; seldom do they cross into the next
				t.Errorf("%d requests were reset, and it ended with %v: %v", resets, conn.code, conn.err)
			}
			t.Logf("%d requests were reset", resets)
		})
	}
}

// large answers with what never ends.
func large(task *netloop.Task, r *Request) {
	var q http1.Request
	if r.Fill(&q, nil) != nil {
		return
	}
	r.Head(&http1.Response{Status: 200}, http1.ResponseOut{Framing: http1.Framing{Kind: http1.Chunked}})
	for piece := make([]byte, 16<<10); ; {
		r.SetWriteDeadline(task.Loop().Now() + int64(patience))
		if r.Write(task, piece) != nil {
			return
		}
	}
}

// TestWindowsThatMove: another initial window is work for every stream that waits for one. A frame that says it many times is the work of one,
// and frames that say it again and again are counted by the streams there are.
func TestWindowsThatMove(t *testing.T) {
	s := open(t, Options{}, large)
	v := s.visit(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
	const streams = 100
	for id := uint32(1); id < 2*streams; id += 2 {
		v.ask(id, true)
	}
	var toggles []http2.Setting
	for i := range uint32(100) {
		toggles = append(toggles, http2.Setting{ID: http2.SettingInitialWindowSize, Val: i % 2})
	}
	acks := 0
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			f, err := v.ReadFrame()
			if err != nil {
				return
			}
			if a, ok := f.(*http2.SettingsFrame); ok && a.IsAck() {
				acks++
			}
		}
	}()
	flood(func(p *peer) error {
		toggles[99].Val ^= 1
		return p.WriteSettings(toggles...)
	})(v.peer)
	<-done
	conn := <-s.conns
	<-<-s.ended
	if conn.code != http2.ErrCodeEnhanceYourCalm || acks > 300 { // 90 of them in a second
		t.Errorf("%d were taken, and it ended with %v: %v", acks, conn.code, conn.err)
	}
	t.Logf("%d were taken", acks)
}

// TestWindowsInOneFrame: the last one counts, also where those before it could not be.
func TestWindowsInOneFrame(t *testing.T) {
	window := func(n uint32) http2.Setting { return http2.Setting{ID: http2.SettingInitialWindowSize, Val: n} }
	s := open(t, Options{}, hello)
	v := s.visit(window(0))
	v.ask(1, true)
	_ = v.WriteWindowUpdate(1, 3)
	_ = v.WriteSettings(window(1<<31-1), window(7), window(3)) // "hello\n" has 6 bytes
	if _, n, code, ok := v.answered(1); n != 6 || code != 0 || !ok {
		t.Errorf("%d bytes, %v", n, code)
	}
}

// TestTinyWindows: who reads by windows of a byte makes a frame of each, and gets no further for it.
func TestTinyWindows(t *testing.T) {
	s := open(t, Options{}, large)
	v := s.visit(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
	v.ask(1, true)
	frames, pieces := 0, make(chan struct{}, 1<<20)
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer close(pieces)
		for {
			f, err := v.ReadFrame()
			if err != nil {
				return
			}
			if _, ok := f.(*http2.DataFrame); ok {
				frames++
				pieces <- struct{}{}
			}
		}
	}()
	for ok := true; ok; _, ok = <-pieces { // each byte is awaited
		_ = v.WriteWindowUpdate(1, 1)
	}
	<-done
	conn := <-s.conns
	<-<-s.ended
	if conn.code != http2.ErrCodeEnhanceYourCalm || frames > 20_000 { // 1,000 of them in a second
		t.Errorf("%d frames of a byte, and it ended with %v: %v", frames, conn.code, conn.err)
	}
	t.Logf("%d frames of a byte", frames)
}

// TestInterimAnswersWait: a client that takes no interim answers is sent no more of them than an answer may have ahead.
func TestInterimAnswersWait(t *testing.T) {
	failed := make(chan error, 1)
	var most atomic.Int64
	s := open(t, Options{}, func(task *netloop.Task, r *Request) {
		var q http1.Request
		_ = r.Fill(&q, nil)
		a := http1.Response{Status: 103}
		a.Add("Link", strings.Repeat("x", 8000)) // too long for the table
		for {
			r.SetWriteDeadline(task.Loop().Now() + int64(300*time.Millisecond))
			if err := r.Inform(task, &a); err != nil {
				failed <- err
				r.Abort()
				return
			}
			most.Store(max(most.Load(), int64(cap((*Stream)(r).conn.out))))
		}
	})
	v := s.visit()
	v.ask(1, true)
	if err := <-failed; err != netloop.ErrDeadline {
		t.Error(err)
	}
	if n := most.Load(); n > 4*backlog {
		t.Errorf("%d bytes were held", n)
	}
}

// TestWhatWasOnItsWay: what an upstream had sent when it was told that nobody wants it is not held against the connection, which is others' too;
// what it sends beyond that is.
func TestWhatWasOnItsWay(t *testing.T) {
	for name, c := range map[string]struct {
		pieces, size int
		code         http2.ErrCode
	}{
		"small pieces":             {20_000, 10, 0},
		"more than the window":     {20_000, 100, http2.ErrCodeEnhanceYourCalm},
		"nothing, again and again": {3000, 0, http2.ErrCodeEnhanceYourCalm},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			addr := listen(t, func(nc net.Conn) {
				p := newPeer(t, nc)
				p.await(http2.FrameHeaders)
				p.head(1, false, ":status", "200")
				p.await(http2.FrameRSTStream)
				drained := make(chan struct{})
				for range c.pieces {
					if p.WriteData(1, false, make([]byte, c.size)) != nil {
						break
					}
				}
				p.head(3, true, ":status", "204")
				go func() { defer close(drained); p.drain() }()
				<-drained
			})
			b.on(func(task *netloop.Task) {
				conn, fe := b.dial(task, addr, Options{})
				if fe != nil {
					t.Error(fe)
					return
				}
				s, _ := conn.Open(request(t, get), Outgoing{Scheme: "http", End: true})
				if _, err := s.Head(task, task.Loop().Now()+int64(patience)); err != nil {
					t.Error(err)
				}
				other, _ := conn.Open(request(t, get), Outgoing{Scheme: "http", End: true})
				s.Close()
				a := b.take(task, other, answer{})
				other.Close()
				if c.code == 0 && (a.err != nil || a.status != 204) || c.code != 0 && (a.err == nil || conn.code != c.code) {
					t.Errorf("the other answer: %d %v; the connection: %v %v", a.status, a.err, conn.code, conn.err)
				}
				if fe := fault.From(a.err); c.code != 0 && fe.Source != fault.Upstream {
					t.Error(fe)
				}
				_ = conn.net.Close()
			})
		})
	}
}
