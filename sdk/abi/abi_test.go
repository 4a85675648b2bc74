package abi

import (
	"bytes"
	"math"
	"reflect"
	"strings"
	"testing"
)

func TestViewRoundTrip(t *testing.T) {
	h := Head{Role: RoleMatch, Phase: PhaseResponse, Flags: FlagHasQuery | FlagLocal, Time: -5, Seed: 1 << 63, Context: 42, Status: 204}
	for _, room := range []int{0, 100, ViewFixed, ViewFixed + 24, 160, 1 << 10} {
		buf := make([]byte, room)
		var w ViewWriter
		w.Begin(buf, &h, 3)
		w.Field(FieldMethod, []byte("GET"))
		w.FieldString(FieldRoute, "r")
		w.Field(FieldQuery, nil)
		w.Slot(0, []byte("first"))
		at := w.List(0, 2)
		w.Item(at, 1, nil)
		w.Slot(2, nil)
		if want := w.Need() <= room; w.Fits() != want {
			t.Fatalf("room %d: Fits %v", room, w.Fits())
		}
		if !w.Fits() {
			continue
		}
		v := View(buf[:w.Need()])
		if err := v.Validate(); err != nil {
			t.Fatal(err)
		}
		if v.Head() != h || v.Slots() != 3 || string(v.Field(FieldMethod)) != "GET" || string(v.Field(FieldRoute)) != "r" {
			t.Errorf("%+v", v.Head())
		}
		if v.Field(FieldSNI) != nil || v.Field(FieldQuery) == nil || v.Field(Fields) != nil {
			t.Error("absent and empty are mixed up")
		}
		if v.Count(0) != 2 || string(v.Value(0, 0)) != "first" || v.Value(0, 1) == nil || v.Value(0, 2) != nil {
			t.Error("slot 0")
		}
		if v.Count(1) != 0 || v.Value(1, 0) != nil || v.Count(2) != 1 || v.Value(2, 0) == nil || v.Value(2, 1) != nil {
			t.Error("slots 1, 2")
		}
	}
}

func TestViewValidate(t *testing.T) {
	build := func() []byte {
		buf := make([]byte, 512)
		var w ViewWriter
		w.Begin(buf, &Head{}, 1)
		w.Slot(0, []byte("a"))
		at := w.List(0, 2)
		w.Item(at, 1, []byte("b"))
		return buf[:w.Need()]
	}
	for name, breakIt := range map[string]func([]byte) []byte{
		"short":            func(b []byte) []byte { return b[:ViewFixed] },
		"fixed too long":   func(b []byte) []byte { le.PutUint32(b, 1<<31); return b },
		"fixed too short":  func(b []byte) []byte { le.PutUint32(b, 8); return b },
		"too many slots":   func(b []byte) []byte { le.PutUint32(b[viewSlots:], 1<<30); return b },
		"string":           func(b []byte) []byte { le.PutUint64(b[viewTable:], Pack(1<<20, 3)); return b },
		"absent with text": func(b []byte) []byte { le.PutUint64(b[viewTable:], Pack(1, Absent)); return b },
		"list":             func(b []byte) []byte { le.PutUint64(b[ViewFixed:], Pack(List|1<<20, 0)); return b },
		"list of one":      func(b []byte) []byte { le.PutUint32(b[ViewFixed+4:], List|1); return b },
		"item":             func(b []byte) []byte { le.PutUint32(b[le.Uint32(b[ViewFixed:]):], 1<<20); return b },
	} {
		if View(breakIt(build())).Validate() == nil {
			t.Errorf("%s: valid", name)
		}
	}
}

func TestConfigRoundTrip(t *testing.T) {
	want := Config{Minor: 3, Features: 1, MaxAnswer: 9, Name: []byte("tenant"), Bytes: []byte(`{"a":1}`), RequestBody: 5, ResponseBody: 6}
	b := AppendConfig(nil, &want)
	got, err := ParseConfig(b)
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, %v", got, err)
	}
	old := bytes.Clone(b[:32]) // as minor version 0 has it
	le.PutUint32(old, 32)
	le.PutUint64(old[configName:], 0)
	le.PutUint64(old[configBytes:], 0)
	if got, err := ParseConfig(old); err != nil || got.RequestBody != 0 || got.ResponseBody != 0 || got.MaxAnswer != 9 {
		t.Errorf("without bounds of bodies: %+v, %v", got, err)
	}
	le.PutUint32(b[configBytes:], 1<<31)
	if _, err := ParseConfig(b); err == nil {
		t.Error("out of range is valid")
	}
	if _, err := ParseConfig(b[:20]); err == nil {
		t.Error("short is valid")
	}
}

func TestManifest(t *testing.T) {
	want := &Manifest{Calls: []string{"a", "b"}, Stores: []string{"s"}, RequestBody: Body{Mode: BodyBuffered, Bits: BodyOnDemand | BodyPartial, Max: 7},
		ResponseBody: Body{Mode: BodyStreamed}, Tick: 1000, Metrics: []Metric{{Name: "a_b.c"}, {Type: MetricHistogram, Name: "h", Description: "d", Bounds: []float64{-1, 2.5}}},
		Phases: WantsRequest | WantsResponse, RequestHeaders: []string{"x-tenant", "cookie"},
		ResponseHeaders: []string{"server"}, Upstreams: []string{"users", "Orders/2", "users"}}
	got, err := ParseManifest(AppendManifest(nil, want))
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, %v", got, err)
	}
	if got, err = ParseManifest(nil); err != nil || got.Phases != WantsRequest {
		t.Errorf("the empty manifest: %+v, %v", got, err)
	}
	many := bytes.Repeat(AppendName(nil, ManifestUpstream, "u"), MaxUpstreams+1)
	var slots []byte
	for i := range MaxSlots + 1 {
		slots = AppendName(slots, ManifestRequestHeader, "x-"+strings.Repeat("y", i))
	}
	for name, b := range map[string][]byte{
		"phases twice": AppendPhases(AppendPhases(nil, 1), 1), "no phases": AppendPhases(nil, 0), "unknown phase": AppendPhases(nil, 8),
		"short phases": appendHeader(nil, ManifestPhases, 0), "unknown record": appendHeader(nil, 11, 0),
		"upper case": AppendName(nil, ManifestRequestHeader, "X-Tenant"), "no token": AppendName(nil, ManifestResponseHeader, "a b"),
		"empty name": AppendName(nil, ManifestUpstream, ""), "long name": AppendName(nil, ManifestUpstream, strings.Repeat("u", 257)),
		"declared twice": AppendName(AppendName(nil, ManifestRequestHeader, "a"), ManifestRequestHeader, "a"),
		"tick of 0":      AppendTick(nil, 0), "ticks": AppendTick(AppendTick(nil, 100), 100), "fast ticks": AppendTick(nil, 1), "slow ticks": AppendTick(nil, MaxTick+1),
		"body mode": AppendBody(nil, ManifestRequestBody, Body{Mode: 3, Max: 1}), "body bits": AppendBody(nil, ManifestRequestBody, Body{Mode: 1, Bits: 4, Max: 1}),
		"body of 0": AppendBody(nil, ManifestRequestBody, Body{Mode: 1}), "huge body": AppendBody(nil, ManifestRequestBody, Body{Mode: 1, Max: MaxBody + 1}),
		"streamed with a bound": AppendBody(nil, ManifestRequestBody, Body{Mode: 2, Max: 1}), "streamed in part": AppendBody(nil, ManifestRequestBody, Body{Mode: 2, Bits: 2}),
		"body twice":  AppendBody(AppendBody(nil, ManifestRequestBody, Body{Mode: 2}), ManifestRequestBody, Body{Mode: 2}),
		"no phase":    AppendBody(AppendPhases(nil, WantsRequest), ManifestResponseBody, Body{Mode: 2}),
		"no request":  AppendBody(AppendPhases(nil, WantsResponse), ManifestRequestBody, Body{Mode: 2}),
		"metric name": metric(Metric{Name: "A"}), "metric digit": metric(Metric{Name: "1a"}), "no metric name": metric(Metric{}),
		"metric type": metric(Metric{Type: 4, Name: "a"}), "bounds": metric(Metric{Name: "a", Bounds: []float64{1}}),
		"bound order": metric(Metric{Type: 2, Name: "a", Bounds: []float64{1, 1}}), "bound": metric(Metric{Type: 2, Name: "a", Bounds: []float64{math.NaN()}}),
		"metric twice": append(metric(Metric{Name: "a"}), metric(Metric{Name: "a"})...), "cut metric": metric(Metric{Name: "a"})[:20],
		"stores": bytes.Repeat(AppendName(nil, ManifestStore, "s"), MaxStores+1), "calls": bytes.Repeat(AppendName(nil, ManifestCall, "s"), MaxCalled+1),
		"upstreams": many, "slots": slots, "size": make([]byte, MaxManifest+1), "cut header": {1, 0, 0},
		"reserved": {1, 0, 1, 0, 4, 0, 0, 0, 1, 0, 0, 0}, "body": {1, 0, 0, 0, 255, 255, 255, 255, 1},
		"rest": {4, 0, 0, 0, 6, 0, 0, 0, 1, 0, 0, 0, 'u', 'v'}, "string": {4, 0, 0, 0, 5, 0, 0, 0, 255, 255, 255, 255, 'u'},
	} {
		if m, err := ParseManifest(b); err == nil {
			t.Errorf("%s: accepted as %+v", name, m)
		}
	}
}

func metric(m Metric) []byte { return AppendMetricRecord(nil, &m) }

// allOperations is a list with one operation of each kind.
func allOperations() []byte {
	b := AppendOp32(nil, OpUpstream, 3)
	b = AppendOp32(b, OpTimeout, 250)
	b = AppendOp64(b, OpHashKey, 1<<40)
	b = AppendOp64(b, OpContext, 7)
	for _, k := range []Kind{OpAddress, OpMethod, OpAuthority, OpPath, OpQuery, OpRemoveHeader} {
		b = AppendOpText(b, k, "text")
	}
	for _, k := range []Kind{OpSetHeader, OpAppendHeader, OpAttribute} {
		b = AppendOpPair(b, k, "name", []byte("value"))
	}
	b = AppendLog(b, LogWarn, "line")
	b = AppendOp32(b, OpKeep, 5)
	b = AppendOpText(b, OpSetBody, "body")
	b = AppendOp(b, OpWantBody)
	b = AppendMetric(b, 2, -0.5)
	b = AppendRespond(b, 200, "body", "a", "1", "b", "")
	return AppendOp(b, OpRematch)
}

func TestOperations(t *testing.T) {
	ops := ReadOperations(allOperations())
	var op Operation
	seen := map[Kind]Operation{}
	for {
		ok, err := ops.Next(&op)
		if err != nil {
			t.Fatal(err)
		}
		if !ok {
			break
		}
		seen[op.Kind] = op
	}
	if m := seen[OpMetric]; m.Number != 2 || m.Float != -0.5 || seen[OpKeep].Number != 5 || string(seen[OpSetBody].Value) != "body" {
		t.Error("bodies and metrics")
	}
	if len(seen) != 20 || ops.Index() != 20 {
		t.Errorf("%d kinds in %d records", len(seen), ops.Index())
	}
	if seen[OpUpstream].Number != 3 || seen[OpTimeout].Number != 250 || seen[OpHashKey].Number != 1<<40 || seen[OpContext].Number != 7 {
		t.Error("numbers")
	}
	if string(seen[OpPath].Value) != "text" || string(seen[OpRemoveHeader].Name) != "text" || string(seen[OpLog].Value) != "line" {
		t.Error("strings")
	}
	if s := seen[OpSetHeader]; string(s.Name) != "name" || string(s.Value) != "value" {
		t.Error("pair")
	}
	r := seen[OpRespond]
	n1, v1, _ := r.Fields.Next()
	n2, v2, _ := r.Fields.Next()
	_, _, more := r.Fields.Next()
	if r.Number != 200 || string(r.Value) != "body" || string(n1)+string(v1)+string(n2)+string(v2) != "a1b" || more {
		t.Error("respond")
	}
}

func TestBadOperations(t *testing.T) {
	respond := AppendRespond(nil, 200, "b", "a", "1")
	lying := bytes.Clone(respond)
	le.PutUint32(lying[len(lying)-14:], 2)
	for name, b := range map[string][]byte{
		"cut header": {1, 0, 0, 0}, "unknown": appendHeader(nil, 0x7777, 0), "reserved": {0x50, 0, 1, 0, 0, 0, 0, 0},
		"huge body": {1, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0}, "short number": appendHeader(nil, uint16(OpUpstream), 0),
		"long number": append(appendHeader(nil, uint16(OpHashKey), 9), make([]byte, 9)...), "nothing with a body": append(appendHeader(nil, uint16(OpRematch), 1), 0),
		"string past the end": append(appendHeader(nil, uint16(OpPath), 4), 9, 0, 0, 0), "rest": append(appendHeader(nil, uint16(OpPath), 5), 0, 0, 0, 0, 'x'),
		"respond with too few headers": lying, "cut respond": respond[:len(respond)-1],
		"too many": bytes.Repeat(AppendOp(nil, OpRematch), MaxOperations+1),
	} {
		ops := ReadOperations(b)
		var op Operation
		ok, err := true, error(nil)
		for ok {
			ok, err = ops.Next(&op)
		}
		if err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func FuzzOperations(f *testing.F) {
	f.Add(allOperations())
	f.Fuzz(func(t *testing.T, b []byte) {
		ops := ReadOperations(b)
		var op Operation
		for {
			ok, err := ops.Next(&op)
			if !ok || err != nil {
				return
			}
			n := uint32(0)
			for _, _, more := op.Fields.Next(); more; _, _, more = op.Fields.Next() {
				n++
			}
			if n > MaxHeaderEdits {
				t.Fatal("more headers than are allowed")
			}
		}
	})
}

func FuzzManifest(f *testing.F) {
	f.Add(AppendManifest(nil, &Manifest{Phases: 3, RequestHeaders: []string{"a"}, Upstreams: []string{"u"}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := ParseManifest(b)
		if err != nil {
			return
		}
		again, err := ParseManifest(AppendManifest(nil, m))
		if err != nil || !reflect.DeepEqual(m, again) {
			t.Fatalf("%+v, then %+v: %v", m, again, err)
		}
	})
}

func FuzzView(f *testing.F) {
	buf := make([]byte, 256)
	var w ViewWriter
	w.Begin(buf, &Head{}, 1)
	w.Slot(0, []byte("v"))
	f.Add(buf[:w.Need()])
	f.Fuzz(func(t *testing.T, b []byte) {
		v := View(b)
		if v.Validate() != nil {
			return
		}
		for i := range Fields {
			_ = v.Field(i)
		}
		for i := range v.Slots() {
			for k := range v.Count(i) {
				if v.Value(i, k) == nil && v.Count(i) == 1 {
					t.Fatal("a value that is not there")
				}
			}
		}
	})
}

func TestAnswer(t *testing.T) {
	var w AnswerWriter
	w.Begin(make([]byte, 0, 500), 503, 12, 1, 2)
	w.Field([]byte("a"), []byte("1"))
	w.Field([]byte("b"), nil)
	w.Field([]byte("c"), []byte("333"))
	a := Answer(w.Finish([]byte("body")))
	if err := a.Validate(); err != nil || len(a) != AnswerSize(4, 3, 7) {
		t.Fatal(len(a), err)
	}
	n, v := a.Field(2)
	if a.Status() != 503 || a.Took() != 12 || a.Fields() != 1 || a.Trailers() != 2 || string(n)+string(v) != "c333" || string(a.Body()) != "body" {
		t.Errorf("% x", a)
	}
	for name, breakIt := range map[string]func(Answer) Answer{
		"short":      func(a Answer) Answer { return a[:AnswerFixed-1] },
		"fixed part": func(a Answer) Answer { le.PutUint32(a, 1<<31); return a },
		"fields":     func(a Answer) Answer { le.PutUint32(a[answerFields:], 1<<32-1); return a },
		"body":       func(a Answer) Answer { le.PutUint32(a[answerBody+4:], 1<<31); return a },
		"absent":     func(a Answer) Answer { le.PutUint64(a[answerBody:], uint64(Absent)); return a },
		"field":      func(a Answer) Answer { le.PutUint32(a[AnswerFixed+8:], 1<<31); return a },
	} {
		if breakIt(bytes.Clone(a)).Validate() == nil {
			t.Errorf("%s: valid", name)
		}
	}
}

func TestPiece(t *testing.T) {
	want := PieceHead{Message: 1, Flags: PieceLast, Time: -5, Word: 1 << 63, Before: 1 << 40}
	b := make([]byte, PieceFixed+3)
	PutPiece(b, &want, 3)
	copy(b[PieceFixed:], "abc")
	p := Piece(b)
	if err := p.Validate(); err != nil || p.Head() != want || string(p.Data()) != "abc" {
		t.Errorf("%v %+v %q", err, p.Head(), p.Data())
	}
	if Piece(b[:len(b)-1]).Validate() == nil || Piece(b[:9]).Validate() == nil || Tick(b[:9]).Validate() == nil {
		t.Error("cut, and valid")
	}
}
