package compress

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"runtime"
	"testing"

	"wasmgate/runtime/http1"
	"wasmgate/runtime/netloop"
)

var encodings = []Coding{Gzip, Brotli, Zstd}

func TestWhatIsEncodedCanBeDecoded(t *testing.T) {
	onLoop(t, func(task *netloop.Task, p *Pools) {
		var e Encoder
		for _, c := range encodings {
			for v := range levels {
				for _, size := range []int{0, 1, 999, 70_000, 300_000} {
					for _, piece := range []int{100, 16 << 10, 1 << 20} {
						if size/piece > 5000 {
							continue
						}
						data := records(size)
						for _, hand := range []int{0, 1, 1 << 20} {
							in := cut(data, piece)
							in.atHand = hand
							name := fmt.Sprintf("%s %d: %d bytes in pieces of %d, %d at hand", c, v, size, piece, hand)
							e.Begin(task.Loop(), &Rules{Level: v, Pools: p}, c, in, hand == 1)
							out, err := all(task, &e)
							if err != nil {
								t.Fatalf("%s: %v", name, err)
							}
							if e.In != int64(size) || e.Out != int64(len(out)) {
								t.Errorf("%s: in %d, out %d of %d", name, e.In, e.Out, len(out))
							}
							if again, err := e.Next(task); err != io.EOF || len(again) > 0 {
								t.Errorf("%s: behind the end %q, %v", name, again, err)
							}
							e.Close()
							if got, err := decoded(c, out); err != nil || !bytes.Equal(got, data) {
								t.Errorf("%s: %d bytes, %v", name, len(got), err)
							}
							if size == 300_000 && hand != 1 && len(out) > size/3 {
								t.Errorf("%s: %d bytes came out", name, len(out))
							}
						}
					}
				}
			}
		}
		if s := p.of(task.Loop()); s.encoding != 0 {
			t.Errorf("%d bytes are in use still", s.encoding)
		}
	})
}

// TestPiecesAreNotHeldBack: whatever goes into a body that flushes is out, and can be decoded, before the next has come.
func TestPiecesAreNotHeldBack(t *testing.T) {
	onLoop(t, func(task *netloop.Task, p *Pools) {
		for _, c := range encodings {
			in := &pieces{}
			for i := range 20 {
				in.list = append(in.list, fmt.Appendf(nil, "data: %d\n\n", i))
			}
			in.atHand = 3 // those may go together
			e := Encoder{}
			e.Begin(task.Loop(), &Rules{Pools: p}, c, in, true)
			var out []byte
			for !e.Done() {
				before, waited := in.read, in.waited
				data, err := e.Ready()
				if err == nil && len(data) == 0 {
					data, err = e.Next(task)
				}
				if err != nil {
					t.Fatal(err)
				}
				if out = append(out, data...); in.waited > waited+1 {
					t.Fatalf("%s: it waited for a further piece with %d in it", c, before)
				}
				if e.Done() {
					break
				}
				got, _ := decoded(c, out)
				if want := bytes.Join(in.list[:in.read], nil); in.read > 3 && in.waited == waited && !bytes.Equal(got, want) {
					t.Fatalf("%s: after %d pieces there is %q", c, in.read, got)
				}
			}
			e.Close()
			if got, err := decoded(c, out); err != nil || !bytes.Equal(got, bytes.Join(in.list, nil)) {
				t.Errorf("%s: %q, %v", c, got, err)
			}
		}
	})
}

func TestBodiesWithALengthAreNotFlushed(t *testing.T) {
	onLoop(t, func(task *netloop.Task, p *Pools) {
		e, in := Encoder{}, cut(records(10_000), 10)
		e.Begin(task.Loop(), &Rules{Pools: p}, Gzip, in, false)
		out, err := all(task, &e)
		e.Close()
		if whole := encoded(t, Gzip, records(10_000)); err != nil || len(out) > len(whole)+len(whole)/4 {
			t.Errorf("%d bytes instead of about %d, %v", len(out), len(whole), err)
		}
	})
}

func TestErrorsOfTheSourceEndTheBody(t *testing.T) {
	onLoop(t, func(task *netloop.Task, p *Pools) {
		for _, c := range encodings {
			broken := errors.New("cut off")
			e, in := Encoder{}, cut(records(100_000), 1000)
			in.err = broken
			e.Begin(task.Loop(), &Rules{Pools: p}, c, in, true)
			_, err := all(task, &e)
			if !errors.Is(err, broken) || e.Done() {
				t.Errorf("%s: %v, done %v", c, err, e.Done())
			}
			e.Close()
			e.Close()
		}
		if s := p.of(task.Loop()); s.encoding != 0 {
			t.Errorf("%d bytes are in use still", s.encoding)
		}
	})
}

func TestTrailersPassButDigests(t *testing.T) {
	onLoop(t, func(task *netloop.Task, p *Pools) {
		e, in := Encoder{}, cut(records(1000), 100)
		in.trailers.Add("X-Sum", "1")
		in.trailers.Add("Repr-Digest", "sha-256=:AA==:")
		e.Begin(task.Loop(), &Rules{Pools: p}, Gzip, in, true)
		if _, err := all(task, &e); err != nil {
			t.Fatal(err)
		}
		if got := fieldsOf(e.Trailers()); got != "X-Sum: 1" {
			t.Errorf("the trailers are %s", got)
		}
		e.Close()
	})
}

func TestWholeBodies(t *testing.T) {
	onLoop(t, func(task *netloop.Task, p *Pools) {
		for _, c := range encodings {
			var e Encoder
			out := e.AppendAll(task, &Rules{Pools: p}, c, []byte("x"), records(20_000))
			if e.In != 20_000 || e.Out != int64(len(out)-1) {
				t.Errorf("%s: in %d, out %d", c, e.In, e.Out)
			}
			e.Close()
			if got, err := decoded(c, out[1:]); out[0] != 'x' || err != nil || !bytes.Equal(got, records(20_000)) {
				t.Errorf("%s: %d bytes, %v", c, len(got), err)
			}
		}
	})
}

// TestEncodersAreBounded: beyond the memory that they may take answers are not compressed any more.
func TestEncodersAreBounded(t *testing.T) {
	onLoop(t, func(task *netloop.Task, p *Pools) {
		p.SetMemory(3 * weights[Gzip][Fast])
		r, lent := rules(p), []*Encoder{}
		for {
			req, resp := message(t, "200 OK\nContent-Type: text/html", "GET")
			a := accepts("gzip")
			c := r.Answer(task.Loop(), &a, &req, &resp)
			if _, varies := resp.GetID(http1.FieldVary); !varies {
				t.Error("no Vary")
			}
			if c == Identity {
				if _, has := resp.GetID(http1.FieldContentEncoding); has {
					t.Error("an answer that is not encoded says that it is")
				}
				break
			}
			e := &Encoder{}
			e.Begin(task.Loop(), r, c, cut(nil, 1), true)
			if lent = append(lent, e); len(lent) > 3 {
				t.Fatal("there is no end")
			}
		}
		if len(lent) != 3 {
			t.Errorf("%d encoders", len(lent))
		}
		for _, e := range lent {
			e.Close()
		}
		if s := p.of(task.Loop()); s.encoding != 0 || !p.hasRoom(task.Loop(), Gzip, Fast) {
			t.Errorf("%d bytes are in use still", s.encoding)
		}
		p.SetMemory(1)
		if !p.hasRoom(task.Loop(), Brotli, Best) {
			t.Error("not even one")
		}
	})
}

// TestEncodersTakeWhatIsSaid measures what the bounds reckon with.
func TestEncodersTakeWhatIsSaid(t *testing.T) {
	onLoop(t, func(task *netloop.Task, _ *Pools) {
		data := records(2 << 20)
		for _, c := range encodings {
			for v := range levels {
				const n = 6
				p, list := NewPools(1), [n]Encoder{}
				before := heap()
				for i := range list {
					e := &list[i]
					e.Begin(task.Loop(), &Rules{Level: v, Pools: p}, c, cut(data, 16<<10), true)
					for e.In < int64(len(data))-20_000 {
						if _, err := e.Next(task); err != nil {
							t.Fatal(err)
						}
					}
					e.out = nil
				}
				took := (heap() - before) / n
				t.Logf("%s, level %d: %d KiB", c, v, took>>10)
				if took > weights[c][v] || took < weights[c][v]/4 {
					t.Errorf("%s, level %d takes %d bytes, and is said to take %d", c, v, took, weights[c][v])
				}
				for i := range list {
					list[i].Close()
				}
			}
		}
	})
}

func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

func TestIdleEncodersAreFew(t *testing.T) {
	onLoop(t, func(task *netloop.Task, p *Pools) {
		var list [40]Encoder
		for i := range list {
			list[i].Begin(task.Loop(), &Rules{Level: Best, Pools: p}, Brotli, cut(nil, 1), true)
		}
		for i := range list {
			list[i].Close()
		}
		s := p.of(task.Loop())
		if n := len(s.encoders[Brotli][Best]); n == 0 || int64(n)*weights[Brotli][Best] > keepIdle || s.idle != int64(n)*weights[Brotli][Best] {
			t.Errorf("%d are kept, %d bytes", n, s.idle)
		}
	})
}

func TestCodersStartNoGoroutines(t *testing.T) {
	onLoop(t, func(task *netloop.Task, p *Pools) {
		before := runtime.NumGoroutine()
		for _, c := range encodings {
			e := Encoder{}
			e.Begin(task.Loop(), &Rules{Pools: p}, c, cut(records(400_000), 16<<10), true)
			if _, err := e.Next(task); err != nil {
				t.Fatal(err)
			}
			d := Decoder{}
			d.Begin(task.Loop(), &Limits{Pools: p}, c, cut(encoded(t, c, records(400_000)), 1000), 0)
			if _, err := d.Next(task); err != nil {
				t.Fatal(err)
			}
			if n := runtime.NumGoroutine(); n > before {
				t.Errorf("%s: %d goroutines, and %d before", c, n, before)
			}
			e.Close()
			d.Close()
		}
	})
}
