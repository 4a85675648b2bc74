package telemetry

import (
	"slices"
	"strconv"
	"sync"
	"time"
)

// Live is what other packages know and telemetry does not count: the state of pools, plugins and loops at the moment
// of the collection. A source (Options.Sources) fills it in; each name should be given once.
type Live struct {
	Gateway   GatewayStats
	Listeners map[string]ListenerStats
	Upstreams map[string]UpstreamStats
	Plugins   map[string]PluginStats
	Stores    map[string]StoreStats
	Loops     []LoopStats // by the loop's index
	// Certificates are those that are obtained by ACME, by their names.
	Certificates map[string]CertificateStats
	// Shown are the certificates of listeners that are in files, in any order.
	Shown []ShownCertificate
}

// GatewayStats are figures of the process as a whole.
type GatewayStats struct {
	Panics        uint64 // handlers that panicked; each closed its connection
	Refused       uint64 // client connections turned away at a process-wide limit
	Reloads       uint64 // configurations put in force after the first
	ReloadsFailed uint64
	ReloadFailed  bool      // the last one
	Reloaded      time.Time // when the configuration in force was put in force; zero: not told
}

// ListenerStats are figures of one listener.
type ListenerStats struct {
	Accepted uint64
	Refused  uint64 // turned away at a limit of the process
	Open     int
	// Handshakes of TLS, by how they ended; nil: the listener speaks cleartext.
	Handshakes map[string]uint64
	HTTP3      bool
	Retried    uint64 // Retry packets of HTTP/3
}

// UpstreamStats is the state of an upstream: its members, and their pools together.
type UpstreamStats struct {
	Active      int // connections that carry a request, or a session
	Idle        int
	Waiting     int            // in the queue for a connection, or for a member that can be used
	Members     map[string]int // how many there are of each health; what is not on telemetry's list counts as "other"
	RetriesLeft int            // that the budget has
	BreakerOpen bool
	LearnedIdle time.Duration // after which the first of the members closes idle connections; 0: not known
	DNSAge      time.Duration // of the oldest answer that gave an address in use; 0: there is none
	DNSStale    int           // addresses whose answer is past its TTL, and used because there is no newer one
}

// PluginStats are figures of one plugin, over all loops.
type PluginStats struct {
	Calls       uint64
	Failures    map[string]uint64 // by fault.Kind's text
	Fuel        uint64            // spent since the start
	Instances   int
	Started     uint64 // instances ever made
	MemoryBytes int64  // of the instances' linear memories
	BreakerOpen bool
	LinesHeld   uint64         // of its log, over its rate
	Metrics     []PluginMetric // of its own
}

// StoreStats are figures of one key-value store of plugins.
type StoreStats struct {
	Keys            int
	Bytes, MaxBytes int64
	Full            uint64 // writes for which there was no room
}

// LoopStats are figures of one event loop.
type LoopStats struct {
	Busy        time.Duration // time not spent waiting, since the start
	WorstTurn   time.Duration // the longest turn since it was asked for last: how long others had to wait at worst
	Connections int
	Tasks       int
}

var (
	mPanics        = metric{"wasmgate_panics_total", counter, "Handlers that panicked."}
	mRefused       = metric{"wasmgate_connections_refused_total", counter, "Client connections turned away at a process-wide limit."}
	mReloads       = metric{"wasmgate_config_reloads_total", counter, "Attempts to put another configuration in force."}
	mReloaded      = metric{"wasmgate_config_in_force_since_seconds", gauge, "When the configuration in force was put in force, as Unix time."}
	mAccepted      = metric{"wasmgate_client_connections_accepted_total", counter, "Client connections accepted."}
	mClientOpen    = metric{"wasmgate_client_connections", gauge, "Client connections that are open."}
	mClientRefused = metric{"wasmgate_client_connections_refused_total", counter, "Client connections of a listener turned away at a limit of the process."}
	mReloadOK      = metric{"wasmgate_config_last_reload_successful", gauge, "0 while the last attempt to put another configuration in force was refused."}
	mAnswerAge     = metric{"wasmgate_upstream_dns_answer_age_seconds", gauge, "Age of the oldest DNS answer that gave an address in use."}
	mAnswerStale   = metric{"wasmgate_upstream_dns_stale_members", gauge, "Addresses in use whose DNS answer is past its TTL, because there is no newer one."}
	mStoreKeys     = metric{"wasmgate_store_keys", gauge, "Keys in a key-value store of plugins."}
	mStoreBytes    = metric{"wasmgate_store_bytes", gauge, "What the keys of a store take."}
	mStoreMost     = metric{"wasmgate_store_max_bytes", gauge, "What they may take."}
	mStoreFull     = metric{"wasmgate_store_full_total", counter, "Writes for which a store had no room."}
	mConnections   = metric{"wasmgate_upstream_connections", gauge, "Upstream connections that are open, by state."}
	mWaiting       = metric{"wasmgate_pool_waiting", gauge, "Requests and sessions in the queue for a connection, or for a member that can be used."}
	mMemberChanges = metric{"wasmgate_upstream_member_changes_total", counter, "Addresses of an upstream that came, went, or changed their health, by what they became."}
	mMembers       = metric{"wasmgate_upstream_members", gauge, "Addresses of an upstream, by health."}
	mBudget        = metric{"wasmgate_upstream_retry_budget_left", gauge, "Attempts after a first that the budget allows at the moment."}
	mBreaker       = metric{"wasmgate_upstream_breaker_open", gauge, "1 while an upstream is not given requests because too many of them failed."}
	mLearnedIdle   = metric{"wasmgate_upstream_learned_idle_timeout_seconds", gauge, "After how long the first address of an upstream was seen to close idle connections, or said so."}
	mPluginCalls   = metric{"wasmgate_plugin_calls_total", counter, "Calls into a plugin."}
	mPluginFailed  = metric{"wasmgate_plugin_failures_total", counter, "Calls into a plugin that failed."}
	mPluginFuel    = metric{"wasmgate_plugin_fuel_total", counter, "Fuel spent by a plugin, in instructions."}
	mPluginInst    = metric{"wasmgate_plugin_instances", gauge, "Instances of a plugin that exist."}
	mPluginStarted = metric{"wasmgate_plugin_instances_started_total", counter, "Instances of a plugin that were ever made."}
	mPluginMemory  = metric{"wasmgate_plugin_memory_bytes", gauge, "Linear memory of a plugin's instances."}
	mPluginBreaker = metric{"wasmgate_plugin_breaker_open", gauge, "1 while a plugin is not called because it failed too often."}
	mPluginLines   = metric{"wasmgate_plugin_log_lines_dropped_total", counter, "Lines that a plugin wrote to the log and that were dropped, since there were more than its log.rate."}
	mLoopBusy      = metric{"wasmgate_loop_busy_seconds_total", counter, "Time that an event loop did not spend waiting."}
	mLoopWorst     = metric{"wasmgate_loop_worst_turn_seconds", gauge, "The longest turn of an event loop in the last minute."}
	mLoopConns     = metric{"wasmgate_loop_connections", gauge, "Connections that an event loop owns."}
	mLoopTasks     = metric{"wasmgate_loop_tasks", gauge, "Handlers under way on an event loop."}
)

func (t *Telemetry) liveMetrics(p *page) {
	l := &Live{Listeners: map[string]ListenerStats{}, Upstreams: map[string]UpstreamStats{}, Plugins: map[string]PluginStats{}, Stores: map[string]StoreStats{}, Certificates: map[string]CertificateStats{}}
	for _, source := range t.sources {
		source(l)
	}
	l.gateway(p)
	l.secured(p)
	l.pools(p)
	l.members(p)
	l.plugins(p)
	l.guests(p)
	l.stores(p)
	l.certificates(p)
	t.turns.follow(l.Loops, time.Now())
	l.loops(p)
}

func (l *Live) gateway(p *page) {
	p.head(mPanics)
	p.count(l.Gateway.Panics)
	p.head(mRefused)
	p.count(l.Gateway.Refused)
	p.head(mReloads)
	p.count(l.Gateway.Reloads, "result", "done")
	p.count(l.Gateway.ReloadsFailed, "result", "refused")
	p.head(mReloadOK)
	p.value(oneIf(!l.Gateway.ReloadFailed))
	if !l.Gateway.Reloaded.IsZero() {
		p.head(mReloaded)
		p.value(float64(l.Gateway.Reloaded.UnixMilli()) / 1e3)
	}
	each(p, mAccepted, l.Listeners, "listener", func(s ListenerStats) float64 { return float64(s.Accepted) })
	each(p, mClientRefused, l.Listeners, "listener", func(s ListenerStats) float64 { return float64(s.Refused) })
	each(p, mClientOpen, l.Listeners, "listener", func(s ListenerStats) float64 { return float64(s.Open) })
}

func (l *Live) pools(p *page) {
	p.head(mConnections)
	for _, name := range sortedKeys(l.Upstreams) {
		p.value(float64(l.Upstreams[name].Active), "upstream", name, "state", "active")
		p.value(float64(l.Upstreams[name].Idle), "upstream", name, "state", "idle")
	}
	each(p, mWaiting, l.Upstreams, "upstream", func(s UpstreamStats) float64 { return float64(s.Waiting) })
}

func (l *Live) plugins(p *page) {
	each(p, mPluginCalls, l.Plugins, "plugin", func(s PluginStats) float64 { return float64(s.Calls) })
	p.head(mPluginFailed)
	for _, name := range sortedKeys(l.Plugins) {
		for _, kind := range sortedKeys(l.Plugins[name].Failures) {
			p.count(l.Plugins[name].Failures[kind], "plugin", name, "kind", kind)
		}
	}
	each(p, mPluginFuel, l.Plugins, "plugin", func(s PluginStats) float64 { return float64(s.Fuel) })
	each(p, mPluginInst, l.Plugins, "plugin", func(s PluginStats) float64 { return float64(s.Instances) })
	each(p, mPluginStarted, l.Plugins, "plugin", func(s PluginStats) float64 { return float64(s.Started) })
	each(p, mPluginMemory, l.Plugins, "plugin", func(s PluginStats) float64 { return float64(s.MemoryBytes) })
	each(p, mPluginBreaker, l.Plugins, "plugin", func(s PluginStats) float64 { return oneIf(s.BreakerOpen) })
	each(p, mPluginLines, l.Plugins, "plugin", func(s PluginStats) float64 { return float64(s.LinesHeld) })
}

func (l *Live) stores(p *page) {
	each(p, mStoreKeys, l.Stores, "store", func(s StoreStats) float64 { return float64(s.Keys) })
	each(p, mStoreBytes, l.Stores, "store", func(s StoreStats) float64 { return float64(s.Bytes) })
	each(p, mStoreMost, l.Stores, "store", func(s StoreStats) float64 { return float64(s.MaxBytes) })
	each(p, mStoreFull, l.Stores, "store", func(s StoreStats) float64 { return float64(s.Full) })
}

// worstTurns remembers what loops said of their longest turns, each of which they say once: several readers must not take
// them from each other.
type worstTurns struct {
	mu   sync.Mutex
	said []saidTurns
}

type saidTurns struct {
	at    time.Time
	worst []time.Duration // by loop
}

// turnsKept is for how long a turn is told.
const turnsKept = time.Minute

// follow notes down what the loops say now, and puts the worst of the last minute in its place.
func (t *worstTurns) follow(loops []LoopStats, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	said := saidTurns{at: now}
	for i := range loops {
		said.worst = append(said.worst, loops[i].WorstTurn)
	}
	t.said = append(slices.DeleteFunc(t.said, func(s saidTurns) bool { return now.Sub(s.at) >= turnsKept }), said)
	if most := 64; len(t.said) > most { // read all the time: what is told of the oldest passes to the next
		for i, w := range t.said[0].worst {
			if i < len(t.said[1].worst) {
				t.said[1].worst[i] = max(t.said[1].worst[i], w)
			}
		}
		t.said = slices.Delete(t.said, 0, 1)
	}
	for i := range loops {
		for _, s := range t.said {
			if i < len(s.worst) {
				loops[i].WorstTurn = max(loops[i].WorstTurn, s.worst[i])
			}
		}
	}
}

func (l *Live) loops(p *page) {
	for _, m := range []struct {
		metric
		of func(LoopStats) float64
	}{
		{mLoopBusy, func(s LoopStats) float64 { return s.Busy.Seconds() }},
		{mLoopWorst, func(s LoopStats) float64 { return s.WorstTurn.Seconds() }},
		{mLoopConns, func(s LoopStats) float64 { return float64(s.Connections) }},
		{mLoopTasks, func(s LoopStats) float64 { return float64(s.Tasks) }},
	} {
		p.head(m.metric)
		for i, s := range l.Loops {
			p.value(m.of(s), "loop", strconv.Itoa(i))
		}
	}
}

// each writes a family with one sample for each name.
func each[S any](p *page, m metric, stats map[string]S, label string, of func(S) float64) {
	p.head(m)
	for _, name := range sortedKeys(stats) {
		p.value(of(stats[name]), label, name)
	}
}
