package native

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"wasmgate/runtime/exchange"
	"wasmgate/runtime/fault"
	"wasmgate/runtime/filter"
	"wasmgate/runtime/kv"
	"wasmgate/runtime/netloop"
	"wasmgate/runtime/wasm"
	"wasmgate/sdk/abi"
)

const (
	answerAt = 0x4000
	bodyAt   = answerAt + 16 // of RESPOND at the beginning of the list
	dataAt   = 0x30000
	freeAt   = 0x38000
)

// telling makes a guest that answers requests with what its calls of the host returned, eight bytes each, and extra bytes
// that the calls may write to, at bodyAt + 8 × calls.
func telling(g guestModule, extra int, calls ...[]byte) guestModule {
	g.list = abi.AppendRespond(nil, 200, strings.Repeat("\x00", 8*len(calls)+extra))
	body := copyMemory(answerAt, listAt, uint32(len(g.list)))
	for k, c := range calls {
		body = code(body, i32(bodyAt+8*uint32(k)), c, opI64Store, 3, 0)
	}
	g.requestCode = code(body, i64(abi.Pack(uint32(abi.CodeOperations), uint32(len(g.list)))))
	return g
}

// told8 reads what such a guest told.
func told8(r result, n int) (list []uint64, extra string) {
	b := r.x.Local.Body
	if len(b) < 8*n {
		return make([]uint64, n), ""
	}
	for i := range n {
		list = append(list, binary.LittleEndian.Uint64(b[8*i:]))
	}
	return list, strings.TrimRight(string(b[8*n:]), "\x00")
}

// do calls a function of the host.
func do(function int, args ...[]byte) []byte { return code(slices.Concat(args...), opCall, function) }

// wide makes an i64 of an i32.
func wide(c []byte) []byte { return code(c, opI64Extend) }

func packed(r abi.Result, n int) uint64 { return abi.Pack(uint32(r), uint32(n)) }

// fakeCaller answers calls.
type fakeCaller func(t *netloop.Task, c *filter.Call) *fault.Error

func (f fakeCaller) Call(t *netloop.Task, c *filter.Call) *fault.Error { return f(t, c) }

// calling is what a guest needs that calls the upstream authz, which has the id 5.
func calling(f fakeCaller) (guestModule, Options) {
	m := abi.AppendManifest(nil, &abi.Manifest{Phases: abi.WantsRequest | abi.WantsResponse, Calls: []string{"authz"}})
	return guestModule{pages: 8, manifest: m}, Options{Grants: Grants{Calls: map[string]int{"authz": 5}, Caller: f}}
}

func TestOutboundCall(t *testing.T) {
	list := abi.AppendOpText(nil, abi.OpMethod, "POST")
	list = abi.AppendOpText(list, abi.OpAuthority, "auth.example")
	list = abi.AppendOpText(list, abi.OpPath, "/check")
	list = abi.AppendOpText(list, abi.OpQuery, "a=b")
	list = abi.AppendOpPair(list, abi.OpAppendHeader, "x-a", "1")
	list = abi.AppendOpPair(list, abi.OpAppendHeader, "x-a", "2")
	list = abi.AppendOpPair(list, abi.OpSetHeader, "x-b", "3")
	list = abi.AppendOpText(list, abi.OpSetBody, "{}")
	list = abi.AppendOp32(list, abi.OpTimeout, 250)
	g, o := calling(func(_ *netloop.Task, c *filter.Call) *fault.Error {
		s := fmt.Sprintf("%s %d %s %s %s %q %v", c.Filter, c.Upstream, c.Method, c.Authority, c.Path, c.Body, c.Timeout)
		for i := range c.Fields.Len() {
			s += fmt.Sprintf(" %s=%s", c.Fields.Name(i), c.Fields.Value(i))
		}
		if s != `p 5 POST auth.example /check?a=b "{}" 250ms x-a=1 x-a=2 x-b=3` || !c.Trace.Sampled {
			t.Errorf("called with %s", s)
		}
		c.Status, c.Answer = 403, append(c.Answer[:0], "no"...)
		c.AnswerFields.Reset()
		c.AnswerFields.Add("X-Reason", "quota")
		c.AnswerTrailers.Reset()
		c.AnswerTrailers.Add("Grpc-Status", "7")
		return nil
	})
	size := abi.AnswerSize(2, 2, len("x-reasonquotagrpc-status7"))
	g.data = map[uint32][]byte{dataAt: list}
	call := func(to, room uint32) []byte {
		return do(callCall, i32(0), i32(dataAt), i32(uint32(len(list))), i32(to), i32(room))
	}
	// Once with room, once without, and then the answer is asked for with too little room and with enough.
	g = telling(g, 2*size, call(bodyAt+32, uint32(size)), call(bodyAt+32+uint32(size), uint32(size-1)),
		wide(do(callCallAnswer, i32(bodyAt+32+uint32(size)), i32(10))), wide(do(callCallAnswer, i32(bodyAt+32+uint32(size)), i32(uint32(size)))))
	b := newBench(t)
	p := b.mustLoad(g.build(), o, wasm.Limits{})
	for range 3 {
		var r result
		b.on(func(task *netloop.Task) {
			r.x = newExchange(t, task, simpleHead)
			r.x.Trace.Sampled = true
			_, err := p.Request(r.x, filter.Route, 0)
			if err != nil {
				t.Error(err)
			}
		})
		got, _ := told8(r, 4)
		if want := []uint64{packed(abi.ResultOK, size), packed(abi.ResultOK, size), uint64(size), uint64(size)}; !slices.Equal(got, want) {
			t.Fatalf("results %x, want %x", got, want)
		}
		for _, a := range []abi.Answer{r.x.Local.Body[32 : 32+size], r.x.Local.Body[32+size:]} {
			if err := a.Validate(); err != nil {
				t.Fatal(err)
			}
			name, value := a.Field(0)
			trailer, status := a.Field(1)
			if s := fmt.Sprintf("%d %s=%s %s=%s %s %d %d", a.Status(), name, value, trailer, status, a.Body(), a.Fields(), a.Trailers()); s != "403 x-reason=quota grpc-status=7 no 1 1" {
				t.Error(s)
			}
		}
	}
	if s := p.Stats(); s.Outbound != 6 || s.OutboundFailed != 0 || s.Live != 1 {
		t.Errorf("%+v", s)
	}
}

func TestOutboundErrors(t *testing.T) {
	b := newBench(t)
	for kind, want := range map[fault.Kind]abi.Result{
		fault.RequestTimeout: abi.ResultTimeout, fault.HeaderTimeout: abi.ResultTimeout, fault.Connect: abi.ResultConnect, fault.DNS: abi.ResultConnect,
		fault.PoolExhausted: abi.ResultConnect, fault.Unavailable: abi.ResultConnect, fault.UpstreamClosed: abi.ResultFailed, fault.Malformed: abi.ResultFailed,
		fault.BodyTooLarge: abi.ResultTooLarge, fault.Denied: abi.ResultInvalid,
	} {
		g, o := calling(func(*netloop.Task, *filter.Call) *fault.Error { return fault.New(kind, fault.Upstream, 502, "x") })
		g = telling(g, 0, do(callCall, i32(0), i32(0), i32(0), i32(0), i32(0)), wide(do(callCallAnswer, i32(0), i32(0))))
		p := b.mustLoad(g.build(), o, wasm.Limits{})
		got, _ := told8(b.request(p, simpleHead, filter.Route), 2)
		if got[0] != packed(want, 0) || got[1] != none {
			t.Errorf("%v: %x, want %v", kind, got, want)
		}
		if s := p.Stats(); s.Outbound != 1 || s.OutboundFailed != 1 {
			t.Errorf("%+v", s)
		}
	}
}

func TestOutboundRequestsThatAreNotValid(t *testing.T) {
	text := func(k abi.Kind, s string) []byte { return abi.AppendOpText(nil, k, s) }
	for name, c := range map[string]struct {
		list []byte
		says string
	}{
		"cut":               {[]byte{1, 2, 3}, "a record's header"},
		"another operation": {abi.AppendOp(nil, abi.OpRematch), "not an operation of a request to an upstream"},
		"CONNECT":           {text(abi.OpMethod, "CONNECT"), "not a valid method"},
		"no method":         {text(abi.OpMethod, ""), "not a valid method"},
		"a path":            {text(abi.OpPath, "/ HTTP/1.1"), "not a valid path"},
		"a query":           {text(abi.OpQuery, "a b"), "not a valid query"},
		"an authority":      {text(abi.OpAuthority, "a b"), "not a valid authority"},
		"a field":           {abi.AppendOpPair(nil, abi.OpSetHeader, "content-length", "1"), "the gateway's own"},
		"a value":           {abi.AppendOpPair(nil, abi.OpSetHeader, "a", "1\r\nb: 2"), "not a valid field value"},
		"two bodies":        {slices.Repeat(text(abi.OpSetBody, "a"), 2), "a second body"},
		"no time":           {abi.AppendOp32(nil, abi.OpTimeout, 0), "a timeout that is not"},
		"much time":         {abi.AppendOp32(nil, abi.OpTimeout, abi.MaxCallTimeout+1), "a timeout that is not"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			g, o := calling(func(*netloop.Task, *filter.Call) *fault.Error {
				t.Error("it was sent")
				return nil
			})
			g.data = map[uint32][]byte{dataAt: c.list}
			g = telling(g, 0, do(callCall, i32(0), i32(dataAt), i32(uint32(len(c.list))), i32(0), i32(0)))
			p := b.mustLoad(g.build(), o, wasm.Limits{})
			got, _ := told8(b.request(p, simpleHead, filter.Route), 1)
			lines := b.logged()
			if got[0] != packed(abi.ResultInvalid, 0) || len(lines) != 1 || !strings.Contains(lines[0].Text, c.says) || lines[0].Guest {
				t.Errorf("%x, %+v", got, lines)
			}
		})
	}
}

func TestCallsInOneCallAreBounded(t *testing.T) {
	b := newBench(t)
	n := 0
	g, o := calling(func(_ *netloop.Task, c *filter.Call) *fault.Error {
		n++
		c.Status = 200
		return nil
	})
	var calls [][]byte
	for range abi.MaxCalls + 1 {
		calls = append(calls, do(callCall, i32(0), i32(0), i32(0), i32(0), i32(0)))
	}
	p := b.mustLoad(telling(g, 0, calls...).build(), o, wasm.Limits{})
	for k := range 2 {
		got, _ := told8(b.request(p, simpleHead, filter.Route), len(calls))
		if got[abi.MaxCalls-1] != packed(abi.ResultOK, abi.AnswerFixed) || got[abi.MaxCalls] != packed(abi.ResultLimit, 0) || n != (k+1)*abi.MaxCalls {
			t.Errorf("%x after %d calls", got, n)
		}
	}
}

// TestManyRequestsWaitAtOnce has a thousand requests whose guests each wait 100 ms for an upstream: they take not much longer
// than one, and the loop serves others meanwhile. Other work on the machine only ever adds: the best of several tries counts.
func TestManyRequestsWaitAtOnce(t *testing.T) {
	for try := 1; ; try++ {
		most, took := manyWait(t)
		t.Logf("%d at once, %v", most, took)
		if most >= 250 && took <= 2*time.Second {
			return
		}
		if try == 5 {
			t.Fatalf("at most %d waited at once, all took %v", most, took)
		}
	}
}

// manyWait says how many requests waited at a time, and how long all of a thousand took.
func manyWait(t *testing.T) (int64, time.Duration) {
	t.Helper()
	const requests, wait = 1000, 100 * time.Millisecond
	b := newBench(t)
	var most, now atomic.Int64
	g, o := calling(func(task *netloop.Task, c *filter.Call) *fault.Error {
		most.Store(max(most.Load(), now.Add(1)))
		task.Sleep(wait)
		now.Add(-1)
		c.Status = 200
		return nil
	})
	g = telling(g, 0, do(callCall, i32(0), i32(0), i32(0), i32(0), i32(0)))
	p := b.mustLoad(g.build(), o, wasm.Limits{})
	other := b.mustLoad(guestModule{}.build(), Options{}, wasm.Limits{})
	l, done := b.group.Loop(0), make(chan error, requests)
	began := time.Now()
	l.Post(func() {
		for range requests {
			l.Go(func(task *netloop.Task) {
				x := newExchange(t, task, simpleHead)
				_, err := p.Request(x, filter.Route, 0)
				if err == nil && (len(x.Local.Body) != 8 || binary.LittleEndian.Uint64(x.Local.Body) != packed(abi.ResultOK, abi.AnswerFixed)) {
					err = fmt.Errorf("answered %x", x.Local.Body)
				}
				done <- err
			})
		}
	})
	for served := 0; served < requests; {
		select {
		case err := <-done:
			served++
			if err != nil {
				t.Fatal(err)
			}
		default:
			if r := b.request(other, simpleHead, filter.Route); r.err != nil {
				t.Fatal(r.err)
			}
		}
	}
	took := time.Since(began)
	if s := p.Stats(); s.Calls != requests || s.Discarded != 0 || s.Outbound != requests {
		t.Errorf("%+v", s)
	}
	return most.Load(), took
}

// TestWhereNoMoreMayWait has one instance at a time, or three: the requests wait for each other.
func TestWhereNoMoreMayWait(t *testing.T) {
	for want, o := range map[int64]Options{1: {MaxPerLoop: 1, MaxParked: -1}, 3: {MaxPerLoop: 2, MaxCalls: 3}} {
		noMoreWait(t, want, o)
	}
}

func noMoreWait(t *testing.T, want int64, bounds Options) {
	t.Helper()
	b := newBench(t)
	var most, now atomic.Int64
	g, o := calling(func(task *netloop.Task, c *filter.Call) *fault.Error {
		most.Store(max(most.Load(), now.Add(1)))
		// The first ones wait for each other: another instance is made meanwhile, which takes its time.
		for begun := time.Now(); most.Load() < want && time.Since(begun) < 30*time.Second && !task.Loop().Closing(); {
			task.Sleep(time.Millisecond)
		}
		task.Sleep(time.Millisecond)
		now.Add(-1)
		c.Status = 200
		return nil
	})
	g = telling(g, 0, do(callCall, i32(0), i32(0), i32(0), i32(0), i32(0)))
	o.MaxPerLoop, o.MaxParked, o.MaxCalls = bounds.MaxPerLoop, bounds.MaxParked, bounds.MaxCalls
	p := b.mustLoad(g.build(), o, wasm.Limits{})
	l, done := b.group.Loop(0), make(chan error)
	l.Post(func() {
		for range 20 {
			l.Go(func(task *netloop.Task) {
				_, err := p.Request(newExchange(t, task, simpleHead), filter.Route, 0)
				done <- err
			})
		}
	})
	for range 20 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	b.on(func(*netloop.Task) { p.core.keeper.Publish(0) })
	if most.Load() != want || p.Stats().Started != want {
		t.Errorf("%d at once, %+v", most.Load(), p.Stats())
	}
}

// held1 is a caller that waits until it is let go.
type held1 struct {
	waiting chan *netloop.Task
	goOn    bool
}

func (h *held1) Call(t *netloop.Task, c *filter.Call) *fault.Error {
	h.waiting <- t
	for !h.goOn && !t.Loop().Closing() {
		t.Park()
	}
	c.Status = 200
	return nil
}

// TestEndsWhileAGuestWaits closes and rebinds plugins while a guest waits for its upstream, and has one trap afterwards.
func TestEndsWhileAGuestWaits(t *testing.T) {
	for name, c := range map[string]struct {
		guest     func(guestModule) guestModule
		meanwhile func(*Plugin)
		kind      fault.Kind
	}{
		"closed":  {meanwhile: func(p *Plugin) { p.Close() }},
		"rebound": {meanwhile: func(p *Plugin) { mustRebind(t, p).Close(); mustRebind(t, p); p.Close() }},
		"traps": {
			guest: func(g guestModule) guestModule {
				g.requestCode = code(do(callCall, i32(0), i32(0), i32(0), i32(0), i32(0)), opDrop, opUnreachable)
				return g
			},
			kind: fault.PluginTrap,
		},
		"grows": { // the answer's place was there before, and is there afterwards
			guest: func(g guestModule) guestModule {
				return telling(g, 0, code(i32(1), opMemoryGrow, 0, opDrop, do(callCall, i32(0), i32(0), i32(0), i32(8<<16), i32(abi.AnswerFixed))))
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			h := &held1{waiting: make(chan *netloop.Task)}
			g, o := calling(nil)
			o.Caller = h
			g = telling(g, 0, do(callCall, i32(0), i32(0), i32(0), i32(0), i32(0)))
			if c.guest != nil {
				g = c.guest(g)
			}
			compiled, err := compile(t, g.build(), wasm.Limits{})
			if err != nil {
				t.Fatal(err)
			}
			p, err := New(compiled, o)
			if err != nil {
				t.Fatal(err)
			}
			done := make(chan error)
			l := b.group.Loop(0)
			var x *exchange.Exchange
			l.Post(func() {
				l.Go(func(task *netloop.Task) {
					x = newExchange(t, task, simpleHead)
					_, err := p.Request(x, filter.Route, 0)
					done <- err
				})
			})
			task := <-h.waiting
			if c.meanwhile != nil {
				c.meanwhile(p)
			}
			l.Post(func() {
				h.goOn = true
				task.Wake()
			})
			err = <-done
			if c.kind != 0 && (err == nil || fault.From(err).Kind != c.kind) || c.kind == 0 && (err != nil || binary.LittleEndian.Uint64(x.Local.Body) != packed(abi.ResultOK, abi.AnswerFixed)) {
				t.Errorf("%v, %x", err, x.Local.Body)
			}
			if c.meanwhile == nil {
				p.Close()
			}
			b.on(func(*netloop.Task) { p.core.keeper.Publish(0) })
			if s := p.Stats(); s.Parked != 0 || name != "rebound" && s.Live != 0 {
				t.Errorf("%+v", s)
			}
			if name == "rebound" {
				p.core.close()
			}
		})
	}
}

func mustRebind(t *testing.T, p *Plugin) *Plugin {
	t.Helper()
	q, err := p.Rebind(Grants{Calls: map[string]int{"authz": 9}, Caller: fakeCaller(nil)})
	if err != nil {
		t.Fatal(err)
	}
	return q
}

func TestState(t *testing.T) {
	b := newBench(t)
	s := kv.New(kv.Options{MaxValue: 100})
	m := abi.AppendManifest(nil, &abi.Manifest{Phases: abi.WantsRequest, Stores: []string{"other", "sessions"}})
	o := Options{Grants: Grants{Stores: map[string]*kv.Store{"sessions": s, "other": kv.New(kv.Options{})}}}
	key := code(i32(dataAt), i32(1))
	big := uint32(200)
	calls := [][]byte{
		do(callKVGet, i32(1), key, i32(bodyAt), i32(0)),                                                    // nothing there
		do(callKVSet, i32(1), key, i32(dataAt), i32(5), i32(0), i64(0)),                                    // any version
		do(callKVSet, i32(1), key, i32(dataAt), i32(5), i32(abi.IfAbsent), i64(0)),                         // it is there
		do(callKVSet, i32(1), key, i32(dataAt), i32(big), i32(0), i64(0)),                                  // too large
		do(callKVGet, i32(1), key, i32(bodyAt+8*12), i32(4)),                                               // no room
		do(callKVGet, i32(1), key, i32(bodyAt+8*12), i32(5)),                                               // room
		do(callKVDelete, i32(1), key, i32(12345)),                                                          // another version
		do(callKVDelete, i32(1), key, i32(0)),                                                              //
		do(callKVDelete, i32(1), key, i32(0)),                                                              // absent
		wide(do(callKVAdd, i32(0), key, i64(1<<64-3), i64(1<<63), i32(bodyAt+8*12+8))),                     // -3
		wide(do(callKVAdd, i32(1), i32(dataAt), i32(0), i64(1), i64(0), i32(bodyAt+8*12+16))),              // an empty key
		do(callKVSet, i32(1), i32(dataAt+1), i32(1), i32(dataAt), i32(3), i32(abi.IfAbsent), i64(1<<64-1)), // for ever
	}
	g := telling(guestModule{pages: 8, manifest: m, data: map[uint32][]byte{dataAt: []byte("key: value")}}, 24, calls...)
	p := b.mustLoad(g.build(), o, wasm.Limits{})
	got, extra := told8(b.request(p, simpleHead, filter.Route), len(calls))
	version := uint32(got[1])
	want := []uint64{
		0, packed(abi.ResultOK, int(version)), packed(abi.ResultMismatch, int(version)), packed(abi.ResultTooLarge, 0),
		abi.Pack(version, 5), abi.Pack(version, 5), packed(abi.ResultMismatch, int(version)), packed(abi.ResultOK, 0), packed(abi.ResultAbsent, 0),
		uint64(abi.ResultOK), uint64(abi.ResultTooLarge), packed(abi.ResultOK, int(uint32(got[11]))),
	}
	if !slices.Equal(got, want) || version == 0 || uint32(got[11]) == 0 {
		t.Errorf("got  %x\nwant %x", got, want)
	}
	if extra != "key: \x00\x00\x00\xfd\xff\xff\xff\xff\xff\xff\xff" {
		t.Errorf("%q", extra)
	}
	if v, _, ok := s.Get(1<<62, []byte("e"), nil); !ok || string(v) != "key" {
		t.Errorf("%q, %v", v, ok)
	}
}

// TestStoresArePluginsShared has a plugin find what another wrote, and its own instances what it wrote before a trap.
func TestStoresAreShared(t *testing.T) {
	b := newBench(t)
	s := kv.New(kv.Options{})
	o := Options{Grants: Grants{Stores: map[string]*kv.Store{"s": s}}, Backoff: &wasm.Backoff{}}
	m := abi.AppendManifest(nil, &abi.Manifest{Phases: abi.WantsRequest, Stores: []string{"s"}})
	add := do(callKVAdd, i32(0), i32(dataAt), i32(1), i64(1), i64(0), i32(freeAt))
	data := map[uint32][]byte{dataAt: []byte("k")}
	first := b.mustLoad(guestModule{pages: 8, manifest: m, data: data, requestCode: code(add, opDrop, opUnreachable)}.build(), o, wasm.Limits{})
	for range 3 {
		if r := b.request(first, simpleHead, filter.Route); r.err == nil || r.err.Kind != fault.PluginTrap {
			t.Fatal(r.err)
		}
	}
	second := b.mustLoad(telling(guestModule{pages: 8, manifest: m, data: data}, 0, code(add, opDrop, i32(freeAt), opI64Load, 3, 0)).build(), o, wasm.Limits{})
	if got, _ := told8(b.request(second, simpleHead, filter.Route), 1); got[0] != 4 {
		t.Errorf("the counter is %d", got[0])
	}
}
