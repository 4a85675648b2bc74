package native

import (
	"encoding/binary"
	"time"

	"wasmgate/runtime/fault"
	"wasmgate/runtime/kv"
	"wasmgate/runtime/wasm"
	"wasmgate/sdk/abi"
)

// results are the store's results in the ABI's numbers.
var results = [...]abi.Result{
	kv.OK: abi.ResultOK, kv.Mismatch: abi.ResultMismatch, kv.Full: abi.ResultFull, kv.TooLarge: abi.ResultTooLarge, kv.Absent: abi.ResultAbsent,
}

// store returns the store of an id and the time; nil while the guest starts.
func store(in *wasm.Instance, name string, a uint64) (*kv.Store, int64) {
	g, ok := in.Owner.(*guest)
	if !ok || g.task == nil {
		return nil, 0
	}
	id, stores := uint32(a), g.plugin.grants.stores //nolint:gosec // an i32 is in the low half
	if uint64(id) >= uint64(len(stores)) {
		in.Failf(fault.PluginTrap, "%s: store id %d; the manifest declares %d", name, id, len(stores))
	}
	return stores[id], g.task.Loop().Now()
}

// ttl is a number of milliseconds, as far as time goes.
func ttl(ms uint64) time.Duration {
	const most = 1 << 43                                   // some 280 years
	return time.Duration(min(ms, most)) * time.Millisecond //nolint:gosec // bounded
}

// hostKVGet is kv_get(store, key_ptr, key_len, out_ptr, out_cap) -> i64.
func hostKVGet(in *wasm.Instance, a []uint64) {
	key, out := memory(in, abi.ImportKVGet, a[1], a[2]), memory(in, abi.ImportKVGet, a[3], a[4])
	s, now := store(in, abi.ImportKVGet, a[0])
	a[0] = 0
	if s == nil {
		return
	}
	in.Charge(int64(len(key) / 8))
	if v, version, ok := s.Get(now, key, out[:0]); ok {
		in.Charge(int64(len(v) / 8))
		a[0] = abi.Pack(version, uint32(len(v))) //nolint:gosec // bounded by the store
	}
}

// hostKVSet is kv_set(store, key_ptr, key_len, value_ptr, value_len, version i32, ttl i64) -> i64.
func hostKVSet(in *wasm.Instance, a []uint64) {
	key, value := memory(in, abi.ImportKVSet, a[1], a[2]), memory(in, abi.ImportKVSet, a[3], a[4])
	s, now := store(in, abi.ImportKVSet, a[0])
	if s == nil {
		a[0] = abi.Pack(uint32(abi.ResultDenied), 0)
		return
	}
	in.Charge(int64((len(key) + len(value)) / 4))
	version, r := s.Set(now, key, value, uint32(a[5]), ttl(a[6])) //nolint:gosec // an i32 is in the low half
	a[0] = abi.Pack(uint32(results[r]), version)
}

// hostKVDelete is kv_delete(store, key_ptr, key_len, version i32) -> i64.
func hostKVDelete(in *wasm.Instance, a []uint64) {
	key := memory(in, abi.ImportKVDelete, a[1], a[2])
	s, now := store(in, abi.ImportKVDelete, a[0])
	if s == nil {
		a[0] = abi.Pack(uint32(abi.ResultDenied), 0)
		return
	}
	in.Charge(int64(len(key) / 8))
	version, r := s.Delete(now, key, uint32(a[3])) //nolint:gosec // an i32 is in the low half
	a[0] = abi.Pack(uint32(results[r]), version)
}

// hostKVAdd is kv_add(store, key_ptr, key_len i32, delta, ttl i64, out_ptr i32) -> i32.
func hostKVAdd(in *wasm.Instance, a []uint64) {
	key, out := memory(in, abi.ImportKVAdd, a[1], a[2]), memory(in, abi.ImportKVAdd, a[5], 8)
	s, now := store(in, abi.ImportKVAdd, a[0])
	if s == nil {
		a[0] = uint64(abi.ResultDenied)
		return
	}
	in.Charge(int64(len(key) / 8))
	sum, r := s.Add(now, key, int64(a[3]), ttl(a[4])) //nolint:gosec // two's complement on purpose
	if r == kv.OK {
		binary.LittleEndian.PutUint64(out, uint64(sum)) //nolint:gosec // see above
	}
	a[0] = uint64(results[r])
}
