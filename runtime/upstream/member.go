package upstream

import (
	"errors"
	"hash/fnv"
	"net/netip"
	"strconv"
	"sync/atomic"
	"time"

	"wasmgate/runtime/fault"
	"wasmgate/runtime/internal/unixaddr"
	"wasmgate/runtime/netloop"
	"wasmgate/runtime/upstream/balance"
	"wasmgate/runtime/upstream/facts"
	"wasmgate/runtime/upstream/health"
	"wasmgate/runtime/upstream/pool"
	"wasmgate/runtime/upstream/resolve"
)

const (
	reasonGone    = facts.CloseAddressGone
	reasonRemoved = facts.CloseDraining
)

// Member is one address of one target: what is chosen among, and what connections lead to. It outlives the answers of
// DNS that repeat its address. Its methods run on loops.
type Member struct {
	Address netip.AddrPort

	number    uint32
	cluster   *cluster
	target    *target
	pool      *pool.Pool
	tracker   *health.Tracker
	load      balance.Load
	choice    atomic.Pointer[balance.Member] // what the balancer knows it as now
	answer    atomic.Pointer[resolve.Answer] // that made it a member last
	leaving   *time.Timer                    // not nil: parked; the cluster's mu guards it
	ended     atomic.Bool
	due       atomic.Int64 // when the next timer looks after its health; 0: none does. Loop time
	state     health.State // that was told last; the cluster's mu guards it
	tending   atomic.Bool  // active checks run
	warming   atomic.Bool  // connections are opened ahead
	coldUntil atomic.Int64 // none could be opened ahead; loop time
	warmth    atomic.Int64 // Pool.MinIdle that it has had once
}

// MemberEvent is a change of who can be chosen.
type MemberEvent struct {
	Upstream string
	Host     string // host:port of the target
	Address  netip.AddrPort
	State    string // joined, left, healthy, recovering, ejected, unhealthy
	Why      string
}

func (c *cluster) newMember(t *target, addr netip.AddrPort) *Member {
	u := c.upstream
	m := &Member{Address: addr, cluster: c, target: t, number: u.numbered.Add(1)}
	m.pool = pool.New(len(u.group.Loops()), u.config.Load().Pool, c.queue, u.hooks)
	m.tracker = health.New(m.rules())
	if c.current.Load() != nil && u.config.Load().Health.SlowStart > 0 { // others serve already
		l := u.group.Loop(0)
		l.Post(func() {
			if m.tracker.Join(l.Now()) {
				m.apply(l)
			}
		})
	}
	why := ""
	if c.current.Load() != nil {
		why = "it is new"
	}
	m.changed("joined", why)
	return m
}

// rules are the health's rules for the member.
func (m *Member) rules() health.Options {
	h := &m.cluster.upstream.config.Load().Health
	o := health.Options{Passive: h.Passive, SlowStart: h.SlowStart, IgnoreErrors: m.target.IgnoreErrors}
	if h.Active != nil {
		o.Active = h.Active.Active
	}
	return o
}

// configure has the member follow a config that has changed. The cluster's mu is held.
func (m *Member) configure() {
	m.pool.SetOptions(m.cluster.upstream.config.Load().Pool)
	m.tracker.SetOptions(m.rules())
	if state, why := m.follow(); state != m.state {
		m.state = state
		m.changed(state.String(), why)
	}
	m.tend()
}

// token is what sticky sessions call the member: the target's route where that is but one address, otherwise a name
// that tells nothing of the address. A session that knows the route only goes to one of its addresses.
func (m *Member) token(addresses int) string {
	if m.target.Route != "" && addresses == 1 {
		return m.target.Route
	}
	h := fnv.New64a()
	_, _ = h.Write([]byte(m.target.hostport + "/" + m.Address.String()))
	return m.target.Route + strconv.FormatUint(h.Sum64(), 36)
}

// unpark takes a member back whose address has come back. The cluster's mu is held.
func (m *Member) unpark() {
	if m.leaving == nil {
		return
	}
	m.leaving.Stop()
	m.leaving = nil
	m.pool.Unpark()
	m.changed("joined", "DNS gives its address again")
}

// end drains the pool for good. The cluster's mu is held.
func (m *Member) end(reason string) {
	if m.leaving != nil {
		m.leaving.Stop()
		m.leaving = nil
	}
	m.ended.Store(true)
	m.pool.Drain(m.cluster.upstream.group, reason)
}

// Host is the target's host:port.
func (m *Member) Host() string { return m.target.hostport }

// Token is what sticky sessions call the member.
func (m *Member) Token() string { return m.choice.Load().Token }

// report tells how an attempt went that the member was given at a time, and says whether the member is ejected with that.
func (m *Member) report(l *netloop.Loop, o health.Outcome, begun int64) (ejected bool) {
	return m.tracker.ReportBegun(o, begun, l.Now()) && m.apply(l)
}

// apply has the balancer follow the member's health, and looks after it again when time alone will change it. It says
// whether the member is ejected from now on.
func (m *Member) apply(l *netloop.Loop) (ejected bool) {
	c := m.cluster
	c.mu.Lock()
	if m.ended.Load() {
		c.mu.Unlock()
		return false
	}
	state, why := m.follow()
	news := state != m.state
	if m.state = state; news {
		m.changed(state.String(), why)
	}
	if v := c.current.Load(); v != nil {
		v.set.Refresh()
	}
	c.mu.Unlock()
	if news && (state == health.Ejected || state == health.Unhealthy) {
		m.target.name.Refresh() // it may be gone without a word: DNS would know
		m.pool.CloseIdle(c.upstream.group, facts.CloseEjected)
	}
	c.queue.Kick()
	c.tell()
	m.wakeUp(l)
	return news && state == health.Ejected
}

// follow has the member's load say what its health is. The cluster's mu is held.
func (m *Member) follow() (state health.State, why string) {
	state, why = m.tracker.State()
	m.load.SetShare(m.tracker.Share())
	m.load.SetEjected(state == health.Ejected)
	return state, why
}

// wakeUp has time pass for the member's health when its next moment comes, unless a timer comes before that.
func (m *Member) wakeUp(l *netloop.Loop) {
	at := m.tracker.Next()
	for {
		due := m.due.Load()
		if at == 0 || m.ended.Load() || due != 0 && due <= at {
			return
		}
		if m.due.CompareAndSwap(due, at) {
			break
		}
	}
	l.AfterFunc(time.Duration(max(at-l.Now(), 0)), func() {
		m.due.CompareAndSwap(at, 0)
		switch {
		case m.ended.Load():
		case m.tracker.Tick(l.Now()):
			m.apply(l)
		default:
			m.wakeUp(l)
		}
	})
}

// changed notes an event, for cluster.tell. The cluster's mu is held.
func (m *Member) changed(state, why string) {
	if u := m.cluster.upstream; u.hooks != nil {
		m.cluster.news = append(m.cluster.news, MemberEvent{Upstream: u.name, Host: m.target.hostport, Address: m.Address, State: state, Why: why})
	}
}

// newest is the newest answer of DNS that has the member's address.
func (m *Member) newest() *resolve.Answer {
	if a := m.target.name.Current(); a != nil {
		for _, e := range a.Endpoints {
			if e.Addr.Unmap() == m.Address.Addr() && (e.Port == 0 || e.Port == m.Address.Port()) {
				return a // it need not be m.answer: one that changes nothing is told to nobody
			}
		}
	}
	return m.answer.Load()
}

// blame puts upstream, host and address into an error.
func (m *Member) blame(err *fault.Error) *fault.Error {
	err.Upstream, err.Host, err.Address = m.cluster.upstream.name, m.target.hostport, unixaddr.Text(m.Address)
	return err
}

func asFault(err error, to **fault.Error) bool { return errors.As(err, to) }
