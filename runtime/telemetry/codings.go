package telemetry

import (
	"sync/atomic"

	"wasmgate/runtime/exchange"
)

var (
	mCompressed   = metric{"wasmgate_compression_bytes_total", counter, "Bytes of answers that the gateway has compressed, before (in) and after (out)."}
	mDecompressed = metric{"wasmgate_decompression_bytes_total", counter, "Bytes of bodies that the gateway has decompressed for plugins, before (in) and after (out)."}
)

// codings are the values of the label coding.
var codings = [...]string{"gzip", "br", "zstd", "deflate"}

// codingCells count what content codings did, in and out. They are of one loop, as all cells.
type codingCells [len(codings)][2]atomic.Uint64

func (c *codingCells) add(r *exchange.Recoded) {
	for i, coding := range codings {
		if r.Coding == coding {
			c[i][0].Add(uint64(r.In))
			c[i][1].Add(uint64(r.Out))
		}
	}
}

func (t *Telemetry) codingMetrics(p *page) {
	each := func(m metric, of func(*cells) *codingCells) {
		p.head(m)
		for i, coding := range codings {
			var sums [2]uint64
			for _, r := range t.recorders {
				for k := range sums {
					sums[k] += of(r.cells)[i][k].Load()
				}
			}
			if sums != [2]uint64{} {
				p.count(sums[0], "coding", coding, "at", "in")
				p.count(sums[1], "coding", coding, "at", "out")
			}
		}
	}
	each(mCompressed, func(c *cells) *codingCells { return &c.compressed })
	each(mDecompressed, func(c *cells) *codingCells { return &c.decompressed })
}
