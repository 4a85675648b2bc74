package compress

import (
	"io"
	"sync/atomic"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"wasmgate/runtime/netloop"
)

// Pools lends encoders and decoders, which are large. Those of a loop are used by that loop again; what they may take
// together is bounded, for encoders and for decoders. SetMemory may be called from any goroutine, the rest on a loop.
type Pools struct {
	loops []shelf
	most  atomic.Int64 // bytes, for each loop
}

// DefaultMemory is what the encoders in use may take, and again the decoders, in bytes.
const DefaultMemory = 256 << 20

// NewPools makes pools for so many loops.
func NewPools(loops int) *Pools {
	p := &Pools{loops: make([]shelf, loops)}
	p.SetMemory(DefaultMemory)
	return p
}

// SetMemory bounds what the encoders in use of all loops take together, and what the decoders do.
func (p *Pools) SetMemory(bytes int64) { p.most.Store(bytes / int64(len(p.loops))) }

func (p *Pools) of(l *netloop.Loop) *shelf { return &p.loops[l.Index()] }

// shelf is what a loop has.
type shelf struct {
	encoders           [codings][levels][]writer
	decoders           [codings][]reader
	idle               int64 // bytes of those that nobody uses
	encoding, decoding int64 // bytes of those in use
	scratch            []byte
	_                  [64]byte
}

// keepIdle bounds what is kept of a loop's coders that nobody uses, in bytes.
const keepIdle = 16 << 20

// writer is an encoder of a library.
type writer interface {
	io.WriteCloser
	Flush() error
	Reset(io.Writer)
}

// weights is what an encoder takes, in bytes; a test measures it.
var weights = [codings][levels]int64{
	Gzip:   {Fast: 900 << 10, Default: 1200 << 10, Best: 1500 << 10},
	Brotli: {Fast: 1800 << 10, Default: 3800 << 10, Best: 4200 << 10},
	Zstd:   {Fast: 1100 << 10, Default: 2300 << 10, Best: 5200 << 10},
}

// window bounds how far back encoders look, in bytes: a power of two. Their memory is mostly a multiple of it.
const (
	windowBits = 18
	window     = 1 << windowBits
)

// What the levels are in the terms of each library.
var (
	gzipLevels   = [levels]int{Fast: 1, Default: 5, Best: 8} // 9 takes five times as long as 8, for a hundredth less
	brotliLevels = [levels]int{Fast: 2, Default: 4, Best: 5} // 1 compresses each piece for itself, however small
	zstdLevels   = [levels]zstd.EncoderLevel{Fast: zstd.SpeedFastest, Default: zstd.SpeedDefault, Best: zstd.SpeedBetterCompression}
)

func newWriter(c Coding, v Level) writer {
	switch c {
	case Gzip:
		w, err := gzip.NewWriterLevel(nil, gzipLevels[v])
		must(err)
		return w
	case Brotli:
		return brotli.NewWriterOptions(nil, brotli.WriterOptions{Quality: brotliLevels[v], LGWin: windowBits})
	}
	w, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstdLevels[v]), zstd.WithWindowSize(window),
		zstd.WithEncoderConcurrency(1), zstd.WithLowerEncoderMem(true)) // concurrency 1: no goroutines
	must(err)
	return w
}

// must is for errors that only options of ours could cause.
func must(err error) {
	if err != nil {
		panic("compress: " + err.Error())
	}
}

// hasRoom says whether one more encoder may be used.
func (p *Pools) hasRoom(l *netloop.Loop, c Coding, v Level) bool {
	s := p.of(l)
	return s.encoding == 0 || s.encoding+weights[c][v] <= p.most.Load()
}

func (s *shelf) takeWriter(c Coding, v Level, to io.Writer) writer {
	s.encoding += weights[c][v]
	var w writer
	if list := s.encoders[c][v]; len(list) > 0 {
		n := len(list) - 1
		w, s.encoders[c][v] = list[n], list[:n]
		list[n] = nil
		s.idle -= weights[c][v]
	} else {
		w = newWriter(c, v)
	}
	w.Reset(to)
	return w
}

// putWriter keeps an encoder for the next body.
func (s *shelf) putWriter(c Coding, v Level, w writer) {
	s.encoding -= weights[c][v]
	if s.idle+weights[c][v] > keepIdle {
		return
	}
	w.Reset(nil)
	s.idle += weights[c][v]
	s.encoders[c][v] = append(s.encoders[c][v], w)
}
