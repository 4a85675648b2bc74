package config

// Plugin is one WebAssembly module with its config, its limits and what it may do.
type Plugin struct {
	Module       Module       `koanf:"module" required:"true" example:"oci://ghcr.io/acme/tenant-router:1.2@sha256:…" doc:"Where the module is: the path of a file, which starts at the config file's folder if it is relative, or a reference with a digest."`
	Config       PluginConfig `koanf:"config" example:"{ default: users }" doc:"Handed to the plugin at its start: a string as it is, anything else as JSON."`
	Limits       PluginLimits `koanf:"limits" doc:"What one instance may use. A plugin that goes over fails its own request only."`
	OnError      OnError      `koanf:"on_error" enum:"fail_closed,fail_open" example:"fail_open" doc:"A request whose plugin failed. fail_closed: 503. fail_open: goes on as if the plugin had nothing to say."`
	Upstreams    []string     `koanf:"upstreams" ref:"upstreams" wildcard:"true" example:"[users, orders]" doc:"Upstreams that the plugin may choose; [\"*\"] for all. Default: none."`
	Dynamic      string       `koanf:"dynamic" ref:"upstreams" example:"tenants" doc:"The upstream with dynamic.allow through which the plugin may choose addresses. Default: none."`
	Calls        []string     `koanf:"calls" ref:"upstreams" wildcard:"true" example:"[authz]" doc:"Upstreams to which the plugin may send requests of its own; [\"*\"] for all. Default: none."`
	State        []string     `koanf:"state" example:"[sessions]" doc:"Key-value stores that the plugin may use, by names of its own choice; plugins that name the same store share it. They live in the gateway's memory (plugin_state), until it stops. Default: none."`
	Clock        bool         `koanf:"clock" example:"true" doc:"The plugin may read the real time. Without it its clocks only count their readings; requests tell the time in any case."`
	ProxyWasm    ProxyWasm    `koanf:"proxy_wasm" doc:"For modules that speak Proxy-Wasm."`
	Breaker      Breaker      `koanf:"breaker" doc:"When a plugin fails again and again: its calls fail at once for a while, as on_error says."`
	Env          []string     `koanf:"env" example:"[REGION]" doc:"Environment variables that the plugin may read. Default: none."`
	Log          PluginLog    `koanf:"log" doc:"What the plugin writes to the log."`
	RecycleAfter int          `koanf:"recycle_after" min:"0" example:"100_000" doc:"Requests after which an instance is replaced by a fresh one. 0 means never."`
	IdleAfter    Duration     `koanf:"idle_after" min:"0s" example:"1m" doc:"Time without a request after which an instance is closed; the next request has one started. 0s: never."`
}

// PluginLimits bound one instance of a plugin.
type PluginLimits struct {
	Memory    Size     `koanf:"memory" min:"64KiB" max:"4GiB" example:"32MiB" doc:"Most linear memory of one instance, rounded down to whole pages of 64 KiB."`
	Body      Size     `koanf:"body" min:"0" max:"1GiB" example:"8MiB" doc:"Most bytes of a message's body that are held back for the plugin, where it wants to see it whole."`
	Calls     int      `koanf:"calls" min:"1" max:"100000" example:"256" doc:"Most requests of its own under way, for each event loop; what is over waits its turn. http-wasm: requests whose answers an instance is kept for."`
	Wait      Duration `koanf:"wait" min:"0s" max:"10m" example:"5s" doc:"How long a request waits for an instance where all are in use; then it fares as on_error says. 0s: a second, and ten for a plugin with calls."`
	Fuel      int      `koanf:"fuel" unit:"instructions" min:"1000" example:"20_000_000" doc:"Most WebAssembly instructions in one call, about; a million are near a millisecond. What the gateway does for the plugin in a call costs some too: a log line 10,000; a call of the host 100."`
	StartFuel int      `koanf:"start_fuel" unit:"instructions" min:"1000" example:"2_000_000_000" doc:"Most instructions for the start of an instance, its configuration included; modules in Go take about ten million."`
}

// ProxyWasm is what Proxy-Wasm has a plugin know and share.
type ProxyWasm struct {
	RootID        string        `koanf:"root_id" example:"add_header" doc:"Which of the module's root contexts the plugin is (plugin_root_id)."`
	VMID          string        `koanf:"vm_id" example:"shared" doc:"Plugins of one module with the same vm_id share instances, shared data and queues. Default: the plugin's own."`
	VMConfig      string        `koanf:"vm_config" secret:"true" example:"debug" doc:"Handed to on_vm_start."`
	NonUTF8       NonUTF8       `koanf:"non_utf8" enum:"replace,drop,pass" example:"drop" doc:"Header values that are no UTF-8, which guests in Rust cannot bear. replace: U+FFFD for what is wrong. drop: the plugin does not see the field. pass: as they are."`
	StopIteration StopIteration `koanf:"stop_iteration" enum:"auto,all,headers" example:"headers" doc:"What a plugin means that pauses a message at its head. all: nothing of it comes until it is continued. headers: the body comes, while the head waits. auto: all, unless nothing could continue it."`
	MaxPause      Duration      `koanf:"max_pause" min:"1ms" max:"1h" example:"10s" doc:"How long a message may be paused; then the request fails with 504, or goes on, as on_error says."`
	Node          ProxyWasmNode `koanf:"node" doc:"What the properties below node say about the gateway."`
}

// ProxyWasmNode is what the properties below node say.
type ProxyWasmNode struct {
	ID       string            `koanf:"id" example:"gateway-1" doc:"The property node.id."`
	Cluster  string            `koanf:"cluster" example:"edge" doc:"The property node.cluster."`
	Metadata map[string]string `koanf:"metadata" key:"name" example:"{ NAMESPACE: shop }" doc:"The properties below node.metadata."`
}

// PluginState bounds the key-value stores of plugins.
type PluginState struct {
	MaxSize Size `koanf:"max_size" min:"64KiB" max:"64GiB" example:"256MiB" doc:"Most bytes of one store, keys and values. What would go over is refused, and the plugin told so."`
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
	Rate  int      `koanf:"rate" unit:"lines/s" min:"0" example:"100" doc:"Most lines in a second, of all loops together; those above are counted (wasmgate_plugin_log_lines_dropped_total, and suppressed in the next line), not written. 0: none."`
}
