//! The arenas, and the answer under way.

const std = @import("std");
const List = @import("list.zig").List;
const allocator = @import("list.zig").allocator;

/// The capacity of each arena at the start.
const size = 64 << 10;
const max_text = 4096;

pub const Code = enum(u32) { ok = 0, no_match = 1, route = 2, deny = 3, operations = 4, err = 5, _ };

var first_request: [size]u8 align(16) = undefined;
var first_answer: [size]u8 align(16) = undefined;

/// The request arena.
pub var in: []u8 = &first_request;
/// The answer, and its arena.
pub var out: List = .init(&first_answer);

pub fn pack(code: Code, value: u32) u64 {
    return @as(u64, @backingInt(code)) << 32 | value;
}

/// Makes the request arena larger.
pub fn resizeRequest(need: usize) bool {
    const grown = allocator.alloc(u8, @max(need, 2 * in.len)) catch return false;
    if (in.ptr != &first_request) allocator.free(in);
    in = grown;
    return true;
}

/// The answer that could not decide: its text is in the arena, whatever was written before.
pub fn fail(text: []const u8) u64 {
    const n = @min(text.len, max_text, out.arena.len);
    @memmove(out.arena[0..n], text[0..n]);
    out.begin();
    out.len = n;
    return pack(.err, @intCast(n));
}

/// The answer that has what was written.
pub fn settle(code: Code) u64 {
    if (out.full) return fail("the plugin's memory is too small for its answer");
    out.settle();
    return pack(code, @intCast(out.len));
}

/// Turns the handler's decision and the edits before it into the answer. d is a Decision.
pub fn finish(d: anytype) u64 {
    const plain = out.len == 0 and !out.full;
    switch (d) {
        .fail => |text| return fail(text),
        .no_match => return pack(.no_match, 0),
        .@"continue" => if (plain) return pack(.ok, 0),
        .route_to => |u| {
            if (plain) return pack(.route, @backingInt(u));
            out.op32(.upstream, @backingInt(u));
        },
        .deny => |status| {
            if (plain) return pack(.deny, status);
            out.respond(if (status == 0) 403 else status, "", &.{});
        },
        .written => {},
    }
    return settle(.operations);
}
