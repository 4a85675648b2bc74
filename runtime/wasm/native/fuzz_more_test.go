package native

import (
	"bytes"
	"fmt"
	"math"
	"testing"

	"wasmgate/runtime/http1"
	"wasmgate/runtime/netloop"
	"wasmgate/runtime/wasm"
	"wasmgate/sdk/abi"
	"wasmgate/sdk/abi/abitest"
)

// seed adds the specification's lists.
func seed(f *testing.F, add func(list []byte)) {
	f.Helper()
	examples, err := abitest.Examples("../../../sdk/abi.md")
	if err != nil {
		f.Fatal(err)
	}
	for _, e := range examples {
		if e.Kind == "operations" {
			add(e.Hex)
		}
	}
}

// FuzzPiece lets a guest answer to a piece with any list. What is refused leaves everything as it was; what is accepted
// keeps no more than was there.
func FuzzPiece(f *testing.F) {
	seed(f, func(list []byte) { f.Add(list, []byte("kept"), []byte("data"), false) })
	f.Add(abi.AppendOp32(nil, abi.OpKeep, 8), []byte("kept"), []byte("data"), false)
	f.Add(abi.AppendOp32(abi.AppendOpText(nil, abi.OpSetBody, "new"), abi.OpKeep, 5), []byte("kept"), []byte("data"), false)
	b := newBench(f)
	m := abi.AppendManifest(nil, &abi.Manifest{Phases: abi.WantsRequest, RequestBody: abi.Body{Mode: abi.BodyStreamed}, Metrics: []abi.Metric{{Name: "a"}, {Name: "b", Type: abi.MetricGauge}}})
	g := guestModule{manifest: m, bodyCode: i64(0), pages: 32, arenas: [2]uint64{abi.Pack(0x2000, 0x1000), abi.Pack(0x100000, 0x80000)}}
	o := bodies
	o.LogLevel = abi.LogError + 1
	p := b.mustLoad(g.build(), o, wasm.Limits{})
	f.Fuzz(func(t *testing.T, list, kept, data []byte, last bool) {
		if len(list) > 0x100000 || len(kept) > abi.MaxKeep {
			return
		}
		b.on(func(task *netloop.Task) {
			in, err := p.core.keeper.Pool().Get(task, 0, task.Loop().Now())
			if err != nil {
				t.Error(err)
				return
			}
			defer p.core.keeper.Pool().Put(0, task.Loop().Now(), in)
			g := in.Owner.(*guest)
			g.enter(p, task, newExchange(t, task, simpleHead), phaseRequestBody, nil)
			defer g.leave()
			copy(g.bytes(abi.AnswerArena), list)
			s := &stage{plugin: p, x: g.x, kept: bytes.Clone(kept), word: 7}
			dst, err := s.operations(g, task.Loop(), []byte("before"), data, last, uint32(len(list)))
			switch {
			case err != nil && (string(dst) != "before" || !bytes.Equal(s.kept, kept) || s.word != 7):
				t.Errorf("refused, and yet %q, kept %q, word %d", dst, s.kept, s.word)
			case err == nil && (last && len(s.kept) > 0 || len(s.kept) > abi.MaxKeep || !bytes.HasSuffix(append(bytes.Clone(kept), data...), s.kept) || !bytes.HasPrefix(dst, []byte("before"))):
				t.Errorf("kept %q of %q and %q", s.kept, kept, data)
			}
			for _, m := range p.Metrics() {
				if math.IsNaN(m.Value) || math.IsInf(m.Value, 0) && m.Type == abi.MetricGauge {
					t.Errorf("metric %s is %v", m.Name, m.Value)
				}
			}
		})
	})
}

// FuzzOutbound makes requests to upstreams of any list. Those that are accepted can be written, and are read as what they are.
func FuzzOutbound(f *testing.F) {
	seed(f, func(list []byte) { f.Add(list) })
	for _, k := range []abi.Kind{abi.OpMethod, abi.OpAuthority, abi.OpPath, abi.OpQuery} {
		f.Add(abi.AppendOpText(nil, k, "/a b\r\nx: 1"))
	}
	f.Add(abi.AppendOpPair(nil, abi.OpSetHeader, "Transfer_Encoding", "chunked"))
	f.Fuzz(func(t *testing.T, list []byte) {
		var o outbound
		if o.read(list) != nil {
			return
		}
		c := &o.call
		head := fmt.Appendf(nil, "%s %s HTTP/1.1\r\nHost: %s\r\n", c.Method, c.Path, append([]byte("x"), c.Authority...)[min(len(c.Authority), 1):])
		for i := range c.Fields.Len() {
			head = fmt.Appendf(head, "%s: %s\r\n", c.Fields.Name(i), c.Fields.Value(i))
		}
		head = append(head, "\r\n"...)
		limits := http1.DefaultLimits
		limits.Head, limits.Fields, limits.Target = 1<<20, 1000, 1<<20
		var r http1.Request
		if n, err := r.Parse(head, &limits); err != nil || n != len(head) || r.Len() != c.Fields.Len()+1 || r.Framing.Kind != http1.NoBody {
			t.Errorf("%q: %d of %d, %v", head, n, len(head), err)
		}
	})
}
