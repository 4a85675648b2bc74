//go:build !wasip1

package wasmgate

import (
	"encoding/binary"
	"errors"
	"slices"
	"strings"

	"wasmgate/sdk/abi"
)

// TestResponse is what a service answers in a test.
type TestResponse struct {
	Status   int // 0 is 200
	Headers  []string
	Body     string
	Trailers []string
}

// tester is the Tester in use.
var tester *Tester

// held is what the host knows of the message's body.
var held struct {
	flags    uint32
	body     string
	there    bool
	trailers bool
	wanted   bool   // by the answer, as what follows
	set      bool   // a body
	text     string // that
	keep     int
	word     uint64
}

// message calls a message's handler, and has its body go through the plugin as the gateway does.
func (t *Tester) message(m *TestMessage, phase uint32, fn func([]byte) uint64, wants abi.Body) TestAnswer {
	current = m
	defer func() { current, held.there = nil, false }()
	hold := func(wanted bool) {
		held.flags, held.body, held.there, held.trailers = 0, "", wanted, wanted
		held.wanted, held.set, held.word = false, false, m.Context
		if !wanted {
			return
		}
		held.flags, held.body = abi.FlagBody, m.Body
		if len(held.body) > int(wants.Max) {
			held.flags, held.body, held.trailers = abi.FlagBody|abi.FlagPart, held.body[:wants.Max], false
		}
	}
	buffered, onDemand := wants.Mode == abi.BodyBuffered, wants.Bits&abi.BodyOnDemand != 0
	tooLong := buffered && len(m.Body) > int(wants.Max) && wants.Bits&abi.BodyPartial == 0
	if tooLong && !onDemand {
		return t.tooLong(phase)
	}
	hold(buffered && !onDemand)
	a := t.call(fn, t.encode(m, phase))
	if wants.Mode == abi.BodyNone {
		return a
	}
	if buffered && held.wanted && (a.Decision == "continue" || a.Decision == "route") {
		if tooLong {
			return t.tooLong(phase)
		}
		hold(true)
		b := t.call(fn, t.encode(m, phase))
		b.Edits, b.Logged, b.Called = slices.Concat(a.Edits, b.Edits), slices.Concat(a.Logged, b.Logged), slices.Concat(a.Called, b.Called)
		a = b
	}
	a.Body = m.Body
	if held.set {
		a.Body = held.text
	}
	if wants.Mode == abi.BodyStreamed && (!onDemand || held.wanted) && (a.Decision == "continue" || a.Decision == "route") {
		t.stream(m, phase, &a)
	}
	return a
}

// tooLong is the gateway's own answer.
func (t *Tester) tooLong(phase uint32) TestAnswer {
	if phase == abi.PhaseResponse {
		return TestAnswer{Decision: "respond", Status: 502}
	}
	return TestAnswer{Decision: "respond", Status: 413}
}

// stream gives the plugin piece by piece.
func (t *Tester) stream(m *TestMessage, phase uint32, a *TestAnswer) {
	pieces := m.Pieces
	if len(pieces) == 0 && m.Body != "" {
		pieces = []string{m.Body}
	}
	a.Body, a.Pieces = "", nil
	h, kept := abi.PieceHead{Message: phase, Time: m.Time, Word: held.word}, ""
	for i, s := range pieces {
		data := kept + s
		if i == len(pieces)-1 {
			h.Flags, held.trailers = abi.PieceLast, true
		}
		held.set, held.keep = false, 0
		b := make([]byte, abi.PieceFixed, abi.PieceFixed+len(data))
		abi.PutPiece(b, &h, len(data))
		p := t.call(piece, append(b, data...))
		a.Edits, a.Logged, a.Called = slices.Concat(a.Edits, p.Edits), slices.Concat(a.Logged, p.Logged), slices.Concat(a.Called, p.Called)
		if p.Decision != "continue" && p.Decision != "replace" {
			a.Decision, a.Status, a.Text = p.Decision, p.Status, p.Text
			return
		}
		keep := min(held.keep, len(data))
		kept = data[len(data)-keep:]
		sent := data[:len(data)-keep]
		if p.Decision == "replace" {
			sent = p.Body
		} else if held.set {
			sent = held.text
		}
		a.Pieces, a.Body = append(a.Pieces, sent), a.Body+sent
		h.Before += uint64(len(data) - keep) //nolint:gosec // a length
		h.Word = held.word
	}
}

// Tick calls the function that was registered by HandleTick.
func (t *Tester) Tick(time int64) TestAnswer {
	if plugin.tick == nil {
		return TestAnswer{Decision: "error", Text: "the plugin has no ticks: see wasmgate.HandleTick"}
	}
	return t.call(tick, abi.AppendTickView(nil, time, 1))
}

// Set puts a value into a store, as another plugin or an earlier call might have.
func (t *Tester) Set(store, key, value string) {
	t.version++
	if t.stores[store] == nil {
		t.stores[store] = map[string]testValue{}
	}
	t.stores[store][key] = testValue{[]byte(value), t.version, 0}
}

// Get is the value of a key in a store, if it is there.
func (t *Tester) Get(store, key string) (value string, ok bool) {
	v, ok := t.stores[store][key]
	if !ok || v.expired(t.Now) {
		return "", false
	}
	return string(v.bytes), true
}

// Measured are the values that a metric was given, in order.
func (t *Tester) Measured(metric string) []float64 { return t.metrics[metric] }

type testValue struct {
	bytes   []byte
	version uint32
	expires int64
}

func (v testValue) expired(now int64) bool { return v.expires != 0 && now >= v.expires }

func hostCall(id uint32, request, room []byte) uint64 {
	if tester == nil {
		return abi.Pack(uint32(ErrDenied), 0)
	}
	name := tester.manifest.Calls[id]
	var r OutboundRequest
	ops := abi.ReadOperations(request)
	var op abi.Operation
	for {
		ok, err := ops.Next(&op)
		if err != nil {
			return abi.Pack(uint32(ErrInvalid), 0)
		}
		if !ok {
			break
		}
		switch op.Kind {
		case abi.OpMethod:
			r.Method = string(op.Value)
		case abi.OpAuthority:
			r.Authority = string(op.Value)
		case abi.OpPath:
			r.Path = string(op.Value)
		case abi.OpQuery:
			r.Query = string(op.Value)
		case abi.OpAppendHeader:
			r.Header = append(r.Header, string(op.Name), string(op.Value))
		case abi.OpSetBody:
			r.Body = slices.Clone(op.Value)
		case abi.OpTimeout:
			r.Timeout = int(op.Number) //nolint:gosec // some minutes
		}
	}
	if r.Method == "" {
		r.Method = "GET"
	}
	if r.Path == "" {
		r.Path = "/"
	}
	tester.called = append(tester.called, name+" "+r.Method+" "+r.Path)
	service := tester.Services[name]
	if service == nil {
		return abi.Pack(uint32(ErrConnect), 0)
	}
	answer, err := service(r)
	if err != nil {
		result := ErrFailed
		errors.As(err, &result)
		return abi.Pack(uint32(result), 0)
	}
	tester.answer = encodeResponse(&answer)
	if len(tester.answer) <= len(room) {
		copy(room, tester.answer)
	}
	return abi.Pack(0, uint32(len(tester.answer))) //nolint:gosec // a test's own
}

func encodeResponse(r *TestResponse) []byte {
	status := uint32(200)
	if r.Status != 0 {
		status = uint32(r.Status) //nolint:gosec // a status
	}
	var w abi.AnswerWriter
	w.Begin(nil, status, 0, len(r.Headers)/2, len(r.Trailers)/2)
	for _, fields := range [][]string{r.Headers, r.Trailers} {
		for i := 0; i+1 < len(fields); i += 2 {
			w.Field([]byte(strings.ToLower(fields[i])), []byte(fields[i+1]))
		}
	}
	return w.Finish([]byte(r.Body))
}

func hostCallAnswer(room []byte) { copy(room, tester.answer) }

// at is a store's keys and what is at one of them, if it is there.
func (t *Tester) at(id uint32, key string) (store map[string]testValue, v testValue, ok bool) {
	name := t.manifest.Stores[id]
	store = t.stores[name]
	if store == nil {
		store = map[string]testValue{}
		t.stores[name] = store
	}
	v, ok = store[key]
	if ok && v.expired(t.Now) {
		delete(store, key)
		return store, testValue{}, false
	}
	return store, v, ok
}

func hostKVGet(id uint32, key string, room []byte) uint64 {
	if tester == nil {
		return 0
	}
	_, v, ok := tester.at(id, key)
	if !ok {
		return 0
	}
	if len(v.bytes) <= len(room) {
		copy(room, v.bytes)
	}
	return abi.Pack(v.version, uint32(len(v.bytes))) //nolint:gosec // a test's own
}

func hostKVSet(id uint32, key string, value []byte, version uint32, ttl uint64) uint64 {
	if tester == nil {
		return abi.Pack(uint32(ErrDenied), 0)
	}
	store, v, ok := tester.at(id, key)
	switch {
	case key == "" || len(key) > abi.MaxKey:
		return abi.Pack(uint32(ErrTooLarge), 0)
	case version == abi.IfAbsent && ok || version != 0 && version != abi.IfAbsent && v.version != version:
		return abi.Pack(uint32(ErrMismatch), v.version)
	}
	tester.version++
	store[strings.Clone(key)] = testValue{slices.Clone(value), tester.version, tester.end(ttl)}
	return abi.Pack(0, tester.version)
}

func (t *Tester) end(ttl uint64) int64 {
	if ttl == 0 {
		return 0
	}
	return t.Now + int64(ttl) //nolint:gosec // a test's own
}

func hostKVDelete(id uint32, key string, version uint32) uint64 {
	if tester == nil {
		return abi.Pack(uint32(ErrDenied), 0)
	}
	store, v, ok := tester.at(id, key)
	switch {
	case !ok:
		return abi.Pack(uint32(ErrAbsent), 0)
	case version != 0 && version != v.version:
		return abi.Pack(uint32(ErrMismatch), v.version)
	}
	delete(store, key)
	return 0
}

func hostKVAdd(id uint32, key string, delta int64, ttl uint64, sum *int64) uint32 {
	if tester == nil {
		return uint32(ErrDenied)
	}
	store, v, ok := tester.at(id, key)
	switch {
	case key == "" || len(key) > abi.MaxKey:
		return uint32(ErrTooLarge)
	case !ok:
		v = testValue{bytes: make([]byte, 8), expires: tester.end(ttl)}
	case len(v.bytes) != 8:
		return uint32(ErrMismatch)
	}
	tester.version++
	*sum = int64(binary.LittleEndian.Uint64(v.bytes)) + delta                                //nolint:gosec // two's complement on purpose
	v.version, v.bytes = tester.version, binary.LittleEndian.AppendUint64(nil, uint64(*sum)) //nolint:gosec // see above
	store[strings.Clone(key)] = v
	return 0
}

func hostReadBody(_, offset uint32, room []byte) int32 {
	if !held.there || int(offset) > len(held.body) {
		return -1
	}
	copy(room, held.body[offset:])
	return int32(len(held.body) - int(offset)) //nolint:gosec // a test's own
}

func hostMetric(id uint32, v float64) {
	if tester != nil {
		name := tester.manifest.Metrics[id].Name
		tester.metrics[name] = append(tester.metrics[name], v)
	}
}
