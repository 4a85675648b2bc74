package proxy

import (
	"errors"
	"io"

	"wasmgate/runtime/body"
	"wasmgate/runtime/exchange"
	"wasmgate/runtime/fault"
	"wasmgate/runtime/http1"
	"wasmgate/runtime/http2"
	"wasmgate/runtime/netloop"
	"wasmgate/runtime/upstream/facts"
	"wasmgate/runtime/upstream/pool"
)

// Feed is the body of a request of the gateway's own that comes piece by piece.
type Feed interface {
	body.Source
	// Stop has Next, which may be waiting, return an error: nobody wants the rest.
	Stop()
}

// whys are the reasons to close a connection of HTTP/2.
var whys = [...]string{
	http2.PeerClosed: facts.ClosePeer, http2.Failed: facts.CloseError, http2.Protocol: facts.CloseProtocol, http2.Exhausted: facts.CloseMaxRequests,
}

// StartHTTP2 makes connections that were opened ones of HTTP/2: it is upstream.Config.Session. limits are those of answers'
// heads; nil: http1.DefaultLimits.
func StartHTTP2(limits *http1.Limits) func(t *netloop.Task, c *pool.Conn, until int64) *fault.Error {
	if limits == nil {
		limits = &http1.DefaultLimits
	}
	return func(t *netloop.Task, c *pool.Conn, until int64) *fault.Error {
		f := &c.Facts
		if f.TLS && f.ALPN != "h2" {
			return &fault.Error{Kind: fault.TLS, Source: fault.Upstream, Status: 502, Retryable: true, Detail: "the upstream did not choose h2 (ALPN), and is to be spoken to in HTTP/2 (protocol: http2)"}
		}
		s, err := http2.Start(t, c.Net, c.Stream, http2.Options{
			HeaderList: limits.Head, Fields: limits.Fields, In: &f.BytesIn, Out: &f.BytesOut, Ended: func(w http2.Why) { c.Gone(whys[w]) },
			Limited: c.Limited,
			GoAway: func(ours bool, code string) {
				if ours {
					f.GoAwaySent = code
				} else {
					f.GoAwayReceived = code
				}
			},
		}, until)
		if err != nil {
			return err
		}
		c.Session = s
		return nil
	}
}

// open sends the request as a stream of the connection. What of the body is not at hand follows from the pump, as does what
// the upstream does not take yet.
func (f *Flight) open(t *netloop.Task) *fault.Error {
	x, l := f.X, t.Loop()
	session, ok := f.up.Session.(*http2.Conn)
	switch {
	case !ok:
		return fault.New(fault.Internal, fault.Gateway, 500, "a connection that does not speak HTTP/2")
	case f.cancelled:
		return f.gone()
	}
	if x.Request.ExpectContinue && !f.replay {
		if err := f.invite(t); err != nil {
			return err
		}
	}
	if err := f.tellTimeout(l); err != nil {
		return err
	}
	out := f.outgoing2(f.up.Facts.TLS)
	if out.Protocol != "" {
		if err := f.mayOpen(session); err != nil {
			return err
		}
	} else {
		out.End = f.replay && len(f.body) == 0 && noTrailers(f.source) && !f.call.is // whose end must be DATA
	}
	s, err := session.Open(&x.Request, out)
	if err != nil {
		return err
	}
	f.stream, f.sentBytes = s, 1
	x.Attempt().Sent, f.pump.doneAt = l.Now(), l.Now()
	if !out.End && out.Protocol == "" {
		f.pump.start(t, f)
	}
	return nil
}

// outgoing2 is how the request's head is written in HTTP/2.
func (f *Flight) outgoing2(secure bool) http2.Outgoing {
	o := http2.Outgoing{Scheme: "http", Framing: f.framing, Trailers: f.X.Request.TETrailers}
	if secure {
		o.Scheme = "https"
	}
	if f.extended() {
		o.Protocol, o.Framing, o.Trailers = exchange.TunnelWebSocket, http1.Framing{Kind: http1.NoBody, Length: -1}, false
	}
	return o
}

func noTrailers(s body.Source) bool {
	h := s.Trailers()
	return h == nil || h.Len() == 0
}

var errNotTaken = errors.New("the upstream takes no more of the request")

// frames sends the body of a request of HTTP/2 to its end. Errors are as those of move.
func (p *pump) frames(t *netloop.Task) error {
	f, s := p.flight, p.flight.stream
	write := func(data []byte, last bool) error {
		if _, err := s.Write(t, data, last, f.until(t.Loop(), f.Options.IdleRead)); err != nil {
			return errNotTaken // why is the reader's to say
		}
		return nil
	}
	last := f.replay && noTrailers(f.source)
	if len(f.body) > 0 || last {
		if err := write(f.body, last); err != nil || last {
			return err
		}
	}
	for !f.replay && !p.stopping {
		data, err := f.source.Next(t)
		if err == nil {
			f.flowed(t.Loop())
			p.keep(data)
		}
		if p.stopping {
			return netloop.ErrClosed
		}
		if err == io.EOF {
			f.replay = p.kept
			break
		}
		if err != nil {
			return err
		}
		if err := write(data, false); err != nil {
			return err
		}
	}
	if p.stopping {
		return netloop.ErrClosed
	}
	trailers := f.source.Trailers()
	if trailers == nil {
		trailers = &http1.Head{}
	}
	if s.End(trailers) != nil {
		return errNotTaken
	}
	return nil
}

// frameHead waits for the head of the answer of a stream.
func (f *Flight) frameHead(t *netloop.Task) *fault.Error {
	x, l := f.X, t.Loop()
	resp := &x.Response
	resp.Reset()
	if f.replay && f.Client != nil && len(f.body) == 0 {
		f.Client.Rest() // nothing of the request is left there
	}
	for {
		status, err := f.stream.Head(t, f.headUntil(l, x.Attempt().Started))
		if err != nil {
			if f.mayWaitOn(l, err) {
				continue
			}
			return f.frameError(l, err)
		}
		resp.Reset()
		resp.CopyFrom(f.stream.Fields())
		resp.Status, resp.Minor, resp.KeepAlive, resp.Framing = status, 1, true, http1.Framing{Kind: http1.NoBody, Length: -1}
		if status >= 200 {
			resp.Framing = f.stream.Framing()
			if _, announced := resp.GetID(http1.FieldTrailer); announced && resp.Framing.Kind == http1.Length {
				resp.Framing = http1.Framing{Kind: http1.Chunked} // in HTTP/1.1 nothing else has trailers
			}
			if f.extended() {
				f.opened()
			}
			return nil
		}
		if err := f.informational(t); err != nil {
			return err
		}
	}
}

// frameError says what the failure of a stream before the head of its answer means.
func (f *Flight) frameError(l *netloop.Loop, err error) *fault.Error {
	if f.stream.Refused() {
		f.sentBytes = 0 // nothing was acted upon
	}
	f.reset = f.stream.Reset() && !f.stream.Refused()
	var fe *fault.Error
	if f.cancelled {
		return f.gone()
	}
	if errors.As(err, &fe) {
		return f.inTime(l, fe)
	}
	return f.headError(l, err)
}

// endStream ends the stream, and the request's use of its connection: that stays, unless it was the connection that
// failed.
func (f *Flight) endStream() (whyClosed string) {
	f.settle(f.X.Task.Loop())
	f.stream.Finish()
	a := f.X.Attempt()
	a.ResetSent, a.ResetReceived = f.stream.Codes()
	f.stream.Close()
	f.stream = nil
	whyClosed = f.up.Release("")
	f.up.Conn = nil
	return whyClosed
}

// failStream is endStream for an attempt that failed. If the connection has failed, that is the reason.
func (f *Flight) failStream(err *fault.Error) (whyClosed string) {
	if s := f.up.Session; s != nil && !s.Alive() && err.Source == fault.Upstream {
		f.up.Facts.Err = err
	}
	if f.stream != nil {
		return f.endStream()
	}
	return f.up.Release("")
}
