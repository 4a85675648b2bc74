package native

import (
	"strings"
	"time"

	"wasmgate/runtime/exchange"
	"wasmgate/runtime/http1"
	"wasmgate/sdk/abi"
)

// apply carries out a list that judge has checked. It says whether there is an answer for the client in it.
func (p *Plugin) apply(x *exchange.Exchange, list []byte, phase uint32, place int, b *held) (responded bool) {
	h := &x.Request.Head
	if phase == abi.PhaseResponse {
		h = &x.Response.Head
	}
	ops := abi.ReadOperations(list)
	var op abi.Operation
	for {
		if ok, err := ops.Next(&op); !ok || err != nil { // err: not after a check
			return responded
		}
		switch op.Kind {
		case abi.OpSetHeader:
			h.SetBytes(op.Name, op.Value)
		case abi.OpAppendHeader:
			h.AddBytes(op.Name, op.Value)
		case abi.OpRemoveHeader:
			h.DelBytes(op.Name)
		case abi.OpRespond:
			responded = true
			answer(x, int(op.Number), op.Value) //nolint:gosec // three digits
			for name, value, ok := op.Fields.Next(); ok; name, value, ok = op.Fields.Next() {
				x.Response.AddBytes(name, value)
			}
		case abi.OpAttribute:
			p.attribute(x, &op)
		case abi.OpLog:
			p.core.guestLine(x.Task.Loop(), uint32(op.Number), phase, op.Value, 0) //nolint:gosec // a level
		case abi.OpMetric:
			p.core.measure(x.Task.Loop(), op.Number, op.Float)
		case abi.OpSetBody:
			b.body.Replace(op.Value)
		case abi.OpWantBody:
			b.wanted = true
		default:
			p.target(x, &op, place)
		}
	}
}

// attribute sets an attribute of the request's span, if it has one.
func (p *Plugin) attribute(x *exchange.Exchange, op *abi.Operation) {
	if x.Trace.Sampled {
		x.Tags = append(x.Tags, exchange.Tag{Key: string(op.Name), Value: strings.ToValidUTF8(string(op.Value), "\uFFFD")})
	}
}

// target carries out what says where the request goes.
func (p *Plugin) target(x *exchange.Exchange, op *abi.Operation, place int) {
	r := &x.Request
	switch op.Kind {
	case abi.OpUpstream:
		p.choose(x, op.Number)
	case abi.OpAddress:
		x.Target.Upstream = p.grants.dynamic
		x.Target.Dynamic = append(x.Target.Dynamic[:0], op.Value...)
	case abi.OpTimeout:
		x.Target.Timeout = time.Duration(op.Number) * time.Millisecond //nolint:gosec // bounded
	case abi.OpHashKey:
		x.Target.HashKey = op.Number
	case abi.OpMethod:
		r.SetMethod(op.Value)
	case abi.OpAuthority:
		r.SetAuthority(op.Value)
	case abi.OpPath:
		r.SetPath(op.Value)
	case abi.OpQuery:
		if len(op.Value) == 0 {
			r.DelQuery()
		} else {
			r.SetQuery(op.Value)
		}
	case abi.OpContext:
		*x.Word(place) = op.Number
	}
}

// choose makes a declared upstream the target.
func (p *Plugin) choose(x *exchange.Exchange, id uint64) {
	x.Target.Upstream = p.grants.ids[id]
	x.Target.Dynamic = x.Target.Dynamic[:0]
}

// answer makes x's answer one of the plugin's own, with no fields yet.
func answer(x *exchange.Exchange, status int, body []byte) {
	x.Response.Reset()
	x.Response.Status, x.Response.Minor = status, 1
	x.Response.Framing = http1.Framing{Kind: http1.Length, Length: int64(len(body))}
	x.Local.Set, x.Local.Status = true, status
	x.Local.Body = append(x.Local.Body[:0], body...)
}
