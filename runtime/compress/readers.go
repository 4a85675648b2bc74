package compress

import (
	"bufio"
	"errors"
	"io"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/flate"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zlib"
	"github.com/klauspost/compress/zstd"
)

// reader is a decoder of a library. Behind the end of the body it reads on only if it says so by an error.
type reader interface {
	io.Reader
	reset(src io.Reader, weight int64) error // may read
	release()
}

// What decoders take beside their window, in bytes; a test measures it.
const (
	inflateWeight = 80 << 10
	brotliWeight  = 512 << 10
	zstdWeight    = 768 << 10
)

// The windows of zstd: what the content coding allows (RFC 9659), and what is granted unasked, so that the parts of a body may
// have different ones.
const (
	zstdWindow      = 8 << 20
	zstdWindowLeast = 1 << 20
)

// keepReader is the largest decoder that is kept, in bytes: what needs more is rare.
const keepReader = 2 << 20

// heft is what the decoder of a body takes, by how the body begins.
func heft(c Coding, begin []byte) int64 {
	switch c {
	case Brotli:
		return brotliWeight + 1<<brotliWindow(begin[0])
	case Zstd:
		w := int64(zstdWindow)
		var h zstd.Header
		if h.Decode(begin) == nil && !h.Skippable {
			w = min(w, max(zstdWindowLeast, int64(h.WindowSize)))
		}
		return zstdWeight + w
	}
	return inflateWeight
}

// brotliWindow reads the size of the window, as a power of two, off a body's first byte (RFC 7932 section 9.1).
func brotliWindow(b byte) int {
	switch {
	case b&1 == 0:
		return 16
	case b>>1&7 != 0:
		return 17 + int(b>>1&7)
	case b>>4&7 == 0:
		return 17
	}
	return 8 + int(b>>4&7)
}

// mayDecode says whether one more decoder may be used.
func (p *Pools) mayDecode(s *shelf, weight int64) bool {
	return s.decoding == 0 || s.decoding+weight <= p.most.Load()
}

func (s *shelf) takeReader(c Coding, weight int64) reader {
	s.decoding += weight
	if list := s.decoders[c]; len(list) > 0 {
		n := len(list) - 1
		r := list[n]
		list[n], s.decoders[c] = nil, list[:n]
		return r
	}
	switch c {
	case Gzip:
		return &gunzip{in: bufio.NewReader(nil)}
	case Deflate:
		return &inflate{in: bufio.NewReader(nil)}
	case Brotli:
		return &unbrotli{}
	}
	z, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true)) // concurrency 1: no goroutines
	must(err)
	return &unzstd{z}
}

// keepReaders is how many decoders of a coding a loop keeps that nobody uses.
const keepReaders = 4

// putReader keeps a decoder for the next body.
func (s *shelf) putReader(c Coding, r reader, weight int64) {
	if s.decoding -= weight; weight <= keepReader && len(s.decoders[c]) < keepReaders {
		r.release()
		s.decoders[c] = append(s.decoders[c], r)
	}
}

// nothing is what decoders that nobody uses read.
type nothing struct{}

func (nothing) Read([]byte) (int, error) { return 0, io.EOF }

type gunzip struct {
	in *bufio.Reader
	z  gzip.Reader
}

func (r *gunzip) reset(src io.Reader, _ int64) error {
	r.in.Reset(src)
	return r.member()
}

// member begins one of the body's members. The library takes a head that ends in its file name for the end.
func (r *gunzip) member() error {
	if err := r.z.Reset(r.in); err == io.EOF {
		return io.ErrUnexpectedEOF
	} else if err != nil {
		return err
	}
	r.z.Multistream(false)
	return nil
}

func (r *gunzip) Read(p []byte) (int, error) {
	n, err := r.z.Read(p)
	switch {
	case err != io.EOF:
		return n, err
	case n > 0:
		return n, nil // the end comes again
	}
	if _, err = r.in.Peek(1); err == nil {
		err = r.member()
	}
	return 0, err
}

func (r *gunzip) release() { r.in.Reset(nothing{}) }

// inflate is deflate as it is sent: in zlib's format, as RFC 9110 section 8.4.1.2 has it, or without.
type inflate struct {
	in    *bufio.Reader
	z     io.ReadCloser // zlib's, once it was used
	plain io.ReadCloser // deflate alone, once it was used
	now   io.Reader
}

func (r *inflate) reset(src io.Reader, _ int64) (err error) {
	r.in.Reset(src)
	begin, err := r.in.Peek(2)
	if len(begin) < 2 {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return err
	}
	if begin[0]&0x0f == 8 && (uint(begin[0])<<8|uint(begin[1]))%31 == 0 {
		if r.z == nil {
			r.z, err = zlib.NewReader(r.in)
		} else {
			err = r.z.(zlib.Resetter).Reset(r.in, nil)
		}
		r.now = r.z
		return err
	}
	if r.plain == nil {
		r.plain = flate.NewReader(r.in)
	} else if err = r.plain.(flate.Resetter).Reset(r.in, nil); err != nil {
		return err
	}
	r.now = r.plain
	return nil
}

func (r *inflate) Read(p []byte) (int, error) {
	n, err := r.now.Read(p)
	if err == io.EOF && r.in.Buffered() > 0 {
		err = errBehind
	}
	return n, err
}

var errBehind = errors.New("bytes behind its end")

func (r *inflate) release() { r.in.Reset(nothing{}) }

type unbrotli struct{ z brotli.Reader }

func (r *unbrotli) reset(src io.Reader, _ int64) error { return r.z.Reset(src) }
func (r *unbrotli) Read(p []byte) (int, error)         { return r.z.Read(p) }
func (r *unbrotli) release()                           { _ = r.z.Reset(nothing{}) }

type unzstd struct{ *zstd.Decoder }

func (r *unzstd) reset(src io.Reader, weight int64) error {
	return r.ResetWithOptions(src, zstd.WithDecoderMaxWindow(uint64(weight-zstdWeight)))
}
func (r *unzstd) release() { _ = r.Reset(nothing{}) }
