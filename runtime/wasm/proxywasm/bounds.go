package proxywasm

import "time"

// What bounds a guest, besides Options.
const (
	maxContexts      = 1 << 16 // of one VM
	maxCalls         = 1024    // http_calls and gRPC calls under way, of one VM
	maxCallBytes     = 1 << 20 // of what a call sends
	maxCallTimeout   = 5 * time.Minute
	maxGRPCMessage   = 4 << 20            // of a gRPC call, either way
	maxGRPCQueue     = maxGRPCMessage + 5 // of messages that an upstream has not taken yet
	maxPairs         = 1024               // in a serialized map
	maxPairsBytes    = 1 << 20
	maxEdits         = 256 << 10 // bytes of header changes of one stream
	maxAnswer        = 1 << 20   // bytes of a local response's body
	maxProperties    = 64        // that are set, of one exchange or root context
	maxPropertyBytes = 64 << 10
	maxMetrics       = 1000 // of one plugin, or of those that share a VM
	maxMetricName    = 256
	maxName          = 4 << 10 // bytes of a key, a queue's name, a property's path
	maxQueues        = 256     // of one vm_id
	maxQueueItems    = 4096    // in one queue
	maxQueueBytes    = 4 << 20
	maxSharedValue   = 1 << 20

	// wholeBody is up to which Content-Length a body is read before it is shown.
	wholeBody = 64 << 10
	// minTick is the shortest period of a tick; a tick takes no more than a tenth of the loop's time in any case.
	minTick   = 10 * time.Millisecond
	tickShare = 9
	// closeGrace is how long a root context that answered false to on_done may take until it calls done.
	closeGrace = time.Second
	// lingerFor is that of a stream.
	lingerFor = 10 * time.Second
	// sweepEvery is how often a VM is looked after.
	sweepEvery = time.Second
	// slowEnd is the fuel above which the end of a stream is no longer made on the way.
	slowEnd = 1 << 17
)

// What calls of the host cost in fuel, besides wasm.DefaultHostFuel: about twice as many as nanoseconds.
const (
	logFuel    = 10_000 // a line that is kept
	lookupFuel = 300    // what looks through a head, or takes a lock
	callFuel   = 20_000 // an http_call
)
