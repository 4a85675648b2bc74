package native

import (
	"errors"
	"fmt"
	"time"

	"wasmgate/runtime/exchange"
	"wasmgate/runtime/fault"
	"wasmgate/runtime/filter"
	"wasmgate/runtime/http1"
	"wasmgate/runtime/netloop"
	"wasmgate/runtime/wasm"
	"wasmgate/sdk/abi"
)

// outbound is a guest's request to an upstream, and the answer as the guest reads it.
type outbound struct {
	call   filter.Call
	query  []byte
	answer []byte
	there  bool           // the answer
	lower  []byte         // scratch space
	watch  exchange.Watch // ends the call when the client goes
	gone   bool
}

// spareOutbounds is how many a loop keeps, and spareBytes how much memory one of them may have.
const (
	spareOutbounds = 64
	spareBytes     = 64 << 10
)

func (k *core) takeOutbound(l *netloop.Loop) *outbound {
	free := &k.cells[l.Index()].outbounds
	if n := len(*free); n > 0 {
		o := (*free)[n-1]
		*free = (*free)[:n-1]
		return o
	}
	o := &outbound{}
	o.watch.Gone = func() {
		o.gone = true
		o.call.Cancel()
	}
	return o
}

func (k *core) putOutbound(l *netloop.Loop, o *outbound) {
	free := &k.cells[l.Index()].outbounds
	o.there = false
	if len(*free) < spareOutbounds && cap(o.call.Body)+cap(o.call.Answer)+cap(o.answer) < spareBytes {
		*free = append(*free, o)
	}
}

var (
	errCallKind   = errors.New("not an operation of a request to an upstream")
	errCallMethod = errors.New("not a valid method, or CONNECT")
	errCallBody   = fmt.Errorf("a second body, or one of more than %d bytes", abi.MaxCallBody)
	errCallTime   = fmt.Errorf("a timeout that is not 1 to %d ms", abi.MaxCallTimeout)
)

// read takes the request from a guest's list; everything is copied.
func (o *outbound) read(list []byte) error {
	c := &o.call
	c.Method, c.Authority, c.Path = append(c.Method[:0], "GET"...), c.Authority[:0], append(c.Path[:0], '/')
	c.Body, o.query, o.there = c.Body[:0], o.query[:0], false
	c.Fields.Reset()
	c.Timeout, c.MaxAnswer = filter.DefaultCallTimeout, abi.MaxCallBody
	var j judge // of the fields
	ops := abi.ReadOperations(list)
	var op abi.Operation
	for {
		ok, err := ops.Next(&op)
		if err != nil {
			return err
		}
		if !ok {
			break
		}
		if err := o.operation(&op, &j); err != nil {
			return fmt.Errorf("operation %d (%s)%s: %w", ops.Index(), op.Kind, subject(&op), err)
		}
	}
	if len(o.query) > 0 {
		c.Path = append(append(c.Path, '?'), o.query...)
	}
	return nil
}

func (o *outbound) operation(op *abi.Operation, j *judge) error {
	c := &o.call
	switch op.Kind {
	case abi.OpMethod:
		if len(op.Value) == 0 || len(op.Value) > abi.MaxMethod || !http1.ValidMethod(op.Value) || string(op.Value) == "CONNECT" {
			return errCallMethod
		}
		c.Method = append(c.Method[:0], op.Value...)
	case abi.OpAuthority:
		if len(op.Value) > abi.MaxAuthority || !http1.ValidAuthority(op.Value) {
			return errAuthority
		}
		c.Authority = append(c.Authority[:0], op.Value...)
	case abi.OpPath:
		if len(op.Value) > abi.MaxTarget || !http1.ValidPath(op.Value) {
			return errPath
		}
		c.Path = append(c.Path[:0], op.Value...)
	case abi.OpQuery:
		if len(op.Value) > abi.MaxTarget || !http1.ValidQuery(op.Value) {
			return errQuery
		}
		o.query = append(o.query[:0], op.Value...)
	case abi.OpSetHeader, abi.OpAppendHeader:
		if err := j.field(op.Name, op.Value); err != nil {
			return err
		}
		if op.Kind == abi.OpSetHeader {
			c.Fields.SetBytes(op.Name, op.Value)
		} else {
			c.Fields.AddBytes(op.Name, op.Value)
		}
	case abi.OpSetBody:
		if j.bodies++; j.bodies > 1 || len(op.Value) > abi.MaxCallBody {
			return errCallBody
		}
		c.Body = append(c.Body[:0], op.Value...)
	case abi.OpTimeout:
		if op.Number == 0 || op.Number > abi.MaxCallTimeout {
			return errCallTime
		}
		c.Timeout = time.Duration(op.Number) * time.Millisecond //nolint:gosec // bounded
	default:
		return errCallKind
	}
	return nil
}

// encode writes the answer as the guest reads it.
func (o *outbound) encode(took int64) {
	c := &o.call
	fields, trailers := &c.AnswerFields, &c.AnswerTrailers
	var w abi.AnswerWriter
	w.Begin(o.answer[:0], uint32(c.Status), uint32(took/1e6), fields.Len(), trailers.Len()) //nolint:gosec // three digits; some minutes
	for _, h := range [...]*http1.Head{fields, trailers} {
		for i := range h.Len() {
			o.lower = append(o.lower[:0], h.Name(i)...)
			for k, b := range o.lower {
				if 'A' <= b && b <= 'Z' {
					o.lower[k] = b + 'a' - 'A'
				}
			}
			w.Field(o.lower, h.Value(i))
		}
	}
	o.answer, o.there = w.Finish(c.Answer), true
}

// hostCall is call(upstream, request_ptr, request_len, out_ptr, out_cap) -> i64.
func hostCall(in *wasm.Instance, a []uint64) {
	request := memory(in, abi.ImportCall, a[1], a[2])
	memory(in, abi.ImportCall, a[3], a[4])
	g, ok := in.Owner.(*guest)
	if !ok || g.task == nil {
		a[0] = abi.Pack(uint32(abi.ResultDenied), 0)
		return
	}
	id, ids := uint32(a[0]), g.plugin.grants.calls //nolint:gosec // an i32 is in the low half
	if uint64(id) >= uint64(len(ids)) {
		in.Failf(fault.PluginTrap, "%s: upstream id %d; the manifest declares %d to call", abi.ImportCall, id, len(ids))
	}
	in.Charge(int64(len(request) / 2))
	r := g.send(ids[id], request)
	var n int
	if r == abi.ResultOK {
		n = len(g.out.answer)
		in.Charge(int64(n / 2)) // it is copied some times
		if out := memory(in, abi.ImportCall, a[3], a[4]); n <= len(out) {
			copy(out, g.out.answer)
		}
	}
	a[0] = abi.Pack(uint32(r), uint32(n)) //nolint:gosec // some MiB
}

// send sends a request and waits for the answer, which g.out holds then.
func (g *guest) send(upstream int, request []byte) abi.Result {
	k, l := g.core, g.task.Loop()
	if g.calls++; g.calls > abi.MaxCalls {
		return abi.ResultLimit
	}
	if g.out == nil {
		g.out = k.takeOutbound(l)
	}
	o, c := g.out, &k.cells[l.Index()]
	if err := o.read(request); err != nil {
		k.say(l, g.phase, abi.LogWarn, "the plugin calls with a request that cannot be sent: "+err.Error(), "call")
		return abi.ResultInvalid
	}
	if g.plugin.closed.Load() {
		return abi.ResultFailed
	}
	o.call.Filter, o.call.Upstream = k.options.Name, upstream
	if g.x != nil {
		o.call.Trace = g.x.Trace
	}
	c.outbound.Add(1)
	began := l.Now()
	if err := g.park(o); err != nil {
		c.outboundFailed.Add(1)
		return resultOf(err.Kind)
	}
	o.encode(l.Now() - began)
	return abi.ResultOK
}

// park has the call made, and lets others have another instance meanwhile. A client that goes ends it, and each further one:
// the guest, which learns that they failed, is soon free.
func (g *guest) park(o *outbound) *fault.Error {
	if g.gone {
		return exchange.ClientGone("the plugin made calls")
	}
	if g.x != nil {
		o.gone = false
		g.x.Watch(&o.watch)
		defer func() {
			g.x.Unwatch(&o.watch)
			g.gone = o.gone
		}()
	}
	loop := g.task.Loop().Index()
	g.core.keeper.Pool().Park(loop)
	defer g.core.keeper.Pool().Unpark(loop)
	return g.plugin.grants.caller.Call(g.task, &o.call)
}

// resultOf is what a guest is told of an error.
func resultOf(k fault.Kind) abi.Result {
	switch k {
	case fault.HeaderTimeout, fault.IdleTimeout, fault.RequestTimeout:
		return abi.ResultTimeout
	case fault.PoolExhausted, fault.Unavailable, fault.DNS, fault.Connect, fault.ConnectTimeout, fault.TLS, fault.Overloaded, fault.ShuttingDown:
		return abi.ResultConnect
	case fault.BodyTooLarge, fault.HeadTooLarge:
		return abi.ResultTooLarge
	case fault.Denied:
		return abi.ResultInvalid
	}
	return abi.ResultFailed
}

// hostCallAnswer is call_answer(out_ptr, out_cap) -> i32.
func hostCallAnswer(in *wasm.Instance, a []uint64) {
	out := memory(in, abi.ImportCallAnswer, a[0], a[1])
	g, ok := in.Owner.(*guest)
	if !ok || g.out == nil || !g.out.there {
		a[0] = none
		return
	}
	n := len(g.out.answer)
	if n <= len(out) {
		in.Charge(int64(n / 8))
		copy(out, g.out.answer)
	}
	a[0] = uint64(n)
}

// hostReadBody is read_body(message, offset, out_ptr, out_cap) -> i32.
func hostReadBody(in *wasm.Instance, a []uint64) {
	message, offset := uint32(a[0]), uint64(uint32(a[1])) //nolint:gosec // i32s are in the low halves
	out := memory(in, abi.ImportReadBody, a[2], a[3])
	if message > abi.MessageResponse {
		in.Failf(fault.PluginTrap, "%s: unknown message %d", abi.ImportReadBody, message)
	}
	g, ok := in.Owner.(*guest)
	a[0] = none
	if !ok || g.held == nil || !g.held.there || message != g.phase || offset > uint64(len(g.held.data)) {
		return
	}
	rest := g.held.data[offset:]
	in.Charge(int64(min(len(rest), len(out)) / 8))
	copy(out, rest)
	a[0] = uint64(len(rest))
}

// trailersOf returns the trailers of a message, where the phase has them.
func (g *guest) trailersOf(message uint32) *http1.Head {
	switch {
	case g.held != nil && g.held.there && g.held.whole && g.phase == message-abi.MessageRequestTrailers:
		return g.held.body.Trailers()
	case g.phase == phaseRequestBody+message-abi.MessageRequestTrailers:
		return g.trailers
	}
	return nil
}
