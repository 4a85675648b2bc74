package compress

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/zstd"

	"wasmgate/runtime/fault"
	"wasmgate/runtime/netloop"
)

var decodings = []Coding{Gzip, Brotli, Zstd, Deflate}

func TestBodiesAreDecoded(t *testing.T) {
	onLoop(t, func(task *netloop.Task, p *Pools) {
		l := &Limits{Size: 4 << 20, Ratio: 100, Pools: p}
		for _, c := range decodings {
			for _, size := range []int{0, 1, 5000, 300_000} {
				for _, piece := range []int{1, 100, 16 << 10} {
					if size > 5000 && piece == 1 {
						continue
					}
					data := records(size)
					out, d, err := decode(task, l, c, cut(encoded(t, c, data), piece), fault.Upstream)
					if err != nil || !bytes.Equal(out, data) {
						t.Fatalf("%s: %d bytes in pieces of %d: %d came, %v", c, size, piece, len(out), err)
					}
					if !d.Done() {
						t.Errorf("%s: %d bytes are not done", c, size)
					}
				}
			}
		}
		if s := p.of(task.Loop()); s.decoding != 0 {
			t.Errorf("%d bytes are in use still", s.decoding)
		}
	})
}

func TestFormsOfCodings(t *testing.T) {
	data := records(3000)
	twice := func(c Coding) []byte { return append(encoded(t, c, data[:1000]), encoded(t, c, data[1000:])...) }
	onLoop(t, func(task *netloop.Task, p *Pools) {
		for name, c := range map[string]struct {
			coding Coding
			body   []byte
		}{
			"two members of gzip":     {Gzip, twice(Gzip)},
			"two frames of zstd":      {Zstd, twice(Zstd)},
			"a frame that is skipped": {Zstd, append([]byte{0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3}, encoded(t, Zstd, data)...)},
			"deflate alone":           {Deflate, plainDeflate(t, data)},
		} {
			out, _, err := decode(task, &Limits{Pools: p}, c.coding, cut(c.body, 7), fault.Client)
			if err != nil || !bytes.Equal(out, data) {
				t.Errorf("%s: %d bytes, %v", name, len(out), err)
			}
		}
	})
}

// TestNothingIsNothing: an empty body is one in any coding, since some send it so.
func TestNothingIsNothing(t *testing.T) {
	onLoop(t, func(task *netloop.Task, p *Pools) {
		for _, c := range decodings {
			if out, d, err := decode(task, &Limits{Pools: p}, c, cut(nil, 1), fault.Client); len(out) > 0 || err != nil || !d.Done() {
				t.Errorf("%s: %q, %v", c, out, err)
			}
		}
	})
}

func TestBrokenBodies(t *testing.T) {
	data := records(30_000)
	onLoop(t, func(task *netloop.Task, p *Pools) {
		for _, c := range decodings {
			whole := encoded(t, c, data)
			other := append([]byte(nil), whole...)
			other[len(other)/2] ^= 0x55
			for name, body := range map[string][]byte{
				"no such thing":  []byte("<html>\r\n</html>"),
				"cut off":        whole[:len(whole)/2],
				"without an end": whole[:len(whole)-1],
				"one byte":       whole[:1],
				"more behind it": append(append([]byte(nil), whole...), "and more"...),
				"changed":        other,
			} {
				if name == "changed" && c == Brotli {
					continue // it has no checksum: some changes make another body
				}
				for _, from := range []fault.Source{fault.Client, fault.Upstream} {
					_, d, err := decode(task, &Limits{Pools: p}, c, cut(body, 1000), from)
					want := map[fault.Source]int{fault.Client: 400, fault.Upstream: 502}[from]
					fe := fault.From(err)
					if err == nil || fe.Kind != fault.Malformed || fe.Source != from || fe.Status != want || !strings.Contains(fe.Detail, "in the coding "+c.String()) {
						t.Errorf("%s, %s: %v (status %d)", c, name, err, fe.Status)
					}
					if again, err2 := d.Next(task); len(again) > 0 || err2 != err {
						t.Errorf("%s, %s: then %v", c, name, err2)
					}
				}
			}
		}
	})
}

func TestErrorsOfTheSourceStayWhatTheyAre(t *testing.T) {
	gone := &fault.Error{Kind: fault.ClientClosed, Source: fault.Client}
	onLoop(t, func(task *netloop.Task, p *Pools) {
		for _, c := range decodings {
			for n := range 4 {
				whole := encoded(t, c, records(30_000))
				in := cut(whole[:n*len(whole)/4], 100)
				in.err = gone
				if _, _, err := decode(task, &Limits{Pools: p}, c, in, fault.Client); !errors.Is(err, gone) {
					t.Errorf("%s, %d quarters: %v", c, n, err)
				}
			}
		}
	})
}

// TestBombs: bodies that grow a thousandfold and more end early, by what came out and by how little went in.
func TestBombs(t *testing.T) {
	zeros := make([]byte, 16<<20)
	onLoop(t, func(task *netloop.Task, p *Pools) {
		for _, c := range decodings {
			bomb := encoded(t, c, zeros)
			for _, from := range []fault.Source{fault.Client, fault.Upstream} {
				status := map[fault.Source]int{fault.Client: 413, fault.Upstream: 502}[from]
				for _, l := range []struct {
					limits Limits
					most   int
					says   string
				}{
					{Limits{Ratio: 100, Pools: p}, ratioFree + 100*len(bomb), "100 times"},
					{Limits{Size: 2 << 20, Pools: p}, 2 << 20, "2097152 bytes"},
				} {
					out, _, err := decode(task, &l.limits, c, cut(bomb, 100), from)
					fe := fault.From(err)
					if err == nil || fe.Kind != fault.BodyTooLarge || fe.Source != from || fe.Status != status || !strings.Contains(fe.Detail, l.says) {
						t.Errorf("%s: %v (status %d)", c, err, fe.Status)
					}
					if len(out) > l.most {
						t.Errorf("%s: %d bytes came out of it, of at most %d", c, len(out), l.most)
					}
				}
			}
			out, _, err := decode(task, &Limits{Size: 1 << 30, Pools: p}, c, cut(bomb, 16<<10), fault.Client)
			if err != nil || len(out) != len(zeros) {
				t.Errorf("%s, allowed: %d bytes, %v", c, len(out), err)
			}
		}
		// A little may grow as much as it likes.
		if _, _, err := decode(task, &Limits{Ratio: 2, Pools: p}, Gzip, cut(encoded(t, Gzip, zeros[:ratioFree]), 100), fault.Client); err != nil {
			t.Error(err)
		}
	})
}

// TestWindowsAreBounded: memory is granted by the window that a body begins with, and no part of it may have a larger one.
func TestWindowsAreBounded(t *testing.T) {
	data := records(100_000)
	withWindow := func(n int) []byte {
		var b bytes.Buffer
		w, err := zstd.NewWriter(&b, zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(n))
		if err != nil {
			t.Fatal(err)
		}
		_, err = w.Write(data)
		if err == nil {
			err = w.Flush() // otherwise its length is known, and the window no larger
		}
		if err := errors.Join(err, w.Close()); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	onLoop(t, func(task *netloop.Task, p *Pools) {
		for _, c := range []struct {
			windows []int
			ok      bool
		}{
			{[]int{8 << 20}, true}, {[]int{16 << 20}, false}, {[]int{64 << 10, 1 << 20}, true}, {[]int{64 << 10, 2 << 20}, false}, {[]int{2 << 20, 64 << 10}, true},
		} {
			var body []byte
			for _, n := range c.windows {
				body = append(body, withWindow(n)...)
			}
			_, _, err := decode(task, &Limits{Pools: p}, Zstd, cut(body, 1000), fault.Client)
			if (err == nil) != c.ok {
				t.Errorf("windows of %d: %v", c.windows, err)
			}
		}
	})
}

func TestBrotliWindow(t *testing.T) {
	for bits := 10; bits <= 24; bits++ {
		var b bytes.Buffer
		w := brotli.NewWriterOptions(&b, brotli.WriterOptions{Quality: 5, LGWin: bits})
		_, err := w.Write(records(100_000))
		if err == nil {
			err = w.Flush() // otherwise it takes a smaller one
		}
		if err != nil {
			t.Fatal(err)
		}
		if got := brotliWindow(b.Bytes()[0]); got != bits {
			t.Errorf("2^%d is read as 2^%d", bits, got)
		}
	}
}

func TestDecodersAreBounded(t *testing.T) {
	onLoop(t, func(task *netloop.Task, p *Pools) {
		p.SetMemory(3 * inflateWeight)
		var list [4]Decoder
		for i := range list {
			d := &list[i]
			d.Begin(task.Loop(), &Limits{Pools: p}, Gzip, cut(encoded(t, Gzip, records(100_000)), 100), fault.Client)
			_, err := d.Next(task)
			if i < 3 && err != nil {
				t.Fatal(err)
			}
			if fe := fault.From(err); i == 3 && (err == nil || fe.Kind != fault.Overloaded || fe.Status != 503) {
				t.Errorf("one too many: %v", err)
			}
		}
		for i := range list {
			list[i].Close()
			list[i].Close()
		}
		if s := p.of(task.Loop()); s.decoding != 0 || len(s.decoders[Gzip]) != 3 {
			t.Errorf("%d bytes are in use still, %d decoders are kept", s.decoding, len(s.decoders[Gzip]))
		}
	})
}

// TestDecodersTakeWhatIsSaid measures what the bounds reckon with.
func TestDecodersTakeWhatIsSaid(t *testing.T) {
	data := records(9 << 20)
	onLoop(t, func(task *netloop.Task, _ *Pools) {
		for _, c := range decodings {
			const n = 4
			p, list := NewPools(1), [n]Decoder{}
			p.SetMemory(1 << 30)
			body := encoded(t, c, data)
			before := heap()
			for i := range list {
				d := &list[i]
				d.Begin(task.Loop(), &Limits{Pools: p}, c, cut(body, 16<<10), fault.Client)
				for d.Out < int64(len(data))-100_000 {
					if _, err := d.Next(task); err != nil {
						t.Fatal(err)
					}
				}
			}
			took := (heap() - before) / n
			t.Logf("%s: %d KiB of %d", c, took>>10, list[0].weight>>10)
			if took > list[0].weight || took < list[0].weight/8 {
				t.Errorf("%s takes %d bytes, and is said to take %d", c, took, list[0].weight)
			}
			for i := range list {
				list[i].Close()
			}
		}
	})
}

func TestNothingIsTakenBeforeItIsWanted(t *testing.T) {
	onLoop(t, func(task *netloop.Task, p *Pools) {
		in := cut(encoded(t, Gzip, records(1000)), 100)
		l, d := &Limits{Pools: p}, Decoder{}
		if n := testing.AllocsPerRun(100, func() {
			d.Begin(task.Loop(), l, Gzip, in, fault.Client)
			if data, err := d.Ready(); len(data) > 0 || err != nil || d.Done() {
				t.Fatal("something is ready")
			}
			d.Close()
		}); n != 0 || in.read != 0 || p.of(task.Loop()).decoding != 0 {
			t.Errorf("%v allocations, %d pieces", n, in.read)
		}
	})
}

// TestStreamsComeThrough: what an encoder has flushed comes out before anything else has come.
func TestStreamsComeThrough(t *testing.T) {
	onLoop(t, func(task *netloop.Task, p *Pools) {
		for _, c := range encodings {
			events := &pieces{}
			for i := range 10 {
				events.list = append(events.list, fmt.Appendf(nil, "data: %d\n\n", i))
			}
			e, d := Encoder{}, Decoder{}
			e.Begin(task.Loop(), &Rules{Pools: p}, c, events, true)
			d.Begin(task.Loop(), &Limits{Pools: p}, c, &e, fault.Upstream)
			for i := range events.list {
				var got []byte
				for len(got) < len(events.list[i]) {
					data, err := d.Next(task)
					if err != nil {
						t.Fatal(err)
					}
					got = append(got, data...)
				}
				if !bytes.Equal(got, events.list[i]) || events.read > i+1 {
					t.Errorf("%s: %q after %d events, want the one %d", c, got, events.read, i)
				}
			}
			d.Close()
			e.Close()
		}
	})
}

func TestEncoded(t *testing.T) {
	for _, c := range []struct {
		fields string
		want   Coding
	}{
		{"", Identity}, {"Content-Encoding: gzip", Gzip}, {"content-encoding: X-GZIP", Gzip}, {"Content-Encoding: br", Brotli},
		{"Content-Encoding: zstd", Zstd}, {"Content-Encoding: deflate", Deflate}, {"Content-Encoding: identity", Identity},
		{"Content-Encoding: compress", Identity}, {"Content-Encoding: gzip, br", Identity},
		{"Content-Encoding: gzip\nContent-Encoding: br", Identity}, {"Content-Encoding: gzip\nContent-Range: bytes 0-1/2", Identity},
	} {
		_, resp := message(t, strings.TrimSpace("200 OK\nX: y\n"+c.fields), "GET")
		if got := Encoded(&resp.Head); got != c.want {
			t.Errorf("%q: %s", c.fields, got)
		}
	}
}

// FuzzDecoder feeds bytes from outside to the decoders. They must end, within their limits, and leave nothing lent.
func FuzzDecoder(f *testing.F) {
	for i, c := range decodings {
		f.Add(uint8(i), uint8(100), encoded(f, c, records(2000)))
		f.Add(uint8(i), uint8(3), encoded(f, c, make([]byte, 200_000)))
	}
	f.Add(uint8(3), uint8(9), plainDeflate(f, records(2000)))
	group, err := netloop.New(netloop.Options{Loops: 1})
	if err != nil {
		f.Fatal(err)
	}
	group.Start()
	f.Cleanup(group.Close)
	f.Fuzz(func(t *testing.T, which, piece uint8, data []byte) {
		c, done := decodings[int(which)%len(decodings)], make(chan bool, 1)
		group.Loop(0).Post(func() {
			group.Loop(0).Go(func(task *netloop.Task) {
				ok := false
				defer func() { done <- ok }()
				p := NewPools(1)
				l := &Limits{Size: 1 << 20, Ratio: 1000, Pools: p}
				out, _, err := decode(task, l, c, cut(data, int(piece)+1), fault.Client)
				if len(out) > 1<<20 || err != nil && fault.From(err).Status == 500 {
					t.Errorf("%s: %d bytes, %v", c, len(out), err)
				}
				if s := p.of(task.Loop()); s.decoding != 0 {
					t.Errorf("%s: %d bytes are lent still", c, s.decoding)
				}
				if c == Gzip && err == nil && len(data) > 0 { // the standard library must agree
					z, e := gzip.NewReader(bytes.NewReader(data))
					var want []byte
					if e == nil {
						want, e = io.ReadAll(z)
					}
					if e != nil || !bytes.Equal(out, want) {
						t.Errorf("%d bytes, and elsewhere %d, %v", len(out), len(want), e)
					}
				}
				ok = true
			})
		})
		if !<-done {
			t.Fatalf("%s: the decoder panicked", c)
		}
	})
}
