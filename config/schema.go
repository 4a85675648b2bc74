package config

// Config is everything that a gateway is told: the whole file, with defaults filled in and references checked. It is
// plain data without live state, safe to read from any goroutine, and comparable with reflect.DeepEqual; two equal
// Upstreams may keep one set of connections across a reload.
//
// The struct tags are the reference: `koanf` is the key, `doc` its description, `unit`, `example`, `enum`, `min` and
// `max` what they say. README.md and schema.json are generated from them.
type Config struct {
	Loops         int                  `koanf:"loops" min:"0" max:"1024" example:"4" doc:"Event loops. 0 means one for each CPU that the process may use."`
	Limits        Limits               `koanf:"limits" doc:"What clients may ask of the process as a whole."`
	Listeners     []Listener           `koanf:"listeners" doc:"Where clients connect. Without any, the gateway listens on :8080."`
	Upstreams     map[string]*Upstream `koanf:"upstreams" key:"name" doc:"Where requests go, by name. A name is 1 to 64 letters, digits, '_' and '-'."`
	Plugins       map[string]*Plugin   `koanf:"plugins" key:"name" doc:"WebAssembly modules, by name, with what each may do."`
	Routes        []Route              `koanf:"routes" doc:"Which request goes where. The first route that matches decides; without one the answer is 404."`
	Telemetry     Telemetry            `koanf:"telemetry" doc:"Traces, the access log and the gateway's own log."`
	Admin         Admin                `koanf:"admin" doc:"The endpoint for operators: a page, /metrics for Prometheus, /healthz, /readyz (see pool.ready), and an API (runtime/admin/README.md)."`
	ACME          ACME                 `koanf:"acme" doc:"How certificates of listeners are obtained from an issuer that speaks ACME, such as Let's Encrypt, for the names below listeners[].tls.acme (runtime/certs/acme/README.md)."`
	PluginCache   PluginCache          `koanf:"plugin_cache" doc:"Compiled plugins and fetched modules on disk, so that a restart does not compile and fetch them again."`
	PluginState   PluginState          `koanf:"plugin_state" doc:"Key-value stores of plugins."`
	PluginSources PluginSources        `koanf:"plugin_sources" doc:"How modules that are no files are fetched."`
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
	CompressMemory  Size     `koanf:"compression_memory" min:"1MiB" example:"64MiB" doc:"Most memory of all compressions under way, and again of all decompressions. Beyond it answers are sent as they are, and a request with a body that would have to be decompressed, or with such an answer, is answered 503."`
	TunnelGrace     Duration `koanf:"tunnel_grace" min:"0s" example:"30s" doc:"When tunnels are to end, because the gateway stops, or their listener, upstream or target goes away: within how long, each at a moment of its own, WebSockets are told so (Close 1001), so that not all clients come back at once. What has not ended drain_timeout after the beginning is cut."`
}

// Admin is the endpoint for operators.
type Admin struct {
	Address    string   `koanf:"address" example:"10.0.0.5:9901" doc:"Host and port; empty turns it off. On loopback everybody on the machine may ask, unless there is a token; on any other address a token or tls.client_ca is required."`
	Token      string   `koanf:"token" secret:"true" example:"\"${ADMIN_TOKEN}\"" doc:"Who sends it as Authorization: Bearer may ask and change everything. At least 16 visible characters."`
	TokenFile  string   `koanf:"token_file" file:"true" example:"/run/secrets/admin" doc:"File with a token in each line, and in front of it, if it shall have one, a name and a space: the name is in the log with what was changed. Read at the start."`
	TLS        AdminTLS `koanf:"tls" doc:"Serve the endpoint over TLS. Certificates are read at the start."`
	OpenHealth bool     `koanf:"open_health" example:"false" doc:"/healthz and /readyz answer everybody, in a word: who probes them, such as an orchestrator, can seldom be given a secret."`
	Traces     int      `koanf:"traces" min:"0" max:"65536" unit:"requests" example:"1024" doc:"How many recent requests are kept to look at, at /traces: half of them for those that failed or were slow, half for a sample of the others. One takes about 2 KiB, and each request the copy of its request line. 0 turns it off."`
	Jaeger     string   `koanf:"jaeger" example:"http://localhost:16686" doc:"Where people reach Jaeger's page: the admin page then links exported traces to it."`
}

// AdminTLS is how the endpoint for operators is served over TLS.
type AdminTLS struct {
	Cert     string `koanf:"cert" file:"true" example:"certs/admin.pem" doc:"PEM file of the certificate, with those between it and its authority."`
	Key      string `koanf:"key" file:"true" example:"certs/admin.key" doc:"PEM file of its key."`
	ClientCA string `koanf:"client_ca" file:"true" example:"certs/operators-ca.pem" doc:"PEM file of authorities: who has a certificate of theirs may ask and change everything, without a token too."`
}

// PluginCache is where compiled plugins and fetched modules are kept.
type PluginCache struct {
	Dir     string `koanf:"dir" example:"/var/cache/wasmgate" doc:"Folder, which only the gateway's user may write to: what is in it is executed. off: none. Default: wasmgate in the user's cache folder."`
	Modules Size   `koanf:"modules" example:"256MiB" doc:"Most bytes of fetched modules; those that were not used for the longest time go first. A module larger than that is not kept. 0: none are."`
}
