package httpwasm

import (
	"wasmgate/runtime/exchange"
	"wasmgate/runtime/fault"
	"wasmgate/runtime/filter"
	"wasmgate/runtime/http1"
	"wasmgate/runtime/wasm"
)

// What a guest is doing.
const (
	phaseStart uint32 = iota
	phaseRequest
	phaseResponse
	phaseOver // handle_response, where there is no answer
	phases
)

var phaseNames = [phases]string{"start", "request", "response", "response"}

// guest is an instance. It handles one exchange at a time.
type guest struct {
	plugin *Plugin
	in     *wasm.Instance
	stack  [2]uint64
	always features // that it enabled while it started

	x        *exchange.Exchange // of the call under way; nil in between
	phase    uint32
	features features
	context  uint32 // what handle_request wants to find again in handle_response
	spent    int64  // fuel, of the last call

	request, response message
	answer            answer // what handle_request did to the answer that was not there yet
	undo              bool   // what it does to a head may have to be undone
	saved             saved
	sets, setBytes    int // of fields, in the call under way
	outer             *fault.Error
	tooLarge          *fault.Error
	scratch           []byte
	list              list // that is being given
}

// answer is one that the guest makes before there is one.
type answer struct {
	wrote  bool // anything of it
	status int
	fields edits
}

// guestOf returns the guest that an instance is. The first call of the host may come before Init.
func guestOf(in *wasm.Instance) *guest {
	if g, ok := in.Owner.(*guest); ok {
		return g
	}
	g := &guest{plugin: in.Owner.(*Plugin), in: in}
	in.Owner, in.Yielder = g, g
	return g
}

// start is wasm.PoolOptions.Init: what a module does besides its own start function and _initialize.
func (p *Plugin) start(in *wasm.Instance) error {
	guestOf(in)
	if !p.functions.hasStart {
		return nil
	}
	return in.CallFuel(p.functions.start, nil, p.limits.StartFuel)
}

// begin makes the guest ready for an exchange.
func (g *guest) begin(x *exchange.Exchange, role filter.Role) {
	g.undo = role == filter.Match || g.plugin.options.OnError == wasm.FailOpen
	g.x, g.phase, g.features, g.context = x, phaseRequest, g.always, 0
	g.request.begin(x.RequestBody)
	g.response.begin(nil)
	g.answer.wrote, g.answer.status = false, 200
	g.answer.fields.reset()
	g.saved.kept = false
	g.outer, g.tooLarge = nil, nil
}

// wait is what is between handle_request and handle_response.
func (g *guest) wait() {
	g.x = nil
	g.request.end()
}

// finish ends the exchange for the guest.
func (g *guest) finish() {
	g.x = nil
	g.request.end()
	g.response.end()
	if cap(g.scratch) > keep {
		g.scratch = nil
	}
}

// call calls the guest.
func (g *guest) call(f wasm.Func, fuel int64) error {
	g.sets, g.setBytes, g.spent = 0, 0, 0
	err := g.in.CallFuel(f, g.stack[:], fuel)
	g.spent = g.in.FuelUsed()
	g.plugin.keeper.Called(g.x.Task.Loop(), g.spent)
	return err
}

func (g *guest) fuel() int64 { return g.plugin.limits.Fuel }

func (g *guest) handleRequest() (next bool, err error) {
	if err := g.call(g.plugin.functions.request, g.fuel()); err != nil {
		return false, err
	}
	g.context = uint32(g.stack[0] >> 32) //nolint:gosec // the upper half
	return uint32(g.stack[0]) != 0, nil  //nolint:gosec // the lower half
}

// handleResponse lets the guest see the answer, or what is sent in place of one.
func (g *guest) handleResponse(x *exchange.Exchange) error {
	g.x, g.phase = x, phaseResponse
	g.response.body = x.ResponseBody
	was := x.Response.Status
	g.saved.kept = false
	if g.answer.fields.any() {
		g.keepResponse()
		g.answer.fields.apply(&x.Response.Head)
	}
	g.response.pos, g.response.fresh = 0, g.response.wrote
	g.stack[0], g.stack[1] = uint64(g.context), 0
	if x.Err != nil {
		g.stack[1] = 1
	}
	if err := g.call(g.plugin.functions.response, g.fuel()); err != nil {
		return err
	}
	return g.commitResponse(was)
}

// handleNothing tells the guest that there will be no answer. It runs where nobody may wait: with the fuel of a call that
// nobody notices.
func (g *guest) handleNothing(x *exchange.Exchange) error {
	g.x, g.phase = x, phaseOver
	g.response.body = nil
	g.stack[0], g.stack[1] = uint64(g.context), 1
	return g.call(g.plugin.functions.response, min(g.fuel(), wasm.DefaultFuel))
}

// respond makes the guest's answer the exchange's.
func (g *guest) respond() {
	x := g.x
	x.Response.Reset()
	for f, i := &g.answer.fields.add, 0; i < f.Len(); i++ {
		x.Response.AddBytes(f.Name(i), f.Value(i))
	}
	body := g.response.out
	if bodiless(g.answer.status) {
		body = nil
	}
	x.Response.Status, x.Response.Minor = g.answer.status, 1
	x.Response.Framing = http1.Framing{Kind: http1.Length, Length: int64(len(body))}
	x.Local.Set, x.Local.Status = true, g.answer.status
	x.Local.Body = append(x.Local.Body[:0], body...)
	x.Local.Trailers.Reset()
	g.response.tail.apply(&x.Local.Trailers)
}

// bodiless says whether an answer with that status has no body.
func bodiless(status int) bool { return status < 200 || status == 204 || status == 304 }

// Yield is called between two slices of a call that takes long: others of the loop get their turn.
func (g *guest) Yield() {
	if g.x != nil && g.phase != phaseOver { // else it starts, on a goroutine of its own, or must not be waited for
		g.x.Task.Yield()
	}
}

// saved is a head as it was before the guest changed it, if the exchange may go on without that.
type saved struct {
	kept                    bool
	head                    http1.Head
	method, authority, path []byte // views, which stay as they are
	query                   []byte
	hasQuery                bool
	form                    http1.TargetForm
	status                  int
	reason                  []byte
}

// keepRequest keeps the request's head, the first time that it is changed.
func (g *guest) keepRequest() {
	s, r := &g.saved, &g.x.Request
	if s.kept || !g.undo {
		return
	}
	s.kept = true
	s.head.CopyFrom(&r.Head)
	s.method, s.authority, s.path, s.query, s.hasQuery, s.form = r.Method, r.Authority, r.Path, r.Query(), r.HasQuery(), r.Form
}

// keepResponse keeps the answer's head, the first time that it is changed.
func (g *guest) keepResponse() {
	s, r := &g.saved, &g.x.Response
	if s.kept || !g.undo {
		return
	}
	s.kept = true
	s.head.CopyFrom(&r.Head)
	s.status, s.reason = r.Status, r.Reason
}

// restore undoes what the guest did to the head of the message in question.
func (g *guest) restore() {
	s := &g.saved
	if !s.kept {
		return
	}
	s.kept = false
	if g.phase != phaseRequest {
		r := &g.x.Response
		r.CopyFrom(&s.head)
		r.Status, r.Reason = s.status, s.reason
		return
	}
	r := &g.x.Request
	r.CopyFrom(&s.head)
	r.Method, r.Authority, r.Path, r.Form = s.method, s.authority, s.path, s.form
	if s.hasQuery {
		r.SetQuery(s.query)
	} else {
		r.DelQuery()
	}
}
