package http2

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"wasmgate/runtime/http1"
	"wasmgate/runtime/netloop"
)

// mirror answers with what it was asked, and the body, as it comes.
func mirror(t *netloop.Task, r *Request) {
	var q http1.Request
	if err := r.Fill(&q, nil); err != nil {
		return
	}
	var a http1.Response
	if q.ExpectContinue {
		_ = r.Continue(t)
	}
	if _, ok := q.Get("x-hint"); ok {
		a.Status = 103
		a.Add("Link", "</style.css>")
		_ = r.Inform(t, &a)
		a.Reset()
	}
	a.Status = 200
	a.Add("X-Saw", fmt.Sprintf("%s %s %s %s %v", q.Method, q.Authority, q.Target, q.Scheme, q.Framing))
	a.Add("Connection", "X-Gone")
	framing := http1.Framing{Kind: http1.Chunked}
	if string(q.Method) == "HEAD" {
		framing = http1.Framing{Kind: http1.NoBody, Length: 7}
	}
	r.Head(&a, http1.ResponseOut{Framing: framing, Date: []byte("Sun, 22 Nov 2026 01:00:00 GMT"), Close: true})
	var trailers http1.Head
	n, crumbs := 0, ""
	if v, ok := q.Get("cookie"); ok {
		crumbs = string(v)
	}
	for framing.Kind != http1.NoBody {
		r.SetReadDeadline(t.Loop().Now() + int64(patience))
		r.SetWriteDeadline(t.Loop().Now() + int64(patience))
		data, err := r.Next(t)
		if err == io.EOF {
			break
		}
		if err != nil || r.Write(t, data) != nil {
			r.Abort()
			return
		}
		n += len(data)
	}
	last, _ := r.Trailers().Get("x-last")
	trailers.Add("X-Sum", fmt.Sprintf("%d %s %s", n, last, crumbs))
	trailers.Add("Content-Length", "1") // does not belong there
	r.End(&trailers)
	_ = r.Flush(t)
}

// client is the standard library's, which is x/net's.
func (s *site) client() *http.Client {
	tr := &http.Transport{Protocols: &http.Protocols{}}
	tr.Protocols.SetUnencryptedHTTP2(true)
	s.t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: patience}
}

func TestServerAnswers(t *testing.T) {
	s := open(t, Options{}, mirror)
	c := s.client()
	large := strings.Repeat("0123456789", 300_000) // beyond every window
	for name, one := range map[string]struct {
		method, body string
		unknown      bool // length
		saw, sum     string
	}{
		"GET":         {"GET", "", false, "GET h.example /x?y=1 http {0 -1}", "0  "},
		"HEAD":        {"HEAD", "", false, "HEAD h.example /x?y=1 http {0 -1}", ""},
		"POST":        {"POST", "short", false, "POST h.example /x?y=1 http {1 5}", "5  "},
		"large":       {"PUT", large, false, "PUT h.example /x?y=1 http {1 3000000}", "3000000  "},
		"of unknown":  {"POST", large, true, "POST h.example /x?y=1 http {2 0}", "3000000 last "},
		"empty":       {"POST", "", false, "POST h.example /x?y=1 http {1 0}", "0  "},
		"with cookie": {"GET", "", false, "GET h.example /x?y=1 http {0 -1}", "0  a=b; c=d"},
	} {
		t.Run(name, func(t *testing.T) {
			var body io.Reader
			if one.body != "" {
				body = strings.NewReader(one.body)
			}
			r, _ := http.NewRequest(one.method, "http://"+s.addr.String()+"/x?y=1", body)
			r.Host = "h.example"
			if one.unknown {
				r.ContentLength, r.Trailer = -1, http.Header{"X-Last": {"last"}}
			}
			if name == "with cookie" {
				r.Header.Set("Cookie", "a=b; c=d")
			}
			a, err := c.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(a.Body)
			if err != nil || string(got) != one.body || a.Header.Get("X-Saw") != one.saw || a.Trailer.Get("X-Sum") != one.sum {
				t.Errorf("%v, %d bytes, saw %q, sum %q", err, len(got), a.Header.Get("X-Saw"), a.Trailer.Get("X-Sum"))
			}
			if a.Header.Get("Connection") != "" || a.Header.Get("Date") == "" || a.Trailer.Get("Content-Length") != "" {
				t.Errorf("%v, trailers %v", a.Header, a.Trailer)
			}
			if one.method == "HEAD" && a.ContentLength != 7 {
				t.Errorf("content-length %d", a.ContentLength)
			}
		})
	}
}

func TestServerInforms(t *testing.T) {
	s := open(t, Options{}, mirror)
	var interim []string
	trace := &httptrace.ClientTrace{Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
		interim = append(interim, fmt.Sprint(code, h.Get("Link")))
		return nil
	}}
	r, _ := http.NewRequestWithContext(httptrace.WithClientTrace(context.Background(), trace), "POST", "http://"+s.addr.String()+"/", strings.NewReader("body"))
	r.Header = http.Header{"X-Hint": {"1"}, "Expect": {"100-continue"}}
	a, err := s.client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Body.Close()
	if got, err := io.ReadAll(a.Body); string(got) != "body" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	if got := strings.Join(interim, ", "); !strings.Contains(got, "103</style.css>") {
		t.Errorf("interim answers: %s", got)
	}
}

// TestServerStreamsAtOnce has a hundred requests on one connection, each of which gets its own answer.
func TestServerStreamsAtOnce(t *testing.T) {
	s := open(t, Options{}, mirror)
	c := s.client()
	var wg sync.WaitGroup
	for i := range 100 {
		wg.Go(func() {
			body := strings.Repeat(fmt.Sprintf("stream %d ", i), 20_000)
			a, err := c.Post("http://"+s.addr.String()+"/", "text/plain", strings.NewReader(body))
			if err != nil {
				t.Error(err)
				return
			}
			if got, err := io.ReadAll(a.Body); err != nil || string(got) != body {
				t.Errorf("stream %d: %v, %d of %d bytes", i, err, len(got), len(body))
			}
		})
	}
	wg.Wait()
}

// TestSlowClientStopsOneStream leaves an answer unread; others on the same connection pass.
func TestSlowClientStopsOneStream(t *testing.T) {
	s := open(t, Options{}, func(task *netloop.Task, r *Request) {
		var q http1.Request
		if r.Fill(&q, nil) != nil {
			return
		}
		if string(q.Path) == "/large" {
			_ = say(task, r, 200, strings.Repeat("x", 1<<20))
			return
		}
		_ = say(task, r, 200, "small")
	})
	v := s.visit()
	v.head(1, true, ":method", "GET", ":scheme", "http", ":authority", "h", ":path", "/large")
	_ = v.WriteWindowUpdate(0, 10<<20) // the connection's window is no hindrance
	for id := uint32(3); id < 103; id += 2 {
		v.works(id)
	}
	_ = v.WriteWindowUpdate(1, 10<<20)
	if _, n, code, ok := v.answered(1); n < 900_000 || code != 0 || !ok { // without what came before
		t.Errorf("%d bytes, %v, %t", n, code, ok)
	}
}

// TestDrainLosesNothing has a connection end while a request is under way, and others come. What is on its way is taken for a second, so
// it has another try where the machine stood still.
func TestDrainLosesNothing(t *testing.T) {
	for try := 1; !drainLosesNothing(t); try++ {
		if try == 5 {
			t.Fatal("what is on its way does not come within the time for it")
		}
	}
}

// drainLosesNothing says whether what was on its way came in time.
func drainLosesNothing(t *testing.T) (inTime bool) {
	t.Helper()
	release := make(chan func(), 1)
	s := open(t, Options{}, func(task *netloop.Task, r *Request) {
		var q http1.Request
		if r.Fill(&q, nil) != nil {
			return
		}
		if string(q.Path) == "/wait" {
			release <- task.Wake
			task.Park()
		}
		_ = say(task, r, 200, "hello")
	})
	v := s.visit()
	v.head(1, true, ":method", "GET", ":scheme", "http", ":authority", "h", ":path", "/wait")
	wake, c, l := <-release, <-s.conns, s.group.Loop(0)
	begun := time.Now()
	l.Post(c.Drain)
	first := v.await(http2.FrameGoAway).(*http2.GoAwayFrame)
	if first.LastStreamID != 1<<31-1 || first.ErrCode != http2.ErrCodeNo {
		t.Errorf("first %v", first)
	}
	ping := v.await(http2.FramePing).(*http2.PingFrame)
	v.ask(3, true) // it was on its way
	status, n, code, ok := v.answered(3)
	if time.Since(begun) > drainGrace/2 {
		return false
	}
	if status == "" || n == 0 || code != 0 || !ok {
		t.Errorf("what was on its way: %q, %d bytes, %v, %t", status, n, code, ok)
	}
	_ = v.WritePing(true, ping.Data)
	second := v.await(http2.FrameGoAway).(*http2.GoAwayFrame)
	if second.LastStreamID != 3 || second.ErrCode != http2.ErrCodeNo {
		t.Errorf("then %v", second)
	}
	v.ask(5, true)
	if _, _, code, ok := v.answered(5); code != http2.ErrCodeRefusedStream || !ok {
		t.Errorf("after it: %v, %t", code, ok)
	}
	l.Post(wake)
	if status, n, code, ok := v.answered(1); status == "" || n != 5 || code != 0 || !ok {
		t.Errorf("the request under way: %q, %d bytes, %v, %t", status, n, code, ok)
	}
	v.over()
	<-<-s.ended
	return true
}

// TestDrainWithoutAnswer ends a connection whose client says nothing, or has nothing under way.
func TestDrainWithoutAnswer(t *testing.T) {
	s := open(t, Options{}, hello)
	v := s.visit()
	v.works(1)
	s.group.Loop(0).Post((<-s.conns).Drain)
	if code, said := v.over(); code != http2.ErrCodeNo || !said {
		t.Errorf("%v, said: %t", code, said)
	}
	<-<-s.ended
}

// TestIdleConnections end after their time, and rest before: without a task, a reader and a buffer.
func TestIdleConnections(t *testing.T) {
	s := open(t, Options{IdleTimeout: 2500 * time.Millisecond}, hello)
	v := s.visit()
	v.works(1)
	c, l := <-s.conns, s.group.Loop(0)
	resting := make(chan bool)
	for begun := time.Now(); ; {
		l.Post(func() { resting <- c.reader == nil && c.out == nil && c.spare == nil && l.Stats().Tasks == 0 })
		if <-resting {
			break
		}
		if time.Since(begun) > patience {
			t.Fatal("it does not rest")
		}
	}
	v.works(3)
	if code, said := v.over(); code != http2.ErrCodeNo || !said {
		t.Errorf("%v, said: %t", code, said)
	}
	<-<-s.ended
}

// TestClientThatGoes tells who asked for it.
func TestClientThatGoes(t *testing.T) {
	for name, go_ := range map[string]func(v *visitor){
		"reset":      func(v *visitor) { _ = v.WriteRSTStream(1, http2.ErrCodeCancel) },
		"connection": func(v *visitor) { v.conn.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			begun, gone := make(chan struct{}), make(chan error, 1)
			s := open(t, Options{}, func(task *netloop.Task, r *Request) {
				var q http1.Request
				_ = r.Fill(&q, nil)
				told := false
				r.OnGone(func() { told = true; task.Wake() })
				close(begun)
				for !told {
					task.Park()
				}
				_, err := r.Next(task)
				if !r.Gone() || say(task, r, 200, "too late") == nil {
					err = nil
				}
				gone <- err
			})
			v := s.visit()
			v.ask(1, false)
			<-begun
			go_(v)
			if err := <-gone; err == nil {
				t.Error("it can still be answered")
			}
		})
	}
}

// TestUnreadBody: the answer is whole, and nobody reads the rest of the request. It is dropped, up to a limit.
func TestUnreadBody(t *testing.T) {
	s := open(t, Options{}, hello)
	v := s.visit()
	c := <-s.conns
	whole := func() {
		t.Helper()
		left, streams := make(chan int), make(chan int)
		s.group.Loop(0).Post(func() { left <- c.received.left + c.received.credit; streams <- len(c.streams) })
		if n := <-left; n != 1<<20 {
			t.Errorf("%d bytes of the connection's window are left", n)
		}
		if n := <-streams; n != 0 {
			t.Errorf("%d streams are left", n)
		}
	}
	v.ask(1, false)
	_ = v.WriteData(1, false, make([]byte, 10_000))
	if _, n, _, ok := v.answered(1); n == 0 || !ok {
		t.Errorf("%d bytes, %t", n, ok)
	}
	_ = v.WriteData(1, false, make([]byte, 10_000))
	_ = v.WriteData(1, true, make([]byte, 10_000))
	v.works(3)
	whole()
	v.ask(13, false, "content-length", "100000") // one whose length is known gets the end of its answer behind it
	sent := 0
	for ; sent < 96_000; sent += 16_000 {
		_ = v.WriteData(13, false, make([]byte, 16_000))
		if sent == 48_000 && v.await(http2.FrameWindowUpdate) == nil {
			t.Fatal("no window")
		}
	}
	_ = v.WriteData(13, true, make([]byte, 4_000))
	if _, _, code, ok := v.answered(13); code != 0 || !ok {
		t.Errorf("%v, %t", code, ok)
	}
	whole()
	v.ask(15, false) // one that does not end
	v.answered(15)
	if f := v.await(http2.FrameRSTStream).(*http2.RSTStreamFrame); f.ErrCode != http2.ErrCodeNo {
		t.Errorf("%v", f)
	}
	for range 100 { // what was on its way harms nobody, and costs nothing of the connection's window
		_ = v.WriteData(15, false, make([]byte, 16_000))
	}
	v.works(17)
	whole()
	v.ask(19, false) // and one that has no end
	v.answered(19)
	sent = 0
	for window := 64 << 10; ; {
		for ; window >= 16<<10; window -= 16 << 10 {
			_ = v.WriteData(19, false, make([]byte, 16<<10))
			sent += 16 << 10
		}
		f, err := v.ReadFrame()
		if err != nil {
			t.Fatal(err)
		}
		if w, ok := f.(*http2.WindowUpdateFrame); ok && w.StreamID == 19 {
			window += int(w.Increment)
		}
		if r, ok := f.(*http2.RSTStreamFrame); ok {
			if r.ErrCode != http2.ErrCodeNo || sent < discarded || sent > discarded+(128<<10) {
				t.Errorf("%v behind %d bytes", r, sent)
			}
			break
		}
	}
	v.works(21)
	whole()
}

func TestExtendedConnect(t *testing.T) {
	for _, allowed := range []bool{true, false} {
		protocol := make(chan string, 1)
		s := open(t, Options{ExtendedConnect: allowed}, func(task *netloop.Task, r *Request) {
			var q http1.Request
			if r.Fill(&q, nil) == nil {
				protocol <- string(r.Protocol()) + " " + string(q.Path)
				_ = say(task, r, 101, "")
			}
		})
		v := s.visit()
		v.head(1, false, ":method", "CONNECT", ":protocol", "websocket", ":scheme", "http", ":authority", "h", ":path", "/chat")
		if !allowed {
			if _, _, code, _ := v.answered(1); code != http2.ErrCodeProtocol {
				t.Errorf("not allowed: %v", code)
			}
			continue
		}
		if got := <-protocol; got != "websocket /chat" {
			t.Errorf("asked for %s", got)
		}
		v.ReadMetaHeaders = newDecoder()
		for {
			f, err := v.ReadFrame()
			if err != nil {
				t.Fatal(err)
			}
			if m, ok := f.(*http2.MetaHeadersFrame); ok {
				if m.PseudoValue("status") != "200" {
					t.Errorf("answered %s", m.PseudoValue("status"))
				}
				break
			}
		}
	}
}
