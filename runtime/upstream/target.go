package upstream

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"wasmgate/runtime/fault"
	"wasmgate/runtime/netloop"
	"wasmgate/runtime/upstream/facts"
	"wasmgate/runtime/upstream/pool"
	"wasmgate/runtime/upstream/resolve"
)

// target is one server of an upstream: its name, the addresses that the name has now, and their pools.
type target struct {
	upstream *Upstream
	Target
	hostport  string
	authority []byte // hostport as a Host field has it: without the scheme's own port
	name      *resolve.Name
	current   atomic.Pointer[addresses]
	next      atomic.Uint32
	mu        sync.Mutex // guards pools
	pools     map[netip.AddrPort]*pool.Pool
}

func newTarget(u *Upstream, t Target) *target {
	own := uint16(80)
	if t.TLS {
		own = 443
	}
	authority := net.JoinHostPort(t.Host, strconv.Itoa(int(t.Port)))
	if t.Port == own {
		authority = strings.TrimSuffix(authority, ":"+strconv.Itoa(int(own)))
	}
	return &target{
		upstream: u, Target: t, authority: []byte(authority),
		hostport: net.JoinHostPort(t.Host, strconv.Itoa(int(t.Port))),
		name:     u.names.Name(t.Host, u.config.DNS),
		pools:    map[netip.AddrPort]*pool.Pool{},
	}
}

func (t *target) setOptions(o pool.Options) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, p := range t.pools {
		p.SetOptions(o)
	}
}

func (t *target) close(reason string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, p := range t.pools {
		p.Drain(t.upstream.group, reason)
	}
	t.name.Close()
}

// busy is how many connections are in use.
func (t *target) busy() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := 0
	for _, p := range t.pools {
		n += p.Open() - p.Idle() + p.Waiting()
	}
	return n
}

// acquire takes or opens a connection to one of the target's addresses. Addresses that cannot be connected to are
// passed over for the next one, since no byte of the request has been sent.
func (t *target) acquire(task *netloop.Task, r Request) (Acquired, *fault.Error) {
	var dnsStart, dnsEnd int64
	addrs := t.fresh()
	if addrs == nil {
		l := task.Loop()
		dnsStart = l.WallNow()
		var err *fault.Error
		if addrs, err = t.resolve(task); err != nil {
			return Acquired{}, t.blame(err, netip.AddrPort{})
		}
		dnsEnd = l.WallNow()
	}
	first := 0
	if len(addrs.list) > 1 {
		first = int(t.next.Add(1))
	}
	var last *fault.Error
	for i := range addrs.list {
		a := addrs.list[(first+i)%len(addrs.list)]
		c, why, err := a.pool.Get(task, r.Request)
		if err != nil {
			return Acquired{}, t.blame(err, a.addr)
		}
		if c != nil {
			return Acquired{Conn: c}, nil
		}
		c, err = t.open(task, a, addrs.answer, r.Connect, why, dnsStart, dnsEnd)
		if err == nil {
			return Acquired{Conn: c, WhyNew: why}, nil
		}
		last = t.blame(err, a.addr)
		dnsStart, dnsEnd = 0, 0
	}
	return Acquired{}, last
}

func (t *target) blame(err *fault.Error, addr netip.AddrPort) *fault.Error {
	err.Upstream, err.Host = t.upstream.config.Name, t.hostport
	if addr.IsValid() {
		err.Address = addr.String()
	}
	return err
}

// fresh returns the addresses by the answer that is in force, or nil if a name server must be asked first.
func (t *target) fresh() *addresses {
	answer := t.name.Current()
	if answer == nil {
		return nil
	}
	if a := t.current.Load(); a != nil && a.answer == answer {
		return a
	}
	return t.adopt(answer)
}

func (t *target) resolve(task *netloop.Task) (*addresses, *fault.Error) {
	var answer *resolve.Answer
	var err error
	task.Await(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		answer, err = t.name.Resolve(ctx)
	})
	if err != nil {
		var e *fault.Error
		if errors.As(err, &e) {
			own := *e // the resolver's error is shared by all who waited for it
			return nil, &own
		}
		return nil, &fault.Error{Kind: fault.DNS, Source: fault.Upstream, Status: 502, Retryable: true, Err: err}
	}
	return t.adopt(answer), nil
}

// adopt makes an answer the one in force. Pools of addresses that it repeats are kept; those of others are drained.
func (t *target) adopt(answer *resolve.Answer) *addresses {
	t.mu.Lock()
	defer t.mu.Unlock()
	if a := t.current.Load(); a != nil && a.answer == answer {
		return a
	}
	a := &addresses{answer: answer}
	kept := make(map[netip.AddrPort]*pool.Pool, len(answer.Addrs))
	for _, ip := range answer.Addrs {
		addr := netip.AddrPortFrom(ip.Unmap(), t.Port)
		p := t.pools[addr]
		if p == nil {
			p = pool.New(len(t.upstream.group.Loops()), t.upstream.config.Pool, t.upstream.hooks)
		}
		kept[addr] = p
		a.list = append(a.list, address{addr, p})
	}
	for addr, p := range t.pools {
		if kept[addr] == nil {
			p.Drain(t.upstream.group, facts.CloseAddressGone)
		}
	}
	t.pools = kept
	t.current.Store(a)
	return a
}

// open dials with the leave that the pool gave.
func (t *target) open(task *netloop.Task, a address, answer *resolve.Answer, limit time.Duration, why string, dnsStart, dnsEnd int64) (*pool.Conn, *fault.Error) {
	u, l := t.upstream, task.Loop()
	c := &pool.Conn{Facts: facts.Connection{
		Upstream: u.config.Name, Host: t.hostport, Address: a.addr, WhyOpened: why,
		Opened: l.WallNow(), DNSStart: dnsStart, DNSEnd: dnsEnd, DialStart: l.WallNow(),
		DNSTTL: answer.TTL, DNSServer: answer.Server, DNSStale: answer.Stale,
	}}
	f := &c.Facts
	if dnsStart != 0 {
		f.Opened = dnsStart
	}
	if !answer.At.IsZero() {
		f.DNSAnswerAt = answer.At.UnixNano()
	}
	err := t.connect(task, c, limit)
	if err != nil {
		f.Err, f.WhyClosed, f.Closed = err, facts.CloseConnectFailed, l.WallNow()
		if u.hooks != nil {
			u.hooks.ConnClosed(l, f)
		}
		a.pool.GiveUp(l)
		return nil, err
	}
	f.Established = l.WallNow()
	a.pool.Opened(c)
	if u.hooks != nil {
		u.hooks.ConnOpened(l, f)
	}
	return c, nil
}

// connect makes the socket, and TLS on top of it where the target wants it.
func (t *target) connect(task *netloop.Task, c *pool.Conn, limit time.Duration) *fault.Error {
	cfg, l := &t.upstream.config, task.Loop()
	if limit <= 0 {
		limit = cfg.Connect
	}
	nc, err := l.Dial(task, c.Facts.Address, deadline(l, limit), netloop.DialOptions{KeepAlive: cfg.TCPKeepAlive, ReceiveBuffer: cfg.ReceiveBuffer})
	if err != nil {
		if errors.Is(err, netloop.ErrDeadline) {
			return &fault.Error{Kind: fault.ConnectTimeout, Source: fault.Upstream, Status: 504, Retryable: true,
				Detail: "not connected within " + limit.String() + " (timeouts.connect)"}
		}
		return &fault.Error{Kind: fault.Connect, Source: fault.Upstream, Status: 502, Retryable: true, Err: err}
	}
	c.Net, c.Stream, c.Facts.ID = nc, nc, nc.ID()
	c.Facts.DialEnd = l.WallNow()
	if t.TLS {
		return t.handshake(task, c)
	}
	return nil
}

func deadline(l *netloop.Loop, d time.Duration) int64 {
	if d <= 0 {
		return 0
	}
	return l.Now() + int64(d)
}
