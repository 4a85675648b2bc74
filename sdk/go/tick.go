package wasmgate

import "wasmgate/sdk/abi"

// Tick is a call without a request. It is valid until the function returns.
type Tick struct {
	v abi.Tick
	caller
}

// HandleTick registers a function that is called when the plugin has started, and then each time so many milliseconds after
// its last call has ended, in one instance: for what is to be fetched, renewed or counted now and then, and left in a Store for
// all instances. An error is logged with its text. Call it in init, or in the function given to Configure.
func HandleTick(milliseconds int, fn func(*Tick) error) {
	plugin.tick = fn
	plugin.manifest.Tick = uint32(milliseconds) //nolint:gosec // the host checks it
}

// Time is the time of the gateway's clock in Unix milliseconds, some milliseconds coarse.
func (t *Tick) Time() int64 { return t.v.Time() }

// Seed is a fresh random number.
func (t *Tick) Seed() uint64 { return t.v.Seed() }

// Log writes a line to the gateway's log.
func (t *Tick) Log(level Level, text string) { out.buf = abi.AppendLog(out.buf, uint32(level), text) }

var theTick Tick

// tick answers wasmgate_v1_tick.
func tick(in []byte) uint64 {
	out.begin()
	theTick.v = abi.Tick(in)
	if plugin.tick == nil {
		return 0
	}
	if err := plugin.tick(&theTick); err != nil {
		return out.text(err.Error())
	}
	return out.finish(Continue)
}
