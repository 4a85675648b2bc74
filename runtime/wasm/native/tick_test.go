package native

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"wasmgate/runtime/fault"
	"wasmgate/runtime/filter"
	"wasmgate/runtime/kv"
	"wasmgate/runtime/netloop"
	"wasmgate/runtime/wasm"
	"wasmgate/sdk/abi"
)

// ticking is a guest that has ticks, and what it needs.
func ticking(b *bench, m abi.Manifest, g guestModule) (guestModule, Options) {
	m.Phases, m.Tick = abi.WantsRequest, abi.MinTick
	g.pages, g.manifest = 8, abi.AppendManifest(nil, &m)
	return g, Options{TickLoop: b.group.Loop(0), Backoff: &wasm.Backoff{}, Breaker: &wasm.Breaker{}}
}

// TestTicks has a guest call an upstream and count in a store, and waits for some ticks.
func TestTicks(t *testing.T) {
	b := newBench(t)
	s := kv.New(kv.Options{})
	calls := make(chan struct{}, 100)
	list := abi.AppendLog(abi.AppendMetric(nil, 0, 2), abi.LogInfo, "ticked")
	g, o := ticking(b, abi.Manifest{Calls: []string{"authz"}, Stores: []string{"s"}, Metrics: []abi.Metric{{Name: "ticks"}}}, guestModule{
		list: list, data: map[uint32][]byte{dataAt: []byte("ktime")},
		tickCode: code(
			do(callCall, i32(0), i32(0), i32(0), i32(0), i32(0)), opDrop,
			do(callKVAdd, i32(0), i32(dataAt), i32(1), i64(1), i64(0), i32(freeAt)), opDrop,
			do(callKVSet, i32(0), i32(dataAt), i32(5), i32(0x1000), i32(abi.TickFixed), i32(0), i64(0)), opDrop,
			do(callGetHeader, i32(0), i32(dataAt), i32(1), i32(0), i32(0), i32(0)), opDrop, do(callReadBody, i32(0), i32(0), i32(0), i32(0)), opDrop,
			copyMemory(answerAt, listAt, uint32(len(list))), i64(abi.Pack(4, uint32(len(list)))),
		),
	})
	o.Grants = Grants{Calls: map[string]int{"authz": 5}, Stores: map[string]*kv.Store{"s": s}, Caller: fakeCaller(func(task *netloop.Task, c *filter.Call) *fault.Error {
		if c.Trace.Sampled || c.Filter != "p" || c.Upstream != 5 {
			t.Errorf("%+v", c)
		}
		select {
		case calls <- struct{}{}:
		default: // the test stood still, and must not hold up the loop
		}
		c.Status = 200
		return nil
	})}
	p := b.mustLoad(g.build(), o, wasm.Limits{})
	for range 3 {
		<-calls
	}
	var st Stats
	b.on(func(*netloop.Task) { st = p.Stats() }) // the third has ended, and on the loop no other is half counted
	if st.Ticks < 3 || st.Calls != st.Ticks || st.Outbound != st.Ticks || st.Failures != [fault.Kinds]uint64{} || st.Live != 1 {
		t.Errorf("%+v", st)
	}
	if n, _ := s.Add(0, []byte("k"), 0, 0); n < 3 {
		t.Errorf("counted %d", n)
	}
	v, _, _ := s.Get(0, []byte("ktime"), nil)
	if view := abi.Tick(v); view.Validate() != nil || time.Since(time.UnixMilli(view.Time())).Abs() > time.Minute || view.Seed() == 0 {
		t.Errorf("the view: % x", v)
	}
	if m := p.Metrics(); len(m) != 1 || m[0].Name != "ticks" || m[0].Value < 6 {
		t.Errorf("%+v", m)
	}
	if l := b.logged(); len(l) == 0 || l[0].Phase != "tick" || l[0].Text != "ticked" || !l[0].Guest {
		t.Errorf("%+v", l)
	}
	p.Close()
	was := p.Stats().Ticks
	b.on(func(task *netloop.Task) { task.Sleep(3 * abi.MinTick * time.Millisecond) })
	if p.Stats().Ticks != was || p.Stats().Live != 0 {
		t.Errorf("after its end: %+v, were %d", p.Stats(), was)
	}
}

func TestTicksThatFail(t *testing.T) {
	for name, c := range map[string]struct {
		tick []byte
		kind fault.Kind
		says string
	}{
		"a trap":       {code(opUnreachable), fault.PluginTrap, "unreachable"},
		"a loop":       {code(opLoop, void, opBr, 0, opEnd, i64(0)), fault.PluginFuel, "out of fuel"},
		"an error":     {code(copyMemory(answerAt, dataAt, 3), i64(answerOf(abi.CodeError, 3))), fault.PluginAnswer, "the plugin reports: no!"},
		"a long error": {i64(answerOf(abi.CodeError, 1<<30)), fault.PluginAnswer, "an error text of"},
		"DENY":         {i64(answerOf(abi.CodeDeny, 403)), fault.PluginAnswer, "not an answer to a tick"},
		"an operation": {code(copyMemory(answerAt, listAt, 8), i64(abi.Pack(4, 8))), fault.PluginAnswer, "not an operation of the tick phase"},
		"a list":       {i64(abi.Pack(4, 3)), fault.PluginAnswer, "an operation list of 3 bytes"},
	} {
		b := newBench(t)
		g, o := ticking(b, abi.Manifest{}, guestModule{tickCode: c.tick, list: abi.AppendOp(nil, abi.OpRematch), data: map[uint32][]byte{dataAt: []byte("no!")}})
		g.requestCode = i64(0)
		said := make(chan Line, 10)
		compiled, err := compile(t, g.build(), wasm.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		o.Log = func(l Line) { said <- l }
		p, err := New(compiled, o)
		if err != nil {
			t.Fatal(err)
		}
		if l := <-said; l.Phase != "tick" || l.Err == nil || l.Err.Kind != c.kind || !strings.Contains(l.Text, c.says) {
			t.Errorf("%s: %+v", name, l)
		}
		if r := b.request(p, simpleHead, filter.Route); r.err != nil {
			t.Errorf("%s: a request after it: %v", name, r.err)
		}
		p.Close()
	}
}

// TestATickUsesTheGrantsOfTheLastOne rebinds a plugin, and closes each: a tick uses what was granted last, and Close waits
// for it.
func TestATickUsesTheGrantsOfTheLastOne(t *testing.T) {
	b := newBench(t)
	g, o := ticking(b, abi.Manifest{Calls: []string{"authz"}}, guestModule{
		tickCode: code(do(callCall, i32(0), i32(0), i32(0), i32(0), i32(0)), opDrop, do(callCall, i32(0), i32(0), i32(0), i32(0), i32(0)), opDrop, i64(0)),
	})
	var mu sync.Mutex
	used := map[string]int{}
	open := map[string]bool{}
	grants := func(name string) Grants {
		open[name] = true
		return Grants{Calls: map[string]int{"authz": 1}, Caller: fakeCaller(func(task *netloop.Task, c *filter.Call) *fault.Error {
			task.Sleep(5 * time.Millisecond)
			mu.Lock()
			defer mu.Unlock()
			if !open[name] {
				t.Errorf("%s was closed", name)
			}
			used[name]++
			c.Status = 200
			return nil
		})}
	}
	o.Grants = grants("first")
	first := b.mustLoad(g.build(), o, wasm.Limits{})
	wait := func(name string, n int) {
		for done := false; !done; {
			b.on(func(task *netloop.Task) { task.Sleep(time.Millisecond) })
			mu.Lock()
			done = used[name] >= n
			mu.Unlock()
		}
	}
	shut := func(name string, p *Plugin) {
		p.Close()
		mu.Lock()
		defer mu.Unlock()
		open[name] = false
	}
	wait("first", 1)
	mu.Lock()
	second := grants("second")
	mu.Unlock()
	p, err := first.Rebind(second)
	if err != nil {
		t.Fatal(err)
	}
	wait("second", 1)
	shut("second", p) // as after a reload that was refused
	mu.Lock()
	n := used["first"]
	mu.Unlock()
	wait("first", n+1)
	shut("first", first)
	if first.Stats().Live != 0 {
		t.Errorf("%+v", first.Stats())
	}
}

func TestTicksWithoutALoop(t *testing.T) {
	b := newBench(t)
	g, o := ticking(b, abi.Manifest{}, guestModule{tickCode: i64(0)})
	o.TickLoop = nil
	if _, err := b.load(g.build(), o, wasm.Limits{}); err == nil || !strings.Contains(err.Error(), "it wants ticks") {
		t.Error(err)
	}
	g.tickCode = nil
	if _, err := b.load(g.build(), o, wasm.Limits{}); err == nil || !strings.Contains(err.Error(), "does not export wasmgate_v1_tick") {
		t.Error(err)
	}
}

// TestAPluginOfLoopsThatNeverRun is loaded and closed, as a check of a configuration does it.
func TestAPluginOfLoopsThatNeverRun(t *testing.T) {
	group, err := netloop.New(netloop.Options{Loops: 1})
	if err != nil {
		t.Fatal(err)
	}
	g, o := ticking(&bench{group: group}, abi.Manifest{}, guestModule{tickCode: i64(0)})
	compiled, err := compile(t, g.build(), wasm.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	p, err := New(compiled, o)
	if err != nil {
		t.Fatal(err)
	}
	p.Close()
	if s := p.Stats(); s.Live != 0 || s.Ticks != 0 {
		t.Errorf("%+v", s)
	}
	group.Start() // what was posted finds nothing to do
	group.Close()
	if p.Stats().Ticks != 0 {
		t.Error("a tick after the end")
	}
}

func TestMetrics(t *testing.T) {
	b := newBench(t)
	bits := func(v float64) []byte {
		return code(0x44, binary.LittleEndian.AppendUint64(nil, math.Float64bits(v)))
	}
	list := slices.Concat(abi.AppendMetric(nil, 0, 1.5), abi.AppendMetric(nil, 1, -3), abi.AppendMetric(nil, 2, 10), abi.AppendMetric(nil, 3, 250), abi.AppendMetric(nil, 4, -2))
	m := abi.AppendManifest(nil, &abi.Manifest{Phases: abi.WantsRequest, Metrics: []abi.Metric{
		{Name: "counter", Description: "Counts."}, {Name: "gauge", Type: abi.MetricGauge}, {Name: "h", Type: abi.MetricHistogram, Bounds: []float64{1, 10}},
		{Name: "defaults", Type: abi.MetricHistogram}, {Name: "updown", Type: abi.MetricUpDown},
	}})
	measure := func(id uint32, v float64) []byte { return do(callMetric, i32(id), bits(v)) }
	g := guestModule{manifest: m, configureCode: measure(99, 1), requestCode: code(measure(0, 1), measure(1, 7), measure(2, 0.5), measure(2, 11), copyMemory(answerAt, listAt, uint32(len(list))), i64(abi.Pack(4, uint32(len(list))))), list: list}
	p := b.mustLoad(g.build(), Options{}, wasm.Limits{})
	for range 2 {
		if r := b.request(p, simpleHead, filter.Route); r.err != nil {
			t.Fatal(r.err)
		}
	}
	var got strings.Builder
	for _, m := range p.Metrics() {
		fmt.Fprintf(&got, "%s %d %v %d %v\n", m.Name, m.Type, m.Value, m.Count, m.Buckets)
	}
	if want := `counter 0 5 4 []
gauge 1 -3 0 []
h 2 43 6 [2 2 2]
defaults 2 500 2 [0 0 0 0 0 0 2 0 0 0 0 0 0 0 0]
updown 3 -4 2 []
`; got.String() != want {
		t.Errorf("got\n%swant\n%s", got.String(), want)
	}
	if d := p.Metrics()[0].Description; d != "Counts." {
		t.Error(d)
	}
	for name, code := range map[string][]byte{
		"an unknown one": measure(5, 1), "not a number": measure(1, math.NaN()), "without end": measure(2, math.Inf(1)), "a counter that goes back": measure(0, -1),
	} {
		p := b.mustLoad(guestModule{manifest: m, requestCode: append(code, i64(0)...)}.build(), Options{}, wasm.Limits{})
		if r := b.request(p, simpleHead, filter.Route); r.err == nil || r.err.Kind != fault.PluginTrap || !strings.Contains(r.err.Error(), "metric(") {
			t.Errorf("%s: %v", name, r.err)
		}
	}
	for name, op := range map[string][]byte{
		"an unknown one": abi.AppendMetric(nil, 5, 1), "a counter that goes back": abi.AppendMetric(nil, 0, -1), "not a number": abi.AppendMetric(nil, 1, math.NaN()),
	} {
		p := b.mustLoad(guestModule{manifest: m, list: slices.Concat(abi.AppendMetric(nil, 0, 1), op)}.build(), Options{}, wasm.Limits{})
		if r := b.request(p, simpleHead, filter.Route); r.err == nil || r.err.Kind != fault.PluginAnswer || p.Metrics()[0].Value != 0 {
			t.Errorf("in a list, %s: %v", name, r.err)
		}
	}
}

// TestNoTicks: a plugin that is only asked what it would do is taken without a loop for its ticks, and has none.
func TestNoTicks(t *testing.T) {
	b := newBench(t)
	g, o := ticking(b, abi.Manifest{}, guestModule{tickCode: code(opUnreachable)})
	g.requestCode = i64(0)
	o.TickLoop, o.NoTicks = nil, true
	p := b.mustLoad(g.build(), o, wasm.Limits{})
	b.on(func(task *netloop.Task) { task.Sleep(3 * abi.MinTick * time.Millisecond) })
	if s := p.Stats(); s.Ticks != 0 || s.Calls != 0 {
		t.Errorf("%+v", s)
	}
	p.Close()
}
