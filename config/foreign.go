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

const (
	sayReuse   = "say `pool.reuse: always` (the default)"
	sayConnect = "say `timeouts.connect`"
	sayMax     = "say `pool.max_connections`"
	sayRotate  = "there is no choice of balancing: several targets take turns"
	sayUpper   = "say `upstreams`, a map of names to `{targets: [...]}`"
	sayRoutes  = "say `routes`, a list of `{match: ..., upstream: NAME}`"
)

var foreign = map[string]string{
	// Apache: ProxyPass parameters and directives
	"enableuse":            sayReuse + "; Apache spells it enablereuse",
	"enablereuse":          sayReuse + ", for regex routes and captured addresses too",
	"disablereuse":         "say `pool.reuse: never`, or `always` for disablereuse=off",
	"smax":                 "say `pool.keep_idle`: idle connections that outlive pool.idle_timeout",
	"ttl":                  "say `pool.idle_timeout`, or `dns.min_ttl` and `dns.max_ttl` for names",
	"min":                  "there is no minimum; `pool.keep_idle` keeps idle connections that were opened",
	"max":                  sayMax + "; it counts for the whole process, not for each child",
	"acquire":              "say `pool.acquire_timeout`",
	"connectiontimeout":    sayConnect,
	"proxytimeout":         "say `timeouts.response_header` and `timeouts.idle_read`",
	"timeout":              "say which: `timeouts.connect`, `.response_header`, `.idle_read` or `.request`",
	"keepalivetimeout":     "for clients say `listeners[].keep_alive.idle_timeout`, for upstreams `pool.idle_timeout`",
	"keepalive":            "for upstream connections say `pool.reuse` (and `pool.idle_timeout`), for TCP probes `tcp.keep_alive`, for clients `listeners[].keep_alive`",
	"maxkeepaliverequests": "for clients say `listeners[].keep_alive.max_requests`, for upstreams `pool.max_requests`",
	"lbmethod":             sayRotate,
	"balance":              sayRotate,
	"lbpolicy":             sayRotate,
	"loadbalancing":        sayRotate,
	"stickysession":        "sessions do not stick to a target; a plugin can choose the upstream",
	"sticky":               "sessions do not stick to a target; a plugin can choose the upstream",
	"retry":                "say `retries.attempts`",
	"maxattempts":          "say `retries.attempts`",
	"ping":                 "idle connections are checked before they are used; there is nothing to set",
	"nocanon":              "a path that is not rewritten goes on byte for byte; there is nothing to set",
	"interpolate":          "${NAME} is an environment variable everywhere; there is nothing to set",
	"proxypass":            "say `upstream`, with `match.path_prefix` and `rewrite`",
	"proxypassmatch":       "say `match.path_regex`, `rewrite.path` and `upstream`",
	"proxypreservehost":    "say `host: preserve` (the default)",
	"preservehost":         "say `host: preserve` (the default)",
	"virtualhost":          "say `match.host` in a route",
	"requestheader":        "say `request_headers.set`, `.add` or `.remove`",
	"header":               "say `headers` in match, `request_headers` or `response_headers` in a route",
	// nginx
	"proxyconnecttimeout": sayConnect,
	"proxyreadtimeout":    "say `timeouts.response_header` and `timeouts.idle_read`",
	"proxyredirect":       "say `response_headers`",
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
	"maxqueue":       "say `queue.max`",
	"timeoutconnect": sayConnect,
	"timeoutserver":  "say `timeouts.response_header` and `timeouts.idle_read`",
	"timeoutclient":  "say `limits.head_timeout` and `limits.body_idle_timeout`",
	"timeoutqueue":   "say `pool.acquire_timeout`",
	"forwardfor":     "say `listeners[].forwarded.headers`",
	"nbthread":       "say `loops`",
	"global":         "say `limits`, `telemetry` and `admin` at the top of the file",
	// Envoy, Caddy, Traefik, Kubernetes
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
	"ssl":            "for upstreams say `tls`, with https targets; listeners speak cleartext",
}

// foreignIn has words whose meaning depends on the section of the file that they stand in.
var foreignIn = map[string]map[string]string{
	"": {
		"servers": "for addresses of clients say `listeners`, for those of upstreams `upstreams`",
		"server":  "for addresses of clients say `listeners`, for those of upstreams `upstreams`",
		"http":    "say `listeners`, `upstreams` and `routes` at the top of the file",
		"wasm":    "say `plugins`",
	},
	"listeners": {
		"listen": "say `address`", "bind": "say `address`", "port": "say `address: \":8080\"`", "host": "say `address`",
		"tls":              "listeners speak cleartext; put a terminator in front and name it in `trusted_proxies`",
		"ssl":              "listeners speak cleartext; put a terminator in front and name it in `trusted_proxies`",
		"keepalivetimeout": "say `keep_alive.idle_timeout`", "routes": "routes stand at the top of the file, for all listeners",
		"keepaliverequests": "say `keep_alive.max_requests`", "servername": "say `match.host` in a route",
		"realip": "say `trusted_proxies`", "forwardfor": "say `forwarded.headers`", "timeout": "say `keep_alive.idle_timeout`, or `limits.head_timeout`",
	},
	"upstreams": {
		"servers": "say `targets`", "server": "say `targets`", "hosts": "say `targets`", "endpoints": "say `targets`",
		"url": "say `targets: [\"http://host:port\"]`", "urls": "say `targets`", "address": "say `targets: [\"http://host:port\"]`",
		"addresses": "say `targets`", "target": "say `targets: [\"http://host:port\"]`", "port": "it is part of the target: `http://host:8080`",
		"scheme": "it is part of the target: `https://host`", "maxconns": sayMax, "maxidle": "say `pool.keep_idle`",
		"maxlifetime": "say `pool.max_age`", "maxage": "say `pool.max_age`", "sni": "say `tls.server_name`",
		"verify": "certificates are always verified, unless `tls.insecure_skip_verify`", "resolver": "say `dns.server`", "resolvers": "say `dns.server`",
		"weight": sayRotate, "health": "there are no health checks; a failed connection makes the next target's turn", "check": "there are no health checks; a failed connection makes the next target's turn",
	},
	"plugins": {
		"path": "say `module`", "file": "say `module`", "wasm": "say `module`", "image": "say `module`, the path of a file", "url": "say `module`, the path of a file",
		"configuration": "say `config`", "settings": "say `config`", "failopen": "say `on_error: fail_open`", "failurepolicy": "say `on_error`",
		"memory": "say `limits.memory`", "timeout": "calls are bounded by `limits.fuel`", "maxmemory": "say `limits.memory`", "environment": "say `env`",
	},
	"routes": {
		"path": "say `match.path`", "prefix": "say `match.path_prefix`", "regex": "say `match.path_regex`", "methods": "say `match.methods`",
		"method": "say `methods` in `match`", "hosts": "say `match.host`", "domains": "say `match.host`", "servername": "say `match.host`",
		"pathregexp": "say `path_regex`", "pathprefix": "say `match.path_prefix`", "proxypass": "say `upstream`", "backend": "say `upstream`",
		"url": "say `upstream`", "to": "say `upstream`", "target": "say `upstream`", "redirect": "say `respond: {status: 302, headers: {location: ...}}`",
		"deny": "say `respond: {status: 403}`", "status": "say `respond.status`", "stripprefix": "say `rewrite.strip_prefix`", "headers": "say `match.headers`, `request_headers` or `response_headers`",
		"keepalive": "reuse is a setting of the upstream: `pool.reuse`", "pool": "the pool is a setting of the upstream",
		"priority": "the order of the file decides: the first route that matches", "reverse": "say `response_headers`",
	},
	"telemetry": {
		"metrics": "they are at /metrics of `admin.address`", "tracing": "say `traces`", "accesslogs": "say `access_log`", "logs": "say `log`",
		"samplerate": "say `sample`", "sampling": "say `sample`", "ratio": "say `sample`", "file": "say `output`", "path": "say `output`", "url": "say `endpoint`",
	},
}
