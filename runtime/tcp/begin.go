package tcp

import (
	"errors"
	"io"
	"net/netip"
	"syscall"
	"time"

	"wasmgate/runtime/exchange"
	"wasmgate/runtime/fault"
	"wasmgate/runtime/netloop"
	"wasmgate/runtime/proxyproto"
)

// onFirstBytes runs when the client has said something, or nothing in time.
func onFirstBytes(c *netloop.Conn) {
	s := c.Owner.(*side).session
	if c.Quiet() {
		s.finish(exchange.EndHelloTimeout, late("nothing"))
		return
	}
	c.Go(begin)
}

func late(what string) *fault.Error {
	return fault.New(fault.ClientTimeout, fault.Client, 0, "%s within the time for the first bytes", what)
}

// begin finds the session its upstream and connects to it.
func begin(t *netloop.Task, c *netloop.Conn) {
	s, l := c.Owner.(*side).session, t.Loop()
	snap := s.server.snapshot.Load()
	snap.users.Enter(l)
	p := prelude{session: s, task: t, destination: c.LocalAddr()}
	upstream, why, err := p.read(snap)
	if why == "" && !s.over && len(snap.Filters) > 0 {
		why, err = s.filter(t, snap)
	}
	if why == "" && !s.over {
		s.facts.Routed, s.waiting = l.Now(), false
		why, err = s.connect(t, upstream, snap, &p)
	}
	snap.users.Leave(l)
	if p.buf != nil {
		l.Recycle(p.buf)
	}
	switch {
	case why != "":
		s.finish(why, err)
	case !s.over:
		s.start(l)
	}
}

// prelude is what is read of the client before its upstream is known.
type prelude struct {
	session     *session
	task        *netloop.Task
	destination netip.AddrPort
	buf         []byte
	n           int // bytes in it
}

// read returns the session's upstream, or why there is none.
func (p *prelude) read(snap *Snapshot) (u Upstream, why string, err *fault.Error) {
	peer := p.session.facts.Client.Peer.Addr()
	if snap.mustSpeak(peer) {
		p.buf = p.task.Loop().Buffer()
	}
	if snap.behind(peer) {
		if why, err = p.readHeader(); why != "" {
			return nil, why, err
		}
	}
	var name []byte
	if snap.SNI != nil {
		if name, why, err = p.readName(); why != "" {
			return nil, why, err
		}
		p.session.facts.SNI = string(name)
	}
	if u, err = snap.Choose(name); err != nil {
		return nil, exchange.EndNoRoute, err
	}
	return u, "", nil
}

// readHeader reads the PROXY protocol's header and takes it off the buffer.
func (p *prelude) readHeader() (why string, fe *fault.Error) {
	for {
		h, n, err := proxyproto.Parse(p.buf[:p.n])
		if err != nil {
			return exchange.EndMalformed, err
		}
		if n > 0 {
			p.n = copy(p.buf, p.buf[n:p.n])
			if f := &p.session.facts; !h.Local {
				f.Via, f.Client.Peer, f.Client.Addr = f.Client.Peer, h.Source, h.Source.Addr()
				p.destination = h.Destination
			}
			return "", nil
		}
		if why, fe = p.more("no whole PROXY protocol header"); why != "" {
			return why, fe
		}
	}
}

// readName reads a ClientHello, if it is one, and returns its server name in lower case.
func (p *prelude) readName() (name []byte, why string, fe *fault.Error) {
	l := p.task.Loop()
	scratch := l.Buffer()
	defer l.Recycle(scratch)
	for {
		name, g := readHello(p.buf[:p.n], scratch)
		switch {
		case g == foreign:
			return nil, "", nil
		case g == hello:
			p.session.facts.Client.Scheme = "tls"
			name = append(make([]byte, 0, len(name)), name...)
			for i, c := range name {
				if c >= 'A' && c <= 'Z' {
					name[i] = c | 0x20
				}
			}
			return name, "", nil
		case g == malformed || p.n == len(p.buf):
			return nil, exchange.EndMalformed, fault.New(fault.Malformed, fault.Client, 0, "the TLS ClientHello is malformed, or has more than %d bytes", len(p.buf))
		}
		if why, fe = p.more("no whole TLS ClientHello"); why != "" {
			return nil, why, fe
		}
	}
}

// more reads once more.
func (p *prelude) more(missing string) (why string, fe *fault.Error) {
	s := p.session
	n, err := s.client.conn.Read(p.task, p.buf[p.n:])
	p.n += n
	switch {
	case s.over:
		return s.facts.Why, s.facts.Err
	case n > 0:
		return "", nil
	case errors.Is(err, netloop.ErrDeadline):
		return exchange.EndHelloTimeout, late(missing)
	case err == io.EOF && p.n == 0: // somebody looked whether the port is open
		return exchange.EndClientClosed, nil
	case err == io.EOF:
		return exchange.EndClientClosed, fault.New(fault.ClientClosed, fault.Client, 0, "%s before the end", missing)
	case errors.Is(err, netloop.ErrClosed):
		return exchange.EndDrained, nil
	case errors.Is(err, syscall.ECONNRESET):
		return exchange.EndClientReset, &fault.Error{Kind: fault.ClientClosed, Source: fault.Client, Err: err}
	}
	return exchange.EndError, &fault.Error{Kind: fault.ClientClosed, Source: fault.Client, Err: err}
}

// connect gets the session a connection to the upstream, and sends what comes before the bytes that flow.
func (s *session) connect(t *netloop.Task, u Upstream, snap *Snapshot, p *prelude) (why string, fe *fault.Error) {
	l, f := t.Loop(), &s.facts
	f.Upstream = u.Name()
	a, fe := u.Acquire(t, Request{Client: f.Client.Peer, Destination: p.destination, SNI: f.SNI})
	f.PoolWait, f.Queued, f.Failed = time.Duration(l.Tick()-f.Routed), a.Queued, a.Failed
	if fe != nil {
		if s.over {
			return "", nil
		}
		f.Host = fe.Host
		return exchange.EndConnectFailed, fe
	}
	if s.over { // it was drained meanwhile
		_ = a.Net.Close()
		a.Release(closeReason(f.Why))
		return "", nil
	}
	s.adopt(l, &a)
	s.client.flow.Idle, s.upstream.flow.Idle = snap.IdleTimeout, snap.IdleTimeout
	for _, c := range [...]*netloop.Conn{s.client.conn, s.upstream.conn} {
		c.SetReadDeadline(0)
		c.SetWriteDeadline(0)
	}
	s.touch()
	return s.sendFirst(t, a.Proxy, p)
}

// adopt makes the connection the session's, and notes what is known of it.
func (s *session) adopt(l *netloop.Loop, a *Acquired) {
	d, f := &s.upstream, &s.facts
	d.conn, s.release, s.conn, s.owner = a.Net, a.Release, a.Facts, a.Net.Owner
	d.conn.Owner = d
	if a.Stream != nil && a.Stream != Stream(a.Net) {
		s.stream = a.Stream
	} else if s.filtered != nil {
		s.stream = a.Net // what filters see is copied
	}
	f.Acquired, f.ConnID, f.Address = l.Now(), a.Net.ID(), a.Net.RemoteAddr()
	if c := a.Facts; c != nil {
		c.User = f
		f.ConnID, f.Host, f.Address, f.TLS, f.DNSAge = c.ID, c.Host, c.Address, c.TLS, c.DNSAge()
		f.Setup.DNS, f.Setup.Connect, f.Setup.TLS = c.Took()
		if c.Sampled {
			f.ConnTrace, f.ConnSpan = c.TraceID, c.SpanID
		}
	}
	if s.filtered != nil {
		s.filtered.upstream(f)
	}
}

// sendFirst sends a PROXY protocol header and what was read of the client, in one piece.
func (s *session) sendFirst(t *netloop.Task, v proxyproto.Version, p *prelude) (why string, fe *fault.Error) {
	said := p.buf[:p.n]
	if s.filtered != nil && p.n > 0 {
		if said, fe = s.filtered.move(t, nil, true, said, false); fe != nil || s.over {
			return exchange.EndPlugin, fe
		}
	}
	first := said
	if v != proxyproto.Off {
		first = append(proxyproto.Append(make([]byte, 0, 128+len(said)), v, s.facts.Client.Peer, p.destination), said...)
	}
	if len(first) == 0 {
		return "", nil
	}
	var to Stream = s.upstream.conn
	if s.stream != nil {
		to = s.stream
	}
	n, err := to.Write(t, first)
	s.first = int64(max(0, n-(len(first)-len(said))))
	if err != nil && !s.over {
		s.broke(&s.upstream, err)
	}
	return "", nil
}
