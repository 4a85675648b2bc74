package native

import (
	"slices"
	"strings"
	"testing"
	"time"

	"wasmgate/runtime/fault"
	"wasmgate/runtime/filter"
	"wasmgate/runtime/netloop"
	"wasmgate/runtime/wasm"
	"wasmgate/sdk/abi"
)

// The opcodes that only hostile guests use.
const (
	opReturn, opI32Load, opI32Eq, opI32Sub = 0x0f, 0x28, 0x46, 0x6b
	callRequest                            = 12 // the index of the request function
)

// onPost makes a request function that runs evil for POST, and otherwise says CONTINUE. The method's length is in the
// view, at offset 52.
func onPost(evil ...any) []byte {
	return code(i32(0x1000), opI32Load, 2, 52, i32(4), opI32Eq, opIf, void, code(evil...), opEnd, i64(0))
}

// says ends the function with an answer.
func says(c abi.Code, value uint32) []byte { return code(i64(answerOf(c, value)), opReturn) }

// lists answers with the module's operation list.
func lists(list []byte) []byte {
	n := uint32(len(list))
	return code(copyMemory(0x4000, listAt, n), says(abi.CodeOperations, n))
}

// callTwice calls the request function twice, with n-1.
func callTwice() []byte {
	once := code(opLocalGet, 0, i32(1), opI32Sub, opCall, callRequest, opDrop)
	return code(opLocalGet, 0, opIf, void, once, once, opEnd)
}

var post = "POST" + simpleHead[3:]

// hostile is what a guest does, and how the request fails.
type hostile struct {
	name   string
	guest  guestModule
	kind   fault.Kind
	detail string
}

// check sends requests to the guest under both policies.
func (c *hostile) check(t *testing.T) {
	b := newBench(t)
	p := b.mustLoad(c.guest.build(), Options{Grants: granted, LogRate: 1}, wasm.Limits{})
	for range 2 {
		r := b.request(p, post, filter.Route)
		f := r.err
		if f == nil {
			t.Fatalf("the request did not fail: %s", told(r))
		}
		if f.Kind != c.kind || f.Source != fault.Plugin || f.Status != 503 || f.Plugin != "p" || f.Phase != "request" || !strings.Contains(f.Error(), c.detail) {
			t.Errorf("%v (source %v, status %d), want %v: %s", f, f.Source, f.Status, c.kind, c.detail)
		}
		c.checkUntouched(t, r)
	}
	if r := b.request(p, simpleHead, filter.Route); r.err != nil || r.verdict != filter.Continue {
		t.Errorf("the next request: %v", r.err)
	}
	s := p.Stats()
	if s.Failures[c.kind] != 2 || s.Discarded != 2 && c.detail != reported {
		t.Errorf("stats: %+v", s)
	}
	c.checkLog(t, b, p)

	open := b.mustLoad(c.guest.build(), Options{Grants: granted, OnError: FailOpen}, wasm.Limits{})
	r := b.request(open, post, filter.Route)
	if r.err != nil || r.verdict != filter.Continue || open.Stats().Failures[c.kind] != 1 {
		t.Errorf("fail_open: %v, %+v", r.err, open.Stats())
	}
	c.checkUntouched(t, r)
}

// checkUntouched says if anything of a bad answer was done.
func (c *hostile) checkUntouched(t *testing.T, r result) {
	t.Helper()
	if got := told(r); got != "0 POST example.com /app?q=1" {
		t.Errorf("the request is now: %s", got)
	}
	if got := fields(r.x); got != "Host: example.com\nX-Tenant: acme\nCookie: a=1\nCookie: b=2\n" {
		t.Errorf("the fields are now:\n%s", got)
	}
}

// checkLog wants one line about two failures, and the second counted for the next line.
func (c *hostile) checkLog(t *testing.T, b *bench, p *Plugin) {
	t.Helper()
	var about []Line
	for _, l := range b.logged() {
		if !l.Guest {
			about = append(about, l)
		}
	}
	if len(about) != 1 || about[0].Err == nil || about[0].Level != abi.LogError || about[0].Phase != "request" || !strings.Contains(about[0].Text, c.kind.String()+": plugin p, phase request") {
		t.Errorf("logged: %+v", about)
	}
	b.on(func(task *netloop.Task) {
		p.core.report.Failed(task.Loop().Now()+int64(time.Minute), about[0].Err)
	})
	if l := b.logged(); l[len(l)-1].Err != about[0].Err || l[len(l)-1].Suppressed != 1 {
		t.Errorf("the next line: %+v", l[len(l)-1])
	}
}

const reported = "the plugin reports: "

func TestHostileCode(t *testing.T) {
	logLoop := code(opLoop, void, i32(1), i32(0), i32(16), opCall, callLog, opBr, 0, opEnd)
	for _, c := range []hostile{
		{"endless loop", guestModule{requestCode: onPost(opLoop, void, opBr, 0, opEnd)}, fault.PluginFuel, "out of fuel after 5000000 units"},
		{"endless recursion", guestModule{requestCode: onPost(opLocalGet, 0, opCall, callRequest, opDrop)}, fault.PluginTrap, "stack"},
		{"recursion that branches, without a loop", guestModule{requestCode: onPost(callTwice())}, fault.PluginFuel, "out of fuel"},
		{"memory beyond the limit", guestModule{requestCode: onPost(i32(100000), opMemoryGrow, 0, opDrop, opUnreachable)}, fault.PluginMemory, "refused"},
		{"memory for ever", guestModule{requestCode: onPost(opLoop, void, i32(1), opMemoryGrow, 0, opDrop, opBr, 0, opEnd)}, fault.PluginFuel, "out of fuel"},
		{"filling all memory", guestModule{requestCode: onPost(opLoop, void, fillMemory(0, 7, 4<<16), opBr, 0, opEnd)}, fault.PluginFuel, "out of fuel"},
		{"filling beyond memory", guestModule{requestCode: onPost(fillMemory(0, 7, 4<<16+1))}, fault.PluginTrap, "out of bounds"},
		{"unreachable", guestModule{requestCode: onPost(opUnreachable)}, fault.PluginTrap, "unreachable"},
		{"a flood of lines", guestModule{requestCode: onPost(logLoop)}, fault.PluginFuel, "out of fuel"},
		{"a line that is not in memory", guestModule{requestCode: onPost(i32(1), i32(0x3fff0), i32(17), opCall, callLog)}, fault.PluginTrap, "log: 17 bytes at 0x3fff0 are not in the guest's memory"},
		{"an unknown level", guestModule{requestCode: onPost(i32(4), i32(0), i32(1), opCall, callLog)}, fault.PluginTrap, "unknown level 4"},
		{"a header into nowhere", guestModule{requestCode: onPost(i32(0), i32(0), i32(4), i32(0), i32(0xffffffff), i32(2), opCall, callGetHeader, opDrop)}, fault.PluginTrap, "get_header: 2 bytes at 0xffffffff"},
		{"a header of an unknown message", guestModule{requestCode: onPost(i32(5), i32(0), i32(4), i32(0), i32(0), i32(2), opCall, callGetHeader, opDrop)}, fault.PluginTrap, "unknown message 5"},
	} {
		t.Run(c.name, c.check)
	}
}

func TestHostileAnswers(t *testing.T) {
	resize := func(answer uint64) guestModule {
		return guestModule{requestCode: onPost(says(abi.CodeOperations, 0x2001)), resizeCode: i64(answer)}
	}
	answer := func(c abi.Code, value uint32) guestModule {
		return guestModule{manifest: upstreams, requestCode: onPost(says(c, value))}
	}
	resizeTraps := resize(0)
	resizeTraps.resizeCode = []byte{opUnreachable}
	for _, c := range []hostile{
		{"an unknown code", answer(6, 0), fault.PluginAnswer, "code 6 with value 0 is not an answer"},
		{"CONTINUE with a value", answer(abi.CodeContinue, 1), fault.PluginAnswer, "code 0 with value 1"},
		{"NO_MATCH of no matcher", answer(abi.CodeNoMatch, 0), fault.PluginAnswer, "NO_MATCH"},
		{"an upstream that is not declared", answer(abi.CodeRoute, 2), fault.PluginAnswer, "ROUTE to upstream id 2 in the request phase; the manifest declares 2"},
		{"the last of all upstreams", answer(abi.CodeRoute, 1<<32-1), fault.PluginAnswer, "ROUTE to upstream id 4294967295"},
		{"DENY that lets pass", answer(abi.CodeDeny, 200), fault.PluginAnswer, "DENY with status 200"},
		{"longer than the arena", answer(abi.CodeOperations, 0x2001), fault.PluginAnswer, "an answer of 8193 bytes does not fit into arena 1 of 8192 bytes, and the guest does not export wasmgate_v1_resize"},
		{"longer than the host takes", answer(abi.CodeOperations, 1<<20+1), fault.PluginAnswer, "an answer of 1048577 bytes; at most 1048576"},
		{"longer than all memory", answer(abi.CodeOperations, 1<<32-1), fault.PluginAnswer, "an answer of 4294967295 bytes"},
		{"a text that is too long", answer(abi.CodeError, abi.MaxText+1), fault.PluginAnswer, "an error text of 4097 bytes"},
		{"an error", answer(abi.CodeError, 3), fault.PluginAnswer, reported},
		{"a resize that makes it too small", resize(abi.Pack(0x2000, 0x8000)), fault.PluginAnswer, "wasmgate_v1_resize returned 8192 bytes, 8193 are needed"},
		{"a resize to outside", resize(abi.Pack(0x3000, 0x3e000)), fault.PluginAnswer, "arena 1: 12288 bytes at 0x3e000 are not in the guest's memory of 262144 bytes"},
		{"a resize around the address space", resize(abi.Pack(0x3000, 0xffffff00)), fault.PluginAnswer, "not in the guest's memory"},
		{"a resize onto the request", resize(abi.Pack(0x3000, 0x2000)), fault.PluginAnswer, "arena 1: 12288 bytes at 0x2000 overlap arena 0, 8192 bytes at 0x1000"},
		{"a resize that traps", resizeTraps, fault.PluginTrap, "unreachable"},
	} {
		t.Run(c.name, c.check)
	}
}

func TestHostileOperations(t *testing.T) {
	pair := func(n, v string) []byte { return abi.AppendOpPair(nil, abi.OpSetHeader, n, v) }
	text := func(k abi.Kind, s string) []byte { return abi.AppendOpText(nil, k, s) }
	fine := pair("x-fine", "1") // what comes before a bad operation is not done either
	cases := map[string]struct {
		list   []byte
		detail string
	}{
		"half a record":                {fine[:len(fine)-1], "record 1"},
		"a header of a record only":    {[]byte{0x20, 0, 0, 0, 0xff, 0xff, 0xff, 0xff}, "record 1"},
		"a reserved field":             {[]byte{0x51, 0, 1, 0, 0, 0, 0, 0}, "reserved"},
		"an unknown operation":         {[]byte{0x99, 0, 0, 0, 0, 0, 0, 0}, "unknown operation 0x99"},
		"a string beyond its body":     {[]byte{0x12, 0, 0, 0, 4, 0, 0, 0, 9, 0, 0, 0}, "the body is not"},
		"more than a body takes":       {[]byte{0x51, 0, 0, 0, 1, 0, 0, 0, 9}, "the body is not"},
		"too many fields of an answer": {slices.Concat([]byte{0x30, 0, 0, 0, 12, 0, 0, 0, 200, 0, 0, 0, 0, 0, 0, 0}, []byte{0xff, 0xff, 0xff, 0xff}), "the body is not"},
		"CR LF in a value":             {pair("x", "a\r\nInjected: 1"), "not a valid field value"},
		"LF in a value":                {pair("x", "a\nb"), "not a valid field value"},
		"NUL in a value":               {pair("x", "a\x00"), "not a valid field value"},
		"white space around a value":   {pair("x", " a"), "not a valid field value"},
		"CR LF in a name":              {pair("x\r\ny", "1"), "not a valid field name"},
		"a colon in a name":            {pair("x:", "1"), "not a valid field name"},
		"no name":                      {pair("", "1"), "not a valid field name"},
		"CR LF in a removed name":      {text(abi.OpRemoveHeader, "x\r\n"), "not a valid field name"},
		"CR LF in an answer's field":   {abi.AppendRespond(nil, 200, "", "x", "a\r\nb"), "not a valid field value"},
		"framing in an answer's field": {abi.AppendRespond(nil, 200, "", "Content_Length", "7"), "the gateway's own"},
		"an undeclared upstream":       {abi.AppendOp32(nil, abi.OpUpstream, 2), "does not declare"},
		"an address, not granted":      {text(abi.OpAddress, "10.0.0.7:80"), "does not allow the plugin to choose an address"},
		"no timeout":                   {abi.AppendOp32(nil, abi.OpTimeout, 0), "a timeout that is not"},
		"a timeout of days":            {abi.AppendOp32(nil, abi.OpTimeout, abi.MaxTimeout+1), "a timeout that is not"},
		"CONNECT":                      {text(abi.OpMethod, "CONNECT"), "not a valid method"},
		"POST to HEAD":                 {text(abi.OpMethod, "HEAD"), "not a valid method"},
		"two methods":                  {text(abi.OpMethod, "GET / HTTP/1.1\r\n"), "not a valid method"},
		"an authority with a path":     {text(abi.OpAuthority, "a/b"), "not a valid authority"},
		"an authority with a user":     {text(abi.OpAuthority, "u@a"), "not a valid authority"},
		"an empty authority":           {text(abi.OpAuthority, ""), "not a valid authority"},
		"a path with a query":          {text(abi.OpPath, "/a?b"), "not a valid path"},
		"a path with a line end":       {text(abi.OpPath, "/a\r\nb"), "not a valid path"},
		"a path with a space":          {text(abi.OpPath, "/a HTTP/1.1"), "not a valid path"},
		"a path without /":             {text(abi.OpPath, "a"), "not a valid path"},
		"an empty path":                {text(abi.OpPath, ""), "not a valid path"},
		"a path that leads up":         {text(abi.OpPath, "/a/../b"), "not a valid path"},
		"a path that leads up, hidden": {text(abi.OpPath, "/a/%2e%2E/b"), "not a valid path"},
		"NUL in a path":                {text(abi.OpPath, "/%00"), "not a valid path"},
		"a query with a space":         {text(abi.OpQuery, "a b"), "not a valid query"},
		"a query with a fragment":      {text(abi.OpQuery, "a#b"), "not a valid query"},
		"a status of 101":              {abi.AppendRespond(nil, 101, ""), "a status that an answer cannot have"},
		"a body with 204":              {abi.AppendRespond(nil, 204, "x"), "a body with a status that has none"},
		"two answers":                  {abi.AppendRespond(abi.AppendRespond(nil, 200, ""), 200, ""), "a second answer"},
		"a key with a space":           {abi.AppendOpPair(nil, abi.OpAttribute, "a b", "1"), "not a valid attribute"},
		"a long attribute":             {abi.AppendOpPair(nil, abi.OpAttribute, "a", strings.Repeat("x", abi.MaxAttribute+1)), "not a valid attribute"},
		"33 attributes":                {slices.Repeat(abi.AppendOpPair(nil, abi.OpAttribute, "a", "1"), abi.MaxAttributes+1), "not a valid attribute"},
		"a level":                      {abi.AppendLog(nil, 4, "x"), "an unknown log level"},
		"257 fields":                   {slices.Repeat(pair("a", ""), abi.MaxHeaderEdits+1), "more than 256 header fields"},
		"a name of 257 bytes":          {pair(strings.Repeat("a", abi.MaxHeaderName+1), ""), "not a valid field name"},
	}
	for _, name := range []string{
		"Content-Length", "transfer-encoding", "CONNECTION", "Host", "keep-alive", "proxy-connection", "te", "Trailer", "upgrade",
		"http2-settings", "expect", "proxy-authenticate", "proxy-authentication-info", "proxy-authorization",
	} {
		for _, spelled := range []string{name, strings.ReplaceAll(name, "-", "_")} {
			for word, list := range map[string][]byte{"set ": pair(spelled, "1"), "append ": abi.AppendOpPair(nil, abi.OpAppendHeader, spelled, "1"), "remove ": text(abi.OpRemoveHeader, spelled)} {
				c := cases[word+spelled]
				c.list, c.detail = list, "the gateway's own"
				cases[word+spelled] = c
			}
		}
	}
	for name, c := range cases {
		list := slices.Concat(fine, c.list)
		if c.detail == "record 1" {
			list, c.detail = c.list, "an operation list of"
		}
		h := hostile{name, guestModule{manifest: upstreams, list: list, requestCode: onPost(lists(list))}, fault.PluginAnswer, c.detail}
		t.Run(name, h.check)
	}
}

func TestLongLists(t *testing.T) {
	value := func(n int) []byte {
		return abi.AppendOpPair(nil, abi.OpAppendHeader, "x", strings.Repeat("v", n))
	}
	for name, c := range map[string]struct {
		list []byte
		want string
	}{
		"as long as a value can be":   {value(abi.MaxHeaderValue), ""},
		"a value that is too long":    {value(abi.MaxHeaderValue + 1), "longer than allowed"},
		"64 KiB of fields":            {slices.Repeat(value(abi.MaxHeaderValue-1), 4), ""},
		"a byte more":                 {slices.Repeat(value(abi.MaxHeaderValue), 4), "more than 65536 bytes"},
		"1024 operations":             {slices.Repeat(abi.AppendOp32(nil, abi.OpTimeout, 9), abi.MaxOperations), ""},
		"1025 operations":             {slices.Repeat(abi.AppendOp32(nil, abi.OpTimeout, 9), abi.MaxOperations+1), "more than 1024 operations"},
		"as long as a path can be":    {abi.AppendOpText(nil, abi.OpPath, "/"+strings.Repeat("a", abi.MaxTarget-1)), ""},
		"a path that is too long":     {abi.AppendOpText(nil, abi.OpPath, "/"+strings.Repeat("a", abi.MaxTarget)), "longer than allowed"},
		"a query that is too long":    {abi.AppendOpText(nil, abi.OpQuery, strings.Repeat("a", abi.MaxTarget+1)), "longer than allowed"},
		"an authority that is too so": {abi.AppendOpText(nil, abi.OpAuthority, strings.Repeat("a", abi.MaxAuthority+1)), "not a valid authority"},
	} {
		b := newBench(t)
		g := guestModule{pages: 32, list: c.list, arenas: [2]uint64{abi.Pack(0x2000, 0x1000), abi.Pack(0x40000, 0x80000)}}
		p := b.mustLoad(g.build(), Options{}, wasm.Limits{})
		switch r := b.request(p, simpleHead, filter.Route); {
		case c.want == "" && r.err != nil:
			t.Errorf("%s: %v", name, r.err)
		case c.want != "" && (r.err == nil || !strings.Contains(r.err.Error(), c.want)):
			t.Errorf("%s: %v, want %s", name, r.err, c.want)
		}
	}
}

// flood is a guest that writes lines as long as it has fuel, whatever it is asked.
func flood() guestModule {
	return guestModule{requestCode: code(opLoop, void, i32(1), i32(0), i32(16), opCall, callLog, opBr, 0, opEnd, i64(0))}
}

func TestAFloodOfLinesIsCounted(t *testing.T) {
	b := newBench(t)
	p := b.mustLoad(flood().build(), Options{LogRate: 5, Breaker: &wasm.Breaker{}, Backoff: &wasm.Backoff{}}, wasm.Limits{})
	began := time.Now()
	for try := 1; ; try++ { // a line that has its turn at the very end of the flood tells of what was held back before it
		for range 20 {
			b.request(p, simpleHead, filter.Route)
		}
		guests := 0
		for _, l := range b.logged() {
			if l.Guest {
				guests++
			}
		}
		most := 5 + 5*(time.Since(began).Seconds()+1)
		if guests == 0 || float64(guests) > most {
			t.Errorf("%d lines in %v, at 5 a second", guests, time.Since(began))
		}
		b.on(func(task *netloop.Task) {
			task.Sleep(250 * time.Millisecond)
			p.core.guestLine(task.Loop(), abi.LogInfo, abi.PhaseRequest, []byte("next"), 0)
		})
		l := b.logged()
		if l[len(l)-1].Text == "next" && l[len(l)-1].Suppressed >= 1000 {
			return
		}
		if try == 3 {
			t.Fatalf("the next line: %+v", l[len(l)-1])
		}
	}
}

func TestOutputOfNewInstancesIsHeldToThePluginsRate(t *testing.T) {
	b := newBench(t)
	p := b.mustLoad(guestModule{}.build(), Options{LogRate: 2, LogLevel: abi.LogWarn}, wasm.Limits{})
	began := time.Now()
	b.on(func(task *netloop.Task) {
		for range 1000 {
			g := &guest{core: p.core, task: task}
			p.core.outputLine(&wasm.Instance{Owner: g}, 1, []byte("below the level"), 0)
			p.core.outputLine(&wasm.Instance{Owner: g}, 2, []byte("line"), 1)
		}
		task.Sleep(600 * time.Millisecond)
		p.core.outputLine(&wasm.Instance{Owner: &guest{core: p.core, task: task}}, 2, []byte("next"), 1)
	})
	lines := b.logged()
	if most := 2 + 2*(time.Since(began).Seconds()+1); float64(len(lines)) > most || lines[0].Phase != "request" || lines[0].Level != abi.LogWarn {
		t.Fatalf("%d lines in %v, at 2 a second: %+v", len(lines), time.Since(began), lines[0])
	}
	told := int64(len(lines))
	for _, l := range lines {
		told += l.Suppressed
	}
	if told != 2002 { // the lines, and those that instances had held back
		t.Errorf("%d lines were told of, of 2002", told)
	}
}
