//! The arenas, and the answer under way.

const std = @import("std");
const builtin = @import("builtin");

/// The capacity of each arena at the start.
pub const size = 64 << 10;
const max_text = 4096;

/// Arenas that grow, and nothing else, come from here.
pub const allocator = if (builtin.cpu.arch.isWasm()) std.heap.wasm_allocator else std.heap.page_allocator;

pub const Code = enum(u32) { ok = 0, no_match = 1, route = 2, deny = 3, operations = 4, err = 5, _ };

pub const Op = enum(u16) {
    upstream = 0x01,
    address = 0x02,
    timeout = 0x03,
    hash_key = 0x04,
    method = 0x10,
    authority = 0x11,
    path = 0x12,
    query = 0x13,
    set_header = 0x20,
    append_header = 0x21,
    remove_header = 0x22,
    respond = 0x30,
    attribute = 0x40,
    log = 0x41,
    context = 0x50,
    rematch = 0x51,
    _,
};

var first_request: [size]u8 align(16) = undefined;
var first_answer: [size]u8 align(16) = undefined;

/// The request arena.
pub var in: []u8 = &first_request;
/// The answer arena, as the gateway knows it.
pub var arena: []u8 = &first_answer;
/// The place that the answer is written to: the arena, until it is outgrown.
var out: []u8 = &first_answer;
var len: usize = 0;
/// Memory ran out while the answer was written.
var full = false;

pub fn pack(code: Code, value: u32) u64 {
    return @as(u64, @intFromEnum(code)) << 32 | value;
}

pub fn bytes() []const u8 {
    return out[0..len];
}

pub fn begin() void {
    len = 0;
    full = false;
    if (out.ptr != arena.ptr) allocator.free(out);
    out = arena;
}

/// Makes the request arena larger.
pub fn resizeRequest(need: usize) bool {
    const grown = allocator.alloc(u8, @max(need, 2 * in.len)) catch return false;
    if (in.ptr != &first_request) allocator.free(in);
    in = grown;
    return true;
}

/// Makes the place of an answer that outgrew its arena the arena.
pub fn resizeAnswer() void {
    if (out.ptr == arena.ptr) return;
    if (arena.ptr != &first_answer) allocator.free(arena);
    arena = out;
}

/// Room for n more bytes; null without memory.
fn room(n: usize) ?[*]u8 {
    if (n > out.len - len) {
        if (full or n > 1 << 30) return none();
        const grown = allocator.alloc(u8, @max(2 * out.len, len + n)) catch return none();
        @memcpy(grown[0..len], out[0..len]);
        if (out.ptr != arena.ptr) allocator.free(out);
        out = grown;
    }
    defer len += n;
    return out.ptr + len;
}

fn none() ?[*]u8 {
    full = true;
    return null;
}

/// Writes into room that was made.
const Writer = struct {
    at: [*]u8,

    fn number(w: *Writer, v: u32) void {
        w.raw(std.mem.asBytes(&std.mem.nativeToLittle(u32, v)));
    }

    fn raw(w: *Writer, s: []const u8) void {
        @memcpy(w.at[0..s.len], s);
        w.at += s.len;
    }

    fn string(w: *Writer, s: []const u8) void {
        w.number(@intCast(s.len));
        w.raw(s);
    }
};

/// A record with a body of n bytes.
fn record(kind: u16, n: usize) ?Writer {
    var w: Writer = .{ .at = room(8 + n) orelse return null };
    w.number(kind);
    w.number(@intCast(n));
    return w;
}

pub fn op0(kind: Op) void {
    _ = record(@intFromEnum(kind), 0);
}

pub fn op32(kind: Op, v: u32) void {
    record32(@intFromEnum(kind), v);
}

pub fn record32(kind: u16, v: u32) void {
    var w = record(kind, 4) orelse return;
    w.number(v);
}

pub fn op64(kind: Op, v: u64) void {
    var w = record(@intFromEnum(kind), 8) orelse return;
    w.raw(std.mem.asBytes(&std.mem.nativeToLittle(u64, v)));
}

pub fn opText(kind: Op, s: []const u8) void {
    recordText(@intFromEnum(kind), s);
}

pub fn recordText(kind: u16, s: []const u8) void {
    var w = record(kind, 4 + s.len) orelse return;
    w.string(s);
}

pub fn opPair(kind: Op, a: []const u8, b: []const u8) void {
    var w = record(@intFromEnum(kind), 8 + a.len + b.len) orelse return;
    w.string(a);
    w.string(b);
}

pub fn opLog(level: u32, s: []const u8) void {
    var w = record(@intFromEnum(Op.log), 8 + s.len) orelse return;
    w.number(level);
    w.string(s);
}

/// fields: pairs of a name and a value.
pub fn respond(status: u32, body: []const u8, fields: []const [2][]const u8) void {
    var n = 12 + body.len;
    for (fields) |f| n += 8 + f[0].len + f[1].len;
    var w = record(@intFromEnum(Op.respond), n) orelse return;
    w.number(status);
    w.string(body);
    w.number(@intCast(fields.len));
    for (fields) |f| {
        w.string(f[0]);
        w.string(f[1]);
    }
}

/// The answer that could not decide: its text is in the arena, whatever was written before.
pub fn fail(text: []const u8) u64 {
    const n = @min(text.len, max_text, arena.len);
    @memmove(arena[0..n], text[0..n]);
    begin();
    len = n;
    return pack(.err, @intCast(n));
}

/// The answer that has what was written.
pub fn settle(code: Code) u64 {
    if (full) return fail("the plugin's memory is too small for its answer");
    if (out.ptr != arena.ptr and len <= arena.len) {
        const n = len;
        @memcpy(arena[0..n], out[0..n]);
        begin();
        len = n;
    }
    return pack(code, @intCast(len));
}

/// Turns the handler's decision and the edits before it into the answer. d is a Decision.
pub fn finish(d: anytype) u64 {
    const plain = len == 0 and !full;
    switch (d) {
        .fail => |text| return fail(text),
        .no_match => return pack(.no_match, 0),
        .@"continue" => if (plain) return pack(.ok, 0),
        .route_to => |u| {
            if (plain) return pack(.route, @intFromEnum(u));
            op32(.upstream, @intFromEnum(u));
        },
        .deny => |status| {
            if (plain) return pack(.deny, status);
            respond(if (status == 0) 403 else status, "", &.{});
        },
        .responded => {},
    }
    return settle(.operations);
}
