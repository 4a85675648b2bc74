package config

import "time"

const (
	ms  = Duration(time.Millisecond)
	sec = Duration(time.Second)
)

// Default is the config of an empty file, but for the listener that is put in where a file has none.
func Default() Config {
	return Config{
		Limits: Limits{
			Head: 32 * KiB, Fields: 100, Target: 8 * KiB,
			HeadTimeout: 10 * sec, BodyIdleTimeout: 30 * sec, DrainTimeout: 30 * sec, CompressMemory: 256 * MiB,
			TunnelGrace: 10 * sec,
		},
		Telemetry: Telemetry{
			Traces:  Traces{Protocol: TraceHTTP, Segment: 30 * sec, KeepErrors: true, Slow: 5 * sec, KeepRate: 100, Propagation: []Propagation{PropagateW3C}},
			Metrics: Metrics{Protocol: TraceHTTP, Forget: 600 * sec},
			AccessLog: AccessLog{
				Output: "stdout", Format: AccessLogJSON, Sample: 1, Buffer: MiB,
				Syslog: Syslog{Protocol: SyslogRFC5424, Facility: "local7", Tag: "wasmgate"},
			},
			Log: Log{Level: LevelInfo, Format: FormatJSON},
		},
		Admin:         Admin{Address: "127.0.0.1:9901", OpenHealth: true, Traces: 256},
		ACME:          ACME{Directory: LetsEncrypt, KeyType: KeyP256, CheckInterval: 600 * sec, RenewWindow: 0.33},
		PluginCache:   PluginCache{Modules: GiB},
		PluginState:   PluginState{MaxSize: 64 * MiB},
		PluginSources: PluginSources{Wait: 10 * sec, Timeout: 120 * sec, MaxSize: 64 * MiB},
	}
}

// DefaultListener is a listener about which nothing was said.
func DefaultListener() Listener {
	return Listener{
		Address: ":8080", Mode: ModeHTTP, IdleTimeout: 3600 * sec,
		KeepAlive: KeepAlive{Enabled: true, IdleTimeout: 60 * sec},
		HTTP2: HTTP2{
			Enabled: true, MaxStreams: 100, StreamWindow: 64 * KiB, ConnectionWindow: MiB, ControlFrames: 1000, PingInterval: 60 * sec, PingTimeout: 20 * sec,
		},
		Forwarded: Forwarded{Headers: ForwardedX},
		HTTP3:     DefaultHTTP3(),
	}
}

// DefaultUpstream is an upstream about which nothing was said but its targets.
func DefaultUpstream() Upstream {
	return Upstream{
		Balance: Balance{Algorithm: RoundRobin}, HashLoad: 1.25,
		Sticky: Sticky{Separator: ".", Path: "/", HTTPOnly: true, SameSite: SameSiteLax, Failover: true},
		Health: Health{
			Passive: PassiveHealth{Failures: 3, OnConnect: true, FailOnTimeout: true, EjectFor: 10 * sec, EjectMax: 300 * sec, RecoverAll: true},
			Active:  ActiveHealth{Type: CheckOff, Interval: 5 * sec, Timeout: 2 * sec, Path: "/", Status: []StatusRange{{200, 399}}, Rise: 2, Fall: 3},
		},
		Retries: Retries{Attempts: 2, On: []RetryCondition{{On: RetryConnect}, {On: RetryReset}}, Budget: 0.2, BudgetLeast: 10},
		Breaker: UpstreamBreaker{Requests: 20, Window: 10 * sec, OpenFor: 5 * sec},
		Queue:   Queue{Max: 1024},
		Dynamic: defaultDynamic(),
		Pool: Pool{
			MaxConnections: 1024, IdleTimeout: 60 * sec, LearnIdleTimeout: true, AcquireTimeout: sec,
			Ping: PingSocket, PingTimeout: sec, Reuse: ReuseAlways, MaxAgeJitter: 0.1,
		},
		Timeouts:      Timeouts{Connect: 3 * sec, TLSHandshake: 10 * sec, ResponseHeader: 60 * sec, IdleRead: 60 * sec, TunnelIdle: 3600 * sec},
		TCP:           TCP{KeepAlive: 15 * sec},
		TLS:           UpstreamTLS{MinVersion: TLS12},
		Protocol:      ProtocolHTTP11,
		ProxyProtocol: ProxyProtocolOff,
		Host:          HostPreserve,
		DNS:           DNS{MinTTL: sec, MaxTTL: 300 * sec, Jitter: 0.1, Drain: 30 * sec, Family: FamilyAny},
	}
}

// DefaultTarget is a target about which nothing was said but its origin.
func DefaultTarget() Target { return Target{Weight: 1, State: TargetActive} }

func defaultDynamic() Dynamic { return Dynamic{Scheme: HTTP, MaxPools: 100} }

// DefaultPlugin is a plugin about which nothing was said but its module.
func DefaultPlugin() Plugin {
	return Plugin{
		Limits:    PluginLimits{Memory: 16 * MiB, Body: MiB, Calls: 1024, Fuel: 5_000_000, StartFuel: 500_000_000},
		ProxyWasm: ProxyWasm{NonUTF8: NonUTF8Replace, StopIteration: StopAuto, MaxPause: 60 * sec},
		IdleAfter: 300 * sec,
		OnError:   FailClosed,
		Breaker:   Breaker{Failures: 10, Window: 10 * sec, OpenFor: 5 * sec},
		Log:       PluginLog{Level: LevelInfo, Rate: 20},
	}
}

// DefaultRoute is a route about which nothing was said.
func DefaultRoute() Route {
	return Route{Dynamic: defaultDynamic(), Decompress: defaultDecompress(), Upgrades: []string{"websocket"}}
}
