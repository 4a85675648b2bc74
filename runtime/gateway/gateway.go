// Package gateway composes the house: it turns a config into an immutable snapshot of routes, plugins and upstreams,
// puts it in force, and ends what the last one had and this one has not. Nothing else sees everything.
//
// A reload builds the new snapshot whole before anything changes, so a config that cannot be put in force changes
// nothing. Upstreams and plugins that are the same in both are carried over with their connections and instances.
// Requests under way end with the snapshot that they began with; what only the old one had is closed after them.
package gateway

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"wasmgate/config"
	"wasmgate/runtime/certs"
	"wasmgate/runtime/certs/acme"
	"wasmgate/runtime/compress"
	"wasmgate/runtime/exchange"
	"wasmgate/runtime/filter"
	"wasmgate/runtime/http3"
	"wasmgate/runtime/kv"
	"wasmgate/runtime/modules"
	"wasmgate/runtime/netloop"
	"wasmgate/runtime/tcp"
	"wasmgate/runtime/telemetry"
	"wasmgate/runtime/upstream/facts"
	"wasmgate/runtime/upstream/resolve"
	"wasmgate/runtime/wasm"
	"wasmgate/runtime/wasm/proxywasm"
)

// Options are what New needs.
type Options struct {
	Config *config.Config
	Log    zerolog.Logger
	Env    func(string) string // the process's environment; nil: empty
	Build  telemetry.Build
	// Module reads a plugin's module; nil: the file at path.
	Module  func(name, path string) ([]byte, error)
	Watcher Watcher // may be nil
	Admin   Operators
	// Filter stands between the gateway and a plugin's filter; nil: nothing does. Explain does without it.
	Filter func(name string, f filter.Filter) filter.Filter
}

// Watcher is told what happens, besides telemetry. Its methods run on event loops: they must not block, and copy what
// they keep.
type Watcher interface {
	Exchange(*exchange.Exchange)
	ConnOpened(*facts.Connection)
	ConnClosed(*facts.Connection)
}

// Gateway is a running gateway. Its methods may be called from any goroutine.
type Gateway struct {
	options      Options
	log          zerolog.Logger
	group        *netloop.Group
	telemetry    *telemetry.Telemetry
	names        *resolve.Resolver
	engine       *wasm.Engine
	fetcher      *modules.Fetcher
	modules      *modules.Manager
	shared       *proxywasm.Shared // what Proxy-Wasm plugins have in common
	stores       kv.Stores         // of plugins
	certs        *certs.Store
	codings      *compress.Pools
	issued       issued // certificates by ACME; Start makes their manager
	observers    []*observer
	admin        *http.Server
	adminAddr    netip.AddrPort
	started      time.Time
	pluginErrors pluginErrors
	heard        func(wasm.Line) // what plugins write, where they are only asked what they would do; nil: it is logged
	reloads      atomic.Uint64
	failed       atomic.Uint64
	since        atomic.Int64
	refused      atomic.Bool // the last reload
	sockets      atomic.Pointer[[]namedSocket]

	current atomic.Pointer[state] // in force, for those who only look

	mu        sync.Mutex // guards what follows: one reload at a time
	state     *state
	listeners map[string]*listener // by listenerKeys
	quic      []*http3.Listener    // that have, or may have, connections
	passing   []*tcp.Server        // that have, or may have, sessions: those too whose listener is closed
	retiring  sync.WaitGroup       // snapshots that requests still use
	closed    bool

	explaining chan struct{} // full while somebody uses what follows
	explainer  *explainer    // nil: nobody has asked yet
}

// New builds a gateway. It opens the telemetry's outputs and compiles the plugins, but no listener.
func New(o Options) (*Gateway, error) {
	if o.Env == nil {
		o.Env = func(string) string { return "" }
	}
	if o.Module == nil {
		o.Module = func(_, path string) ([]byte, error) { return os.ReadFile(path) }
	}
	c := o.Config
	g := &Gateway{
		options: o, log: o.Log, certs: certs.New(o.Log), listeners: map[string]*listener{}, started: time.Now(), explaining: make(chan struct{}, 1),
		shared: proxywasm.NewShared(proxywasm.SharedOptions{DataBytes: int64(c.PluginState.MaxSize)}),
	}
	var err error
	if g.group, err = netloop.New(netloop.Options{Loops: c.Loops, MaxConns: maxConnections(c), OnPanic: g.panicked}); err != nil {
		return nil, err
	}
	loops := len(g.group.Loops())
	g.codings = compress.NewPools(loops)
	if g.telemetry, err = telemetry.New(g.telemetryOptions(loops)); err != nil {
		g.group.Close()
		return nil, fmt.Errorf("telemetry: %w", err)
	}
	for i := range loops {
		g.observers = append(g.observers, &observer{recorder: g.telemetry.Loop(i), watcher: o.Watcher, quic: map[*http3Conn]struct{}{}})
	}
	g.names = resolve.New(resolve.Options{})
	if g.engine, err = g.newEngine(); err == nil {
		err = g.newModules()
	}
	if err == nil {
		g.state, err = g.build(c, origin{file: c, report: o.Admin.Report, loaded: time.Now()}, nil)
	}
	if err != nil {
		g.Close()
		return nil, err
	}
	g.settle()
	return g, nil
}

// ReopenLogs opens the access log's file anew, after it was renamed. It returns at once.
func (g *Gateway) ReopenLogs() { g.telemetry.ReopenLogs() }

func (g *Gateway) panicked(v any, stack []byte) {
	g.log.Error().Interface("panic", v).Bytes("stack", stack).Msg("a handler panicked; its connection was closed")
}

// Start opens the listeners and the admin endpoint, and returns.
func (g *Gateway) Start() error {
	g.group.Start()
	g.sweep()
	g.forget()
	g.mu.Lock()
	defer g.mu.Unlock()
	if err := g.openAdmin(); err != nil {
		return err
	}
	issuer, err := g.issuer(g.state.config)
	if err != nil {
		return err
	}
	g.issued.use(g.state.config, issuer)
	if err := g.openListeners(g.state); err != nil {
		return err
	}
	g.since.Store(time.Now().Unix())
	g.current.Store(g.state)
	g.nameSockets(g.state)
	return nil
}

// Addr is the address that the listener with this name, or address, has; invalid if there is none.
func (g *Gateway) Addr(name string) netip.AddrPort {
	g.mu.Lock()
	defer g.mu.Unlock()
	for i, key := range listenerKeys(g.state.config) {
		c := &g.state.config.Listeners[i]
		if l := g.listeners[key]; l != nil && (c.Name == name || c.Address == name) {
			return l.socket.Addr()
		}
	}
	return netip.AddrPort{}
}

// AdminAddr is the admin endpoint's address; invalid if it is off.
func (g *Gateway) AdminAddr() netip.AddrPort { return g.adminAddr }

// Reload puts another config in force. An error changes nothing and says why. What only a restart can change (loops,
// telemetry, admin, the plugin cache, limits.connections) is kept as it is, and said in the log.
func (g *Gateway) Reload(c *config.Config) error { return g.ReloadFrom(c, nil) }

// ReloadFrom is Reload with what Load has reported of the config, so that the admin endpoint can tell where its keys stand.
func (g *Gateway) ReloadFrom(c *config.Config, report *config.Report) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.reload(c, origin{file: c, report: report, loaded: time.Now()})
}

// again puts the config in force once more.
func (g *Gateway) again() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	from := g.state.origin
	from.only = ""
	return g.reload(g.state.config, from)
}

func (g *Gateway) reload(c *config.Config, from origin) error {
	if g.closed {
		return errStopping
	}
	old := g.state
	next, issuer, err := g.prepare(c, from)
	if err != nil {
		g.failed.Add(1)
		g.refused.Store(true)
		return err
	}
	g.issued.use(c, issuer)
	g.swap(old, next)
	g.state = next
	g.settle()
	g.current.Store(next)
	g.nameSockets(next)
	g.reloads.Add(1)
	g.refused.Store(false)
	g.since.Store(time.Now().Unix())
	for _, key := range needsRestart(old.config, c) {
		g.log.Warn().Str("key", key).Msg("changed in the config, but only a restart can put it in force")
	}
	return nil
}

// prepare makes what a config wants, and opens its listeners. An error changes nothing.
func (g *Gateway) prepare(c *config.Config, from origin) (next *state, issuer *acme.Manager, err error) {
	if next, err = g.build(c, from, g.state); err != nil {
		return nil, nil, err
	}
	if issuer, err = g.issuer(c); err == nil {
		err = g.openListeners(next)
	}
	if err != nil {
		g.discard(next, g.state)
		if issuer != nil {
			issuer.Close()
		}
		return nil, nil, err
	}
	return next, issuer, nil
}

// settle follows what is in force: modules that are missing are tried again, and no others; stores that no plugin names any
// more are forgotten; compression has its memory.
func (g *Gateway) settle() {
	g.modules.Retry(g.state.missing)
	g.codings.SetMemory(int64(g.state.config.Limits.CompressMemory))
	wanted := map[string]bool{}
	for _, p := range g.state.config.Plugins {
		for _, name := range p.State {
			wanted[name] = true
		}
	}
	g.stores.Retain(func(name string) bool { return wanted[name] })
}

// swap makes the listeners use the next state, and ends what only the old one had once no request uses it.
func (g *Gateway) swap(old, next *state) {
	keep := map[string]bool{}
	for i, key := range listenerKeys(next.config) {
		keep[key] = true
		g.listeners[key].use(next.listeners[i])
	}
	for key := range g.listeners {
		if !keep[key] {
			g.closeListener(key)
		}
	}
	next.apply()
	var using atomic.Int64
	using.Store(int64(len(old.listeners) * len(g.group.Loops())))
	g.retiring.Add(1)
	for _, s := range old.listeners {
		s.retire(g.group, func() {
			if using.Add(-1) == 0 {
				go func() {
					defer g.retiring.Done()
					g.discard(old, next)
					g.endExplainer(old)
				}()
			}
		})
	}
}

// discard closes what only s has, and other has not.
func (g *Gateway) discard(s, other *state) {
	for _, set := range s.certs {
		set.Close()
	}
	for key, u := range s.upstreams {
		if other == nil || other.upstreams[key].Upstream != u.Upstream {
			u.Close(facts.CloseDraining)
		}
	}
	for name, p := range s.plugins {
		if other == nil || other.plugins[name] != p {
			p.Close()
		}
	}
}

// Shutdown stops accepting, lets requests under way end, and closes everything. When ctx ends first, what is left is
// cut off, and ctx's error returned.
func (g *Gateway) Shutdown(ctx context.Context) error {
	g.mu.Lock()
	for _, l := range g.listeners {
		l.drain()
	}
	g.mu.Unlock()
	err := g.drained(ctx)
	g.Close()
	return err
}

func (g *Gateway) drained(ctx context.Context) error {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for g.group.Accepted() > 0 {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("%d client connections were cut off: %w", g.group.Accepted(), ctx.Err())
		}
	}
	return nil
}

// Close ends everything at once. A second call does nothing.
func (g *Gateway) Close() {
	g.close()
	g.endExplainer(nil)
}

func (g *Gateway) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return
	}
	g.closed = true
	if g.admin != nil {
		_ = g.admin.Close()
	}
	g.cutSessions()
	g.closeHTTP3()
	g.closeUpstreams()
	g.group.Close()
	if g.state != nil {
		for _, p := range g.state.plugins {
			p.Close()
		}
	}
	if g.engine != nil {
		_ = g.engine.Close()
	}
	if g.fetcher != nil {
		g.fetcher.Close()
		g.modules.Close()
	}
	g.certs.Close()
	g.names.Close()
	g.issued.close()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if err := g.telemetry.Shutdown(ctx); err != nil {
		g.log.Warn().Err(err).Msg("telemetry was not flushed whole")
	}
}

// closeUpstreams ends the idle connections while the loops still run, so that their spans say how they ended.
func (g *Gateway) closeUpstreams() {
	if g.state == nil {
		return
	}
	for _, u := range g.state.upstreams {
		u.Close(facts.CloseShutdown)
	}
}

// missing says what is to be waited for before requests are welcome.
func (g *Gateway) missing() (list []string) {
	s := g.current.Load()
	if s == nil {
		return []string{"the listeners are not open yet"}
	}
	for _, name := range s.order {
		if u := s.upstreams[name]; u.config.Pool.Ready && !u.Warm() {
			list = append(list, "upstream "+name+": pool.min_idle connections are not open yet")
		}
	}
	return list
}

// live tells telemetry what it does not count itself.
func (g *Gateway) live(l *telemetry.Live) {
	l.Gateway = telemetry.GatewayStats{
		Panics: g.group.Panics(), Refused: g.group.Refused(), Reloads: g.reloads.Load(), ReloadsFailed: g.failed.Load(),
		ReloadFailed: g.refused.Load(),
		Reloaded:     time.Unix(g.since.Load(), 0),
	}
	for _, loop := range g.group.Loops() {
		s := loop.Stats()
		l.Loops = append(l.Loops, telemetry.LoopStats{Busy: s.Busy, WorstTurn: s.WorstTurn, Connections: s.Conns, Tasks: s.Tasks})
	}
	g.liveSockets(l)
	g.stores.Each(func(name string, s *kv.Store) {
		k := s.Stats()
		l.Stores[name] = telemetry.StoreStats{Keys: k.Keys, Bytes: k.Bytes, MaxBytes: k.MaxBytes, Full: k.Full}
	})
	g.issued.live(l)
	s := g.current.Load()
	if s == nil {
		return
	}
	for key, u := range s.upstreams {
		l.Upstreams[key] = upstreamStats(u.Upstream)
	}
	for name, p := range s.plugins {
		l.Plugins[name] = p.stats()
	}
}
