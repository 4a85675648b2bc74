package http2

import (
	"bytes"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"wasmgate/runtime/http1"
	"wasmgate/runtime/netloop"
)

// handler answers requests by a function.
type handler struct {
	serve  func(*netloop.Task, *Request)
	closed chan struct{}
}

func (h *handler) Serve(t *netloop.Task, r *Request) { h.serve(t, r) }
func (h *handler) Closed()                           { close(h.closed) }

// site is a server on a loop, and its connections.
type site struct {
	*bench
	addr  netip.AddrPort
	conns chan *Conn         // as they come
	ended chan chan struct{} // what is closed when they are over
}

// open starts one. Every request is given to serve, on the loop.
func open(t testing.TB, o Options, serve func(*netloop.Task, *Request)) *site {
	t.Helper()
	s := &site{bench: newBench(t), conns: make(chan *Conn, 4096), ended: make(chan chan struct{}, 4096)}
	srv := NewServer(s.group)
	l, err := s.group.Listen("127.0.0.1:0", netloop.ListenOptions{Accept: func(nc *netloop.Conn) {
		h := &handler{serve, make(chan struct{})}
		c := srv.Accept(nc, nc, nil, o, h)
		s.conns <- c
		s.ended <- h.closed
		nc.Go(func(t *netloop.Task, _ *netloop.Conn) { c.Run(t) })
	}})
	if err != nil {
		t.Fatal(err)
	}
	s.addr = l.Addr()
	return s
}

// hello answers 200 with a line.
func hello(t *netloop.Task, r *Request) {
	var q http1.Request
	if err := r.Fill(&q, nil); err == nil {
		say(t, r, 200, "hello\n")
	}
}

// say answers.
func say(t *netloop.Task, r *Request, status int, body string) error {
	var a http1.Response
	a.Status = status
	r.SetWriteDeadline(t.Loop().Now() + int64(patience))
	r.Head(&a, http1.ResponseOut{Framing: http1.Framing{Kind: http1.Length, Length: int64(len(body))}})
	r.Add([]byte(body))
	r.End(nil)
	return r.Flush(t)
}

// visitor is a client that a test writes by hand.
type visitor struct{ *peer }

// visit connects and says the preface, and takes the server's.
func (s *site) visit(settings ...http2.Setting) *visitor {
	s.t.Helper()
	c, err := net.Dial("tcp", s.addr.String())
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(patience))
	p := &peer{t: s.t, conn: c, Framer: http2.NewFramer(c, c)}
	p.AllowIllegalWrites, p.AllowIllegalReads = true, false
	p.enc = newEncoder(&p.buf)
	_, _ = io.WriteString(c, Preface)
	_ = p.WriteSettings(settings...)
	if p.await(http2.FrameSettings) == nil {
		s.t.Fatal("no SETTINGS")
	}
	_ = p.WriteSettingsAck()
	return &visitor{p}
}

// ask sends the head of a request.
func (v *visitor) ask(id uint32, end bool, more ...string) {
	v.head(id, end, append([]string{":method", "GET", ":scheme", "http", ":authority", "h", ":path", "/"}, more...)...)
}

// answered reads until the stream's end, and says what came of it: a status, the body's length, or the code of a reset.
func (v *visitor) answered(id uint32) (status string, body int, code http2.ErrCode, ok bool) {
	dec := v.ReadMetaHeaders
	defer func() { v.ReadMetaHeaders = dec }()
	for {
		f, err := v.ReadFrame()
		if err != nil {
			return status, body, code, false
		}
		if f.Header().StreamID != id {
			continue
		}
		switch f := f.(type) {
		case *http2.HeadersFrame:
			status = "headers"
			if f.StreamEnded() {
				return status, body, 0, true
			}
		case *http2.DataFrame:
			if body += len(f.Data()); f.StreamEnded() {
				return status, body, 0, true
			}
		case *http2.RSTStreamFrame:
			return status, body, f.ErrCode, true
		}
	}
}

// works asks once more, by the connection or by another.
func (v *visitor) works(id uint32) {
	v.t.Helper()
	v.ask(id, true)
	if status, n, code, ok := v.answered(id); status == "" || n == 0 || code != 0 || !ok {
		v.t.Errorf("the next request: %q, %d bytes, %v, answered: %t", status, n, code, ok)
	}
}

// over waits for the end of a connection, and returns the code of its last GOAWAY.
func (v *visitor) over() (code http2.ErrCode, said bool) {
	v.t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		code, said = v.drain()
	}()
	select {
	case <-done:
	case <-time.After(patience):
		v.t.Error("the connection stays")
	}
	return code, said
}

// frames collects what a peer writes.
func frames(t testing.TB, do func(*peer)) []byte {
	var b bytes.Buffer
	p := &peer{t: t, Framer: http2.NewFramer(&b, nil)}
	p.AllowIllegalWrites = true
	p.enc = newEncoder(&p.buf)
	do(p)
	return b.Bytes()
}

func newDecoder() *hpack.Decoder { return hpack.NewDecoder(4096, nil) }
