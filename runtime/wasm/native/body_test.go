package native

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"wasmgate/runtime/body"
	"wasmgate/runtime/exchange"
	"wasmgate/runtime/fault"
	"wasmgate/runtime/filter"
	"wasmgate/runtime/http1"
	"wasmgate/runtime/netloop"
	"wasmgate/runtime/wasm"
	"wasmgate/sdk/abi"
)

// pieces is where a body comes from.
type pieces struct {
	list     []string
	trailers http1.Head
	err      error // at the end
}

func (p *pieces) Next(*netloop.Task) ([]byte, error) {
	if len(p.list) == 0 {
		if p.err != nil {
			return nil, p.err
		}
		return nil, io.EOF
	}
	s := p.list[0]
	p.list = p.list[1:]
	return []byte(s), nil
}

func (p *pieces) Ready() ([]byte, error) { return nil, nil }
func (p *pieces) Done() bool             { return len(p.list) == 0 && p.err == nil }
func (p *pieces) Trailers() *http1.Head  { return &p.trailers }

// sent is what became of a message with a body.
type sent struct {
	result
	pieces  []string
	framing http1.FramingKind
	end     *fault.Error
}

// pass sends a request with a body, or an answer to a request, through the plugin; head is the request's.
func (b *bench) pass(p *Plugin, phase uint32, place int, parts ...string) (s sent) {
	b.t.Helper()
	b.on(func(task *netloop.Task) {
		s.x = newExchange(b.t, task, simpleHead)
		s.x.Trace.Sampled = true
		*s.x.Word(place) = 40
		from := &pieces{list: parts}
		from.trailers.Add("x-trailer", "end")
		if len(parts) > 0 && parts[len(parts)-1] == "broken" {
			from.list, from.err = parts[:len(parts)-1], fault.New(fault.ClientClosed, fault.Client, 400, "gone")
		}
		framing := http1.Framing{Kind: http1.Chunked}
		if parts == nil {
			framing.Kind = http1.NoBody
		}
		var way body.Body
		way.Init(task, from, framing, false)
		var err error
		if phase == abi.PhaseRequest {
			s.x.RequestBody = &way
			s.verdict, err = p.Request(s.x, filter.Route, place)
		} else {
			if _, err := s.x.Response.Parse([]byte("HTTP/1.1 200 OK\r\nServer: y\r\n\r\n"), nil, []byte("GET")); err != nil {
				b.t.Error(err)
			}
			s.x.ResponseBody = &way
			s.verdict, err = p.Response(s.x, place)
		}
		if err != nil {
			s.err = fault.From(err)
			return
		}
		for s.end == nil {
			data, err := way.Next(task)
			if err == io.EOF {
				break
			}
			if err != nil {
				s.end = fault.From(err)
				break
			}
			s.pieces = append(s.pieces, string(data))
		}
		s.framing = way.Framing().Kind
	})
	return s
}

// withBody is a guest that has a part in bodies.
func withBody(request, response abi.Body, g guestModule) guestModule {
	g.pages = max(g.pages, 8)
	g.manifest = abi.AppendManifest(nil, &abi.Manifest{Phases: abi.WantsRequest | abi.WantsResponse, RequestBody: request, ResponseBody: response})
	return g
}

var bodies = Options{RequestBody: 1 << 20, ResponseBody: 1 << 20, Backoff: &wasm.Backoff{}, Breaker: &wasm.Breaker{}}

func TestABodyThatIsHeld(t *testing.T) {
	b := newBench(t)
	buffered := abi.Body{Mode: abi.BodyBuffered, Max: 10}
	read := [][]byte{
		wide(do(callReadBody, i32(0), i32(0), i32(bodyAt+40), i32(100))), wide(do(callReadBody, i32(0), i32(3), i32(bodyAt+60), i32(2))),
		wide(do(callReadBody, i32(0), i32(7), i32(0), i32(0))), wide(do(callReadBody, i32(0), i32(99), i32(0), i32(0))), wide(do(callReadBody, i32(1), i32(0), i32(0), i32(0))),
	}
	p := b.mustLoad(telling(withBody(buffered, abi.Body{}, guestModule{}), 100, read...).build(), bodies, wasm.Limits{})
	for _, c := range []struct {
		parts []string
		want  []uint64
		extra string
	}{
		{[]string{"abc", "defg"}, []uint64{7, 4, 0, none, none}, "abcdefg" + strings.Repeat("\x00", 13) + "de"},
		{nil, []uint64{0, none, none, none, none}, ""},
		{[]string{}, []uint64{0, none, none, none, none}, ""},
	} {
		s := b.pass(p, abi.PhaseRequest, 0, c.parts...)
		if got, extra := told8(s.result, 5); s.err != nil || !slices.Equal(got, c.want) || extra != c.extra {
			t.Errorf("%q: %x %q, %v", c.parts, got, extra, s.err)
		}
	}
	if s := b.pass(p, abi.PhaseRequest, 0, "0123456789", "0"); s.err == nil || s.err.Kind != fault.BodyTooLarge || s.err.Status != 413 || s.err.Source != fault.Client || s.err.Plugin != "p" {
		t.Errorf("a body that is too long: %v", s.err)
	}
	if s := b.pass(p, abi.PhaseRequest, 0, "0", "broken"); s.err == nil || s.err.Kind != fault.ClientClosed {
		t.Errorf("a body that breaks off: %v", s.err)
	}
	if st := p.Stats(); st.Calls != 3 || st.Failures != [fault.Kinds]uint64{} {
		t.Errorf("%+v", st)
	}
	p = b.mustLoad(withBody(abi.Body{}, buffered, guestModule{}).build(), bodies, wasm.Limits{})
	if s := b.pass(p, abi.PhaseResponse, 0, "01234567890"); s.err == nil || s.err.Status != 502 || s.err.Source != fault.Upstream {
		t.Errorf("an answer that is too long: %v", s.err)
	}
	if s := b.pass(p, abi.PhaseResponse, 0, "01", "234"); s.err != nil || strings.Join(s.pieces, "|") != "01234" || s.framing != http1.Chunked {
		t.Errorf("an answer: %q, %v", s.pieces, s.err)
	}
}

// flagged makes a guest that says which flags its view has, as the context word.
func flagged(list []byte) []byte {
	at := uint32(answerAt + 8)
	ctx := abi.AppendOp64(nil, abi.OpContext, 0)
	return code(copyMemory(answerAt+uint32(len(ctx)), listAt, uint32(len(list))), copyMemory(answerAt, dataAt, uint32(len(ctx))),
		i32(at), wide(code(i32(0x1000), opI32Load, 2, 12)), opI64Store, 3, 0, i64(abi.Pack(uint32(abi.CodeOperations), uint32(len(ctx)+len(list)))))
}

func TestAPartOfABody(t *testing.T) {
	b := newBench(t)
	partial := abi.Body{Mode: abi.BodyBuffered, Max: 4, Bits: abi.BodyPartial}
	g := withBody(partial, abi.Body{}, guestModule{requestCode: flagged(nil), data: map[uint32][]byte{dataAt: abi.AppendOp64(nil, abi.OpContext, 0)}})
	p := b.mustLoad(g.build(), bodies, wasm.Limits{})
	for text, want := range map[string]uint64{"1234": 9 | 2, "12345": 9 | 2 | 16} {
		s := b.pass(p, abi.PhaseRequest, 0, text)
		if s.err != nil || *s.x.Word(0) != want || strings.Join(s.pieces, "") != text {
			t.Errorf("%s: flags %d, %q, %v", text, *s.x.Word(0), s.pieces, s.err)
		}
	}
	g = telling(g, 10, wide(do(callReadBody, i32(0), i32(1), i32(bodyAt+8), i32(10))))
	p = b.mustLoad(g.build(), bodies, wasm.Limits{})
	if got, extra := told8(b.pass(p, abi.PhaseRequest, 0, "123456").result, 1); got[0] != 3 || extra != "234" {
		t.Errorf("the guest sees %d: %q", got[0], extra)
	}
}

func TestSettingABody(t *testing.T) {
	b := newBench(t)
	set := abi.AppendOpText(abi.AppendOpPair(nil, abi.OpSetHeader, "x-a", "1"), abi.OpSetBody, "another")
	buffered := abi.Body{Mode: abi.BodyBuffered, Max: 10}
	p := b.mustLoad(withBody(buffered, buffered, guestModule{list: set, responseList: set}).build(), bodies, wasm.Limits{})
	for phase := range uint32(2) {
		if s := b.pass(p, phase, 0, "what", "ever"); s.err != nil || strings.Join(s.pieces, "|") != "another" {
			t.Errorf("phase %d: %q, %v", phase, s.pieces, s.err)
		}
	}
	if s := b.pass(p, abi.PhaseRequest, 0); s.err != nil || strings.Join(s.pieces, "|") != "another" || s.framing != http1.Length {
		t.Errorf("where there was none: %q, %v", s.pieces, s.err)
	}
	for name, g := range map[string]guestModule{
		"without bodies": withBody(abi.Body{}, abi.Body{}, guestModule{list: set}),
		"streamed":       withBody(abi.Body{Mode: abi.BodyStreamed}, abi.Body{}, guestModule{list: set, bodyCode: i64(0)}),
		"not there yet":  withBody(abi.Body{Mode: abi.BodyBuffered, Max: 10, Bits: abi.BodyOnDemand}, abi.Body{}, guestModule{list: set}),
		"in part":        withBody(abi.Body{Mode: abi.BodyBuffered, Max: 1, Bits: abi.BodyPartial}, abi.Body{}, guestModule{list: set}),
		"twice":          withBody(buffered, abi.Body{}, guestModule{list: slices.Concat(set, set)}),
		"wanted":         withBody(buffered, abi.Body{}, guestModule{list: abi.AppendOp(nil, abi.OpWantBody)}),
		"wanted, none":   withBody(abi.Body{}, abi.Body{}, guestModule{list: abi.AppendOp(nil, abi.OpWantBody)}),
		"kept":           withBody(buffered, abi.Body{}, guestModule{list: abi.AppendOp32(nil, abi.OpKeep, 0)}),
	} {
		p := b.mustLoad(g.build(), bodies, wasm.Limits{})
		if s := b.pass(p, abi.PhaseRequest, 0, "what", "ever"); s.err == nil || s.err.Kind != fault.PluginAnswer || fields(s.x) != fields(newExchangeOf(t, b)) {
			t.Errorf("%s: %v", name, s.err)
		}
	}
}

func newExchangeOf(t *testing.T, b *bench) (x *exchange.Exchange) {
	b.on(func(task *netloop.Task) { x = newExchange(t, task, simpleHead) })
	return x
}

// TestABodyOnDemand has a guest ask for the body in its first call; in the second it sees it.
func TestABodyOnDemand(t *testing.T) {
	b := newBench(t)
	want := abi.AppendOp(nil, abi.OpWantBody)
	again := code(i32(0x1000), opI32Load, 2, 12, i32(8), opI32And) // the view's flag
	second := telling(guestModule{}, 10, wide(do(callReadBody, i32(0), i32(0), i32(bodyAt+8), i32(10))))
	for _, role := range []string{"wants it", "does not"} {
		g := withBody(abi.Body{Mode: abi.BodyBuffered, Max: 10, Bits: abi.BodyOnDemand}, abi.Body{}, guestModule{list: second.list, data: map[uint32][]byte{dataAt: want}})
		first := code(copyMemory(answerAt, dataAt, uint32(len(want))), says(abi.CodeOperations, uint32(len(want))))
		if role != "wants it" {
			first = says(abi.CodeContinue, 0)
		}
		g.requestCode = code(again, opIf, void, second.requestCode, opReturn, opEnd, first, i64(0))
		p := b.mustLoad(g.build(), bodies, wasm.Limits{})
		s := b.pass(p, abi.PhaseRequest, 0, "abc", "d")
		switch calls := p.Stats().Calls; {
		case s.err != nil:
			t.Error(s.err)
		case role == "wants it":
			if got, extra := told8(s.result, 1); calls != 2 || got[0] != 4 || extra != "abcd" || s.verdict != filter.Respond {
				t.Errorf("%d calls, %d bytes: %q", calls, got[0], extra)
			}
		case calls != 1 || strings.Join(s.pieces, "|") != "abc|d":
			t.Errorf("%d calls, sent %q", calls, s.pieces)
		}
	}
	for name, list := range map[string][]byte{
		"with REMATCH": slices.Concat(want, abi.AppendOp(nil, abi.OpRematch)), "twice, the second time with it": want,
	} {
		p := b.mustLoad(withBody(abi.Body{Mode: abi.BodyBuffered, Max: 10, Bits: abi.BodyOnDemand}, abi.Body{}, guestModule{list: list}).build(), bodies, wasm.Limits{})
		if s := b.pass(p, abi.PhaseRequest, 0, "abc"); s.err == nil || s.err.Kind != fault.PluginAnswer || !strings.Contains(s.err.Error(), "on demand") {
			t.Errorf("%s: %v", name, s.err)
		}
	}
	list := slices.Concat(want, abi.AppendRespond(nil, 200, "x"))
	p := b.mustLoad(withBody(abi.Body{Mode: abi.BodyBuffered, Max: 10, Bits: abi.BodyOnDemand}, abi.Body{}, guestModule{list: list}).build(), bodies, wasm.Limits{})
	if s := b.pass(p, abi.PhaseRequest, 0, "abc"); s.err != nil || s.verdict != filter.Respond || p.Stats().Calls != 1 {
		t.Errorf("with an answer: %v, %v", s.verdict, s.err)
	}
}

// pieceLoad reads a number of a piece's view.
func pieceLoad(at byte) []byte { return code(i32(0x1000), opI64Load, 3, int(at)) }

func TestStreamedBodies(t *testing.T) {
	b := newBench(t)
	streamed := abi.Body{Mode: abi.BodyStreamed}
	list := func(parts ...[]byte) []byte { return slices.Concat(parts...) }
	ops := func(l []byte) []byte {
		return code(copyMemory(answerAt, listAt, uint32(len(l))), says(abi.CodeOperations, uint32(len(l))), i64(0))
	}
	last := code(i32(0x1000), opI32Load, 2, 8, i32(1), opI32And)
	for _, c := range []struct {
		name   string
		guest  guestModule
		parts  []string
		want   string
		pieces uint64
	}{
		{"pass", guestModule{bodyCode: i64(0)}, []string{"abc", "d"}, "abc|d", 2},
		{"no body", guestModule{bodyCode: i64(0)}, nil, "", 0},
		{"an empty body", guestModule{bodyCode: code(copyMemory(answerAt, dataAt, 3), i64(abi.Pack(6, 3))), data: map[uint32][]byte{dataAt: []byte("xyz")}}, []string{}, "xyz", 1},
		{"replace", guestModule{bodyCode: code(copyMemory(answerAt, dataAt, 3), i64(abi.Pack(6, 3))), data: map[uint32][]byte{dataAt: []byte("xyz")}}, []string{"abc", "d"}, "xyz|xyz", 2},
		{"replace by nothing", guestModule{bodyCode: i64(abi.Pack(6, 0))}, []string{"abc", "d"}, "", 2},
		{"operations that are none", guestModule{bodyCode: i64(abi.Pack(4, 0))}, []string{"abc", "d"}, "abc|d", 2},
		{"set a piece", guestModule{list: abi.AppendOpText(nil, abi.OpSetBody, "S"), bodyCode: ops(abi.AppendOpText(nil, abi.OpSetBody, "S"))}, []string{"abc", "d"}, "S|S", 2},
		{"keep", guestModule{
			list:     abi.AppendOp32(nil, abi.OpKeep, 2),
			bodyCode: code(last, opIf, void, says(abi.CodeContinue, 0), opEnd, ops(abi.AppendOp32(nil, abi.OpKeep, 2))),
		}, []string{"abc", "d", "efg", "h"}, "a|b|cde|fgh", 4},
		{"keep and set", guestModule{
			list:     list(abi.AppendOp32(nil, abi.OpKeep, 1), abi.AppendOpText(nil, abi.OpSetBody, "-")),
			bodyCode: code(last, opIf, void, says(abi.CodeContinue, 0), opEnd, ops(list(abi.AppendOp32(nil, abi.OpKeep, 1), abi.AppendOpText(nil, abi.OpSetBody, "-")))),
		}, []string{"abc", "d", "e"}, "-|-|de", 3},
		{"the word goes from piece to piece", guestModule{
			list: abi.AppendOp64(nil, abi.OpContext, 0),
			// the word and a step more; where it is 42, the piece is dropped
			bodyCode: code(copyMemory(answerAt, listAt, 16), i32(answerAt+8), pieceLoad(24), i64(1), opI64Add, opI64Store, 3, 0,
				pieceLoad(24), i64(42), 0x51, opIf, void, says(abi.CodeReplace, 0), opEnd, says(abi.CodeOperations, 16), i64(0)),
		}, []string{"a", "b", "c", "d"}, "a|b", 4},
	} {
		for phase := range uint32(2) {
			t.Run(fmt.Sprintf("%s %d", c.name, phase), func(t *testing.T) {
				g := withBody(streamed, streamed, c.guest)
				g.request, g.requestCode = 0, i64(0)
				p := b.mustLoad(g.build(), bodies, wasm.Limits{})
				s := b.pass(p, phase, 2, c.parts...) // the context word is 40
				if got := strings.Join(s.pieces, "|"); s.err != nil || s.end != nil || got != c.want || p.Stats().Pieces != c.pieces {
					t.Errorf("sent %q in %d pieces, %v, %v", got, p.Stats().Pieces, s.err, s.end)
				}
				if c.parts != nil && s.framing != http1.Chunked {
					t.Errorf("framing %v", s.framing)
				}
				calls := s.x.Calls
				if c.pieces > 0 && (len(calls) != 2 || calls[1].Phase != []string{"request_body", "response_body"}[phase] || calls[1].Outcome != "pieces") {
					t.Errorf("recorded: %+v", calls)
				}
			})
		}
	}
}

// TestLargePieces has pieces that are longer than the arena, which grows for what was kept only.
func TestLargePieces(t *testing.T) {
	b := newBench(t)
	const half = 6000
	last := code(i32(0x1000), opI32Load, 2, 8, i32(1), opI32And)
	keep := abi.AppendOp32(nil, abi.OpKeep, half)
	many := code(i32(0x1000), opI32Load, 2, 44, i32(half), 0x4e) // i32.ge_s
	g := withBody(abi.Body{}, abi.Body{Mode: abi.BodyStreamed}, guestModule{
		list: keep, pages: 16,
		bodyCode: code(last, 0x45, many, opI32And, opIf, void, copyMemory(answerAt, listAt, uint32(len(keep))), says(abi.CodeOperations, uint32(len(keep))), opEnd, i64(0)),
	})
	var text strings.Builder
	for i := range 40_000 {
		fmt.Fprintf(&text, "%d,", i)
	}
	whole := text.String()
	p := b.mustLoad(g.build(), bodies, wasm.Limits{})
	s := b.pass(p, abi.PhaseResponse, 0, whole[:100_000], whole[100_000:100_001], whole[100_001:])
	if got := strings.Join(s.pieces, ""); s.err != nil || s.end != nil || got != whole {
		t.Errorf("%v, %v: %d bytes of %d", s.err, s.end, len(got), len(whole))
	}
	if n := p.Stats().Pieces; n < uint64(len(whole)/0x2000) {
		t.Errorf("%d pieces", n)
	}
	g.arenas = [2]uint64{abi.Pack(500, 0x1000), abi.Pack(0x2000, answerAt)}
	g.resizeCode = i64(abi.Pack(0x10000, 0x40000))
	g.bodyCode = code(i64(0))
	p = b.mustLoad(g.build(), bodies, wasm.Limits{})
	if s := b.pass(p, abi.PhaseResponse, 0, whole); s.err != nil || s.end != nil || strings.Join(s.pieces, "") != whole {
		t.Errorf("an arena that grows: %v, %v", s.err, s.end)
	}
	g.resizeCode = nil
	p = b.mustLoad(g.build(), bodies, wasm.Limits{})
	if s := b.pass(p, abi.PhaseResponse, 0, whole); s.end == nil || !strings.Contains(s.end.Error(), "a piece of a body of") {
		t.Errorf("an arena that cannot: %v", s.end)
	}
}

// TestStreamedOnDemand streams only where the phase's list asks for it.
func TestStreamedOnDemand(t *testing.T) {
	b := newBench(t)
	streamed := abi.Body{Mode: abi.BodyStreamed, Bits: abi.BodyOnDemand}
	g := guestModule{bodyCode: i64(abi.Pack(6, 0))}
	p := b.mustLoad(withBody(streamed, streamed, g).build(), bodies, wasm.Limits{})
	for phase := range uint32(2) {
		if s := b.pass(p, phase, 0, "abc"); s.err != nil || strings.Join(s.pieces, "") != "abc" || p.Stats().Pieces != 0 {
			t.Errorf("phase %d: %q, %v", phase, s.pieces, s.err)
		}
	}
	g.list, g.responseList = abi.AppendOp(nil, abi.OpWantBody), abi.AppendOp(nil, abi.OpWantBody)
	p = b.mustLoad(withBody(streamed, streamed, g).build(), bodies, wasm.Limits{})
	for phase := range uint32(2) {
		if s := b.pass(p, phase, 0, "abc"); s.err != nil || strings.Join(s.pieces, "") != "" || p.Stats().Pieces != uint64(phase)+1 {
			t.Errorf("phase %d: %q, %v", phase, s.pieces, s.err)
		}
	}
}

func TestPiecesThatFail(t *testing.T) {
	b := newBench(t)
	streamed := abi.Body{Mode: abi.BodyStreamed}
	ops := func(parts ...[]byte) guestModule {
		l := slices.Concat(parts...)
		return guestModule{list: l, bodyCode: code(copyMemory(answerAt, listAt, uint32(len(l))), says(abi.CodeOperations, uint32(len(l))), i64(0))}
	}
	for name, c := range map[string]struct {
		guest guestModule
		kind  fault.Kind
		says  string
	}{
		"a trap":                 {guestModule{bodyCode: code(opUnreachable)}, fault.PluginTrap, "unreachable"},
		"a loop":                 {guestModule{bodyCode: code(opLoop, void, opBr, 0, opEnd, i64(0))}, fault.PluginFuel, "out of fuel"},
		"an error":               {guestModule{data: map[uint32][]byte{dataAt: []byte("no!")}, bodyCode: code(copyMemory(answerAt, dataAt, 3), i64(answerOf(abi.CodeError, 3)))}, fault.PluginAnswer, "the plugin reports: no!"},
		"ROUTE":                  {guestModule{bodyCode: i64(answerOf(abi.CodeRoute, 0))}, fault.PluginAnswer, "code 2 with value 0 is not an answer to a piece"},
		"CONTINUE with a value":  {guestModule{bodyCode: i64(1)}, fault.PluginAnswer, "code 0 with value 1"},
		"DENY that lets pass":    {guestModule{bodyCode: i64(answerOf(abi.CodeDeny, 200))}, fault.PluginAnswer, "DENY with status 200"},
		"too much":               {guestModule{bodyCode: i64(answerOf(abi.CodeReplace, 1<<30))}, fault.PluginAnswer, "an answer of 1073741824 bytes"},
		"beyond the arena":       {guestModule{bodyCode: i64(answerOf(abi.CodeReplace, 0x2001))}, fault.PluginAnswer, "does not export wasmgate_v1_resize"},
		"an operation":           {ops(abi.AppendOpPair(nil, abi.OpSetHeader, "a", "1")), fault.PluginAnswer, "not an operation of the request_body phase"},
		"RESPOND":                {ops(abi.AppendRespond(nil, 200, "")), fault.PluginAnswer, "not an operation of the request_body phase"},
		"keeping more than all":  {ops(abi.AppendOp32(nil, abi.OpKeep, 5)), fault.PluginAnswer, "more than the piece has"},
		"two bodies":             {ops(abi.AppendOpText(nil, abi.OpSetBody, ""), abi.AppendOpText(nil, abi.OpSetBody, "")), fault.PluginAnswer, "a second body"},
		"a metric":               {ops(abi.AppendMetric(nil, 0, 1)), fault.PluginAnswer, "a metric that the manifest does not declare"},
		"keeping the last piece": {guestModule{list: abi.AppendOp32(nil, abi.OpKeep, 1), bodyCode: code(copyMemory(answerAt, listAt, 12), says(abi.CodeOperations, 12), i64(0))}, fault.PluginAnswer, "of the last piece nothing"},
	} {
		parts, rest := []string{"abcd", "ef"}, "abcd|ef"
		if name == "keeping the last piece" {
			rest = "abc|def"
		}
		g := withBody(streamed, abi.Body{}, c.guest)
		g.requestCode = i64(0)
		p := b.mustLoad(g.build(), bodies, wasm.Limits{})
		s := b.pass(p, abi.PhaseRequest, 0, parts...)
		if s.err != nil || s.end == nil || s.end.Kind != c.kind || s.end.Phase != "request_body" || s.end.Plugin != "p" || !strings.Contains(s.end.Error(), c.says) {
			t.Errorf("%s: %v, %v, want %v: %s", name, s.err, s.end, c.kind, c.says)
		}
		if st := p.Stats(); st.Failures[c.kind] != 1 || st.Discarded != 1 && name != "an error" {
			t.Errorf("%s: %+v", name, st)
		}
		if calls := s.x.Calls; len(calls) != 2 || calls[1].Err == nil {
			t.Errorf("%s: recorded %+v", name, calls)
		}
		open := bodies
		open.OnError = FailOpen
		p = b.mustLoad(g.build(), open, wasm.Limits{})
		if s := b.pass(p, abi.PhaseRequest, 0, parts...); s.err != nil || s.end != nil || strings.Join(s.pieces, "|") != rest || p.Stats().Failures[c.kind] != 1 {
			t.Errorf("%s, fail_open: %q, %v, %v", name, s.pieces, s.err, s.end)
		}
	}
}

func TestAPieceThatIsDenied(t *testing.T) {
	b := newBench(t)
	g := withBody(abi.Body{Mode: abi.BodyStreamed}, abi.Body{Mode: abi.BodyStreamed}, guestModule{bodyCode: i64(answerOf(abi.CodeDeny, 422))})
	p := b.mustLoad(g.build(), bodies, wasm.Limits{})
	s := b.pass(p, abi.PhaseRequest, 0, "a", "b")
	if s.end == nil || s.end.Kind != fault.Denied || s.end.Status != 422 || s.end.Source != fault.Plugin || p.Stats().Failures != [fault.Kinds]uint64{} || p.Stats().Discarded != 0 {
		t.Errorf("%v, %+v", s.end, p.Stats())
	}
	if s := b.pass(p, abi.PhaseResponse, 0, "a"); s.end == nil || s.end.Kind != fault.PluginAnswer {
		t.Errorf("an answer that is denied: %v", s.end)
	}
}

// TestTrailers has guests read them, where they are there.
func TestTrailers(t *testing.T) {
	b := newBench(t)
	trailer := func(message uint32) []byte {
		return wide(do(callGetHeader, i32(message), i32(dataAt), i32(9), i32(0), i32(bodyAt+64), i32(20)))
	}
	data := map[uint32][]byte{dataAt: []byte("x-trailer")}
	g := telling(withBody(abi.Body{Mode: abi.BodyBuffered, Max: 10}, abi.Body{}, guestModule{data: data}), 20, trailer(2), trailer(3))
	p := b.mustLoad(g.build(), bodies, wasm.Limits{})
	if got, _ := told8(b.pass(p, abi.PhaseRequest, 0, "a").result, 2); got[0] != 3 || got[1] != none {
		t.Errorf("%x", got)
	}
	// The length of the trailer's value goes on instead of a piece.
	value := code(do(callGetHeader, i32(3), i32(dataAt), i32(9), i32(0), i32(answerAt), i32(20)), opDrop, says(abi.CodeReplace, 3), i64(0))
	g = withBody(abi.Body{}, abi.Body{Mode: abi.BodyStreamed}, guestModule{data: data, bodyCode: code(i32(0x1000), opI32Load, 2, 8, opIf, void, value, opDrop, opEnd, i64(0))})
	p = b.mustLoad(g.build(), bodies, wasm.Limits{})
	if s := b.pass(p, abi.PhaseResponse, 0, "a", "b"); s.end != nil || strings.Join(s.pieces, "|") != "a|end" {
		t.Errorf("%q, %v", s.pieces, s.end)
	}
	if s := b.pass(p, abi.PhaseRequest, 0, "a", "b"); s.end != nil || p.Stats().Pieces != 2 {
		t.Error("a request's pieces, which were not asked for")
	}
}

func TestBodiesThatAreNotGranted(t *testing.T) {
	b := newBench(t)
	buffered := abi.Body{Mode: abi.BodyBuffered, Max: 1 << 20}
	for want, c := range map[string]struct {
		guest guestModule
		o     Options
	}{
		"the bodies of requests, which it is not granted":            {withBody(buffered, abi.Body{}, guestModule{}), Options{ResponseBody: 1 << 20}},
		"the bodies of answers, which it is not granted":             {withBody(abi.Body{}, abi.Body{Mode: abi.BodyStreamed}, guestModule{bodyCode: i64(0)}), Options{RequestBody: 1}},
		"bodies of requests of 1048576 bytes; its limit is 1048575":  {withBody(buffered, abi.Body{}, guestModule{}), Options{RequestBody: 1<<20 - 1}},
		"streamed bodies, but the module does not export wasmgate_v": {withBody(abi.Body{Mode: abi.BodyStreamed}, abi.Body{}, guestModule{}), bodies},
	} {
		if _, err := b.load(c.guest.build(), c.o, wasm.Limits{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
}
