package upstream

import (
	"errors"
	"slices"
	"syscall"
	"time"

	"wasmgate/runtime/fault"
	"wasmgate/runtime/netloop"
	"wasmgate/runtime/upstream/balance"
	"wasmgate/runtime/upstream/facts"
	"wasmgate/runtime/upstream/health"
	"wasmgate/runtime/upstream/pool"
)

// open connects to m, with the leave that its pool gave. If m is slow to answer and the target has an address of the
// other family, that one is tried beside.
func (s *search) open(m *Member, why string) (Acquired, bool) {
	why = m.inPlace(why)
	if other := s.otherFamily(m); other != nil {
		return s.race(m, why, other)
	}
	began := s.task.Loop().Now()
	conn, err := s.dial(s.task, m, why)
	if err != nil {
		s.failed(m, err, began, s.task.Loop().Now())
		return Acquired{}, false
	}
	m.established(s.task.Loop(), conn)
	return m.take(conn, why), true
}

// inPlace is why a connection is opened: a first one may be in the place of idle ones to addresses that the target's name no
// longer stands for.
func (m *Member) inPlace(why string) string {
	if why != facts.OpenFirst {
		return why
	}
	c := m.cluster
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, other := range m.target.members {
		if other.leaving != nil && other.pool.Idle() > 0 {
			return facts.OpenAddressChanged
		}
	}
	return why
}

// maxFailed is how many connections that could not be opened are told of for one request.
const maxFailed = 8

// failed notes that a member could not be connected to, and when that was tried.
func (s *search) failed(m *Member, err *fault.Error, began, ended int64) {
	s.last = err
	s.tried = append(s.tried, m.choice.Load())
	s.full = slices.DeleteFunc(s.full, func(b *balance.Member) bool { return b.Load == &m.load }) // it is not waited for
	s.dnsFrom, s.dnsTo = 0, 0                                                                     // it was the first one's
	err.ConnBegan, err.ConnEnded = began, ended
	err.Ejected = m.unreachable(s.task.Loop(), err)
	if len(s.failures) < maxFailed {
		s.failures = append(s.failures, err)
	}
}

// unreachable tells the member's health, and asks DNS whether it is there still; unless it was not the member's doing. It
// says whether the member is ejected with that.
func (m *Member) unreachable(l *netloop.Loop, err *fault.Error) (ejected bool) {
	if err.Source != fault.Upstream || l.Closing() {
		return false
	}
	m.target.name.Refresh()
	return m.report(l, health.ConnectFailed, 0)
}

// otherFamily is a member of the same target with an address of the other family, if there is one that can be used and
// has not been tried. A session stays with its own member.
func (s *search) otherFamily(m *Member) *Member {
	if s.pinned == m {
		return nil
	}
	for _, other := range s.view.members {
		if other.target == m.target && other.Address.Addr().Is4() != m.Address.Addr().Is4() && other.load.Usable() && !among(other, s.tried) {
			return other
		}
	}
	return nil
}

// headStart is how long an address has before one of the other family is tried too (RFC 8305 section 8).
const headStart = 250 * time.Millisecond

// race is two connections that are being opened at once, in tasks of their own on the loop of the request's.
type race struct {
	*search
	racers []*racer
	over   bool // the request wants none of them any more
}

type racer struct {
	m     *Member
	why   string
	began int64
	ended int64
	conn  *pool.Conn
	err   *fault.Error
	done  bool
}

// race opens a connection to m, and one to other if m fails or takes too long. The first that is there is used; the
// second, should it come about, goes into its pool.
func (s *search) race(m *Member, why string, other *Member) (Acquired, bool) {
	l, task := s.task.Loop(), s.task
	r := &race{search: s}
	defer r.end()
	r.begin(m, why)
	timer := l.AfterFunc(headStart, task.Wake)
	defer timer.Stop()
	for began, asked := l.Now(), false; !l.Closing(); {
		if a := r.winner(); a != nil {
			a.m.established(l, a.conn)
			return a.m.take(a.conn, a.why), true
		}
		if !asked && (r.racers[0].done || l.Now()-began >= int64(headStart)) {
			asked = true
			conn, why, got := other.pool.Try(task, s.r.Request)
			switch got {
			case pool.Idle:
				return other.take(conn, ""), true
			case pool.Leave:
				r.begin(other, other.inPlace(why))
			}
			continue // Try may have parked: the first may have ended meanwhile
		}
		if !slices.ContainsFunc(r.racers, func(a *racer) bool { return !a.done }) {
			break
		}
		task.Park()
	}
	return Acquired{}, false
}

// begin starts a connection, with the leave that m's pool gave.
func (r *race) begin(m *Member, why string) {
	l := r.task.Loop()
	a := &racer{m: m, why: why, began: l.Now()}
	r.racers = append(r.racers, a)
	l.Go(func(t *netloop.Task) {
		a.conn, a.err = r.dial(t, a.m, a.why)
		a.done, a.ended = true, l.Now()
		switch {
		case !r.over:
			r.task.Wake()
		case a.conn != nil:
			a.m.ahead(l, a.conn)
		default:
			a.m.unreachable(l, a.err)
		}
	})
}

// winner takes the first connection that is there out of the race.
func (r *race) winner() *racer {
	for i, a := range r.racers {
		if a.conn != nil {
			r.racers = slices.Delete(r.racers, i, i+1)
			return a
		}
	}
	return nil
}

// end sees to what those who have not won have brought about so far.
func (r *race) end() {
	r.over = true
	for _, a := range r.racers {
		switch {
		case a.err != nil:
			r.failed(a.m, a.err, a.began, a.ended)
		case a.conn != nil:
			a.m.ahead(r.task.Loop(), a.conn)
		}
	}
}

// dial makes a connection with the leave of m's pool; if it fails the leave is given back.
func (s *search) dial(t *netloop.Task, m *Member, why string) (*pool.Conn, *fault.Error) {
	c, err := m.dial(t, why, &s.r, s.dnsFrom, s.dnsTo)
	if err != nil {
		m.pool.GiveUp(t.Loop())
	}
	return c, err
}

// dial makes a connection. One that fails is told to the hooks.
func (m *Member) dial(t *netloop.Task, why string, r *Request, dnsFrom, dnsTo int64) (*pool.Conn, *fault.Error) {
	u, l, answer := m.cluster.upstream, t.Loop(), m.newest()
	if r.Tunnel {
		why = facts.OpenTunnel
	}
	c := &pool.Conn{Owner: r.Owner, Facts: facts.Connection{
		Upstream: u.name, Host: m.target.hostport, Address: m.Address, WhyOpened: why,
		Opened: l.WallNow(), DNSStart: dnsFrom, DNSEnd: dnsTo, DialStart: l.WallNow(),
		DNSTTL: answer.TTL, DNSServer: answer.Server, DNSStale: answer.Stale,
	}}
	f := &c.Facts
	if dnsFrom != 0 {
		f.Opened = dnsFrom
	}
	if !answer.At.IsZero() {
		f.DNSAnswerAt = answer.At.UnixNano()
	}
	if err := m.connect(t, c, r); err != nil {
		f.Err, f.WhyClosed, f.Closed = m.blame(err), facts.CloseConnectFailed, l.WallNow()
		if u.hooks != nil {
			u.hooks.ConnClosed(l, f)
		}
		err.ConnID, err.ConnTrace, err.ConnSpan = f.ID, f.TraceID, f.SpanID
		return nil, err
	}
	f.Established = l.WallNow()
	return c, nil
}

// connect makes the socket, says for whom it is where the upstream wants that, and puts TLS on top where the target does.
func (m *Member) connect(t *netloop.Task, c *pool.Conn, r *Request) *fault.Error {
	cfg, l, limit := m.cluster.upstream.config.Load(), t.Loop(), r.Connect
	if limit <= 0 {
		limit = cfg.Connect
	}
	nc, err := l.Dial(t, m.Address, deadline(l, limit), netloop.DialOptions{KeepAlive: cfg.TCPKeepAlive, ReceiveBuffer: cfg.ReceiveBuffer})
	if err != nil {
		if errors.Is(err, netloop.ErrDeadline) {
			return &fault.Error{Kind: fault.ConnectTimeout, Source: fault.Upstream, Status: 504, Retryable: true,
				Detail: "not connected within " + limit.String() + " (timeouts.connect)" + m.ageOfAnswer(l)}
		}
		if ours(err) {
			return &fault.Error{Kind: fault.Connect, Source: fault.Gateway, Status: 503, Retryable: true, Err: err, Detail: "the gateway's own machine has no descriptor, port or memory left"}
		}
		return &fault.Error{Kind: fault.Connect, Source: fault.Upstream, Status: 502, Retryable: true, Err: err, Detail: m.ageOfAnswer(l)}
	}
	c.Net, c.Stream, c.Facts.ID = nc, nc, nc.ID()
	c.Facts.DialEnd = l.WallNow()
	if cfg.Preface != nil {
		nc.SetWriteDeadline(deadline(l, limit))
		if _, err := nc.Write(t, cfg.Preface(nil, r.Owner, r.Destination)); err != nil {
			_ = nc.Close()
			return &fault.Error{Kind: fault.Connect, Source: fault.Upstream, Status: 502, Retryable: true, Err: err, Detail: "it took no PROXY protocol header"}
		}
		nc.SetWriteDeadline(0)
	}
	if m.target.secure {
		if err := m.handshake(t, c); err != nil {
			return err
		}
	}
	if cfg.Session == nil || r.Tunnel {
		return nil
	}
	failed := cfg.Session(t, c, deadline(l, cfg.Handshake))
	if failed != nil {
		_ = nc.Close()
	}
	return failed
}

// ours says that a connection failed for want of something that the gateway's machine should have had: that must not eject
// a member, nor open the breaker.
func ours(err error) bool {
	return slices.ContainsFunc([]syscall.Errno{syscall.EMFILE, syscall.ENFILE, syscall.EADDRNOTAVAIL, syscall.ENOBUFS, syscall.ENOMEM},
		func(e syscall.Errno) bool { return errors.Is(err, e) })
}

// ageOfAnswer says how old DNS's answer was, for errors: an address that is not there may be one that was given up.
func (m *Member) ageOfAnswer(l *netloop.Loop) string {
	a := m.newest()
	if a.At.IsZero() {
		return ""
	}
	age := time.Duration(l.WallNow() - a.At.UnixNano()).Round(time.Millisecond)
	text := "the address is of a DNS answer " + max(age, 0).String() + " old, with a TTL of " + a.TTL.String()
	if a.Stale {
		text += ", kept because there is no newer one: " + a.Doubt
	}
	return text
}

// established makes a connection that was dialled for a request its pool's.
func (m *Member) established(l *netloop.Loop, c *pool.Conn) {
	m.pool.Opened(c)
	m.opened(l, c)
}

// ahead gives a connection to its pool that was dialled for a request, which has another now. One for a tunnel is of no
// use to anybody else.
func (m *Member) ahead(l *netloop.Loop, c *pool.Conn) {
	m.established(l, c)
	c.Facts.Requests = 0
	reason := ""
	if c.Facts.WhyOpened == facts.OpenTunnel {
		reason = facts.CloseTunnelEnded
	}
	c.Release(reason)
}

func (m *Member) opened(l *netloop.Loop, c *pool.Conn) {
	if hooks := m.cluster.upstream.hooks; hooks != nil {
		hooks.ConnOpened(l, &c.Facts)
	}
}

func deadline(l *netloop.Loop, d time.Duration) int64 {
	if d <= 0 {
		return 0
	}
	return l.Now() + int64(d)
}
