package server

import (
	"bytes"
	"io"

	"wasmgate/runtime/body"
	"wasmgate/runtime/exchange"
	"wasmgate/runtime/fault"
	"wasmgate/runtime/filter"
	"wasmgate/runtime/http1"
	"wasmgate/runtime/netloop"
	"wasmgate/runtime/proxy"
	"wasmgate/runtime/upstream/facts"
)

// Caller sends plugins' own requests to the upstreams of a configuration, by the same rules, pools and limits as clients'.
type Caller struct {
	upstreams []Upstream
	observers []Observer
	loops     []callerLoop
}

type callerLoop struct {
	free []*outbound
	_    [40]byte
}

// outbound is the storage of a request of a plugin's own.
type outbound struct {
	x       exchange.Exchange
	flight  proxy.Flight
	body    body.Body
	options proxy.Options // of a Stream
}

var _ filter.Streamer = (*Caller)(nil)

// NewCaller makes a caller for so many loops. observers has one Observer for each loop, or none.
func NewCaller(loops int, upstreams []Upstream, observers []Observer) *Caller {
	return &Caller{upstreams: upstreams, observers: observers, loops: make([]callerLoop, loops)}
}

// Call is filter.Caller's.
func (c *Caller) Call(t *netloop.Task, call *filter.Call) *fault.Error {
	return c.made(t, call, func(o *outbound) *fault.Error { return c.send(t, call, o) })
}

// Stream is filter.Streamer's.
func (c *Caller) Stream(t *netloop.Task, s *filter.Stream) *fault.Error {
	return c.made(t, &s.Call, func(o *outbound) *fault.Error { return c.flow(t, s, o) })
}

// made makes a call, and has it observed.
func (c *Caller) made(t *netloop.Task, call *filter.Call, send func(*outbound) *fault.Error) *fault.Error {
	if call.Upstream < 0 || call.Upstream >= len(c.upstreams) {
		return fault.New(fault.Denied, fault.Plugin, 503, "a call to an upstream that is not there")
	}
	l := t.Loop()
	free := &c.loops[l.Index()].free
	var o *outbound
	if n := len(*free); n > 0 {
		o = (*free)[n-1]
		*free = (*free)[:n-1]
	} else {
		o = &outbound{}
	}
	wanted := call.Run(&o.flight)
	t.SetPatient(true) // the answers that many guests wait for come together
	var err *fault.Error
	if err = exchange.ClientGone("a call was about to begin"); wanted {
		err = send(o)
	}
	t.SetPatient(false)
	call.Run(nil)
	if err != nil && err.Plugin == "" {
		err.Plugin = call.Filter
	}
	o.x.Err, o.x.Ended = err, l.Now()
	if c.observers != nil {
		c.observers[l.Index()].EndCall(&o.x)
	}
	*free = append(*free, o)
	return err
}

func (c *Caller) send(t *netloop.Task, call *filter.Call, o *outbound) *fault.Error {
	x, f, l, u := &o.x, &o.flight, t.Loop(), &c.upstreams[call.Upstream]
	if err := c.begin(t, call, o); err != nil {
		return err
	}
	timeout := call.Timeout
	if timeout <= 0 {
		timeout = filter.DefaultCallTimeout
	}
	f.Options, f.Feed, f.Deadline = &u.Options, nil, l.Now()+int64(timeout)
	if err := f.Forward(t); err != nil {
		return err
	}
	f.StartBody()
	x.Response.StripHopByHop()
	call.Status = x.Response.Status
	call.AnswerFields.CopyFrom(&x.Response.Head)
	err := o.answer(t, call)
	f.Finish(t)
	return err
}

// begin makes the exchange and the flight the call's.
func (c *Caller) begin(t *netloop.Task, call *filter.Call, o *outbound) *fault.Error {
	x, f, l, u := &o.x, &o.flight, t.Loop(), &c.upstreams[call.Upstream]
	x.Reset()
	x.Task, x.Plugin, x.Trace, x.Target.Upstream = t, call.Filter, call.Trace, call.Upstream
	x.Started, x.WallStarted = l.Now(), l.WallNow()
	f.X, f.Upstream, f.Filtered = x, u.Upstream, &o.body
	if c.observers != nil {
		f.Observer = c.observers[l.Index()]
	}
	return o.request(t, call, u)
}

// flow makes a call that flows both ways. How long it may be silent is its own business.
func (c *Caller) flow(t *netloop.Task, s *filter.Stream, o *outbound) *fault.Error {
	x, f, l, u := &o.x, &o.flight, t.Loop(), &c.upstreams[s.Upstream]
	if !u.HTTP2 {
		return fault.New(fault.Unsupported, fault.Plugin, 503, "upstream %s is not spoken to in HTTP/2, which gRPC needs: say upstreams.%s.protocol: http2", u.Name(), u.Name())
	}
	if err := c.begin(t, &s.Call, o); err != nil {
		return err
	}
	x.Request.TETrailers = true
	o.options = u.Options
	o.options.IdleRead, o.options.ResponseHeader = 0, 0
	f.Options, f.Feed, f.Deadline = &o.options, s.Feed, 0
	if s.Timeout > 0 {
		f.Deadline = l.Now() + int64(s.Timeout)
	}
	if s.Cancelled() {
		return fault.New(fault.ClientClosed, fault.Plugin, 0, "the call was cancelled")
	}
	s.OnCancel(f.Cancel)
	defer s.OnCancel(nil)
	if err := f.Forward(t); err != nil {
		return err
	}
	x.Response.StripHopByHop()
	s.Status = x.Response.Status
	s.AnswerFields.CopyFrom(&x.Response.Head)
	err := s.Head(t)
	for err == nil {
		data, e := f.NextBody(t)
		if e == io.EOF {
			s.AnswerTrailers.CopyFrom(f.Output().Trailers())
			break
		}
		if e != nil {
			err = fault.From(e)
		} else {
			err = s.Data(t, data)
		}
	}
	f.Finish(t)
	return err
}

// request makes the exchange's request, if it can be one.
func (o *outbound) request(t *netloop.Task, call *filter.Call, u *Upstream) *fault.Error {
	wrong := func(what string, text []byte) *fault.Error {
		return fault.New(fault.Denied, fault.Plugin, 503, "a call with %s that cannot be sent: %.100q", what, text)
	}
	path, query, hasQuery := bytes.Cut(call.Path, []byte("?"))
	switch {
	case !http1.ValidMethod(call.Method) || len(call.Method) == 0 || string(call.Method) == "CONNECT":
		return wrong("a method", call.Method)
	case !http1.ValidPath(path) || !http1.ValidQuery(query):
		return wrong("a path", call.Path)
	case len(call.Authority) > 0 && !http1.ValidAuthority(call.Authority):
		return wrong("an authority", call.Authority)
	}
	r := &o.x.Request
	for i := range call.Fields.Len() {
		name, value := call.Fields.Name(i), call.Fields.Value(i)
		if !http1.ValidFieldName(name) || len(name) == 0 || !http1.ValidFieldValue(value) {
			return wrong("a field", name)
		}
		r.AddBytes(name, value)
	}
	r.StripHopByHop()
	r.SetMethod(call.Method)
	r.SetPath(path)
	if hasQuery {
		r.SetQuery(query)
	}
	switch {
	case len(call.Authority) > 0:
		r.SetAuthority(call.Authority)
	case u.Host.Mode == LiteralHost:
		r.SetAuthority(u.Host.Literal)
	default:
		r.SetAuthority(u.Authority())
	}
	framing := http1.NoBody
	if m := string(call.Method); len(call.Body) > 0 || m == "POST" || m == "PUT" || m == "PATCH" { // RFC 9110 section 8.6
		framing = http1.Length
	}
	r.Minor, r.Framing = 1, http1.Framing{Kind: framing, Length: int64(len(call.Body))}
	o.body.InitHeld(t, call.Body, framing)
	o.body.Trailers().CopyFrom(&call.Trailers)
	return nil
}

// answer reads the answer's body.
func (o *outbound) answer(t *netloop.Task, call *filter.Call) *fault.Error {
	most := call.MaxAnswer
	if most <= 0 {
		most = filter.DefaultMaxAnswer
	}
	call.Answer = call.Answer[:0]
	for {
		data, err := o.flight.NextBody(t)
		if err == io.EOF {
			call.AnswerTrailers.CopyFrom(o.flight.Output().Trailers())
			return nil
		}
		if err != nil {
			return fault.From(err)
		}
		if call.Answer = append(call.Answer, data...); len(call.Answer) > most {
			o.flight.Abandon(facts.CloseNotDrained)
			return fault.New(fault.BodyTooLarge, fault.Upstream, 502, "the answer to a call is over %d bytes", most)
		}
	}
}
