package http3

import (
	"context"
	"crypto/tls"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quic-go/quic-go"

	"wasmgate/runtime/netloop"
)

// Handler serves the requests of a connection. Its methods run on the connection's loop.
type Handler interface {
	// Serve serves one request, in a task of its own; others of the connection are served meanwhile. keep: the connection may
	// carry another one.
	Serve(t *netloop.Task, s *Stream) (keep bool)
	// Close is called when the connection has gone, and none of its requests is under way.
	Close()
}

// Conn is a client's connection. Its exported methods may be called from any goroutine.
type Conn struct {
	listener *Listener
	quic     *quic.Conn
	loop     *netloop.Loop
	id       uint64
	most     int     // requests that may be under way, as the client was told
	handler  Handler // the loop's
	control  *quic.SendStream

	fate     atomic.Int32           // one of the fates
	wanted   atomic.Pointer[string] // the server name that the client has asked for
	idle     *time.Timer
	closing  sync.Once
	parting  sync.Once
	nuisance nuisance
	seen     [streamDecoder + 1]atomic.Bool // unidirectional streams of which there is one each, by type

	mu      sync.Mutex    // of the connection's goroutines; no loop takes it
	next    quic.StreamID // the least number that no stream has had
	leaving bool          // streams from next on are turned away
	streams atomic.Int32  // under way, and one more as long as the connection takes streams
}

// What becomes of a connection that was admitted.
const (
	fateHandshake = iota
	fateFailed
	fateAccepted
	fateServed // its control stream is open
)

// ID is the connection's, as that of others in the process.
func (c *Conn) ID() uint64 { return c.id }

// Loop is the loop that serves its requests.
func (c *Conn) Loop() *netloop.Loop { return c.loop }

// MaxStreams is how many requests may be under way.
func (c *Conn) MaxStreams() int { return c.most }

// RemoteAddr is the client's address at this moment: it may move.
func (c *Conn) RemoteAddr() netip.AddrPort { return addrPort(c.quic.RemoteAddr()) }

// LocalAddr is ours, as the listener has it.
func (c *Conn) LocalAddr() netip.AddrPort { return addrPort(c.quic.LocalAddr()) }

// TLS is what the handshake has come to.
func (c *Conn) TLS() tls.ConnectionState { return c.quic.ConnectionState().TLS }

func addrPort(a net.Addr) netip.AddrPort {
	u, ok := a.(*net.UDPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	at := u.AddrPort()
	return netip.AddrPortFrom(at.Addr().Unmap(), at.Port())
}

func (c *Conn) settings() *Settings { return c.listener.settings.Load() }

// serve is the connection's goroutine: it accepts its streams until it has gone.
func (c *Conn) serve() {
	defer c.release()
	c.idle = time.AfterFunc(c.settings().HeadTimeout, c.silent)
	defer c.idle.Stop()
	if err := c.openControl(); err != nil {
		c.fail(&connError{errInternal, "no control stream"})
		return
	}
	c.loop.Post(func() { c.handler = c.listener.options.Accept(c) })
	go c.acceptUni()
	c.fate.Store(fateServed)
	if c.listener.draining.Load() {
		c.goAway()
	}
	for {
		str, err := c.quic.AcceptStream(context.Background())
		if err != nil {
			return
		}
		if !c.admit(str) {
			str.CancelRead(errRequestRejected)
			str.CancelWrite(errRequestRejected)
			str.ReleaseStreamCredit()
			c.annoyed(1)
			continue
		}
		s := &Stream{conn: c, quic: str, loop: c.loop}
		go s.run(c.settings())
	}
}

// admit counts a stream, if the connection still takes any.
func (c *Conn) admit(str *quic.Stream) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.leaving {
		return false
	}
	c.next = str.StreamID() + 4
	c.streams.Add(1)
	return true
}

// left ends a stream: its client may open another. It may be called from any goroutine.
func (c *Conn) left(s *Stream) {
	s.quic.ReleaseStreamCredit()
	switch c.streams.Add(-1) {
	case 0:
		c.ended(true)
	case 1:
		c.idle.Reset(c.settings().IdleTimeout)
	}
}

// release ends the taking of streams, once.
func (c *Conn) release() {
	c.mu.Lock()
	was := c.leaving
	c.leaving = true
	c.mu.Unlock()
	if !was && c.streams.Add(-1) == 0 {
		c.ended(true)
	}
}

// ended is called when the connection takes no stream any more, and none is under way.
func (c *Conn) ended(lingers bool) {
	go func() {
		if lingers {
			c.linger()
		}
		_ = c.quic.CloseWithError(errNoError, "") // which does nothing if it has gone already
		c.loop.Post(func() {
			if c.handler != nil {
				c.handler.Close()
			}
		})
		c.listener.forget(c)
	}()
}

// linger waits until what was sent last has arrived: closing the connection would cut it off. A client that was told to send no
// more closes it itself, as soon as it has all answers; otherwise nothing moves any more then.
func (c *Conn) linger() {
	const every, quiet, most = 100 * time.Millisecond, 10, 300
	tick := time.NewTicker(every)
	defer tick.Stop()
	last, same := c.quic.ConnectionStats(), 0
	for n := 0; n < most && same < quiet; n++ {
		select {
		case <-c.quic.Context().Done():
			return
		case <-tick.C:
		}
		now := c.quic.ConnectionStats()
		if same++; now.BytesSent != last.BytesSent || now.BytesReceived != last.BytesReceived {
			last, same = now, 0
		}
	}
}

// silent is called when there has been no request for a while.
func (c *Conn) silent() {
	c.mu.Lock()
	quiet := !c.leaving && c.streams.Load() == 1
	c.leaving = c.leaving || quiet
	c.mu.Unlock()
	if quiet {
		c.streams.Add(-1)
		c.ended(false)
	}
}

// fail ends the connection at once. It may be called from any goroutine.
func (c *Conn) fail(e *connError) {
	c.closing.Do(func() {
		go func() { _ = c.quic.CloseWithError(e.code, e.detail) }()
	})
}

// nuisance counts what moves nothing forward, in seconds.
type nuisance struct {
	mu     sync.Mutex // of goroutines; no loop takes it
	second int64
	count  int
}

// annoyed counts so many frames that move nothing forward, or what is as bad, and ends the connection when there is too much of it.
func (c *Conn) annoyed(frames int) {
	n := &c.nuisance
	now := time.Now().Unix()
	n.mu.Lock()
	if n.second != now {
		n.second, n.count = now, 0
	}
	n.count += frames
	over := n.count > c.settings().Nuisance
	n.mu.Unlock()
	if over {
		c.fail(&connError{errExcessiveLoad, "too much that moves nothing forward"})
	}
}

// annoyingReset is how many frames a request is as bad as that its client gives up before it is answered.
const annoyingReset = 5

// partingGrace is how long requests are taken after the client was told to send no more: they may be on their way.
const partingGrace = time.Second

// goAway has the connection end as soon as the requests under way have. It may be called from any goroutine.
func (c *Conn) goAway() {
	c.parting.Do(func() { go c.part() })
}

func (c *Conn) part() {
	c.tell(maxStreamID)
	grace := time.NewTimer(partingGrace)
	defer grace.Stop()
	select {
	case <-grace.C:
	case <-c.quic.Context().Done():
	}
	c.mu.Lock()
	next := c.next
	was := c.leaving
	c.leaving = true
	c.mu.Unlock()
	if was {
		return
	}
	c.tell(next)
	if c.streams.Add(-1) == 0 {
		c.ended(true)
	}
}
