package netloop

import (
	"net/netip"
	"sync/atomic"
	"time"
)

// ListenOptions configure a Listener.
type ListenOptions struct {
	// Accept is called for each new connection, on the loop that owns it from now on. It must not park: it makes the
	// connection idle (Conn.OnEvent) or starts a task (Conn.Go). Required.
	Accept func(*Conn)
	// Refusal is written, as far as the socket takes it, to a connection that is turned away because of Options.MaxConns.
	Refusal []byte
}

// DialOptions configure a connection to a peer.
type DialOptions struct {
	KeepAlive     time.Duration // TCP keep-alive: time until the first probe of a silent connection; 0: none
	ReceiveBuffer int           // the socket's receive buffer in bytes; 0: the operating system's choice
}

// Addr is the address that the listener has, with the port that was chosen if it was asked for port 0.
func (ln *Listener) Addr() netip.AddrPort { return ln.addr }

// ListenerStats are a listener's counters since it was opened.
type ListenerStats struct {
	Accepted uint64
	Refused  uint64 // turned away because of Options.MaxConns or a lack of descriptors
	Open     int    // accepted and open now, also after Close
}

// tally is what a listener counts, on all loops.
type tally struct {
	accepted atomic.Uint64
	refused  atomic.Uint64
	open     atomic.Int64
}

// Stats returns the listener's counters. It may be called from any goroutine.
func (ln *Listener) Stats() ListenerStats {
	return ListenerStats{Accepted: ln.accepted.Load(), Refused: ln.refused.Load(), Open: int(ln.open.Load())}
}

func (ln *Listener) admitted() {
	ln.tally.accepted.Add(1)
	ln.open.Add(1)
}

func (ln *Listener) refuse() {
	ln.tally.refused.Add(1)
	ln.group.refused.Add(1)
}

func (g *Group) forgetListener(ln *Listener) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for i, other := range g.listeners {
		if other == ln {
			g.listeners = append(g.listeners[:i:i], g.listeners[i+1:]...)
			return
		}
	}
}
