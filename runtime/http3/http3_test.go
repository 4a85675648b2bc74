package http3

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
	quichttp3 "github.com/quic-go/quic-go/http3"

	"wasmgate/runtime/http1"
	"wasmgate/runtime/internal/testkit"
	"wasmgate/runtime/netloop"
)

func TestRequestsAndAnswers(t *testing.T) {
	b := newBench(t, Options{}, echo)
	tr := b.transport()
	for _, test := range []struct{ method, path, body, want string }{
		{"GET", "/a/../b?c=d", "", "/b?c=d"},
		{"POST", "/x", "some bytes", "/x?"},
		{"HEAD", "/h", "", "/h?"},
		{"OPTIONS", "/o", "", "/o?"},
	} {
		var body io.Reader
		if test.body != "" {
			body = strings.NewReader(test.body)
		}
		resp, got := b.do(tr, b.request(t.Context(), test.method, test.path, body))
		if resp.StatusCode != 200 || resp.Header.Get("X-Method") != test.method || resp.Header.Get("X-Path") != test.want || got != test.body {
			t.Errorf("%s %s: %d %v %q", test.method, test.path, resp.StatusCode, resp.Header, got)
		}
	}
}

// A request that has no body has none for whoever serves it either, however its end came.
func TestNoBodyIsKnown(t *testing.T) {
	framings := make(chan http1.Framing, 1)
	b := newBench(t, Options{}, func(t *netloop.Task, s served) bool {
		framings <- s.request.Framing
		return s.answer(t, 200, "")
	})
	tr := b.transport()
	for range 50 {
		b.do(tr, b.request(t.Context(), "GET", "/", nil))
		if f := <-framings; f.Kind != http1.NoBody {
			t.Fatalf("%+v", f)
		}
	}
}

func TestLargeBodiesBothWays(t *testing.T) {
	b := newBench(t, Options{}, echo)
	tr := b.transport()
	var wait sync.WaitGroup
	for i := range 8 {
		wait.Go(func() {
			body := make([]byte, 3<<20+i)
			fill(body, uint64(i)) //nolint:gosec // small
			resp, err := tr.RoundTrip(b.request(t.Context(), "POST", "/", bytes.NewReader(body)))
			if err != nil {
				t.Error(err)
				return
			}
			defer resp.Body.Close()
			sum := sha256.New()
			n, err := io.Copy(sum, resp.Body)
			if want := sha256.Sum256(body); err != nil || !bytes.Equal(sum.Sum(nil), want[:]) {
				t.Errorf("%d bytes of %d came back, or others: %v", n, len(body), err)
			}
		})
	}
	wait.Wait()
}

func fill(b []byte, seed uint64) {
	r := rand.New(rand.NewPCG(seed, seed)) //nolint:gosec // test data
	for i := range b {
		b[i] = byte(r.Uint32())
	}
}

func TestTrailersBothWays(t *testing.T) {
	b := newBench(t, Options{}, echo)
	r := b.request(t.Context(), "POST", "/", io.NopCloser(strings.NewReader("body")))
	r.ContentLength = -1
	r.Trailer = http.Header{"X-Sum": {"1234"}, "X-Other": {"5"}}
	resp, body := b.do(b.transport(), r)
	if body != "body" || resp.Trailer.Get("X-Sum") != "1234" || resp.Trailer.Get("X-Other") != "5" {
		t.Errorf("%q %v", body, resp.Trailer)
	}
}

func TestInterimAnswers(t *testing.T) {
	b := newBench(t, Options{}, func(t *netloop.Task, s served) bool {
		hints := &http1.Response{Status: 103}
		hints.Add("Link", "</a.css>; rel=preload")
		if s.Inform(t, hints) != nil || s.Continue(t) != nil {
			return false
		}
		return s.answer(t, 200, "there")
	})
	var got []string
	ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{
		Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
			got = append(got, fmt.Sprint(code, h.Get("Link")))
			return nil
		},
	})
	resp, body := b.do(b.transport(), b.request(ctx, "GET", "/", nil))
	if resp.StatusCode != 200 || body != "there" || fmt.Sprint(got) != "[103</a.css>; rel=preload 100]" {
		t.Errorf("%d %q %v", resp.StatusCode, body, got)
	}
}

// Answers without a body have none, and say of it what they should.
func TestAnswersWithoutBody(t *testing.T) {
	b := newBench(t, Options{}, func(t *netloop.Task, s served) bool {
		status := 200
		f := http1.Framing{Kind: http1.NoBody, Length: 7}
		switch string(s.request.Path) {
		case "/204":
			status, f.Length = 204, -1
		case "/304":
			status = 304
		}
		r := &http1.Response{Status: status}
		r.Add("ETag", `"x"`)
		s.Head(r, http1.ResponseOut{Framing: f, Date: []byte("Sun, 22 Nov 2026 00:00:00 GMT")})
		s.Add([]byte("nothing"))
		s.End(nil)
		return s.Flush(t) == nil
	})
	tr := b.transport()
	for _, test := range []struct{ method, path, length string }{{"HEAD", "/", "7"}, {"GET", "/204", ""}, {"GET", "/304", "7"}} {
		resp, body := b.do(tr, b.request(t.Context(), test.method, test.path, nil))
		if body != "" || resp.Header.Get("Content-Length") != test.length || resp.Header.Get("ETag") != `"x"` || resp.Header.Get("Date") == "" {
			t.Errorf("%s %s: %v %q", test.method, test.path, resp.Header, body)
		}
	}
}

// Fields arrive as they are, without those about the connection, in their order, and cookies as one.
func TestFields(t *testing.T) {
	fields := make(chan string, 1)
	b := newBench(t, Options{}, func(t *netloop.Task, s served) bool {
		var list []string
		for i := range s.request.Len() {
			list = append(list, string(s.request.Name(i))+"="+string(s.request.Value(i)))
		}
		fields <- strings.Join(list, "|")
		r := &http1.Response{Status: 200}
		for _, f := range [][2]string{{"Connection", "x-own"}, {"Keep-Alive", "timeout=5"}, {"X-Upper", "A"}, {"Set-Cookie", "a=1"}, {"Set-Cookie", "b=2"}} {
			r.Add(f[0], f[1])
		}
		s.Head(r, http1.ResponseOut{Framing: http1.Framing{Kind: http1.Length}})
		s.End(nil)
		return s.Flush(t) == nil
	})
	c := b.raw()
	s := c.open(true, get("x-b", "1", "cookie", "a=1", "x-a", "2", "cookie", "b=2", "x-b", "3"))
	if got := <-fields; got != "x-b=1|cookie=a=1; b=2|x-a=2|x-b=3|Host=localhost" {
		t.Errorf("the request has %s", got)
	}
	h := readHead(s, make([]byte, firstSize), 64<<10)
	sec, names := section(h.section, 1000, 100), ""
	for {
		f, err := sec.line()
		if err != nil {
			break
		}
		names += f.Name + "=" + f.Value + "|"
	}
	if names != ":status=200|x-upper=A|set-cookie=a=1|set-cookie=b=2|content-length=0|" {
		t.Errorf("the answer has %s", names)
	}
}

// A client that does not read stops its own stream, and nothing else.
func TestSlowClientStopsItsStreamOnly(t *testing.T) {
	var written, stopped = make(chan int, 1), make(chan error, 1)
	b := newBench(t, Options{}, func(t *netloop.Task, s served) bool {
		if string(s.request.Path) != "/slow" {
			return s.answer(t, 200, "quick")
		}
		r := &http1.Response{Status: 200}
		s.Head(r, http1.ResponseOut{Framing: http1.Framing{Kind: http1.Chunked}})
		piece := make([]byte, 32<<10)
		for n := 0; ; n += len(piece) {
			s.SetWriteDeadline(t.Loop().Now() + int64(2*time.Second))
			if err := s.Write(t, piece); err != nil {
				written <- n
				stopped <- err
				return false
			}
		}
	})
	tr := b.transport()
	tr.QUICConfig.InitialStreamReceiveWindow, tr.QUICConfig.MaxStreamReceiveWindow = 128<<10, 128<<10
	resp, err := tr.RoundTrip(b.request(t.Context(), "GET", "/slow", nil))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	for range 20 {
		if _, body := b.do(tr, b.request(t.Context(), "GET", "/", nil)); body != "quick" {
			t.Fatal(body)
		}
	}
	if n := <-written; n > 256<<10 {
		t.Errorf("%d bytes were written to a client that reads none", n)
	}
	if err := <-stopped; !errors.Is(err, netloop.ErrDeadline) {
		t.Errorf("%v", err)
	}
	if _, err := io.ReadAll(resp.Body); err == nil {
		t.Error("a cut-off answer was taken for a whole one")
	}
}

// Who serves a request and does not read its body stops the client from sending more than the window and what is read ahead.
func TestUnreadBodyStopsItsStreamOnly(t *testing.T) {
	release := make(chan struct{})
	b := newBench(t, Options{Settings: Settings{StreamWindow: 64 << 10}}, func(t *netloop.Task, s served) bool {
		if string(s.request.Path) != "/slow" {
			return s.answer(t, 200, "quick")
		}
		t.Await(func() { <-release })
		return echo(t, s)
	})
	tr := b.transport()
	var sent counter
	body := make([]byte, 1<<20)
	done := make(chan string, 1)
	go func() {
		resp, err := tr.RoundTrip(b.request(t.Context(), "POST", "/slow", io.TeeReader(io.NopCloser(bytes.NewReader(body)), &sent)))
		if err != nil {
			done <- err.Error()
			return
		}
		defer resp.Body.Close()
		got, err := io.ReadAll(resp.Body)
		done <- fmt.Sprint(len(got), err)
	}()
	testkit.Eventually(t, "the client has begun to send", func() bool { return sent.n() > 32<<10 })
	for range 20 {
		if _, got := b.do(tr, b.request(t.Context(), "GET", "/", nil)); got != "quick" {
			t.Fatal(got)
		}
	}
	if n := sent.n(); n > 512<<10 {
		t.Errorf("%d bytes were sent that nobody has read", n)
	}
	close(release)
	if got := <-done; got != "1048576<nil>" && got != "1048576 <nil>" {
		t.Error(got)
	}
}

type counter struct {
	mu    sync.Mutex
	total int
}

func (c *counter) Write(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.total += len(b)
	return len(b), nil
}

func (c *counter) n() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.total
}

// The one who serves learns that the client has gone, whether it resets its stream or closes its connection, and whether it
// waits to be told, reads or writes.
func TestClientGone(t *testing.T) {
	for name, leave := range map[string]func(*raw, *quic.Stream){
		"stream reset": func(_ *raw, s *quic.Stream) {
			s.CancelRead(errRequestCancelled)
			s.CancelWrite(errRequestCancelled)
		},
		"answer refused":    func(_ *raw, s *quic.Stream) { s.CancelRead(errRequestCancelled) },
		"connection closed": func(r *raw, _ *quic.Stream) { _ = r.conn.CloseWithError(errNoError, "") },
	} {
		t.Run(name, func(t *testing.T) {
			told, begun := make(chan bool, 1), make(chan struct{})
			b := newBench(t, Options{}, func(t *netloop.Task, s served) bool {
				gone := false
				s.OnGone(func() {
					gone = true
					t.Wake()
				})
				close(begun)
				for !gone {
					t.Park()
				}
				s.OnGone(nil)
				told <- s.Gone()
				return false
			})
			c := b.raw()
			s := c.open(false, post(), frame(frameData, []byte("some")))
			<-begun
			leave(c, s)
			if !<-told {
				t.Error("told that the client has gone, and it has not")
			}
		})
	}
}

func TestClientGoneWhileItsBodyIsRead(t *testing.T) {
	failed, begun := make(chan error, 1), make(chan struct{})
	b := newBench(t, Options{}, func(t *netloop.Task, s served) bool {
		close(begun)
		for {
			if _, err := s.Next(t); err != nil {
				failed <- err
				return false
			}
		}
	})
	s := b.raw().open(false, post(), frame(frameData, []byte("some")))
	<-begun
	s.CancelWrite(errRequestCancelled)
	if err := <-failed; err == io.EOF || !strings.Contains(err.Error(), "closed before the request's body was whole") {
		t.Errorf("%v", err)
	}
}

// What could not be ended is not taken for whole.
func TestAbort(t *testing.T) {
	b := newBench(t, Options{}, func(t *netloop.Task, s served) bool {
		s.Head(&http1.Response{Status: 200}, http1.ResponseOut{Framing: http1.Framing{Kind: http1.Chunked}})
		s.Add([]byte("half"))
		if err := s.Flush(t); err != nil {
			return false
		}
		s.Abort()
		return false
	})
	resp, err := b.transport().RoundTrip(b.request(t.Context(), "GET", "/", nil))
	if err == nil {
		_, err = io.ReadAll(resp.Body)
		resp.Body.Close()
	}
	var he *quichttp3.Error
	if !errors.As(err, &he) || he.ErrorCode != errRequestCancelled {
		t.Errorf("%v", err)
	}
}

func TestDeadlines(t *testing.T) {
	failed := make(chan error, 1)
	b := newBench(t, Options{}, func(t *netloop.Task, s served) bool {
		if s.err != nil {
			failed <- s.err
			return s.answer(t, 408, "")
		}
		s.SetReadDeadline(t.Loop().Now() + int64(200*time.Millisecond))
		for {
			if _, err := s.Next(t); err != nil {
				failed <- err
				return s.answer(t, 408, "")
			}
		}
	})
	c := b.raw()
	s := c.open(false, post(), frame(frameData, []byte("some")))
	if err := <-failed; !errors.Is(err, netloop.ErrDeadline) {
		t.Errorf("a body that does not come: %v", err)
	}
	if got := status(t, s); got != "408" {
		t.Error(got)
	}
	b.ln.Use(Settings{HeadTimeout: 300 * time.Millisecond})
	s = c.open(false, post()[:5])
	if err := <-failed; !strings.Contains(err.Error(), "limits.head_timeout") {
		t.Errorf("a head that does not come: %v", err)
	}
	if got := status(t, s); got != "408" {
		t.Error(got)
	}
}

// A task that waits for the body wakes when another sets a deadline that has passed.
func TestReadDeadlineWakes(t *testing.T) {
	failed := make(chan error, 1)
	b := newBench(t, Options{}, func(t *netloop.Task, s served) bool {
		done := false
		t.Loop().Go(func(r *netloop.Task) {
			_, err := s.Next(r)
			failed <- err
			done = true
			t.Wake()
		})
		t.Sleep(10 * time.Millisecond)
		s.SetReadDeadline(t.Loop().Now() + 1)
		for !done {
			t.Park()
		}
		return s.answer(t, 200, "")
	})
	s := b.raw().open(false, post())
	if err := <-failed; !errors.Is(err, netloop.ErrDeadline) {
		t.Error(err)
	}
	if got := status(t, s); got != "200" {
		t.Error(got)
	}
}

func TestManyStreamsOfManyConnections(t *testing.T) {
	b := newBench(t, Options{}, echo)
	var wait sync.WaitGroup
	for i := range 8 {
		tr := b.transport()
		for j := range 50 {
			wait.Go(func() {
				want := strings.Repeat(fmt.Sprint(i, j, " "), 100)
				resp, err := tr.RoundTrip(b.request(t.Context(), "POST", "/", strings.NewReader(want)))
				if err != nil {
					t.Error(err)
					return
				}
				defer resp.Body.Close()
				if got, err := io.ReadAll(resp.Body); err != nil || string(got) != want {
					t.Errorf("%q %v", got, err)
				}
			})
		}
	}
	wait.Wait()
	if s := b.ln.Stats(); s.Accepted != 8 || s.Open != 8 || b.group.Accepted() != 8 {
		t.Errorf("%+v, %d", s, b.group.Accepted())
	}
}

func TestPriority(t *testing.T) {
	for _, test := range []struct {
		in          string
		urgency     int8
		incremental bool
	}{
		{"", 3, false}, {"u=0", 0, false}, {"u=5, i", 5, true}, {"i=?0,u=7", 7, false}, {"i=?1", 3, true}, {"u=8", 3, false},
		{"u=2;x=1 , i;y", 2, true}, {"u, =, x=1", 3, false},
	} {
		if u, i := priority([]byte(test.in)); u != test.urgency || i != test.incremental {
			t.Errorf("%q: %d %v", test.in, u, i)
		}
	}
}
