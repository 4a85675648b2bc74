//go:build !linux || wasmgate_portable

package netloop

import (
	"bytes"
	"net"
	"sync/atomic"
	"testing"
)

// counted counts the reads of a connection.
type counted struct {
	net.Conn
	reads atomic.Int32
}

func (c *counted) Read(b []byte) (int, error) {
	c.reads.Add(1)
	return c.Conn.Read(b)
}

// TestAMessageThatIsNotWholeIsReadInFewPieces: who takes what there is and waits for the rest without a task, as it is done with
// a TLS hello, does not get it byte by byte. What is read ahead of a connection that was read to its end is one byte again.
func TestAMessageThatIsNotWholeIsReadInFewPieces(t *testing.T) {
	g := start(t, Options{Loops: 1})
	sent := bytes.Repeat([]byte("0123456789"), 180)
	got, size := make(chan []byte, 1), make(chan int, 1)
	var reads *counted
	addr := listen(t, g, func(c *Conn) {
		reads = &counted{Conn: c.nc}
		c.nc = reads
		var have []byte
		var wait func(*Conn)
		wait = func(c *Conn) {
			b := make([]byte, 16<<10)
			for {
				n, err := c.TryRead(b)
				if have = append(have, b[:n]...); n == 0 || err != nil {
					break
				}
			}
			if len(have) < len(sent) {
				c.OnEvent(wait)
				return
			}
			got <- have
			c.Go(func(task *Task, c *Conn) {
				if n, err := c.Read(task, b); n != 1 || err != nil {
					t.Errorf("%d bytes, %v", n, err)
				}
				got <- nil
				c.OnEvent(func(c *Conn) {
					size <- len(c.ahead)
					_ = c.Close()
				})
			})
		}
		c.OnEvent(wait)
	})
	client := dial(t, addr)
	_, _ = client.Write(sent)
	if have := <-got; !bytes.Equal(have, sent) {
		t.Errorf("%d bytes came, which are not those that were sent", len(have))
	}
	if n := reads.reads.Load(); n > 4 { // TCP may cut it
		t.Errorf("%d reads of %d bytes that were sent at once", n, len(sent))
	}
	_, _ = client.Write([]byte("a"))
	<-got
	_, _ = client.Write([]byte("bcdef"))
	if n := <-size; n != 1 {
		t.Errorf("%d bytes were read ahead of an idle connection", n)
	}
}
