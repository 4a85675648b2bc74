package http2

import (
	"strconv"

	"golang.org/x/net/http2"

	"wasmgate/runtime/fault"
	"wasmgate/runtime/http1"
	"wasmgate/runtime/netloop"
)

// Continue sends 100 (Continue).
func (r *Request) Continue(*netloop.Task) error {
	s := (*Stream)(r)
	if err := s.sendable(); err != nil {
		return err
	}
	s.conn.encode(":status", "100")
	s.interim()
	return nil
}

// Inform sends an interim answer. It parks as Flush does: interim answers are bounded by no window.
func (r *Request) Inform(t *netloop.Task, a *http1.Response) error {
	s := (*Stream)(r)
	if err := s.sendable(); err != nil {
		return err
	}
	s.encodeAnswer(a, &http1.ResponseOut{Framing: http1.Framing{Kind: http1.NoBody, Length: -1}})
	s.interim()
	return s.settle(t)
}

func (s *Stream) interim() {
	s.conn.headers(s, false)
	s.last = 0 // no end is to be put there
	s.conn.flush()
}

// sendable says why nothing of an answer can be sent any more, if so.
func (s *Stream) sendable() error {
	switch {
	case s.err != nil:
		return s.err
	case s.conn.err != nil:
		return s.conn.failure(s)
	case s.ended || s.reset:
		return ErrStopped
	}
	return nil
}

// Head collects the head of the answer. What an answer of HTTP/1 says about its connection is left out. 101, which HTTP/2 does not
// have, is 200: what a CONNECT is answered by whose protocol was switched to (RFC 8441 section 5).
func (r *Request) Head(a *http1.Response, o http1.ResponseOut) {
	s := (*Stream)(r)
	if s.sendable() != nil {
		return
	}
	s.encodeAnswer(a, &o)
	s.conn.headers(s, false)
}

var statuses = func() (texts [600]string) {
	for i := range texts {
		texts[i] = strconv.Itoa(i)
	}
	return texts
}()

// encodeAnswer adds the fields of an answer to the header block, as http1.AppendResponse writes them.
func (s *Stream) encodeAnswer(a *http1.Response, o *http1.ResponseOut) {
	c, status := s.conn, a.Status
	if status == 101 || status >= len(statuses) || status < 0 {
		status = 200
	}
	c.encode(":status", statuses[status])
	dated := status < 200 || len(o.Date) == 0
	for i := range a.Len() {
		id := a.ID(i)
		switch {
		case http1.IsHopByHop(id) || http1.IsFraming(id) || id == http1.FieldTrailer && o.Framing.Kind != http1.Chunked:
			continue
		case id == http1.FieldDate:
			dated = true
		}
		c.encodeField(id, a.Name(i), a.Value(i))
	}
	if !dated {
		c.encode("date", c.memory.strings.string(o.Date))
	}
	if o.Framing.Kind == http1.Length && status >= 200 || o.Framing.Kind == http1.NoBody && announces(status, o.Framing.Length) {
		c.encode("content-length", c.number(o.Framing.Length))
	}
}

// announces says whether an answer without a body has a content-length.
func announces(status int, length int64) bool {
	switch {
	case status < 200 || status == 204:
		return false
	case status == 304:
		return length > 0
	}
	return length >= 0
}

// Add collects a piece of the body, and says whether there is room for more before Flush.
func (r *Request) Add(data []byte) (room bool) {
	s := (*Stream)(r)
	if s.sendable() != nil || len(data) == 0 {
		return true
	}
	c := s.conn
	for !s.holds() && len(s.served.waiting) == 0 && len(data) > 0 && s.window > 0 && !c.full() && len(c.queue) == 0 {
		data = data[s.put(data, false):]
	}
	s.served.waiting = append(s.served.waiting, data...)
	return len(s.served.waiting) < collected
}

// End collects the end of the answer; trailers may be nil.
func (r *Request) End(trailers *http1.Head) {
	s := (*Stream)(r)
	switch {
	case s.sendable() != nil:
	case s.holds() && noFields(trailers):
		s.served.held = true
	case len(s.served.waiting) == 0:
		s.writeEnd(trailers)
	default:
		s.served.closing = true
		if s.served.trailers.Reset(); trailers != nil {
			s.served.trailers.CopyFrom(trailers) // they may be gone when it is their turn
		}
	}
}

// Flush sends what was collected; it parks while the client does not take it, until the write deadline.
func (r *Request) Flush(t *netloop.Task) error {
	s := (*Stream)(r)
	if s.reset || s.err != nil && !s.ended {
		return s.failed()
	}
	s.conn.flush()
	v := &s.served
	if len(v.waiting) > 0 && !v.held {
		closing := v.closing
		_, err := s.send(t, v.waiting, closing && v.trailers.Len() == 0)
		v.waiting, v.closing = v.waiting[:0], false
		if err != nil {
			return err
		}
		if closing && !s.ended {
			s.writeEnd(&v.trailers)
			s.conn.flush()
		}
	}
	return s.settle(t)
}

// holds says whether the last of the answer waits until the rest of the request has come, which nobody wants: there are clients that
// read nothing more once the answer is whole, and then wait for a window to send the rest.
func (s *Stream) holds() bool {
	return !s.peerEnded && s.length >= 0 && s.length-s.got <= discarded
}

func noFields(h *http1.Head) bool { return h == nil || h.Len() == 0 }

func (s *Stream) failed() error {
	if s.err != nil {
		return s.err
	}
	return ErrStopped
}

// settle waits while so much is collected that the client has to read first: heads are bounded by no window.
func (s *Stream) settle(t *netloop.Task) error {
	c := s.conn
	for len(c.out) >= backlog && c.err == nil && !s.reset {
		if s.writeBy != 0 && c.loop.Now() >= s.writeBy {
			return netloop.ErrDeadline
		}
		c.behind = append(c.behind, s)
		s.writer = t
		s.arm(s.writeBy)
		t.Park()
		s.writer = nil
		s.leaveBehind()
	}
	if c.err != nil || s.reset && !s.ended {
		return s.failed()
	}
	return nil
}

// leaveBehind takes the stream off those that wait.
func (s *Stream) leaveBehind() {
	list := s.conn.behind
	for i, one := range list {
		if one == s {
			n := len(list) - 1
			list[i], list[n] = list[n], nil
			s.conn.behind = list[:n]
			return
		}
	}
}

// Write is Flush, and sends data behind it.
func (r *Request) Write(t *netloop.Task, data []byte) error {
	if err := r.Flush(t); err != nil {
		return err
	}
	_, err := (*Stream)(r).send(t, data, false)
	return err
}

// Tunnel has the stream carry what passes through a tunnel: DATA, both ways, and nothing else (RFC 9113 section 8.5).
func (r *Request) Tunnel() { r.tunnel = true }

// Drained says that the connection can carry another request: what is left of this one is no hindrance.
func (r *Request) Drained() bool { return true }

// Abort resets the stream, so that the client does not take the answer for a whole one.
func (r *Request) Abort() { (*Stream)(r).abort(http2.ErrCodeInternal) }

// Close ends the stream at once, both ways.
func (r *Request) Close() { (*Stream)(r).abort(http2.ErrCodeCancel) }

func (s *Stream) abort(code http2.ErrCode) {
	c := s.conn
	if c == nil || s.reset || s.ended && s.peerEnded {
		return
	}
	s.reset, s.served.gone = true, nil
	c.reset(s.id, code)
	s.fail(fault.New(fault.ClientClosed, fault.Gateway, 0, "the request was cancelled"))
}

// Reset is Abort with a code of HTTP/2 that says more.
func (r *Request) Reset(code uint32) { (*Stream)(r).abort(http2.ErrCode(code)) }
