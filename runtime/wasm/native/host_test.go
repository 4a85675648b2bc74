package native

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"wasmgate/runtime/fault"
	"wasmgate/runtime/filter"
	"wasmgate/runtime/kv"
	"wasmgate/runtime/netloop"
	"wasmgate/runtime/wasm"
	"wasmgate/sdk/abi"
)

// everything is a manifest and options with all that there is.
func everything() (guestModule, Options, *kv.Store) {
	s := kv.New(kv.Options{MaxBytes: 1 << 20})
	m := abi.AppendManifest(nil, &abi.Manifest{
		Phases: abi.WantsRequest, Calls: []string{"authz"}, Stores: []string{"s"}, Metrics: []abi.Metric{{Name: "m"}},
	})
	caller := fakeCaller(func(_ *netloop.Task, c *filter.Call) *fault.Error {
		c.Status, c.Answer = 200, append(c.Answer[:0], strings.Repeat("x", 1<<20)...)
		return nil
	})
	return guestModule{pages: 8, manifest: m}, Options{LogRate: 1, Grants: Grants{
		Calls: map[string]int{"authz": 5}, Caller: caller, Stores: map[string]*kv.Store{"s": s},
	}}, s
}

// TestHostilePointers gives each function of the host places that are not in memory, and ids that were not declared.
func TestHostilePointers(t *testing.T) {
	const end = 8 << 16 // of memory
	fine, zero := code(i32(dataAt), i32(4)), i32(0)
	for _, bad := range [][2]uint32{{end, 1}, {end - 1, 2}, {0xffffffff, 1}, {0, end + 1}, {1, 0xffffffff}, {0x80000000, 0x80000000}} {
		place := code(i32(bad[0]), i32(bad[1]))
		for name, evil := range map[string][]byte{
			"call request":  do(callCall, zero, place, fine),
			"call answer":   do(callCall, zero, fine, place),
			"call_answer":   do(callCallAnswer, place),
			"kv_get key":    do(callKVGet, zero, place, fine),
			"kv_get value":  do(callKVGet, zero, fine, place),
			"kv_set key":    do(callKVSet, zero, place, fine, zero, i64(0)),
			"kv_set value":  do(callKVSet, zero, fine, place, zero, i64(0)),
			"kv_delete key": do(callKVDelete, zero, place, zero),
			"kv_add key":    do(callKVAdd, zero, place, i64(1), i64(0), i32(0)),
			"read_body":     do(callReadBody, zero, zero, place),
		} {
			h, o, s := everything()
			h.requestCode = onPost(evil, opDrop)
			fails(t, name, h, o, fmt.Sprintf("%s: %d bytes at 0x%x are not in the guest's memory", strings.Fields(name)[0], bad[1], bad[0]))
			if s.Len() != 0 {
				t.Errorf("%s: something was stored", name)
			}
		}
	}
	h, o, s := everything()
	h.requestCode = onPost(do(callKVAdd, zero, fine, i64(1), i64(0), i32(end-7)), opDrop)
	fails(t, "kv_add", h, o, "kv_add: 8 bytes at 0x7fff9 are not")
	if s.Len() != 0 {
		t.Error("counted, without a place for the sum")
	}
	for want, evil := range map[string][]byte{
		"call: upstream id 1; the manifest declares 1 to call":            do(callCall, i32(1), fine, fine),
		"call: upstream id 4294967295; the manifest declares 1":           do(callCall, i32(0xffffffff), fine, fine),
		"kv_get: store id 1; the manifest declares 1":                     do(callKVGet, i32(1), fine, fine),
		"kv_set: store id 2147483648; the manifest declares 1":            do(callKVSet, i32(1<<31), fine, fine, zero, i64(0)),
		"kv_delete: store id 1; the manifest declares 1":                  do(callKVDelete, i32(1), fine, zero),
		"kv_add: store id 1; the manifest declares 1":                     do(callKVAdd, i32(1), fine, i64(1), i64(0), i32(0)),
		"read_body: unknown message 2":                                    do(callReadBody, i32(2), zero, fine),
		"metric(1, 0): a metric that the manifest does not declare":       code(i32(1), 0x44, make([]byte, 8), opCall, callMetric, i32(0)),
		"metric(4294967295, 0): a metric that the manifest does not decl": code(i32(0xffffffff), 0x44, make([]byte, 8), opCall, callMetric, i32(0)),
	} {
		h, o, _ := everything()
		h.requestCode = onPost(evil, opDrop)
		fails(t, want, h, o, want)
	}
}

// fails sends POST, which traps with that text, and then GET, which does not.
func fails(t *testing.T, name string, h guestModule, o Options, want string) {
	t.Helper()
	b := newBench(t)
	p := b.mustLoad(h.build(), o, wasm.Limits{})
	if r := b.request(p, post, filter.Route); r.err == nil || r.err.Kind != fault.PluginTrap || !strings.Contains(r.err.Error(), want) {
		t.Errorf("%s: %v, want %s", name, r.err, want)
	}
	if r := b.request(p, simpleHead, filter.Route); r.err != nil {
		t.Errorf("%s: the next request: %v", name, r.err)
	}
	b.group.Close()
}

// TestNothingIsThereWhileAGuestIsConfigured calls everything from configure and from _initialize: it is denied, and nothing
// is done.
func TestNothingIsThereWhileAGuestIsConfigured(t *testing.T) {
	fine := code(i32(dataAt), i32(4))
	results := []struct {
		code []byte
		want uint64
	}{
		{do(callCall, i32(0), fine, fine), packed(abi.ResultDenied, 0)}, {wide(do(callCallAnswer, fine)), none},
		{do(callKVGet, i32(0), fine, fine), 0}, {do(callKVSet, i32(0), fine, fine, i32(0), i64(0)), packed(abi.ResultDenied, 0)},
		{do(callKVDelete, i32(0), fine, i32(0)), packed(abi.ResultDenied, 0)}, {wide(do(callKVAdd, i32(0), fine, i64(1), i64(0), i32(freeAt))), uint64(abi.ResultDenied)},
		{wide(do(callReadBody, i32(0), i32(0), fine)), none}, {code(i32(7), 0x44, make([]byte, 8), opCall, callMetric, i64(0)), 0},
	}
	var all []byte
	var want []uint64
	for k, r := range results {
		at := i32(freeAt + 8 + 8*uint32(k))
		all = code(all, at, r.code, opI64Store, 3, 0)
		want = append(want, r.want)
	}
	for name, g := range map[string]guestModule{"configure": {configureCode: all}, "_initialize": {initCode: all}} {
		h, o, s := everything()
		h.configureCode, h.initCode = g.configureCode, g.initCode
		var tell [][]byte
		for k := range results {
			tell = append(tell, code(i32(freeAt+8+8*uint32(k)), opI64Load, 3, 0))
		}
		b := newBench(t)
		p := b.mustLoad(telling(h, 0, tell...).build(), o, wasm.Limits{})
		if got, _ := told8(b.request(p, simpleHead, filter.Route), len(results)); !slices.Equal(got, want) || s.Len() != 0 || p.Stats().Outbound != 0 {
			t.Errorf("%s: got %x, want %x", name, got, want)
		}
	}
}

// TestFloods have a guest do one thing as long as it has fuel: the gateway does not take longer than for any other guest,
// and what is bounded stays so.
func TestFloods(t *testing.T) {
	loop := func(parts ...any) []byte { return onPost(opLoop, void, code(parts...), opBr, 0, opEnd) }
	next := code(i32(dataAt), i32(dataAt), opI64Load, 3, 0, i64(1), opI64Add, opI64Store, 3, 0) // another key each time
	for name, evil := range map[string][]byte{
		"keys":          loop(next, do(callKVSet, i32(0), i32(dataAt), i32(8), i32(0), i32(60_000), i32(0), i64(0)), opDrop),
		"counters":      loop(next, do(callKVAdd, i32(0), i32(dataAt), i32(8), i64(1), i64(0), i32(freeAt)), opDrop),
		"giant keys":    loop(do(callKVGet, i32(0), i32(0), i32(8<<16), i32(0), i32(8<<16)), opDrop),
		"giant values":  loop(do(callKVSet, i32(0), i32(0), i32(9), i32(0), i32(8<<16), i32(0), i64(0)), opDrop),
		"giant calls":   loop(do(callCall, i32(0), i32(0), i32(8<<16), i32(0), i32(8<<16)), opDrop),
		"giant answers": loop(do(callCall, i32(0), i32(0), i32(0), i32(0), i32(8<<16)), opDrop, do(callCallAnswer, i32(0), i32(8<<16)), opDrop),
		"bodies":        loop(do(callReadBody, i32(0), i32(0), i32(0), i32(8<<16)), opDrop),
		"metrics":       loop(i32(0), 0x44, make([]byte, 8), opCall, callMetric),
	} {
		b := newBench(t)
		h, o, s := everything()
		h.requestCode = evil
		p := b.mustLoad(h.build(), o, wasm.Limits{})
		var l *netloop.Loop
		b.on(func(task *netloop.Task) { l = task.Loop(); l.Stats() })
		r := b.request(p, post, filter.Route)
		if r.err == nil || r.err.Kind != fault.PluginFuel {
			t.Errorf("%s: %v", name, r.err)
		}
		if s.Bytes() > 1<<20 {
			t.Errorf("%s: %d bytes in the store", name, s.Bytes())
		}
		if r := b.request(p, simpleHead, filter.Route); r.err != nil {
			t.Errorf("%s: the next request: %v", name, r.err)
		}
		t.Logf("%s: a turn of the loop took up to %v", name, l.Stats().WorstTurn)
	}
}

// TestGrantsAreAsked refuses what the configuration does not grant.
func TestGrantsAreAsked(t *testing.T) {
	b := newBench(t)
	for want, change := range map[string]func(*Grants){
		"it wants to call upstreams that it is not granted: authz (grant them in the plugin's calls)": func(g *Grants) { g.Calls = nil },
		"it wants to call upstreams that it is not granted: authz":                                    func(g *Grants) { g.Caller = nil },
		"it wants to use stores that it is not granted: s (grant them in the plugin's state)":         func(g *Grants) { g.Stores = nil },
	} {
		h, o, _ := everything()
		change(&o.Grants)
		if _, err := b.load(h.build(), o, wasm.Limits{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
}
