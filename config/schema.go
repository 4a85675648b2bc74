package config

import (
	"net/netip"
	"strings"
)

// Config is everything that a gateway is told: the whole file, with defaults filled in and references checked. It is
// plain data without live state, safe to read from any goroutine, and comparable with reflect.DeepEqual; two equal
// Upstreams may keep one set of connections across a reload.
//
// The struct tags are the reference: `koanf` is the key, `doc` its description, `unit`, `example`, `enum`, `min` and
// `max` what they say. README.md and schema.json are generated from them.
type Config struct {
	Loops       int                  `koanf:"loops" min:"0" max:"1024" example:"4" doc:"Event loops. 0 means one for each CPU that the process may use."`
	Limits      Limits               `koanf:"limits" doc:"What clients may ask of the process as a whole."`
	Listeners   []Listener           `koanf:"listeners" doc:"Where clients connect. Without any, the gateway listens on :8080."`
	Upstreams   map[string]*Upstream `koanf:"upstreams" key:"name" doc:"Where requests go, by name. A name is 1 to 64 letters, digits, '_' and '-'."`
	Plugins     map[string]*Plugin   `koanf:"plugins" key:"name" doc:"WebAssembly modules, by name, with what each may do."`
	Routes      []Route              `koanf:"routes" doc:"Which request goes where. The first route that matches decides; without one the answer is 404."`
	Telemetry   Telemetry            `koanf:"telemetry" doc:"Traces, the access log and the gateway's own log."`
	Admin       Admin                `koanf:"admin" doc:"The endpoint for operators: /metrics for Prometheus and /healthz."`
	PluginCache PluginCache          `koanf:"plugin_cache" doc:"Compiled plugins on disk, so that a restart does not compile them again."`
}

// Limits bound what clients may ask of the process.
type Limits struct {
	Connections     int      `koanf:"connections" min:"0" example:"10000" doc:"Client connections at a time, over all listeners. 0 means as many as the process's file descriptor limit leaves room for. Further ones are refused at once."`
	Head            Size     `koanf:"head" min:"1KiB" max:"1MiB" example:"64KiB" doc:"Largest request or response head: first line and fields together. A request over it is answered 431."`
	Fields          int      `koanf:"fields" min:"1" max:"4096" example:"200" doc:"Most header fields in one message. A request over it is answered 431."`
	Target          Size     `koanf:"target" min:"64B" max:"1MiB" example:"16KiB" doc:"Longest request target: path and query together. A request over it is answered 414."`
	Body            Size     `koanf:"body" min:"0" example:"10MiB" doc:"Largest request body. 0 means no limit. A request over it is answered 413."`
	HeadTimeout     Duration `koanf:"head_timeout" min:"1ms" example:"5s" doc:"Longest time from the first byte of a request to the end of its head; then 408."`
	BodyIdleTimeout Duration `koanf:"body_idle_timeout" min:"1ms" example:"1m" doc:"Longest wait for a client to send or to take the next bytes of a body."`
	DrainTimeout    Duration `koanf:"drain_timeout" min:"0s" example:"10s" doc:"When the gateway stops or a listener goes away: how long requests under way may take to finish. 0s cuts them at once."`
}

// Listener is one address on which clients connect.
type Listener struct {
	Name           string         `koanf:"name" example:"public" doc:"What logs and traces call it. Default: the address."`
	Address        string         `koanf:"address" example:"127.0.0.1:8080" doc:"Host and port; an empty host means every address of the machine, port 0 a free one."`
	KeepAlive      KeepAlive      `koanf:"keep_alive" doc:"Reuse of client connections. It has nothing to do with the reuse of upstream connections, which is upstreams.*.pool."`
	TrustedProxies []netip.Prefix `koanf:"trusted_proxies" example:"[10.0.0.0/8]" doc:"Peers whose Forwarded and X-Forwarded-* fields are believed and extended. From anyone else they are removed and written anew."`
	Forwarded      Forwarded      `koanf:"forwarded" doc:"What upstreams are told about the client."`
	Plugins        []string       `koanf:"plugins" ref:"plugins" example:"[auth]" doc:"Plugins that see every request of this listener, in this order, before the route's own."`
}

// KeepAlive is the reuse of client connections.
type KeepAlive struct {
	Enabled     bool     `koanf:"enabled" example:"false" doc:"Whether a client connection may carry more than one request."`
	IdleTimeout Duration `koanf:"idle_timeout" min:"1ms" example:"15s" doc:"How long a connection may wait for its next request."`
	MaxRequests int      `koanf:"max_requests" min:"0" example:"1000" doc:"Requests on one connection before it is closed. 0 means no limit."`
}

// Forwarded chooses the fields that tell upstreams about the client.
type Forwarded struct {
	Headers ForwardedHeaders `koanf:"headers" enum:"x_forwarded,forwarded,both,none" example:"forwarded" doc:"x_forwarded: X-Forwarded-For, -Proto and -Host. forwarded: the Forwarded field of RFC 7239. Those not chosen are removed unless the peer is trusted."`
}

// Upstream is one service: the targets that serve it and how connections to them are kept.
type Upstream struct {
	Targets  []Target   `koanf:"targets" example:"[\"http://users.internal:8080\"]" doc:"Origins as scheme://host:port. Several take turns, request by request."`
	Dynamic  Dynamic    `koanf:"dynamic" doc:"Makes this an upstream whose address comes from the request: a route's authority or a plugin's answer."`
	Pool     Pool       `koanf:"pool" doc:"Reuse of upstream connections, the same for every kind of route."`
	Timeouts Timeouts   `koanf:"timeouts" doc:"How long the upstream may take. Each expiry has its own message; the client sees 504."`
	TLS      TLS        `koanf:"tls" doc:"For https targets."`
	TCP      TCP        `koanf:"tcp" doc:"Settings of the sockets."`
	Retries  Retries    `koanf:"retries" doc:"Sending a request again. Done only where RFC 9110 allows it: not a byte was sent, or the method is idempotent and the body can be sent again."`
	Host     HostPolicy `koanf:"host" example:"upstream" doc:"The Host field that the upstream sees. preserve: the client's. upstream: the target's. Anything else is sent as it is."`
	DNS      DNS        `koanf:"dns" doc:"How names of targets become addresses."`
}

// Dynamic is the permission to choose an address at run time.
type Dynamic struct {
	Allow    []HostPattern `koanf:"allow" example:"[\"*.internal:8080\"]" doc:"Addresses that may be chosen: host, *.suffix, or an IP address, then one port, several (host:80,8080) or any (host:*). Without a port: the scheme's own. Everything else is refused with 403."`
	Scheme   Scheme        `koanf:"scheme" enum:"http,https" example:"https" doc:"How a chosen address is spoken to."`
	MaxPools int           `koanf:"max_pools" min:"1" max:"100000" example:"500" doc:"Most addresses with connections at a time. Above it, one that carries no request makes room; if all do, the request is answered 503."`
}

// Enabled says whether addresses may be chosen at run time.
func (d *Dynamic) Enabled() bool { return len(d.Allow) > 0 }

// Allows reads host or host:port, in any case and with brackets around an IPv6 address, and says whether it may be
// chosen. The host that it returns is in lower case and without brackets; the port is the scheme's own if none is given.
func (d *Dynamic) Allows(authority string) (host string, port uint16, ok bool) {
	host, port, err := splitAuthority(authority)
	if err != nil {
		return "", 0, false
	}
	if port == 0 {
		port = d.Scheme.Port()
	}
	host = strings.TrimSuffix(host, ".") // the root: the same host
	for i := range d.Allow {
		if d.Allow[i].Match(d.Scheme, host, port) {
			return host, port, true
		}
	}
	return "", 0, false
}

// Pool is how connections to an upstream are kept and reused.
type Pool struct {
	MaxConnections int      `koanf:"max_connections" min:"0" example:"200" doc:"Most connections to one target, for the whole process. 0 means no limit."`
	KeepIdle       int      `koanf:"keep_idle" min:"0" example:"20" doc:"Idle connections to one target that stay open longer than idle_timeout. 0 means that all of them close."`
	IdleTimeout    Duration `koanf:"idle_timeout" min:"1ms" example:"30s" doc:"How long a connection above keep_idle may stay unused before it is closed."`
	AcquireTimeout Duration `koanf:"acquire_timeout" min:"0s" example:"250ms" doc:"When all max_connections are busy: how long a request waits for one, then 503. 0s does not wait."`
	Queue          int      `koanf:"queue" min:"0" example:"100" doc:"Most requests that wait for a connection to one target; the next one is answered 503 at once."`
	Reuse          Reuse    `koanf:"reuse" enum:"always,safe,never" example:"safe" doc:"always: every request may use a pooled connection. safe: only requests that could be sent again (idempotent ones) use a pooled connection, others open one. never: one request for each connection."`
	MaxRequests    int      `koanf:"max_requests" min:"0" example:"10000" doc:"Requests on one connection before it is retired. 0 means no limit."`
	MaxAge         Duration `koanf:"max_age" min:"0s" example:"1h" doc:"Age at which a connection is retired after the request under way. 0s means no limit."`
	MaxAgeJitter   Ratio    `koanf:"max_age_jitter" example:"0.2" doc:"Part of max_age by which connections retire earlier, at random, so that they do not all retire at once."`
}

// Timeouts bound an upstream.
type Timeouts struct {
	Connect        Duration `koanf:"connect" min:"1ms" example:"500ms" doc:"From dialling to an established TCP connection."`
	TLSHandshake   Duration `koanf:"tls_handshake" min:"1ms" example:"5s" doc:"From an established TCP connection to a finished TLS handshake."`
	ResponseHeader Duration `koanf:"response_header" min:"0s" example:"10s" doc:"From the end of the request to the end of the response's head. 0s means no limit."`
	IdleRead       Duration `koanf:"idle_read" min:"0s" example:"5m" doc:"Longest silence within a response body, or within an upgraded connection. 0s means no limit."`
	Request        Duration `koanf:"request" min:"0s" example:"30s" doc:"The whole request: waiting for a connection, every attempt, the whole response. 0s means no limit."`
}

// TLS is how https targets are verified and what they are shown.
type TLS struct {
	CA                 string `koanf:"ca" file:"true" example:"certs/ca.pem" doc:"PEM file of the authorities that are trusted instead of the system's."`
	ServerName         string `koanf:"server_name" example:"users.example.com" doc:"Name that is sent (SNI) and verified. Default: the target's host."`
	InsecureSkipVerify bool   `koanf:"insecure_skip_verify" example:"true" doc:"Accept any certificate. For tests; check warns about it."`
	Cert               string `koanf:"cert" file:"true" example:"certs/client.pem" doc:"PEM file of the client certificate chain."`
	Key                string `koanf:"key" file:"true" example:"certs/client.key" doc:"PEM file of the client certificate's key."`
}

// TCP is how sockets are set up.
type TCP struct {
	KeepAlive Duration `koanf:"keep_alive" min:"0s" example:"1m" doc:"Interval of TCP keep-alive probes on an idle socket, for firewalls that forget it otherwise. 0s turns them off. It has nothing to do with HTTP keep-alive, which is pool.reuse."`
}

// Retries bound how often a request is sent.
type Retries struct {
	Attempts int `koanf:"attempts" min:"1" max:"10" example:"1" doc:"How often a request may be sent in all, the first time included. A pooled connection found closed before a byte was written does not count."`
}

// DNS is how names become addresses.
type DNS struct {
	Server string   `koanf:"server" example:"10.0.0.53:53" doc:"Address of the name server. Default: those of the system."`
	MinTTL Duration `koanf:"min_ttl" min:"0s" example:"5s" doc:"Shortest time that an answer is used, whatever its TTL."`
	MaxTTL Duration `koanf:"max_ttl" min:"1s" example:"1m" doc:"Longest time that an answer is used, whatever its TTL."`
}

// Plugin is one WebAssembly module with its config, its limits and what it may do.
type Plugin struct {
	Module       string       `koanf:"module" file:"true" required:"true" example:"plugins/tenant-router.wasm" doc:"Path of the module; a relative one starts at the config file's folder."`
	Config       PluginConfig `koanf:"config" example:"{ default: users }" doc:"Handed to the plugin at its start: a string as it is, anything else as JSON."`
	Limits       PluginLimits `koanf:"limits" doc:"What one instance may use. A plugin that goes over fails its own request only."`
	OnError      OnError      `koanf:"on_error" enum:"fail_closed,fail_open" example:"fail_open" doc:"A request whose plugin failed. fail_closed: 503. fail_open: goes on as if the plugin had nothing to say."`
	Upstreams    []string     `koanf:"upstreams" ref:"upstreams" wildcard:"true" example:"[users, orders]" doc:"Upstreams that the plugin may choose; [\"*\"] for all. Default: none."`
	Dynamic      string       `koanf:"dynamic" ref:"upstreams" example:"tenants" doc:"The upstream with dynamic.allow through which the plugin may choose addresses. Default: none."`
	Breaker      Breaker      `koanf:"breaker" doc:"When a plugin fails again and again: its calls fail at once for a while, as on_error says."`
	Env          []string     `koanf:"env" example:"[REGION]" doc:"Environment variables that the plugin may read. Default: none."`
	Log          PluginLog    `koanf:"log" doc:"What the plugin writes to the log."`
	RecycleAfter int          `koanf:"recycle_after" min:"0" example:"100_000" doc:"Requests after which an instance is replaced by a fresh one. 0 means never."`
}

// PluginLimits bound one instance of a plugin.
type PluginLimits struct {
	Memory Size `koanf:"memory" min:"64KiB" max:"4GiB" example:"32MiB" doc:"Most linear memory of one instance, rounded down to whole pages of 64 KiB."`
	Fuel   int  `koanf:"fuel" unit:"instructions" min:"1000" example:"20_000_000" doc:"Most WebAssembly instructions in one call, about; a million are near a millisecond."`
}

// Breaker is when a failing plugin is left alone.
type Breaker struct {
	Failures int      `koanf:"failures" min:"0" example:"50" doc:"Failures within the window that open the breaker, if at least half of the calls failed. 0 turns it off."`
	Window   Duration `koanf:"window" min:"1ms" example:"1m" doc:"Time over which failures are counted."`
	OpenFor  Duration `koanf:"open_for" min:"1ms" example:"30s" doc:"How long calls fail at once before one is tried again."`
}

// PluginLog is what a plugin may write to the log.
type PluginLog struct {
	Level LogLevel `koanf:"level" enum:"trace,debug,info,warn,error,off" example:"warn" doc:"Least level that is kept."`
	Rate  int      `koanf:"rate" unit:"lines/s" min:"0" example:"100" doc:"Most lines in a second; those above are counted, not written."`
}

// Route says which requests it is for, and where they go. After Load, Name is set, and Upstream is empty or the name of
// an entry of Config.Upstreams: of an origin that was written into the route, Load has made one with default settings,
// whose name is the origin's text, has moved Dynamic into it, and has put the address with captures into Authority.
type Route struct {
	Name            string        `koanf:"name" example:"users" doc:"What logs, traces and metrics call it. Default: made from the match."`
	Match           Match         `koanf:"match" doc:"Which requests. Everything given must hold; without anything every request matches."`
	Exclude         bool          `koanf:"exclude" example:"true" doc:"Requests that match go nowhere: the answer is respond, or 404. It must come before the route that it takes them from."`
	Respond         *Respond      `koanf:"respond" doc:"An answer of the gateway's own, without an upstream."`
	Rewrite         Rewrite       `koanf:"rewrite" doc:"What the upstream sees as path and query. Without it the path goes on byte for byte."`
	RequestHeaders  HeaderOps     `koanf:"request_headers" doc:"Changes to the fields that the upstream sees."`
	ResponseHeaders HeaderOps     `koanf:"response_headers" doc:"Changes to the fields that the client sees."`
	Plugins         []string      `koanf:"plugins" ref:"plugins" example:"[tenant]" doc:"Plugins that decide about the request, in this order."`
	Upstream        string        `koanf:"upstream" ref:"upstreams" example:"users" doc:"Name of the upstream, which a plugin may override; or an origin (http://host:port) with default settings, whose host and port may hold captures ($1) if dynamic.allow covers them."`
	Authority       string        `koanf:"authority" example:"$1.internal:8080" doc:"For an upstream with dynamic.allow: the address, with captures of match.path_regex."`
	Dynamic         Dynamic       `koanf:"dynamic" doc:"For an upstream written as an origin with captures: which addresses are allowed."`
	Timeouts        RouteTimeouts `koanf:"timeouts" doc:"Instead of the upstream's, for this route."`
	Host            HostPolicy    `koanf:"host" example:"upstream" doc:"Instead of the upstream's host, for this route."`
}

// Match is a condition on a request; every part that is given must hold.
type Match struct {
	Host       []string              `koanf:"host" scalar:"true" example:"\"*.example.com\"" doc:"One or several host names, without regard to case and port: exact, or *. for one or more labels in front."`
	Path       string                `koanf:"path" example:"/healthz" doc:"The whole path, exactly."`
	PathPrefix string                `koanf:"path_prefix" example:"/app" doc:"The path up to a segment boundary: /app matches /app and /app/x, not /apple."`
	PathRegex  string                `koanf:"path_regex" example:"^/app/users/([0-9]{4})$" doc:"A regular expression (RE2) somewhere in the path; ^ and $ anchor it. Its captures are $1, $2, $name."`
	Methods    []string              `koanf:"methods" scalar:"true" example:"[GET, HEAD]" doc:"One or several methods, in upper case."`
	Headers    map[string]ValueMatch `koanf:"headers" key:"field" example:"{ x-tenant: acme }" doc:"Fields by name, without regard to its case."`
	Query      map[string]ValueMatch `koanf:"query" key:"parameter" example:"{ debug: { present: true } }" doc:"Query parameters by name."`
	Plugin     string                `koanf:"plugin" ref:"plugins" example:"tenant" doc:"A plugin that says whether the request matches, asked after everything else held."`
}

// Respond is an answer of the gateway's own.
type Respond struct {
	Status  int               `koanf:"status" min:"200" max:"599" required:"true" example:"403" doc:"The status code."`
	Headers map[string]string `koanf:"headers" key:"field" example:"{ content-type: text/plain }" doc:"Fields of the answer."`
	Body    string            `koanf:"body" example:"not here" doc:"Body of the answer, at most 64 KiB."`
}

// Rewrite is how the path and the query change on their way to the upstream.
type Rewrite struct {
	StripPrefix string  `koanf:"strip_prefix" example:"/app" doc:"Taken off the front of the path, on a segment boundary; what is left begins with /."`
	AddPrefix   string  `koanf:"add_prefix" example:"/v2" doc:"Put in front of the path, after strip_prefix."`
	Path        string  `koanf:"path" example:"/users/$1" doc:"The whole path anew, with captures of match.path_regex. Not together with the prefixes."`
	Query       *string `koanf:"query" example:"id=$1" doc:"The whole query anew, with captures; an empty one removes it. Default: the client's."`
}

// HeaderOps are changes to the fields of a message, done in this order: remove, set, add. Fields of framing and of the
// connection cannot be changed.
type HeaderOps struct {
	Set    map[string]string `koanf:"set" key:"field" example:"{ x-gateway: wasmgate }" doc:"Fields that are written instead of any of that name."`
	Add    map[string]string `koanf:"add" key:"field" example:"{ vary: accept }" doc:"Fields that are written beside any of that name."`
	Remove []string          `koanf:"remove" example:"[server]" doc:"Fields that are removed."`
}

// RouteTimeouts are what a route says instead of its upstream's Timeouts; nil means that it says nothing.
type RouteTimeouts struct {
	Connect        *Duration `koanf:"connect" min:"1ms" example:"500ms" doc:"As timeouts.connect of an upstream."`
	ResponseHeader *Duration `koanf:"response_header" min:"0s" example:"10s" doc:"As timeouts.response_header of an upstream."`
	IdleRead       *Duration `koanf:"idle_read" min:"0s" example:"5m" doc:"As timeouts.idle_read of an upstream."`
	Request        *Duration `koanf:"request" min:"0s" example:"30s" doc:"As timeouts.request of an upstream."`
}

// Over returns base with what the route says instead.
func (r RouteTimeouts) Over(base Timeouts) Timeouts {
	for _, o := range [...]struct {
		to   *Duration
		from *Duration
	}{
		{&base.Connect, r.Connect}, {&base.ResponseHeader, r.ResponseHeader},
		{&base.IdleRead, r.IdleRead}, {&base.Request, r.Request},
	} {
		if o.from != nil {
			*o.to = *o.from
		}
	}
	return base
}

// Telemetry is what the gateway tells about itself.
type Telemetry struct {
	ServiceName string    `koanf:"service_name" example:"edge" doc:"service.name of everything that is exported."`
	Traces      Traces    `koanf:"traces" doc:"Spans of requests and of upstream connections, over OTLP."`
	AccessLog   AccessLog `koanf:"access_log" doc:"One JSON line for each request."`
	Log         Log       `koanf:"log" doc:"The gateway's own log, to standard error."`
}

// Traces is the export of spans.
type Traces struct {
	Endpoint string            `koanf:"endpoint" example:"http://localhost:4318" doc:"OTLP receiver; https means TLS. Default: no traces."`
	Protocol TraceProtocol     `koanf:"protocol" enum:"http,grpc" example:"grpc" doc:"OTLP over HTTP (port 4318 as a rule) or gRPC (4317)."`
	Sample   Ratio             `koanf:"sample" example:"0.01" doc:"Part of the requests without a sampled parent that are traced. Requests with a traceparent follow it."`
	Headers  map[string]string `koanf:"headers" key:"field" example:"{ authorization: \"Bearer ${OTLP_TOKEN}\" }" doc:"Fields sent with every export."`
}

// AccessLog is where the lines about requests go.
type AccessLog struct {
	Output string `koanf:"output" example:"/var/log/wasmgate/access.log" doc:"stdout, stderr, off, or the path of a file that is appended to; a relative one starts at the config file's folder."`
}

// Log is the gateway's own log.
type Log struct {
	Level  LogLevel  `koanf:"level" enum:"trace,debug,info,warn,error,off" example:"debug" doc:"Least level that is written."`
	Format LogFormat `koanf:"format" enum:"json,console" example:"console" doc:"json for machines, console for people."`
}

// Admin is the endpoint for operators.
type Admin struct {
	Address string `koanf:"address" example:"10.0.0.5:9901" doc:"Host and port; empty turns it off. It has no access control: keep it on loopback or a private network."`
}

// PluginCache is where compiled plugins are kept.
type PluginCache struct {
	Dir string `koanf:"dir" example:"/var/cache/wasmgate" doc:"Folder, which only the gateway's user may write to: what is in it is executed. off: none. Default: wasmgate in the user's cache folder."`
}
