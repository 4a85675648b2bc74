package plugintest

import (
	"bytes"
	"debug/dwarf"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"

	"wasmgate/runtime/fault"
	"wasmgate/runtime/wasm"
	"wasmgate/runtime/wasm/meter"
	sdkabi "wasmgate/sdk/abi"
)

// Inspection is what there is to know about a module. The fields are those of its JSON.
type Inspection struct {
	File     string   `json:"file"`
	Size     int      `json:"size"` // bytes
	ABI      string   `json:"abi,omitempty"`
	Version  string   `json:"version,omitempty"`
	Refused  []string `json:"refused,omitempty"` // why the gateway would not take it
	Language string   `json:"language,omitempty"`
	Tools    []string `json:"tools,omitempty"` // from the section producers
	Name     string   `json:"name,omitempty"`  // of the module, from its name section
	Names    bool     `json:"names"`           // it has names of functions, for traps
	Lines    bool     `json:"lines"`           // it has debugging information, for lines
	Sections []Part   `json:"sections"`

	Functions   int      `json:"functions"`
	Imports     []string `json:"imports"`
	Exports     []string `json:"exports"`
	MemoryPages uint32   `json:"memory_pages"`      // at the start, of 64 KiB
	MemoryMax   uint32   `json:"memory_pages_most"` // with the limits as they are

	Wants  *Wants   `json:"wants,omitempty"`
	Notes  []string `json:"notes,omitempty"` // what there was to say about it while it started
	Sample *Cost    `json:"sample,omitempty"`
}

// Part is a section.
type Part struct {
	Name string `json:"name"`
	Size int    `json:"size"`
}

// Wants is what a plugin asks for.
type Wants struct {
	Phases          []string `json:"phases"`
	RequestHeaders  []string `json:"request_headers,omitempty"`
	ResponseHeaders []string `json:"response_headers,omitempty"`
	Upstreams       []string `json:"upstreams,omitempty"`
	Calls           []string `json:"calls,omitempty"`
	State           []string `json:"state,omitempty"`
	Bodies          []string `json:"bodies,omitempty"`
	Tick            string   `json:"tick,omitempty"`
	Metrics         []string `json:"metrics,omitempty"`
	Clock           bool     `json:"clock,omitempty"` // it imports a clock: without the grant its time stands still
	// Refused says why it could not be asked: it takes no empty configuration, for instance.
	Refused string `json:"refused,omitempty"`
}

// Cost is what a sample call took.
type Cost struct {
	Request  string  `json:"request"`
	Decision string  `json:"decision"`
	Status   int     `json:"status,omitempty"`   // of the plugin's own answer
	Upstream string  `json:"upstream,omitempty"` // that it chose, or its address
	Micros   float64 `json:"microseconds"`
	Fuel     int64   `json:"fuel"`
	Memory   int64   `json:"memory"` // of an instance, in bytes
}

// Inspect looks at a module, and, if it can be run, at what it asks for and what a call of it takes.
func (h *Host) Inspect(file string, module []byte, limits wasm.Limits, s Settings) *Inspection {
	i := &Inspection{File: file, Size: len(module)}
	i.sections(module)
	m, abi, err := ReadModule(module, limits)
	if err != nil {
		i.Refused = append(i.Refused, err.Error())
	}
	if m == nil {
		return i
	}
	i.Name, i.Names, i.Lines, i.Functions = m.Name, m.Named, m.Debug != nil, m.Functions
	i.MemoryPages, i.MemoryMax = m.MemoryMin, m.MemoryMax
	for _, imp := range m.Imports {
		i.Imports = append(i.Imports, imp.Module+"."+imp.Name)
	}
	for _, e := range m.Exports {
		i.Exports = append(i.Exports, e.Name)
	}
	if i.Language == "" {
		i.Language = guess(m)
	}
	if abi == nil {
		return i
	}
	i.ABI, i.Version = abi.Name, abi.version(m)
	c, err := h.LoadAs(s.Name, module, limits)
	if err != nil {
		i.Refused = append(i.Refused, reason(err))
		return i
	}
	defer c.Close()
	i.Wants = &Wants{Clock: slices.ContainsFunc(i.Imports, func(s string) bool { return strings.HasSuffix(s, ".clock_time_get") })}
	i.Wants.foreign(m, abi)
	s.Lines = func(l wasm.Line) {
		if !l.Guest && l.Err == nil && len(i.Notes) < mostNotes {
			i.Notes = append(i.Notes, l.Text)
		}
	}
	p, err := c.Start(s)
	if f := (*fault.Error)(nil); errors.As(err, &f) && f.Phase == "compile" { // no configuration would help
		i.Refused, i.Wants = append(i.Refused, reason(err)), nil
		return i
	}
	if err != nil {
		i.Wants.Refused = reason(err)
		return i
	}
	defer p.Close()
	if manifest := p.Manifest(); manifest != nil {
		i.Wants.fill(manifest)
	}
	o, err := p.Do(Case{Request: Sample})
	if err != nil {
		return i
	}
	if typical := p.Typical(Case{Request: Sample}); len(typical) == 1 {
		o.Request.Took, o.Request.Fuel = typical[0].Took, typical[0].Fuel
	}
	i.Sample = &Cost{
		Request: "GET http://example.com/", Decision: o.Request.Decision, Status: o.Request.Status, Upstream: or(o.Request.Upstream, o.Request.Address),
		Micros: float64(o.Request.Took) / 1e3, Fuel: o.Request.Fuel, Memory: p.running.figures().memory,
	}
	if f := o.Request.Failure; f != nil {
		i.Sample.Decision += ": " + f.Error()
	}
	return i
}

// mostNotes bounds what is said about a start.
const mostNotes = 10

// Sample is a request as clients send them, for those who have none of their own.
var Sample = Message{Fields: []Field{
	{"accept", "*/*"}, {"user-agent", "curl/8.5.0"}, {"accept-encoding", "gzip"}, {"cookie", "session=0123456789abcdef"}, {"x-request-id", "6f1c9a52"},
}}

// reason is an error without what everybody can see.
func reason(err error) string {
	return strings.TrimPrefix(err.Error(), "plugin_unavailable: ")
}

func (w *Wants) fill(m *sdkabi.Manifest) {
	for _, p := range []struct {
		bit  uint32
		name string
	}{{sdkabi.WantsRequest, "request"}, {sdkabi.WantsResponse, "response"}, {sdkabi.WantsMarkedResponses, "response, where it asked for it"}} {
		if m.Phases&p.bit != 0 {
			w.Phases = append(w.Phases, p.name)
		}
	}
	w.RequestHeaders, w.ResponseHeaders, w.Upstreams, w.Calls, w.State = m.RequestHeaders, m.ResponseHeaders, m.Upstreams, m.Calls, m.Stores
	for _, b := range []struct {
		name string
		body sdkabi.Body
	}{{"request", m.RequestBody}, {"response", m.ResponseBody}} {
		switch b.body.Mode {
		case sdkabi.BodyBuffered:
			w.Bodies = append(w.Bodies, fmt.Sprintf("%s, whole, up to %d bytes", b.name, b.body.Max))
		case sdkabi.BodyStreamed:
			w.Bodies = append(w.Bodies, b.name+", piece by piece")
		}
	}
	if m.Tick > 0 {
		w.Tick = fmt.Sprintf("every %d ms", m.Tick)
	}
	for _, metric := range m.Metrics {
		w.Metrics = append(w.Metrics, metric.Name)
	}
}

// uses says what a module that has no manifest uses: by an export or an import of one of these names, and where it is told.
var uses = []struct {
	abi   *ABI
	names []string
	tell  func(w *Wants)
}{
	{&proxyWasmABI, []string{"proxy_on_request_headers", "proxy_on_request_body", "proxy_on_request_trailers"}, func(w *Wants) { w.Phases = append(w.Phases, "request") }},
	{&proxyWasmABI, []string{"proxy_on_response_headers", "proxy_on_response_body", "proxy_on_response_trailers"}, func(w *Wants) { w.Phases = append(w.Phases, "response") }},
	{&proxyWasmABI, []string{"proxy_on_new_connection", "proxy_on_downstream_data"}, func(w *Wants) { w.Phases = append(w.Phases, "TCP connections") }},
	{&proxyWasmABI, []string{"proxy_on_request_body"}, func(w *Wants) { w.Bodies = append(w.Bodies, "request") }},
	{&proxyWasmABI, []string{"proxy_on_response_body"}, func(w *Wants) { w.Bodies = append(w.Bodies, "response") }},
	{&proxyWasmABI, []string{"proxy_http_call"}, func(w *Wants) { w.Calls = append(w.Calls, "by http_call, whichever it names") }},
	{&proxyWasmABI, []string{"proxy_grpc_call", "proxy_grpc_stream"}, func(w *Wants) { w.Calls = append(w.Calls, "by gRPC, whichever it names") }},
	{&proxyWasmABI, []string{"proxy_set_shared_data", "proxy_get_shared_data"}, func(w *Wants) { w.State = append(w.State, "shared data") }},
	{&proxyWasmABI, []string{"proxy_register_shared_queue", "proxy_resolve_shared_queue"}, func(w *Wants) { w.State = append(w.State, "queues") }},
	{&proxyWasmABI, []string{"proxy_set_tick_period_milliseconds"}, func(w *Wants) { w.Tick = "as it asks for" }},
	{&proxyWasmABI, []string{"proxy_define_metric"}, func(w *Wants) { w.Metrics = append(w.Metrics, "as it defines") }},
	{&httpWasmABI, []string{"handle_request"}, func(w *Wants) { w.Phases = append(w.Phases, "request") }},
	{&httpWasmABI, []string{"handle_response"}, func(w *Wants) { w.Phases = append(w.Phases, "response") }},
	{&httpWasmABI, []string{"read_body", "write_body"}, func(w *Wants) { w.Bodies = append(w.Bodies, "as it enables") }},
}

// foreign fills in what the names of exports and imports tell. SDKs import more than their plugins call, so that it is at
// most that.
func (w *Wants) foreign(m *meter.Module, abi *ABI) {
	for _, u := range uses {
		if u.abi != abi {
			continue
		}
		if slices.ContainsFunc(u.names, func(name string) bool {
			_, exported := m.Export(name)
			return exported || slices.ContainsFunc(m.Imports, func(i meter.Import) bool { return i.Name == name })
		}) {
			u.tell(w)
		}
	}
}

// sectionNames are the names of sections by their ids.
var sectionNames = [...]string{
	1: "types", 2: "imports", 3: "functions", 4: "tables", 5: "memory", 6: "globals", 7: "exports", 8: "start", 9: "elements", 10: "code", 11: "data", 12: "data count",
}

// sections lists the sections and reads those that tell of tools. A binary that is malformed is read as far as it goes.
func (i *Inspection) sections(b []byte) {
	if !isModule(b) {
		return
	}
	debug := map[string][]byte{}
	defer func() { i.producer(debug) }()
	for at := 8; at < len(b); {
		id := int(b[at])
		size, n := binary.Uvarint(b[at+1:])
		begin := at + 1 + n
		if n <= 0 || size > uint64(len(b)-begin) {
			return
		}
		content := b[begin : begin+int(size)]
		name := fmt.Sprintf("section %d", id)
		switch {
		case id == 0:
			text, rest, ok := counted(content)
			if !ok {
				return
			}
			name = printable(text)
			if text == "producers" {
				i.producers(rest)
			}
			if strings.HasPrefix(text, ".debug_") {
				debug[text] = rest
			}
		case id < len(sectionNames):
			name = sectionNames[id]
		}
		i.Sections = append(i.Sections, Part{name, int(size)})
		at = begin + int(size)
	}
}

// isModule says whether something begins as a WebAssembly binary does.
func isModule(b []byte) bool { return bytes.HasPrefix(b, []byte("\x00asm")) }

// producer reads who compiled the module from its debugging information. What the section producers has of the language is
// made from DWARF's number for it, and there a compiler takes C99 that has none, as Zig's does.
func (i *Inspection) producer(debug map[string][]byte) {
	if language, year, ok := strings.Cut(i.Language, "C"); ok && language == "" && len(year) == 2 && strings.Trim(year, "0123456789") == "" {
		i.Language = "C" // which one is not told: C11 is C99 there, too
	}
	d, err := dwarf.New(debug[".debug_abbrev"], nil, nil, debug[".debug_info"], debug[".debug_line"], nil, debug[".debug_ranges"], debug[".debug_str"])
	if err != nil {
		return
	}
	e, err := d.Reader().Next()
	if err != nil || e == nil {
		return
	}
	maker, _ := e.Val(dwarf.AttrProducer).(string)
	if maker = printable(maker); strings.HasPrefix(maker, "zig ") {
		i.Language = "Zig"
		i.Tools = append(i.Tools, maker)
	}
}

// counted reads a text behind its length.
func counted(b []byte) (text string, rest []byte, ok bool) {
	size, n := binary.Uvarint(b)
	if n <= 0 || size > uint64(len(b)-n) {
		return "", nil, false
	}
	return string(b[n : n+int(size)]), b[n+int(size):], true
}

// producers reads the section that compilers sign with.
func (i *Inspection) producers(b []byte) {
	fields, n := binary.Uvarint(b)
	if n <= 0 {
		return
	}
	b = b[n:]
	for range min(fields, 8) {
		field, rest, ok := counted(b)
		if !ok {
			return
		}
		values, n := binary.Uvarint(rest)
		if n <= 0 {
			return
		}
		b = rest[n:]
		for range min(values, 64) {
			name, rest, ok := counted(b)
			if !ok {
				return
			}
			version, rest, ok := counted(rest)
			if !ok {
				return
			}
			b = rest
			text := strings.TrimSpace(printable(name + " " + version))
			if field == "language" {
				i.Language = strings.Trim(i.Language+", "+text, ", ")
			} else {
				i.Tools = append(i.Tools, text)
			}
		}
	}
}

// guess says which language a module without such a section is of.
func guess(m *meter.Module) string {
	has := func(name string) bool {
		_, ok := m.Export(name)
		return ok
	}
	switch {
	case slices.ContainsFunc(m.Imports, func(i meter.Import) bool { return i.Module == "env" && i.Name == "abort" }), has("__new") && has("__pin"),
		slices.ContainsFunc(m.Names, func(s string) bool { return strings.HasPrefix(s, "~lib/") }):
		return "AssemblyScript, it seems"
	case slices.ContainsFunc(m.Names, func(s string) bool { return strings.HasPrefix(s, "runtime.") }):
		return "Go, it seems"
	case slices.ContainsFunc(m.Imports, func(i meter.Import) bool { return i.Name == "poll_oneoff" }):
		return "Go, it seems"
	}
	return ""
}

// printable is a text as it may stand on a terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 || r == 0xfffd {
			return '?'
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
}
