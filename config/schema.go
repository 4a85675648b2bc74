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
	Admin         Admin                `koanf:"admin" doc:"The endpoint for operators: /metrics for Prometheus, /healthz, /readyz (see pool.ready), and /upstreams with the state of every address."`
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
}

// Admin is the endpoint for operators.
type Admin struct {
	Address string `koanf:"address" example:"10.0.0.5:9901" doc:"Host and port; empty turns it off. It has no access control: keep it on loopback or a private network. Targets are changed on a loopback address only."`
}

// PluginCache is where compiled plugins and fetched modules are kept.
type PluginCache struct {
	Dir     string `koanf:"dir" example:"/var/cache/wasmgate" doc:"Folder, which only the gateway's user may write to: what is in it is executed. off: none. Default: wasmgate in the user's cache folder."`
	Modules Size   `koanf:"modules" example:"256MiB" doc:"Most bytes of fetched modules; those that were not used for the longest time go first. A module larger than that is not kept. 0: none are."`
}
