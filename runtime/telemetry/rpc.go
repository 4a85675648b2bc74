package telemetry

import (
	"wasmgate/runtime/exchange"
	"wasmgate/runtime/grpc"
)

// rpcStatus is the name of the status that a call of gRPC has ended with; empty if it is not known, or there is no call.
func rpcStatus(r *exchange.RPC) string {
	if !r.Known {
		return ""
	}
	return grpc.Code(r.Status).String()
}

// rpcFailed says whether a call has failed, and not by what its client did wrong.
func rpcFailed(r *exchange.RPC) bool { return r.Known && grpc.Code(r.Status).HTTP() >= 500 }

// setRPC sets what is known of a call of gRPC.
func (s *span) setRPC(r *record) {
	if !r.rpc.Is {
		return
	}
	s.set(attrRPCSystem.String("grpc"))
	path := r.get(r.path)
	if _, _, ok := grpc.SplitMethod([]byte(path)); ok {
		s.setText(attrRPCMethod, path[1:])
	}
	s.setText(attrRPCStatus, rpcStatus(&r.rpc))
}
