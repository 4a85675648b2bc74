package config

// Route says which requests it is for, and where they go. After Load, Name is set, and Upstream is empty or the name of
// an entry of Config.Upstreams: of an origin that was written into the route, Load has made one with default settings,
// whose name is the origin's text, has moved Dynamic into it, and has put the address with captures into Authority.
type Route struct {
	Name            string        `koanf:"name" example:"users" doc:"What logs, traces and metrics call it. Default: made from the match."`
	Match           Match         `koanf:"match" doc:"Which requests. Everything given must hold; without anything every request matches."`
	Exclude         bool          `koanf:"exclude" example:"true" doc:"Requests that match go nowhere: the answer is respond, or 404. It must come before the route that it takes them from."`
	Respond         *Respond      `koanf:"respond" doc:"An answer of the gateway's own, without an upstream."`
	Rewrite         Rewrite       `koanf:"rewrite" doc:"What the upstream sees as path and query. Without it the path goes on byte for byte."`
	RequestHeaders  HeaderOps     `koanf:"request_headers" doc:"Changes to the fields that the upstream sees. What is set or removed is so in all spellings: X_User too where x-user is said."`
	ResponseHeaders HeaderOps     `koanf:"response_headers" doc:"Changes to the fields that the client sees."`
	Plugins         []string      `koanf:"plugins" ref:"plugins" example:"[tenant]" doc:"Plugins that decide about the request, in this order."`
	Upstream        string        `koanf:"upstream" ref:"upstreams" example:"users" doc:"Name of the upstream, which a plugin may override; or an origin (http://host:port) with default settings, whose host and port may hold captures ($1) if dynamic.allow covers them."`
	Authority       string        `koanf:"authority" example:"$1.internal:8080" doc:"For an upstream with dynamic.allow: the address, with captures of match.path_regex."`
	Dynamic         Dynamic       `koanf:"dynamic" doc:"For an upstream written as an origin with captures: which addresses are allowed."`
	Upgrades        []string      `koanf:"upgrades" example:"[]" doc:"Protocols that clients may switch to (Upgrade): the connection becomes a tunnel to the upstream. \"*\" is any but h2c, which would take requests past every route. A request for another one is forwarded as one that did not ask."`
	Timeouts        RouteTimeouts `koanf:"timeouts" doc:"Instead of the upstream's, for this route."`
	Retries         RouteRetries  `koanf:"retries" doc:"Instead of the upstream's, for this route."`
	Host            HostPolicy    `koanf:"host" example:"upstream" doc:"Instead of the upstream's host, for this route."`
	Compression     *Compression  `koanf:"compression" doc:"Answers are compressed for clients that take it (runtime/compress/README.md says which, and what there is to know). Default: none are; {} turns it on as it stands below."`
	Decompress      Decompress    `koanf:"decompress" doc:"Bodies lose their content coding for the plugins that ask for them."`
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
	Reverse     bool    `koanf:"reverse" example:"true" doc:"Maps answers back: Location, Content-Location, Refresh and URI, and Domain and Path of Set-Cookie, from the upstream's authority and path to the client's. With path there is no way back: only scheme and authority change."`
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
	TunnelIdle     *Duration `koanf:"tunnel_idle" min:"0s" example:"10m" doc:"As timeouts.tunnel_idle of an upstream."`
	TunnelMax      *Duration `koanf:"tunnel_max" min:"0s" example:"24h" doc:"As timeouts.tunnel_max of an upstream."`
	Request        *Duration `koanf:"request" min:"0s" example:"30s" doc:"As timeouts.request of an upstream."`
}

// Over returns base with what the route says instead.
func (r RouteTimeouts) Over(base Timeouts) Timeouts {
	for _, o := range [...]struct {
		to   *Duration
		from *Duration
	}{
		{&base.Connect, r.Connect}, {&base.ResponseHeader, r.ResponseHeader},
		{&base.IdleRead, r.IdleRead}, {&base.TunnelIdle, r.TunnelIdle}, {&base.TunnelMax, r.TunnelMax}, {&base.Request, r.Request},
	} {
		if o.from != nil {
			*o.to = *o.from
		}
	}
	return base
}

// RouteRetries are what a route says instead of its upstream's Retries; nil means that it says nothing.
type RouteRetries struct {
	Attempts      *int      `koanf:"attempts" min:"1" max:"10" example:"1" doc:"As retries.attempts of an upstream."`
	PerTryTimeout *Duration `koanf:"per_try_timeout" min:"0s" example:"2s" doc:"As retries.per_try_timeout of an upstream."`
}

// Over returns base with what the route says instead.
func (r RouteRetries) Over(base Retries) Retries {
	if r.Attempts != nil {
		base.Attempts = *r.Attempts
	}
	if r.PerTryTimeout != nil {
		base.PerTryTimeout = *r.PerTryTimeout
	}
	return base
}
