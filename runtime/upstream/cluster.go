package upstream

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"wasmgate/runtime/fault"
	"wasmgate/runtime/internal/unixaddr"
	"wasmgate/runtime/netloop"
	"wasmgate/runtime/upstream/balance"
	"wasmgate/runtime/upstream/pool"
	"wasmgate/runtime/upstream/resolve"
)

// cluster is the targets among whose members one choice is made, and the queue of the requests that wait for one.
type cluster struct {
	upstream  *Upstream
	authority atomic.Pointer[[]byte] // of the first target, as a Host field has it
	empty     atomic.Bool
	queue     *pool.Queue
	current   atomic.Pointer[view]

	users atomic.Int64 // of a dynamic authority: requests that are in acquire; negative when it is forgotten
	used  atomic.Int64 // when the last of them came; loop time

	mu      sync.Mutex // guards what follows, and the targets; it is held for moments, and never on a request's usual way
	targets []*target
	closed  bool
	news    []MemberEvent // to be told when mu is not held
	telling bool          // somebody does
}

// view is the members that are in force. It is immutable, but for who of them can be chosen at the moment, which is
// the set's to know.
type view struct {
	set     *balance.Set
	members []*Member
	byPool  map[*pool.Pool]*Member
}

// target is a Target with its name and the members that this stands for, or stood for a moment ago.
type target struct {
	Target            // in force; dials go by the copies of what never changes
	configured Target // as the configuration has it
	live       bool   // weight, tier or state were changed while the gateway ran
	added      bool   // the configuration does not have it: it was added while the gateway ran
	secure     bool   // TLS
	serverName string // the target's host
	hostport   string
	host       []byte // hostport as a Host field has it: without the scheme's own port
	name       *resolve.Name
	members    map[netip.AddrPort]*Member
}

func newCluster(u *Upstream, targets []Target) *cluster {
	c := &cluster{upstream: u, queue: pool.NewQueue()}
	c.retarget(targets)
	return c
}

// enter notes a request that looks for a connection; false: the cluster has been forgotten, and there may be another.
func (c *cluster) enter(now int64) bool {
	if c.users.Add(1) <= 0 {
		c.users.Add(-1)
		return false
	}
	c.used.Store(now)
	return true
}

func (c *cluster) leave() { c.users.Add(-1) }

// forgotten is far below what requests could add up to.
const forgotten = -1 << 40

// forget closes the cluster for newcomers, unless a request looks for a connection of it or has one.
func (c *cluster) forget() bool {
	if !c.users.CompareAndSwap(0, forgotten) {
		return false
	}
	if open, idle := c.counts(); open != idle {
		c.users.Add(-forgotten)
		return false
	}
	return true
}

// tell tells the hooks what has happened to members, in order, one at a time, and without the lock: they may take their
// time, and look at the upstream.
func (c *cluster) tell() {
	for {
		c.mu.Lock()
		news := c.news
		if c.telling || len(news) == 0 {
			c.mu.Unlock()
			return
		}
		c.news, c.telling = nil, true
		c.mu.Unlock()
		c.deliver(news)
	}
}

func (c *cluster) deliver(news []MemberEvent) {
	defer func() {
		c.mu.Lock()
		c.telling = false
		c.mu.Unlock()
	}()
	for _, e := range news {
		c.upstream.hooks.MemberChanged(e)
	}
}

// hostField is host:port of a target without the port that its scheme stands for.
func hostField(t Target) []byte {
	if unixaddr.IsPath(t.Host) {
		return []byte(localhost)
	}
	own := uint16(80)
	if t.TLS {
		own = 443
	}
	switch {
	case t.Port != own && t.Port != 0:
		return []byte(net.JoinHostPort(t.Host, strconv.Itoa(int(t.Port))))
	case strings.Contains(t.Host, ":"):
		return []byte("[" + t.Host + "]")
	}
	return []byte(t.Host)
}

// localhost is what a target on a Unix socket is called, by Host and by TLS, where nothing else says it.
const localhost = "localhost"

// hostport is how a target is told from others, by people too.
func hostport(t Target) string {
	if unixaddr.IsPath(t.Host) {
		return unixaddr.Host(t.Host)
	}
	return net.JoinHostPort(t.Host, strconv.Itoa(int(t.Port)))
}

// retarget makes these the cluster's targets, and keeps those that were added live. Those that it had before keep their
// names and members. The caller tells.
func (c *cluster) retarget(targets []Target) {
	c.mu.Lock()
	old := c.targets
	c.targets = nil
	for _, spec := range targets {
		i := slices.IndexFunc(old, func(t *target) bool { return t.is(spec) })
		if i < 0 {
			c.targets = append(c.targets, c.newTarget(spec))
			continue
		}
		t := old[i]
		old = slices.Delete(slices.Clone(old), i, i+1)
		if spec != t.configured || t.added {
			t.Target, t.configured, t.live, t.added = spec, spec, false, false
		}
		c.targets = append(c.targets, t)
	}
	for _, t := range old {
		if t.added {
			c.targets = append(c.targets, t)
			continue
		}
		t.end("the configuration has its target no more")
	}
	c.listed()
	c.mu.Unlock()
	c.follow()
}

// listed tells requests what the list of targets is. c.mu is held.
func (c *cluster) listed() {
	var authority []byte
	if len(c.targets) > 0 {
		authority = c.targets[0].host
	}
	c.authority.Store(&authority)
	c.empty.Store(len(c.targets) == 0)
}

// is says whether the target, changed perhaps in weight or the like, is the one that is configured.
func (t *target) is(spec Target) bool {
	return t.configured.Host == spec.Host && t.configured.Port == spec.Port && t.configured.TLS == spec.TLS
}

// follow has the members see a new config. The caller tells.
func (c *cluster) follow() {
	c.mu.Lock()
	for _, t := range c.targets {
		for _, m := range t.members {
			m.configure()
		}
	}
	c.mu.Unlock()
	c.assemble(true)
}

func (c *cluster) newTarget(spec Target) *target {
	u := c.upstream
	t := &target{
		Target: spec, configured: spec, secure: spec.TLS, serverName: spec.Host, host: hostField(spec),
		hostport: hostport(spec), members: map[netip.AddrPort]*Member{},
	}
	if unixaddr.IsPath(spec.Host) {
		t.serverName = localhost
	}
	o := u.config.Load().DNS
	o.OnChange = func(*resolve.Answer) { c.rebuild() }
	t.name = u.names.Name(spec.Host, o)
	if t.name.Current() == nil { // what is asked now is there when the first request comes
		u.beside(func() {
			ctx, cancel := context.WithTimeout(u.ctx, lookUpLimit)
			defer cancel()
			_, _ = t.name.Resolve(ctx) // a request that needs it asks again, and has the error
		})
	}
	return t
}

// lookUpLimit is how long a name that never had an answer may take.
const lookUpLimit = 10 * time.Second

// rebuild puts the members in force that the names of the targets stand for now, and tells of it.
func (c *cluster) rebuild() {
	c.assemble(false)
	c.tell()
}

// assemble makes the view; anew, if how members are chosen may have changed too.
func (c *cluster) assemble(anew bool) {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return
	}
	v := &view{byPool: map[*pool.Pool]*Member{}}
	var choices []*balance.Member
	for _, t := range c.targets {
		choices, v.members = c.membersOf(t, choices, v.members)
	}
	reduce(choices)
	switch now := c.current.Load(); {
	case len(choices) == 0:
		c.current.Store(nil)
	case !anew && now != nil && slices.EqualFunc(now.set.Members(), choices, func(a, b *balance.Member) bool { return *a == *b }):
		// Nothing to choose from is another: a new set would forget whose turn it is.
	default:
		v.set = balance.NewSet(len(c.upstream.group.Loops()), c.balancing(), choices)
		for i, m := range v.members {
			v.byPool[m.pool] = m
			if m.choice.Swap(choices[i]) == nil { // a newcomer, who has all that it takes now
				m.tend()
			}
		}
		c.current.Store(v)
	}
	c.mu.Unlock()
	c.queue.Kick()
}

// balancing is how the members are chosen. Only First has to know beforehand who is full: the others find out.
func (c *cluster) balancing() balance.Options {
	o := c.upstream.config.Load().Balance
	if o.Algorithm == balance.First {
		o.Full = func(b *balance.Member) bool { return b.Owner.(*Member).pool.Full() }
	}
	return o
}

// weightUnit is what a target's weight is multiplied by, to be divided among its addresses.
const weightUnit = 5040 // divisible by everything up to 10

// membersOf appends what the target's name stands for; members that it has no more are parked. c.mu is held.
func (c *cluster) membersOf(t *target, choices []*balance.Member, members []*Member) ([]*balance.Member, []*Member) {
	answer := t.name.Current()
	if answer == nil {
		return choices, members
	}
	seen := map[netip.AddrPort]bool{}
	sums := map[uint16]int{} // of SRV weights, by priority
	for _, e := range answer.Endpoints {
		sums[e.Priority] += max(int(e.Weight), 1)
	}
	for _, e := range answer.Endpoints {
		addr := netip.AddrPortFrom(e.Addr.Unmap(), t.Port) // of a Unix socket as unixaddr has it, since it has no port
		if e.Port != 0 {
			addr = netip.AddrPortFrom(e.Addr.Unmap(), e.Port)
		}
		if seen[addr] {
			continue
		}
		seen[addr] = true
		m := t.members[addr]
		if m == nil {
			m = c.newMember(t, addr)
			t.members[addr] = m
		}
		m.unpark()
		m.answer.Store(answer)
		b := &balance.Member{
			Name: t.hostport + "/" + addr.String(), Token: m.token(len(answer.Endpoints)), Route: t.Route, Redirect: t.Redirect, State: t.State,
			Weight: max(1, max(t.Weight, 1)*weightUnit*max(int(e.Weight), 1)/sums[e.Priority]),
			Tier:   t.Tier<<16 | int(e.Priority), Load: &m.load, Owner: m,
		}
		if t.State == balance.Disabled {
			m.pool.CloseIdle(c.upstream.group, reasonRemoved)
		}
		choices, members = append(choices, b), append(members, m)
	}
	for addr, m := range t.members {
		if !seen[addr] {
			c.park(t, m)
		}
	}
	return choices, members
}

// reduce divides all weights by what divides all of them.
func reduce(list []*balance.Member) {
	d := 0
	for _, m := range list {
		for a, b := d, m.Weight; ; a, b = b, a%b {
			if b == 0 {
				d = a
				break
			}
		}
	}
	for _, m := range list {
		m.Weight /= d
	}
}

// maxParked is how many members of one target that its name no longer stands for are remembered.
const maxParked = 256

// park takes a member out of use: requests under way end, its idle connections wait for its return. c.mu is held.
func (c *cluster) park(t *target, m *Member) {
	if m.leaving != nil {
		return
	}
	parked := 0
	for _, other := range t.members {
		if other.leaving != nil {
			parked++
		}
	}
	drain := c.upstream.config.Load().Drain
	if parked >= maxParked {
		drain = 0
	}
	m.pool.Park()
	m.changed("left", "DNS no longer gives its address")
	var timer *time.Timer
	timer = time.AfterFunc(drain, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if m.leaving == timer && !c.closed { // else it came back meanwhile, and has perhaps left again
			delete(t.members, m.Address)
			m.end(reasonGone)
		}
	})
	m.leaving = timer
}

// first waits for the first answer to the name of any target. The times are of the look-up.
func (c *cluster) first(task *netloop.Task) (v *view, from, to int64, fe *fault.Error) {
	l := task.Loop()
	from = l.WallNow()
	c.mu.Lock()
	targets := slices.Clone(c.targets)
	c.mu.Unlock()
	var err error
	task.Await(func() { err = c.resolveAny(targets) })
	if v = c.current.Load(); v != nil {
		return v, from, l.WallNow(), nil
	}
	if err == nil { // the targets were changed meanwhile
		err = context.Canceled
	}
	if e := (*fault.Error)(nil); asFault(err, &e) {
		own := *e // the resolver's error is shared by all who waited for it
		fe = &own
	} else {
		fe = &fault.Error{Kind: fault.DNS, Source: fault.Upstream, Status: 502, Retryable: true, Err: err}
	}
	fe.Upstream = c.upstream.name
	if len(targets) > 0 && (fe.Host == "" || len(targets) == 1) {
		fe.Host = targets[0].hostport
	}
	return nil, from, l.WallNow(), fe
}

// resolveAny returns when one of the names has an answer, or none will have one.
func (c *cluster) resolveAny(targets []*target) error {
	u := c.upstream
	ctx, cancel := context.WithTimeout(u.ctx, lookUpLimit)
	results := make(chan error, len(targets))
	var asking sync.WaitGroup
	for _, t := range targets {
		asking.Go(func() {
			_, err := t.name.Resolve(ctx)
			results <- err
		})
	}
	u.beside(func() { // the others' answers are wanted too
		asking.Wait()
		cancel()
	})
	var last error
	for range targets {
		if last = <-results; last == nil {
			c.rebuild()
			return nil
		}
	}
	return last
}

// counts are the connections of all members, of those too that are parked.
func (c *cluster) counts() (open, idle int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, t := range c.targets {
		for _, m := range t.members {
			open += m.pool.Open()
			idle += m.pool.Idle()
		}
	}
	return open, idle
}

func (c *cluster) close(reason string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	for _, t := range c.targets {
		t.name.Close()
		for _, m := range t.members {
			m.end(reason)
		}
	}
}

// end drains a target. The cluster's mu is held.
func (t *target) end(why string) {
	t.name.Close()
	for addr, m := range t.members {
		delete(t.members, addr)
		if m.leaving == nil {
			m.changed("left", why)
		}
		m.end(reasonRemoved)
	}
}
