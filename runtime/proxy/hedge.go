package proxy

import (
	"errors"

	"wasmgate/runtime/exchange"
	"wasmgate/runtime/fault"
	"wasmgate/runtime/http1"
	"wasmgate/runtime/netloop"
	"wasmgate/runtime/upstream"
	"wasmgate/runtime/upstream/facts"
	"wasmgate/runtime/upstream/pool"
	"wasmgate/runtime/wire"
)

// hedge is a second attempt at a request beside the first, in a task of its own. The two share nothing but this: the
// flight's task reads it, and it touches the flight no more once it is over. It is made anew for each hedge: one that
// has lost may still wait for a connection when the flight has long been used for another request.
type hedge struct {
	main     *netloop.Task // to be woken, if it waits; its read is interrupted if it reads
	waiting  bool          // the main attempt has failed, and its task is parked
	mainConn *netloop.Conn
	over     bool // the answer is no longer wanted
	done     bool
	err      *fault.Error
	deadline int64

	upstream *upstream.Upstream
	limits   *http1.Limits
	wanted   upstream.Request
	avoid    [1]*upstream.Member
	method   []byte
	out      []byte

	up       upstream.Acquired
	answer   wire.Reader
	response http1.Response
	attempt  exchange.Attempt
}

// hedgeAt is when the attempt gets another one beside it; 0: never. Only what may be sent twice is, and not what asks
// for a tunnel.
func (f *Flight) hedgeAt(l *netloop.Loop) int64 {
	if f.Options.Hedge <= 0 || f.Options.HTTP2 || f.hedge != nil || len(f.X.Attempts) >= f.Options.Attempts || !f.replay || !Idempotent(f.X.Request.Method) || f.X.Request.Upgrade != nil {
		return 0
	}
	return l.Now() + int64(f.Options.Hedge)
}

// startHedge begins a second attempt, if the budget for sending again has it.
func (f *Flight) startHedge(t *netloop.Task) {
	if !f.Upstream.Budget().Withdraw() {
		return
	}
	x, l := f.X, t.Loop()
	h := &hedge{
		main: t, mainConn: f.up.Net, deadline: f.headUntil(l, l.Now()), upstream: f.Upstream, limits: f.Options.Limits,
		wanted: f.wanted(1), avoid: [1]*upstream.Member{f.up.Member}, method: append([]byte(nil), x.Request.Method...),
	}
	h.wanted.Authority = append([]byte(nil), h.wanted.Authority...)
	h.wanted.Token, h.wanted.Avoid = nil, h.avoid[:] // a session's own member is the slow one
	a := x.AddAttempt()
	a.Upstream, a.Why, a.Started = f.Upstream.Name(), exchange.AgainHedge, l.Now()
	if f.Observer != nil {
		f.Observer.AttemptStarted(x, a)
	}
	h.out = append(http1.AppendRequest(nil, &x.Request, f.outgoing(false)), f.body...)
	h.attempt = *a
	last := len(x.Attempts) - 1 // the one that answers stands last
	x.Attempts[last], x.Attempts[last-1] = x.Attempts[last-1], x.Attempts[last]
	f.hedge = h
	l.Go(h.run)
}

// run makes the attempt.
func (h *hedge) run(t *netloop.Task) {
	h.err = h.try(t)
	h.done = true
	l := t.Loop()
	switch {
	case h.over:
		h.giveUp(l)
	case h.waiting:
		h.main.Wake()
	case h.err == nil:
		h.mainConn.SetReadDeadline(l.Now() + 1) // it has won
	}
}

func (h *hedge) try(t *netloop.Task) *fault.Error {
	l := t.Loop()
	up, err := h.upstream.Acquire(t, h.wanted)
	if err != nil {
		return err
	}
	h.up = up
	h.attempt.Acquired = l.Now()
	note(&h.attempt, &h.up)
	if h.up.WhyNew != "" {
		h.attempt.WhyNew = facts.NewHedge
	}
	if h.over {
		return fault.New(fault.ClientClosed, fault.Gateway, 0, "not needed any more")
	}
	h.up.Net.SetWriteDeadline(h.deadline)
	n, e := h.up.Stream.Write(t, h.out)
	h.up.Facts.BytesOut += uint64(n)
	if e != nil {
		return &fault.Error{Kind: fault.WriteFailed, Source: fault.Upstream, Status: 502, Err: e}
	}
	h.attempt.Sent = l.Now()
	h.answer.Open(h.up.Stream, l, h.limits)
	for {
		if b := h.answer.Buffered(); len(b) > 0 {
			n, e := h.response.Parse(b, h.limits, h.method)
			if e != nil {
				return fault.From(e)
			}
			if n > 0 {
				h.answer.Consume(n)
				if h.response.Status >= 200 {
					h.attempt.FirstByte, h.attempt.Status = l.Now(), h.response.Status
					return nil
				}
				h.response.Reset()
				continue
			}
		}
		h.up.Net.SetReadDeadline(h.deadline)
		if e := h.answer.Fill(t); e != nil {
			if errors.Is(e, netloop.ErrDeadline) {
				return fault.New(fault.HeaderTimeout, fault.Upstream, 504, "no head of an answer in time")
			}
			return &fault.Error{Kind: fault.UpstreamClosed, Source: fault.Upstream, Status: 502, Err: e}
		}
	}
}

// won says whether the hedge has an answer, and the attempt that it is beside none yet.
func (h *hedge) won() bool { return h != nil && !h.over && h.done && h.err == nil }

// loseHedge ends a hedge that is not needed: the first attempt has an answer, or the request is over.
func (f *Flight) loseHedge(t *netloop.Task) {
	h, l := f.hedge, t.Loop()
	if h == nil || h.over {
		return
	}
	h.over = true
	h.attempt.Err, h.attempt.Ended, h.attempt.WhyClosed = h.err, l.Now(), facts.CloseHedgeLost
	f.X.Attempts[len(f.X.Attempts)-2] = h.attempt
	switch {
	case h.done:
		h.giveUp(l)
	case h.up.Conn != nil: // it writes or reads: that ends now
		h.deadline = l.Now() + 1
		h.up.Net.SetReadDeadline(h.deadline)
		h.up.Net.SetWriteDeadline(h.deadline)
	}
}

// giveUp ends the connection of a hedge that has lost, or failed. One that nothing was sent on goes back to its pool.
func (h *hedge) giveUp(l *netloop.Loop) {
	if h.up.Conn == nil {
		return
	}
	reason := facts.CloseHedgeLost
	if h.attempt.Sent == 0 && h.up.Facts.BytesOut == 0 {
		reason = ""
	}
	h.up.Facts.BytesIn += h.answer.Total()
	h.answer.Close()
	h.up.Cancel()
	h.up.Release(reason)
	h.up.Conn = nil
}

// hedged is how an attempt ends that has a hedge beside it: err, unless the hedge has an answer, which is waited for.
// Then that takes the attempt's place.
func (f *Flight) hedged(t *netloop.Task, err *fault.Error) *fault.Error {
	h := f.hedge
	if h == nil || h.over {
		return err
	}
	for h.waiting = true; !h.done && !t.Loop().Closing() && !f.cancelled; {
		t.Park()
	}
	h.over = true
	x := f.X
	if h.err != nil || !h.done {
		switch {
		case h.done:
			h.giveUp(t.Loop())
		case h.up.Conn != nil: // it does so when it is over, which is now
			h.deadline = t.Loop().Now() + 1
			h.up.Net.SetReadDeadline(h.deadline)
			h.up.Net.SetWriteDeadline(h.deadline)
		}
		h.attempt.Err, h.attempt.Ended = h.err, t.Loop().Now()
		x.Attempts[len(x.Attempts)-2] = h.attempt
		return err
	}
	l := t.Loop()
	first := x.Attempt()
	first.Ended, first.WhyClosed, first.Err = l.Now(), facts.CloseHedgeLost, err
	f.up.Facts.BytesIn += f.Answer.Total()
	f.Answer.Close()
	if err != nil {
		f.report(l, err)
	} else {
		f.up.Cancel() // to be slower than another is no failure: it would have ejected whoever is slow now and then
	}
	f.up.Release(facts.CloseHedgeLost)
	f.up, f.Answer = h.up, h.answer
	x.Response, h.response = h.response, x.Response
	last := len(x.Attempts) - 1
	x.Attempts[last-1] = x.Attempts[last]
	x.Attempts[last] = h.attempt
	return nil
}

var _ pool.Stream = wire.Stream(nil)
