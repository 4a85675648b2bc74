package proxy

import (
	"errors"
	"io"

	"wasmgate/runtime/body"
	"wasmgate/runtime/fault"
	"wasmgate/runtime/http1"
	"wasmgate/runtime/netloop"
)

// Client is the side that a request came from, while it is on its way. It belongs to the request's task, but for Next, which
// the task that sends the body calls.
type Client interface {
	body.Source                                      // the request's body as it comes
	SetReadDeadline(at int64)                        // loop time after which Next returns netloop.ErrDeadline, also one that waits; 0: never
	SetWriteDeadline(at int64)                       // the same for what sends
	Rest()                                           // nothing of the request is left to be read for now: its memory can go
	Continue(t *netloop.Task) error                  // sends 100 (Continue)
	Inform(t *netloop.Task, r *http1.Response) error // sends an interim answer
}

// Input is the request's body as it comes from the client: within its limits, and counted.
func (f *Flight) Input() body.Source { return (*input)(f) }

type input Flight

// Next parks until the client has sent more.
func (in *input) Next(t *netloop.Task) ([]byte, error) {
	f := (*Flight)(in)
	if err := f.fits(); err != nil {
		return nil, err
	}
	data, err := in.Ready()
	if err != nil || len(data) > 0 {
		return data, err
	}
	if f.X.Request.ExpectContinue && !f.Client.Done() {
		if err := f.invite(t); err != nil {
			return nil, err
		}
	}
	f.Client.SetReadDeadline(deadline(t.Loop(), f.bodyIdle()))
	for data, err = f.Client.Next(t); err != nil && !f.pump.stopping; data, err = f.Client.Next(t) {
		until, ok := f.livesOn(t.Loop(), err)
		if !ok {
			break
		}
		f.Client.SetReadDeadline(until)
	}
	switch {
	case err == io.EOF:
		return nil, err
	case err != nil:
		return nil, clientError(err)
	}
	return data, in.count(data)
}

// Ready does not park.
func (in *input) Ready() ([]byte, error) {
	data, err := in.Client.Ready()
	if err != nil {
		return nil, err
	}
	return data, in.count(data)
}

func (in *input) count(data []byte) error {
	if in.X.BytesIn += int64(len(data)); in.MaxBody > 0 && in.X.BytesIn > in.MaxBody {
		return tooLarge(in.MaxBody)
	}
	return nil
}

func (in *input) Done() bool            { return in.Client.Done() }
func (in *input) Trailers() *http1.Head { return in.Client.Trailers() }

// fits looks at the length that the client announces.
func (f *Flight) fits() *fault.Error {
	if r := &f.X.Request; r.Framing.Kind == http1.Length && f.MaxBody > 0 && r.Framing.Length > f.MaxBody {
		return tooLarge(f.MaxBody)
	}
	return nil
}

func tooLarge(limit int64) *fault.Error {
	return fault.New(fault.BodyTooLarge, fault.Client, 413, "the request's body is over %d bytes (limits.body)", limit)
}

func clientError(err error) *fault.Error {
	var fe *fault.Error
	switch {
	case errors.As(err, &fe):
		return fe
	case errors.Is(err, netloop.ErrDeadline):
		return fault.New(fault.ClientTimeout, fault.Client, 408, "no byte of the request's body for too long (limits.body_idle_timeout)")
	}
	return &fault.Error{Kind: fault.ClientClosed, Source: fault.Client, Err: err, Detail: "closed before the request's body was whole"}
}

// invite tells a client that waits for it (Expect: 100-continue, RFC 9110 section 10.1.1) to send the body. It comes
// once an upstream connection is there, so that a request that is refused never costs its body.
func (f *Flight) invite(t *netloop.Task) *fault.Error {
	f.X.Request.ExpectContinue = false
	if f.X.Request.Minor == 0 || f.Client == nil {
		return nil
	}
	f.Client.SetWriteDeadline(deadline(t.Loop(), f.BodyIdle))
	if err := f.Client.Continue(t); err != nil {
		return &fault.Error{Kind: fault.ClientClosed, Source: fault.Client, Err: err}
	}
	return nil
}

// Output is the answer's body as it comes from the upstream, after Forward.
func (f *Flight) Output() body.Source { return (*output)(f) }

type output Flight

func (out *output) Next(t *netloop.Task) ([]byte, error) { return (*Flight)(out).NextBody(t) }

func (out *output) Ready() ([]byte, error) {
	if out.stream != nil {
		return out.stream.Ready()
	}
	return out.Answer.BufferedBody()
}

func (out *output) Done() bool {
	if out.stream != nil {
		return out.stream.Done()
	}
	return out.Answer.Body.Done()
}

func (out *output) Trailers() *http1.Head {
	if out.stream != nil {
		return out.stream.Trailers()
	}
	return out.Answer.Body.Trailers()
}
