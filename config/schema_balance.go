package config

// Sticky is how a session stays with its target. It is off unless a place is given where its name is found.
type Sticky struct {
	Cookie        string   `koanf:"cookie" example:"JSESSIONID" doc:"Cookie whose value ends in the separator and the route of a target (JSESSIONID=abc.node1), as application servers set it; with insert: the cookie that the gateway sets."`
	PathParameter string   `koanf:"path_parameter" example:"jsessionid" doc:"Parameter of the path with such a value (/cart;jsessionid=abc.node1)."`
	Header        string   `koanf:"header" example:"x-session" doc:"Field of the request with such a value."`
	Separator     string   `koanf:"separator" example:"\"!\"" doc:"The character in front of the route, the first of its kind in the value; empty means that the whole value is the route."`
	Insert        bool     `koanf:"insert" example:"true" doc:"Sets the cookie on answers to clients that have no valid one; its value names the target."`
	TTL           Duration `koanf:"ttl" min:"0s" example:"8h" doc:"With insert: Max-Age of the cookie. 0s makes it last as long as the browser's session."`
	Path          string   `koanf:"path" example:"/app" doc:"With insert: Path of the cookie."`
	Secure        bool     `koanf:"secure" example:"true" doc:"With insert: browsers send the cookie over https only."`
	HTTPOnly      bool     `koanf:"http_only" example:"false" doc:"With insert: scripts in a page cannot read the cookie."`
	SameSite      SameSite `koanf:"same_site" enum:"lax,strict,none" example:"strict" doc:"With insert: whether browsers send the cookie with requests that other sites cause."`
	Failover      bool     `koanf:"failover" example:"false" doc:"Whether a request goes to another target when that of its session cannot take it and has no redirect; otherwise it is answered 503."`
}

// Enabled says whether sessions stick.
func (s *Sticky) Enabled() bool { return s.Cookie != "" || s.PathParameter != "" || s.Header != "" }

// Health is when an address of a target takes no requests.
type Health struct {
	Passive   PassiveHealth `koanf:"passive" doc:"What requests themselves show: an address that fails several in a row is ejected for a while."`
	Active    ActiveHealth  `koanf:"active" doc:"Checks that the gateway makes, whether there are requests or not."`
	SlowStart Duration      `koanf:"slow_start" min:"0s" example:"30s" doc:"Time over which an address that is new or has come back grows to its full share of the requests. 0s: at once."`
}

// PassiveHealth is what ejects an address.
type PassiveHealth struct {
	Failures      int           `koanf:"failures" min:"0" max:"1000" example:"5" doc:"Failures in a row that eject an address. 0 turns ejection off."`
	OnConnect     bool          `koanf:"on_connect" example:"false" doc:"Whether a connection that cannot be opened counts as a failure."`
	FailOnTimeout bool          `koanf:"fail_on_timeout" example:"false" doc:"Whether an answer that does not come in time counts as a failure."`
	FailOnStatus  []StatusRange `koanf:"fail_on_status" example:"[500, 502-504]" doc:"Status codes of answers that count as failures, alone or as ranges."`
	EjectFor      Duration      `koanf:"eject_for" min:"1ms" example:"30s" doc:"How long an address takes no requests. It doubles each time that the address fails again right after."`
	EjectMax      Duration      `koanf:"eject_max" min:"1ms" example:"10m" doc:"Longest time to which eject_for grows."`
	RecoverAll    bool          `koanf:"recover_all" example:"false" doc:"When every address is ejected: whether all of them take requests again at once, instead of 503 for every request."`
}

// ActiveHealth is a check of each address that the gateway makes.
type ActiveHealth struct {
	Type     CheckType     `koanf:"type" enum:"off,http,tcp,grpc" example:"http" doc:"off: none. http: a GET must be answered with one of status. tcp: a connection (for https: with its TLS handshake) must open. grpc: grpc.health.v1.Health/Check must be answered SERVING."`
	Interval Duration      `koanf:"interval" min:"100ms" example:"10s" doc:"Time from one check of an address to the next."`
	Timeout  Duration      `koanf:"timeout" min:"1ms" example:"500ms" doc:"Longest time that one check may take."`
	Path     string        `koanf:"path" example:"/healthz" doc:"For http: path, and query if there is one."`
	Host     string        `koanf:"host" example:"users.example.com" doc:"For http and grpc: the Host field. Default: the target's."`
	Service  string        `koanf:"service" example:"acme.Users" doc:"For grpc: the service that is asked about. Default: the server as a whole."`
	Status   []StatusRange `koanf:"status" example:"[200, 204]" doc:"For http: status codes that mean good health, alone or as ranges."`
	Rise     int           `koanf:"rise" min:"1" max:"100" example:"1" doc:"Good checks in a row after which an address takes requests again."`
	Fall     int           `koanf:"fall" min:"1" max:"100" example:"2" doc:"Failed checks in a row after which an address takes none."`
}

// Retries bound how often a request is sent.
type Retries struct {
	Attempts      int              `koanf:"attempts" min:"1" max:"10" example:"1" doc:"How often a request may be sent in all, the first time included. A pooled connection found closed before a byte was written does not count."`
	On            []RetryCondition `koanf:"on" example:"[connect, reset, 503]" doc:"What lets a request be sent again. connect: no connection could be opened. reset: the connection ended before the answer began. timeout: the answer did not come in time. Status codes of the answer, alone or as ranges (502-504). grpc-unavailable and the other statuses of gRPC: a call that is answered so without a message is made again, whatever its method does."`
	Budget        Ratio            `koanf:"budget" example:"10%" doc:"Most requests that are sent again, as a part of all requests, so that retries do not multiply the load of a failing upstream."`
	BudgetLeast   int              `koanf:"budget_least" min:"0" max:"100000" example:"3" doc:"Requests that may be sent again beside budget, for upstreams with few requests."`
	PerTryTimeout Duration         `koanf:"per_try_timeout" min:"0s" example:"2s" doc:"Longest time that one attempt may take to the answer's head; the next one follows if on has timeout. 0s means no limit but timeouts."`
	Backoff       Duration         `koanf:"backoff" min:"0s" max:"1m" example:"50ms" doc:"Wait before the second attempt, at random up to this; it doubles with each further one. 0s does not wait."`
}

// Hedge is when a request is sent once more although the first attempt has not failed.
type Hedge struct {
	After Duration `koanf:"after" min:"0s" example:"200ms" doc:"How long an attempt may go without an answer before another target is tried beside it, once for a request. 0s turns hedging off. The second attempt counts as one of retries.attempts and needs room in retries.budget."`
}

// UpstreamBreaker is when an upstream that fails too many requests is left alone.
type UpstreamBreaker struct {
	Ratio    Ratio    `koanf:"ratio" example:"0.5" doc:"Part of the requests within the window that must fail (no connection, no answer, or one of 500 and above) to open the breaker. 0 turns it off."`
	Requests int      `koanf:"requests" min:"1" max:"1000000" example:"50" doc:"Fewest requests within the window that say anything."`
	Window   Duration `koanf:"window" min:"1ms" max:"1h" example:"30s" doc:"Time over which requests are counted."`
	OpenFor  Duration `koanf:"open_for" min:"1ms" example:"30s" doc:"How long the upstream takes no requests before one is tried again; it doubles, up to eight times, while that one fails."`
}
