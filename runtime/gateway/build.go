package gateway

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"reflect"
	"slices"

	"golang.org/x/sys/unix"

	"wasmgate/config"
	"wasmgate/runtime/exchange"
	"wasmgate/runtime/http1"
	"wasmgate/runtime/proxy"
	"wasmgate/runtime/server"
	"wasmgate/runtime/upstream"
	"wasmgate/runtime/upstream/pool"
	"wasmgate/runtime/upstream/resolve"
)

// state is a config in force: everything that is made of it. It is immutable after build.
type state struct {
	config    *config.Config
	upstreams map[string]liveUpstream // by name
	order     []string                // the upstreams' ids
	plugins   map[string]*plugin
	listeners []*server.Snapshot // beside config.Listeners
}

// liveUpstream is an upstream and what it was made of, to see whether another config's is the same.
type liveUpstream struct {
	*upstream.Upstream
	config config.Upstream
	pool   *config.Pool // set where only the pool's limits differ from those it was made with
}

// build makes a state of a config. What old has too is taken from it. Nothing that old has is changed.
func (g *Gateway) build(c *config.Config, old *state) (*state, error) {
	s := &state{config: c, upstreams: map[string]liveUpstream{}, plugins: map[string]*plugin{}}
	err := errors.Join(g.buildUpstreams(s, old), g.buildPlugins(s, old))
	if err == nil {
		err = g.buildListeners(s)
	}
	if err != nil {
		g.discard(s, old)
		return nil, err
	}
	return s, nil
}

// apply changes what s shares with old: limits of pools that are kept.
func (s *state) apply(old *state) {
	for _, u := range s.upstreams {
		if u.pool != nil {
			u.SetPool(poolOptions(u.pool))
		}
	}
}

func (g *Gateway) buildUpstreams(s *state, old *state) error {
	for name := range s.config.Upstreams {
		s.order = append(s.order, name)
	}
	slices.Sort(s.order)
	var errs []error
	for _, name := range s.order {
		u, err := g.buildUpstream(name, *s.config.Upstreams[name], old)
		if err != nil {
			errs = append(errs, fmt.Errorf("upstreams.%s: %w", name, err))
			continue
		}
		s.upstreams[name] = u
	}
	return errors.Join(errs...)
}

// buildUpstream takes the upstream from old if it is the same but for the pool's limits, with its connections.
func (g *Gateway) buildUpstream(name string, c config.Upstream, old *state) (liveUpstream, error) {
	if old != nil {
		if was, ok := old.upstreams[name]; ok && reflect.DeepEqual(connections(was.config), connections(c)) {
			kept := liveUpstream{Upstream: was.Upstream, config: c}
			if was.config.Pool != c.Pool {
				kept.pool = &c.Pool
			}
			return kept, nil
		}
	}
	tlsConfig, err := clientTLS(&c)
	if err != nil {
		return liveUpstream{}, err
	}
	uc := upstream.Config{
		Name: name, Pool: poolOptions(&c.Pool), TLS: tlsConfig,
		Connect: c.Timeouts.Connect.Std(), Handshake: c.Timeouts.TLSHandshake.Std(), TCPKeepAlive: c.TCP.KeepAlive.Std(),
		DNS: resolve.NameOptions{Server: c.DNS.Server, MinTTL: c.DNS.MinTTL.Std(), MaxTTL: c.DNS.MaxTTL.Std()},
	}
	for _, t := range c.Targets {
		uc.Targets = append(uc.Targets, upstream.Target{Host: t.Host, Port: t.Port, TLS: t.Scheme == config.HTTPS})
	}
	if c.Dynamic.Enabled() {
		d := c.Dynamic
		uc.Dynamic = &upstream.Dynamic{TLS: d.Scheme == config.HTTPS, Max: d.MaxPools, Allow: d.Allows}
	}
	return liveUpstream{Upstream: upstream.New(g.group, uc, g.names, &hooks{g.observers}), config: c}, nil
}

// connections is what of an upstream's config its connections depend on.
func connections(c config.Upstream) config.Upstream {
	c.Pool, c.Retries, c.Host = config.Pool{}, config.Retries{}, ""
	c.Timeouts = config.Timeouts{Connect: c.Timeouts.Connect, TLSHandshake: c.Timeouts.TLSHandshake}
	return c
}

func poolOptions(c *config.Pool) pool.Options {
	reuse := map[config.Reuse]pool.Reuse{config.ReuseAlways: pool.Always, config.ReuseSafe: pool.Safe, config.ReuseNever: pool.Never}
	return pool.Options{
		MaxConnections: c.MaxConnections, KeepIdle: c.KeepIdle, IdleTimeout: c.IdleTimeout.Std(),
		AcquireTimeout: c.AcquireTimeout.Std(), Queue: c.Queue, Reuse: reuse[c.Reuse],
		MaxRequests: uint64(c.MaxRequests), MaxAge: c.MaxAge.Std(), MaxAgeJitter: float64(c.MaxAgeJitter),
	}
}

func clientTLS(c *config.Upstream) (*tls.Config, error) {
	t := &tls.Config{
		MinVersion: tls.VersionTLS12, ServerName: c.TLS.ServerName, InsecureSkipVerify: c.TLS.InsecureSkipVerify,
		NextProtos: []string{"http/1.1"}, ClientSessionCache: tls.NewLRUClientSessionCache(0),
	}
	if c.TLS.CA != "" {
		pem, err := os.ReadFile(c.TLS.CA)
		if err != nil {
			return nil, fmt.Errorf("tls.ca: %w", err)
		}
		t.RootCAs = x509.NewCertPool()
		if !t.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("tls.ca: %s has no certificate in PEM", c.TLS.CA)
		}
	}
	if c.TLS.Cert != "" {
		pair, err := tls.LoadX509KeyPair(c.TLS.Cert, c.TLS.Key)
		if err != nil {
			return nil, fmt.Errorf("tls.cert: %w", err)
		}
		t.Certificates = []tls.Certificate{pair}
	}
	return t, nil
}

func (g *Gateway) buildListeners(s *state) error {
	c := s.config
	limits := &http1.Limits{
		Head: int(c.Limits.Head), Target: int(c.Limits.Target), Fields: c.Limits.Fields,
		ChunkLine: http1.DefaultLimits.ChunkLine, Trailer: http1.DefaultLimits.Trailer,
	}
	upstreams := make([]server.Upstream, len(s.order))
	for id, name := range s.order {
		u := s.upstreams[name]
		upstreams[id] = server.Upstream{Upstream: u.Upstream, Plan: server.Plan{
			Options: proxy.Options{
				ResponseHeader: u.config.Timeouts.ResponseHeader.Std(), IdleRead: u.config.Timeouts.IdleRead.Std(),
				Attempts: u.config.Retries.Attempts, Limits: limits,
			},
			Timeout: u.config.Timeouts.Request.Std(), Host: hostPolicy(u.config.Host),
		}}
	}
	routes, err := g.buildRoutes(s)
	if err != nil {
		return err
	}
	for i := range c.Listeners {
		l := &c.Listeners[i]
		name := l.Name
		if name == "" {
			name = l.Address
		}
		snap := &server.Snapshot{
			Name: name, Limits: limits, MaxBody: int64(c.Limits.Body),
			HeadTimeout: c.Limits.HeadTimeout.Std(), BodyIdle: c.Limits.BodyIdleTimeout.Std(),
			KeepAlive: server.KeepAlive{Enabled: l.KeepAlive.Enabled, IdleTimeout: l.KeepAlive.IdleTimeout.Std(), MaxRequests: uint64(l.KeepAlive.MaxRequests)},
			Trusted:   l.TrustedProxies, Forwarded: forwarded(l.Forwarded.Headers),
			Filters: s.chain(l.Plugins), Routes: routes, Upstreams: upstreams,
		}
		s.listeners = append(s.listeners, snap.Prepare(len(g.group.Loops())))
	}
	return nil
}

func forwarded(h config.ForwardedHeaders) server.Forwarded {
	return server.Forwarded{
		XForwarded: h == config.ForwardedX || h == config.ForwardedBoth,
		RFC7239:    h == config.ForwardedRFC || h == config.ForwardedBoth,
	}
}

func hostPolicy(p config.HostPolicy) server.HostPolicy {
	switch p {
	case config.HostPreserve:
		return server.HostPolicy{Mode: server.PreserveHost}
	case config.HostUpstream:
		return server.HostPolicy{Mode: server.UpstreamHost}
	}
	return server.HostPolicy{Mode: server.LiteralHost, Literal: []byte(p)}
}

// id is the upstream's number in snapshots.
func (s *state) id(name string) int {
	if i, ok := slices.BinarySearch(s.order, name); ok {
		return i
	}
	return exchange.NoUpstream
}

// reserved is how many descriptors are left to everything but connections: files, pipes, telemetry, plugins' caches.
const reserved = 64

// maxConnections is the limit of client connections: the config's, or as many as leave a descriptor for an upstream
// connection each.
func maxConnections(c *config.Config) int {
	if c.Limits.Connections > 0 {
		return c.Limits.Connections
	}
	var limit unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &limit) != nil || limit.Cur > 1<<30 {
		return 0
	}
	return max(16, (int(limit.Cur)-reserved)/2)
}

// needsRestart lists what differs but cannot be changed in a running process.
func needsRestart(old, now *config.Config) []string {
	var keys []string
	for _, k := range [...]struct {
		key  string
		same bool
	}{
		{"loops", old.Loops == now.Loops},
		{"limits.connections", old.Limits.Connections == now.Limits.Connections},
		{"telemetry", reflect.DeepEqual(old.Telemetry, now.Telemetry)},
		{"admin", old.Admin == now.Admin},
		{"plugin_cache", old.PluginCache == now.PluginCache},
	} {
		if !k.same {
			keys = append(keys, k.key)
		}
	}
	return keys
}
