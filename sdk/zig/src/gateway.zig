//! The gateway's part of what a tester calls: logs, stores, metrics, and answers to the plugin's own requests, all in memory.

const std = @import("std");
const Op = @import("list.zig").Op;
const View = @import("view.zig").View;
const Failure = @import("outbound.zig").Failure;

const Field = [2][]const u8;

/// A request of the plugin's own.
pub const Outbound = struct {
    service: []const u8,
    method: []const u8 = "GET",
    authority: []const u8 = "",
    path: []const u8 = "/",
    query: []const u8 = "",
    header: []const Field = &.{},
    body: []const u8 = "",
    timeout: u32 = 0,
};

/// The answer to an Outbound.
pub const OutboundAnswer = struct {
    status: u16 = 200,
    header: []const Field = &.{},
    body: []const u8 = "",
    trailers: []const Field = &.{},
    took: u32 = 0,
};

pub const OnCall = *const fn (Outbound) Failure!OutboundAnswer;

const Value = struct { store: u32, key: []const u8, bytes: []const u8, version: u32, end: u64 };

/// The gateway of the tester that is used now.
pub const Gateway = struct {
    memory: std.mem.Allocator,
    /// Fields of the request, of the answer, and their trailers, and what is known of TLS.
    messages: [5][]const Field = .{ &.{}, &.{}, &.{}, &.{}, &.{} },
    body: ?[]const u8 = null,
    /// In milliseconds.
    time: u64 = 0,
    logged: Text = .empty,
    services: []const []const u8 = &.{},
    on_call: ?OnCall = null,
    answer: []const u8 = "",
    values: std.ArrayListUnmanaged(Value) = .empty,
    version: u32 = 0,
    measured: std.ArrayListUnmanaged(struct { id: u32, value: f64 }) = .empty,

    fn value(g: *Gateway, store: u32, key: []const u8) ?*Value {
        for (g.values.items) |*v| {
            if (v.store == store and std.mem.eql(u8, v.key, key) and (v.end == 0 or v.end > g.time)) return v;
        }
        return null;
    }

    fn put(g: *Gateway, store: u32, key: []const u8, bytes: []const u8, end: u64) u32 {
        _ = g.remove(store, key);
        g.version += 1;
        g.values.append(g.memory, .{ .store = store, .key = g.keep(key), .bytes = g.keep(bytes), .version = g.version, .end = end }) catch
            @panic("out of memory");
        return g.version;
    }

    fn remove(g: *Gateway, store: u32, key: []const u8) void {
        for (g.values.items, 0..) |v, i| if (v.store == store and std.mem.eql(u8, v.key, key)) {
            _ = g.values.swapRemove(i);
            return;
        };
    }

    fn keep(g: *Gateway, s: []const u8) []const u8 {
        return g.memory.dupe(u8, s) catch @panic("out of memory");
    }

    fn endOf(g: *Gateway, ttl: u64) u64 {
        return if (ttl == 0) 0 else g.time +| ttl;
    }
};

pub const Text = std.ArrayListUnmanaged(u8);

pub fn line(memory: std.mem.Allocator, to: *Text, comptime format: []const u8, args: anytype) void {
    const s = std.fmt.allocPrint(memory, format ++ "\n", args) catch @panic("out of memory");
    to.appendSlice(memory, s) catch @panic("out of memory");
}

pub var current: Gateway = undefined;

/// Copies what fits, and returns the length.
fn give(from: []const u8, out: [*]u8, out_len: usize) usize {
    if (from.len <= out_len) @memcpy(out[0..from.len], from);
    return from.len;
}

fn packed_result(result: u32, value: u32) u64 {
    return @as(u64, result) << 32 | value;
}

pub const calls = struct {
    pub fn log(level: u32, text: [*]const u8, text_len: usize) void {
        line(current.memory, &current.logged, "{d} {s}", .{ level, text[0..text_len] });
    }

    pub fn get_header(message: u32, name: [*]const u8, name_len: usize, k: usize, out: [*]u8, out_len: usize) i32 {
        var left = k;
        for (current.messages[message]) |f| {
            if (!std.ascii.eqlIgnoreCase(f[0], name[0..name_len])) continue;
            if (left == 0) return @intCast(give(f[1], out, out_len));
            left -= 1;
        }
        return -1;
    }

    pub fn read_body(_: u32, offset: usize, out: [*]u8, out_len: usize) i32 {
        const body = current.body orelse return -1;
        if (offset > body.len) return -1;
        const rest = body[offset..];
        const n = @min(rest.len, out_len);
        @memcpy(out[0..n], rest[0..n]);
        return @intCast(rest.len);
    }

    pub fn metric(id: u32, value: f64) void {
        current.measured.append(current.memory, .{ .id = id, .value = value }) catch @panic("out of memory");
    }

    pub fn call(service: u32, request: [*]const u8, request_len: usize, out: [*]u8, out_len: usize) u64 {
        const answerer = current.on_call orelse return packed_result(2, 0);
        const o = parse(current.services[service], .{ .bytes = request[0..request_len] }) catch @panic("out of memory");
        const a = answerer(o) catch |failure| return packed_result(code(failure), 0);
        current.answer = encode(a) catch @panic("out of memory");
        return give(current.answer, out, out_len);
    }

    pub fn call_answer(out: [*]u8, out_len: usize) i32 {
        return @intCast(give(current.answer, out, out_len));
    }

    pub fn kv_get(store: u32, key: [*]const u8, key_len: usize, out: [*]u8, out_len: usize) u64 {
        const v = current.value(store, key[0..key_len]) orelse return 0;
        return packed_result(v.version, @intCast(give(v.bytes, out, out_len)));
    }

    pub fn kv_set(store: u32, key: [*]const u8, key_len: usize, value: [*]const u8, value_len: usize, version: u32, ttl: u64) u64 {
        const there = if (current.value(store, key[0..key_len])) |v| v.version else 0;
        const wanted: u32 = if (there == 0) 0xffff_ffff else there;
        if (version != 0 and version != wanted) return packed_result(8, there);
        return current.put(store, key[0..key_len], value[0..value_len], current.endOf(ttl));
    }

    pub fn kv_delete(store: u32, key: [*]const u8, key_len: usize, version: u32) u64 {
        const there = current.value(store, key[0..key_len]) orelse return packed_result(10, 0);
        if (version != 0 and version != there.version) return packed_result(8, there.version);
        current.remove(store, key[0..key_len]);
        return 0;
    }

    pub fn kv_add(store: u32, key: [*]const u8, key_len: usize, delta: i64, ttl: u64, sum: *i64) u32 {
        var was: i64 = 0;
        var end = current.endOf(ttl);
        if (current.value(store, key[0..key_len])) |v| {
            if (v.bytes.len != 8) return 8;
            was = std.mem.readInt(i64, v.bytes[0..8], .little);
            end = v.end;
        }
        sum.* = was +% delta;
        var bytes: [8]u8 = undefined;
        std.mem.writeInt(i64, &bytes, sum.*, .little);
        _ = current.put(store, key[0..key_len], &bytes, end);
        return 0;
    }
};

fn code(failure: Failure) u32 {
    return switch (failure) {
        error.Timeout => 1,
        error.Connect => 2,
        error.Denied => 3,
        error.TooLarge => 4,
        error.Invalid => 5,
        error.Failed, error.OutOfMemory => 6,
        error.Limit => 7,
        error.Mismatch => 8,
        error.Full => 9,
        error.Absent => 10,
    };
}

/// Strings within a record, one after the other.
pub const Strings = struct {
    body: View,
    at: usize = 0,

    pub fn next(s: *Strings) []const u8 {
        const n = s.number();
        defer s.at += n;
        return s.body.bytes[s.at..][0..n];
    }

    pub fn number(s: *Strings) u32 {
        defer s.at += 4;
        return s.body.int(u32, s.at);
    }
};

/// The records of a list.
pub const Records = struct {
    list: View,
    at: usize = 0,

    pub fn next(r: *Records) ?struct { kind: Op, body: Strings } {
        if (r.at >= r.list.bytes.len) return null;
        const begin = r.at + 8;
        const end = begin + r.list.int(u32, r.at + 4);
        defer r.at = end;
        return .{ .kind = @fromBackingInt(@intCast(r.list.int(u16, r.at))), .body = .{ .body = .{ .bytes = r.list.bytes[begin..end] } } };
    }
};

fn parse(service: []const u8, list: View) !Outbound {
    var o: Outbound = .{ .service = service };
    var header: std.ArrayListUnmanaged(Field) = .empty;
    var records: Records = .{ .list = .{ .bytes = current.keep(list.bytes) } };
    while (records.next()) |r| {
        var body = r.body;
        switch (r.kind) {
            .method => o.method = body.next(),
            .authority => o.authority = body.next(),
            .path => o.path = body.next(),
            .query => o.query = body.next(),
            .set_body => o.body = body.next(),
            .timeout => o.timeout = body.number(),
            else => {
                const name = body.next();
                try header.append(current.memory, .{ name, body.next() });
            },
        }
    }
    o.header = header.items;
    return o;
}

fn encode(a: OutboundAnswer) ![]const u8 {
    const n = a.header.len + a.trailers.len;
    var e: Encoder = .{ .memory = current.memory };
    try e.v.appendNTimes(e.memory, 0, 32 + 16 * n);
    e.put(0, 32);
    e.put(4, a.status);
    e.put(8, a.header.len);
    e.put(12, a.trailers.len);
    e.put(24, a.took);
    try e.string(16, a.body);
    for ([_][]const Field{ a.header, a.trailers }, [_]usize{ 0, a.header.len }) |fields, first| {
        for (fields, first..) |f, i| {
            try e.string(32 + 16 * i, try std.ascii.allocLowerString(e.memory, f[0]));
            try e.string(40 + 16 * i, f[1]);
        }
    }
    return e.v.items;
}

/// Writes views.
pub const Encoder = struct {
    memory: std.mem.Allocator,
    v: Text = .empty,

    pub fn put(e: *Encoder, at: usize, n: usize) void {
        std.mem.writeInt(u32, e.v.items[at..][0..4], @intCast(n), .little);
    }

    pub fn string(e: *Encoder, at: usize, s: ?[]const u8) !void {
        const text: []const u8 = s orelse "";
        e.put(at, if (s == null) 0xffff_ffff else e.v.items.len);
        e.put(at + 4, text.len);
        try e.v.appendSlice(e.memory, text);
    }
};
