package http3

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quic-go/quic-go"

	"wasmgate/runtime/http1"
	"wasmgate/runtime/netloop"
)

// Options are what a Listener needs.
type Options struct {
	Group *netloop.Group
	// TLS is the configuration of handshakes; its GetConfigForClient and GetCertificate are asked for each of them, from a
	// goroutine where they may block. The protocol (h3) and the least version (TLS 1.3) are set here.
	TLS *tls.Config
	// Accept is called for each connection, on the loop that serves it, before its first request.
	Accept func(*Conn) Handler
	// Failed is told of handshakes that fail; it is called from any goroutine, and may be nil.
	Failed   func(*Failure)
	Settings Settings
}

// Settings are what may change while a Listener is open (Listener.Use). Zero values are the defaults.
type Settings struct {
	Limits           *http1.Limits // of heads and trailers; http1.DefaultLimits
	HeadTimeout      time.Duration // from the first byte of a stream to the end of its head, and from the handshake to the first stream; 10 s
	IdleTimeout      time.Duration // that a connection may be without a request; 60 s
	HandshakeTimeout time.Duration // 10 s. It bounds connections that are opened from then on, as the following do
	MaxStreams       int           // requests of a connection that are under way; 100
	StreamWindow     int           // bytes of a request's body that its reader has not taken; 256 KiB
	ConnWindow       int           // bytes of all bodies of a connection; 1 MiB
	Nuisance         int           // frames in a second that move nothing forward; a reset before an answer is as five of them; 1000
}

func (s Settings) withDefaults() *Settings {
	if s.Limits == nil {
		s.Limits = &http1.DefaultLimits
	}
	for _, d := range [...]struct {
		at    *time.Duration
		value time.Duration
	}{{&s.HeadTimeout, 10 * time.Second}, {&s.IdleTimeout, 60 * time.Second}, {&s.HandshakeTimeout, 10 * time.Second}} {
		if *d.at <= 0 {
			*d.at = d.value
		}
	}
	for _, d := range [...]struct {
		at    *int
		value int
	}{{&s.MaxStreams, 100}, {&s.StreamWindow, 256 << 10}, {&s.ConnWindow, 1 << 20}, {&s.Nuisance, 1000}} {
		if *d.at <= 0 {
			*d.at = d.value
		}
	}
	return &s
}

// Bounds that are no options.
const (
	// silence is how long a peer may be silent before it is taken for gone; it is asked for a sign of life after half of that.
	silence = 30 * time.Second
	// crowd is how many handshakes may be under way before clients have to prove their address.
	crowd = 64
)

// Listener accepts connections on a UDP socket. Its methods may be called from any goroutine but a loop's; Drain, Resume and Close
// by one at a time.
type Listener struct {
	options    Options
	settings   atomic.Pointer[Settings]
	socket     *net.UDPConn
	transport  *quic.Transport
	quic       *quic.Listener
	loops      []loopState
	handshakes atomic.Int32
	draining   atomic.Bool
	accepted   atomic.Uint64
	refused    atomic.Uint64
	retried    atomic.Uint64
	open       atomic.Int64

	mu     sync.Mutex
	conns  map[*Conn]struct{} // admitted, and not gone
	closed bool               // it ends when there are none
	ending bool
	gone   chan struct{} // closed when it has ended
}

// Stats are a listener's counters since it was opened.
type Stats struct {
	Accepted uint64 // connections whose handshake was begun
	Refused  uint64 // turned away because of the group's limit
	Retried  uint64 // had to prove their address before anything was done for them (Retry)
	Open     int
}

// Listen opens a UDP socket ("host:port", ":port") and accepts connections on it.
func Listen(address string, o Options) (*Listener, error) {
	at, err := net.ResolveUDPAddr("udp", address)
	if err != nil {
		return nil, err
	}
	socket, err := net.ListenUDP("udp", at)
	if err != nil {
		return nil, err
	}
	ln := &Listener{
		options: o, socket: socket, loops: make([]loopState, len(o.Group.Loops())), conns: map[*Conn]struct{}{}, gone: make(chan struct{}),
	}
	ln.Use(o.Settings)
	_ = os.Setenv(quietBuffers, "true") // it never fails for such a name; a warning in the wrong place would be no harm
	ln.transport = &quic.Transport{Conn: socket, ConnContext: ln.admit, VerifySourceAddress: ln.crowded}
	if ln.quic, err = ln.transport.Listen(ln.tls(), ln.config(ln.settings.Load())); err != nil {
		_ = socket.Close()
		return nil, fmt.Errorf("quic: %w", err)
	}
	go ln.accept(ln.quic)
	return ln, nil
}

// wantedBuffer is what quic-go asks the kernel for, for each direction of a socket.
const wantedBuffer = 7 << 20

// quietBuffers keeps quic-go, as its documentation says, from writing to standard error that buffers are small: Buffers tells.
const quietBuffers = "QUIC_GO_DISABLE_RECEIVE_BUFFER_WARNING"

// Buffers are the sizes of a socket's buffers in bytes, as the kernel has granted them, and how much was asked for.
type Buffers struct{ Receive, Send, Wanted int }

// Small says that bursts of packets will be lost. What is not known counts as large.
func (b Buffers) Small() bool {
	return b.Receive > 0 && b.Receive < b.Wanted || b.Send > 0 && b.Send < b.Wanted
}

// Buffers tells of the listener's socket.
func (ln *Listener) Buffers() Buffers {
	receive, send := ln.buffers()
	return Buffers{receive, send, wantedBuffer}
}

// Addr is the address that the listener has, with the port that was chosen if it was asked for port 0.
func (ln *Listener) Addr() netip.AddrPort { return addrPort(ln.socket.LocalAddr()) }

// Stats returns the listener's counters.
func (ln *Listener) Stats() Stats {
	return Stats{Accepted: ln.accepted.Load(), Refused: ln.refused.Load(), Retried: ln.retried.Load(), Open: int(ln.open.Load())}
}

// Use puts other settings in force.
func (ln *Listener) Use(s Settings) { ln.settings.Store(s.withDefaults()) }

// tls is the configuration of handshakes.
func (ln *Listener) tls() *tls.Config {
	adapt := func(c *tls.Config) *tls.Config {
		c = c.Clone()
		c.NextProtos, c.MinVersion = []string{"h3"}, tls.VersionTLS13
		return c
	}
	c := adapt(ln.options.TLS)
	choose := c.GetConfigForClient
	c.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		if c, ok := hello.Context().Value(connKey{}).(*Conn); ok {
			c.wanted.Store(&hello.ServerName)
		}
		if choose == nil {
			return nil, nil //nolint:nilnil // as crypto/tls has it: the configuration is that which asks
		}
		chosen, err := choose(hello)
		if err != nil || chosen == nil {
			return chosen, err
		}
		return adapt(chosen), nil
	}
	return c
}

// config is QUIC's part of settings.
func (ln *Listener) config(s *Settings) *quic.Config {
	return &quic.Config{
		HandshakeIdleTimeout: s.HandshakeTimeout / 2, // quic-go's word: the whole handshake may take twice as long
		MaxIdleTimeout:       silence, KeepAlivePeriod: silence / 2,
		InitialStreamReceiveWindow: uint64(min(s.StreamWindow, 64<<10)), MaxStreamReceiveWindow: uint64(s.StreamWindow), //nolint:gosec // positive
		InitialConnectionReceiveWindow: uint64(min(s.ConnWindow, 256<<10)), MaxConnectionReceiveWindow: uint64(s.ConnWindow), //nolint:gosec // positive
		MaxIncomingStreams: int64(s.MaxStreams), MaxIncomingUniStreams: maxUniStreams, RequireStreamCreditRelease: true,
		GetConfigForClient: func(*quic.ClientInfo) (*quic.Config, error) {
			now := ln.settings.Load()
			if now == s {
				return ln.config(s), nil
			}
			return ln.config(now), nil
		},
	}
}

var errFull = errors.New("too many connections (limits.connections)")

// connKey finds the Conn in quic-go's context.
type connKey struct{}

// admit counts a connection whose first packet has come.
func (ln *Listener) admit(ctx context.Context, from *quic.ClientInfo) (context.Context, error) {
	id, l, ok := ln.options.Group.Admit()
	if !ok {
		ln.refused.Add(1)
		return nil, errFull
	}
	c := &Conn{listener: ln, loop: l, id: id, most: ln.settings.Load().MaxStreams}
	c.streams.Store(1)
	ln.mu.Lock()
	ln.conns[c] = struct{}{}
	ln.mu.Unlock()
	ln.accepted.Add(1)
	ln.open.Add(1)
	ln.handshakes.Add(1)
	context.AfterFunc(ctx, func() {
		if c.fate.CompareAndSwap(fateHandshake, fateFailed) {
			ln.handshakes.Add(-1)
			ln.failed(c, from.RemoteAddr, context.Cause(ctx))
			ln.forget(c)
		}
	})
	return context.WithValue(ctx, connKey{}, c), nil
}

// crowded says whether clients have to prove their address.
func (ln *Listener) crowded(net.Addr) bool {
	if ln.handshakes.Load() < crowd {
		return false
	}
	ln.retried.Add(1)
	return true
}

// accept is the listener's goroutine.
func (ln *Listener) accept(from *quic.Listener) {
	for {
		q, err := from.Accept(context.Background())
		if err != nil {
			return
		}
		c, ok := q.Context().Value(connKey{}).(*Conn)
		if !ok {
			continue
		}
		c.quic = q
		if !c.fate.CompareAndSwap(fateHandshake, fateAccepted) {
			continue // it has gone already
		}
		ln.handshakes.Add(-1)
		go c.serve()
	}
}

// forget ends the counting of a connection.
func (ln *Listener) forget(c *Conn) {
	ln.mu.Lock()
	delete(ln.conns, c)
	ln.endIfOver()
	ln.mu.Unlock()
	ln.open.Add(-1)
	ln.options.Group.Dismiss(c.loop)
}

// endIfOver gives the socket back when it is of no use any more. ln.mu is held.
func (ln *Listener) endIfOver() {
	if ln.closed && len(ln.conns) == 0 {
		ln.end()
	}
}

// end gives the socket back, once. ln.mu is held.
func (ln *Listener) end() {
	if ln.ending {
		return
	}
	ln.ending = true
	go func() {
		_ = ln.transport.Close()
		_ = ln.socket.Close()
		close(ln.gone)
	}()
}

// Drain stops accepting, and has each connection end once the requests under way have: their clients are told to send no
// more. Done tells when all have gone; Resume changes one's mind before.
func (ln *Listener) Drain() {
	ln.draining.Store(true)
	_ = ln.quic.Close() // handshakes under way fail
	ln.mu.Lock()
	defer ln.mu.Unlock()
	ln.closed = true
	for c := range ln.conns {
		if c.fate.Load() == fateServed { // others find out themselves
			c.goAway()
		}
	}
	ln.endIfOver()
}

// Resume accepts again, after Drain, on the same socket: those that were told to go still do. It says whether there was
// one left; if not, Done is closed soon, and the address is free.
func (ln *Listener) Resume() (bool, error) {
	ln.mu.Lock()
	defer ln.mu.Unlock()
	if ln.ending {
		return false, nil
	}
	q, err := ln.transport.Listen(ln.tls(), ln.config(ln.settings.Load()))
	if err != nil {
		return true, err
	}
	ln.quic, ln.closed = q, false
	ln.draining.Store(false)
	go ln.accept(q)
	return true, nil
}

// Done is closed when the listener, after Drain or Close, has no connection any more, and no socket.
func (ln *Listener) Done() <-chan struct{} { return ln.gone }

// Close ends everything at once, and returns when the socket is closed. Requests that are under way on loops find that their
// client has gone.
func (ln *Listener) Close() {
	ln.draining.Store(true)
	_ = ln.quic.Close()
	ln.mu.Lock()
	ln.closed = true
	var wait sync.WaitGroup
	for c := range ln.conns {
		if c.fate.Load() >= fateAccepted {
			wait.Go(func() { _ = c.quic.CloseWithError(errNoError, "") })
		}
	}
	ln.mu.Unlock()
	wait.Wait()
	ln.mu.Lock()
	ln.end()
	ln.mu.Unlock()
	<-ln.gone
}
