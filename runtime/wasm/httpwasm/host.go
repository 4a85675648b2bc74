package httpwasm

import (
	"wasmgate/runtime/fault"
	"wasmgate/runtime/wasm"
)

const (
	// logFuel is what a line costs besides its bytes, whether it is kept or not: about 5 µs, so that a flood of lines uses up
	// the guest's fuel and not the gateway's time.
	logFuel = 10_000
	// fuelPerByte is what a guest may use for each byte of a body that it reads, beside wasm.Limits.Fuel: parsers take some
	// ten units, regular expressions more. It comes to 30 ms for a MiB.
	fuelPerByte = 64
	// maxSets and maxSetBytes bound the fields that a guest sets in one call: their memory is the exchange's.
	maxSets     = 1024
	maxSetBytes = 256 << 10
)

// hostModule is what guests import as http_handler.
func hostModule() wasm.HostModule {
	m := wasm.HostModule{Name: hostName}
	add := func(name, params, results string, call func(g *guest, a []uint64)) {
		m.Functions = append(m.Functions, wasm.HostFunction{
			Name: name, Params: types(params), Results: types(results),
			Call: func(in *wasm.Instance, a []uint64) {
				g := guestOf(in)
				if g.x == nil {
					in.Failf(fault.PluginTrap, "%s: there is no request while the module starts", name)
				}
				call(g, a)
			},
		})
	}
	always := func(name, params, results string, fuel int64, call func(g *guest, a []uint64)) {
		m.Functions = append(m.Functions, wasm.HostFunction{
			Name: name, Params: types(params), Results: types(results), Fuel: fuel,
			Call: func(in *wasm.Instance, a []uint64) { call(guestOf(in), a) },
		})
	}
	always("enable_features", "i", "i", 0, enableFeatures)
	always("get_config", "ii", "i", 0, func(g *guest, a []uint64) { a[0] = g.put("get_config", a[0], a[1], g.plugin.options.Config) })
	always("log", "iii", "", logFuel, logLine)
	always("log_enabled", "i", "i", 0, logEnabled)
	add("get_method", "ii", "i", func(g *guest, a []uint64) { a[0] = g.put("get_method", a[0], a[1], g.x.Request.Method) })
	add("set_method", "ii", "", setMethod)
	add("get_uri", "ii", "i", getURI)
	add("set_uri", "ii", "", setURI)
	add("get_protocol_version", "ii", "i", getProtocolVersion)
	add("get_source_addr", "ii", "i", getSourceAddr)
	add("get_header_names", "iii", "I", getHeaderNames)
	add("get_header_values", "iiiii", "I", getHeaderValues)
	add("set_header_value", "iiiii", "", func(g *guest, a []uint64) { g.setField("set_header_value", a, false) })
	add("add_header_value", "iiiii", "", func(g *guest, a []uint64) { g.setField("add_header_value", a, true) })
	add("remove_header", "iii", "", removeHeader)
	add("read_body", "iii", "I", readBody)
	add("write_body", "iii", "", writeBody)
	add("get_status_code", "", "i", getStatusCode)
	add("set_status_code", "i", "", setStatusCode)
	return m
}

// trap ends the guest's call: it did what the ABI does not allow.
func (g *guest) trap(format string, args ...any) { g.in.Failf(fault.PluginTrap, format, args...) }

// bad ends the guest's call: it said what no message can have.
func (g *guest) bad(format string, args ...any) { g.in.Failf(fault.PluginAnswer, format, args...) }

// memory returns n bytes at ptr, or ends the guest's call.
func (g *guest) memory(name string, ptr, n uint64) []byte {
	b, ok := g.in.Bytes(uint32(ptr), uint32(n)) //nolint:gosec // an i32 is in the low half
	if !ok {
		g.trap("%s: %d bytes at 0x%x are not in the guest's memory", name, uint32(n), uint32(ptr)) //nolint:gosec // see above
	}
	return b
}

// put writes v if it fits, and returns its length in any case.
func (g *guest) put(name string, ptr, limit uint64, v []byte) uint64 {
	if n := uint64(len(v)); n > 0 && n <= uint64(uint32(limit)) { //nolint:gosec // an i32 is in the low half
		g.in.Charge(int64(n / 8)) //nolint:gosec // a message's part
		copy(g.memory(name, ptr, n), v)
	}
	return uint64(len(v))
}

// requestOpen says whether the request can be changed still. At the end changes mean nothing.
func (g *guest) requestOpen(name string) bool {
	switch g.phase {
	case phaseRequest:
		return true
	case phaseResponse:
		g.trap("%s: the request has been sent: it can be changed in handle_request only", name)
	}
	return false
}

// enableFeatures is enable_features(features).
func enableFeatures(g *guest, a []uint64) {
	f := features(a[0]) & supported //nolint:gosec // an i32 is in the low half
	switch {
	case g.x == nil:
		g.always |= f
		a[0] = uint64(g.always)
		return
	case g.phase == phaseRequest:
		g.features |= f
	}
	a[0] = uint64(g.features)
}

// level is a log_level as package wasm has it.
func level(v uint64) (l uint32, ok bool) {
	n := int32(v) //nolint:gosec // an i32 is in the low half
	if n >= levelNone {
		return 0, false
	}
	return uint32(max(n, -1) + 1), true //nolint:gosec // from 0 to 3
}

// logLine is log(level, ptr, len).
func logLine(g *guest, a []uint64) {
	text := g.memory("log", a[1], a[2])
	if l, ok := level(a[0]); ok {
		g.plugin.line(g.in, l, text, 0)
	}
}

// logEnabled is log_enabled(level).
func logEnabled(g *guest, a []uint64) {
	l, ok := level(a[0])
	if a[0] = 0; ok && l >= g.plugin.report.Level() {
		a[0] = 1
	}
}

// readBody is read_body(kind, ptr, limit).
func readBody(g *guest, a []uint64) {
	kind := uint32(a[0])   //nolint:gosec // an i32 is in the low half
	if uint32(a[2]) == 0 { //nolint:gosec // see above
		g.trap("read_body: into a buffer of no bytes")
	}
	dst := g.memory("read_body", a[1], a[2])
	switch {
	case kind > kindResponse:
		g.trap("read_body: unknown body %d", kind)
	case g.phase == phaseOver:
		a[0] = eof
	case kind == kindRequest && g.phase == phaseRequest && g.features&bufferRequest != 0:
		a[0] = g.read(&g.request, dst)
	case kind == kindRequest && g.phase == phaseRequest:
		a[0] = g.readOn(&g.request, dst)
	case kind == kindRequest && g.features&bufferRequest == 0:
		g.trap("read_body: the request has been sent")
	case kind == kindResponse && g.phase == phaseResponse && g.features&bufferResponse == 0:
		g.trap("read_body: the answer's body is to be had with the feature buffer_response only, which handle_request must enable")
	case kind == kindResponse && g.phase == phaseResponse:
		a[0] = g.read(&g.response, dst)
	default:
		a[0] = eof
	}
	n := int64(uint32(a[0])) //nolint:gosec // the length is in the low half
	g.in.Grant(n * fuelPerByte)
	g.in.Charge(n / 8)
}

// writeBody is write_body(kind, ptr, len).
func writeBody(g *guest, a []uint64) {
	kind := uint32(a[0]) //nolint:gosec // an i32 is in the low half
	b := g.memory("write_body", a[1], a[2])
	g.in.Charge(int64(len(b) / 8))
	switch kind {
	case kindRequest:
		if g.requestOpen("write_body") {
			g.write(&g.request, b)
		}
	case kindResponse:
		if g.phase == phaseRequest {
			g.answer.wrote = true
		}
		if g.phase != phaseOver {
			g.write(&g.response, b)
		}
	default:
		g.trap("write_body: unknown body %d", kind)
	}
}
