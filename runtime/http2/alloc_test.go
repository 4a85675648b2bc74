//go:build linux && !wasmgate_portable && !race

package http2

import (
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"runtime"
	"testing"
	"time"

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
		// The target in two parts, and one HEADERS frame.
		if n := float64(after.Mallocs-before.Mallocs) / rounds; n > 4 {
			t.Errorf("a request allocates %.1f times", n)
		} else {
			t.Logf("%.1f allocations", n)
		}
	})
}

// TestServerAllocations has a client that allocates nothing ask again and again.
func TestServerAllocations(t *testing.T) {
	var q http1.Request
	var a http1.Response
	a.Status = 200
	a.Add("Content-Type", "text/plain")
	a.Add("X-Of-Ours", "something")
	body := []byte("hello\n")
	s := open(t, Options{}, func(task *netloop.Task, r *Request) {
		q.Reset()
		if r.Fill(&q, nil) != nil {
			t.Error("no request")
		}
		r.SetWriteDeadline(task.Loop().Now() + int64(patience))
		r.Head(&a, http1.ResponseOut{Framing: http1.Framing{Kind: http1.Length, Length: int64(len(body))}})
		r.Add(body)
		r.End(nil)
		_ = r.Flush(task)
	})
	v := s.visit()
	v.ask(1, true, "user-agent", "test", "x-own", "value")
	v.answered(1)
	block := v.block(":method", "GET", ":scheme", "http", ":authority", "h", ":path", "/", "user-agent", "test", "x-own", "value")
	out := append([]byte{0, 0, byte(len(block)), byte(http2.FrameHeaders), byte(http2.FlagHeadersEndHeaders | http2.FlagHeadersEndStream), 0, 0, 0, 0}, block...)
	in, id := make([]byte, 4096), uint32(1)
	round := func() {
		id += 2
		binary.BigEndian.PutUint32(out[5:], id)
		_, _ = v.conn.Write(out)
		for n := 0; !bytes.HasSuffix(in[:n], body); {
			more, err := v.conn.Read(in[n:])
			if n += more; err != nil {
				t.Fatal(err)
			}
		}
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
	if n := float64(after.Mallocs-before.Mallocs) / rounds; n > 1.1 { // the Framer's HEADERS frame
		t.Errorf("a request allocates %.1f times", n)
	} else {
		t.Logf("%.2f allocations", n)
	}
}

// TestIdleServerConnectionsAreSmall measures what a connection costs that has answered a request and waits, beside its socket.
func TestIdleServerConnectionsAreSmall(t *testing.T) {
	const clients, most = 300, 7 << 10
	s := open(t, Options{}, hello)
	var visitors []*visitor
	heap := func() int {
		var m runtime.MemStats
		runtime.GC()
		runtime.GC()
		runtime.ReadMemStats(&m)
		return int(m.HeapAlloc) // the stacks of tasks are the loop's, and used by all
	}
	s.visit().works(1)
	<-s.conns
	before := heap()
	for range clients {
		v := s.visit()
		v.works(1)
		visitors = append(visitors, &visitor{&peer{conn: v.conn}}) // what it needs for frames is given up
	}
	resting := make(chan bool)
	for range clients {
		c := <-s.conns
		for begun := time.Now(); ; {
			s.group.Loop(0).Post(func() { resting <- c.reader == nil })
			if <-resting {
				break
			}
			if time.Since(begun) > patience {
				t.Fatal("it does not rest")
			}
		}
	}
	each := (heap() - before) / clients
	t.Logf("an idle connection holds %d bytes", each)
	if each > most {
		t.Errorf("an idle connection holds %d bytes, more than %d", each, most)
	}
	runtime.KeepAlive(visitors)
	runtime.KeepAlive(s)
}
