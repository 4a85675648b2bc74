package gateway

import (
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"wasmgate/config"
	"wasmgate/runtime/certs"
	"wasmgate/runtime/exchange"
	"wasmgate/runtime/filter"
	"wasmgate/runtime/http1"
	"wasmgate/runtime/server"
	"wasmgate/runtime/telemetry"
)

// state is a config in force: everything that is made of it. It is immutable after build.
type state struct {
	config    *config.Config
	upstreams map[string]liveUpstream // by name
	order     []string                // the upstreams' ids
	servers   []server.Upstream       // by id
	caller    filter.Caller           // of plugins' own requests
	plugins   map[string]*plugin
	missing   map[config.Module]error // that plugins wait for, and why they could not be fetched
	listeners []blueprint             // beside config.Listeners
	certs     []*certs.Set            // of those with TLS
	of        *state                  // in force, for explanations, which have the same certificates; nil: it is no explainer's
	names     *telemetry.Names        // of all that counts
	bound     []netip.AddrPort        // beside them too: the addresses that they have, once they are open
	wrap      func(name string, f filter.Filter) filter.Filter
	origin
	versions map[string][]version // of plugins: what was in force, the present one first
}

// origin is where a state comes from: what was loaded, and what was changed live since.
type origin struct {
	file   *config.Config // as it was loaded
	report *config.Report // of the same; may be nil
	loaded time.Time
	pins   map[string]pin // plugins whose module was changed live
	only   string         // the plugin that this state was made for; the others are not looked at anew
}

// build makes a state of a config. What old has too is taken from it. Nothing that old has is changed.
func (g *Gateway) build(c *config.Config, from origin, old *state) (*state, error) {
	s := &state{config: c, origin: from, upstreams: map[string]liveUpstream{}, plugins: map[string]*plugin{}, wrap: g.options.Filter}
	err := errors.Join(g.buildUpstreams(s, old), g.buildServers(s))
	if err == nil {
		err = g.buildPlugins(s, old)
	}
	if err == nil {
		err = g.buildListeners(s)
	}
	if err != nil {
		g.discard(s, old)
		return nil, err
	}
	s.names = s.inForce()
	s.remember(old)
	return s, nil
}

// apply changes what s shares with old: upstreams that are kept follow their new config.
func (s *state) apply() {
	for _, u := range s.upstreams {
		if u.changed != nil {
			u.Reconfigure(*u.changed)
		}
	}
}

// headLimits bound the heads of requests and answers.
func headLimits(c *config.Config) *http1.Limits {
	return &http1.Limits{
		Head: int(c.Limits.Head), Target: int(c.Limits.Target), Fields: c.Limits.Fields,
		ChunkLine: http1.DefaultLimits.ChunkLine, Trailer: http1.DefaultLimits.Trailer,
	}
}

// buildServers makes of the upstreams what requests go by, clients' and plugins'.
func (g *Gateway) buildServers(s *state) error {
	limits := headLimits(s.config)
	s.servers = make([]server.Upstream, len(s.order))
	for id, name := range s.order {
		u := s.upstreams[name]
		p, err := plan(&u.config, limits)
		if err != nil {
			return fmt.Errorf("upstreams.%s.sticky: %w", name, err)
		}
		s.servers[id] = server.Upstream{Upstream: u.Upstream, Plan: p, Authorities: authorities(&u.config)}
	}
	s.caller = server.NewCaller(len(g.group.Loops()), s.servers, observersAs[server.Observer](g))
	return nil
}

func (g *Gateway) buildListeners(s *state) error {
	c, limits := s.config, headLimits(s.config)
	routes, err := g.buildRoutes(s)
	if err != nil {
		return err
	}
	var challenges server.Challenges
	if len(c.ACMENames()) > 0 {
		challenges = &g.issued
	}
	var errs []error
	for i := range c.Listeners {
		b, err := g.buildListener(s, i, &server.Snapshot{
			Challenges: challenges,
			Limits:     limits, MaxBody: int64(c.Limits.Body), HeadTimeout: c.Limits.HeadTimeout.Std(), BodyIdle: c.Limits.BodyIdleTimeout.Std(),
			Routes: routes, Upstreams: s.servers, Compresses: compresses(c),
			Tunnels: server.Tunnels{Grace: c.Limits.TunnelGrace.Std(), Drain: c.Limits.DrainTimeout.Std()},
		})
		errs = append(errs, err)
		s.listeners = append(s.listeners, b)
	}
	return errors.Join(errs...)
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

// authorities are what the targets call themselves.
func authorities(c *config.Upstream) (list []string) {
	for i := range c.Targets {
		list = append(list, c.Targets[i].Authority())
	}
	return list
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
		{"plugin_sources", reflect.DeepEqual(old.PluginSources, now.PluginSources)},
	} {
		if !k.same {
			keys = append(keys, k.key)
		}
	}
	return keys
}
