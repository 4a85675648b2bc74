package http3

import (
	"bytes"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/quic-go/quic-go"

	"wasmgate/runtime/fault"
	"wasmgate/runtime/http1"
	"wasmgate/runtime/netloop"
)

// soon waits for what a client's going has come to.
func soon[T any](t *testing.T, what string, from <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-from:
	case <-time.After(20 * time.Second):
		t.Fatal("not noticed: " + what)
	}
	return v
}

// A client that gives its request up is noticed at once by the task that waits for the rest of it, whichever direction the client
// ends, and also where others have waited for its going and do not any more.
func TestGoneWhileItsRequestIsAwaited(t *testing.T) {
	for name, leave := range map[string]func(*raw, *quic.Stream){
		"reads no more": func(_ *raw, s *quic.Stream) { s.CancelRead(errRequestCancelled) },
		"sends no more": func(_ *raw, s *quic.Stream) { s.CancelWrite(errRequestCancelled) },
		"both":          func(_ *raw, s *quic.Stream) { s.CancelRead(errRequestCancelled); s.CancelWrite(errRequestCancelled) },
		"closes":        func(c *raw, _ *quic.Stream) { _ = c.conn.CloseWithError(errNoError, "") },
	} {
		t.Run(name, func(t *testing.T) {
			begun, ended := make(chan struct{}, 1), make(chan error, 1)
			b := newBench(t, Options{}, func(t *netloop.Task, s served) bool {
				s.OnGone(func() {})
				t.Loop().Post(func() { // once Next waits
					s.OnGone(nil)
					begun <- struct{}{}
				})
				_, err := s.Next(t)
				if err == nil {
					_, err = s.Next(t)
				}
				gone := s.Gone()
				if ended <- err; !gone {
					ended <- errors.New("and is not gone")
				}
				return false
			})
			c := b.raw()
			s := c.open(false, post())
			<-begun
			leave(c, s)
			var fe *fault.Error
			if err := soon(t, name, ended); !errors.As(err, &fe) || fe.Kind != fault.ClientClosed {
				t.Errorf("%v", err)
			}
		})
	}
}

// So it is by the one that waits for something else, with more of the request there than is read ahead.
func TestGoneWhileSomethingElseIsAwaited(t *testing.T) {
	for name, test := range map[string]struct {
		size  int
		ends  bool
		leave func(*raw, *quic.Stream)
	}{
		"resets":                  {50 << 10, false, func(_ *raw, s *quic.Stream) { s.CancelWrite(errRequestCancelled) }},
		"resets, little of it":    {1, false, func(_ *raw, s *quic.Stream) { s.CancelWrite(errRequestCancelled) }},
		"reads no more":           {50 << 10, false, func(_ *raw, s *quic.Stream) { s.CancelRead(errRequestCancelled) }},
		"reads no more, all sent": {50 << 10, true, func(_ *raw, s *quic.Stream) { s.CancelRead(errRequestCancelled) }},
		"reads no more, no body":  {0, true, func(_ *raw, s *quic.Stream) { s.CancelRead(errRequestCancelled) }},
		"closes":                  {50 << 10, false, func(c *raw, _ *quic.Stream) { _ = c.conn.CloseWithError(errNoError, "") }},
	} {
		t.Run(name, func(t *testing.T) {
			begun, ended := make(chan struct{}, 1), make(chan bool, 1)
			b := newBench(t, Options{}, func(t *netloop.Task, s served) bool {
				gone := make(chan struct{})
				s.OnGone(func() { close(gone) })
				begun <- struct{}{}
				t.Await(func() { <-gone })
				ended <- s.Gone()
				return true
			})
			c := b.raw()
			s := c.open(test.ends, post(), frame(frameData, make([]byte, test.size)))
			<-begun
			test.leave(c, s)
			if !soon(t, name, ended) {
				t.Error("it is not gone")
			}
		})
	}
}

// A client that has sent all of a large request, of which not everything was taken, has not gone.
func TestNotGoneAtTheEndOfItsRequest(t *testing.T) {
	release := make(chan struct{})
	b := newBench(t, Options{}, func(t *netloop.Task, s served) bool {
		gone := false
		s.OnGone(func() { gone = true })
		t.Await(func() { <-release })
		n := 0
		for {
			data, err := s.Next(t)
			if n += len(data); err != nil {
				if err != io.EOF || n != 50<<10 || gone {
					return s.answer(t, 500, "")
				}
				return s.answer(t, 200, "")
			}
		}
	})
	s := b.raw().open(true, post(), frame(frameData, make([]byte, 50<<10)))
	close(release)
	if got := status(t, s); got != "200" {
		t.Error(got)
	}
}

// Streams that end early end with the code that says why (RFC 9114 section 4.1.1 and 8.1), both what is sent and what is read.
func TestStreamErrors(t *testing.T) {
	group, err := netloop.New(netloop.Options{Loops: 1})
	if err != nil {
		t.Fatal(err)
	}
	group.Start()
	t.Cleanup(group.Close)
	b := newBench(t, Options{Group: group}, func(t *netloop.Task, s served) bool {
		if s.err != nil {
			s.Abort()
			return true
		}
		begin := func() {
			s.Head(&http1.Response{Status: 200}, http1.ResponseOut{Framing: http1.Framing{Kind: http1.Chunked}})
			s.Add([]byte("begun"))
			_ = s.Flush(t)
		}
		switch path := string(s.request.Path); path {
		case "/answered":
			s.answer(t, 200, "well")
		case "/nothing": // the end of the task is that of the exchange
		case "/begun":
			begin()
		case "/panic":
			begin()
			panic("a fault of ours")
		case "/read":
			for {
				if _, err := s.Next(t); err != nil {
					s.Abort()
					return true
				}
			}
		default:
			begin()
			s.Reset(uint32(path[1] - '0'))
		}
		return true
	})
	at := func(path string, more ...string) []byte {
		return headers(append([]string{":method", "POST", ":scheme", "https", ":authority", "localhost", ":path", path}, more...)...)
	}
	for name, test := range map[string]struct {
		sent    []byte
		ends    bool
		read    quic.StreamErrorCode // 0: it is whole
		written quic.StreamErrorCode // 0: the client had ended
	}{
		"answered before its request was whole": {at("/answered"), false, 0, errNoError},
		"abandoned, nothing was answered":       {at("/nothing"), false, errRequestCancelled, errRequestCancelled},
		"abandoned in the midst":                {at("/begun"), false, errRequestCancelled, errRequestCancelled},
		"abandoned, all was asked":              {at("/begun"), true, errRequestCancelled, 0},
		"a fault of ours":                       {at("/panic"), false, errInternal, errInternal},
		"malformed":                             {at("/begun", "Upper", "x"), false, errMessage, errMessage},
		"of another length":                     {append(at("/read", "content-length", "3"), frame(frameData, []byte("four"))...), false, errMessage, errMessage},
		"no request":                            {nil, true, errRequestIncomplete, 0},
		"CANCEL":                                {at("/8"), false, errRequestCancelled, errRequestCancelled},
		"REFUSED_STREAM":                        {at("/7"), false, errRequestRejected, errRequestRejected},
		"INTERNAL_ERROR":                        {at("/2"), false, errInternal, errInternal},
		"ENHANCE_YOUR_CALM":                     {at("/;"), false, errExcessiveLoad, errExcessiveLoad},
		"NO_ERROR":                              {at("/0"), false, errNoError, errNoError},
	} {
		t.Run(name, func(t *testing.T) {
			s := b.raw().open(test.ends, test.sent)
			_ = s.SetDeadline(time.Now().Add(20 * time.Second))
			_, err := io.Copy(io.Discard, s)
			if got := codeOf(err); got != test.read {
				t.Errorf("the answer ends with %#x, not %#x: %v", got, test.read, err)
			}
			for err = nil; !test.ends && err == nil; {
				_, err = s.Write(bytes.Repeat([]byte{0x21, 0}, 8))
			}
			if got := codeOf(err); got != test.written {
				t.Errorf("the request ends with %#x, not %#x: %v", got, test.written, err)
			}
		})
	}
}

// codeOf is what the other side has ended a stream with; 0: it did not.
func codeOf(err error) quic.StreamErrorCode {
	var se *quic.StreamError
	if errors.As(err, &se) && se.Remote {
		return se.ErrorCode
	}
	return 0
}
