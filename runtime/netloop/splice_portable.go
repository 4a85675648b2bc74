//go:build !linux || wasmgate_portable

package netloop

// SpliceTo passes on to dst what can be read from the connection. On Linux it returns nil and nil when there is nothing
// more to read, so that the connection can become idle (OnEvent); here it waits for more, and returns only with an error.
//
// readErr is io.EOF when the peer has ended its side, and otherwise what reading failed with, ErrDeadline past the read
// deadline; writeErr is what writing to dst failed with. Bytes that were read before readErr have been written. Only
// one task at a time may read from the connection and write to dst, which must be of the same loop; the opposite
// direction is another task's.
func (c *Conn) SpliceTo(t *Task, dst *Conn, f *Flow) (readErr, writeErr error) {
	b := t.loop.Buffer()
	defer t.loop.Recycle(b)
	for {
		n, err := c.Read(t, b)
		if err != nil {
			return err, nil
		}
		m, err := dst.Write(t, b[:n])
		f.moved(c, dst, m)
		if err != nil {
			return nil, err
		}
	}
}

// OnReset has fn run on the loop once, should the connection fail while nobody reads from it: its peer has sent a reset,
// or is gone. Only Linux tells; here a failure shows when something is written.
func (c *Conn) OnReset(func(*Conn)) {}

func (c *Conn) unsent() int { return 0 }
