package compress

import (
	"testing"

	"wasmgate/runtime/netloop"
)

// BenchmarkEncode compresses a MiB like an API's answer: what the README has of it.
func BenchmarkEncode(b *testing.B) {
	data := records(1 << 20)
	for _, c := range encodings {
		for v, name := range [levels]string{"fast", "default", "best"} {
			b.Run(c.String()+"/"+name, func(b *testing.B) {
				onLoop(b, func(t *netloop.Task, p *Pools) {
					in, e, r := cut(data, 16<<10), Encoder{}, &Rules{Level: Level(v), Pools: p}
					b.SetBytes(int64(len(data)))
					for b.Loop() {
						in.read = 0
						e.Begin(t.Loop(), r, c, in, false)
						if _, err := all(t, &e); err != nil {
							b.Fatal(err)
						}
						b.ReportMetric(float64(e.In)/float64(e.Out), "times-smaller")
						e.Close()
					}
				})
			})
		}
	}
}

// BenchmarkDecode is the way back.
func BenchmarkDecode(b *testing.B) {
	data := records(1 << 20)
	for _, c := range decodings {
		body := encoded(b, c, data)
		b.Run(c.String(), func(b *testing.B) {
			onLoop(b, func(t *netloop.Task, p *Pools) {
				in, d := cut(body, 16<<10), Decoder{}
				b.SetBytes(int64(len(data)))
				for b.Loop() {
					in.read = 0
					d.Begin(t.Loop(), &Limits{Pools: p}, c, in, 0)
					if _, err := all(t, &d); err != nil {
						b.Fatal(err)
					}
					d.Close()
				}
			})
		})
	}
}
