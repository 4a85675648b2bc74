package netloop

import (
	"net/netip"
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
