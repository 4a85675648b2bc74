//go:build linux && !wasmgate_portable && !race

package http2

import (
	"encoding/binary"
	"io"
	"net"
	"runtime"
	"testing"

	"golang.org/x/net/http2"

	"wasmgate/runtime/http1"
	"wasmgate/runtime/netloop"
)

// TestAllocations sends requests to a server that allocates nothing itself. What is allocated is what package hpack and the
// Framer need: see the package's documentation.
func TestAllocations(t *testing.T) {
	b := newBench(t)
	addr := listen(t, func(nc net.Conn) {
		newPeer(t, nc)
		out := append([]byte{0, 0, 1, byte(http2.FrameHeaders), byte(http2.FlagHeadersEndHeaders), 0, 0, 0, 0, 0x88},
			0, 0, 2, byte(http2.FrameData), byte(http2.FlagDataEndStream), 0, 0, 0, 0, 'o', 'k')
		var head [9]byte
		rest := make([]byte, 16<<10)
		for {
			if _, err := io.ReadFull(nc, head[:]); err != nil {
				return
			}
			n := int(head[0])<<16 | int(head[1])<<8 | int(head[2])
			if _, err := io.ReadFull(nc, rest[:n]); err != nil {
				return
			}
			if http2.FrameType(head[3]) == http2.FrameHeaders {
				id := binary.BigEndian.Uint32(head[5:])
				binary.BigEndian.PutUint32(out[5:], id)
				binary.BigEndian.PutUint32(out[15:], id)
				_, _ = nc.Write(out)
			}
		}
	})
	b.on(func(task *netloop.Task) {
		c, err := b.dial(task, addr, Options{})
		if err != nil {
			t.Error(err)
			return
		}
		r := request(t, get)
		round := func() {
			s, err := c.Open(r, Outgoing{Scheme: "http", Framing: http1.Framing{Kind: http1.NoBody}, End: true})
			if err != nil {
				t.Fatal(err)
			}
			if status, err := s.Head(task, task.Loop().Now()+int64(patience)); status != 200 || err != nil {
				t.Error(status, err)
			}
			for {
				if _, err := s.Next(task, task.Loop().Now()+int64(patience)); err != nil {
					break
				}
			}
			s.Close()
		}
		for range 100 {
			round()
		}
		const rounds = 2000
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		for range rounds {
			round()
		}
		runtime.ReadMemStats(&after)
		// The values of four fields, one unknown name, the target in two parts, and one HEADERS frame.
		if n := float64(after.Mallocs-before.Mallocs) / rounds; n > 9 {
			t.Errorf("a request allocates %.1f times", n)
		} else {
			t.Logf("%.1f allocations", n)
		}
	})
}
