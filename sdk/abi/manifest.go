package abi

import (
	"errors"
	"math"
)

// The records of a manifest.
const (
	ManifestPhases         uint16 = 1  // u32: bits
	ManifestRequestHeader  uint16 = 2  // string: the next request slot
	ManifestResponseHeader uint16 = 3  // string: the next response slot
	ManifestUpstream       uint16 = 4  // string: the next upstream id
	ManifestCall           uint16 = 5  // string: the next id of an upstream to call; from minor version 1, like all that follow
	ManifestStore          uint16 = 6  // string: the next store's id
	ManifestRequestBody    uint16 = 7  // u32 mode, u32 bits, u32 max
	ManifestResponseBody   uint16 = 8  // u32 mode, u32 bits, u32 max
	ManifestTick           uint16 = 9  // u32: milliseconds
	ManifestMetric         uint16 = 10 // u32 type, string name, string description, u32 n, n × f64 bound
)

// The bits of ManifestPhases.
const (
	WantsRequest         uint32 = 1 << 0
	WantsResponse        uint32 = 1 << 1 // of every exchange
	WantsMarkedResponses uint32 = 1 << 2 // of those whose context word is not 0

	knownPhases = WantsRequest | WantsResponse | WantsMarkedResponses
)

// The modes of a body.
const (
	BodyNone     uint32 = 0 // the record is not there
	BodyBuffered uint32 = 1 // held whole before the phase's call
	BodyStreamed uint32 = 2 // piece by piece, after the phase's call
)

// The bits of a body's record.
const (
	BodyOnDemand uint32 = 1 << 0 // only of messages for which OpWantBody asks
	BodyPartial  uint32 = 1 << 1 // buffered: of a longer body the beginning will do

	knownBodyBits = BodyOnDemand | BodyPartial
)

// Body is what a guest wants of a message's body.
type Body struct {
	Mode, Bits uint32
	Max        uint32 // bytes; buffered
}

// The types of a metric.
const (
	MetricCounter   uint32 = 0 // adds what is not negative
	MetricGauge     uint32 = 1 // is set
	MetricHistogram uint32 = 2 // observes
	MetricUpDown    uint32 = 3 // adds
)

// Metric is a metric of a guest's own.
type Metric struct {
	Type              uint32
	Name, Description string
	Bounds            []float64 // of a histogram's buckets, ascending; none: the host's own
}

// Manifest is a guest's answer to configure: what it wants and what it may choose.
type Manifest struct {
	Phases          uint32
	RequestHeaders  []string // lower case; a name's place is its slot
	ResponseHeaders []string // their slots follow the request's
	Upstreams       []string // an upstream's place is its id

	Calls                     []string // the upstreams that it calls; a place is an id of its own
	Stores                    []string // likewise
	RequestBody, ResponseBody Body
	Tick                      uint32   // milliseconds; 0: none
	Metrics                   []Metric // a place is an id
}

// AppendPhases appends a record that says which phases are wanted; without one it is the request phase.
func AppendPhases(dst []byte, bits uint32) []byte { return append32(dst, ManifestPhases, bits) }

// AppendTick appends a record that asks for ticks.
func AppendTick(dst []byte, milliseconds uint32) []byte {
	return append32(dst, ManifestTick, milliseconds)
}

// AppendBody appends ManifestRequestBody or ManifestResponseBody.
func AppendBody(dst []byte, record uint16, b Body) []byte {
	return append32(dst, record, b.Mode, b.Bits, b.Max)
}

func append32(dst []byte, record uint16, numbers ...uint32) []byte {
	dst = appendHeader(dst, record, 4*len(numbers))
	for _, n := range numbers {
		dst = le.AppendUint32(dst, n)
	}
	return dst
}

// AppendName appends a record that declares a name: ManifestRequestHeader, ManifestResponseHeader, ManifestUpstream,
// ManifestCall or ManifestStore.
func AppendName[T Text](dst []byte, record uint16, name T) []byte {
	return appendText(appendHeader(dst, record, 4+len(name)), name)
}

// AppendMetricRecord appends ManifestMetric.
func AppendMetricRecord(dst []byte, m *Metric) []byte {
	dst = appendHeader(dst, ManifestMetric, 16+len(m.Name)+len(m.Description)+8*len(m.Bounds))
	dst = le.AppendUint32(dst, m.Type)
	dst = appendText(appendText(dst, m.Name), m.Description)
	dst = le.AppendUint32(dst, uint32(len(m.Bounds))) //nolint:gosec // see appendHeader
	for _, b := range m.Bounds {
		dst = le.AppendUint64(dst, math.Float64bits(b))
	}
	return dst
}

// AppendManifest appends m.
func AppendManifest(dst []byte, m *Manifest) []byte {
	dst = AppendPhases(dst, m.Phases)
	for _, l := range [...]struct {
		record uint16
		names  []string
	}{
		{ManifestRequestHeader, m.RequestHeaders}, {ManifestResponseHeader, m.ResponseHeaders}, {ManifestUpstream, m.Upstreams},
		{ManifestCall, m.Calls}, {ManifestStore, m.Stores},
	} {
		for _, s := range l.names {
			dst = AppendName(dst, l.record, s)
		}
	}
	if m.RequestBody.Mode != BodyNone {
		dst = AppendBody(dst, ManifestRequestBody, m.RequestBody)
	}
	if m.ResponseBody.Mode != BodyNone {
		dst = AppendBody(dst, ManifestResponseBody, m.ResponseBody)
	}
	if m.Tick != 0 {
		dst = AppendTick(dst, m.Tick)
	}
	for i := range m.Metrics {
		dst = AppendMetricRecord(dst, &m.Metrics[i])
	}
	return dst
}

// ParseManifest reads a manifest and checks it against the bounds. It copies what it keeps.
func ParseManifest(b []byte) (*Manifest, error) {
	if len(b) > MaxManifest {
		return nil, problem("manifest: ", len(b), " bytes, at most ", MaxManifest, " are allowed")
	}
	m := &Manifest{}
	r := records{rest: b}
	for {
		kind, body, ok, err := r.next()
		if err != nil {
			return nil, problem("manifest: ", err)
		}
		if !ok {
			break
		}
		if err := m.record(kind, body); err != nil {
			return nil, problem("manifest: record ", r.n, ": ", err)
		}
	}
	if m.Phases == 0 {
		m.Phases = WantsRequest
	}
	switch {
	case m.RequestBody.Mode != BodyNone && m.Phases&WantsRequest == 0:
		return nil, errors.New("manifest: bodies of requests without the request phase")
	case m.ResponseBody.Mode != BodyNone && m.Phases&^WantsRequest == 0:
		return nil, errors.New("manifest: bodies of answers without the response phase")
	}
	return m, nil
}

func (m *Manifest) record(kind uint16, body []byte) error {
	switch kind {
	case ManifestPhases:
		return m.phases(body)
	case ManifestRequestBody:
		return m.RequestBody.parse(body)
	case ManifestResponseBody:
		return m.ResponseBody.parse(body)
	case ManifestTick:
		if len(body) != 4 || m.Tick != 0 {
			return errors.New("tick: not one number, or said twice")
		}
		if m.Tick = le.Uint32(body); m.Tick < MinTick || m.Tick > MaxTick {
			return problem("tick: ", m.Tick, " ms; it is ", MinTick, " to ", MaxTick)
		}
		return nil
	case ManifestMetric:
		return m.metric(body)
	}
	if kind < ManifestRequestHeader || kind > ManifestStore {
		return problem("unknown kind ", kind)
	}
	name, rest, ok := cutString(body)
	if !ok || len(rest) != 0 || len(name) == 0 || len(name) > MaxHeaderName {
		return problem("kind ", kind, ": the body is not one string of 1 to ", MaxHeaderName, " bytes")
	}
	switch kind {
	case ManifestRequestHeader:
		return declare(&m.RequestHeaders, name)
	case ManifestResponseHeader:
		return declare(&m.ResponseHeaders, name)
	case ManifestCall:
		return add(&m.Calls, name, MaxCalled, " upstreams to call")
	case ManifestStore:
		return add(&m.Stores, name, MaxStores, " stores")
	}
	return add(&m.Upstreams, name, MaxUpstreams, " upstreams")
}

func (m *Manifest) phases(body []byte) error {
	switch {
	case len(body) != 4:
		return problem("phases: body of ", len(body), " bytes, not 4")
	case m.Phases != 0:
		return errors.New("phases: said twice")
	}
	m.Phases = le.Uint32(body)
	if m.Phases == 0 || m.Phases&^knownPhases != 0 {
		return problem("phases: ", m.Phases, "; the known bits make ", knownPhases, ", and one must be set")
	}
	return nil
}

func (b *Body) parse(body []byte) error {
	if len(body) != 12 || b.Mode != BodyNone {
		return errors.New("body: not three numbers, or said twice")
	}
	*b = Body{Mode: le.Uint32(body), Bits: le.Uint32(body[4:]), Max: le.Uint32(body[8:])}
	switch {
	case b.Mode != BodyBuffered && b.Mode != BodyStreamed:
		return problem("body: unknown mode ", b.Mode)
	case b.Bits&^knownBodyBits != 0:
		return problem("body: bits ", b.Bits, "; the known ones make ", knownBodyBits)
	case b.Mode == BodyBuffered && (b.Max == 0 || b.Max > MaxBody):
		return problem("body: ", b.Max, " bytes; it is 1 to ", MaxBody)
	case b.Mode == BodyStreamed && (b.Max != 0 || b.Bits&BodyPartial != 0):
		return errors.New("body: a bound, for a body that is streamed")
	}
	return nil
}

func (m *Manifest) metric(body []byte) error {
	if len(m.Metrics) == MaxMetrics {
		return problem("more than ", MaxMetrics, " metrics")
	}
	errShape := errors.New("metric: the body is not a type, a name, a description and bounds")
	if len(body) < 4 {
		return errShape
	}
	d := Metric{Type: le.Uint32(body)}
	name, rest, ok := cutString(body[4:])
	text, rest, also := cutString(rest)
	if !ok || !also || len(rest) < 4 || uint64(len(rest)-4) != 8*uint64(le.Uint32(rest)) {
		return errShape
	}
	d.Name, d.Description = string(name), string(text)
	for rest = rest[4:]; len(rest) > 0; rest = rest[8:] {
		d.Bounds = append(d.Bounds, math.Float64frombits(le.Uint64(rest)))
	}
	if err := d.check(); err != nil {
		return err
	}
	for i := range m.Metrics {
		if m.Metrics[i].Name == d.Name {
			return problem("metric ", name, ": declared twice")
		}
	}
	m.Metrics = append(m.Metrics, d)
	return nil
}

func (d *Metric) check() error {
	name := []byte(d.Name)
	switch {
	case !metricName(name):
		return problem("metric ", name, ": a name has 1 to ", MaxMetricName, " of a-z, 0-9, '_' and '.', and begins with a letter")
	case d.Type > MetricUpDown:
		return problem("metric ", name, ": unknown type ", d.Type)
	case len(d.Description) > MaxText:
		return problem("metric ", name, ": a description of ", len(d.Description), " bytes")
	case len(d.Bounds) > MaxBounds || len(d.Bounds) > 0 && d.Type != MetricHistogram:
		return problem("metric ", name, ": bounds are for histograms, and at most ", MaxBounds)
	}
	for i, b := range d.Bounds {
		if math.IsNaN(b) || math.IsInf(b, 0) || i > 0 && b <= d.Bounds[i-1] {
			return problem("metric ", name, ": bounds are numbers that ascend")
		}
	}
	return nil
}

func metricName(name []byte) bool {
	if len(name) == 0 || len(name) > MaxMetricName || name[0] < 'a' || name[0] > 'z' {
		return false
	}
	for _, c := range name {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '_' && c != '.' {
			return false
		}
	}
	return true
}

func add(names *[]string, name []byte, most int, what string) error {
	if len(*names) == most {
		return problem("more than ", most, what)
	}
	*names = append(*names, string(name))
	return nil
}

func declare(names *[]string, name []byte) error {
	if len(*names) == MaxSlots {
		return problem("more than ", MaxSlots, " headers of one message")
	}
	for _, c := range name {
		if !token[c] || c >= 'A' && c <= 'Z' {
			return problem("header ", name, ": not a lower-case field name")
		}
	}
	for _, s := range *names {
		if s == string(name) {
			return problem("header ", name, ": declared twice")
		}
	}
	*names = append(*names, string(name))
	return nil
}

// token has the bytes of a field name (RFC 9110, section 5.6.2).
var token = func() (t [256]bool) {
	for c := '0'; c <= '9'; c++ {
		t[c] = true
	}
	for c := 'a'; c <= 'z'; c++ {
		t[c], t[c-'a'+'A'] = true, true
	}
	for _, c := range "!#$%&'*+-.^_`|~" {
		t[c] = true
	}
	return t
}()
