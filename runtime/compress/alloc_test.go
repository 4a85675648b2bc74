//go:build !race

package compress

import (
	"testing"

	"wasmgate/runtime/netloop"
)

func TestEncodingAgainAllocatesLittle(t *testing.T) {
	onLoop(t, func(task *netloop.Task, p *Pools) {
		data := records(20_000)
		for c, most := range map[Coding]float64{Gzip: 0, Brotli: 0, Zstd: 3} {
			in, e, r := cut(data, 4000), Encoder{}, &Rules{Pools: p}
			if n := testing.AllocsPerRun(50, func() {
				in.read = 0
				e.Begin(task.Loop(), r, c, in, true)
				for !e.Done() {
					if _, err := e.Next(task); err != nil {
						t.Fatal(err)
					}
				}
				e.Close()
			}); n > most {
				t.Errorf("%s: %v allocations", c, n)
			}
		}
	})
}
