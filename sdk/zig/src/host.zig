//! Calls of the gateway. In builds for other machines than WebAssembly the tester answers them.

const builtin = @import("builtin");

/// A level of the log.
pub const Level = enum(u32) { debug = 0, info = 1, warn = 2, err = 3, _ };

pub fn log(level: Level, text: []const u8) void {
    calls.log(@backingInt(level), text.ptr, text.len);
}

/// Copies value k of a header to out.
pub fn getHeader(message: u32, name: []const u8, k: usize, out: []u8) error{NoSpaceLeft}!?[]u8 {
    const n = calls.get_header(message, name.ptr, name.len, k, out.ptr, out.len);
    if (n < 0) return null;
    return if (n <= out.len) out[0..@intCast(n)] else error.NoSpaceLeft;
}

pub const calls = if (builtin.cpu.arch.isWasm()) struct {
    pub extern "wasmgate_v1" fn log(level: u32, text: [*]const u8, text_len: usize) void;
    pub extern "wasmgate_v1" fn get_header(message: u32, name: [*]const u8, name_len: usize, k: usize, out: [*]u8, out_len: usize) i32;
    pub extern "wasmgate_v1" fn call(service: u32, request: [*]const u8, request_len: usize, out: [*]u8, out_len: usize) u64;
    pub extern "wasmgate_v1" fn call_answer(out: [*]u8, out_len: usize) i32;
    pub extern "wasmgate_v1" fn kv_get(store: u32, key: [*]const u8, key_len: usize, out: [*]u8, out_len: usize) u64;
    pub extern "wasmgate_v1" fn kv_set(store: u32, key: [*]const u8, key_len: usize, value: [*]const u8, value_len: usize, version: u32, ttl: u64) u64;
    pub extern "wasmgate_v1" fn kv_delete(store: u32, key: [*]const u8, key_len: usize, version: u32) u64;
    pub extern "wasmgate_v1" fn kv_add(store: u32, key: [*]const u8, key_len: usize, delta: i64, ttl: u64, sum: *i64) u32;
    pub extern "wasmgate_v1" fn read_body(message: u32, offset: usize, out: [*]u8, out_len: usize) i32;
    pub extern "wasmgate_v1" fn metric(id: u32, value: f64) void;
} else @import("gateway.zig").calls;
