package native

import (
	"time"

	"wasmgate/runtime/filter"
	"wasmgate/runtime/kv"
	"wasmgate/runtime/netloop"
	"wasmgate/runtime/wasm"
	"wasmgate/sdk/abi"
)

// OnError is what happens to a request whose plugin failed.
type OnError = wasm.OnError

// The policies.
const (
	FailClosed = wasm.FailClosed // 503
	FailOpen   = wasm.FailOpen   // it goes on as if the plugin were not there
)

// Options say what a plugin is and may do. Zero values are the defaults.
type Options struct {
	Name   string
	Config []byte // handed to the plugin: a string as it is, everything else as JSON
	Loops  int    // how many loops there are

	Grants
	OnError OnError
	Sys     wasm.Sys // what WASI functions give; Log is set by New

	Backoff      *wasm.Backoff // before a new instance, after failures; default breaker.DefaultBackoff
	Breaker      *wasm.Breaker // default breaker.DefaultBreaker
	RecycleAfter int64         // requests and answers after which an instance is replaced; 0: never
	IdleAfter    time.Duration // without a call, after which an instance is closed; default 5 min, negative: never
	// Lazy: no instance waits for requests before the first of them; one is made, to see whether the configuration is good,
	// and closed.
	Lazy       bool
	MaxPerLoop int // instances; default 8. More than one is used only while another's call takes long
	// MaxParked is how many instances there may be on a loop beyond those, in place of as many whose guests wait for an
	// upstream. 0: as many as 256 MiB of memory hold, all loops together, at least 16 and at most 1024; it is as much for a
	// plugin in C, and some 50 for one in Go. Negative: none.
	MaxParked int
	// MaxCalls bounds how many requests of the plugin's own are under way on a loop, where that is fewer than MaxParked allows:
	// what is above it waits its turn. It is at least MaxPerLoop. 0: nothing but MaxParked.
	MaxCalls int
	// MaxWait is how long a request waits for an instance. 0: a second, ten for a plugin that calls upstreams.
	MaxWait   time.Duration
	MaxAnswer int // bytes; default and most 1 MiB, or what a body needs that may be replaced

	// The longest bodies that are held for the plugin, in bytes; it may ask for less. 0: it may not see bodies at all.
	RequestBody, ResponseBody int
	// TickLoop is where a plugin that asks for ticks has them. nil: such a plugin is refused.
	TickLoop *netloop.Loop
	NoTicks  bool // a plugin that asks for ticks is taken, and has none: it is only asked what it would do

	LogLevel uint32  // least abi.Log… level of the plugin's lines that is kept; above LogError: none
	LogRate  float64 // the plugin's lines in a second, over all loops; default 20
	// Log gets what the plugin writes and what there is to say about it. It is called on loops and must not block, and
	// while instances start on other goroutines too.
	Log func(Line)
}

// Grants is what a plugin may choose and use.
type Grants struct {
	Upstreams map[string]int // the ids of those it may choose, by name
	// Calls are the ids of the upstreams that it may send requests of its own to, by name, which Caller does.
	Calls  map[string]int
	Caller filter.Caller
	Stores map[string]*kv.Store // those that it may use, by name
	// DynamicAllow says whether the plugin may choose an address; nil: none. The request then goes through the upstream
	// with the id DynamicUpstream.
	DynamicAllow    func(hostport []byte) bool
	DynamicUpstream int
}

// Line is a line for the log. Its phase is start, configure, request, response, request_body, response_body or tick.
type Line = wasm.Line

const (
	maxAnswer = 1 << 20
	maxView   = 1 << 20
	// bodyEdits is the room for other operations beside a body.
	bodyEdits = 64 << 10
)

func (o Options) withDefaults() Options {
	if o.Loops <= 0 {
		o.Loops = 1
	}
	if o.MaxPerLoop <= 0 {
		o.MaxPerLoop = 8
	}
	o.RequestBody, o.ResponseBody = min(max(o.RequestBody, 0), abi.MaxBody), min(max(o.ResponseBody, 0), abi.MaxBody)
	most := maxAnswer
	if body := max(o.RequestBody, o.ResponseBody); body > 0 {
		most = max(most, body+bodyEdits)
	}
	if o.MaxAnswer <= 0 || o.MaxAnswer > most {
		o.MaxAnswer = most
	}
	return o
}

// Stats is what a plugin did since it was loaded, all loops together.
type Stats struct {
	wasm.Stats
	Outbound, OutboundFailed uint64 // requests of the plugin's own, and those of them that got no answer
	Pieces, Ticks            uint64 // of Calls, those with pieces of bodies, and without a request
}

// The phases besides those of the ABI.
const (
	phaseRequestBody  = abi.PhaseResponse + 1 + abi.MessageRequest
	phaseResponseBody = abi.PhaseResponse + 1 + abi.MessageResponse
	phaseTick         = phaseResponseBody + 1
)

// phaseNames are the phases as logs and traces call them.
var phaseNames = [...]string{
	abi.PhaseRequest: "request", abi.PhaseResponse: "response",
	phaseRequestBody: "request_body", phaseResponseBody: "response_body", phaseTick: "tick",
}
