package httpwasm

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"wasmgate/runtime/body"
	"wasmgate/runtime/exchange"
	"wasmgate/runtime/fault"
	"wasmgate/runtime/filter"
	"wasmgate/runtime/http1"
	"wasmgate/runtime/netloop"
	"wasmgate/runtime/wasm"
	wt "wasmgate/runtime/wasm/internal/wasmtest"
	"wasmgate/runtime/wasm/meter"
)

// hands is a module that exports each function of the host under its own name, so that a test calls them as a guest would,
// with anything. It has two pages of memory.
var hands = func() []byte {
	m := &wt.Module{}
	host := hostModule()
	list := make([]uint32, len(host.Functions))
	for i, f := range host.Functions {
		list[i] = m.Type(codes(f.Params), codes(f.Results))
		m.Import(host.Name, f.Name, list[i])
	}
	m.Memory(2, 2)
	m.Export("memory", 2, 0)
	for i, f := range host.Functions {
		var args []byte
		for p := range f.Params {
			args = append(args, wt.Get(uint32(p))...)
		}
		m.Export(f.Name, 0, m.Func(list[i], nil, args, wt.Call(uint32(i))))
	}
	m.Export(exportRequest, 0, m.Func(m.Type(nil, []byte{wt.I64}), nil, wt.I64Const(1)))
	m.Export(exportResponse, 0, m.Func(m.Type([]byte{wt.I32, wt.I32}, nil), nil))
	return m.Bytes()
}()

const handsMemory = 2 << 16

func codes(list []meter.ValueType) []byte {
	b := make([]byte, len(list))
	for i, t := range list {
		b[i] = byte(t)
	}
	return b
}

// source is where a body comes from, in pieces of so many bytes.
type source struct {
	data     []byte
	piece    int
	trailers http1.Head
}

func (s *source) Next(*netloop.Task) ([]byte, error) {
	if len(s.data) == 0 {
		return nil, io.EOF
	}
	n := min(s.piece, len(s.data))
	b := s.data[:n]
	s.data = s.data[n:]
	return b, nil
}
func (s *source) Ready() ([]byte, error) { return nil, nil }
func (s *source) Done() bool             { return len(s.data) == 0 }
func (s *source) Trailers() *http1.Head  { return &s.trailers }

func newBody(task *netloop.Task, size int, framing http1.Framing) *body.Body {
	b := &body.Body{}
	s := &source{data: bytes.Repeat([]byte("body "), size/5+1)[:size], piece: 1000}
	s.trailers.Add("x-sum", "1")
	b.Init(task, s, framing, framing.Kind == http1.NoBody)
	return b
}

// hand is an instance of hands in the middle of an exchange.
type hand struct {
	p *Plugin
	g *guest
	x *exchange.Exchange
}

const (
	handHead   = "POST /app?q=1 HTTP/1.1\nHost: example.com\nCookie: a=1\nCookie: b\nTransfer-Encoding: chunked"
	handAnswer = "HTTP/1.1 200 OK\r\nServer: s\r\nTransfer-Encoding: chunked\r\nX-A: 1\r\nX-A: 2\r\n\r\n"
)

// take begins an exchange.
func take(t testing.TB, p *Plugin, task *netloop.Task) *hand {
	x := newExchange(t, task, handHead, nil)
	x.Request.StripHopByHop()
	x.RequestBody = newBody(task, 3000, http1.Framing{Kind: http1.Chunked})
	in, err := p.keeper.Get(task)
	if err != nil {
		t.Fatal(err)
	}
	g := in.Owner.(*guest)
	g.begin(x, filter.Route)
	return &hand{p, g, x}
}

// answered goes on to the second phase.
func (h *hand) answered(t testing.TB, size int) {
	if n, err := h.x.Response.Parse([]byte(handAnswer), nil, []byte("POST")); err != nil || n == 0 {
		t.Fatal(err)
	}
	h.x.Response.StripHopByHop()
	h.x.ResponseBody = newBody(h.x.Task, size, h.x.Response.Framing)
	h.g.wait()
	h.g.x, h.g.phase = h.x, phaseResponse
	h.g.response.body, h.g.response.pos, h.g.response.fresh = h.x.ResponseBody, 0, h.g.response.wrote
	h.g.answer.fields.apply(&h.x.Response.Head)
}

// call calls a function of the host.
func (h *hand) call(name string, args ...uint64) (uint64, error) {
	f, ok := h.p.keeper.Pool().Compiled().Lookup(name)
	if !ok {
		return 0, errors.New("there is no " + name)
	}
	var stack [8]uint64
	copy(stack[:], args)
	err := h.g.in.Call(f, stack[:])
	return stack[0], err
}

// done gives the instance back.
func (h *hand) done() {
	l := h.x.Task.Loop()
	h.g.finish()
	h.p.keeper.Put(l, h.g.in)
}

// newHands starts a plugin of hands on a loop of its own.
func newHands(t testing.TB, o Options) (*Plugin, *netloop.Group) {
	t.Helper()
	g, err := netloop.New(netloop.Options{Loops: 1})
	if err != nil {
		t.Fatal(err)
	}
	g.Start()
	t.Cleanup(g.Close)
	o.Backoff, o.Breaker = &wasm.Backoff{}, &wasm.Breaker{}
	p, _ := load(t, hands, o, wasm.Limits{})
	return p, g
}

// TestLyingPointers has each function of the host given places that are not in memory, in each phase.
func TestLyingPointers(t *testing.T) {
	p, group := newHands(t, Options{Config: []byte("configuration")})
	const in, out = 64, 1 << 31
	for _, c := range []struct {
		name string
		args []uint64
	}{
		{"get_config", []uint64{handsMemory - 1, 100}},
		{"get_config", []uint64{1<<32 - 1, 1<<32 - 1}},
		{"log", []uint64{0, handsMemory - 1, 2}},
		{"log", []uint64{0, 1<<32 - 1, 1<<32 - 1}},
		{"log", []uint64{3, out, 1}},
		{"get_method", []uint64{out, 100}},
		{"set_method", []uint64{handsMemory - 3, 4}},
		{"get_uri", []uint64{handsMemory - 2, 100}},
		{"set_uri", []uint64{in, out}},
		{"get_protocol_version", []uint64{out, out}},
		{"get_source_addr", []uint64{1<<32 - 2, 1<<32 - 1}},
		{"get_header_names", []uint64{0, handsMemory - 2, 1000}},
		{"get_header_values", []uint64{0, out, 4, in, 100}},
		{"get_header_values", []uint64{0, in, out, in, 100}},
		{"get_header_values", []uint64{0, in, 6, handsMemory - 2, 1 << 31}},
		{"get_header_values", []uint64{3, out, 4, in, 100}},
		{"set_header_value", []uint64{0, out, 4, in, 1}},
		{"set_header_value", []uint64{0, in, 4, in, out}},
		{"add_header_value", []uint64{1, in, 1 << 20, in, 1}},
		{"add_header_value", []uint64{1, in, 4, handsMemory, 1}},
		{"remove_header", []uint64{0, in, handsMemory}},
		{"read_body", []uint64{0, in, handsMemory}},
		{"read_body", []uint64{1, out, 1}},
		{"write_body", []uint64{0, in, handsMemory}},
		{"write_body", []uint64{1, handsMemory, 1}},
	} {
		on(group, func(task *netloop.Task) {
			for _, second := range []bool{false, true} {
				h := take(t, p, task)
				h.g.features = supported
				if second {
					h.answered(t, 10)
				}
				b, _ := h.g.in.Bytes(in, 6)
				copy(b, "cookie")
				_, err := h.call(c.name, c.args...)
				if err == nil {
					t.Errorf("%s%v goes well", c.name, c.args)
				} else if f := fault.From(err); f.Kind != fault.PluginTrap || !strings.Contains(f.Detail, c.name) || !strings.Contains(f.Detail, "are not in the guest's memory") && (!second || !strings.Contains(f.Detail, "has been sent")) {
					t.Errorf("%s%v: %v", c.name, c.args, err)
				}
				h.done()
			}
		})
	}
}

// TestNothingAtTheEndOfMemory: no bytes are nowhere, also there.
func TestNothingAtTheEndOfMemory(t *testing.T) {
	p, group := newHands(t, Options{})
	on(group, func(task *netloop.Task) {
		h := take(t, p, task)
		defer h.done()
		for _, c := range []struct {
			name string
			args []uint64
		}{
			{"log", []uint64{0, handsMemory, 0}}, {"get_config", []uint64{1 << 31, 1 << 31}}, {"write_body", []uint64{0, handsMemory, 0}},
			{"get_header_values", []uint64{1, 64, 1, 1 << 31, 1 << 31}}, {"get_header_names", []uint64{1, 1 << 31, 1 << 31}},
			{"get_method", []uint64{1 << 31, 3}},
		} {
			b, _ := h.g.in.Bytes(64, 1)
			b[0] = 'x'
			if _, err := h.call(c.name, c.args...); err != nil {
				t.Error(err)
			}
		}
	})
}

// TestAGuestThatSetsFieldsForEver is stopped before its memory is a burden.
func TestAGuestThatSetsFieldsForEver(t *testing.T) {
	for name, size := range map[string]uint64{"small": 1, "large": 60_000} {
		for _, function := range []string{"set_header_value", "add_header_value"} {
			for kind := range uint64(4) {
				p, group := newHands(t, Options{})
				on(group, func(task *netloop.Task) {
					h := take(t, p, task)
					defer h.done()
					h.g.features = supported
					b, _ := h.g.in.Bytes(0, handsMemory)
					copy(b, bytes.Repeat([]byte{'x'}, handsMemory))
					var err error
					n := 0
					for err == nil && n < 100_000 {
						// One call of the guest could do all of that; here each is one, so the counters go on.
						sets, size0 := h.g.sets, h.g.setBytes
						_, err = h.call(function, kind, 0, 1, 0, size)
						h.g.sets, h.g.setBytes = max(h.g.sets, sets), max(h.g.setBytes, size0)
						n++
					}
					if f := fault.From(err); err == nil || f.Kind != fault.PluginAnswer || !strings.Contains(f.Detail, "changes of the message's head") || n > maxSets+1 {
						t.Errorf("%s, kind %d, %s: %v after %d", function, kind, name, err, n)
					}
				})
			}
		}
	}
}

// check says what is wrong with the messages that a guest has left behind.
func check(x *exchange.Exchange) error {
	lim := http1.DefaultLimits
	lim.Head, lim.Target, lim.Fields = 1<<20, 1<<20, 10_000
	b := x.RequestBody.(*body.Body)
	head := http1.AppendRequest(nil, &x.Request, http1.Outgoing{Framing: b.Framing()})
	var r http1.Request
	if n, err := r.Parse(head, &lim); err != nil || n != len(head) {
		return fmt.Errorf("%d bytes of %d read, %w:\n%q", n, len(head), err, head)
	}
	if !bytes.Equal(r.Method, x.Request.Method) || !bytes.Equal(r.Authority, x.Request.Authority) || !bytes.Equal(r.Path, x.Request.Path) ||
		r.HasQuery() != x.Request.HasQuery() || !bytes.Equal(r.Query(), x.Request.Query()) {
		return fmt.Errorf("the request is read as another one:\n%q", head)
	}
	if r.Framing.Kind != b.Framing().Kind && r.Framing.Kind != http1.NoBody || !r.KeepAlive || len(r.Upgrade) != 0 || r.ExpectContinue {
		return fmt.Errorf("the request is framed anew: %+v\n%q", r.Framing, head)
	}
	return drain(b)
}

func checkAnswer(x *exchange.Exchange) error {
	lim := http1.DefaultLimits
	lim.Head, lim.Fields = 1<<20, 10_000
	framing := http1.Framing{Kind: http1.Length, Length: int64(len(x.Local.Body))}
	status := x.Response.Status
	if x.Local.Set {
		status = x.Local.Status
	} else {
		framing = x.ResponseBody.(*body.Body).Framing()
	}
	was := x.Response.Status
	x.Response.Status = status
	if bodiless(status) {
		framing = http1.Framing{Kind: http1.NoBody, Length: -1}
	}
	head := http1.AppendResponse(nil, &x.Response, http1.ResponseOut{Minor: 1, Framing: framing})
	x.Response.Status = was
	var a http1.Response
	if n, err := a.Parse(head, &lim, x.Request.Method); err != nil || n != len(head) || a.Status != status || !a.KeepAlive {
		return fmt.Errorf("%d bytes of %d read, %w:\n%q", n, len(head), err, head)
	}
	if a.Framing.Kind != framing.Kind && a.Framing.Kind != http1.NoBody {
		return fmt.Errorf("the answer is framed anew: %+v, not %+v\n%q", a.Framing, framing, head)
	}
	if x.Local.Set && bodiless(status) && len(x.Local.Body) > 0 {
		return fmt.Errorf("a body of %d bytes with status %d", len(x.Local.Body), status)
	}
	if x.ResponseBody == nil {
		return nil
	}
	return drain(x.ResponseBody.(*body.Body))
}

// drain takes a body to its end, and reads its trailers again.
func drain(b *body.Body) error {
	for {
		if _, err := b.Next(nil); err == io.EOF {
			break
		} else if err != nil {
			return err
		}
	}
	end := http1.AppendLastChunk(nil, b.Trailers())
	if n := bytes.Count(end, []byte("\r\n")); n != b.Trailers().Len()+2 {
		return fmt.Errorf("%d trailers are %d lines: %q", b.Trailers().Len(), n, end)
	}
	return nil
}

// FuzzCalls lets a guest call the host's functions in any order, with anything: data is what is in its memory, and the
// calls that it makes of that are in both phases, first or second. What comes of it must be messages that are read, once
// they are written, as what they are and as one message each.
func FuzzCalls(f *testing.F) {
	names := map[string]byte{}
	functions := hostModule().Functions
	for i, fn := range functions {
		names[fn.Name] = byte(i)
	}
	text := []byte("cookie\x00x-a\x00a\r\nb: c\x00/p?q#r\x00PATCH\x00\x80\xff\x00content-length\x007\x00host\x00a/b\x00:\x00")
	for _, fn := range functions {
		for v := range byte(4) {
			call := []byte{names[fn.Name]}
			for p := range fn.Params {
				call = append(call, 0, v+byte(p*7))
			}
			f.Add(text, bytes.Repeat(call, 3), byte(7), false)
			f.Add(text, bytes.Repeat(call, 3), byte(7), true)
		}
	}
	p, group := newHands(f, Options{Config: []byte("config"), LogLevel: wasm.LogOff, MaxBody: 4000})
	f.Fuzz(func(t *testing.T, data, calls []byte, enabled byte, second bool) {
		on(group, func(task *netloop.Task) {
			h := take(t, p, task)
			defer h.done()
			h.g.features = features(enabled) & supported
			memory, _ := h.g.in.Bytes(0, handsMemory)
			clear(memory)
			copy(memory, data)
			if second {
				h.answered(t, 3000)
			}
			was := h.x.Response.Status
			var err error
			for len(calls) > 0 && err == nil {
				fn := &functions[int(calls[0])%len(functions)]
				calls = calls[1:]
				args := make([]uint64, 0, 5)
				for range fn.Params {
					args = append(args, argument(&calls))
				}
				_, err = h.call(fn.Name, args...)
			}
			switch {
			case err != nil:
			case second:
				err = h.g.commitResponse(was)
			default:
				err = h.g.commitRequest()
			}
			if err != nil {
				switch k := fault.From(err).Kind; k {
				case fault.PluginTrap, fault.PluginAnswer, fault.PluginFuel, fault.BodyTooLarge:
				default:
					t.Errorf("%v: %v", k, err)
				}
				return
			}
			if second {
				err = checkAnswer(h.x)
			} else if err = check(h.x); err == nil {
				h.g.respond()
				h.x.ResponseBody = nil
				err = checkAnswer(h.x)
			}
			if err != nil {
				t.Error(err)
			}
		})
	})
}

// argument takes one off calls: small, or one of those that are known to hurt.
func argument(calls *[]byte) uint64 {
	var b [2]byte
	n := copy(b[:], *calls)
	*calls = (*calls)[n:]
	hurt := [...]uint64{0, 1, 2, 3, 1<<32 - 1, 1 << 31, 1<<31 - 1, handsMemory, handsMemory - 1, handsMemory + 1, 200, 204, 304, 404, 599, 600}
	if b[0] >= 0xf0 {
		return hurt[b[1]%16]
	}
	return uint64(b[0])<<8 | uint64(b[1])
}

// FuzzModules takes anything for a module. What is compiled and starts handles an exchange, or fails in it.
func FuzzModules(f *testing.F) {
	for _, m := range [][]byte{authGuest, redactGuest, hands, kitGuest, nil, []byte("\x00asm\x01\x00\x00\x00")} {
		f.Add(m, uint32(0), []byte(nil))
		for at := uint32(8); int(at) < len(m) && at < 2000; at += 37 {
			f.Add(m, at, []byte{0xff, 0x7f})
		}
	}
	group, err := netloop.New(netloop.Options{Loops: 1})
	if err != nil {
		f.Fatal(err)
	}
	group.Start()
	f.Cleanup(group.Close)
	f.Fuzz(func(t *testing.T, module []byte, at uint32, patch []byte) {
		if len(module) > 1<<16 {
			return
		}
		module = bytes.Clone(module)
		copy(module[min(int(at), len(module)):], patch)
		p, err := tryLoad(t, module, Options{Config: []byte("config"), MaxBody: 1 << 16}, wasm.Limits{MemoryPages: 32, Fuel: 200_000, StartFuel: 200_000}, &journal{})
		if err != nil {
			if k := fault.From(err).Kind; k == fault.Internal || strings.Contains(err.Error(), "reading the module failed") {
				t.Error(err)
			}
			return
		}
		defer p.Close()
		on(group, func(task *netloop.Task) {
			x := newExchange(t, task, handHead, nil)
			x.Request.StripHopByHop()
			x.RequestBody = newBody(task, 3000, http1.Framing{Kind: http1.Chunked})
			v, err := p.Request(x, filter.Route, 0)
			if err == nil && v == filter.Continue {
				if err = check(x); err != nil {
					t.Error(err)
				}
				if _, err := x.Response.Parse([]byte(handAnswer), nil, []byte("POST")); err != nil {
					t.Error(err)
				}
				x.Response.StripHopByHop()
				x.ResponseBody = newBody(task, 3000, x.Response.Framing)
				_, err = p.Response(x, 0)
			}
			if err == nil {
				err = checkAnswer(x)
			} else if fault.From(err).Kind != fault.Internal {
				err = nil
			}
			if err != nil {
				t.Error(err)
			}
			p.End(x, 0)
		})
	})
}
