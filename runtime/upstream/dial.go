package upstream

import (
	"errors"
	"time"

	"wasmgate/runtime/fault"
	"wasmgate/runtime/netloop"
	"wasmgate/runtime/upstream/facts"
	"wasmgate/runtime/upstream/health"
	"wasmgate/runtime/upstream/pool"
)

// open connects to m, with the leave that its pool gave. If m is slow to answer and the target has an address of the
// other family, that one is tried beside.
func (s *search) open(m *Member, why string) (Acquired, bool) {
	l := s.task.Loop()
	if other := s.otherFamily(m); other != nil {
		return s.race(m, why, other)
	}
	conn, err := s.dial(s.task, m, why)
	if err != nil {
		s.failed(m, err)
		return Acquired{}, false
	}
	m.established(l, conn)
	return m.take(conn, why), true
}

// failed notes that a member could not be connected to, and asks DNS whether it is there still.
func (s *search) failed(m *Member, err *fault.Error) {
	s.last = err
	s.tried = append(s.tried, m.choice.Load())
	s.dnsFrom, s.dnsTo = 0, 0 // it was the first one's
	m.target.name.Refresh()
	m.report(s.task.Loop(), health.ConnectFailed, 0)
}

// otherFamily is a member of the same target with an address of the other family, if there is one that can be used.
func (s *search) otherFamily(m *Member) *Member {
	for _, other := range s.view.members {
		if other.target == m.target && other.Address.Addr().Is4() != m.Address.Addr().Is4() && other.load.Usable() {
			return other
		}
	}
	return nil
}

// headStart is how long an address has before one of the other family is tried too (RFC 8305 section 8).
const headStart = 250 * time.Millisecond

// attempt is one of two connections that are being opened at once.
type attempt struct {
	m    *Member
	why  string
	conn *pool.Conn
	err  *fault.Error
	done bool
}

// race opens a connection to m, and one to other if m takes too long. The first that is there is used; the second,
// should it come about, goes into its pool.
func (s *search) race(m *Member, why string, other *Member) (Acquired, bool) {
	l, task := s.task.Loop(), s.task
	over := false
	begin := func(a *attempt) {
		l.Go(func(t *netloop.Task) {
			a.conn, a.err = s.dial(t, a.m, a.why)
			a.done = true
			switch {
			case !over:
				task.Wake()
			case a.conn != nil:
				a.m.ahead(l, a.conn)
			}
		})
	}
	first := &attempt{m: m, why: why}
	begin(first)
	racers := []*attempt{first}
	timer := l.AfterFunc(headStart, task.Wake)
	defer timer.Stop()
	for began := l.Now(); !l.Closing(); task.Park() {
		left := 0
		for _, a := range racers {
			switch {
			case a.conn != nil:
				over = true
				s.keepOther(racers, a)
				a.m.established(l, a.conn)
				return a.m.take(a.conn, a.why), true
			case !a.done:
				left++
			}
		}
		if len(racers) == 1 && (left == 0 || l.Now()-began >= int64(headStart)) {
			if a := s.second(other); a != nil {
				racers = append(racers, a)
				if !a.done {
					begin(a)
				}
				continue
			}
		}
		if left == 0 {
			break
		}
	}
	over = true
	for _, a := range racers {
		if a.err != nil {
			s.failed(a.m, a.err)
		}
	}
	return Acquired{}, false
}

// second is the attempt at the other family's address: nil if its pool has no place.
func (s *search) second(other *Member) *attempt {
	conn, why, got := other.pool.Try(s.task, s.r.Request)
	switch got {
	case pool.Leave:
		return &attempt{m: other, why: why}
	case pool.Idle:
		conn.Release("")
	}
	return nil
}

// keepOther has the connection that was not needed go into its pool, if it is there at the same moment.
func (s *search) keepOther(racers []*attempt, winner *attempt) {
	for _, a := range racers {
		if a != winner && a.conn != nil {
			a.m.ahead(s.task.Loop(), a.conn)
		}
		if a != winner && a.err != nil {
			s.failed(a.m, a.err)
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
	u, l, answer := m.cluster.upstream, t.Loop(), m.answer.Load()
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
		m.blame(err)
		f.Err, f.WhyClosed, f.Closed = err, facts.CloseConnectFailed, l.WallNow()
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
	if m.target.TLS {
		return m.handshake(t, c)
	}
	return nil
}

// ageOfAnswer says how old DNS's answer was, for errors: an address that is not there may be one that was given up.
func (m *Member) ageOfAnswer(l *netloop.Loop) string {
	a := m.answer.Load()
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

// ahead gives a connection to its pool that was dialled for a request, which has another now.
func (m *Member) ahead(l *netloop.Loop, c *pool.Conn) {
	m.established(l, c)
	c.Facts.Requests = 0
	c.Release("")
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
