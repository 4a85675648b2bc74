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
			HeadTimeout: 10 * sec, BodyIdleTimeout: 30 * sec, DrainTimeout: 30 * sec,
		},
		Telemetry: Telemetry{
			ServiceName: "wasmgate",
			Traces:      Traces{Protocol: TraceHTTP, Sample: 1},
			AccessLog:   AccessLog{Output: "stdout"},
			Log:         Log{Level: LevelInfo, Format: FormatJSON},
		},
		Admin: Admin{Address: "127.0.0.1:9901"},
	}
}

// DefaultListener is a listener about which nothing was said.
func DefaultListener() Listener {
	return Listener{
		Address:   ":8080",
		KeepAlive: KeepAlive{Enabled: true, IdleTimeout: 60 * sec},
		Forwarded: Forwarded{Headers: ForwardedX},
	}
}

// DefaultUpstream is an upstream about which nothing was said but its targets.
func DefaultUpstream() Upstream {
	return Upstream{
		Dynamic: defaultDynamic(),
		Pool: Pool{
			MaxConnections: 1024, IdleTimeout: 60 * sec, AcquireTimeout: sec, Queue: 1024,
			Reuse: ReuseAlways, MaxAgeJitter: 0.1,
		},
		Timeouts: Timeouts{Connect: 3 * sec, TLSHandshake: 10 * sec, ResponseHeader: 60 * sec, IdleRead: 60 * sec},
		TCP:      TCP{KeepAlive: 15 * sec},
		Retries:  Retries{Attempts: 2},
		Host:     HostPreserve,
		DNS:      DNS{MinTTL: sec, MaxTTL: 300 * sec},
	}
}

func defaultDynamic() Dynamic { return Dynamic{Scheme: HTTP, MaxPools: 100} }

// DefaultPlugin is a plugin about which nothing was said but its module.
func DefaultPlugin() Plugin {
	return Plugin{
		Limits:  PluginLimits{Memory: 16 * MiB, Fuel: 5_000_000},
		OnError: FailClosed,
		Breaker: Breaker{Failures: 10, Window: 10 * sec, OpenFor: 5 * sec},
		Log:     PluginLog{Level: LevelInfo, Rate: 20},
	}
}

// DefaultRoute is a route about which nothing was said.
func DefaultRoute() Route { return Route{Dynamic: defaultDynamic()} }
