package gateway

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"slices"

	"wasmgate/config"
	"wasmgate/runtime/breaker"
	"wasmgate/runtime/http1"
	"wasmgate/runtime/proxy"
	"wasmgate/runtime/proxyproto"
	"wasmgate/runtime/server"
	"wasmgate/runtime/session"
	"wasmgate/runtime/upstream"
	"wasmgate/runtime/upstream/balance"
	"wasmgate/runtime/upstream/health"
	"wasmgate/runtime/upstream/pool"
	"wasmgate/runtime/upstream/probe"
	"wasmgate/runtime/upstream/resolve"
)

// liveUpstream is an upstream and what it was made of, to see whether another config's is the same.
type liveUpstream struct {
	*upstream.Upstream
	config  config.Upstream
	trusted []byte           // what tls.ca had
	changed *upstream.Config // set where it is kept, and has to follow another config
}

func (g *Gateway) buildUpstreams(s *state, old *state) error {
	for name := range s.config.Upstreams {
		s.order = append(s.order, name)
	}
	slices.Sort(s.order)
	var errs []error
	for _, name := range s.order {
		u, err := g.buildUpstream(name, *s.config.Upstreams[name], headLimits(s.config), old)
		if err != nil {
			errs = append(errs, ofUpstream(name, err))
			continue
		}
		s.upstreams[name] = u
	}
	return errors.Join(errs...)
}

// ofUpstream is an error of an upstream's at its place.
func ofUpstream(name string, err error) error {
	at := "upstreams." + name
	if r := (*Remark)(nil); errors.As(err, &r) {
		own := *r
		own.Path = at + "." + r.Path
		return &own
	}
	return fmt.Errorf("%s: %w", at, err)
}

// buildUpstream takes the upstream from old, with its connections, unless what these are made of has changed.
func (g *Gateway) buildUpstream(name string, c config.Upstream, limits *http1.Limits, old *state) (liveUpstream, error) {
	ca, err := trusted(&c.TLS)
	if err != nil {
		return liveUpstream{}, err
	}
	if old != nil {
		if was, ok := old.upstreams[name]; ok && bytes.Equal(was.trusted, ca) && reflect.DeepEqual(connections(was.config), connections(c)) {
			kept := liveUpstream{Upstream: was.Upstream, config: c, trusted: ca}
			if !reflect.DeepEqual(was.config, c) {
				uc := upstreamConfig(name, &c)
				kept.changed = &uc
			}
			return kept, nil
		}
	}
	uc := upstreamConfig(name, &c)
	if uc.TLS, err = clientTLS(&c, ca); err != nil {
		return liveUpstream{}, err
	}
	if c.TLS.Cert != "" {
		id, err := newIdentity(uc.TLS, c.TLS.Cert, c.TLS.Key, g.log)
		if err != nil {
			return liveUpstream{}, err
		}
		uc.Secure = id.current
	}
	if c.Protocol == config.ProtocolHTTP2 {
		uc.Session = proxy.StartHTTP2(limits)
	}
	return liveUpstream{Upstream: upstream.New(g.group, uc, g.names, &hooks{g.observers, g.telemetry, g.log}), config: c, trusted: ca}, nil
}

// connections is what of an upstream's config its connections, and the look-ups of its names, depend on.
func connections(c config.Upstream) config.Upstream {
	dns := c.DNS
	dns.Drain = 0
	multiplexed := config.ProtocolHTTP11
	if c.Protocol == config.ProtocolHTTP2 {
		multiplexed = c.Protocol
	}
	return config.Upstream{Protocol: multiplexed, Dynamic: c.Dynamic, TLS: c.TLS, TCP: c.TCP, ProxyProtocol: c.ProxyProtocol, DNS: dns,
		Retries: config.Retries{Budget: c.Retries.Budget, BudgetLeast: c.Retries.BudgetLeast}}
}

// upstreamConfig is everything but TLS, which may fail.
func upstreamConfig(name string, c *config.Upstream) upstream.Config {
	uc := upstream.Config{
		Name: name, Pool: poolOptions(&c.Pool),
		Queue:   upstream.Queue{Max: c.Queue.Max, Acquire: c.Pool.AcquireTimeout.Std(), Timeout: c.Queue.Timeout.Std()},
		Balance: balance.Options{Algorithm: algorithms[c.Balance.Algorithm], BoundedLoad: float64(c.HashLoad), RecoverAll: c.Health.Passive.RecoverAll},
		Health:  healthRules(c),
		Breaker: breaker.Options{Ratio: float64(c.Breaker.Ratio), Requests: c.Breaker.Requests, Window: c.Breaker.Window.Std(), Open: c.Breaker.OpenFor.Std()},
		Budget:  upstream.Budget{Ratio: float64(c.Retries.Budget), Least: c.Retries.BudgetLeast},
		Connect: c.Timeouts.Connect.Std(), Handshake: c.Timeouts.TLSHandshake.Std(),
		TCPKeepAlive: c.TCP.KeepAlive.Std(), ReceiveBuffer: int(c.TCP.ReceiveBuffer),
		DNS:   resolve.NameOptions{Server: c.DNS.Server, MinTTL: c.DNS.MinTTL.Std(), MaxTTL: c.DNS.MaxTTL.Std(), Jitter: float64(c.DNS.Jitter), Family: families[c.DNS.Family]},
		Drain: c.DNS.Drain.Std(), Failover: c.Sticky.Failover, Preface: preface(c.ProxyProtocol),
	}
	uc.Pool.Shared = c.Protocol == config.ProtocolHTTP2
	for _, t := range c.Targets {
		uc.Targets = append(uc.Targets, target(&t))
	}
	if c.Dynamic.Enabled() {
		d := c.Dynamic
		uc.Dynamic = &upstream.Dynamic{TLS: d.Scheme == config.HTTPS, Max: d.MaxPools, Allow: d.Allows}
	}
	return uc
}

func target(t *config.Target) upstream.Target {
	return upstream.Target{
		Host: t.Host, Port: t.Port, TLS: t.Scheme == config.HTTPS, Weight: t.Weight, Tier: t.Tier, State: targetStates[t.State],
		Route: t.Route, Redirect: t.Redirect, IgnoreErrors: t.IgnoreErrors,
	}
}

// liveTarget reads the URL of a target that is added while the gateway runs.
func liveTarget(url string) (upstream.Target, error) {
	t := config.DefaultTarget()
	err := t.Origin.UnmarshalText([]byte(url))
	return target(&t), err
}

var (
	algorithms = map[config.Algorithm]balance.Algorithm{
		config.RoundRobin: balance.RoundRobin, config.LeastRequests: balance.LeastRequests, config.LeastBytes: balance.LeastBytes,
		config.RandomTwo: balance.RandomTwo, config.First: balance.First, config.Hash: balance.Hash,
	}
	targetStates = map[config.TargetState]balance.State{
		config.TargetActive: balance.Active, config.TargetStandby: balance.Standby, config.TargetSpare: balance.Spare,
		config.TargetDrain: balance.Drain, config.TargetDisabled: balance.Disabled,
	}
	families = map[config.DNSFamily]resolve.Family{config.FamilyAny: resolve.Any, config.FamilyIPv4: resolve.IPv4, config.FamilyIPv6: resolve.IPv6}
	reuses   = map[config.Reuse]pool.Reuse{config.ReuseAlways: pool.Always, config.ReuseSafe: pool.Safe, config.ReuseNever: pool.Never}
	hashOns  = map[config.HashOn]server.HashOn{
		config.HashIP: server.HashIP, config.HashPath: server.HashPath, config.HashQuery: server.HashQuery,
		config.HashHeader: server.HashHeader, config.HashCookie: server.HashCookie,
	}
	sameSites = map[config.SameSite]session.SameSite{config.SameSiteLax: session.Lax, config.SameSiteStrict: session.Strict, config.SameSiteNone: session.None}
)

func poolOptions(c *config.Pool) pool.Options {
	o := pool.Options{
		MaxConnections: c.MaxConnections, KeepIdle: c.KeepIdle, MinIdle: c.MinIdle, IdleTimeout: c.IdleTimeout.Std(),
		Reuse: reuses[c.Reuse], MaxRequests: uint64(c.MaxRequests), MaxAge: c.MaxAge.Std(), MaxAgeJitter: float64(c.MaxAgeJitter),
		LearnIdle: c.LearnIdleTimeout,
	}
	if c.Ping == config.PingOff {
		o.Ping = pool.PingOff
	}
	return o
}

func healthRules(c *config.Upstream) upstream.Health {
	p, a := &c.Health.Passive, &c.Health.Active
	h := upstream.Health{
		Passive: health.Passive{
			Failures: p.Failures, EjectFor: p.EjectFor.Std(), EjectMax: p.EjectMax.Std(),
			OnConnect: p.OnConnect, OnTimeout: p.FailOnTimeout, OnStatus: ranges(p.FailOnStatus),
		},
		SlowStart: c.Health.SlowStart.Std(),
	}
	if a.Type == config.CheckOff {
		return h
	}
	h.Active = &upstream.Check{Active: health.Active{Rise: a.Rise, Fall: a.Fall}, Interval: a.Interval.Std(), Timeout: a.Timeout.Std()}
	switch a.Type {
	case config.CheckGRPC:
		h.Active.Probe = (&probe.GRPC{Service: a.Service, Host: a.Host, Timeout: a.Timeout.Std()}).Probe
	case config.CheckHTTP:
		probe := &probe.HTTP{Target: a.Path, Host: a.Host, Status: ranges(a.Status), HTTP10: c.Protocol == config.ProtocolHTTP10}
		h.Active.Probe = probe.Probe
		if c.Protocol == config.ProtocolHTTP2 {
			h.Active.Probe = probe.ProbeHTTP2
		}
	}
	return h
}

func ranges(list []config.StatusRange) (r health.Ranges) {
	for _, s := range list {
		r = append(r, health.StatusRange{First: s.First, Last: s.Last})
	}
	return r
}

// preface is the PROXY protocol's header, with which connections begin where the upstream wants one.
func preface(p config.ProxyProtocol) func(b []byte, src, dst netip.AddrPort) []byte {
	version := proxyproto.V2
	switch p {
	case config.ProxyProtocolOff:
		return nil
	case config.ProxyProtocolV1:
		version = proxyproto.V1
	}
	return func(b []byte, src, dst netip.AddrPort) []byte { return proxyproto.Append(b, version, src, dst) }
}

// plan is how requests are given to an upstream.
func plan(c *config.Upstream, limits *http1.Limits) (server.Plan, error) {
	p := server.Plan{
		Options: proxy.Options{
			ResponseHeader: c.Timeouts.ResponseHeader.Std(), IdleRead: c.Timeouts.IdleRead.Std(),
			TunnelIdle: c.Timeouts.TunnelIdle.Std(), TunnelMax: c.Timeouts.TunnelMax.Std(),
			Attempts: c.Retries.Attempts, PerTry: c.Retries.PerTryTimeout.Std(), Backoff: c.Retries.Backoff.Std(),
			Hedge: c.Hedge.After.Std(), HTTP10: c.Protocol == config.ProtocolHTTP10, HTTP2: c.Protocol == config.ProtocolHTTP2, Owned: c.ProxyProtocol != config.ProxyProtocolOff, Limits: limits,
		},
		Timeout: c.Timeouts.Request.Std(), GRPCWeb: c.GRPCWeb, Host: hostPolicy(c.Host),
		Affinity: server.Affinity{HashOn: hashOns[c.Balance.On], Name: c.Balance.Name},
	}
	if c.Pool.Ping == config.PingExpectContinue {
		p.Ping = c.Pool.PingTimeout.Std()
	}
	for _, on := range c.Retries.On {
		switch on.On {
		case config.RetryConnect:
			p.RetryOn.Connect = true
		case config.RetryReset:
			p.RetryOn.Reset = true
		case config.RetryTimeout:
			p.RetryOn.Timeout = true
		case config.RetryStatus:
			p.RetryOn.Status = append(p.RetryOn.Status, health.StatusRange{First: on.Status.First, Last: on.Status.Last})
		}
		if code, ok := on.GRPC(); ok {
			p.RetryOn.Calls |= 1 << code
		}
	}
	if !c.Sticky.Enabled() {
		return p, nil
	}
	o := session.Options{
		Cookie: c.Sticky.Cookie, PathParameter: c.Sticky.PathParameter, Header: c.Sticky.Header, Insert: c.Sticky.Insert,
		TTL: c.Sticky.TTL.Std(), Path: c.Sticky.Path, Secure: c.Sticky.Secure, HTTPOnly: c.Sticky.HTTPOnly, SameSite: sameSites[c.Sticky.SameSite],
	}
	if c.Sticky.Separator != "" {
		o.Separator = c.Sticky.Separator[0]
	}
	var err error
	p.Affinity.Sessions, err = session.New(o)
	return p, err
}
