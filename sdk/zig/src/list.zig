//! Lists of operations and other records, written one after another.

const std = @import("std");
const builtin = @import("builtin");

/// Arenas that grow, and what calls need, come from here.
pub const allocator = if (builtin.cpu.arch.isWasm()) std.heap.wasm_allocator else std.heap.page_allocator;

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
    set_body = 0x60,
    want_body = 0x61,
    keep = 0x62,
    _,
};

/// A list in memory: in its arena, which stays where it is, until it outgrows that.
pub const List = struct {
    arena: []u8,
    out: []u8,
    len: usize = 0,
    /// Memory ran out.
    full: bool = false,
    /// The arena was allocated.
    owned: bool = false,

    pub fn init(arena: []u8) List {
        return .{ .arena = arena, .out = arena };
    }

    pub fn begin(l: *List) void {
        l.len = 0;
        l.full = false;
        if (l.out.ptr != l.arena.ptr) allocator.free(l.out);
        l.out = l.arena;
    }

    pub fn bytes(l: *const List) []const u8 {
        return l.out[0..l.len];
    }

    /// Makes the place of a list that outgrew its arena the arena.
    pub fn adopt(l: *List) void {
        if (l.out.ptr == l.arena.ptr) return;
        if (l.owned) allocator.free(l.arena);
        l.arena = l.out;
        l.owned = true;
    }

    /// Puts a list that has become short enough back into its arena.
    pub fn settle(l: *List) void {
        if (l.out.ptr == l.arena.ptr or l.len > l.arena.len) return;
        const n = l.len;
        @memcpy(l.arena[0..n], l.out[0..n]);
        l.begin();
        l.len = n;
    }

    /// Room for n more bytes; null without memory.
    fn room(l: *List, n: usize) ?[*]u8 {
        if (n > l.out.len - l.len) {
            if (l.full or n > 1 << 30) return l.none();
            const grown = allocator.alloc(u8, @max(2 * l.out.len, l.len + n)) catch return l.none();
            @memcpy(grown[0..l.len], l.out[0..l.len]);
            if (l.out.ptr != l.arena.ptr) allocator.free(l.out);
            l.out = grown;
        }
        defer l.len += n;
        return l.out.ptr + l.len;
    }

    fn none(l: *List) ?[*]u8 {
        l.full = true;
        return null;
    }

    /// A record with a body of n bytes.
    pub fn record(l: *List, kind: u16, n: usize) ?Writer {
        var w: Writer = .{ .at = l.room(8 + n) orelse return null };
        w.number(kind);
        w.number(@intCast(n));
        return w;
    }

    pub fn op(l: *List, kind: Op) void {
        _ = l.record(@backingInt(kind), 0);
    }

    pub fn op32(l: *List, kind: Op, v: u32) void {
        l.record32(@backingInt(kind), &.{v});
    }

    pub fn record32(l: *List, kind: u16, numbers: []const u32) void {
        var w = l.record(kind, 4 * numbers.len) orelse return;
        for (numbers) |n| w.number(n);
    }

    pub fn op64(l: *List, kind: Op, v: u64) void {
        var w = l.record(@backingInt(kind), 8) orelse return;
        w.raw(std.mem.asBytes(&std.mem.nativeToLittle(u64, v)));
    }

    pub fn opText(l: *List, kind: Op, s: []const u8) void {
        l.recordText(@backingInt(kind), s);
    }

    pub fn recordText(l: *List, kind: u16, s: []const u8) void {
        var w = l.record(kind, 4 + s.len) orelse return;
        w.string(s);
    }

    pub fn opPair(l: *List, kind: Op, a: []const u8, b: []const u8) void {
        var w = l.record(@backingInt(kind), 8 + a.len + b.len) orelse return;
        w.string(a);
        w.string(b);
    }

    pub fn opLog(l: *List, level: u32, s: []const u8) void {
        var w = l.record(@backingInt(Op.log), 8 + s.len) orelse return;
        w.number(level);
        w.string(s);
    }

    /// fields: pairs of a name and a value.
    pub fn respond(l: *List, status: u32, body: []const u8, fields: []const [2][]const u8) void {
        var n = 12 + body.len;
        for (fields) |f| n += 8 + f[0].len + f[1].len;
        var w = l.record(@backingInt(Op.respond), n) orelse return;
        w.number(status);
        w.string(body);
        w.number(@intCast(fields.len));
        for (fields) |f| {
            w.string(f[0]);
            w.string(f[1]);
        }
    }
};

/// Writes into room that was made.
pub const Writer = struct {
    at: [*]u8,

    pub fn number(w: *Writer, v: u32) void {
        w.raw(std.mem.asBytes(&std.mem.nativeToLittle(u32, v)));
    }

    pub fn raw(w: *Writer, s: []const u8) void {
        @memcpy(w.at[0..s.len], s);
        w.at += s.len;
    }

    pub fn string(w: *Writer, s: []const u8) void {
        w.number(@intCast(s.len));
        w.raw(s);
    }
};
