package gateway_test

import (
	"fmt"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
)

// TestHTTP2AttacksHarmNobodyElse has several attackers at a time, who come again as soon as they were thrown out, while others ask on the
// same loop: those get their answers, and what is held stays bounded.
func TestHTTP2AttacksHarmNobodyElse(t *testing.T) {
	web := newBackend(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/large" {
			_, _ = w.Write(make([]byte, 1<<20))
			return
		}
		fmt.Fprint(w, "hello")
	})
	head := []string{":method", "POST", ":scheme", "http", ":authority", "h", ":path", "/large"}
	for name, attack := range map[string]func(v *h2Raw, id uint32) error{
		"rapid reset": func(v *h2Raw, id uint32) error {
			_ = v.ask(id, true, head...)
			return v.WriteRSTStream(id, http2.ErrCodeCancel)
		},
		"PING":       func(v *h2Raw, _ uint32) error { return v.WritePing(false, [8]byte{}) },
		"SETTINGS":   func(v *h2Raw, _ uint32) error { return v.WriteSettings() },
		"empty DATA": func(v *h2Raw, id uint32) error { _ = onlyOnce(v, id, head); return v.WriteData(1, false, nil) },
		"CONTINUATION": func(v *h2Raw, id uint32) error {
			if id == 1 {
				_ = v.WriteHeaders(http2.HeadersFrameParam{StreamID: 1})
			}
			return v.WriteContinuation(1, false, nil)
		},
		"header bomb": func(v *h2Raw, id uint32) error {
			if id == 1 {
				return v.ask(id, true, append(head[:8:8], "bomb", strings.Repeat("x", 3900))...)
			}
			return v.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: []byte(strings.Repeat("\xbe", 16<<10)), EndStream: true, EndHeaders: true})
		},
		"zero window": func(v *h2Raw, id uint32) error {
			if id == 1 {
				_ = v.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
			}
			return v.ask(id, true, head...)
		},
		"windows of 1": func(v *h2Raw, id uint32) error {
			if id == 1 {
				_ = v.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1})
			}
			_ = v.ask(id, true, head...)
			return v.WriteWindowUpdate(id, 1)
		},
		"slow POST": func(v *h2Raw, id uint32) error {
			_ = v.ask(id, false, head...)
			return v.WriteData(id, false, []byte("x"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := startPlant(t, "loops: 1\nlimits: { body_idle_timeout: 500ms, head_timeout: 500ms }\nupstreams: { web: { targets: ['"+web+"'] } }\n"+h2Routes)
			stop := h2Asks(t, p.addr.String())
			end, done := make(chan struct{}), make(chan struct{})
			go func() {
				defer close(done)
				for v, id := (*h2Raw)(nil), uint32(0); ; id += 2 {
					select {
					case <-end:
						return
					default:
					}
					if v == nil {
						v, id = dialH2(t, p.addr.String()), 1
						go func() { // it reads, and throws away
							for {
								if _, err := v.ReadFrame(); err != nil {
									return
								}
							}
						}()
					}
					_ = v.conn.SetWriteDeadline(time.Now().Add(time.Second))
					if attack(v, id) != nil {
						v.conn.Close()
						v = nil
					}
				}
			}()
			asked, slowest := stop(100)
			close(end)
			<-done
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			if m.HeapInuse > 256<<20 {
				t.Errorf("%d MB are in use", m.HeapInuse>>20)
			}
			t.Logf("%d answers beside it, the slowest after %v", asked, slowest)
			if slowest > 5*time.Second {
				t.Errorf("a request of another client took %v", slowest)
			}
		})
	}
}

func onlyOnce(v *h2Raw, id uint32, head []string) error {
	if id != 1 {
		return nil
	}
	return v.ask(1, false, head...)
}

// h2Asks asks again and again on a connection of its own. What it returns waits until so many more answers have come, all of which must
// be right, and says how many those were, and how long the slowest took.
func h2Asks(t *testing.T, addr string) func(n int) (int, time.Duration) {
	v := dialH2(t, addr)
	id := uint32(1)
	return func(n int) (int, time.Duration) {
		slowest := time.Duration(0)
		for range n {
			begun := time.Now()
			_ = v.get(id, "/")
			if status, body, code := v.answer(id); status != "200" || body != "hello" || code != 0 {
				t.Errorf("another client's request: %s %q %v", status, body, code)
				return n, slowest
			}
			id += 2
			slowest = max(slowest, time.Since(begun))
		}
		return n, slowest
	}
}
