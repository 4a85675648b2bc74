package http2

import (
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"wasmgate/runtime/fault"
	"wasmgate/runtime/http1"
	"wasmgate/runtime/netloop"
)

// served is what only a stream of a server has.
type served struct {
	run       func(*netloop.Task)
	pseudo    []byte        // the values of the pseudo fields, one behind the other
	parts     [pseudos]part // which are where
	problem   *fault.Error  // what is wrong with the head
	malformed bool          // so that the stream is reset
	waiting   []byte        // what of the answer's body waits for a window
	closing   bool          // the answer's end is behind it
	trailers  http1.Head    // with these
	gone      func()        // to be told that the client has gone
	held      bool          // the answer is whole, and its end waits for that of the request
}

// part is a pseudo field.
type part struct {
	from, to int
	set      bool
}

// The pseudo fields of a request.
const (
	pseudoMethod = iota
	pseudoScheme
	pseudoAuthority
	pseudoPath
	pseudoProtocol // RFC 8441
	pseudos
)

var pseudoNames = [pseudos]string{":method", ":scheme", ":authority", ":path", ":protocol"}

// beginStream begins a stream for a request, if there is room for one. Those that are over in the client's eyes are counted as
// long as their tasks run: a client that takes back what it asks makes no more work than one that does not.
func (c *Conn) beginStream(id uint32, end bool) error {
	c.nextID = id + 2
	if err := c.annoyedBy(0); err != nil {
		return err
	}
	if c.crowded() || c.server.leaving == told {
		if err := c.annoyed(); err != nil {
			return err
		}
		c.reset(id, http2.ErrCodeRefusedStream)
		c.block.begin(id, end, nil, false)
		return c.control()
	}
	s := c.newStream(id)
	c.block.begin(id, end, &s.head, false)
	c.block.request = s
	return nil
}

// crowded says whether there are as many streams as there may be: open ones, or twice as many with those whose tasks are about
// to end.
func (c *Conn) crowded() bool {
	most := c.options.MaxStreams
	if len(c.streams) < most {
		return false
	}
	open := 0
	for _, s := range c.streams {
		if !s.reset && !(s.ended && s.peerEnded) {
			open++
		}
	}
	return open >= most || len(c.streams) >= 2*most
}

// pseudo takes a pseudo field of a request.
func (s *Stream) pseudo(f hpack.HeaderField, b *headBlock) string {
	which := -1
	for i, name := range pseudoNames {
		if name == f.Name {
			which = i
			break
		}
	}
	v := &s.served
	switch {
	case which < 0, which == pseudoProtocol && !b.limits.ExtendedConnect:
		return "a pseudo field that is not one of requests"
	case b.plain:
		return "a pseudo field behind others"
	case v.parts[which].set:
		return "a pseudo field that comes twice"
	}
	from := len(v.pseudo)
	v.pseudo = append(v.pseudo, f.Value...)
	v.parts[which] = part{from, len(v.pseudo), true}
	return ""
}

func (s *Stream) part(which int) []byte {
	p := &s.served.parts[which]
	return s.served.pseudo[p.from:p.to:p.to]
}

// requested takes the head of a request, and begins to serve it. One that is wrong is served too, so that it is told of.
func (c *Conn) requested(s *Stream) error {
	h := &c.block
	what := h.bad
	if what == "" {
		what = s.incomplete()
	}
	switch {
	case h.large:
		s.served.problem = fault.New(fault.HeadTooLarge, fault.Client, 431, "%s (limits.head)", what)
	case what != "":
		s.served.problem = c.fault(fault.Malformed, 0, "HTTP/2: "+what)
		c.nuisance += resetWeight // that are too many is found at the next request
	}
	s.headDone, s.length, s.peerEnded = true, h.length, h.end
	c.server.served = true
	c.loop.Go(s.served.run)
	c.keep()
	return nil
}

// incomplete looks at the pseudo fields as a whole (RFC 9113 sections 8.3.1 and 8.5, RFC 8441 section 4).
func (s *Stream) incomplete() string {
	p := &s.served.parts
	connect := string(s.part(pseudoMethod)) == "CONNECT"
	extended := p[pseudoProtocol].set
	switch {
	case !p[pseudoMethod].set:
		return "a request without :method"
	case extended && !connect:
		return "a :protocol without CONNECT"
	case connect && !extended:
		if p[pseudoScheme].set || p[pseudoPath].set || !p[pseudoAuthority].set {
			return "a CONNECT with :scheme or :path, or without :authority"
		}
	case !p[pseudoScheme].set || !p[pseudoPath].set || len(s.part(pseudoPath)) == 0:
		return "a request without :scheme or :path"
	}
	return ""
}

// serve is the request's task.
func (s *Stream) serve(t *netloop.Task) {
	defer s.Close()
	s.conn.server.handler.Serve(t, (*Request)(s))
	s.takeRest(t)
}

// takeRest takes what is left of a request whose answer is whole, for a moment. It could be reset at once (RFC 9113 section 8.1), but
// some clients take that for a failure of the answer too. The end of the answer comes behind it then, if it was held back.
func (s *Stream) takeRest(t *netloop.Task) {
	held := s.served.held && s.sendable() == nil // the request may have ended since
	if s.served.malformed || s.reset || !held && (!s.ended || s.peerEnded) {
		return
	}
	s.served.gone = nil
	s.readBy = s.conn.loop.Now() + int64(discarding)
	for n := 0; n <= discarded; {
		data, err := s.next(t)
		if err != nil {
			break
		}
		n += len(data)
	}
	if s.served.held && s.sendable() == nil {
		s.writeBy = s.conn.loop.Now() + int64(s.conn.options.WriteTimeout)
		_, _ = s.send(t, s.served.waiting, true)
		s.conn.flush()
	}
}

// tellGone tells who asked for it that the client has gone.
func (s *Stream) tellGone() {
	if fn := s.served.gone; fn != nil {
		s.served.gone = nil
		fn()
	}
}

// Request is a stream of a server's connection: a request, and the answer to it. One task may read the request while another
// answers. It must not be used any more when Handler.Serve has returned.
type Request Stream

// Protocol is the :protocol that a CONNECT asks for (RFC 8441); empty: it is none of that kind.
func (r *Request) Protocol() []byte { return (*Stream)(r).part(pseudoProtocol) }

// Fill makes q, which is empty, the request. Its fields are taken out of the stream: Fill is called once. An error is a
// *fault.Error, and one without a status means that the stream will be reset.
func (r *Request) Fill(q *http1.Request, lim *http1.Limits) error {
	s := (*Stream)(r)
	if p := s.served.problem; p != nil {
		s.served.malformed = p.Status == 0
		return p
	}
	q.Head, s.head = s.head, q.Head
	s.head.Reset()
	framing := http1.Framing{Kind: http1.Chunked}
	if s.peerEnded && s.got == 0 && s.trailers.Len() == 0 && len(s.recv) == 0 {
		framing.Kind = http1.NoBody
	}
	err := q.Assemble(s.part(pseudoMethod), s.part(pseudoScheme), s.part(pseudoAuthority), s.part(pseudoPath), framing, lim)
	if err != nil && fault.From(err).Status == 0 {
		s.served.malformed = true
		s.conn.nuisance += resetWeight
	}
	return err
}

// Next returns the next piece of the body, valid until the next call, and parks until there is one, or until the read deadline. It
// returns io.EOF after the last.
func (r *Request) Next(t *netloop.Task) ([]byte, error) { return (*Stream)(r).next(t) }

// Ready is Next without waiting: empty if nothing is there.
func (r *Request) Ready() ([]byte, error) { return (*Stream)(r).Ready() }

// Done says whether all of the body was returned.
func (r *Request) Done() bool { return (*Stream)(r).Done() }

// Trailers are those of the request, after its end.
func (r *Request) Trailers() *http1.Head { return &r.trailers }

// SetReadDeadline sets the loop time after which Next returns netloop.ErrDeadline, also one that waits; 0: never.
func (r *Request) SetReadDeadline(at int64) { (*Stream)(r).setReadDeadline(at) }

// SetWriteDeadline is SetReadDeadline for what sends.
func (r *Request) SetWriteDeadline(at int64) { (*Stream)(r).setWriteDeadline(at) }

// Rest gives memory back that nothing is in.
func (r *Request) Rest() { (*Stream)(r).rest() }

// OnGone has fn run on the loop, once, when the client has reset the stream or the connection is over; soon, if it is. fn must not
// park; nil disarms.
func (r *Request) OnGone(fn func()) {
	s := (*Stream)(r)
	s.served.gone = fn
	if fn != nil && r.Gone() {
		s.conn.loop.Post(func() {
			if s.served.gone != nil && r.Gone() {
				s.tellGone()
			}
		})
	}
}

// Gone says whether nothing can be sent any more.
func (r *Request) Gone() bool { return r.reset || r.conn == nil || r.conn.err != nil }
