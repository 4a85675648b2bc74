package http3

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/quicvarint"

	"wasmgate/runtime/http1"
	"wasmgate/runtime/internal/testkit"
	"wasmgate/runtime/netloop"
)

// control reads the server's control stream, and sends the numbers of its GOAWAYs.
func (r *raw) control() <-chan uint64 {
	r.t.Helper()
	u, err := r.conn.AcceptUniStream(r.t.Context())
	if err != nil {
		r.t.Fatal(err)
	}
	ids := make(chan uint64, 10)
	in := quicvarint.NewReader(u)
	if kind, err := quicvarint.Read(in); err != nil || kind != streamControl {
		r.t.Fatal(kind, err)
	}
	go func() {
		defer close(ids)
		for {
			kind, err := quicvarint.Read(in)
			if err != nil {
				return
			}
			length, _ := quicvarint.Read(in)
			payload := make([]byte, length)
			if _, err := io.ReadFull(in, payload); err != nil {
				return
			}
			if kind == frameGoAway {
				id, _, _ := quicvarint.Parse(payload)
				ids <- id
			}
		}
	}()
	return ids
}

// Drain tells clients to send no more, takes what is on its way, lets what is under way end, and closes then. What is on its way is
// taken for a second, so it has another try where the machine stood still.
func TestDrain(t *testing.T) {
	inTime := false
	for try := 1; !inTime; try++ {
		if try == 6 {
			t.Fatal("what is on its way does not come within the time for it")
		}
		if !t.Run(fmt.Sprint("try ", try), func(t *testing.T) { inTime = drain(t) }) {
			return
		}
	}
}

// drain says whether what was on its way came in time.
func drain(t *testing.T) (inTime bool) {
	t.Helper()
	release := make(chan struct{})
	b := newBench(t, Options{}, func(t *netloop.Task, s served) bool {
		if string(s.request.Path) == "/slow" {
			t.Await(func() { <-release })
		}
		return s.answer(t, 200, string(bytes.Repeat([]byte("x"), 60000)))
	})
	c, idle := b.raw(), b.raw()
	goAway, other := c.control(), idle.control()
	slow := c.open(true, headers(":method", "GET", ":scheme", "https", ":authority", "localhost", ":path", "/slow"))
	if got := status(t, c.open(true, get())); got != "200" {
		t.Fatal(got)
	}
	begun := time.Now()
	b.ln.Drain()
	if id := <-goAway; id != maxStreamID {
		t.Errorf("the first GOAWAY says %d", id)
	}
	<-other
	late := c.open(true, get()) // it was on its way
	got, err := statusOf(late)
	if time.Since(begun) > partingGrace/2 {
		close(release)
		return false
	}
	if got != "200" || err != nil {
		t.Errorf("what was on its way: %s, %v", got, err)
	}
	if id := <-goAway; id != uint64(late.StreamID())+4 {
		t.Errorf("the second GOAWAY says %d", id)
	}
	refused := c.open(true, get())
	_, err = refused.Read(make([]byte, 1))
	var se *quic.StreamError
	if !errors.As(err, &se) || se.ErrorCode != errRequestRejected {
		t.Errorf("a request after it: %v", err)
	}
	if got := idle.closed(); got != errNoError {
		t.Errorf("the idle one was closed with %#x", got)
	}
	select {
	case <-b.ln.Done():
		t.Error("it has ended, with a request under way")
	default:
	}
	close(release)
	if got := status(t, slow); got != "200" {
		t.Error(got)
	}
	if rest, err := io.ReadAll(slow); err != nil || len(rest) == 0 { // all of it, although we are closed next
		t.Errorf("%d %v", len(rest), err)
	}
	if got := c.closed(); got != errNoError {
		t.Errorf("closed with %#x", got)
	}
	<-b.ln.Done()
	testkit.Eventually(t, "nobody is counted", func() bool { return b.group.Accepted() == 0 })
	<-b.closed
	<-b.closed
	return true
}

// An answer that is still on its way to a slow client when the connection is to end arrives whole.
func TestNothingIsCutOffAtTheEnd(t *testing.T) {
	b := newBench(t, Options{}, func(t *netloop.Task, s served) bool {
		s.answer(t, 200, string(bytes.Repeat([]byte("x"), 30000)))
		return false // no further request
	})
	c := b.raw()
	ids := c.control()
	s := c.open(true, get())
	if <-ids; <-ids != uint64(s.StreamID())+4 {
		t.Error("another GOAWAY")
	}
	if got := status(t, s); got != "200" {
		t.Error(got)
	}
	if rest, err := io.ReadAll(s); err != nil {
		t.Errorf("%d bytes, %v", len(rest), err)
	}
	if got := c.closed(); got != errNoError {
		t.Errorf("closed with %#x", got)
	}
}

// Connections without requests are closed, sooner before the first than between them.
func TestIdleTimeouts(t *testing.T) {
	b := newBench(t, Options{Settings: Settings{IdleTimeout: time.Hour}}, echo)
	used := b.raw()
	if got := status(t, used.open(true, get())); got != "200" {
		t.Fatal(got)
	}
	b.ln.Use(Settings{HeadTimeout: 200 * time.Millisecond, IdleTimeout: time.Hour})
	silent := b.raw()
	if got := silent.closed(); got != errNoError {
		t.Errorf("closed with %#x", got)
	}
	if used.conn.Context().Err() != nil {
		t.Error("the one that was used has gone too")
	}
	b.ln.Use(Settings{IdleTimeout: 100 * time.Millisecond})
	if got := status(t, used.open(true, get())); got != "200" {
		t.Fatal(got)
	}
	if got := used.closed(); got != errNoError {
		t.Errorf("closed with %#x", got)
	}
}

// Other settings hold for what begins from then on.
func TestUse(t *testing.T) {
	b := newBench(t, Options{}, echo)
	c := b.raw()
	if got := status(t, c.open(true, get("x", string(bytes.Repeat([]byte("a"), 2000))))); got != "200" {
		t.Error(got)
	}
	lim := http1.DefaultLimits
	lim.Head = 1000
	b.ln.Use(Settings{Limits: &lim, MaxStreams: 1})
	if got := status(t, c.open(true, get("x", string(bytes.Repeat([]byte("a"), 2000))))); got != "431" {
		t.Error(got)
	}
	c = b.raw()
	c.open(false, post())
	if _, err := c.conn.OpenStream(); err == nil {
		t.Error("a second stream could be opened")
	}
}

// Close ends everything, with tasks in the middle of reading and of writing.
func TestCloseUnderWay(t *testing.T) {
	ended, begun := make(chan error, 2), make(chan struct{}, 2)
	b := newBench(t, Options{}, func(t *netloop.Task, s served) bool {
		begun <- struct{}{}
		if string(s.request.Method) == "POST" {
			_, err := s.Next(t)
			ended <- err
			return false
		}
		s.Head(&http1.Response{Status: 200}, http1.ResponseOut{Framing: http1.Framing{Kind: http1.Chunked}})
		for {
			if err := s.Write(t, make([]byte, 64<<10)); err != nil {
				ended <- err
				return false
			}
		}
	})
	c := b.raw()
	c.open(false, post())
	c.open(true, get())
	<-begun
	<-begun
	b.ln.Close()
	for range 2 {
		if err := <-ended; err == nil || err == io.EOF {
			t.Error(err)
		}
	}
	<-b.closed
	testkit.Eventually(t, "nobody is counted", func() bool { return b.group.Accepted() == 0 })
}

// A group that is closed while requests are under way leaves nothing behind.
func TestGroupClosedUnderWay(t *testing.T) {
	g := newGroup(t, netloop.Options{Loops: 1})
	ended, begun := make(chan error, 1), make(chan struct{})
	b := newBench(t, Options{Group: g}, func(t *netloop.Task, s served) bool {
		close(begun)
		_, err := s.Next(t)
		ended <- err
		return false
	})
	b.raw().open(false, post())
	<-begun
	g.Close()
	if err := <-ended; !errors.Is(err, netloop.ErrClosed) {
		t.Error(err)
	}
}
