package server

import (
	"wasmgate/runtime/fault"
	"wasmgate/runtime/http1"
	"wasmgate/runtime/netloop"
	"wasmgate/runtime/secure"
	"wasmgate/runtime/wire"
)

// http1Side is the client's side of requests of HTTP/1, one after the other on a connection.
type http1Side struct {
	in     wire.Reader
	conn   *netloop.Conn // nil: there is none, and what would be sent stays in out; see Rehearse
	stream wire.Stream
	secure *secure.Conn // stream, if it is TLS
	loop   *netloop.Loop

	out     []byte // the answer that is put together, while there is one
	chunked bool   // its body goes in chunks
	tunnel  bool
	ended   bool // the tunnel's end is to be told
	memory  wire.Scratch

	gone  func()
	onEnd func(*netloop.Conn) // hungUp, made once
}

var _ Side = (*http1Side)(nil)

// open makes the side ready for a connection's requests.
func (h *http1Side) open(c *netloop.Conn, s wire.Stream, l *netloop.Loop, limits *http1.Limits) {
	h.conn, h.stream, h.loop, h.tunnel, h.ended = c, s, l, false, false
	h.secure, _ = s.(*secure.Conn)
	h.in.Open(s, l, limits)
}

// close gives all memory back.
func (h *http1Side) close() {
	h.in.Close()
	h.sent()
	h.conn, h.stream, h.secure = nil, nil, nil
}

// sent gives the answer's memory back, when it was sent or never will be.
func (h *http1Side) sent() {
	if h.out != nil {
		h.memory.Give(h.loop, h.out)
		h.out = nil
	}
}

// begin makes what follows the body of a request whose head was read.
func (h *http1Side) begin(f http1.Framing) { h.in.StartBody(f, fault.Client) }

func (h *http1Side) Next(t *netloop.Task) ([]byte, error) { return h.in.NextBody(t) }
func (h *http1Side) Ready() ([]byte, error)               { return h.in.BufferedBody() }
func (h *http1Side) Done() bool                           { return h.in.Body.Done() }
func (h *http1Side) Trailers() *http1.Head                { return h.in.Body.Trailers() }
func (h *http1Side) Rest()                                { h.in.Rest() }
func (h *http1Side) Gone() bool                           { return h.conn != nil && h.conn.Closed() }

func (h *http1Side) SetReadDeadline(at int64) {
	if h.conn != nil {
		h.conn.SetReadDeadline(at)
	}
}

func (h *http1Side) SetWriteDeadline(at int64) {
	if h.conn != nil {
		h.conn.SetWriteDeadline(at)
	}
}

func (h *http1Side) send(t *netloop.Task, b []byte) error {
	if len(b) == 0 || h.conn == nil {
		return nil
	}
	_, err := h.stream.Write(t, b)
	return err
}

// Continue is proxy.Client's.
func (h *http1Side) Continue(t *netloop.Task) error {
	var line [32]byte
	return h.send(t, http1.AppendContinue(line[:0]))
}

// Inform is proxy.Client's.
func (h *http1Side) Inform(t *netloop.Task, r *http1.Response) error {
	out := http1.AppendResponse(h.memory.Take(h.loop), r, http1.ResponseOut{Minor: 1})
	defer h.memory.Give(h.loop, out)
	return h.send(t, out)
}

// Head is Side's.
func (h *http1Side) Head(r *http1.Response, o http1.ResponseOut) {
	if h.out == nil {
		h.out = h.memory.Take(h.loop)
	}
	h.out = http1.AppendResponse(h.out[:0], r, o)
	h.chunked = o.Framing.Kind == http1.Chunked
}

// Add is Side's.
func (h *http1Side) Add(data []byte) bool {
	if h.chunked {
		h.out = append(append(http1.AppendChunkHeader(h.out, len(data)), data...), '\r', '\n')
	} else {
		h.out = append(h.out, data...)
	}
	return len(h.out) < netloop.BufferSize
}

// End is Side's.
func (h *http1Side) End(trailers *http1.Head) {
	if h.ended = h.tunnel; h.chunked {
		h.out = http1.AppendLastChunk(h.out, trailers)
	}
}

// Flush is Side's.
func (h *http1Side) Flush(t *netloop.Task) error {
	if h.conn == nil {
		return nil
	}
	err := h.send(t, h.out)
	h.out = h.out[:0]
	if h.tunnel { // what passes is not collected
		h.sent()
	}
	if err == nil && h.ended {
		return h.closeWrite(t)
	}
	return err
}

// closeWrite ends our half of the connection.
func (h *http1Side) closeWrite(t *netloop.Task) error {
	if h.secure != nil {
		return h.secure.CloseWrite(t)
	}
	return h.conn.CloseWrite()
}

// Write is Side's.
func (h *http1Side) Write(t *netloop.Task, data []byte) error {
	if h.chunked {
		h.Add(data)
		return h.Flush(t)
	}
	if err := h.Flush(t); err != nil {
		return err
	}
	return h.send(t, data)
}

// Tunnel is Side's.
func (h *http1Side) Tunnel() {
	h.tunnel, h.chunked = true, false
	h.in.StartBody(http1.Framing{Kind: http1.UntilClose, Length: -1}, fault.Client)
}

// Drained is Side's.
func (h *http1Side) Drained() bool {
	for !h.in.Body.Done() {
		data, err := h.in.BufferedBody()
		if err != nil || len(data) == 0 && !h.in.Body.Done() {
			return false
		}
	}
	return true
}

// OnGone is Side's.
func (h *http1Side) OnGone(fn func()) {
	if h.gone = fn; fn == nil {
		h.conn.OnHangUp(nil)
		return
	}
	if h.onEnd == nil {
		h.onEnd = func(*netloop.Conn) {
			if fn := h.gone; fn != nil {
				h.gone = nil
				fn()
			}
		}
	}
	h.conn.OnHangUp(h.onEnd)
}

// Abort is Side's.
func (h *http1Side) Abort() {
	if h.conn != nil {
		h.conn.Abort()
	}
}

// Close is Side's.
func (h *http1Side) Close() {
	if h.secure != nil {
		_ = h.secure.Close()
	} else if h.conn != nil {
		_ = h.conn.Close()
	}
}
