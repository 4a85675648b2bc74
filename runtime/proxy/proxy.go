// Package proxy gives a request to an upstream: the attempt loop and the one retry decision.
//
// A Flight is one exchange on its way through an upstream. Forward acquires a connection, sends the request, and
// returns when the head of the answer is there; the server then takes the body from Flight.Answer, and Finish gives
// the connection back, or closes it for a reason. A body that is not in the buffer whole is sent by a second task, so
// that request and answer can stream at the same time, and each side's slowness stops only its own direction.
//
//	Forward ─ Acquire ─ send ─ answer head ──────────────► answer body ─ Finish
//	             │        │        │
//	             └────────┴────────┴─ failed: again() ─ yes: next attempt, with another member if there is one
//	                                                  └ no:  *fault.Error, the connection closed with a reason
//
// What was learned of the member goes to it with Report; the upstream makes health, ejection and its breaker of it.
// With Options.HTTP2 a request is a stream of a connection that others use too (frames.go): what ends it ends no connection.
// A request whose answer is 101 becomes a tunnel (tunnel.go), which in HTTP/2 is such a stream.
// With Options.Hedge, an attempt that takes long gets a second one beside it (hedge.go); the first answer is used.
package proxy

import (
	"errors"
	"io"
	"time"

	"wasmgate/runtime/body"
	"wasmgate/runtime/exchange"
	"wasmgate/runtime/fault"
	"wasmgate/runtime/http1"
	"wasmgate/runtime/http2"
	"wasmgate/runtime/netloop"
	"wasmgate/runtime/upstream"
	"wasmgate/runtime/upstream/pool"
	"wasmgate/runtime/wire"
)

// Options are an upstream's rules for one request, with what its route changes of them.
type Options struct {
	Connect        time.Duration // instead of the upstream's own; 0: that
	ResponseHeader time.Duration // from the end of the request to the head of the answer; 0: no limit
	IdleRead       time.Duration // between two reads of a body, and between two writes; 0: no limit
	TunnelIdle     time.Duration // without a byte either way; 0: no limit
	TunnelMax      time.Duration // the age of a tunnel; 0: no limit
	Attempts       int           // how often a request is given to the upstream at most; 0 is 1
	RetryOn        RetryOn
	PerTry         time.Duration // from the start of an attempt to the head of its answer; 0: no limit of its own
	Backoff        time.Duration // before the second attempt, doubled before each further one, and varied; 0: none
	Hedge          time.Duration // without an answer for so long, a second attempt is made beside the first; 0: never
	Ping           time.Duration // how long a pooled connection may take to say that it wants a body; 0: it is not asked
	HTTP10         bool          // the upstream is spoken to in HTTP/1.0
	HTTP2          bool          // it is spoken to in HTTP/2: Upstream's connections are StartHTTP2's. There is no Hedge and no Ping then
	Owned          bool          // its connections are each for one client, whom they name (PROXY protocol)
	Limits         *http1.Limits // of the answer's head
}

// Observer is told of attempts. Its methods run on the loop and must not park.
type Observer interface {
	// AttemptStarted runs before the request is sent, and may set fields that tell the upstream of the trace.
	AttemptStarted(*exchange.Exchange, *exchange.Attempt)
}

// Flight is one exchange on its way through an upstream. It belongs to one loop and is used again and again; the zero
// value is ready. The caller sets the exported fields before Forward.
type Flight struct {
	X        *exchange.Exchange
	Client   Client     // the request's body comes from here; nil for a request of the gateway's own: its body is Filtered
	Filtered *body.Body // the request's body as filters left it; nil, or untouched: as it comes
	Feed     Feed       // the body of a request of the gateway's own that flows; nil: it is Filtered
	Upstream *upstream.Upstream
	Options  *Options
	Observer Observer // may be nil
	Deadline int64    // of the whole request, loop time; 0: none
	// Impatient says that the Deadline is the client's own: that the request took longer says nothing of the upstream.
	Impatient bool
	BodyIdle  time.Duration
	MaxBody   int64 // of the request's body in bytes; 0: no limit

	Answer wire.Reader // the answer's body comes from here, after Forward

	up        upstream.Acquired
	stream    *http2.Stream // of the attempt, where the upstream is spoken to in HTTP/2
	reset     bool          // the upstream has ended the stream, and not its connection
	cancelled bool
	out       wire.Scratch
	body      []byte // the request's body as far as it was at hand, in the framing that is sent
	framing   http1.Framing
	source    body.Source
	replay    bool // body is all of it, so the request can be sent again
	call      call
	sentBytes uint64
	interim   int // interim answers of the attempt
	pump      pump
	hedge     *hedge
	noPing    bool               // the upstream did not understand to be asked
	tried     []*upstream.Member // by the attempts so far
	reason    string
}

// Forward gives the request to the upstream and returns when x.Response holds the head of its answer.
func (f *Flight) Forward(t *netloop.Task) *fault.Error {
	err := f.forward(t)
	if err != nil {
		f.call.is = false
	}
	return err
}

func (f *Flight) forward(t *netloop.Task) *fault.Error {
	f.reason, f.pump.state, f.hedge, f.noPing, f.tried = "", pumpIdle, nil, false, f.tried[:0]
	f.stream, f.reset, f.cancelled = nil, false, false
	f.beginCall(t.Loop())
	if err := f.takeBody(t); err != nil {
		return err
	}
	f.Upstream.Budget().Deposit()
	why := ""
	for n, free := 1, 0; ; n++ {
		if f.cancelled {
			return f.gone()
		}
		err := f.attempt(t, n, why)
		why = exchange.AgainRetry
		made := len(f.X.Attempts) - free // hedges included
		switch {
		case err == nil && !f.better(t, made):
			return nil
		case err == nil:
			f.drop()
		default:
			a := f.X.Attempt()
			a.Err, a.Ended = err, t.Loop().Now()
			if f.raced(err) {
				free, why = 1, exchange.AgainStale // a connection that was closed before it could be used is nobody's attempt
				if !f.affords(err) {
					return err
				}
			} else if !f.again(t.Loop(), err, made) {
				return err
			}
		}
		if f.Options.Backoff > 0 && !f.raced(err) {
			t.Sleep(backoff(f.Options.Backoff, n))
		}
	}
}

// takeBody copies what is at hand of the request's body, framed anew.
func (f *Flight) takeBody(t *netloop.Task) *fault.Error {
	f.body, f.framing, f.source = f.body[:0], f.X.Request.Framing, f.Input()
	if f.Filtered != nil && f.Filtered.Touched() {
		f.framing, f.source = f.Filtered.Framing(), f.Filtered
	}
	if f.Feed != nil {
		f.framing, f.source = http1.Framing{Kind: http1.Chunked}, f.Feed
	}
	if err := f.fits(); err != nil {
		return err
	}
	chunked := f.framing.Kind == http1.Chunked && !f.Options.HTTP10 && !f.Options.HTTP2
	for f.inMemory() || len(f.body) < netloop.BufferSize {
		data, err := f.atHand(t)
		if err != nil {
			return fault.From(err)
		}
		if len(data) == 0 {
			break
		}
		f.body = appendBody(f.body, data, chunked)
	}
	f.replay = f.source.Done()
	switch {
	case f.Options.HTTP10 && f.framing.Kind == http1.Chunked:
		return f.measureBody(t)
	case f.replay && chunked:
		f.body = http1.AppendLastChunk(f.body, f.source.Trailers())
	}
	return nil
}

// inMemory says whether filters hold the whole body.
func (f *Flight) inMemory() bool {
	return f.Feed == nil && f.source == body.Source(f.Filtered) && f.Filtered.Ended()
}

// atHand is the next piece of the body that does not have to be waited for; empty: there is none.
func (f *Flight) atHand(t *netloop.Task) ([]byte, error) {
	if !f.inMemory() {
		return f.source.Ready()
	}
	data, err := f.source.Next(t) // through stages, perhaps
	if err == io.EOF {
		err = nil
	}
	return data, err
}

// maxMeasured is how much of a body is kept to find out its length.
const maxMeasured = 1 << 20

// measureBody reads the rest of a body in chunks, for an upstream that must be told the length (HTTP/1.0 knows no
// transfer coding).
func (f *Flight) measureBody(t *netloop.Task) *fault.Error {
	for !f.replay {
		data, err := f.source.Next(t)
		if err != nil && err != io.EOF {
			return fault.From(err)
		}
		if f.body = append(f.body, data...); len(f.body) > maxMeasured {
			return fault.New(fault.BodyTooLarge, fault.Client, 411, "the upstream speaks HTTP/1.0, and must be told the length of a body over 1 MiB: send Content-Length")
		}
		f.replay = f.source.Done()
	}
	f.framing = http1.Framing{Kind: http1.Length, Length: int64(len(f.body))}
	return nil
}

func appendBody(dst, data []byte, chunked bool) []byte {
	if chunked {
		dst = http1.AppendChunkHeader(dst, len(data))
		return append(append(dst, data...), '\r', '\n')
	}
	return append(dst, data...)
}

// attempt is one time that the request is given to the upstream.
func (f *Flight) attempt(t *netloop.Task, n int, why string) *fault.Error {
	x, l := f.X, t.Loop()
	a := x.AddAttempt()
	a.Upstream, a.Why, a.Started = f.Upstream.Name(), why, l.Now()
	f.sentBytes, f.interim, f.reset = 0, 0, false
	acquired, err := f.Upstream.Acquire(t, f.wanted(n))
	if err != nil {
		a.Queued, a.Passed, a.Failed = acquired.Queued, acquired.Passed, acquired.Failed
		if err.Kind == fault.PoolExhausted && f.pastDeadline(l) {
			return f.tooLong()
		}
		return err
	}
	f.up = acquired
	f.up.Facts.User = x
	a.Acquired, a.HTTP2 = l.Now(), f.Options.HTTP2
	note(a, &f.up)
	if f.cancelled {
		f.up.Cancel()
		f.up.Release("") // nothing was sent on it
		f.up.Conn = nil
		return f.gone()
	}
	if f.Observer != nil {
		f.Observer.AttemptStarted(x, a)
	}
	if err := f.send(t); err != nil {
		return f.fail(t, err)
	}
	if err := f.head(t); err != nil {
		return f.fail(t, err)
	}
	a = x.Attempt() // a hedge may have come between
	a.FirstByte, a.Status = l.Now(), x.Response.Status
	a.Ejected = f.judge(l)
	if timeout, most := x.Response.KeepAliveHint(); timeout > 0 || most > 0 {
		f.up.Hint(timeout, most)
	}
	return nil
}

// wanted is what the upstream must know of the request for its n-th attempt.
func (f *Flight) wanted(n int) upstream.Request {
	x := f.X
	r := upstream.Request{
		Request:   pool.Request{Repeatable: f.replay && Idempotent(x.Request.Method), Fresh: n > 1},
		Authority: x.Target.Dynamic,
		Connect:   f.Options.Connect,
		Key:       x.Target.HashKey,
		HasKey:    x.Target.HashKey != 0,
		Token:     x.Target.Session,
		Until:     f.Deadline,
	}
	if n > 1 {
		r.Avoid = f.tried
	}
	if f.Options.Owned {
		r.Owner, r.Destination = x.Client.Peer, x.Client.Local
	}
	return r
}

// note copies the connection's facts into the attempt.
func note(a *exchange.Attempt, up *upstream.Acquired) {
	c := &up.Facts
	a.Host, a.Address, a.TLS, a.Secured, a.ConnID, a.Ordinal = c.Host, c.Address, c.TLS, c.TLSVersion, c.ID, c.Requests
	a.ConnTrace, a.ConnSpan = c.TraceID, c.SpanID
	a.Reused, a.WhyNew = up.WhyNew == "", up.WhyNew
	a.PoolWait = time.Duration(a.Acquired - a.Started)
	a.DNSAge = c.DNSAge()
	a.Queued, a.Chosen, a.Passed, a.Failed = up.Queued, up.Chosen, up.Passed, up.Failed
	if a.Reused {
		a.Age, a.Idle = up.Age(), up.Idle()
		return
	}
	a.Setup.DNS, a.Setup.Connect, a.Setup.TLS = c.Took()
}

// send writes the head and what is at hand of the body in one piece, and starts the pump for the rest.
func (f *Flight) send(t *netloop.Task) *fault.Error {
	if f.Options.HTTP2 {
		return f.open(t)
	}
	x, l := f.X, t.Loop()
	ping := f.mayPing()
	out := http1.AppendRequest(f.out.Take(l), &x.Request, f.outgoing(ping))
	if !ping {
		out = append(out, f.body...)
	}
	defer f.out.Give(l, out)
	if x.Request.ExpectContinue && !f.replay {
		if err := f.invite(t); err != nil {
			return err
		}
	}
	f.up.Net.SetWriteDeadline(f.until(l, f.Options.IdleRead))
	n, err := f.up.Stream.Write(t, out)
	f.sentBytes = uint64(n)
	f.up.Facts.BytesOut += uint64(n)
	if err != nil {
		return f.writeError(err)
	}
	if ping {
		if answered, err := f.ping(t); err != nil || answered {
			return err
		}
	}
	x.Attempt().Sent = l.Now()
	f.pump.doneAt = l.Now()
	if !f.replay {
		f.pump.start(t, f)
	}
	return nil
}

// outgoing is how the request's head is written.
func (f *Flight) outgoing(ping bool) http1.Outgoing {
	r := &f.X.Request
	return http1.Outgoing{Framing: f.framing, Upgrade: r.Upgrade, Trailers: r.TETrailers, HTTP10: f.Options.HTTP10, Expect: ping}
}

// head reads until the final head of the answer.
func (f *Flight) head(t *netloop.Task) *fault.Error {
	if f.stream != nil {
		return f.frameHead(t)
	}
	x, l := f.X, t.Loop()
	if !f.Answer.Opened() {
		f.Answer.Open(f.up.Stream, l, f.Options.Limits)
	}
	x.Response.Reset()
	if f.replay && f.Client != nil {
		f.Client.Rest() // nothing of the request is left there
	}
	hedgeAt := f.hedgeAt(l)
	for {
		n, err := 0, error(nil)
		if b := f.Answer.Buffered(); len(b) > 0 {
			n, err = x.Response.Parse(b, f.Options.Limits, x.Request.Method)
		}
		if err != nil {
			return f.hedged(t, fault.From(err))
		}
		if n > 0 {
			f.Answer.Consume(n)
			if x.Response.Status == 101 && !switchable(&x.Request, &x.Response) {
				return f.hedged(t, fault.New(fault.Malformed, fault.Upstream, 502, "switched to a protocol that nobody had asked for"))
			}
			if x.Response.Status >= 200 || x.Response.Status == 101 {
				f.loseHedge(t)
				return nil
			}
			if err := f.informational(t); err != nil {
				return err
			}
			continue
		}
		if f.cancelled {
			return f.gone()
		}
		if f.hedge.won() { // while nobody was reading
			return f.hedged(t, nil)
		}
		until := f.headUntil(l, f.X.Attempt().Started)
		if hedgeAt != 0 && (until == 0 || hedgeAt < until) {
			until = hedgeAt
		}
		f.up.Net.SetReadDeadline(until)
		if err := f.Answer.Fill(t); err != nil {
			if f.cancelled {
				return f.gone()
			}
			if hedgeAt != 0 && l.Now() >= hedgeAt && errors.Is(err, netloop.ErrDeadline) {
				hedgeAt = 0
				f.startHedge(t)
				continue
			}
			if f.hedge.won() {
				return f.hedged(t, nil)
			}
			if f.mayWaitOn(l, err) {
				continue
			}
			return f.hedged(t, f.headError(l, err))
		}
	}
}

// switchable says whether the client has asked for all that the upstream switches to (RFC 9110 section 7.8).
func switchable(r *http1.Request, resp *http1.Response) bool {
	if r.Upgrade == nil {
		return false
	}
	return http1.AllTokens(resp.Upgrade, func(protocol []byte) bool { return len(protocol) > 0 && http1.HasToken(r.Upgrade, string(protocol)) })
}

// headUntil is when the time is over for the head of the answer to an attempt that has started at a time. Neither a part of that head nor
// an interim answer makes it any later.
func (f *Flight) headUntil(l *netloop.Loop, started int64) int64 {
	at := f.until(l, f.Options.ResponseHeader)
	if sent := f.pump.doneAt + int64(f.Options.ResponseHeader); f.Options.ResponseHeader > 0 && f.pump.state != pumpRunning && sent < at {
		at = max(sent, 1)
	}
	if f.Options.PerTry > 0 {
		if own := started + int64(f.Options.PerTry); at == 0 || own < at {
			return own
		}
	}
	return at
}

// mayWaitOn says whether a read that timed out was none yet: the time for the head begins when the request is sent.
func (f *Flight) mayWaitOn(l *netloop.Loop, err error) bool {
	switch {
	case !errors.Is(err, netloop.ErrDeadline) || f.pastDeadline(l) || f.pastTry(l):
		return false
	case f.Options.ResponseHeader <= 0:
		return true
	}
	return f.pump.state == pumpRunning || l.Now() < f.pump.doneAt+int64(f.Options.ResponseHeader)
}

func (f *Flight) pastTry(l *netloop.Loop) bool {
	return f.Options.PerTry > 0 && l.Now() >= f.X.Attempt().Started+int64(f.Options.PerTry)
}

// informational passes a 1xx answer on to a client that knows them (RFC 9110 section 15.2); 100 is ours to give.
func (f *Flight) informational(t *netloop.Task) *fault.Error {
	x := f.X
	if f.interim++; f.interim > maxInterim {
		return fault.New(fault.Malformed, fault.Upstream, 502, "more than %d interim answers (1xx) to a request", maxInterim)
	}
	if x.Response.Status == 100 || x.Request.Minor == 0 || f.Client == nil {
		return nil
	}
	x.Response.StripHopByHop()
	f.Client.SetWriteDeadline(deadline(t.Loop(), f.BodyIdle))
	if err := f.Client.Inform(t, &x.Response); err != nil {
		return &fault.Error{Kind: fault.ClientClosed, Source: fault.Client, Err: err}
	}
	return nil
}

// maxInterim is how many interim answers an upstream may give to a request.
const maxInterim = 1000

// until is the earlier of now + d and the whole request's deadline.
func (f *Flight) until(l *netloop.Loop, d time.Duration) int64 {
	at := deadline(l, d)
	if f.Deadline != 0 && (at == 0 || f.Deadline < at) {
		return f.Deadline
	}
	return at
}

func deadline(l *netloop.Loop, d time.Duration) int64 {
	if d <= 0 {
		return 0
	}
	return l.Now() + int64(d)
}

func (f *Flight) pastDeadline(l *netloop.Loop) bool { return f.Deadline != 0 && l.Now() >= f.Deadline }

// NextBody returns the next piece of the answer's body, or io.EOF, or what went wrong; it parks.
func (f *Flight) NextBody(t *netloop.Task) (data []byte, err error) {
	if f.cancelled {
		return nil, f.bodyError(t.Loop(), f.gone())
	}
	if until := f.until(t.Loop(), f.Options.IdleRead); f.stream != nil {
		for ok := true; ok; {
			data, err = f.stream.Next(t, until)
			until, ok = f.livesOn(t.Loop(), err)
		}
		f.flowed(t.Loop())
	} else {
		f.up.Net.SetReadDeadline(until)
		data, err = f.Answer.NextBody(t)
	}
	if err == nil || err == io.EOF {
		return data, err
	}
	fe := f.bodyError(t.Loop(), err)
	a := f.X.Attempt()
	a.Err = fe
	return nil, fe
}

// StartBody makes what follows of the answer its body, after Forward.
func (f *Flight) StartBody() {
	if f.stream == nil {
		f.Answer.StartBody(f.X.Response.Framing, fault.Upstream)
	}
}

// Member is the member of the upstream that the answer comes from.
func (f *Flight) Member() *upstream.Member { return f.up.Member }

// Leaving says that the upstream's connection, or whom it leads to, is to be taken out of service, as far as that was decided
// after the request was given to it.
func (f *Flight) Leaving() bool { return f.up.Leaving() }
