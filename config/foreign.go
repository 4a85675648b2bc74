package config

// foreignKey knows the words of Apache, nginx, HAProxy, Envoy, Caddy and Traefik that people bring along.
func foreignKey(p keyPath, key string) string {
	section := ""
	if len(p) > 0 {
		section = p[0]
	}
	k := fold(key)
	if help, ok := foreignIn[section][k]; ok {
		return help
	}
	return foreign[k]
}

// foreignValue knows words of other systems that stand as values.
func foreignValue(key, value string) string {
	if key == "reuse" {
		switch fold(value) {
		case "on", "true", "yes", "aggressive", "keepalive":
			return "say `always`"
		case "off", "false", "no", "close":
			return "say `never`"
		}
	}
	if words, ok := foreignValues[key]; ok && words[fold(value)] != "" {
		return words[fold(value)]
	}
	switch key + ":" + fold(value) {
	case "level:warning":
		return "say `warn`"
	case "level:fatal", "level:critical", "level:crit", "level:emerg":
		return "say `error`"
	case "level:none":
		return "say `off`"
	case "format:text", "format:plain", "format:pretty", "format:logfmt":
		return "say `console`"
	case "on_error:ignore", "on_error:allow", "on_error:continue":
		return "say `fail_open`"
	}
	return ""
}

// tlsVersionWords are how others write versions of TLS.
var tlsVersionWords = map[string]string{
	"tlsv12": sayTLS12, "tls12": sayTLS12, "versiontls12": sayTLS12, "tlsv13": sayTLS13, "tls13": sayTLS13, "versiontls13": sayTLS13, "12": sayTLS12, "13": sayTLS13,
	"10": sayNoOldTLS, "11": sayNoOldTLS, "1": sayNoOldTLS, "tlsv1": sayNoOldTLS, "tlsv11": sayNoOldTLS, "tls10": sayNoOldTLS, "tls11": sayNoOldTLS, "sslv3": sayNoOldTLS,
}

const (
	sayTLS12    = "write `\"1.2\"`"
	sayTLS13    = "write `\"1.3\"`"
	sayNoOldTLS = "versions before TLS 1.2 are not spoken: write `\"1.2\"`"
)

// foreignValues are the words of one key; those of `on` are of retries, those of `hash` stand within its brackets.
var foreignValues = map[string]map[string]string{
	"balance": {
		"roundrobin": "did you mean `round_robin`?", "byrequests": "say `round_robin`", "staticrr": "say `round_robin`", "weighted": "say `round_robin`, with a weight for each target",
		"leastconn": "say `least_requests`", "leastrequest": "did you mean `least_requests`?", "bybusyness": "say `least_requests`", "leasttime": "say `least_requests`", "heartbeat": "say `least_requests`",
		"bytraffic": "say `least_bytes`", "random": "say `random_two`", "p2c": "say `random_two`", "poweroftwo": "say `random_two`",
		"source": "say `hash(ip)`", "iphash": "say `hash(ip)`", "uri": "say `hash(path)`", "urihash": "say `hash(path)`", "urlparam": "say `hash(query NAME)`", "hdr": "say `hash(header NAME)`",
		"rdpcookie": "say `hash(cookie NAME)`", "hash": "say of what: " + hashForms, "ringhash": "say of what: " + hashForms, "maglev": "say of what: " + hashForms, "consistent": "say of what: " + hashForms,
	},
	"hash": {
		"source": "say `hash(ip)`", "clientip": "say `hash(ip)`", "$remoteaddr": "say `hash(ip)`", "uri": "say `hash(path)`", "url": "say `hash(path)`", "$requesturi": "say `hash(path)`",
		"urlparam": "say `hash(query NAME)`", "hdr": "say `hash(header NAME)`", "field": "say `hash(header NAME)`",
	},
	"on": {
		"error": "say `connect, reset`", "connfailure": "say `connect`", "connectfailure": "say `connect`", "refused": "say `connect`", "emptyresponse": "say `reset`",
		"responsetimeout": "say `timeout`", "5xx": "say `500-599`", "4xx": "say `400-499`", "gatewayerror": "say `502-504`", "retriable4xx": "say `409`",
		"http500": "say `500`", "http502": "say `502`", "http503": "say `503`", "http504": "say `504`", "nonidempotent": "only requests that may be sent again are: RFC 9110 says which",
		"off": "say `retries.attempts: 1`", "never": "say `retries.attempts: 1`", "false": "say `retries.attempts: 1`",
	},
	"state": {
		"backup": "say `standby`", "hotstandby": "say `standby`", "+h": "say `standby`", "h": "say `standby`", "hotspare": "say `spare`", "+r": "say `spare`", "r": "say `spare`",
		"down": "say `disabled`", "maint": "say `disabled`", "+d": "say `disabled`", "d": "say `disabled`", "draining": "say `drain`", "+n": "say `drain`", "n": "say `drain`",
		"up": "say `active`", "ready": "say `active`", "enabled": "say `active`",
	},
	"mode": {
		"stream": "say `tcp`", "l4": "say `tcp`", "tls": "to end TLS here say `tls: {certificates: [...]}`, to pass it on untouched `tcp`, by name with `sni`", "https": "say `tls: {certificates: [...]}`, and `http`, the default, here",
		"udp": "there are http and tcp", "l7": "say `http`", "http1": "say `http`",
	},
	"ping": {"100continue": "say `expect_continue`", "http": "say `expect_continue`", "continue": "say `expect_continue`", "none": "say `off`"},
	"type": {"httpchk": "say `http`", "https": "say `http`: https targets are asked over TLS", "connect": "say `tcp`", "none": "say `off`", "grpchealthcheck": "say `grpc`", "grpchealthv1": "say `grpc`"},
	"protocol": {
		"http1": "say `http1.1`", "http": "say `http1.1`", "11": "say `http1.1`", "http/11": "say `http1.1`", "http/10": "say `http1.0`", "10": "say `http1.0`",
		"h2": "say `http2`", "h2c": "say `http2`", "http3": sayNoHTTP3To, "h3": sayNoHTTP3To, "quic": sayNoHTTP3To, "websocket": "say `http1.1`: a WebSocket begins as its request", "1": "say `http1.1`, or `http1.0`", "auto": "say which: `http2` for targets that speak it, as those of gRPC", "http/2": "say `http2`", "http20": "say `http2`", "2": "say `http2`", "grpc": "say `http2`",
	},
	"min_version": tlsVersionWords, "profile": {"modern": "say `strict`: TLS 1.3 alone", "intermediate": "say `default`", "old": "TLS 1.0 and 1.1 are not spoken: say `default`"},
	"client_auth": {"on": "say `require`", "true": "say `require`", "required": "say `require`", "verify": "say `require`", "requireandverifyclientcert": "say `require`",
		"optional": "say `request`", "verifyclientcertifgiven": "say `request`", "want": "say `request`", "optionalnoca": "say `request`; what is shown must be of client_ca", "requestclientcert": "say `request`", "false": "say `off`", "none": "say `off`"},
	"alpn[]":      {"h3": "say `http3: {enabled: true}` in the listener", "http/2": "say `h2`", "http2": "say `h2`", "http/11": "say `http/1.1`", "http11": "say `http/1.1`", "http1": "say `http/1.1`", "grpc": "say `h2`"},
	"encodings[]": {"brotli": "say `br`", "zst": "say `zstd`", "zstandard": "say `zstd`", "deflate": "clients differ in what they take for deflate: say `gzip`", "xgzip": "say `gzip`", "identity": "leave it out: who takes nothing else gets it as it is"},
	"compression": {"true": sayCompressAll, "on": sayCompressAll, "false": "remove it: nothing is compressed without", "gzip": "say `compression: {encodings: [gzip]}`",
		"br": "say `compression: {encodings: [br]}`", "brotli": "say `compression: {encodings: [br]}`", "zstd": "say `compression: {encodings: [zstd]}`"},
	"tls":              {"true": sayTLS, "on": sayTLS, "false": "remove it", "off": "remove it"},
	"upgrades[]":       {"ws": "say `websocket`", "wss": "say `websocket`", "h2": "clients of HTTP/2 need no upgrade", "http2": "clients of HTTP/2 need no upgrade"},
	"proxy_protocol":   {"1": "say `v1`", "2": "say `v2`", "on": "say `v2`, or `v1`", "sendproxy": "say `v1`", "sendproxyv2": "say `v2`", "none": "say `off`"},
	"proxy_protocol[]": {"true": "say which peers send it: `[10.0.0.0/8]`", "on": "say which peers send it: `[10.0.0.0/8]`", "false": "remove it, or write `[]`", "v1": "say which peers send it: `[10.0.0.0/8]`; both versions are read", "v2": "say which peers send it: `[10.0.0.0/8]`; both versions are read"},
	"family":           {"4": "say `ipv4`", "6": "say `ipv6`", "inet": "say `ipv4`", "inet6": "say `ipv6`", "both": "say `any`", "auto": "say `any`", "v4only": "say `ipv4`", "v6only": "say `ipv6`"},
	"challenges[]":     {"http": "say `http-01`", "http01": "did you mean `http-01`?", "tls": "say `tls-alpn-01`", "tlsalpn": "say `tls-alpn-01`", "alpn": "say `tls-alpn-01`", "dns": sayNoDNS, "dns01": sayNoDNS},
	"key_type":         {"rsa": "say `rsa2048`", "ecdsa": "say `p256`", "ec256": "say `p256`", "ec384": "say `p384`", "secp256r1": "say `p256`", "ed25519": "public issuers take no such keys: say `p256`"},
	"weight":           {"0": "say `state: disabled` for a target that takes nothing, `drain` for one that keeps its sessions"},
}

const (
	sayReuse       = "say `pool.reuse: always` (the default)"
	sayConnect     = "say `timeouts.connect`"
	sayMax         = "say `pool.max_connections`"
	sayBalance     = "say `balance`: round_robin, least_requests, least_bytes, random_two, first or hash(...)"
	sayWeight      = "say `targets: [{url: \"http://host:port\", weight: 2}]`"
	saySticky      = "say `sticky.cookie`, `sticky.path_parameter` or `sticky.header`, and `route` for each target"
	sayReverse     = "say `rewrite.reverse: true` in the route"
	sayActive      = "say `health.active: {type: http, path: /healthz}`"
	sayPassive     = "say `health.passive`: failures in a row, `eject_for`, `fail_on_status`"
	sayUpper       = "say `upstreams`, a map of names to `{targets: [...]}`"
	sayFetched     = "say `module: https://HOST/FILE.wasm@sha256:DIGEST`, or the same with oci://; a file has its path alone"
	sayOrder       = "plugins are asked in the order of `plugins` in a listener or a route"
	sayDirectory   = "say `directory`"
	sayNames       = "say `tls: { acme: [names] }` in the listener"
	sayNoDNS       = "challenges by DNS are not spoken: there are `http-01` and `tls-alpn-01`"
	sayListenerTLS = "say `tls: {certificates: [{cert: FILE.pem, key: FILE.key}]}`"
	sayCiphers     = "the suites are those that are secure; say `tls.profile: strict` for TLS 1.3 alone"

	sayNoHTTP3To   = "HTTP/3 is for clients: say `http2` or `http1.1`"
	sayTLS         = "in a listener say `tls: {certificates: [{cert: FILE.pem, key: FILE.key}]}`; targets with https:// are spoken to in TLS"
	sayCompressAll = "say `compression: {}`: zstd, br and gzip, for texts from 1 KiB on"
	sayCA          = "say `tls.ca`"
	sayServerName  = "say `tls.server_name`"
	sayH2Default   = "HTTP/2 is on by default, with TLS and without; say `http2: {enabled: false}` to turn it off"
	sayRouteGzip   = "say `compression` in the routes whose answers are to be compressed"
	sayUpstreamH2  = "say `upstream` in the route, and `protocol: http2` in the upstream"
	sayWebSocket   = "WebSockets pass by default; `upgrades` in the route says which protocols do"

	sayCompress = "say `compression: {encodings: [zstd, br, gzip], level: default, types: [text/*]}`"
	sayRoutes   = "say `routes`, a list of `{match: ..., upstream: NAME}`"
)

var foreign = map[string]string{
	// Apache: ProxyPass parameters and directives
	"enableuse":            sayReuse + "; Apache spells it enablereuse",
	"enablereuse":          sayReuse + ", for regex routes and captured addresses too",
	"disablereuse":         "say `pool.reuse: never`, or `always` for disablereuse=off",
	"ttl":                  "say `pool.idle_timeout`, or `dns.min_ttl` and `dns.max_ttl` for names",
	"max":                  sayMax + "; it counts for the whole process, not for each child",
	"acquire":              "say `pool.acquire_timeout`",
	"connectiontimeout":    sayConnect,
	"proxytimeout":         "say `timeouts.response_header` and `timeouts.idle_read`",
	"keepalivetimeout":     "for clients say `listeners[].keep_alive.idle_timeout`, for upstreams `pool.idle_timeout`",
	"keepalive":            "for upstream connections say `pool.reuse` (and `pool.idle_timeout`), for TCP probes `tcp.keep_alive`, for clients `listeners[].keep_alive`",
	"maxkeepaliverequests": "for clients say `listeners[].keep_alive.max_requests`, for upstreams `pool.max_requests`",
	"lbmethod":             sayBalance + "; byrequests is round_robin, bytraffic least_bytes, bybusyness least_requests",
	"lbset":                "say `tier` in the target",
	"loadfactor":           sayWeight,
	"balancermember":       "say `targets`",
	"retry":                "say `health.passive.eject_for`; to send a request again say `retries.attempts`",
	"failonstatus":         "say `health.passive.fail_on_status`",
	"failontimeout":        "say `health.passive.fail_on_timeout`",
	"forcerecovery":        "say `health.passive.recover_all`",
	"stickysession":        saySticky,
	"stickysessionsep":     "say `sticky.separator`",
	"scolonpathdelim":      "say `sticky.path_parameter`",
	"nofailover":           "say `sticky.failover: false`",
	"maxattempts":          "say `retries.attempts`; it counts the first attempt too",
	"smax":                 "say `pool.keep_idle`: idle connections that outlive pool.idle_timeout",
	"min":                  "say `pool.min_idle`",
	"ping":                 "say `pool.ping`, and `pool.ping_timeout` for expect_continue",
	"timeout":              "say which: `timeouts.connect`, `.response_header`, `.idle_read` or `.request`; balancer timeouts are `pool.acquire_timeout` and `queue.timeout`",
	"growth":               "the config is read again when it changes: add to `targets`",
	"hcmethod":             sayActive + ", or tcp", "hcuri": "say `health.active.path`", "hcinterval": "say `health.active.interval`",
	"hcpasses": "say `health.active.rise`", "hcfails": "say `health.active.fall`", "hcexpr": "say `health.active.status`",
	"receivebuffersize": "say `tcp.receive_buffer`",
	"flushpackets":      "bodies go on as they come; there is nothing to set",
	"flushwait":         "bodies go on as they come; there is nothing to set",
	"iobuffersize":      "buffers adapt; for the socket's say `tcp.receive_buffer`",
	"proxypassreverse":  sayReverse, "proxypassreversecookiedomain": sayReverse, "proxypassreversecookiepath": sayReverse,
	"proxynokeepalive": "say `pool.reuse: never`", "forceproxyrequest10": "say `protocol: http1.0`", "downgrade10": "say `protocol: http1.0`",
	"forceresponse10":   "clients are answered in their own version; there is nothing to set",
	"nocanon":           "a path that is not rewritten goes on byte for byte; there is nothing to set",
	"interpolate":       "${NAME} is an environment variable everywhere; there is nothing to set",
	"proxypass":         "say `upstream`, with `match.path_prefix` and `rewrite`",
	"proxypassmatch":    "say `match.path_regex`, `rewrite.path` and `upstream`",
	"proxypreservehost": "say `host: preserve` (the default)",
	"preservehost":      "say `host: preserve` (the default)",
	"virtualhost":       "say `match.host` in a route",
	"requestheader":     "say `request_headers.set`, `.add` or `.remove`",
	"header":            "say `headers` in match, `request_headers` or `response_headers` in a route",
	// nginx
	"proxyconnecttimeout": sayConnect,
	"proxyreadtimeout":    "say `timeouts.response_header` and `timeouts.idle_read`",
	"proxyredirect":       sayReverse, "proxycookiedomain": sayReverse, "proxycookiepath": sayReverse,
	"proxynextupstream": "say `retries.on`", "proxynextupstreamtries": "say `retries.attempts`", "proxynextupstreamtimeout": "say `timeouts.request`",
	"proxyhttpversion": "say `protocol` in the upstream; HTTP/1.1 with keep-alive is the default",
	"proxybuffering":   "bodies go on as they come; there is nothing to set",
	"grpcpass":         sayUpstreamH2, "grpcweb": "say `grpc_web: true` in the upstream", "grpcreadtimeout": "say `timeouts.idle_read`",
	"websocket": sayWebSocket, "websockets": sayWebSocket, "upgradeconfigs": sayWebSocket, "allowwebsocket": sayWebSocket, "proxywebsocket": sayWebSocket,
	"maxfails":    "say `health.passive.failures`",
	"failtimeout": "say `health.passive.eject_for`",
	"iphash":      "say `balance: hash(ip)`",
	"leastconn":   "say `balance: least_requests`",
	"leasttime":   "say `balance: least_requests`",
	"backup":      "say `state: standby` in the target",
	"down":        "say `state: disabled` in the target",
	"resolver":    "say `dns.server`", "resolvers": "say `dns.server`", "resolvertimeout": "an answer that is late changes nothing: the last good one stays",
	"slowstart":           "say `health.slow_start`",
	"sslpreread":          "say `mode: tcp` and `sni` in a listener",
	"stream":              "say `mode: tcp` in a listener",
	"proxysetheader":      "say `request_headers.set`",
	"addheader":           "say `response_headers.add`",
	"keepaliverequests":   "for clients say `listeners[].keep_alive.max_requests`, for upstreams `pool.max_requests`",
	"clientmaxbodysize":   "say `limits.body`",
	"clientheadertimeout": "say `limits.head_timeout`",
	"clientbodytimeout":   "say `limits.body_idle_timeout`",
	"setrealipfrom":       "say `listeners[].trusted_proxies`",
	"location":            "say `match.path_prefix`, `match.path` or `match.path_regex` in a route",
	"listen":              "say `listeners: [{address: \":8080\"}]`",
	"return":              "say `respond: {status: 403}`",
	"workerprocesses":     "say `loops`",
	"workerconnections":   "say `limits.connections`",
	"includes":            "a config is one file; ${NAME} takes values from the environment",
	"include":             "a config is one file; ${NAME} takes values from the environment",
	// HAProxy
	"bind":           "say `listeners: [{address: \":8080\"}]`",
	"frontend":       "say `listeners` and `routes`",
	"frontends":      "say `listeners` and `routes`",
	"backend":        sayUpper,
	"backends":       sayUpper,
	"usebackend":     "say `upstream` in a route",
	"defaultbackend": "say `upstream` in a last route without `match`",
	"acl":            "say `match` in a route",
	"httpreuse":      "say `pool.reuse`",
	"maxconn":        "for upstreams say `pool.max_connections`, for clients `limits.connections`",
	"timeoutconnect": sayConnect,
	"timeoutserver":  "say `timeouts.response_header` and `timeouts.idle_read`",
	"timeoutclient":  "say `limits.head_timeout` and `limits.body_idle_timeout`",
	"timeoutqueue":   "say `pool.acquire_timeout`, and `queue.timeout` for the time when no target can take requests",
	"maxqueue":       "say `queue.max`",
	"queue":          "say `queue.max`, beside `pool`: one queue serves all addresses of an upstream",
	"forwardfor":     "say `listeners[].forwarded.headers`, and `.except` for networks that are not added", "optionforwardfor": "say `listeners[].forwarded.headers`, and `.except` for networks that are not added",
	"httpkeepalive":       "for clients say `listeners[].keep_alive`, for upstreams `pool.reuse`; both are on by default",
	"optionhttpkeepalive": "for clients say `listeners[].keep_alive`, for upstreams `pool.reuse`; both are on by default",
	"httpserverclose":     "say `pool.reuse: never`", "optionhttpserverclose": "say `pool.reuse: never`",
	"httpclose": "say `listeners[].keep_alive.enabled: false` and `pool.reuse: never`", "optionhttpclose": "say `listeners[].keep_alive.enabled: false` and `pool.reuse: never`",
	"check": sayActive, "httpchk": sayActive, "optionhttpchk": sayActive, "tcpcheck": "say `health.active: {type: tcp}`",
	"grpchealthcheck": "say `health.active: {type: grpc}`", "servicename": "say `health.active.service`",
	"inter": "say `health.active.interval`", "timeoutcheck": "say `health.active.timeout`", "observe": sayPassive, "errorlimit": "say `health.passive.failures`",
	"sendproxy": "say `proxy_protocol: v1` in the upstream", "sendproxyv2": "say `proxy_protocol: v2` in the upstream",
	"acceptproxy": "say `listeners[].proxy_protocol: [10.0.0.0/8]`, with the peers that send it",
	"redispatch":  "say `retries.attempts`: each attempt tries another target", "optionredispatch": "say `retries.attempts`: each attempt tries another target",
	"retryon":  "say `retries.on`",
	"hashtype": "hashes are consistent; there is nothing to set", "hashbalancefactor": "say `hash_load`",
	"timeouttunnel":      "for mode tcp say `listeners[].idle_timeout`, for upgraded connections `timeouts.tunnel_idle`",
	"timeouthttprequest": "say `limits.head_timeout`", "timeouthttpkeepalive": "say `listeners[].keep_alive.idle_timeout`",
	"resolveprefer": "say `dns.family`",
	"defaultserver": "an anchor (`<<: *name`) repeats settings",
	"nbthread":      "say `loops`",
	"global":        "say `limits`, `telemetry` and `admin` at the top of the file",
	// Envoy, Caddy, Traefik, Kubernetes
	"lbpolicy": sayBalance, "loadbalancing": sayBalance, "loadbalancer": sayBalance, "loadbalancingpolicy": sayBalance,
	"outlierdetection": sayPassive, "consecutive5xx": "say `health.passive: {failures: 5, fail_on_status: [500-599]}`",
	"baseejectiontime": "say `health.passive.eject_for`", "maxejectiontime": "say `health.passive.eject_max`",
	"healthcheck": sayActive, "healthchecks": sayActive, "circuitbreaker": "say `breaker`", "circuitbreakers": "say `breaker`, and `pool.max_connections` and `queue.max` for limits",
	"maxpendingrequests": "say `queue.max`", "retrypolicy": "say `retries`", "numretries": "say `retries.attempts`; it counts the first attempt too",
	"hedgepolicy": "say `hedge`", "dnslookupfamily": "say `dns.family`", "dnsrefreshrate": "names are asked for again when their TTL ends; say `dns.min_ttl` and `dns.max_ttl`",
	"clusters":       sayUpper,
	"cluster":        "say `upstream` in a route, and `upstreams` for its targets",
	"services":       sayUpper,
	"service":        "say `upstream` in a route",
	"connecttimeout": sayConnect,
	"idletimeout":    "for upstreams say `pool.idle_timeout`, for clients `listeners[].keep_alive.idle_timeout`",
	"middlewares":    "say `plugins`",
	"middleware":     "say `plugins`",
	"filters":        "say `plugins`",
	"httpfilters":    "say `plugins`",
	"entrypoints":    "say `listeners`",
	"routers":        sayRoutes,
	"rules":          sayRoutes,
	"reverseproxy":   "say `upstream` in a route",
	"tracing":        "say `telemetry.traces`",
	"opentelemetry":  "say `telemetry.traces`",
	"otel":           "say `telemetry.traces`",
	"otlp":           "say `telemetry.traces`",
	"jaeger":         "say `telemetry.traces: {endpoint: \"http://localhost:4318\"}`",
	"metrics":        "they are at /metrics of `admin.address`",
	"prometheus":     "Prometheus finds them at /metrics of `admin.address`",
	"accesslog":      "say `telemetry.access_log`",
	"errorlog":       "say `telemetry.log`",
	"logging":        "say `telemetry.log`, or `telemetry.access_log`",
	"log":            "say `telemetry.log`, or `telemetry.access_log`",
	"loglevel":       "say `telemetry.log.level`",
	"workers":        "say `loops`",
	"threads":        "say `loops`",
	"port":           "say `listeners: [{address: \":8080\"}]`",
	"ssl":            "for listeners say `tls: {certificates: [{cert: FILE, key: FILE}]}`; for upstreams `tls`, with https targets",
}

// foreignIn has words whose meaning depends on the section of the file that they stand in.
var foreignIn = map[string]map[string]string{
	"": {
		"servers":     "for addresses of clients say `listeners`, for those of upstreams `upstreams`",
		"server":      "for addresses of clients say `listeners`, for those of upstreams `upstreams`",
		"http":        "say `listeners`, `upstreams` and `routes` at the top of the file",
		"wasm":        "say `plugins`",
		"letsencrypt": "say `acme`", "autocert": "say `acme`", "autohttps": "say `acme`, and `tls: { acme: [names] }` in a listener", "certificatesresolvers": "say `acme`", "certmagic": "say `acme`",
		"email": "say `acme.email`",
	},
	"acme": {
		"server": sayDirectory, "caserver": sayDirectory, "cadirectory": sayDirectory, "url": sayDirectory, "issuer": sayDirectory, "acmeca": sayDirectory,
		"staging": sayDirectory + ", with https://acme-staging-v02.api.letsencrypt.org/directory", "agreetos": "say `agree`", "tosagreed": "say `agree`", "accepttos": "say `agree`", "termsofserviceagreed": "say `agree`",
		"domains": sayNames, "names": sayNames, "hosts": sayNames, "domain": sayNames, "main": sayNames, "sans": sayNames,
		"path": "say `storage`", "dir": "say `storage`", "file": "say `storage`", "certdir": "say `storage`", "cafile": "say `ca`", "caroot": "say `ca`", "cacertificates": "say `ca`", "trustedroots": "say `ca`",
		"httpchallenge": "say `challenges: [http-01]`", "tlschallenge": "say `challenges: [tls-alpn-01]`", "dnschallenge": sayNoDNS, "dns": sayNoDNS, "challenge": "say `challenges`",
		"eab": "say `external_account`", "renewbefore": "say `renew_window`", "renewalwindowratio": "say `renew_window`", "keytype": "say `key_type`",
	},
	"listeners": {
		"listen": "say `address`", "bind": "say `address`", "port": "say `address: \":8080\"`", "host": "say `address`",
		"ssl": sayListenerTLS, "https": sayListenerTLS, "cert": "say `tls.certificates[].cert`", "key": "say `tls.certificates[].key`", "crt": sayListenerTLS,
		"certificate": sayListenerTLS, "certificates": sayListenerTLS, "sslcertificate": sayListenerTLS, "sslcertificatefile": sayListenerTLS, "cafile": "say `tls.client_ca`", "clientca": "say `tls.client_ca`",
		"sslprotocols": "say `tls.min_version`", "sslprotocol": "say `tls.min_version`", "sslminver": "say `tls.min_version`", "protocols": "say `tls.alpn`, or `tls.min_version`",
		"sslcertificatekey": sayListenerTLS, "sslcertificatekeyfile": sayListenerTLS, "minversion": "say `tls.min_version`", "clientauth": "say `tls.client_auth`", "sslcacertificatefile": "say `tls.client_ca`",
		"h2": sayH2Default, "h2c": sayH2Default, "quic": "say `http3: {enabled: true}`", "h3": "say `http3: {enabled: true}`", "altsvc": "http3 announces itself; say `http3.alt_svc_max_age`", "hsts": "say `response_headers: {set: {strict-transport-security: ...}}` in the routes",
		"gzip": sayRouteGzip, "brotli": sayRouteGzip, "compression": sayRouteGzip, "compress": sayRouteGzip, "encode": sayRouteGzip, "autohttps": "say `tls: {acme: [names]}`", "certresolver": "say `acme: [names]`", "letsencrypt": "say `tls: {acme: [names]}`",
		"sslciphers": sayCiphers, "ciphers": sayCiphers, "sslciphersuite": sayCiphers, "ciphersuites": sayCiphers,
		"sslverifyclient": "say `tls.client_auth: require`", "verify": "say `tls.client_auth: require`", "sslclientcertificate": "say `tls.client_ca`",
		"sslsessiontickets": "say `tls.session_tickets`", "sslstapling": "say `tls.ocsp_stapling`", "sslusestapling": "say `tls.ocsp_stapling`",
		"redirect": "say `redirect_https: true`", "redirectschemehttps": "say `redirect_https: true`",
		"keepalivetimeout": "say `keep_alive.idle_timeout`", "routes": "routes stand at the top of the file, for all listeners",
		"keepaliverequests": "say `keep_alive.max_requests`", "servername": "say `match.host` in a route",
		"realip": "say `trusted_proxies`", "forwardfor": "say `forwarded.headers`", "timeout": "say `keep_alive.idle_timeout`, or `limits.head_timeout`; with mode tcp `idle_timeout`",
		"acceptproxy": "say `proxy_protocol: [10.0.0.0/8]`, with the peers that send it", "protocol": "say `mode: http` or `mode: tcp`",
		"servernames": "say `sni`, with `mode: tcp`", "sslpreread": "say `sni`, with `mode: tcp`", "tcp": "say `mode: tcp`", "defaultbackend": "with mode tcp say `upstream`; with mode http a last route without `match`",
		"targets": "say `upstream`, with `mode: tcp`, and declare it below `upstreams`",
	},
	"upstreams": {
		"servers": "say `targets`", "server": "say `targets`", "hosts": "say `targets`", "endpoints": "say `targets`",
		"url": "say `targets: [\"http://host:port\"]`", "urls": "say `targets`", "address": "say `targets: [\"http://host:port\"]`",
		"addresses": "say `targets`", "target": "say `targets: [\"http://host:port\"]`", "port": "it is part of the target: `http://host:8080`",
		"scheme": "it is part of the target: `https://host`",
		"cafile": sayCA, "cacert": sayCA, "carootfile": sayCA, "rootcas": sayCA, "trustedca": sayCA, "proxyssltrustedcertificate": sayCA, "sslproxycacertificatefile": sayCA, "validationcontext": sayCA, "servercertificate": sayCA,
		"proxysslname": sayServerName, "proxysslservername": "the name is always sent; say `tls.server_name` for another one", "verifyhost": sayServerName, "proxysslverify": "certificates are always verified, unless `tls.insecure_skip_verify`", "sslproxyverify": "certificates are always verified, unless `tls.insecure_skip_verify`", "sslverify": "certificates are always verified, unless `tls.insecure_skip_verify`", "insecureskipverify": "say `tls.insecure_skip_verify`",
		"proxysslcertificate": "say `tls.cert`", "proxysslcertificatekey": "say `tls.key`", "sslproxymachinecertificatefile": "say `tls.cert` and `tls.key`", "crt": "say `tls.cert` and `tls.key`", "certificate": "say `tls.cert`", "certificates": "say `tls.cert` and `tls.key`", "proxysslprotocols": "say `tls.min_version`", "peercertsha256": "say `tls.pin`",
		"http2": "say `protocol: http2`", "h2c": "say `protocol: http2`", "alpn": "say `protocol: http2`, which https targets must choose then", "grpc": "say `protocol: http2`", "unix": "write a target as in unix:/run/app.sock", "socket": "write a target as in unix:/run/app.sock", "maxconns": sayMax, "maxidle": "say `pool.keep_idle`",
		"maxlifetime": "say `pool.max_age`", "maxage": "say `pool.max_age`", "sni": "say `tls.server_name`",
		"verify": "certificates are always verified, unless `tls.insecure_skip_verify`", "down": "say `state: disabled` in the target",
		"weight": sayWeight, "loadfactor": sayWeight, "hash": "say `balance: hash(ip)`", "random": "say `balance: random_two`", "algorithm": sayBalance,
		"timeoutmax": "say `health.passive.eject_max`", "cookie": saySticky, "sendproxy": "say `proxy_protocol: v1`", "sendproxyv2": "say `proxy_protocol: v2`",
		"httpversion": "say `protocol`", "srv": "write a target as in `http://_http._tcp.name`, without a port", "h2": "say `protocol: http2`",
		"status": "in a target say `state`; for checks `health.active.status`",
	},
	"plugins": {
		"path": "say `module`", "file": "say `module`", "wasm": "say `module`", "image": sayFetched, "url": sayFetched, "guest": "say `module`", "code": "say `module`, beside `proxy_wasm`",
		"sha256": sayFetched, "digest": sayFetched, "imagepullsecret": "say `plugin_sources.docker_config`", "imagepullsecrets": "say `plugin_sources.docker_config`",
		"imagepullpolicy": "a module is pinned by its digest, and fetched when it is in no cache; there is nothing to set",
		"pluginrootid":    "say `proxy_wasm.root_id`", "pluginname": "the name of a plugin is its key below `plugins`", "pluginconfig": "say `config`", "failstrategy": "say `on_error`",
		"priority": sayOrder, "phase": sayOrder, "httpwasm": "what a module speaks is found in it, and http-wasm has no keys of its own: say `config`",
		"poolsize":      "instances are made as they are needed; there is nothing to set",
		"configuration": "say `config`", "settings": "say `config`", "failopen": "say `on_error: fail_open`", "failurepolicy": "say `on_error`",
		"memory": "say `limits.memory`", "timeout": "calls are bounded by `limits.fuel`", "maxmemory": "say `limits.memory`", "environment": "say `env`",
	},
	"routes": {
		"gzip": sayCompress, "gzipstatic": sayCompress, "gzipcomplevel": sayCompress, "gziptypes": sayCompress, "gzipminlength": sayCompress,
		"brotli": sayCompress, "zstd": sayCompress, "encode": sayCompress, "compress": sayCompress, "deflate": sayCompress,
		"compressor": sayCompress, "gunzip": "say `decompress: { responses: true }`", "decompressor": "say `decompress: { responses: true }`",
		"path": "say `match.path`", "prefix": "say `match.path_prefix`", "regex": "say `match.path_regex`", "methods": "say `match.methods`",
		"method": "say `methods` in `match`", "hosts": "say `match.host`", "domains": "say `match.host`", "servername": "say `match.host`",
		"pathregexp": "say `path_regex`", "pathprefix": "say `match.path_prefix`", "proxypass": "say `upstream`", "backend": "say `upstream`",
		"url": "say `upstream`", "to": "say `upstream`", "target": "say `upstream`", "redirect": "say `respond: {status: 302, headers: {location: ...}}`",
		"deny": "say `respond: {status: 403}`", "status": "say `respond.status`", "stripprefix": "say `rewrite.strip_prefix`", "headers": "say `match.headers`, `request_headers` or `response_headers`",
		"keepalive": "reuse is a setting of the upstream: `pool.reuse`", "pool": "the pool is a setting of the upstream",
		"priority": "the order of the file decides: the first route that matches", "reverse": "say `rewrite.reverse`",
	},
	"telemetry": {
		"metrics": "they are at /metrics of `admin.address`", "tracing": "say `traces`", "accesslogs": "say `access_log`", "logs": "say `log`",
		"samplerate": "say `sample`", "sampling": "say `sample`", "ratio": "say `sample`", "logformat": "say `format`", "filters": "say `sample` and `slow`", "fields": "say `format`, or `redact`", "buffersize": "say `buffer`", "facility": "say `syslog.facility`", "tag": "say `syslog.tag`", "file": "say `output`", "path": "say `output`", "url": "say `endpoint`",
	},
}
