package telemetry

import (
	"testing"

	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"

	"wasmgate/runtime/exchange"
)

// TestCalls: what is told of calls of gRPC, and which of them have failed.
func TestCalls(t *testing.T) {
	for status, failed := range map[uint8]bool{0: false, 1: false, 2: true, 3: false, 4: true, 5: false, 7: false, 8: false, 12: false, 13: true, 14: true, 15: true, 16: false} {
		c := httpCollector(t)
		tel := start(t, Options{Traces: Traces{Endpoint: c.url, Sample: new(1.0)}})
		x := request(t, "POST /acme.Users/Get HTTP/1.1", "Host: a")
		r := tel.Loop(0)
		r.Begin(x)
		x.RPC.Is = true
		x.RPC.Ended(status)
		end(r, x, 200)
		finish(t, tel)
		spans := c.all()
		if len(spans) == 0 {
			t.Fatal("no span")
		}
		a := attributes(spans[0].Attributes)
		if a["rpc.system.name"] != "grpc" || a["rpc.method"] != "acme.Users/Get" || a["rpc.response.status_code"] != rpcStatus(&x.RPC) {
			t.Errorf("%v", a)
		}
		if got := spans[0].Status.GetCode() == tracepb.Status_STATUS_CODE_ERROR; got != failed || failed && a["error.type"] != rpcStatus(&x.RPC) {
			t.Errorf("%s: %v %v", rpcStatus(&x.RPC), spans[0].Status, a["error.type"])
		}
	}
	if rpcStatus(&exchange.RPC{Is: true}) != "" {
		t.Error("a status that nobody knows")
	}
}
