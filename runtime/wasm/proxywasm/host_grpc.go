package proxywasm

import (
	"fmt"
	"strconv"

	"google.golang.org/protobuf/encoding/protowire"

	"wasmgate/runtime/filter"
	"wasmgate/runtime/http1"
	"wasmgate/runtime/wasm"
)

// hostGRPCCall is grpc_call(upstream, service, method, metadata, message, timeout, token).
func hostGRPCCall(v *vm, in *wasm.Instance, a []uint64) status {
	message, ok := memory(in, a[8], a[9])
	if !ok || !put32(in, a[11], 0) {
		return statusBadMemory
	}
	in.Charge(int64(len(message)))
	if len(message) > maxGRPCMessage {
		return statusBadArgument
	}
	c, st := v.newGRPC(in, a)
	if st != statusOK {
		return st
	}
	c.unary, c.Timeout = true, callTimeout(uint32(a[10])) //nolint:gosec // an i32 is in the low half
	c.Fields.Add("grpc-timeout", strconv.FormatInt(c.Timeout.Milliseconds(), 10)+"m")
	c.sends.add(message)
	c.sends.end()
	put32(in, a[11], c.token)
	c.begin()
	return statusOK
}

// hostGRPCStream is grpc_stream(upstream, service, method, metadata, token).
func hostGRPCStream(v *vm, in *wasm.Instance, a []uint64) status {
	if !put32(in, a[8], 0) {
		return statusBadMemory
	}
	c, st := v.newGRPC(in, a)
	if st != statusOK {
		return st
	}
	put32(in, a[8], c.token)
	c.begin()
	return statusOK
}

// newGRPC makes a call of what grpc_call and grpc_stream have in common: their first eight arguments.
func (v *vm) newGRPC(in *wasm.Instance, a []uint64) (*grpcCall, status) {
	upstream, service, ok := twoStrings(in, a)
	method, raw, ok2 := twoStrings(in, a[4:])
	if !ok || !ok2 {
		return nil, statusBadMemory
	}
	in.Charge(callFuel + int64(len(upstream)+len(raw)))
	metadata, ok := readPairs(raw)
	ctx := v.effectiveContext()
	if !ok || ctx == nil || ctx.root == nil {
		return nil, statusBadArgument
	}
	k := ctx.root.core
	grants := k.grants.Load()
	if ctx.stream != nil {
		grants = &ctx.stream.plugin.grants
	}
	id, authority, granted := grpcTarget(grants, upstream)
	caller, ok := grants.Caller.(filter.Streamer)
	switch {
	case granted && !ok:
		v.say(wasm.LogWarn, "a gRPC call is answered UNIMPLEMENTED: here are none", "grpc")
		return nil, statusUnimplemented
	case !granted:
		name := wasm.LineText(upstream[:min(len(upstream), 100)])
		v.say(wasm.LogWarn, fmt.Sprintf("a gRPC call to %q was refused: the plugin is not granted calls to an upstream of that name", name), "refused call", name)
		return nil, statusBadArgument
	}
	c := &grpcCall{vm: v, root: ctx.root, stream: ctx.stream, caller: caller}
	c.Filter, c.Upstream, c.Authority = k.options.Name, id, authority
	if !c.fill(service, method, metadata) {
		return nil, statusBadArgument
	}
	if len(v.calls)+len(v.grpc) >= k.options.MaxCalls {
		v.say(wasm.LogWarn, fmt.Sprintf("a gRPC call failed: %d calls are under way", len(v.calls)+len(v.grpc)), "too many calls")
		return nil, statusInternal
	}
	c.token = v.newToken()
	return c, statusOK
}

// newToken returns a number that no call has.
func (v *vm) newToken() uint32 {
	for {
		if v.lastCall++; v.lastCall != 0 && v.calls[v.lastCall] == nil && v.grpc[v.lastCall] == nil {
			return v.lastCall
		}
	}
}

// begin makes the call one of the VM's, and starts it, or has it started with the VM.
func (c *grpcCall) begin() {
	v := c.vm
	if s := c.stream; s != nil {
		s.calls++
		if s.x != nil {
			c.Trace = s.x.Trace
		}
	}
	v.grpc[c.token] = c
	if v.loop == nil {
		v.pending = append(v.pending, c)
		return
	}
	c.start()
}

// grpcTarget finds the upstream that a gRPC call names: by its name, or, as plugins for Envoy do, by a GrpcService of
// Envoy's configuration, of which the name of the cluster, and the authority if there is one, are taken.
func grpcTarget(g *Grants, upstream []byte) (id int, authority []byte, granted bool) {
	if id, granted = g.Calls[string(upstream)]; granted {
		return id, nil, true
	}
	const grpcService, clusterName, authorityName = 1, 1, 2 // GrpcService.envoy_grpc, EnvoyGrpc.cluster_name, .authority
	envoy := bytesField(upstream, grpcService)
	if id, granted = g.Calls[string(bytesField(envoy, clusterName))]; !granted {
		return 0, nil, false
	}
	if authority = bytesField(envoy, authorityName); len(authority) > 0 && !http1.ValidAuthority(authority) {
		return 0, nil, false
	}
	return id, append([]byte(nil), authority...), true
}

// bytesField is the last field with a number of a message of Protocol Buffers, if it is of bytes; nil if the message is not
// well-formed.
func bytesField(b []byte, number protowire.Number) (value []byte) {
	for len(b) > 0 {
		num, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			return nil
		}
		b = b[n:]
		if n = protowire.ConsumeFieldValue(num, kind, b); n < 0 {
			return nil
		}
		if num == number && kind == protowire.BytesType {
			value, _ = protowire.ConsumeBytes(b)
		}
		b = b[n:]
	}
	return value
}

// fill makes the head of the request. It says whether that is one.
func (c *grpcCall) fill(service, method []byte, metadata pairs) bool {
	c.Method = []byte("POST")
	c.Path = fmt.Appendf(nil, "/%s/%s", service, method)
	if len(service) == 0 || len(method) == 0 || !http1.ValidPath(c.Path) {
		return false
	}
	c.Fields.Add("content-type", grpcType)
	for name, value, ok := metadata.next(); ok; name, value, ok = metadata.next() {
		value = trim(value)
		switch {
		case len(name) > 0 && name[0] == ':', isHost(name):
		case !http1.ValidFieldName(name) || !http1.ValidFieldValue(value):
			return false
		case !connectionField(name) && !ownOfGRPC(name):
			c.Fields.AddBytes(name, value)
		}
	}
	return true
}

// ownOfGRPC says whether a field is the call's own, and no metadata.
func ownOfGRPC(name []byte) bool {
	for _, own := range [...]string{"content-type", "te", "grpc-timeout", "grpc-encoding", "grpc-accept-encoding"} {
		if http1.EqualFold(name, own) {
			return true
		}
	}
	return false
}

// hostGRPCSend is grpc_send(token, message, end).
func hostGRPCSend(v *vm, in *wasm.Instance, a []uint64) status {
	message, ok := memory(in, a[1], a[2])
	if !ok {
		return statusBadMemory
	}
	in.Charge(int64(len(message)))
	c := v.grpc[uint32(a[0])] //nolint:gosec // an i32 is in the low half
	switch {
	case c == nil:
		return statusNotFound
	case c.unary || c.sends.whole || len(message) > maxGRPCMessage:
		return statusBadArgument
	}
	if !c.sends.add(message) {
		v.say(wasm.LogWarn, fmt.Sprintf("grpc_send failed: %d bytes wait for the upstream to take them", len(c.sends.queue)), "grpc send")
		return statusInternal
	}
	if uint32(a[3]) != 0 { //nolint:gosec // see above
		c.sends.end()
	}
	return statusOK
}

// hostGRPCClose is grpc_close(token): the guest sends no more. It may receive still.
func hostGRPCClose(v *vm, _ *wasm.Instance, a []uint64) status {
	c := v.grpc[uint32(a[0])] //nolint:gosec // an i32 is in the low half
	switch {
	case c == nil:
		return statusNotFound
	case c.unary:
		c.abort()
	default:
		c.sends.end()
	}
	return statusOK
}

// hostGRPCCancel is grpc_cancel(token).
func hostGRPCCancel(v *vm, _ *wasm.Instance, a []uint64) status {
	c := v.grpc[uint32(a[0])] //nolint:gosec // an i32 is in the low half
	if c == nil {
		return statusNotFound
	}
	c.abort()
	return statusOK
}
