package native

import (
	"strings"
	"testing"
	"time"

	"wasmgate/runtime/fault"
	"wasmgate/runtime/filter"
	"wasmgate/runtime/netloop"
	"wasmgate/runtime/wasm"
	"wasmgate/sdk/abi"
)

func TestBreakerOpensAndCloses(t *testing.T) {
	b := newBench(t)
	g := guestModule{requestCode: onPost(opUnreachable)}
	p := b.mustLoad(g.build(), Options{Backoff: &wasm.Backoff{}, Breaker: &wasm.Breaker{Failures: 3, Percent: 50, Window: time.Hour, Open: time.Hour}}, wasm.Limits{})
	for range 3 {
		if r := b.request(p, post, filter.Route); r.err == nil || r.err.Kind != fault.PluginTrap {
			t.Fatalf("before it opens: %v", r.err)
		}
	}
	r := b.request(p, simpleHead, filter.Route)
	if r.err == nil || r.err.Kind != fault.PluginUnavailable || r.err.Status != 503 || !strings.Contains(r.err.Error(), "breaker is open") {
		t.Errorf("while it is open: %v", r.err)
	}
	if s := p.Stats(); s.Calls != 3 || s.BreakerOpened != 1 || !s.BreakerOpen || s.Failures[fault.PluginUnavailable] != 1 {
		t.Errorf("stats: %+v", s)
	}
	told := 0
	for _, l := range b.logged() {
		if strings.Contains(l.Text, "its breaker is open, and requests follow on_error (fail_closed)") {
			told++
		}
	}
	if told != 1 {
		t.Errorf("told %d times that it opened: %+v", told, b.logged())
	}

	brief := &wasm.Breaker{Failures: 1, Percent: 1, Window: time.Hour, Open: time.Nanosecond}
	p = b.mustLoad(g.build(), Options{OnError: FailOpen, Backoff: &wasm.Backoff{}, Breaker: brief}, wasm.Limits{})
	if r := b.request(p, post, filter.Route); r.err != nil || !p.Stats().BreakerOpen {
		t.Errorf("fail_open: %v, %+v", r.err, p.Stats())
	}
	b.until("a request is tried", func() bool {
		b.send(p, simpleHead)
		return p.Stats().Calls > 1
	})
	b.until("the breaker is seen as closed", func() bool { return !p.Stats().BreakerOpen })
}

// send sends a request from a task of its own and does not wait for it.
func (b *bench) send(p *Plugin, head string) {
	b.group.Loop(0).Post(func() {
		b.group.Loop(0).Go(func(task *netloop.Task) {
			_, _ = p.Request(newExchange(b.t, task, head), filter.Route, 0)
		})
	})
}

func TestNewInstancesBackOff(t *testing.T) {
	b := newBench(t)
	g := guestModule{requestCode: onPost(opUnreachable)}
	p := b.mustLoad(g.build(), Options{Backoff: &wasm.Backoff{Free: 1, Base: time.Hour, Max: time.Hour}, Breaker: &wasm.Breaker{}}, wasm.Limits{})
	for range 2 {
		if r := b.request(p, post, filter.Route); r.err == nil || r.err.Kind != fault.PluginTrap {
			t.Fatalf("%v", r.err)
		}
	}
	r := b.request(p, simpleHead, filter.Route)
	if r.err == nil || r.err.Kind != fault.PluginUnavailable || r.err.Phase != "request" || !strings.Contains(r.err.Error(), "the next instance is made in") {
		t.Errorf("%v", r.err)
	}
	if s := p.Stats(); s.Live != 0 || s.Started != 2 || s.Discarded != 2 {
		t.Errorf("%+v", s)
	}
}

// TestALongCallLetsOthersRun holds one guest in a long call while others of the loop are served by a second instance. It has
// another try where the others stood still until the call was over.
func TestALongCallLetsOthersRun(t *testing.T) {
	for try := 1; ; try++ {
		during, s := besideALongCall(t)
		if during > 0 && s.Started == 2 && s.Calls == 4 {
			return
		}
		if try == 5 {
			t.Fatalf("%d were served meanwhile: %+v", during, s)
		}
	}
}

// besideALongCall says how many of three requests were served while a long call was under way, and what the plugin did.
func besideALongCall(t *testing.T) (during int, s Stats) {
	t.Helper()
	b := newBench(t)
	g := guestModule{requestCode: onPost(opLoop, void, opBr, 0, opEnd)}
	p := b.mustLoad(g.build(), Options{}, wasm.Limits{Fuel: 100_000_000})
	done := make(chan error, 1)
	l := b.group.Loop(0)
	l.Post(func() {
		l.Go(func(task *netloop.Task) {
			_, err := p.Request(newExchange(t, task, post), filter.Route, 0)
			done <- err
		})
	})
	for range 3 {
		if r := b.request(p, simpleHead, filter.Route); r.err != nil {
			t.Errorf("%v", r.err)
		}
		if len(done) == 0 {
			during++
		}
	}
	if err := <-done; err == nil || fault.From(err).Kind != fault.PluginFuel {
		t.Errorf("the long call: %v", err)
	}
	return during, p.Stats()
}

func TestModulesThatCannotStart(t *testing.T) {
	text := guestModule{configured: answerOf(abi.CodeError, 4)}
	text.arenas = [2]uint64{abi.Pack(0x2000, 0x1000), abi.Pack(0x2000, manifestAt)} // where the data is
	text.manifest = []byte("bad!")
	declares := func(m *abi.Manifest) guestModule { return guestModule{manifest: abi.AppendManifest(nil, m)} }
	noResponse := declares(&abi.Manifest{Phases: abi.WantsResponse})
	noResponse.noResponse = true
	for name, c := range map[string]struct {
		guest guestModule
		phase string
		want  string
	}{
		"no arena":              {guestModule{rename: map[string]string{abi.ExportArena: "x"}}, "compile", abi.ExportArena},
		"no request":            {guestModule{rename: map[string]string{abi.ExportRequest: "x"}}, "compile", abi.ExportRequest},
		"another version":       {guestModule{rename: map[string]string{abi.ExportResponse: "wasmgate_v2_response"}}, "compile", "the module speaks version 2 of the native plugin ABI (wasmgate_v2_response), this gateway version 1"},
		"an unknown import":     {guestModule{extraImports: []string{"open_file"}}, "compile", "wasmgate_v1.open_file(i32)->()"},
		"more memory":           {guestModule{pages: 1000}, "compile", "1000"},
		"a trap at the start":   {guestModule{initCode: []byte{opUnreachable}}, "start", "unreachable"},
		"a loop at the start":   {guestModule{initCode: code(opLoop, void, opBr, 0, opEnd)}, "start", "out of fuel"},
		"an arena outside":      {guestModule{arenas: [2]uint64{abi.Pack(0x2000, 0x3f000), abi.Pack(0x2000, 0x4000)}}, "start", "arena 0: 8192 bytes at 0x3f000 are not in the guest's memory of 262144 bytes"},
		"arenas that overlap":   {guestModule{arenas: [2]uint64{abi.Pack(0x2000, 0x1000), abi.Pack(0x2000, 0x2fff)}}, "start", "arena 1: 8192 bytes at 0x2fff overlap arena 0, 8192 bytes at 0x1000"},
		"an arena in the other": {guestModule{arenas: [2]uint64{abi.Pack(0x2000, 0x1000), abi.Pack(0x10, 0x1800)}}, "start", "overlap"},
		"a tiny arena":          {guestModule{arenas: [2]uint64{abi.Pack(16, 0x1000), abi.Pack(0x2000, 0x4000)}}, "start", "a configuration of 41 bytes does not fit into arena 0 of 16 bytes"},
		"a refusal":             {text, "start", "the plugin refuses its configuration: bad!"},
		"a strange answer":      {guestModule{configured: answerOf(abi.CodeDeny, 403)}, "start", "configure answered with code 3"},
		"a long manifest":       {guestModule{configured: 0x2001}, "start", "an answer of 8193 bytes does not fit"},
		"a broken manifest":     {guestModule{manifest: []byte{99, 0, 0, 0, 0, 0, 0, 0}}, "start", "unknown kind 0x63"},
		"no response export":    {noResponse, "start", "does not export wasmgate_v1_response"},
		"an upper-case header":  {declares(&abi.Manifest{Phases: 1, RequestHeaders: []string{"X-A"}}), "start", "not a lower-case field name"},
		"a header twice":        {declares(&abi.Manifest{Phases: 1, RequestHeaders: []string{"a", "a"}}), "start", "declared twice"},
		"no phase":              {guestModule{manifest: abi.AppendPhases(nil, 0)}, "start", "one must be set"},
		"upstreams, not granted": {declares(&abi.Manifest{Phases: 1, Upstreams: []string{"a", "b", "c", "d", "e", "f", "g"}}), "configure",
			"it wants to choose upstreams that it is not granted: a, b, c, d, e and 2 more (grant them in the plugin's upstreams)"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			e, err := engine()
			if err != nil {
				t.Fatal(err)
			}
			before := e.MemoryInUse()
			_, err = b.load(c.guest.build(), Options{}, wasm.Limits{StartFuel: 1_000_000})
			if err == nil {
				t.Fatal("it started")
			}
			f := fault.From(err)
			if f.Source != fault.Plugin || f.Status != 503 || f.Plugin != "p" || f.Phase != c.phase || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v (source %v, phase %s), want phase %s: %s", err, f.Source, f.Phase, c.phase, c.want)
			}
			if now := e.MemoryInUse(); now != before {
				t.Errorf("%d bytes of guests' memory are still in use", now-before)
			}
		})
	}
}

func TestAnotherManifestRefusesTheInstance(t *testing.T) {
	b := newBench(t)
	// An instance that starts anew in the same module says the same; so the first one's manifest is changed.
	p := b.mustLoad(guestModule{manifest: abi.AppendPhases(nil, abi.WantsRequest), requestCode: onPost(opUnreachable)}.build(), Options{}, wasm.Limits{})
	p.core.rawManifest = abi.AppendPhases(nil, abi.WantsRequest|abi.WantsResponse)
	b.request(p, post, filter.Route)
	r := b.request(p, simpleHead, filter.Route)
	if r.err == nil || r.err.Kind != fault.PluginAnswer || !strings.Contains(r.err.Error(), "manifest is not that of the first one") {
		t.Errorf("%v", r.err)
	}
}
