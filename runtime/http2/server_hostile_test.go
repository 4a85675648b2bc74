package http2

import (
	"fmt"
	"net"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"wasmgate/runtime/fault"
	"wasmgate/runtime/http1"
	"wasmgate/runtime/netloop"
)

// wait keeps a request until its client has gone.
func wait(t *netloop.Task, r *Request) {
	var q http1.Request
	if r.Fill(&q, nil) != nil {
		return
	}
	r.OnGone(t.Wake)
	for !r.Gone() && !t.Loop().Closing() {
		t.Park()
	}
}

// TestAttacksOnServer: each ends its connection, with the code that says why, and no other.
func TestAttacksOnServer(t *testing.T) {
	for name, c := range map[string]struct {
		code http2.ErrCode
		do   func(*peer)
	}{
		"stream with an even number":  {http2.ErrCodeProtocol, func(p *peer) { p.head(2, true, ":method", "GET") }},
		"data for a stream not begun": {http2.ErrCodeProtocol, func(p *peer) { _ = p.WriteData(7, false, []byte("x")) }},
		"reset of one not begun":      {http2.ErrCodeProtocol, func(p *peer) { _ = p.WriteRSTStream(7, 0) }},
		"window of one not begun":     {http2.ErrCodeProtocol, func(p *peer) { _ = p.WriteWindowUpdate(7, 1) }},
		"push": {http2.ErrCodeProtocol, func(p *peer) {
			_ = p.WritePushPromise(http2.PushPromiseParam{StreamID: 1, PromiseID: 2, BlockFragment: p.block(":method", "GET"), EndHeaders: true})
		}},
		"dependency on itself": {http2.ErrCodeProtocol, func(p *peer) { _ = p.WritePriority(1, http2.PriorityParam{StreamDep: 1}) }},
		"data behind the end": {http2.ErrCodeStreamClosed, func(p *peer) {
			(&visitor{p}).ask(1, true)
			_ = p.WriteData(1, true, []byte("x"))
		}},
		"headers behind the end": {http2.ErrCodeStreamClosed, func(p *peer) {
			(&visitor{p}).ask(1, true)
			(&visitor{p}).ask(1, true)
		}},
		"stream number going down": {http2.ErrCodeStreamClosed, func(p *peer) {
			(&visitor{p}).ask(5, true)
			(&visitor{p}).ask(3, true)
		}},
		"continuation of nothing": {http2.ErrCodeProtocol, func(p *peer) { _ = p.WriteContinuation(1, true, nil) }},
		"compression that is none": {http2.ErrCodeCompression, func(p *peer) {
			_ = p.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, EndHeaders: true})
		}},
		"connection's window": {http2.ErrCodeFlowControl, func(p *peer) {
			for id := uint32(1); id < 100; id += 2 {
				(&visitor{p}).ask(id, false)
				for range 4 {
					_ = p.WriteData(id, false, make([]byte, 16<<10))
				}
			}
		}},
		"flood of PING":            {http2.ErrCodeEnhanceYourCalm, flood(func(p *peer) error { return p.WritePing(false, [8]byte{}) })},
		"flood of SETTINGS":        {http2.ErrCodeEnhanceYourCalm, flood(func(p *peer) error { return p.WriteSettings() })},
		"flood of acknowledgement": {http2.ErrCodeEnhanceYourCalm, flood(func(p *peer) error { return p.WriteSettingsAck() })},
		"flood of PRIORITY":        {http2.ErrCodeEnhanceYourCalm, flood(func(p *peer) error { return p.WritePriority(1, http2.PriorityParam{StreamDep: 3}) })},
		"flood of unknown frames":  {http2.ErrCodeEnhanceYourCalm, flood(func(p *peer) error { return p.WriteRawFrame(0xf0, 0, 0, nil) })},
		"flood of empty DATA": {http2.ErrCodeEnhanceYourCalm, func(p *peer) {
			(&visitor{p}).ask(1, false)
			flood(func(p *peer) error { return p.WriteData(1, false, nil) })(p)
		}},
		"flood of windows": {http2.ErrCodeEnhanceYourCalm, func(p *peer) {
			(&visitor{p}).ask(1, false)
			flood(func(p *peer) error { return p.WriteWindowUpdate(1, 1) })(p)
		}},
		"rapid reset": {http2.ErrCodeEnhanceYourCalm, func(p *peer) {
			id := uint32(1)
			flood(func(p *peer) error {
				(&visitor{p}).ask(id, true)
				id += 2
				return p.WriteRSTStream(id-2, http2.ErrCodeCancel)
			})(p)
		}},
		"rapid requests above the limit": {http2.ErrCodeEnhanceYourCalm, func(p *peer) {
			id := uint32(1)
			flood(func(p *peer) error {
				(&visitor{p}).ask(id, true)
				id += 2
				return nil
			})(p)
		}},
		"reset by a breach": {http2.ErrCodeEnhanceYourCalm, func(p *peer) { // the server is made to reset (CVE-2025-8671)
			id := uint32(1)
			flood(func(p *peer) error {
				(&visitor{p}).ask(id, false)
				id += 2
				return p.WriteRawFrame(http2.FrameWindowUpdate, 0, id-2, make([]byte, 4))
			})(p)
		}},
		"flood of CONTINUATION": {http2.ErrCodeEnhanceYourCalm, func(p *peer) {
			_ = p.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: p.block(":method", "GET")})
			flood(func(p *peer) error { return p.WriteContinuation(1, false, nil) })(p)
		}},
		"head without end": {http2.ErrCodeEnhanceYourCalm, func(p *peer) {
			_ = p.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: p.block(":method", "GET")})
			b := p.block(strings.Repeat("a", 100), strings.Repeat("b", 15_000))
			flood(func(p *peer) error { return p.WriteContinuation(1, false, b) })(p)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			s := open(t, Options{}, wait)
			v, other := s.visit(), s.visit()
			conn := <-s.conns
			<-s.conns
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				if code, said := v.drain(); said && code != c.code {
					t.Errorf("GOAWAY says %v", code)
				}
			}()
			c.do(v.peer)
			<-ended
			v.conn.Close()
			<-<-s.ended
			if conn.code != c.code {
				t.Errorf("ended with %v, wanted %v: %v", conn.code, c.code, conn.err)
			}
			other.ask(1, true) // it is served still
			_ = other.WriteRSTStream(1, http2.ErrCodeCancel)
			_ = other.WritePing(false, [8]byte{7})
			if other.await(http2.FramePing) == nil {
				t.Error("another connection has ended too")
			}
		})
	}
}

// TestWrongRequests: the stream ends, and no more than that.
func TestWrongRequests(t *testing.T) {
	ok := []string{":method", "GET", ":scheme", "http", ":authority", "h", ":path", "/"}
	with := func(more ...string) []string { return append(ok[:8:8], more...) }
	for name, fields := range map[string][]string{
		"upper case":             with("Abc", "d"),
		"no method":              ok[2:],
		"no path":                ok[:6],
		"no scheme":              {":method", "GET", ":authority", "h", ":path", "/"},
		"empty path":             {":method", "GET", ":scheme", "http", ":authority", "h", ":path", ""},
		"two methods":            with(":method", "GET"),
		"pseudo field behind":    {":method", "GET", ":scheme", "http", "a", "b", ":authority", "h", ":path", "/"},
		"status":                 with(":status", "200"),
		"protocol":               with(":protocol", "websocket"),
		"connection":             with("connection", "close"),
		"transfer-encoding":      with("transfer-encoding", "chunked"),
		"te":                     with("te", "gzip"),
		"line break":             with("a", "b\r\nc: d"),
		"NUL":                    with("a", "b\x00"),
		"white space":            with("a", " b"),
		"empty name":             with("", "b"),
		"length without body":    with("content-length", "1"),
		"CONNECT with a path":    {":method", "CONNECT", ":scheme", "http", ":authority", "h:1", ":path", "/"},
		"CONNECT with a pseudo":  {":method", "CONNECT", ":scheme", "http", ":authority", "h:1"},
		"CONNECT without a host": {":method", "CONNECT"},
	} {
		t.Run(name, func(t *testing.T) {
			errs := make(chan error, 2)
			s := open(t, Options{}, func(task *netloop.Task, r *Request) {
				var q http1.Request
				err := r.Fill(&q, nil)
				if errs <- err; err == nil {
					_ = say(task, r, 200, "hello\n")
				}
			})
			v := s.visit()
			v.head(1, true, fields...)
			if _, n, code, ok := v.answered(1); code != http2.ErrCodeProtocol || !ok || n != 0 {
				t.Errorf("%d bytes, %v, %t", n, code, ok)
			}
			if fe := fault.From(<-errs); fe.Kind != fault.Malformed || fe.Source != fault.Client || fe.Status != 0 {
				t.Errorf("%v", fe)
			}
			v.works(3)
		})
	}
}

// TestWrongBodies: the stream ends while it is served.
func TestWrongBodies(t *testing.T) {
	for name, do := range map[string]func(v *visitor){
		"more than its length": func(v *visitor) { v.ask(1, false, "content-length", "1"); _ = v.WriteData(1, true, []byte("xy")) },
		"less than its length": func(v *visitor) { v.ask(1, false, "content-length", "9"); _ = v.WriteData(1, true, []byte("xy")) },
		"pseudo field at the end": func(v *visitor) {
			v.ask(1, false)
			v.head(1, true, ":method", "GET")
		},
		"trailers without end": func(v *visitor) { v.ask(1, false); v.head(1, false, "a", "b") },
		"trailer with a break": func(v *visitor) { v.ask(1, false); v.head(1, true, "a", "b\r\nc: d") },
	} {
		t.Run(name, func(t *testing.T) {
			errs := make(chan error, 2)
			s := open(t, Options{}, func(task *netloop.Task, r *Request) {
				var q http1.Request
				_ = r.Fill(&q, nil)
				r.SetReadDeadline(task.Loop().Now() + int64(patience))
				for {
					if _, err := r.Next(task); err != nil {
						errs <- err
						_ = say(task, r, 200, "hello\n")
						return
					}
				}
			})
			v := s.visit()
			do(v)
			if _, _, code, ok := v.answered(1); code != http2.ErrCodeProtocol || !ok {
				t.Errorf("%v, %t", code, ok)
			}
			if fe := fault.From(<-errs); fe.Kind != fault.Malformed || fe.Source != fault.Client {
				t.Errorf("%v", fe)
			}
			v.works(3)
		})
	}
}

// TestHeadsOverTheirLimit are answered, so that it is said what is wrong.
func TestHeadsOverTheirLimit(t *testing.T) {
	for name, more := range map[string][]string{
		"bytes":  {"a", strings.Repeat("b", 20_000), "c", strings.Repeat("d", 20_000)},
		"fields": fields(101),
	} {
		t.Run(name, func(t *testing.T) {
			errs := make(chan error, 2)
			s := open(t, Options{}, func(task *netloop.Task, r *Request) {
				var q http1.Request
				errs <- r.Fill(&q, nil)
				_ = say(task, r, 200, "hello\n")
			})
			v := s.visit()
			fields := append([]string{":method", "GET", ":scheme", "http", ":authority", "h", ":path", "/"}, more...)
			b := v.block(fields...)
			_ = v.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: b[:min(len(b), 10_000)], EndStream: true, EndHeaders: len(b) <= 10_000})
			for b = b[min(len(b), 10_000):]; len(b) > 0; b = b[min(len(b), 10_000):] {
				_ = v.WriteContinuation(1, len(b) <= 10_000, b[:min(len(b), 10_000)])
			}
			if _, n, code, ok := v.answered(1); n == 0 || code != 0 || !ok {
				t.Errorf("%d bytes, %v, %t", n, code, ok)
			}
			if fe := fault.From(<-errs); fe.Status != 431 {
				t.Errorf("%v", fe)
			}
			v.works(3)
		})
	}
}

func fields(n int) (list []string) {
	for i := range n {
		list = append(list, fmt.Sprint("a", i), "b")
	}
	return list
}

// TestHeaderBomb has a field of the table named again and again: its size is counted each time, and it is copied never.
func TestHeaderBomb(t *testing.T) {
	s := open(t, Options{}, hello)
	v := s.visit()
	v.ask(1, true, "bomb", strings.Repeat("x", 3900))
	v.answered(1)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for id := uint32(3); id < 23; id += 2 {
		b := v.block(":method", "GET", ":scheme", "http", ":authority", "h", ":path", "/")
		b = append(b, strings.Repeat("\xbe", 16<<10-len(b))...) // 16,000 times the newest field: 64 MB
		_ = v.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: b, EndStream: true, EndHeaders: true})
		if _, _, code, ok := v.answered(id); !ok {
			t.Fatalf("%v", code)
		}
	}
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; n > 4<<20 {
		t.Errorf("%d bytes were allocated", n)
	}
}

// TestLimitOfStreams refuses what is above it, and takes more when there is room again.
func TestLimitOfStreams(t *testing.T) {
	s := open(t, Options{MaxStreams: 10}, wait)
	v := s.visit()
	for id := uint32(1); id < 21; id += 2 {
		v.ask(id, true)
	}
	v.ask(21, true)
	if _, _, code, ok := v.answered(21); code != http2.ErrCodeRefusedStream || !ok {
		t.Errorf("%v, %t", code, ok)
	}
	_ = v.WriteRSTStream(1, http2.ErrCodeCancel)
	v.ask(23, true)
	v.ask(25, true)
	if _, _, code, ok := v.answered(25); code != http2.ErrCodeRefusedStream || !ok { // and not 23
		t.Errorf("%v, %t", code, ok)
	}
}

// TestSlowReaders take nothing, or hardly anything, of an answer: it is given up, and what is held for it is bounded.
func TestSlowReaders(t *testing.T) {
	for name, drip := range map[string]bool{"window of 0": false, "window of 1": true} {
		t.Run(name, func(t *testing.T) {
			most, failed := atomic.Int64{}, make(chan error, 1)
			s := open(t, Options{}, func(task *netloop.Task, r *Request) {
				var q http1.Request
				if err := r.Fill(&q, nil); err != nil || string(q.Path) == "/" {
					_ = say(task, r, 200, "hello\n")
					return
				}
				a := http1.Response{Status: 200}
				r.Head(&a, http1.ResponseOut{Framing: http1.Framing{Kind: http1.Chunked}})
				for piece := make([]byte, 16<<10); ; {
					r.SetWriteDeadline(task.Loop().Now() + int64(300*time.Millisecond))
					for r.Add(piece) {
					}
					s := (*Stream)(r)
					most.Store(max(most.Load(), int64(len(s.served.waiting)+len(s.conn.out))))
					if err := r.Flush(task); err != nil {
						failed <- err
						r.Abort()
						return
					}
				}
			})
			window := uint32(0)
			if drip {
				window = 1
			}
			v := s.visit(http2.Setting{ID: http2.SettingInitialWindowSize, Val: window})
			v.head(1, true, ":method", "GET", ":scheme", "http", ":authority", "h", ":path", "/large")
			stop := make(chan struct{})
			dripped := make(chan struct{})
			go func() {
				defer close(dripped)
				tick := time.NewTicker(5 * time.Millisecond)
				defer tick.Stop()
				for drip {
					select {
					case <-stop:
						return
					case <-tick.C:
						_ = v.WriteWindowUpdate(1, 1)
					}
				}
			}()
			if err := <-failed; err != netloop.ErrDeadline {
				t.Errorf("%v", err)
			}
			close(stop)
			<-dripped
			if n := most.Load(); n > 64<<10 {
				t.Errorf("%d bytes were held", n)
			}
			if _, _, code, ok := v.answered(1); code != http2.ErrCodeInternal || !ok {
				t.Errorf("%v, %t", code, ok)
			}
			_ = v.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 65535})
			v.works(3)
		})
	}
}

// TestUnreadAnswers: a client asks and asks, and reads nothing. Heads are bounded by no window.
func TestUnreadAnswers(t *testing.T) {
	var most atomic.Int64
	long := strings.Repeat("x", 8000)
	s := open(t, Options{WriteTimeout: 500 * time.Millisecond}, func(task *netloop.Task, r *Request) {
		var q http1.Request
		if r.Fill(&q, nil) != nil {
			return
		}
		a := http1.Response{Status: 204}
		a.Add("X-Long", fmt.Sprint(r.id, long))
		r.SetWriteDeadline(task.Loop().Now() + int64(patience))
		r.Head(&a, http1.ResponseOut{Framing: http1.Framing{Kind: http1.NoBody, Length: -1}})
		r.End(nil)
		_ = r.Flush(task)
		most.Store(max(most.Load(), int64(cap((*Stream)(r).conn.out))))
	})
	v := s.visit()
	_ = v.conn.(*net.TCPConn).SetReadBuffer(4096)
	c := <-s.conns
	for id := uint32(3); ; id += 2 {
		b := v.block(":method", "GET", ":scheme", "http", ":authority", "h", ":path", "/")
		if v.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: b, EndStream: true, EndHeaders: true}) != nil {
			break
		}
	}
	<-<-s.ended
	if n := most.Load(); n > 4<<20 || c.err == nil {
		t.Errorf("%d bytes were held; %v", n, c.err)
	}
}

// TestSlowHeads end their connections.
func TestSlowHeads(t *testing.T) {
	for name, c := range map[string]struct {
		code http2.ErrCode
		do   func(*visitor)
	}{
		"half a frame": {http2.ErrCodeEnhanceYourCalm, func(v *visitor) { _, _ = v.conn.Write([]byte{0, 0, 10, 1}) }},
		"half a block": {http2.ErrCodeEnhanceYourCalm, func(v *visitor) {
			_ = v.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: v.block(":method", "GET")})
		}},
		"half a block beside a request": {http2.ErrCodeEnhanceYourCalm, func(v *visitor) {
			v.ask(1, true)
			_ = v.WriteHeaders(http2.HeadersFrameParam{StreamID: 3, BlockFragment: v.block(":method", "GET")})
		}},
		"nothing": {http2.ErrCodeNo, func(*visitor) {}},
	} {
		t.Run(name, func(t *testing.T) {
			for try := 1; ; try++ { // the machine may have stood still before anything was said
				s := open(t, Options{HeadTimeout: 200 * time.Millisecond}, wait)
				v := s.visit()
				c.do(v)
				code, said := v.over()
				<-<-s.ended
				if code == c.code && said {
					break
				}
				if try == 5 {
					t.Fatalf("%v, said: %t", code, said)
				}
			}
		})
	}
}

// TestSettingsNotAcknowledged ends the connection.
func TestSettingsNotAcknowledged(t *testing.T) {
	for _, busy := range []bool{true, false} {
		s := open(t, Options{SettingsTimeout: 200 * time.Millisecond}, wait)
		nc, err := net.Dial("tcp", s.addr.String())
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		p := &peer{t: t, conn: nc, Framer: http2.NewFramer(nc, nc)}
		p.enc = newEncoder(&p.buf)
		_, _ = nc.Write([]byte(Preface))
		_ = p.WriteSettings()
		v := &visitor{p}
		if busy {
			v.ask(1, true)
		}
		if code, said := v.over(); code != http2.ErrCodeSettingsTimeout || !said {
			t.Errorf("%v, said: %t", code, said)
		}
	}
}

// TestPingedClients: one with a request under way that answers no PING is given up.
func TestPingedClients(t *testing.T) {
	for _, answers := range []bool{true, false} {
		limit := 200 * time.Millisecond
		if answers {
			limit = patience // however long the machine stands still
		}
		s := open(t, Options{KeepAlive: 50 * time.Millisecond, PingTimeout: limit}, wait)
		v := s.visit()
		v.ask(1, true)
		for n := 0; ; n++ {
			f := v.await(http2.FramePing)
			if f == nil {
				if answers {
					t.Error("one that answers was given up")
				}
				break
			}
			if answers {
				_ = v.WritePing(true, f.(*http2.PingFrame).Data)
			}
			if n == 4 {
				if !answers {
					t.Error("one that does not answer is asked again and again")
				}
				break
			}
		}
	}
}
