package exchange

import (
	"testing"

	"wasmgate/runtime/fault"
)

// A body that a plugin is shown in a million pieces costs no more memory than that of 64 calls; the one that failed is there.
func TestCallsAreBounded(t *testing.T) {
	x := &Exchange{}
	for range 1_000_000 {
		x.AddCall(PluginCall{Plugin: "p"})
	}
	x.AddCall(PluginCall{Plugin: "p", Err: &fault.Error{Kind: fault.PluginTrap}})
	if len(x.Calls) != MaxCalls || cap(x.Calls) > 2*MaxCalls || x.Calls[MaxCalls-1].Err == nil || x.CallsDropped != 1_000_001-MaxCalls {
		t.Errorf("%d calls in room for %d, %d dropped, the last: %+v", len(x.Calls), cap(x.Calls), x.CallsDropped, x.Calls[len(x.Calls)-1])
	}
	if x.Reset(); len(x.Calls) != 0 || x.CallsDropped != 0 {
		t.Error("calls of the request before")
	}
}
