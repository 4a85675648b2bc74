package telemetry

import (
	"encoding/binary"
	"math"
	"sort"
	"sync/atomic"
)

// bounds are the upper bounds of the classic histograms' buckets, in nanoseconds: from a fast answer of a neighbour to a
// request timeout. They are fixed, so that figures of different gateways and versions can be added up.
var bounds = [...]int64{250e3, 500e3, 1e6, 2500e3, 5e6, 10e6, 25e6, 50e6, 100e6, 250e6, 500e6, 1e9, 2500e6, 5e9, 10e9, 30e9, 60e9}

// The buckets of native (exponential) histograms: of Prometheus's schema 3, which is OpenTelemetry's scale 3. Bucket i is for
// seconds above 2^((i-1)/8) and up to 2^(i/8), so that its ends are 9 % apart.
const (
	schema    = 3
	perOctave = 1 << schema
	least     = -20 * perOctave // up to 2^-20 s, a microsecond, is as good as no time: the zero bucket
	most      = 20 * perOctave  // above 2^20 s, twelve days, there is one more bucket
	natives   = most - least + 1
	// zeroThreshold is the upper end of the zero bucket in seconds.
	zeroThreshold = 1.0 / (1 << 20)
)

// A cell is what the bounds of both kinds divide time into: each lies within one classic bucket and one native one, so that
// a duration is counted once and both histograms can be told. They come in pages, that are there when they are needed.
const (
	cellCount   = natives + 1 + len(bounds)
	cellPage    = 8
	cellPages   = (cellCount + cellPage - 1) / cellPage
	mantissa    = 52
	zeroExpBits = 1023
)

// octave are the mantissas of 2^(j/8), and octaveFrom how many of them are below all numbers with the same first four bits.
var octave, octaveFrom = func() (m [perOctave]uint64, from [16]uint8) {
	for j := range m {
		m[j] = math.Float64bits(math.Exp2(float64(j)/perOctave)) & (1<<mantissa - 1)
	}
	for i := range from {
		from[i] = uint8(sort.Search(perOctave, func(j int) bool { return m[j] >= uint64(i)<<(mantissa-4) }))
	}
	return m, from
}()

// nativeBucket is the native bucket of a duration, between least and most+1.
func nativeBucket(ns int64) int {
	bits := math.Float64bits(float64(ns) * 1e-9)
	m := bits & (1<<mantissa - 1)
	j := int(octaveFrom[m>>(mantissa-4)])
	if j < perOctave && octave[j] < m { // at most one bound lies among them
		j++
	}
	return min(max((int(bits>>mantissa)-zeroExpBits)*perOctave+j, least), most+1)
}

// classicFrom are the classic buckets in which the native ones begin, counted from least.
var classicFrom = func() (from [natives + 1]uint8) {
	for i := range from {
		lower := math.Exp2(float64(i-1+least) / perOctave)
		if i == 0 {
			lower = 0
		}
		from[i] = uint8(sort.Search(len(bounds), func(c int) bool { return float64(bounds[c])*1e-9 > lower }))
	}
	return from
}()

// place is a duration's native bucket, counted from least, and its classic one.
func place(ns int64) (native, classic int) {
	native = nativeBucket(ns) - least
	classic = int(classicFrom[native])
	if classic < len(bounds) && ns > bounds[classic] { // at most one bound lies within
		classic++
	}
	return native, classic
}

// histogram counts durations. One loop writes it; anybody may read it.
type histogram struct {
	pages     [cellPages]atomic.Pointer[[cellPage]atomic.Uint64]
	sum       atomic.Int64 // nanoseconds
	exemplars atomic.Pointer[[len(bounds) + 1]exemplar]
}

func (h *histogram) observe(ns int64) {
	ns = max(ns, 0) // a clock that was set back
	native, classic := place(ns)
	// Each bound begins another cell, of whichever kind it is.
	cell := native + classic
	page := h.pages[cell/cellPage].Load()
	if page == nil {
		page = new([cellPage]atomic.Uint64)
		h.pages[cell/cellPage].Store(page)
	}
	page[cell%cellPage].Add(1)
	if ns > 0 {
		h.sum.Add(ns)
	}
}

// exemplar is a request of a bucket that has a trace. One loop writes it; who reads looks whether it was changed meanwhile.
type exemplar struct {
	changes                           atomic.Uint64 // odd while it is being written
	traceFirst, traceLast, span, took atomic.Uint64
	wall                              atomic.Int64
}

// example notes down which trace tells of a duration that was observed. wall is Unix nanoseconds.
func (h *histogram) example(ns int64, trace [16]byte, span [8]byte, wall int64) {
	list := h.exemplars.Load()
	if list == nil {
		list = new([len(bounds) + 1]exemplar)
		h.exemplars.Store(list)
	}
	ns = max(ns, 0)
	_, classic := place(ns)
	e := &list[classic]
	e.changes.Add(1)
	e.traceFirst.Store(binary.BigEndian.Uint64(trace[:8]))
	e.traceLast.Store(binary.BigEndian.Uint64(trace[8:]))
	e.span.Store(binary.BigEndian.Uint64(span[:]))
	e.took.Store(uint64(ns))
	e.wall.Store(wall)
	e.changes.Add(1)
}

// traced is an exemplar as read. The zero value is none.
type traced struct {
	trace [16]byte
	span  [8]byte
	took  int64 // nanoseconds
	wall  int64 // Unix nanoseconds
}

// read returns what was written last. One that is being written again and again is left out: there will be another.
func (e *exemplar) read() (t traced) {
	for range 4 {
		before := e.changes.Load()
		if before == 0 {
			return traced{}
		}
		binary.BigEndian.PutUint64(t.trace[:8], e.traceFirst.Load())
		binary.BigEndian.PutUint64(t.trace[8:], e.traceLast.Load())
		binary.BigEndian.PutUint64(t.span[:], e.span.Load())
		t.took, t.wall = int64(e.took.Load()), e.wall.Load()
		if before%2 == 0 && e.changes.Load() == before {
			return t
		}
	}
	return traced{}
}

// totals is a histogram as read, or several added up.
type totals struct {
	native  [natives + 1]uint64
	classic [len(bounds) + 1]uint64 // not cumulative; the last is for what is longer than every bound
	sum     int64
	traced  [len(bounds) + 1]traced // the latest of each classic bucket
}

func (t *totals) add(h *histogram) {
	if h == nil {
		return
	}
	for i := range h.pages {
		page := h.pages[i].Load()
		if page == nil {
			continue
		}
		for j := range page {
			if n := page[j].Load(); n > 0 {
				b := &cellBuckets[i*cellPage+j]
				t.native[b.native] += n
				t.classic[b.classic] += n
			}
		}
	}
	t.sum += h.sum.Load()
	if list := h.exemplars.Load(); list != nil {
		for i := range list {
			if e := list[i].read(); e.wall > t.traced[i].wall {
				t.traced[i] = e
			}
		}
	}
}

// atOnce adds what took no time.
func (t *totals) atOnce(n uint64) {
	t.native[0] += n
	t.classic[0] += n
}

func (t *totals) count() (n uint64) {
	for _, c := range t.classic {
		n += c
	}
	return n
}

// cellBuckets are the two buckets of each cell.
var cellBuckets = func() (list [cellPages * cellPage]struct{ native, classic uint16 }) {
	for native := range classicFrom {
		last := len(bounds)
		if native < natives {
			last = int(classicFrom[native+1])
		}
		for classic := int(classicFrom[native]); classic <= last; classic++ {
			list[native+classic].native, list[native+classic].classic = uint16(native), uint16(classic)
		}
	}
	return list
}()
