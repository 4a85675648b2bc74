package http2

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"net/netip"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"wasmgate/runtime/fault"
	"wasmgate/runtime/http1"
	"wasmgate/runtime/netloop"
)

// bench is a loop.
type bench struct {
	t     testing.TB
	group *netloop.Group
}

func newBench(t testing.TB) *bench {
	t.Helper()
	g, err := netloop.New(netloop.Options{Loops: 1, OnPanic: func(v any, stack []byte) { t.Errorf("panic: %v\n%s", v, stack) }})
	if err != nil {
		t.Fatal(err)
	}
	g.Start()
	t.Cleanup(g.Close)
	return &bench{t, g}
}

// on runs fn as a task, and waits for its end.
func (b *bench) on(fn func(t *netloop.Task)) {
	done := make(chan struct{})
	l := b.group.Loop(0)
	l.Post(func() {
		l.Go(func(t *netloop.Task) {
			defer close(done)
			fn(t)
		})
	})
	<-done
}

// listen gives every connection to fn, on a goroutine that the test waits for.
func listen(t testing.TB, fn func(net.Conn)) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				fn(c)
			}()
		}
	}()
	t.Cleanup(func() { l.Close(); <-done })
	return l.Addr().(*net.TCPAddr).AddrPort()
}

// serve runs the standard library's server, which is x/net's.
func serve(t testing.TB, h http.HandlerFunc) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: h, Protocols: &http.Protocols{}} //nolint:gosec // its clients are tests
	s.Protocols.SetUnencryptedHTTP2(true)
	done := make(chan struct{})
	go func() { defer close(done); _ = s.Serve(l) }()
	t.Cleanup(func() { s.Close(); <-done })
	return l.Addr().(*net.TCPAddr).AddrPort()
}

// dial starts a connection.
func (b *bench) dial(t *netloop.Task, addr netip.AddrPort, o Options) (*Conn, *fault.Error) {
	nc, err := t.Loop().Dial(t, addr, 0, netloop.DialOptions{})
	if err != nil {
		b.t.Error(err)
		return nil, fault.From(err)
	}
	return Start(t, nc, nc, o, t.Loop().Now()+int64(patience))
}

const patience = 40e9

// request makes a request of its text.
func request(t testing.TB, text string) *http1.Request {
	r := &http1.Request{}
	if _, err := r.Parse([]byte(text), nil); err != nil {
		t.Error(err)
	}
	return r
}

// answer is what came of a request.
type answer struct {
	status         int
	fields         http1.Head
	body           string
	trailers       http1.Head
	interim        []int
	err            error
	refused, reset bool
}

func (a *answer) get(name string) string {
	v, _ := a.fields.Get(name)
	return string(v)
}

// do sends a request with a body, and takes the answer.
func (b *bench) do(t *netloop.Task, c *Conn, r *http1.Request, body string) (a answer) {
	framing := http1.Framing{Kind: http1.NoBody}
	if body != "" {
		framing = http1.Framing{Kind: http1.Length, Length: int64(len(body))}
	}
	s, err := c.Open(r, Outgoing{Scheme: "http", Framing: framing, End: body == ""})
	if err != nil {
		return answer{err: err}
	}
	defer s.Close()
	until := t.Loop().Now() + int64(patience)
	if body != "" {
		if _, err := s.Write(t, []byte(body), true, until); err != nil && err != ErrStopped {
			a.err = err
		}
	}
	return b.take(t, s, a)
}

// take takes an answer.
func (b *bench) take(t *netloop.Task, s *Stream, a answer) answer {
	until := t.Loop().Now() + int64(patience)
	defer func() { a.refused, a.reset = s.Refused(), s.Reset() }()
	for a.status < 200 {
		var err error
		if a.status, err = s.Head(t, until); err != nil {
			a.err, a.refused, a.reset = err, s.Refused(), s.Reset()
			return a
		}
		if a.status < 200 {
			a.interim = append(a.interim, a.status)
		}
	}
	a.fields.CopyFrom(s.Fields())
	for {
		data, err := s.Next(t, until)
		if err == io.EOF {
			a.trailers.CopyFrom(s.Trailers())
			return a
		}
		if err != nil {
			a.err, a.refused, a.reset = err, s.Refused(), s.Reset()
			return a
		}
		a.body += string(data)
	}
}

// peer is a server that a test writes by hand.
type peer struct {
	t    testing.TB
	conn net.Conn
	*http2.Framer
	enc *hpack.Encoder
	buf bytes.Buffer
}

// newPeer takes the client's preface, and sends SETTINGS.
func newPeer(t testing.TB, c net.Conn, settings ...http2.Setting) *peer {
	p := &peer{t: t, conn: c, Framer: http2.NewFramer(c, c)}
	p.AllowIllegalWrites = true
	p.enc = newEncoder(&p.buf)
	if _, err := io.ReadFull(c, make([]byte, len(http2.ClientPreface))); err != nil {
		return p
	}
	_ = p.WriteSettings(settings...)
	return p
}

// block encodes fields: names and values in turn.
func (p *peer) block(fields ...string) []byte {
	p.buf.Reset()
	for i := 0; i < len(fields); i += 2 {
		_ = p.enc.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
	}
	return bytes.Clone(p.buf.Bytes())
}

// head sends HEADERS.
func (p *peer) head(id uint32, end bool, fields ...string) {
	_ = p.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: p.block(fields...), EndHeaders: true, EndStream: end})
}

// await reads frames until one of a type, which it returns; nil at the connection's end.
func (p *peer) await(of http2.FrameType) http2.Frame {
	for {
		f, err := p.ReadFrame()
		if err != nil {
			return nil
		}
		if f.Header().Type == of {
			if s, ok := f.(*http2.SettingsFrame); ok && s.IsAck() {
				continue
			}
			return f
		}
	}
}

// drain reads until the client closes, and returns the code of its GOAWAY.
func (p *peer) drain() (code http2.ErrCode, said bool) {
	for {
		f, err := p.ReadFrame()
		if err != nil {
			return code, said
		}
		if g, ok := f.(*http2.GoAwayFrame); ok {
			code, said = g.ErrCode, true
		}
	}
}

func newEncoder(b *bytes.Buffer) *hpack.Encoder { return hpack.NewEncoder(b) }
