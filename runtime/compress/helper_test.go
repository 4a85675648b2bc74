package compress

import (
	"bytes"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"fmt"
	"io"
	"math/rand"
	"testing"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/zstd"

	"wasmgate/runtime/fault"
	"wasmgate/runtime/http1"
	"wasmgate/runtime/netloop"
)

// pieces is a body.Source of so many pieces, of which the first few are at hand.
type pieces struct {
	list     [][]byte
	atHand   int
	err      error // instead of the end
	trailers http1.Head
	read     int
	waited   int // how often somebody would have had to wait
}

func (p *pieces) Done() bool            { return p.err == nil && p.read == len(p.list) }
func (p *pieces) Trailers() *http1.Head { return &p.trailers }

func (p *pieces) Next(*netloop.Task) ([]byte, error) {
	if p.read >= p.atHand {
		p.waited++
	}
	return p.take()
}

func (p *pieces) take() ([]byte, error) {
	if p.read == len(p.list) {
		if p.err != nil {
			return nil, p.err
		}
		return nil, io.EOF
	}
	p.read++
	return p.list[p.read-1], nil
}

func (p *pieces) Ready() ([]byte, error) {
	if p.read >= p.atHand || p.read == len(p.list) {
		return nil, nil
	}
	return p.take()
}

// cut makes a source of pieces of at most n bytes.
func cut(data []byte, n int) *pieces {
	p := &pieces{}
	for len(data) > 0 {
		k := min(n, len(data))
		p.list, data = append(p.list, data[:k]), data[k:]
	}
	return p
}

// onLoop runs fn on a task of a loop.
func onLoop(tb testing.TB, fn func(t *netloop.Task, p *Pools)) {
	tb.Helper()
	g, err := netloop.New(netloop.Options{Loops: 1})
	if err != nil {
		tb.Fatal(err)
	}
	g.Start()
	defer g.Close()
	done := make(chan bool, 1)
	g.Loop(0).Post(func() {
		g.Loop(0).Go(func(t *netloop.Task) {
			ok := false
			defer func() { done <- ok }()
			fn(t, NewPools(1))
			ok = true
		})
	})
	if !<-done {
		tb.Fatal("the task ended early")
	}
}

// records are lines like those of an API: they shrink to a fifth.
func records(n int) []byte {
	r, b := rand.New(rand.NewSource(1)), bytes.Buffer{}
	for i := 0; b.Len() < n; i++ {
		fmt.Fprintf(&b, `{"id":%d,"name":"user %x","email":"u%d@example.com","active":%v},`+"\n", i, r.Int31(), r.Intn(99999), r.Intn(2) == 0)
	}
	return b.Bytes()[:n]
}

// encoded is data in a coding, by another implementation where there is one.
func encoded(tb testing.TB, c Coding, data []byte) []byte {
	tb.Helper()
	var b bytes.Buffer
	var w io.WriteCloser
	var err error
	switch c {
	case Gzip:
		w = gzip.NewWriter(&b)
	case Deflate:
		w = zlib.NewWriter(&b)
	case Brotli:
		w = brotli.NewWriterLevel(&b, 5)
	case Zstd:
		w, err = zstd.NewWriter(&b, zstd.WithEncoderConcurrency(1))
	default:
		return data
	}
	if err == nil {
		_, err = w.Write(data)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		tb.Fatal(err)
	}
	return b.Bytes()
}

// decoded is what is in a coding; what has come so far, if it is not whole.
func decoded(c Coding, data []byte) ([]byte, error) {
	in := io.Reader(bytes.NewReader(data))
	var err error
	switch c {
	case Gzip:
		in, err = gzip.NewReader(in)
	case Brotli:
		in = brotli.NewReader(in)
	case Zstd:
		var z *zstd.Decoder
		if z, err = zstd.NewReader(io.MultiReader(in), zstd.WithDecoderConcurrency(1)); err == nil {
			defer z.Close()
			in = z
		}
	}
	if err != nil {
		return nil, err
	}
	return io.ReadAll(in)
}

// plainDeflate is deflate without zlib's frame.
func plainDeflate(tb testing.TB, data []byte) []byte {
	var b bytes.Buffer
	w, err := flate.NewWriter(&b, 6)
	if err == nil {
		_, err = w.Write(data)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		tb.Fatal(err)
	}
	return b.Bytes()
}

// source is what the encoder and the decoder are.
type source interface {
	Next(t *netloop.Task) ([]byte, error)
	Ready() ([]byte, error)
	Done() bool
}

// all reads a source to its end, as a server does.
func all(t *netloop.Task, s source) (out []byte, err error) {
	for !s.Done() {
		data, err := s.Ready()
		if err == nil && len(data) == 0 && !s.Done() {
			data, err = s.Next(t)
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return out, err
		}
		out = append(out, data...)
	}
	return out, nil
}

// decode is what a Decoder makes of bytes that come in pieces.
func decode(t *netloop.Task, l *Limits, c Coding, p *pieces, from fault.Source) (out []byte, d *Decoder, err error) {
	d = &Decoder{}
	d.Begin(t.Loop(), l, c, p, from)
	out, err = all(t, d)
	if d.Out < int64(len(out)) {
		panic("more has come than is counted")
	}
	d.Close()
	return out, d, err
}
