package native

import (
	"bytes"

	"wasmgate/runtime/exchange"
	"wasmgate/runtime/fault"
	"wasmgate/runtime/http1"
	"wasmgate/runtime/netloop"
	"wasmgate/runtime/wasm"
	"wasmgate/sdk/abi"
)

// arena is a place in the guest's memory.
type arena struct{ ptr, cap uint32 }

// guest is an instance that was configured. It is used by one call at a time.
type guest struct {
	core    *core
	in      *wasm.Instance
	encoder encoder
	arenas  [2]arena
	stack   [2]uint64
	head    abi.Head

	// Of the call under way:
	task     *netloop.Task      // nil while the instance starts
	x        *exchange.Exchange // nil in a tick
	plugin   *Plugin
	phase    uint32
	held     *held // the phase's body; nil: the plugin has no part in it
	trailers *http1.Head
	calls    int // of upstreams
	out      *outbound
	gone     bool // the client, while the guest waited for an upstream

	spent int64 // fuel, of the last request or answer; what growing an arena takes is not in it
}

// start is wasm.PoolOptions.Init: it asks for the arenas and hands over the configuration.
func (c *core) start(in *wasm.Instance) error {
	g := &guest{core: c, in: in}
	in.Owner, in.Yielder = g, g
	for which := range uint32(2) {
		g.stack[0] = uint64(which)
		if err := in.CallFuel(c.functions.arena, g.stack[:1], c.startFuel); err != nil {
			return err
		}
		if err := g.place(which, g.stack[0], 0); err != nil {
			return err
		}
	}
	return g.configure()
}

// place takes over an arena that the guest published.
func (g *guest) place(which uint32, packed uint64, need uint32) error {
	var a arena
	a.cap, a.ptr = abi.Unpack(packed)
	other := g.arenas[1-which]
	switch _, ok := g.in.Bytes(a.ptr, a.cap); {
	case !ok:
		return badAnswer("arena %d: %d bytes at 0x%x are not in the guest's memory of %d bytes", which, a.cap, a.ptr, g.in.MemoryBytes())
	case a.cap < need:
		return badAnswer("arena %d: %s returned %d bytes, %d are needed", which, abi.ExportResize, a.cap, need)
	case other.cap > 0 && uint64(a.ptr) < uint64(other.ptr)+uint64(other.cap) && uint64(other.ptr) < uint64(a.ptr)+uint64(a.cap):
		return badAnswer("arena %d: %d bytes at 0x%x overlap arena %d, %d bytes at 0x%x", which, a.cap, a.ptr, 1-which, other.cap, other.ptr)
	}
	g.arenas[which] = a
	return nil
}

func badAnswer(format string, args ...any) *fault.Error {
	return fault.New(fault.PluginAnswer, fault.Plugin, 503, format, args...)
}

// resize asks the guest for a larger arena.
func (g *guest) resize(which, need uint32, what string) error {
	a := g.arenas[which]
	if !g.core.functions.hasResize {
		return badAnswer("%s of %d bytes does not fit into arena %d of %d bytes, and the guest does not export %s",
			what, need, which, a.cap, abi.ExportResize)
	}
	g.stack[0], g.stack[1] = uint64(which), uint64(need)
	if err := g.in.Call(g.core.functions.resize, g.stack[:]); err != nil {
		return err
	}
	return g.place(which, g.stack[0], need)
}

// bytes returns an arena's memory. It was checked to be there, and memory does not shrink.
func (g *guest) bytes(which uint32) []byte {
	b, _ := g.in.Bytes(g.arenas[which].ptr, g.arenas[which].cap)
	return b
}

// answer returns the first n bytes of the answer.
func (g *guest) answer(n uint32) ([]byte, error) {
	if n > uint32(g.core.options.MaxAnswer) { //nolint:gosec // at most 1 MiB
		return nil, badAnswer("an answer of %d bytes; at most %d are taken", n, g.core.options.MaxAnswer)
	}
	if n > g.arenas[abi.AnswerArena].cap {
		if err := g.resize(abi.AnswerArena, n, "an answer"); err != nil {
			return nil, err
		}
	}
	return g.bytes(abi.AnswerArena)[:n:n], nil
}

// text reads the text of an answer with CodeError.
func (g *guest) text(n uint32) (string, error) {
	if n > abi.MaxText {
		return "", badAnswer("an error text of %d bytes; at most %d are taken", n, abi.MaxText)
	}
	b, err := g.answer(n)
	return string(bytes.ToValidUTF8(b, []byte("\uFFFD"))), err
}

// configure hands over the configuration and takes the manifest.
func (g *guest) configure() error {
	c := g.core
	view := abi.AppendConfig(nil, &abi.Config{
		Minor: abi.Minor, MaxAnswer: uint32(c.options.MaxAnswer), Name: []byte(c.options.Name), Bytes: c.options.Config, //nolint:gosec // at most 65 MiB
		RequestBody: uint32(c.options.RequestBody), ResponseBody: uint32(c.options.ResponseBody), //nolint:gosec // at most 64 MiB
	})
	if len(view) > maxView {
		return badAnswer("a configuration of %d bytes; at most %d are possible", len(c.options.Config), maxView)
	}
	need := uint32(len(view)) //nolint:gosec // at most 1 MiB
	if need > g.arenas[abi.RequestArena].cap {
		if err := g.resize(abi.RequestArena, need, "a configuration"); err != nil {
			return err
		}
	}
	copy(g.bytes(abi.RequestArena), view)
	g.stack[0] = uint64(need)
	if err := g.in.CallFuel(c.functions.configure, g.stack[:1], c.startFuel); err != nil {
		return err
	}
	code, value := abi.Unpack(g.stack[0])
	switch abi.Code(code) {
	case abi.CodeOK:
	case abi.CodeError:
		text, err := g.text(value)
		if err != nil {
			return err
		}
		return &fault.Error{
			Kind: fault.PluginUnavailable, Source: fault.Plugin, Status: 503, Err: &wasm.Refusal{Text: "the plugin refuses its configuration: " + text},
		}
	default:
		return badAnswer("configure answered with code %d", code)
	}
	raw, err := g.answer(value)
	if err != nil {
		return err
	}
	return g.manifest(raw)
}

// manifest takes the first instance's manifest, and compares those of later ones with it.
func (g *guest) manifest(raw []byte) error {
	c := g.core
	if c.manifest == nil {
		m, err := abi.ParseManifest(raw)
		if err != nil {
			return badAnswer("%v", err)
		}
		if err := c.possible(m); err != nil {
			return err
		}
		c.manifest, c.rawManifest = m, bytes.Clone(raw)
	} else if !bytes.Equal(raw, c.rawManifest) {
		return badAnswer("this instance's manifest is not that of the first one: the same configuration must give the same manifest")
	}
	g.encoder = newEncoder(c.manifest)
	return nil
}

// possible checks what a manifest asks for against what the module exports and the options allow.
func (c *core) possible(m *abi.Manifest) error {
	f, o := &c.functions, &c.options
	streamed := m.RequestBody.Mode == abi.BodyStreamed || m.ResponseBody.Mode == abi.BodyStreamed
	for _, e := range [...]struct {
		wanted, there bool
		what, export  string
	}{
		{m.Phases&^abi.WantsRequest != 0, f.hasResponse, "the response phase", abi.ExportResponse},
		{streamed, f.hasBody, "streamed bodies", abi.ExportBody}, {m.Tick != 0, f.hasTick, "ticks", abi.ExportTick},
	} {
		if e.wanted && !e.there {
			return badAnswer("the manifest asks for %s, but the module does not export %s", e.what, e.export)
		}
	}
	refuse := func(format string, args ...any) error {
		return fault.New(fault.PluginUnavailable, fault.Plugin, 503, format, args...)
	}
	for _, b := range [...]struct {
		wants abi.Body
		most  int
		whose string
	}{{m.RequestBody, o.RequestBody, "requests"}, {m.ResponseBody, o.ResponseBody, "answers"}} {
		switch {
		case b.wants.Mode == abi.BodyNone:
		case b.most == 0:
			return refuse("it wants to see the bodies of %s, which it is not granted (the plugin's limits.body is 0)", b.whose)
		case int64(b.wants.Max) > int64(b.most):
			return refuse("it wants to hold bodies of %s of %d bytes; its limit is %d (the plugin's limits.body)", b.whose, b.wants.Max, b.most)
		}
	}
	if m.Tick != 0 && o.TickLoop == nil && !o.NoTicks {
		return refuse("it wants ticks, which there are none of here")
	}
	return nil
}

// enter says what the call that follows is for.
func (g *guest) enter(p *Plugin, t *netloop.Task, x *exchange.Exchange, phase uint32, b *held) {
	g.plugin, g.task, g.x, g.phase, g.held, g.spent = p, t, x, phase, b, 0
}

// leave ends the call: what it was for is not seen any more.
func (g *guest) leave() {
	if g.out != nil {
		g.core.putOutbound(g.task.Loop(), g.out)
	}
	g.plugin, g.task, g.x, g.held, g.trailers, g.out, g.calls, g.gone = nil, nil, nil, nil, nil, nil, 0, false
}

// call writes the view of x and calls the guest.
func (g *guest) call(x *exchange.Exchange, phase, role uint32, word uint64) (code abi.Code, value uint32, err error) {
	head(&g.head, x, phase, role, word)
	if g.held != nil {
		g.head.Flags |= g.held.flags()
	}
	l := x.Task.Loop()
	g.head.Time, g.head.Seed = l.WallNow()/1e6, g.core.cells[l.Index()].random.Uint64()
	need := g.encoder.encode(g.bytes(abi.RequestArena), x, &g.head)
	if need > int(g.arenas[abi.RequestArena].cap) {
		if need > maxView {
			return 0, 0, badAnswer("a view of %d bytes; at most %d are possible", need, maxView)
		}
		if err := g.resize(abi.RequestArena, uint32(need), "a view"); err != nil { //nolint:gosec // at most 1 MiB
			return 0, 0, err
		}
		g.encoder.encode(g.bytes(abi.RequestArena), x, &g.head)
	}
	f := g.core.functions.request
	if phase == abi.PhaseResponse {
		f = g.core.functions.response
	}
	return g.run(f, uint32(need), l) //nolint:gosec // at most 1 MiB
}

// run calls the guest with a view of n bytes.
func (g *guest) run(f wasm.Func, n uint32, l *netloop.Loop) (code abi.Code, value uint32, err error) {
	g.stack[0] = uint64(n)
	err = g.in.Call(f, g.stack[:1])
	g.spent = g.in.FuelUsed()
	g.core.keeper.Called(l, g.spent)
	c, value := abi.Unpack(g.stack[0])
	return abi.Code(c), value, err
}

// Yield is called between two slices of a call that takes long: others of the loop get their turn.
func (g *guest) Yield() {
	if g.task != nil { // it is nil while the guest starts, on a goroutine of its own
		g.task.Yield()
	}
}
