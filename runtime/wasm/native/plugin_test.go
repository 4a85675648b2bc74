package native

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"wasmgate/runtime/exchange"
	"wasmgate/runtime/fault"
	"wasmgate/runtime/filter"
	"wasmgate/runtime/netloop"
	"wasmgate/runtime/wasm"
	"wasmgate/sdk/abi"
)

func answerOf(code abi.Code, value uint32) uint64 { return abi.Pack(uint32(code), value) }

// upstreams is a manifest of a plugin that wants both phases and may choose two upstreams; granted is what grants them.
var (
	upstreams = abi.AppendManifest(nil, &abi.Manifest{Phases: abi.WantsRequest | abi.WantsResponse, Upstreams: []string{"users", "orders"}})
	granted   = Grants{Upstreams: map[string]int{"users": 4, "orders": 7}, DynamicUpstream: exchange.NoUpstream}
)

// told writes what became of a request, as far as a plugin can change it.
func told(r result) string {
	x := r.x
	s := fmt.Sprintf("%d %s %s %s", r.verdict, x.Request.Method, x.Request.Authority, x.Request.Path)
	if x.Request.HasQuery() {
		s += "?" + string(x.Request.Query())
	}
	if t := &x.Target; t.Upstream != exchange.NoUpstream || len(t.Dynamic) > 0 || t.HashKey != 0 || t.Timeout != 0 {
		s += fmt.Sprintf(" to %d %s %d %v", t.Upstream, t.Dynamic, t.HashKey, t.Timeout)
	}
	if x.Local.Set {
		s += fmt.Sprintf(" local %d %d %q", x.Local.Status, x.Response.Status, x.Local.Body)
		for i := range x.Response.Len() {
			s += fmt.Sprintf(" %s=%s", x.Response.Name(i), x.Response.Value(i))
		}
	}
	return s
}

func TestPlainAnswers(t *testing.T) {
	b := newBench(t)
	for _, c := range []struct {
		answer uint64
		role   filter.Role
		want   string
	}{
		{answerOf(abi.CodeContinue, 0), filter.Route, "0 GET example.com /app?q=1"},
		{answerOf(abi.CodeNoMatch, 0), filter.Match, "1 GET example.com /app?q=1"},
		{answerOf(abi.CodeRoute, 1), filter.Route, "0 GET example.com /app?q=1 to 7  0 0s"},
		{answerOf(abi.CodeRoute, 0), filter.Listener, "0 GET example.com /app?q=1 to 4  0 0s"},
		{answerOf(abi.CodeDeny, 0), filter.Route, `2 GET example.com /app?q=1 local 403 403 ""`},
		{answerOf(abi.CodeDeny, 599), filter.Match, `2 GET example.com /app?q=1 local 599 599 ""`},
		{answerOf(abi.CodeOperations, 0), filter.Route, "0 GET example.com /app?q=1"},
	} {
		p := b.mustLoad(guestModule{manifest: upstreams, request: c.answer}.build(), Options{Grants: granted}, wasm.Limits{})
		r := b.request(p, simpleHead, c.role)
		if r.err != nil || told(r) != c.want {
			t.Errorf("%#x: %s, %v; want %s", c.answer, told(r), r.err, c.want)
		}
	}
	if l := b.logged(); len(l) != 0 {
		t.Errorf("logged: %v", l)
	}
}

func TestOperations(t *testing.T) {
	const sent = "Host: example.com\nX-Tenant: acme\nCookie: a=1\nCookie: b=2\n"
	ops := func(parts ...[]byte) []byte { return slices.Concat(parts...) }
	text := func(k abi.Kind, s string) []byte { return abi.AppendOpText(nil, k, s) }
	pair := func(k abi.Kind, n, v string) []byte { return abi.AppendOpPair(nil, k, n, v) }
	const untouched = " GET example.com /app?q=1"
	for _, c := range []struct {
		name         string
		list         []byte
		want, fields string
	}{
		{"upstream", abi.AppendOp32(nil, abi.OpUpstream, 1), "0" + untouched + " to 7  0 0s", sent},
		{"address", text(abi.OpAddress, "10.0.0.7:8080"), "0" + untouched + " to 9 10.0.0.7:8080 0 0s", sent},
		{"an upstream drops the address", ops(text(abi.OpAddress, "10.0.0.7:8080"), abi.AppendOp32(nil, abi.OpUpstream, 0)), "0" + untouched + " to 4  0 0s", sent},
		{"timeout", abi.AppendOp32(nil, abi.OpTimeout, 250), "0" + untouched + " to -1  0 250ms", sent},
		{"hash key", abi.AppendOp64(nil, abi.OpHashKey, 1<<63), "0" + untouched + " to -1  9223372036854775808 0s", sent},
		{"method", text(abi.OpMethod, "PUT"), "0 PUT example.com /app?q=1", sent},
		{"authority", text(abi.OpAuthority, "b:81"), "0 GET b:81 /app?q=1", strings.Replace(sent, "example.com", "b:81", 1)},
		{"path", text(abi.OpPath, "/v2/%2f"), "0 GET example.com /v2/%2f?q=1", sent},
		{"query", text(abi.OpQuery, "a=b&c"), "0 GET example.com /app?a=b&c", sent},
		{"no query", text(abi.OpQuery, ""), "0 GET example.com /app", sent},
		{"set header", pair(abi.OpSetHeader, "cookie", "c=3"), "0" + untouched, "Host: example.com\nX-Tenant: acme\ncookie: c=3\n"},
		{"set header, for another spelling", pair(abi.OpSetHeader, "x_tenant", "t"), "0" + untouched, "Host: example.com\nCookie: a=1\nCookie: b=2\nx_tenant: t\n"},
		{"append header", pair(abi.OpAppendHeader, "X-Tenant", ""), "0" + untouched, sent + "X-Tenant: \n"},
		{"remove header", text(abi.OpRemoveHeader, "COOKIE"), "0" + untouched, "Host: example.com\nX-Tenant: acme\n"},
		{"remove header in all spellings", text(abi.OpRemoveHeader, "X_TENANT"), "0" + untouched, "Host: example.com\nCookie: a=1\nCookie: b=2\n"},
		{"respond", abi.AppendRespond(nil, 429, "slow down\n", "retry-after", "1", "x", ""), "2" + untouched + ` local 429 429 "slow down\n" retry-after=1 x=`, sent},
		{"rematch", ops(text(abi.OpPath, "/b"), abi.AppendOp(nil, abi.OpRematch)), "3 GET example.com /b?q=1", sent},
		{"an answer goes before a new match", ops(abi.AppendOp(nil, abi.OpRematch), abi.AppendRespond(nil, 204, "")), "2" + untouched + ` local 204 204 ""`, sent},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t)
			g := granted
			g.DynamicUpstream, g.DynamicAllow = 9, func(a []byte) bool { return string(a) == "10.0.0.7:8080" }
			p := b.mustLoad(guestModule{manifest: upstreams, list: c.list}.build(), Options{Grants: g}, wasm.Limits{})
			r := b.request(p, simpleHead, filter.Route)
			if r.err != nil || told(r) != c.want {
				t.Errorf("%s, %v\nwant %s", told(r), r.err, c.want)
			}
			if got := fields(r.x); r.err == nil && got != c.fields {
				t.Errorf("fields:\n%swant:\n%s", got, c.fields)
			}
		})
	}
}

func TestAttributesAndLines(t *testing.T) {
	b := newBench(t)
	list := abi.AppendOpPair(nil, abi.OpAttribute, "tenant.id", "a\xffb")
	list = abi.AppendLog(list, abi.LogWarn, "seen")
	list = abi.AppendLog(list, abi.LogDebug, "below the level")
	list = abi.AppendLog(list, abi.LogError, strings.Repeat("x", abi.MaxText+1))
	p := b.mustLoad(guestModule{list: list}.build(), Options{LogLevel: abi.LogInfo}, wasm.Limits{})
	r := b.request(p, simpleHead, filter.Route)
	if len(r.x.Tags) != 0 || len(r.x.Calls) != 0 {
		t.Errorf("recorded without a trace: %v %v", r.x.Tags, r.x.Calls)
	}
	lines := b.logged()
	if len(lines) != 2 || lines[0].Text != "seen" || lines[0].Level != abi.LogWarn || !lines[0].Guest || lines[0].Phase != "request" {
		t.Fatalf("lines: %+v", lines)
	}
	if l := lines[1].Text; !strings.HasSuffix(l, "… (cut: 4097 bytes)") || len(l) > abi.MaxText+30 {
		t.Errorf("a long line: %d bytes, %s", len(l), l[len(l)-40:])
	}
	b.on(func(task *netloop.Task) {
		x := newExchange(t, task, simpleHead)
		x.Trace.Sampled = true
		if _, err := p.Request(x, filter.Route, 0); err != nil {
			t.Error(err)
		}
		if len(x.Tags) != 1 || x.Tags[0] != (exchange.Tag{Key: "tenant.id", Value: "a\uFFFDb"}) {
			t.Errorf("tags: %v", x.Tags)
		}
		if len(x.Calls) != 1 || x.Calls[0].Plugin != "p" || x.Calls[0].Phase != "request" || x.Calls[0].Outcome != "edit" || x.Calls[0].Fuel <= 0 {
			t.Errorf("calls: %+v", x.Calls)
		}
	})
}

// respond sends an answer through the plugin, after the request.
func (b *bench) respond(p *Plugin, word uint64, answer string) (r result) {
	b.t.Helper()
	b.on(func(task *netloop.Task) {
		r.x = newExchange(b.t, task, simpleHead)
		*r.x.Word(0) = word
		in := []byte(strings.ReplaceAll(answer, "\n", "\r\n") + "\r\n\r\n")
		if _, err := r.x.Response.Parse(in, nil, []byte("GET")); err != nil {
			b.t.Error(err)
		}
		var err error
		if r.verdict, err = p.Response(r.x, 0); err != nil {
			r.err = fault.From(err)
		}
	})
	return r
}

func TestResponsePhase(t *testing.T) {
	b := newBench(t)
	list := abi.AppendOpPair(nil, abi.OpSetHeader, "server", "s")
	list = abi.AppendOpText(list, abi.OpRemoveHeader, "x-secret")
	list = abi.AppendOpPair(list, abi.OpAppendHeader, "vary", "x")
	wants := abi.AppendPhases(nil, abi.WantsMarkedResponses)
	p := b.mustLoad(guestModule{manifest: wants, responseList: list}.build(), Options{}, wasm.Limits{})
	const answer = "HTTP/1.1 200 OK\nServer: y\nX-Secret: 1\nVary: a"
	seen := func(r result) (s string) {
		for i := range r.x.Response.Len() {
			s += fmt.Sprintf("%s=%s ", r.x.Response.Name(i), r.x.Response.Value(i))
		}
		return s
	}
	if !p.WantsResponse() {
		t.Error("answers are not wanted")
	}
	if r := b.request(p, simpleHead, filter.Route); r.err != nil || p.Stats().Calls != 0 {
		t.Errorf("called for a request that it did not ask for: %v", r.err)
	}
	if r := b.respond(p, 0, answer); r.err != nil || seen(r) != "Server=y X-Secret=1 Vary=a " {
		t.Errorf("an answer that was not marked: %s, %v", seen(r), r.err)
	}
	if r := b.respond(p, 1, answer); r.err != nil || seen(r) != "server=s Vary=a vary=x " {
		t.Errorf("a marked answer: %s, %v", seen(r), r.err)
	}

	list = abi.AppendOpPair(nil, abi.OpSetHeader, "gone", "1")
	list = abi.AppendRespond(list, 503, "later", "x-a", "1")
	list = abi.AppendOpPair(list, abi.OpAppendHeader, "x-b", "2")
	p = b.mustLoad(guestModule{manifest: upstreams, responseList: list}.build(), Options{Grants: granted}, wasm.Limits{})
	if r := b.respond(p, 0, answer); r.verdict != filter.Respond || !strings.HasSuffix(told(r), `local 503 503 "later" x-a=1 x-b=2`) {
		t.Errorf("an answer instead of the upstream's: %s, %v", told(r), r.err)
	}
	for name, list := range map[string][]byte{
		"UPSTREAM": abi.AppendOp32(nil, abi.OpUpstream, 0), "PATH": abi.AppendOpText(nil, abi.OpPath, "/"),
		"CONTEXT": abi.AppendOp64(nil, abi.OpContext, 1), "REMATCH": abi.AppendOp(nil, abi.OpRematch),
	} {
		p := b.mustLoad(guestModule{manifest: upstreams, responseList: list}.build(), Options{Grants: granted}, wasm.Limits{})
		r := b.respond(p, 0, answer)
		if r.err == nil || r.err.Kind != fault.PluginAnswer || r.err.Phase != "response" || !strings.Contains(r.err.Error(), "not an operation of the response phase") {
			t.Errorf("%s in the response phase: %v", name, r.err)
		}
	}
}

func TestContextWord(t *testing.T) {
	b := newBench(t)
	p := b.mustLoad(guestModule{list: abi.AppendOp64(nil, abi.OpContext, 42)}.build(), Options{}, wasm.Limits{})
	b.on(func(task *netloop.Task) {
		x := newExchange(t, task, simpleHead)
		if _, err := p.Request(x, filter.Route, 3); err != nil {
			t.Error(err)
		}
		if *x.Word(3) != 42 || *x.Word(0) != 0 {
			t.Errorf("words: %d at place 3, %d at place 0", *x.Word(3), *x.Word(0))
		}
	})
}

// TestView holds what the host writes to what the ABI's own reader finds.
func TestView(t *testing.T) {
	b := newBench(t)
	m := &abi.Manifest{Phases: abi.WantsRequest, RequestHeaders: []string{"x-tenant", "cookie", "absent", "x-empty", "host"}, ResponseHeaders: []string{"x-a", "server"}}
	b.on(func(task *netloop.Task) {
		x := newExchange(t, task, simpleHead+"\nX-Empty:\nx-TENANT: two")
		x.Trace.Sampled = true
		in := []byte("HTTP/1.1 404 Not Found\r\nX-A: 1\r\nX-B: 2\r\nx-a: 3\r\n\r\n")
		if _, err := x.Response.Parse(in, nil, []byte("GET")); err != nil {
			t.Error(err)
		}
		e := newEncoder(m)
		var h abi.Head
		head(&h, x, abi.PhaseResponse, abi.RoleRoute, 77)
		buf := make([]byte, 4096)
		need := e.encode(buf, x, &h)
		for short := range need { // nothing is written past the end, and the length is the same
			if n := e.encode(buf[:short:short], x, &h); n != need {
				t.Errorf("%d bytes needed, %d when there are only %d", need, n, short)
			}
		}
		clear(buf)
		v := abi.View(buf[:e.encode(buf, x, &h)])
		if err := v.Validate(); err != nil {
			t.Error(err)
		}
		if got := v.Head(); got.Flags != abi.FlagHasQuery|abi.FlagSampled || got.Status != 404 || got.Context != 77 || got.Phase != 1 {
			t.Errorf("head: %+v", got)
		}
		for f, want := range map[abi.Field]string{
			abi.FieldMethod: "GET", abi.FieldScheme: "http", abi.FieldAuthority: "example.com", abi.FieldPath: "/app",
			abi.FieldQuery: "q=1", abi.FieldClient: "192.0.2.7", abi.FieldRoute: "r",
		} {
			if got := v.Field(f); string(got) != want {
				t.Errorf("field %d: %q, want %q", f, got, want)
			}
		}
		if v.Field(abi.FieldSNI) != nil || v.Field(abi.FieldCertSubject) != nil {
			t.Error("a TLS name without TLS")
		}
		var slots []string
		for i := range v.Slots() {
			s := ""
			for k := range v.Count(i) {
				s += fmt.Sprintf("%q", v.Value(i, k))
			}
			slots = append(slots, s)
		}
		if got := strings.Join(slots, ","); got != `"acme""two","a=1""b=2",,"","example.com","1""3",` {
			t.Errorf("slots: %s", got)
		}
	})
}

func TestResize(t *testing.T) {
	b := newBench(t)
	// The request arena grows to 64 KiB at 0x30000; the answer's is a page at 0x28000.
	resize := code(opLocalGet, 0, opIf, typeI64, i64(abi.Pack(0x8000, 0x28000)), opElse, i64(abi.Pack(0x10000, 0x30000)), opEnd)
	g := guestModule{
		arenas: [2]uint64{abi.Pack(200, 0x1000), abi.Pack(64, 0x2000)}, resizeCode: resize,
		// what the guest answers lies where its new arena will be
		requestCode: code(copyMemory(0x28000, listAt, 300), i64(answerOf(abi.CodeOperations, 300))),
		list:        abi.AppendOpPair(nil, abi.OpSetHeader, "x-long", strings.Repeat("y", 300-8-8-6)),
	}
	p := b.mustLoad(g.build(), Options{}, wasm.Limits{})
	for range 2 {
		r := b.request(p, simpleHead+"\nX-Long: "+strings.Repeat("z", 1000), filter.Route)
		if r.err != nil || !strings.Contains(fields(r.x), "x-long: yyyy") {
			t.Fatalf("%v\n%s", r.err, fields(r.x))
		}
	}
	if s := p.Stats(); s.Discarded != 0 || s.Calls != 2 {
		t.Errorf("%+v", s)
	}
}

func TestRebindSharesInstances(t *testing.T) {
	b := newBench(t)
	p := b.mustLoad(guestModule{manifest: upstreams, request: answerOf(abi.CodeRoute, 0)}.build(), Options{Grants: granted}, wasm.Limits{})
	q, err := p.Rebind(Grants{Upstreams: map[string]int{"users": 40, "orders": 41}})
	if err != nil {
		t.Fatal(err)
	}
	if r := b.request(q, simpleHead, filter.Route); r.err != nil || r.x.Target.Upstream != 40 {
		t.Errorf("rebound: %d, %v", r.x.Target.Upstream, r.err)
	}
	if r := b.request(p, simpleHead, filter.Route); r.err != nil || r.x.Target.Upstream != 4 {
		t.Errorf("the first: %d, %v", r.x.Target.Upstream, r.err)
	}
	if s := q.Stats(); s.Started != 1 || s.Live != 1 || s.Calls != 2 {
		t.Errorf("not shared: %+v", s)
	}
	if _, err := p.Rebind(Grants{}); err == nil || !strings.Contains(err.Error(), "users, orders (grant them") {
		t.Errorf("rebound to no upstreams: %v", err)
	}
	p.Close()
	if r := b.request(q, simpleHead, filter.Route); r.err != nil || q.Stats().Live != 1 {
		t.Errorf("after the first was closed: %v, %+v", r.err, q.Stats())
	}
	q.Close()
	if s := q.Stats(); s.Live != 0 {
		t.Errorf("after both were closed: %+v", s)
	}
}

func TestNoInstanceIsLeft(t *testing.T) {
	b := newBench(t)
	for name, g := range map[string]guestModule{"with _initialize": {initCode: []byte{}}, "without": {}} {
		p := b.mustLoad(g.build(), Options{RecycleAfter: 2}, wasm.Limits{})
		for range 5 {
			if r := b.request(p, simpleHead, filter.Route); r.err != nil {
				t.Fatal(r.err)
			}
		}
		p.Close()
		// Two instances served two calls each, and a third the fifth.
		if s := p.Stats(); s.Live != 0 || s.Recycled != 2 || s.Started != 3 || s.Discarded != 0 {
			t.Errorf("%s: %+v", name, s)
		}
	}
}

func TestIdleInstancesAreClosed(t *testing.T) {
	b := newBench(t)
	p := b.mustLoad(guestModule{}.build(), Options{IdleAfter: time.Nanosecond}, wasm.Limits{})
	if r := b.request(p, simpleHead, filter.Route); r.err != nil {
		t.Fatal(r.err)
	}
	b.until("the instance is closed", func() bool { s := p.Stats(); return s.ClosedIdle == 1 && s.Live == 0 })
	if r := b.request(p, simpleHead, filter.Route); r.err != nil || p.Stats().Calls != 2 {
		t.Errorf("a request after that: %v, %+v", r.err, p.Stats())
	}
}

// until waits on the loop for something to be so.
func (b *bench) until(what string, fact func() bool) {
	b.t.Helper()
	b.on(func(task *netloop.Task) {
		for end := time.Now().Add(10 * time.Second); !fact(); task.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				b.t.Errorf("waited 10 s in vain: %s", what)
				return
			}
		}
	})
}
