package http2

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"golang.org/x/net/http2"

	"wasmgate/runtime/http1"
	"wasmgate/runtime/netloop"
)

const get = "GET /a?b=c HTTP/1.1\r\nHost: h.example:81\r\nX-One: 1\r\nUser-Agent: u\r\n\r\n"

func echo(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Trailer", "X-Sum")
	w.Header().Set("X-Saw", fmt.Sprintf("%s %s %s %s %d", r.Method, r.Host, r.URL, r.Header.Get("X-One"), r.ContentLength))
	n, _ := io.Copy(w, r.Body)
	w.Header().Set("X-Sum", fmt.Sprint(n))
}

func TestRequests(t *testing.T) {
	b := newBench(t)
	addr := serve(t, echo)
	b.on(func(task *netloop.Task) {
		var in, out uint64
		c, err := b.dial(task, addr, Options{In: &in, Out: &out})
		if err != nil {
			t.Error(err)
			return
		}
		for range 3 {
			a := b.do(task, c, request(t, get), "")
			if a.err != nil || a.status != 200 || a.get("x-saw") != "GET h.example:81 /a?b=c 1 0" || a.body != "" {
				t.Errorf("%+v: %s", a, a.get("x-saw"))
			}
		}
		body := strings.Repeat("0123456789", 100_000) // beyond every window
		a := b.do(task, c, request(t, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\n"), body)
		if sum, _ := a.trailers.Get("x-sum"); a.err != nil || a.body != body || string(sum) != "1000000" || a.get("x-saw") != "POST h /  1000000" {
			t.Errorf("%v, %d bytes, sum %s, %s", a.err, len(a.body), sum, a.get("x-saw"))
		}
		if in < 1_000_000 || out < 1_000_000 || c.Streams() != 0 || !c.Room(0) {
			t.Errorf("%d bytes in, %d out, %d streams", in, out, c.Streams())
		}
	})
}

// TestManyStreams has streams answer each other's order, and each get its own answer.
func TestManyStreams(t *testing.T) {
	b := newBench(t)
	addr := serve(t, echo)
	b.on(func(task *netloop.Task) {
		c, err := b.dial(task, addr, Options{})
		if err != nil {
			t.Error(err)
			return
		}
		left := 60
		for i := range left {
			task.Loop().Go(func(own *netloop.Task) {
				body := strings.Repeat(fmt.Sprintf("stream %d ", i), 20_000)
				if a := b.do(own, c, request(t, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\n"), body); a.body != body || a.err != nil {
					t.Errorf("stream %d: %v, %d of %d bytes", i, a.err, len(a.body), len(body))
				}
				left--
				task.Wake()
			})
		}
		for left > 0 {
			task.Park()
		}
	})
}

// TestSlowStreamStopsOnlyItself leaves one answer unread while others pass on the same connection.
func TestSlowStreamStopsOnlyItself(t *testing.T) {
	b := newBench(t)
	const size = 4 << 20 // more than the connection's window
	addr := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/large" {
			_, _ = w.Write(make([]byte, size))
		}
	})
	b.on(func(task *netloop.Task) {
		c, err := b.dial(task, addr, Options{})
		if err != nil {
			t.Error(err)
			return
		}
		slow, err := c.Open(request(t, "GET /large HTTP/1.1\r\nHost: h\r\n\r\n"), Outgoing{Scheme: "http", End: true})
		if err != nil {
			t.Error(err)
			return
		}
		defer slow.Close()
		for range 50 {
			if a := b.do(task, c, request(t, get), ""); a.err != nil || a.status != 200 {
				t.Error(a.err)
			}
		}
		if n := len(slow.recv); n > c.options.StreamWindow {
			t.Errorf("%d bytes are held", n)
		}
		if a := b.take(task, slow, answer{}); a.err != nil || len(a.body) != size {
			t.Errorf("%v, %d bytes", a.err, len(a.body))
		}
	})
}

// TestBothWaysAtOnce sends pieces and takes their echoes in turn.
func TestBothWaysAtOnce(t *testing.T) {
	b := newBench(t)
	addr := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(200)
		w.(http.Flusher).Flush()
		buf := make([]byte, 100)
		for {
			n, err := r.Body.Read(buf)
			_, _ = w.Write(buf[:n])
			w.(http.Flusher).Flush()
			if err != nil {
				break
			}
		}
		w.Header().Set(http.TrailerPrefix+"X-End", r.Trailer.Get("X-Last"))
	})
	b.on(func(task *netloop.Task) {
		c, err := b.dial(task, addr, Options{})
		if err != nil {
			t.Error(err)
			return
		}
		s, err := c.Open(request(t, "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nTrailer: X-Last\r\n\r\n"), Outgoing{Scheme: "http", Framing: http1.Framing{Kind: http1.Chunked}})
		if err != nil {
			t.Error(err)
			return
		}
		defer s.Close()
		if status, err := s.Head(task, 0); status != 200 || err != nil {
			t.Error(status, err)
		}
		for i := range 20 {
			piece := fmt.Sprintf("piece %d", i)
			if _, err := s.Write(task, []byte(piece), false, 0); err != nil {
				t.Error(err)
			}
			if got, err := s.Next(task, 0); err != nil || string(got) != piece {
				t.Errorf("%q, %v", got, err)
			}
		}
		var trailers http1.Head
		trailers.Add("x-last", "yes")
		trailers.Add("content-length", "7") // which does not belong there
		if err := s.End(&trailers); err != nil {
			t.Error(err)
		}
		if _, err := s.Next(task, 0); err != io.EOF {
			t.Error(err)
		}
		if v, _ := s.Trailers().Get("x-end"); string(v) != "yes" {
			t.Errorf("trailers %q", v)
		}
	})
}

// TestAnswerBeforeTheRequest takes an answer that comes while the body is being sent, and which wants no more of it.
func TestAnswerBeforeTheRequest(t *testing.T) {
	b := newBench(t)
	addr := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(413)
		_, _ = io.WriteString(w, "no")
	})
	b.on(func(task *netloop.Task) {
		c, err := b.dial(task, addr, Options{})
		if err != nil {
			t.Error(err)
			return
		}
		for range 3 {
			if a := b.do(task, c, request(t, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\n"), strings.Repeat("x", 3<<20)); a.status != 413 || a.body != "no" || a.err != nil {
				t.Errorf("%d %q %v", a.status, a.body, a.err)
			}
		}
	})
}

func TestInterimAnswers(t *testing.T) {
	b := newBench(t)
	addr := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Link", "</style>")
		w.WriteHeader(103)
		_, _ = r.Body.Read(make([]byte, 1))
		w.WriteHeader(200)
	})
	b.on(func(task *netloop.Task) {
		c, err := b.dial(task, addr, Options{})
		if err != nil {
			t.Error(err)
			return
		}
		s, err := c.Open(request(t, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\n"), Outgoing{Scheme: "http", Framing: http1.Framing{Kind: http1.Length, Length: 1}})
		if err != nil {
			t.Error(err)
			return
		}
		defer s.Close()
		status, e := s.Head(task, 0)
		if v, _ := s.Fields().Get("link"); status != 103 || e != nil || string(v) != "</style>" {
			t.Error(status, e, string(v))
		}
		_, _ = s.Write(task, []byte("x"), true, 0)
		if status, e := s.Head(task, 0); status != 200 || e != nil {
			t.Error(status, e)
		}
	})
}

func TestDeadlines(t *testing.T) {
	b := newBench(t)
	release := make(chan struct{})
	addr := serve(t, func(http.ResponseWriter, *http.Request) { <-release })
	defer close(release)
	b.on(func(task *netloop.Task) {
		c, err := b.dial(task, addr, Options{})
		if err != nil {
			t.Error(err)
			return
		}
		s, err := c.Open(request(t, "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"), Outgoing{Scheme: "http"})
		if err != nil {
			t.Error(err)
			return
		}
		defer s.Close()
		l := task.Loop()
		if _, err := s.Head(task, l.Now()+5e6); err != netloop.ErrDeadline {
			t.Error(err)
		}
		n, e := s.Write(task, make([]byte, 4<<20), true, l.Now()+50e6)
		if e != netloop.ErrDeadline || n == 0 {
			t.Errorf("%d bytes, %v", n, e)
		}
	})
}

// TestGoAway refuses what is above the last stream, and lets the others end.
func TestGoAway(t *testing.T) {
	b := newBench(t)
	addr := listen(t, func(nc net.Conn) {
		p := newPeer(t, nc)
		p.await(http2.FrameHeaders)
		p.await(http2.FrameHeaders)
		_ = p.WriteGoAway(1, http2.ErrCodeNo, nil)
		p.head(1, false, ":status", "200")
		_ = p.WriteData(1, true, []byte("last"))
		p.drain()
	})
	b.on(func(task *netloop.Task) {
		ended := []Why(nil)
		c, err := b.dial(task, addr, Options{Ended: func(w Why) { ended = append(ended, w) }})
		if err != nil {
			t.Error(err)
			return
		}
		first, _ := c.Open(request(t, get), Outgoing{Scheme: "http", End: true})
		second, _ := c.Open(request(t, get), Outgoing{Scheme: "http", End: true})
		if a := b.take(task, second, answer{}); a.err == nil || !a.refused || !second.err.Retryable {
			t.Errorf("%v, refused %v", a.err, a.refused)
		}
		second.Close()
		if a := b.take(task, first, answer{}); a.err != nil || a.body != "last" {
			t.Errorf("%v %q", a.err, a.body)
		}
		first.Close()
		if len(ended) != 1 || ended[0] != PeerClosed || c.Room(0) {
			t.Errorf("ended %v", ended)
		}
		if _, err := c.Open(request(t, get), Outgoing{Scheme: "http", End: true}); err == nil || !err.Retryable {
			t.Error(err)
		}
	})
}

func TestRefusedStream(t *testing.T) {
	b := newBench(t)
	addr := listen(t, func(nc net.Conn) {
		p := newPeer(t, nc, http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: 2})
		p.await(http2.FrameHeaders)
		_ = p.WriteRSTStream(1, http2.ErrCodeRefusedStream)
		p.await(http2.FrameHeaders)
		_ = p.WriteRSTStream(3, http2.ErrCodeInternal)
		p.await(http2.FrameHeaders)
		p.head(5, true, ":status", "204")
		p.drain()
	})
	b.on(func(task *netloop.Task) {
		c, err := b.dial(task, addr, Options{})
		if err != nil {
			t.Error(err)
			return
		}
		if !c.Room(1) || c.Room(2) {
			t.Error("room for more streams than the peer allows, or less")
		}
		if a := b.do(task, c, request(t, get), ""); !a.refused || a.err == nil {
			t.Errorf("%+v", a)
		}
		if a := b.do(task, c, request(t, get), ""); a.refused || !a.reset || a.err == nil {
			t.Errorf("%+v", a)
		}
		if a := b.do(task, c, request(t, get), ""); a.status != 204 || a.err != nil {
			t.Errorf("%+v", a)
		}
	})
}
