package proxy

import (
	"errors"
	"time"

	"wasmgate/runtime/fault"
	"wasmgate/runtime/grpc"
	"wasmgate/runtime/netloop"
	"wasmgate/runtime/upstream/health"
)

// call is what there is to know of a request that is a call of gRPC. Such a request may flow both ways for ever so long, each
// side being silent while the other speaks; its answer says at its end how it went; and how long its client waits is known.
type call struct {
	is    bool
	moved int64 // when bytes went either way, for the last time
	owed  bool  // the upstream has answered, and not said yet how the call went
}

// maxKept is how much of a call's body is kept while it is sent, for it to be sent again, in bytes.
const maxKept = 2 * netloop.BufferSize

// beginCall looks whether the request is a call.
func (f *Flight) beginCall(l *netloop.Loop) {
	f.call, f.pump.kept, f.pump.stopping = call{}, false, false
	if f.Options.HTTP2 && grpc.Of(&f.X.Request.Head) == grpc.GRPC {
		f.call = call{is: true, moved: l.Now()}
		f.pump.kept = f.Options.Attempts > 1
	}
}

// tellTimeout has the upstream know how much of the time is left that the client gives its call, or the route.
func (f *Flight) tellTimeout(l *netloop.Loop) *fault.Error {
	if !f.call.is || f.Deadline == 0 {
		return nil
	}
	if _, ok := f.X.Request.Get(grpc.FieldTimeout); !ok {
		return nil
	}
	left := time.Duration(f.Deadline - l.Now())
	if left <= 0 {
		return f.tooLong()
	}
	var b [16]byte
	f.X.Request.SetBytes([]byte(grpc.FieldTimeout), grpc.AppendTimeout(b[:0], left))
	return nil
}

// tooLong is the error of a request whose time is over.
func (f *Flight) tooLong() *fault.Error {
	if f.Impatient {
		return fault.New(fault.RequestTimeout, fault.Gateway, 504, "the call took longer than its client waits for it (grpc-timeout)")
	}
	return fault.New(fault.RequestTimeout, fault.Upstream, 504, "the request took longer than its whole time (timeouts.request)")
}

// slack is by how much servers may be ahead of us in finding that the time of a call is over.
const slack = int64(50 * time.Millisecond)

// inTime is the error of a stream, or, where a server has cancelled a call since its time is over, that of the time.
func (f *Flight) inTime(l *netloop.Loop, err *fault.Error) *fault.Error {
	if f.call.is && f.Deadline != 0 && err.Reset && grpc.FromReset(err.ResetCode) == grpc.Cancelled && l.Now() >= f.Deadline-slack {
		return f.tooLong()
	}
	return err
}

// flowed notes that bytes went one way or the other.
func (f *Flight) flowed(l *netloop.Loop) {
	if f.call.is {
		f.call.moved = l.Now()
	}
}

// bodyIdle is how long the client may be silent within the request's body.
func (f *Flight) bodyIdle() time.Duration {
	if f.call.is {
		return f.Options.IdleRead
	}
	return f.BodyIdle
}

// livesOn says whether a silence that has become too long is none, since bytes went the other way meanwhile, and when it
// will be one.
func (f *Flight) livesOn(l *netloop.Loop, err error) (until int64, ok bool) {
	if !f.call.is || !errors.Is(err, netloop.ErrDeadline) || f.pastDeadline(l) {
		return 0, false
	}
	until = f.call.moved + int64(f.Options.IdleRead)
	if ok = l.Now() < until; f.Deadline != 0 {
		until = min(until, f.Deadline)
	}
	return until, ok
}

// judge tells the member how the answer is, as far as its head says it.
func (f *Flight) judge(l *netloop.Loop) (ejected bool) {
	resp := &f.X.Response
	if !f.call.is || resp.Status != 200 {
		return f.up.Report(l, health.Status(resp.Status))
	}
	if code, ok := grpc.StatusOf(&resp.Head); ok {
		return f.up.Report(l, f.outcome(code))
	}
	f.call.owed = true
	f.up.Answered(l)
	return false
}

// settle tells the member how a call went whose answer is whole.
func (f *Flight) settle(l *netloop.Loop) {
	if !f.call.owed {
		return
	}
	f.call.owed = false
	if !f.stream.Done() {
		return
	}
	if code, ok := grpc.StatusOf(f.stream.Trailers()); ok {
		a := f.X.Attempt()
		a.Ejected = f.up.Report(l, f.outcome(code)) || a.Ejected
	}
}

// outcome is what a status says of the server: nothing bad if it is that the client did not wait.
func (f *Flight) outcome(c grpc.Code) health.Outcome {
	if c == grpc.DeadlineExceeded && f.Impatient {
		return health.Success
	}
	return health.Status(c.HTTP())
}

// unwanted says whether the answer is that of a call which was not begun, with a status after which it is made again: no
// message came, and nothing comes. Whoever names a status in retries.on says that such calls may be made twice.
func (f *Flight) unwanted() bool {
	if f.Options.RetryOn.Calls == 0 || !f.call.is || !f.whole() || !f.stream.Done() {
		return false
	}
	code, ok := grpc.StatusOf(&f.X.Response.Head)
	return ok && f.Options.RetryOn.Calls&(1<<code) != 0
}

// whole says whether the body can be sent again: all of it is at hand, or all that was sent, and the rest can follow.
func (f *Flight) whole() bool { return f.replay || f.pump.kept && f.pump.err == nil }

// keep keeps a piece of a call's body that is about to be sent.
func (p *pump) keep(data []byte) {
	f := p.flight
	if p.kept = p.kept && len(f.body)+len(data) <= maxKept; p.kept {
		f.body = append(f.body, data...)
	}
}
