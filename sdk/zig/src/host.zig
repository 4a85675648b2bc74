//! Calls of the gateway. In builds for other machines than WebAssembly the tester answers them.

const std = @import("std");
const builtin = @import("builtin");
const testing = @import("testing.zig");

/// A level of the log.
pub const Level = enum(u32) { debug = 0, info = 1, warn = 2, err = 3, _ };

pub fn log(level: Level, text: []const u8) void {
    calls.log(@intFromEnum(level), text.ptr, text.len);
}

/// Copies value k of a header to out. Its length, or null if there is none; if the length is over out's, nothing was
/// copied.
pub fn getHeader(message: u32, name: []const u8, k: usize, out: []u8) ?usize {
    const n = calls.get_header(message, name.ptr, name.len, k, out.ptr, out.len);
    return if (n < 0) null else @intCast(n);
}

const calls = if (builtin.cpu.arch.isWasm()) struct {
    extern "wasmgate_v1" fn log(level: u32, ptr: [*]const u8, len: usize) void;
    extern "wasmgate_v1" fn get_header(message: u32, name: [*]const u8, name_len: usize, index: usize, out: [*]u8, cap: usize) i32;
} else testing.calls;
