//! Texts that are read and written.

const std = @import("std");
const wasmgate = @import("wasmgate");

/// Takes the first word off a string.
pub fn cut(s: []const u8) [2][]const u8 {
    const i = std.mem.findScalar(u8, s, ' ') orelse return .{ s, "" };
    return .{ s[0..i], s[i + 1 ..] };
}

pub fn number(s: []const u8) u64 {
    return wasmgate.number(s) orelse 0;
}

pub fn signed(s: []const u8) i64 {
    return std.fmt.parseInt(i64, s, 10) catch 0;
}

var buffer: [(1 << 20) + 1]u8 = undefined;
var len: usize = 0;

/// Begins a text; it is there until the next one begins.
pub fn begin() void {
    len = 0;
}

pub fn print(comptime format: []const u8, args: anytype) void {
    len += (std.fmt.bufPrint(buffer[len..], format, args) catch @panic("the text is too long")).len;
}

pub fn written() []const u8 {
    return buffer[0..len];
}

pub fn fill(n: u64, c: u8) []const u8 {
    const s = buffer[0..@intCast(@min(n, buffer.len))];
    @memset(s, c);
    return s;
}

pub fn upper(s: []const u8) []const u8 {
    return std.ascii.upperString(&buffer, s);
}
