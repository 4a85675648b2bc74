package upstream

import (
	"context"
	"slices"
	"time"

	"wasmgate/runtime/fault"
	"wasmgate/runtime/netloop"
	"wasmgate/runtime/upstream/balance"
	"wasmgate/runtime/upstream/facts"
	"wasmgate/runtime/upstream/pool"
)

// acquire takes or opens a connection to one of the cluster's members. The usual way, to an idle connection of the
// member that is next or the session's own, is the short one; everything else is a search.
func (c *cluster) acquire(task *netloop.Task, r *Request) (Acquired, *fault.Error) {
	v := c.current.Load()
	if v == nil || len(r.Avoid) > 0 {
		return c.search(task, r, v, start{})
	}
	first := start{}
	if len(r.Token) > 0 {
		var usable bool
		if first.b, usable = v.set.ByToken(r.Token); !usable {
			if first.b != nil && !c.upstream.config.Load().Failover {
				return c.search(task, r, v, start{})
			}
			first.b = nil
		}
		first.pinned = first.b != nil
	}
	if first.b == nil {
		first.b = v.set.Pick(task.Loop().Index(), r.Key, r.HasKey, nil)
	}
	if first.b == nil {
		return c.search(task, r, v, start{})
	}
	m := first.b.Owner.(*Member)
	var conn *pool.Conn
	if conn, first.why, first.got = m.pool.Try(task, r.Request); first.got == pool.Idle {
		a := m.take(conn, "")
		if first.pinned {
			a.Chosen = facts.ChosenSession
		}
		return a, nil
	}
	return c.search(task, r, v, first)
}

// start is where a search begins: the member whose pool was asked already, if one was, and what that said.
type start struct {
	b      *balance.Member
	why    string
	got    pool.Got
	pinned bool // it is the session's own
}

// search is one request's way to a connection: who was tried, and how that went.
type search struct {
	*cluster
	task     *netloop.Task
	r        Request
	view     *view
	pinned   *Member           // the session's own; nil: any
	avoid    int               // so many of tried are of earlier attempts of the request
	tried    []*balance.Member // in vain, in this search and before it
	full     []*balance.Member // passed over because every connection was in use
	last     *fault.Error      // of the one that was tried last
	failures []*fault.Error    // of the first of them
	asked    bool              // DNS was asked anew after a failure
	dnsFrom  int64             // the look-up that the request waited for, if it did
	dnsTo    int64
	deadline int64   // of the wait in the queue
	queued   int64   // time spent there
	served   bool    // by the queue
	granted  *Member // whose pool serves the request, when it has waited; the queue's lock guards it until then
}

// search finds a connection, and says how.
func (c *cluster) search(task *netloop.Task, r *Request, v *view, from start) (Acquired, *fault.Error) {
	s := &search{cluster: c, task: task, r: *r, view: v}
	a, err := s.run(from)
	a.Queued, a.Failed = time.Duration(s.queued), s.failures
	if n := len(a.Failed); n > 0 && a.Failed[n-1] == err {
		a.Failed = a.Failed[:n-1]
	}
	if a.Passed = len(s.tried) - s.avoid + len(s.full); err != nil {
		return a, err
	}
	switch {
	case a.Member == s.pinned:
		a.Chosen = facts.ChosenSession
	case s.served:
		a.Chosen = facts.ChosenQueue
	case a.Passed > 0:
		a.Chosen = facts.ChosenNext
	}
	return a, nil
}

// run goes from member to member until one has a connection, beginning with from. A member that cannot be connected
// to is passed over for the next one, since no byte of the request has been sent.
func (s *search) run(from start) (Acquired, *fault.Error) {
	task := s.task
	b, why, got := from.b, from.why, from.got
	if from.pinned {
		s.pinned = b.Owner.(*Member)
	} else if b == nil {
		if err := s.begin(); err != nil {
			return Acquired{}, err
		}
	}
	for {
		if b != nil {
			if got == pool.Full {
				s.full = append(s.full, b)
			} else if a, ok := s.open(b.Owner.(*Member), why); ok {
				return a, nil
			}
		}
		var conn *pool.Conn
		if b = s.next(); b == nil {
			m, conn, opened, err := s.wait()
			switch {
			case err != nil:
				return Acquired{}, err
			case conn != nil:
				s.served = true
				return m.take(conn, ""), nil
			case m != nil:
				b, why, got = m.choice.Load(), opened, pool.Leave
			} // else there may be somebody new
			s.served = m != nil
			continue
		}
		m := b.Owner.(*Member)
		s.served = false
		if conn, why, got = m.pool.Try(task, s.r.Request); got == pool.Idle {
			return m.take(conn, ""), nil
		}
	}
}

// begin waits for a first answer of DNS where there is none yet, and finds the session's own member.
func (s *search) begin() (err *fault.Error) {
	if s.view == nil {
		if s.view, s.dnsFrom, s.dnsTo, err = s.first(s.task); err != nil {
			s.nameless(err)
			return err
		}
	}
	for _, m := range s.r.Avoid {
		s.tried = append(s.tried, m.choice.Load())
	}
	s.avoid = len(s.tried)
	if len(s.r.Token) == 0 {
		return nil
	}
	b, usable := s.view.set.ByToken(s.r.Token)
	switch {
	case b == nil: // a session of a server that is gone, or a text that somebody made up
	case usable:
		s.pinned = b.Owner.(*Member)
	case !s.failover():
		return s.unavailable(sessionGone)
	}
	return nil
}

// nameless tells of a connection that could not be opened since its name has no address.
func (s *search) nameless(err *fault.Error) {
	u, l := s.upstream, s.task.Loop()
	if u.hooks == nil || err.Kind != fault.DNS {
		return
	}
	f := facts.Connection{
		Upstream: u.name, Host: err.Host, WhyOpened: facts.OpenFirst, Opened: s.dnsFrom, DNSStart: s.dnsFrom,
		WhyClosed: facts.CloseConnectFailed, Closed: l.WallNow(), Err: err,
	}
	if s.r.Tunnel {
		f.WhyOpened = facts.OpenTunnel
	}
	u.hooks.ConnClosed(l, &f)
	err.ConnTrace, err.ConnSpan = f.TraceID, f.SpanID
}

func (s *search) failover() bool { return s.upstream.config.Load().Failover }

// bound says that only the session's own member will do: it has not failed in this search, nor, as far as the request may
// go elsewhere, in an earlier attempt.
func (s *search) bound() bool {
	return s.pinned != nil && !among(s.pinned, s.tried[s.avoid:]) && !(among(s.pinned, s.tried) && s.failover())
}

// next is the member to be tried now, or nil if all were.
func (s *search) next() *balance.Member {
	switch {
	case s.bound() && among(s.pinned, s.full):
		return nil // it is what the request waits for
	case s.bound():
		return s.pinned.choice.Load()
	case s.pinned != nil && !s.failover():
		return nil
	}
	b := s.pick()
	if b == nil && s.avoid > 0 { // better the same once more than none
		s.tried, s.avoid = s.tried[s.avoid:], 0
		return s.next()
	}
	return b
}

func (s *search) pick() *balance.Member {
	return s.view.set.PickBeside(s.task.Loop().Index(), s.r.Key, s.r.HasKey, s.tried, s.full)
}

// among says whether m is in the list, perhaps as it was before the set was made anew.
func among(m *Member, list []*balance.Member) bool {
	return slices.ContainsFunc(list, func(b *balance.Member) bool { return b.Load == &m.load })
}

// wait is for when nobody is left to be tried. It says who has become free, or returns nothing at all if there may be
// somebody new.
func (s *search) wait() (m *Member, conn *pool.Conn, why string, err *fault.Error) {
	if s.last != nil && !s.asked {
		s.asked = true
		if s.askAnew() {
			return nil, nil, "", nil
		}
	}
	l, cfg := s.task.Loop(), s.upstream.config.Load()
	limit := cfg.Queue.Acquire
	full := len(s.full) > 0
	switch {
	case s.upstream.ctx.Err() != nil:
		return nil, nil, "", s.named(stopping())
	case full:
	case s.last != nil:
		return nil, nil, "", s.last
	default:
		if limit = cfg.Queue.Timeout; limit <= 0 {
			return nil, nil, "", s.unavailable("")
		}
	}
	if s.deadline == 0 {
		if s.deadline = l.Now() + int64(limit); s.r.Until != 0 {
			s.deadline = min(s.deadline, max(s.r.Until, l.Now()+1))
		}
	}
	var only *pool.Pool
	if s.bound() {
		only = s.pinned.pool
	}
	since := l.Now()
	_, conn, why, err = s.queue.Wait(s.task, s.r.Request, only, s.acceptable, time.Duration(s.deadline-l.Now()), cfg.Queue.Max)
	s.queued += l.Now() - since
	if v := s.current.Load(); v != nil {
		s.view = v
	}
	switch {
	case err == nil && only != nil:
		return s.pinned, conn, why, nil
	case err == nil:
		return s.granted, conn, why, nil
	case err.Retryable: // the session's own member has gone
		s.pinned, s.full = nil, nil
		return nil, nil, "", nil
	case !full && err.Kind == fault.PoolExhausted:
		err = s.unavailable("although the request has waited for " + limit.String() + " (queue.timeout)")
	}
	return nil, nil, "", s.named(err)
}

func (s *search) named(err *fault.Error) *fault.Error {
	err.Upstream = s.upstream.name
	return err
}

// askAnew asks DNS about the targets that could not be connected to. True: there is somebody who was not tried.
func (s *search) askAnew() bool {
	names := s.tried[s.avoid:]
	s.task.Await(func() {
		ctx, cancel := context.WithTimeout(s.upstream.ctx, time.Second)
		defer cancel()
		for _, b := range names {
			b.Owner.(*Member).target.name.Await(ctx)
		}
	})
	v := s.current.Load()
	if v == nil || v == s.view {
		return false
	}
	s.view = v
	return slices.ContainsFunc(v.members, func(m *Member) bool { return !among(m, s.tried) && !among(m, s.full) })
}

// acceptable says whether a waiting request may be given a connection of p: one of a member that it could have been given
// to at once. The queue calls it under its lock, last of all for the pool that it serves the request from.
func (s *search) acceptable(p *pool.Pool) bool {
	v := s.current.Load()
	if v == nil {
		return false
	}
	m := v.byPool[p]
	if m == nil || !v.set.Serves(m.choice.Load(), s.tried) {
		return false
	}
	s.granted = m
	return true
}

// What a member is beside its health.
const (
	stateLeft    = "left"    // DNS no longer gives its address
	stateUnknown = "unknown" // its name has had no answer yet
)

// sessionGone is why a request of a sticky session has no member.
const sessionGone = "the session's target cannot be used, and sticky.failover is off"

// unavailable is the error of a request for which there is no member, although there are targets.
func (s *search) unavailable(why string) *fault.Error { return s.named(noneAvailable(s.view, why)) }

func noneAvailable(v *view, why string) *fault.Error {
	states := map[string]int{}
	for _, m := range v.members {
		state := m.stateNow()
		if of := m.choice.Load().State; of == balance.Drain || of == balance.Disabled {
			state = of.String()
		}
		states[state]++
	}
	if why != "" {
		why = " (" + why + ")"
	}
	return fault.New(fault.Unavailable, fault.Upstream, 503, "no target is available: %s%s; see health and targets[].state", counted(states), why)
}
