package main

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"wasmgate/runtime/fault"
	"wasmgate/runtime/wasm"
	"wasmgate/sdk/abi"
)

// viewCase hands an instance bytes that are right by the ABI, though this version of the gateway does not make them: all
// fields, other layouts, what a later minor version adds.
type viewCase struct {
	name string
	run  func(h *host) (differs string)
}

func (h *host) runView(c *viewCase) string { return c.run(h) }

var viewCases = []viewCase{
	{"manifest", manifestCase},
	{"configuration with a longer fixed part", func(h *host) string { return configured(h, 16, viewConfig, "ok") }},
	{"configuration refused, with a longer fixed part", func(h *host) string { return configured(h, 8, "fail\n", "error as the configuration says") }},
	{"view with every field", view{fields: everyField, slots: [][]string{{"echo"}, {"1"}}}.check},
	{"view with no field at all", view{slots: [][]string{{"echo"}, nil}}.check},
	{"view with empty fields", view{fields: make([]string, abi.Fields), slots: [][]string{{"echo"}, {""}}}.check},
	{"view with the largest numbers", view{head: abi.Head{Role: 2, Flags: 3, Time: 1<<63 - 1, Seed: 1<<64 - 1, Context: 1<<64 - 1}, fields: everyField, slots: [][]string{{"echo"}, nil}}.check},
	{"view with unknown flags", view{head: abi.Head{Flags: 0xFFFF_FFF8}, slots: [][]string{{"echo"}, nil}}.check},
	{"view with any bytes", view{fields: anyBytes, slots: [][]string{{"echo"}, {"\x00\xff\n", "\x80", ""}}}.check},
	{"view with strings in another order", view{backwards: true, fields: everyField, slots: [][]string{{"set a b", "echo"}, {"1", "2", "3"}}}.check},
	{"view with a longer fixed part", view{longer: 24, fields: everyField, slots: [][]string{{"set a b", "echo"}, {"1", "2"}}}.check},
	{"response view with every field", view{head: abi.Head{Phase: 1, Flags: 7, Context: 5, Status: 599}, fields: everyField, slots: [][]string{{"trap"}, {"1"}, {"echo"}, {"2", "3"}}}.check},
	{"response view with a longer fixed part", view{longer: 8, head: abi.Head{Phase: 1, Status: 200}, slots: [][]string{nil, nil, {"echo"}, {"2"}}}.check},
	{"view that fills its arena", fullCase},
}

const viewConfig = "request-header x-one\nresponse-header x-answer\nupstream users\n"

var (
	everyField = []string{"GET", "https", "example.com:8443", "/a", "q", "2001:db8::7", "sni.example", "CN=client,O=x", "route"}
	anyBytes   = []string{"M", "\x80", "a\x00b", "/\xff\xfe", "\xc3(", "c", "\"\n", "=\r\n", " "}
)

// view is a view of an exchange to be laid out.
type view struct {
	head      abi.Head
	fields    []string // nil: all are absent
	slots     [][]string
	longer    int  // bytes of a fixed part that a later minor version has
	backwards bool // the last string comes first, with gaps
}

// bytes lays the view out.
func (v view) bytes() []byte {
	le := binary.LittleEndian
	fixed := abi.ViewFixed + v.longer
	table := fixed - v.longer - 8*int(abi.Fields)
	b := slices.Repeat([]byte{0xEE}, fixed+8*len(v.slots))
	for i, n := range []uint32{uint32(fixed), v.head.Role, v.head.Phase, v.head.Flags} { //nolint:gosec // small
		le.PutUint32(b[4*i:], n)
	}
	for i, n := range []uint64{uint64(v.head.Time), v.head.Seed, v.head.Context} { //nolint:gosec // two's complement on purpose
		le.PutUint64(b[16+8*i:], n)
	}
	le.PutUint32(b[40:], v.head.Status)
	le.PutUint32(b[44:], uint32(len(v.slots))) //nolint:gosec // small
	put := func(at int, s string) {
		le.PutUint32(b[at:], uint32(len(b)))   //nolint:gosec // small
		le.PutUint32(b[at+4:], uint32(len(s))) //nolint:gosec // small
		b = append(b, s...)
		if v.backwards {
			b = append(b, "gap"...)
		}
	}
	var steps []func()
	for f := range int(abi.Fields) {
		le.PutUint64(b[table+8*f:], uint64(abi.Absent))
		if v.fields != nil {
			steps = append(steps, func() { put(table+8*f, v.fields[f]) })
		}
	}
	for i, values := range v.slots {
		at := fixed + 8*i
		le.PutUint64(b[at:], uint64(abi.Absent))
		switch len(values) {
		case 0:
		case 1:
			steps = append(steps, func() { put(at, values[0]) })
		default:
			steps = append(steps, func() {
				b = append(b, make([]byte, -len(b)&3)...)
				list := len(b)
				b = append(b, make([]byte, 8*len(values))...)
				for k, s := range values {
					put(list+8*k, s)
				}
				le.PutUint32(b[at:], uint32(list))                   //nolint:gosec // small
				le.PutUint32(b[at+4:], abi.List|uint32(len(values))) //nolint:gosec // small
			})
		}
	}
	if v.backwards {
		slices.Reverse(steps)
	}
	for _, step := range steps {
		step()
	}
	return b
}

var echoNames = [...]string{"method", "scheme", "authority", "path", "query", "client", "sni", "certificate", "route"}

// echo is what the plugin's echo says of the view.
func (v view) echo() string {
	var s strings.Builder
	bit := func(f uint32) uint32 { return min(1, v.head.Flags&f) }
	fmt.Fprintf(&s, "role=%d\nresponse=%d\nsampled=%d\nlocal=%d\n", v.head.Role, v.head.Phase, bit(abi.FlagSampled), bit(abi.FlagLocal))
	fmt.Fprintf(&s, "time=%d\nseed=%d\ncontext=%d\nstatus=%d\nhas_query=%d\n", v.head.Time, v.head.Seed, v.head.Context, v.head.Status, bit(abi.FlagHasQuery))
	str := func(name, value string) { fmt.Fprintf(&s, "%s=%d:%s\n", name, len(value), value) }
	for f, name := range echoNames {
		value := ""
		if v.fields != nil {
			value = v.fields[f]
		}
		str(name, value)
		if name == "authority" {
			host, _, _ := strings.Cut(value, ":") // the cases have no IPv6 address
			str("host", host)
		}
	}
	for i, name := range []string{"x-cmd", "x-one", "x-cmd", "x-answer"} {
		if name == "x-cmd" {
			continue
		}
		var values []string
		if i < len(v.slots) {
			values = v.slots[i]
		}
		fmt.Fprintf(&s, "header=%d\n", len(values))
		for _, value := range values {
			str("value", value)
		}
	}
	return s.String()
}

// check shows the view to an instance, twice, and compares what it says.
func (v view) check(h *host) string {
	g, err := h.start(viewConfig, 0)
	if err != nil {
		return "  " + err.Error()
	}
	defer g.in.Close()
	for range 2 {
		got, err := g.show(v.head.Phase, v.bytes())
		if err != nil {
			return "  " + err.Error()
		}
		if d := difference(fmt.Sprintf("%q", v.echo()), fmt.Sprintf("%q", got)); d != "" {
			return d
		}
	}
	return ""
}

// fullCase shows a view that is exactly as long as the request arena.
func fullCase(h *host) string {
	g, err := h.start(viewConfig, 0)
	if err != nil {
		return "  " + err.Error()
	}
	defer g.in.Close()
	v := view{slots: [][]string{{"echo"}, {""}}}
	room := int(g.arenas[abi.RequestArena].cap) - len(v.bytes())
	if room < 0 || room > 1<<18 {
		return "" // the host resizes such an arena, or never fills it
	}
	v.slots[1][0] = strings.Repeat("v", room)
	got, err := g.show(abi.PhaseRequest, v.bytes())
	if err != nil {
		return "  " + err.Error()
	}
	return difference(shorten(v.echo()), shorten(got))
}

// manifestCase wants two instances to declare the same, what the configuration says.
func manifestCase(h *host) string {
	var got [2]string
	for i := range got {
		g, err := h.start(declaring, 0)
		if err != nil {
			return "  " + err.Error()
		}
		g.in.Close()
		m, err := abi.ParseManifest(g.manifest)
		if err != nil {
			return "  " + err.Error()
		}
		got[i] = fmt.Sprintf("phases %d\nrequest %s\nresponse %s\nupstreams %s", m.Phases,
			strings.Join(m.RequestHeaders, " "), strings.Join(m.ResponseHeaders, " "), strings.Join(m.Upstreams, " "))
	}
	const want = "phases 3\nrequest x-cmd x-one x-many x-none\nresponse x-cmd x-answer\nupstreams users orders"
	if d := difference(want, got[0]); d != "" {
		return d
	}
	return difference(got[0], got[1])
}

func configured(h *host, longer int, config, want string) string {
	got := "ok"
	if g, err := h.start(config, longer); err != nil {
		got = err.Error()
	} else {
		g.in.Close()
	}
	return difference(want, got)
}

// instance is a plugin's instance without a gateway around it.
type instance struct {
	in       *wasm.Instance
	of       *wasm.Compiled
	arenas   [2]struct{ cap, ptr uint32 }
	manifest []byte
}

// start makes an instance and configures it, with a fixed part that is longer than this version's.
func (h *host) start(config string, longer int) (*instance, error) {
	in, err := h.first.Instantiate(wasm.InstanceOptions{})
	if err != nil {
		return nil, err
	}
	g := &instance{in: in, of: h.first}
	if err := g.configure(config, longer); err != nil {
		in.Close()
		return nil, err
	}
	return g, nil
}

func (g *instance) configure(config string, longer int) error {
	for range 2 { // asked for again, an arena is where it was
		for which := range uint32(2) {
			v, err := g.call(abi.ExportArena, uint64(which))
			if err != nil {
				return err
			}
			a := &g.arenas[which]
			was := *a
			if a.cap, a.ptr = abi.Unpack(v); was.cap != 0 && was != *a {
				return fmt.Errorf("arena %d moved from %v to %v", which, was, *a)
			}
			if _, ok := g.in.Bytes(a.ptr, a.cap); !ok {
				return fmt.Errorf("arena %d is not in memory: %d bytes at %#x", which, a.cap, a.ptr)
			}
		}
	}
	b := abi.AppendConfig(nil, &abi.Config{MaxAnswer: 1 << 20, Name: []byte("kit"), Bytes: []byte(config)})
	if longer > 0 {
		le, fixed := binary.LittleEndian, uint32(abi.ConfigFixed+longer) //nolint:gosec // small
		le.PutUint32(b, fixed)
		le.PutUint32(b[4:], 9) // a later minor version
		for _, at := range []int{16, 24} {
			le.PutUint32(b[at:], le.Uint32(b[at:])+uint32(longer)) //nolint:gosec // small
		}
		b = slices.Insert(b, abi.ConfigFixed, slices.Repeat([]byte{0xEE}, longer)...)
	}
	code, value, err := g.ask(abi.ExportConfigure, b)
	if err != nil {
		return err
	}
	answer, err := g.arena(abi.AnswerArena, value)
	switch {
	case err != nil:
		return err
	case code == abi.CodeError:
		return fmt.Errorf("error %s", answer)
	case code != abi.CodeOK:
		return fmt.Errorf("configure answered with code %d", code)
	}
	g.manifest = slices.Clone(answer)
	return nil
}

// call calls an export.
func (g *instance) call(export string, args ...uint64) (uint64, error) {
	f, ok := g.of.Lookup(export)
	if !ok {
		return 0, fmt.Errorf("the module does not export %s", export)
	}
	if err := g.in.CallFuel(f, args, plentyOfFuel); err != nil {
		return 0, fmt.Errorf("%s: %s", export, fault.From(err).Detail)
	}
	return args[0], nil
}

// arena returns an arena with room for n bytes.
func (g *instance) arena(which, n uint32) ([]byte, error) {
	a := &g.arenas[which]
	if n > a.cap {
		v, err := g.call(abi.ExportResize, uint64(which), uint64(n))
		if err != nil {
			return nil, err
		}
		a.cap, a.ptr = abi.Unpack(v)
	}
	b, ok := g.in.Bytes(a.ptr, a.cap)
	if !ok || n > a.cap {
		return nil, fmt.Errorf("arena %d has %d bytes at %#x, %d are needed", which, a.cap, a.ptr, n)
	}
	return b[:n], nil
}

// ask writes a view and calls an export.
func (g *instance) ask(export string, view []byte) (abi.Code, uint32, error) {
	b, err := g.arena(abi.RequestArena, uint32(len(view))) //nolint:gosec // small
	if err != nil {
		return 0, 0, err
	}
	copy(b, view)
	v, err := g.call(export, uint64(len(view)))
	code, value := abi.Unpack(v)
	return abi.Code(code), value, err
}

// show shows a view and returns the body of the answer that the guest gives.
func (g *instance) show(phase uint32, view []byte) (string, error) {
	export := abi.ExportRequest
	if phase == abi.PhaseResponse {
		export = abi.ExportResponse
	}
	code, value, err := g.ask(export, view)
	if err != nil {
		return "", err
	}
	if code != abi.CodeOperations {
		return "", fmt.Errorf("%s answered with code %d and value %d, not with operations", export, code, value)
	}
	list, err := g.arena(abi.AnswerArena, value)
	if err != nil {
		return "", err
	}
	ops := abi.ReadOperations(list)
	var op abi.Operation
	for {
		ok, err := ops.Next(&op)
		switch {
		case err != nil:
			return "", err
		case !ok:
			return "", fmt.Errorf("no RESPOND among %d operations", ops.Index())
		case op.Kind == abi.OpRespond:
			return string(op.Value), nil
		}
	}
}
