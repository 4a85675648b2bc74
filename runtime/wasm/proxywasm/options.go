package proxywasm

import (
	"time"

	"wasmgate/runtime/filter"
	"wasmgate/runtime/netloop"
	"wasmgate/runtime/wasm"
)

// Options say what a plugin is and may do. Zero values are the defaults.
type Options struct {
	Name     string // plugin_name
	Config   []byte // the plugin's configuration, as it is
	VMConfig []byte
	VMID     string // plugins of one module with the same VMID and VMConfig share VMs, shared data and queues; "": nobody
	RootID   string // plugin_root_id: which of a module's root contexts this is

	Group  *netloop.Group // the loops that it runs on; needed
	Shared *Shared        // what plugins of one process have in common; nil: the plugin's own

	Grants
	OnError wasm.OnError
	Sys     wasm.Sys // what WASI functions give; Log is set by New

	Backoff *wasm.Backoff // before a new VM, after failures; default breaker.DefaultBackoff
	Breaker *wasm.Breaker // default breaker.DefaultBreaker

	IdleAfter     time.Duration // without a call, after which a VM is closed that does nothing in the background; default 5 min, negative: never
	MaxPause      time.Duration // of a stream that is paused; default 60 s
	MaxBody       int           // bytes of a paused body; default 1 MiB
	MaxCalls      int           // http_calls and gRPC calls under way on one loop; default and most 1024
	NonUTF8       NonUTF8
	StopIteration StopIteration
	Node          Node
	NoTicks       bool // ticks are never called: the plugin is only asked what it would do
	Lazy          bool // the VM by which the configuration is tried is closed at once, unless it works in the background

	LogLevel uint32  // least wasm.Log… level of the plugin's lines that is kept
	LogRate  float64 // the plugin's lines in a second, over all loops; default wasm.DefaultLogRate
	// Log gets what the plugin writes and what there is to say about it. It is called on loops and must not block, and
	// while VMs start on other goroutines too.
	Log func(wasm.Line)
}

// Grants is what a plugin may reach. They can be changed by Plugin.Rebind.
type Grants struct {
	Calls     map[string]int // the ids of upstreams that http_call and gRPC calls may use, by the cluster's name in the plugin
	Caller    filter.Caller  // nil: there are no calls. One that is a filter.Streamer makes gRPC calls too
	Upstreams []string       // the names of all upstreams by their id, for the property cluster_name
}

// NonUTF8 is what a guest sees of a header value that is not UTF-8.
type NonUTF8 uint8

// The policies.
const (
	Replace NonUTF8 = iota // U+FFFD for what is wrong
	Drop                   // no such field
	Pass                   // the bytes as they are
)

// StopIteration is what Pause, or Envoy's StopIteration, means in a callback for headers.
type StopIteration uint8

// The meanings.
const (
	StopAuto    StopIteration = iota // StopAll if something may continue the stream, otherwise StopHeaders
	StopAll                          // nothing comes before the stream is continued
	StopHeaders                      // the body comes while the head waits
)

// Node is what the properties below "node" say about the gateway.
type Node struct {
	ID, Cluster string
	Metadata    map[string]string
}

func (o Options) withDefaults() Options {
	if o.IdleAfter == 0 {
		o.IdleAfter = 5 * time.Minute
	}
	if o.MaxPause <= 0 {
		o.MaxPause = time.Minute
	}
	if o.MaxBody <= 0 {
		o.MaxBody = 1 << 20
	}
	if o.MaxCalls <= 0 || o.MaxCalls > maxCalls {
		o.MaxCalls = maxCalls
	}
	if o.Shared == nil {
		o.Shared = NewShared(SharedOptions{})
	}
	return o
}

// Stats is what a plugin did since it was loaded, all loops together. What it says of instances is about VMs, which plugins
// may share.
type Stats struct {
	wasm.Stats
	Outbound uint64 // http_calls and gRPC calls
	Streams  int64  // contexts of exchanges and connections that exist
}
