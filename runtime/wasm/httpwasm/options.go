package httpwasm

import (
	"time"

	"wasmgate/runtime/wasm"
)

// Options say what a plugin is. Zero values are the defaults.
type Options struct {
	Name   string
	Config []byte // what get_config gives: a string as it is, everything else as JSON
	Loops  int    // how many loops there are

	OnError wasm.OnError
	Sys     wasm.Sys // what WASI functions give; Log is set by New

	Backoff      *wasm.Backoff // before a new instance, after failures; default breaker.DefaultBackoff
	Breaker      *wasm.Breaker // default breaker.DefaultBreaker
	RecycleAfter int64         // exchanges after which an instance is replaced; 0: never
	IdleAfter    time.Duration // without a call, after which an instance is closed; default 5 min, negative: never
	Lazy         bool          // no instance waits for requests before the first of them; one is made to try the module, and closed
	MaxPerLoop   int           // instances of one loop that are at work; default 8
	MaxWaits     int           // instances of one loop whose exchanges wait for the upstream; default 1024
	MaxWait      time.Duration // how long a request waits for an instance; default 1 s
	MaxBody      int           // bytes of a body that is held back for the guest, and of one that it writes; default 1 MiB

	LogLevel uint32    // least wasm.Log… level of the plugin's lines that is kept
	LogRate  float64   // the plugin's lines in a second, over all loops; default wasm.DefaultLogRate
	Log      wasm.Sink // gets what the plugin writes and what there is to say about it
}

func (o Options) withDefaults() Options {
	if o.Loops <= 0 {
		o.Loops = 1
	}
	if o.MaxPerLoop <= 0 {
		o.MaxPerLoop = 8
	}
	if o.MaxWaits <= 0 {
		o.MaxWaits = 1024
	}
	if o.MaxBody <= 0 {
		o.MaxBody = 1 << 20
	}
	return o
}
