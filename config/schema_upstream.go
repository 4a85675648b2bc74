package config

import "strings"

// Upstream is one service: the targets that serve it, who of them serves what, and how connections to them are kept.
type Upstream struct {
	Targets       []Target        `koanf:"targets" example:"[\"http://users.internal:8080\"]" doc:"Origins as scheme://host:port or unix:/path, or as maps with keys of their own. balance says which of them takes a request."`
	Balance       Balance         `koanf:"balance" example:"hash(cookie session)" doc:"Which target takes a request. round_robin: each in its turn. least_requests: the one with the fewest requests under way. least_bytes: the one that moved the fewest bytes. random_two: the less busy of two drawn at random. first: the first that is not full, in the order of the file. hash(ip), hash(path), hash(query NAME), hash(header NAME), hash(cookie NAME): the same key goes to the same target. Weights count for all but first."`
	HashLoad      Factor          `koanf:"hash_load" example:"1.5" doc:"For hash: a target with more than this many times the average of the requests under way passes further ones on to the next target."`
	Sticky        Sticky          `koanf:"sticky" doc:"Sessions that stay with the target that they began on."`
	Health        Health          `koanf:"health" doc:"Which targets are left alone for a while, because they fail."`
	Retries       Retries         `koanf:"retries" doc:"Sending a request again. Done only where RFC 9110 allows it: not a byte was sent, or the method is idempotent and the body can be sent again."`
	Hedge         Hedge           `koanf:"hedge" doc:"Sending a request a second time while the first is slow; the first answer counts. Only for requests that retries could send again."`
	Breaker       UpstreamBreaker `koanf:"breaker" doc:"When too many requests to the upstream fail, all of its addresses together: it takes none for a while, and requests are answered 503 with Retry-After at once. What leaves a single address alone is health."`
	Queue         Queue           `koanf:"queue" doc:"Requests that wait: for a connection, or for any target at all."`
	Dynamic       Dynamic         `koanf:"dynamic" doc:"Makes this an upstream whose address comes from the request: a route's authority or a plugin's answer."`
	Pool          Pool            `koanf:"pool" doc:"Reuse of upstream connections, the same for every kind of route."`
	Timeouts      Timeouts        `koanf:"timeouts" doc:"How long the upstream may take. Each expiry has its own message; the client sees 504."`
	TLS           UpstreamTLS     `koanf:"tls" doc:"For https targets, which are verified unless it says otherwise."`
	TCP           TCP             `koanf:"tcp" doc:"Settings of the sockets."`
	Protocol      Protocol        `koanf:"protocol" enum:"http1.1,http1.0,http2" example:"http2" doc:"What the targets speak. http1.0: no chunked bodies, and connections stay open only if the target says so. http2: many requests at a time on one connection, as gRPC needs it; http targets must take it without being asked (prior knowledge), https targets choose h2 (ALPN). It has nothing to do with what clients speak."`
	GRPCWeb       bool            `koanf:"grpc_web" example:"true" doc:"For targets that speak gRPC (protocol: http2): whether requests of gRPC-Web, which browsers send, are translated. The plugin cors lets pages of other origins send them."`
	ProxyProtocol ProxyProtocol   `koanf:"proxy_protocol" enum:"off,v1,v2" example:"v2" doc:"Begins every connection with a PROXY protocol header that tells the target the client's address. Such a connection carries only requests of that client's connection."`
	Host          HostPolicy      `koanf:"host" example:"upstream" doc:"The Host field that the upstream sees. preserve: the client's. upstream: the target's. Anything else is sent as it is."`
	DNS           DNS             `koanf:"dns" doc:"How names of targets become addresses."`
}

// Target is one origin of an upstream, with its part in it. In a file it is a text (the origin alone) or a map. Two
// Targets are equal (==) if all of it is.
type Target struct {
	Origin       `koanf:"url" required:"true" example:"http://users.internal:8080" doc:"The origin, as scheme://host:port, or unix:/path for a Unix socket (https://unix:/path with TLS), which with host: upstream is called localhost. Without a port: the scheme's own. A host whose first label begins with _ (as in http://_http._tcp.users.internal) is looked up as SRV: hosts and ports, priorities and weights come from the answer."`
	Weight       int         `koanf:"weight" min:"1" max:"1000" example:"3" doc:"Share of the requests, against the weights of the other targets; the addresses of a name share it."`
	Tier         int         `koanf:"tier" min:"0" max:"100" example:"1" doc:"Targets of the lowest tier serve as long as one of them can; then those of the next."`
	State        TargetState `koanf:"state" enum:"active,standby,spare,drain,disabled" example:"standby" doc:"active: takes requests. standby: only when no active target of its tier can. spare: stands in for one active target of its tier that cannot. drain: only requests of sessions that are on it. disabled: none."`
	Route        string      `koanf:"route" example:"node1" doc:"What sticky sessions call it: the text behind the first separator, or the value of an inserted cookie. Default: made from the address."`
	Redirect     string      `koanf:"redirect" example:"node2" doc:"route of the target that takes its sessions while it cannot."`
	IgnoreErrors bool        `koanf:"ignore_errors" example:"true" doc:"Never ejected for failures of its requests (health.passive)."`
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
	MaxConnections   int      `koanf:"max_connections" min:"0" example:"200" doc:"Most connections to one address of a target, for the whole process. 0 means no limit."`
	MinIdle          int      `koanf:"min_idle" min:"0" max:"10000" example:"4" doc:"Idle connections to one address of a target that are opened ahead and kept, so that requests find one."`
	Ready            bool     `koanf:"ready" example:"true" doc:"Whether /readyz waits until min_idle connections are open."`
	KeepIdle         int      `koanf:"keep_idle" min:"0" example:"20" doc:"Idle connections to one address that stay open longer than idle_timeout. 0 means that all of them close."`
	IdleTimeout      Duration `koanf:"idle_timeout" min:"1ms" example:"30s" doc:"How long a connection above keep_idle may stay unused before it is closed."`
	LearnIdleTimeout bool     `koanf:"learn_idle_timeout" example:"false" doc:"Whether to watch when targets close idle connections, and what their Keep-Alive fields say, and to retire connections before that. It prevents requests that are sent into a closing connection."`
	AcquireTimeout   Duration `koanf:"acquire_timeout" min:"0s" example:"250ms" doc:"When all max_connections are busy: how long a request waits for one, then 503. 0s does not wait."`
	Ping             Ping     `koanf:"ping" enum:"socket,expect_continue,off" example:"expect_continue" doc:"What is done to an idle connection before a request is spent on it. socket: looks whether the target has closed it, which costs no round trip. expect_continue: does that, and holds a request's body back until the target has answered 100. off: nothing."`
	PingTimeout      Duration `koanf:"ping_timeout" min:"1ms" example:"250ms" doc:"For ping: expect_continue: how long the target may take to answer 100; then the connection counts as dead."`
	Reuse            Reuse    `koanf:"reuse" enum:"always,safe,never" example:"safe" doc:"always: every request may use a pooled connection. safe: only requests that could be sent again (idempotent ones) use a pooled connection, others open one. never: one request for each connection."`
	MaxRequests      int      `koanf:"max_requests" min:"0" example:"10000" doc:"Requests on one connection before it is retired. 0 means no limit."`
	MaxAge           Duration `koanf:"max_age" min:"0s" example:"1h" doc:"Age at which a connection is retired after the request under way. 0s means no limit."`
	MaxAgeJitter     Ratio    `koanf:"max_age_jitter" example:"0.2" doc:"Part of max_age by which connections retire earlier, at random, so that they do not all retire at once."`
}

// Queue bounds the requests that wait in an upstream, in the order of their arrival.
type Queue struct {
	Max     int      `koanf:"max" min:"0" example:"100" doc:"Most requests that wait at a time; the next one is answered 503 at once."`
	Timeout Duration `koanf:"timeout" min:"0s" example:"2s" doc:"When no target can take requests at all: how long a request waits for one to come back, then 503. 0s does not wait. The wait for a free connection is pool.acquire_timeout."`
}

// Timeouts bound an upstream.
type Timeouts struct {
	Connect        Duration `koanf:"connect" min:"1ms" example:"500ms" doc:"From dialling to an established TCP connection."`
	TLSHandshake   Duration `koanf:"tls_handshake" min:"1ms" example:"5s" doc:"From an established TCP connection to a finished TLS handshake."`
	ResponseHeader Duration `koanf:"response_header" min:"0s" example:"10s" doc:"From the end of the request to the end of the response's head. 0s means no limit."`
	IdleRead       Duration `koanf:"idle_read" min:"0s" example:"5m" doc:"Longest silence within a response body. 0s means no limit."`
	TunnelIdle     Duration `koanf:"tunnel_idle" min:"0s" example:"10m" doc:"Longest silence in both directions of a tunnel: a WebSocket, or whatever else a connection was upgraded to (routes[].upgrades). Then it is ended, a WebSocket with Close 1001. 0s means no limit."`
	TunnelMax      Duration `koanf:"tunnel_max" min:"0s" example:"24h" doc:"Age at which a tunnel is ended, a WebSocket with Close 1001 between two messages. 0s means no limit."`
	Request        Duration `koanf:"request" min:"0s" example:"30s" doc:"The whole request: waiting for a connection, every attempt, the whole response. 0s means no limit."`
}

// TLS is how a collector of telemetry is verified and what it is shown.
type TLS struct {
	CA                 string `koanf:"ca" file:"true" example:"certs/ca.pem" doc:"PEM file of the authorities that are trusted instead of the system's."`
	ServerName         string `koanf:"server_name" example:"users.example.com" doc:"Name that is sent (SNI) and verified. Default: the target's host."`
	InsecureSkipVerify bool   `koanf:"insecure_skip_verify" example:"true" doc:"Accept any certificate. For tests; check warns about it."`
	Cert               string `koanf:"cert" file:"true" example:"certs/client.pem" doc:"PEM file of the client certificate chain."`
	Key                string `koanf:"key" file:"true" example:"certs/client.key" doc:"PEM file of the client certificate's key."`
}

// TCP is how sockets are set up.
type TCP struct {
	KeepAlive     Duration `koanf:"keep_alive" min:"0s" example:"1m" doc:"Interval of TCP keep-alive probes on an idle socket, for firewalls that forget it otherwise. 0s turns them off. It has nothing to do with HTTP keep-alive, which is pool.reuse."`
	ReceiveBuffer Size     `koanf:"receive_buffer" min:"0" max:"1GiB" example:"256KiB" doc:"Size of the socket's receive buffer. 0 leaves it to the system, which adapts it."`
}

// DNS is how names become addresses.
type DNS struct {
	Server string    `koanf:"server" example:"10.0.0.53:53" doc:"Address of the name server. Default: those of the system."`
	MinTTL Duration  `koanf:"min_ttl" min:"0s" example:"5s" doc:"Shortest time that an answer is used, whatever its TTL."`
	MaxTTL Duration  `koanf:"max_ttl" min:"1s" example:"1m" doc:"Longest time that an answer is used, whatever its TTL."`
	Jitter Ratio     `koanf:"jitter" example:"0.2" doc:"Part of the TTL, at most 0.5, by which a name is asked for earlier, at random, so that many gateways do not ask at once."`
	Drain  Duration  `koanf:"drain" min:"0s" example:"5m" doc:"When an address has gone from the answers: how long its idle connections are kept, in case it comes back. Requests under way on it finish; new ones go elsewhere at once."`
	Family DNSFamily `koanf:"family" enum:"any,ipv4,ipv6" example:"ipv4" doc:"Which addresses of a name are used."`
}
