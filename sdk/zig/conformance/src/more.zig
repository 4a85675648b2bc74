//! What the conformance plugin does of version 1.1.

const std = @import("std");
const wasmgate = @import("wasmgate");
const text = @import("text.zig");

const cut = text.cut;
const number = text.number;

var services: std.ArrayListUnmanaged(wasmgate.Service) = .empty;
var stores: std.ArrayListUnmanaged(wasmgate.Store) = .empty;
var metrics: std.ArrayListUnmanaged(Metric) = .empty;
var pieces: Pieces = .pass;

const Metric = union(enum) {
    counter: wasmgate.Counter,
    gauge: wasmgate.Gauge,
    histogram: wasmgate.Histogram,
    up_down: wasmgate.UpDownCounter,
};

/// What pieces become.
const Pieces = enum { pass, upper, drop, keep, count, trailer, deny, fail, trap };

pub fn reset() void {
    services = .empty;
    stores = .empty;
    metrics = .empty;
    pieces = .pass;
}

const Line = enum { call, store, metric, @"request-body", @"response-body", pieces, tick };

/// Does a line of the configuration; false if it is none.
pub fn configure(c: *wasmgate.Config, word: []const u8, arg: []const u8) !bool {
    const first, const rest = cut(arg);
    switch (std.meta.stringToEnum(Line, word) orelse return false) {
        .call => try services.append(c.allocator, try c.service(arg)),
        .store => try stores.append(c.allocator, try c.store(arg)),
        .metric => try metrics.append(c.allocator, switch (number(first)) {
            1 => .{ .gauge = try c.gauge(rest, "") },
            2 => .{ .histogram = try c.histogram(rest, "", &.{}) },
            3 => .{ .up_down = try c.upDownCounter(rest, "") },
            else => .{ .counter = try c.counter(rest, "") },
        }),
        .@"request-body" => {
            const b = body(rest);
            if (number(first) == 1) c.bufferRequestBody(b.most, b.flags) else c.streamRequestBody(b.flags);
        },
        .@"response-body" => {
            const b = body(rest);
            if (number(first) == 1) c.bufferResponseBody(b.most, b.flags) else c.streamResponseBody(b.flags);
        },
        .pieces => pieces = std.meta.stringToEnum(Pieces, arg) orelse return false,
        .tick => c.tick(@intCast(number(arg))),
    }
    return true;
}

fn body(args: []const u8) struct { flags: wasmgate.BodyFlags, most: u32 } {
    const bits, const most = cut(args);
    const n = number(bits);
    return .{ .flags = .{ .on_demand = n & 1 != 0, .partial = n & 2 != 0 }, .most = @intCast(number(most)) };
}

/// Does a command; false if it is none.
pub fn edit(x: anytype, word: []const u8, arg: []const u8) bool {
    if (std.mem.startsWith(u8, word, "kv-")) return state(x, word[3..], arg);
    return call(x, word, arg) or bodies(x, word, arg);
}

fn call(x: anytype, word: []const u8, arg: []const u8) bool {
    const id, const rest = cut(arg);
    var r: wasmgate.OutboundRequest = .{ .header = &.{.{ "x-conformance", "yes" }} };
    if (wasmgate.eql(word, "call")) {
        const method, const target = cut(rest);
        const mark = std.mem.findScalar(u8, target, '?') orelse target.len;
        r.method = method;
        r.path = target[0..mark];
        if (mark < target.len) r.query = target[mark + 1 ..];
    } else if (wasmgate.eql(word, "call-body")) {
        r = .{ .method = "POST", .authority = "kit.example", .timeout = 250, .body = text.fill(number(rest), 'z') };
    } else return false;
    const a = x.call(services.items[@intCast(number(id))], r) catch |failure| {
        x.appendHeader("x-call", describe(failure));
        return true;
    };
    const begins = a.body()[0..@min(a.body().len, 20)];
    text.begin();
    text.print("{d} {s} {s} {d}:{s}", .{ a.status(), a.header("x-answer") orelse "-", a.trailer("x-end") orelse "-", a.body().len, begins });
    x.appendHeader("x-call", text.written());
    return true;
}

/// A failure as its number.
fn describe(failure: wasmgate.Failure) []const u8 {
    const n: u32 = switch (failure) {
        error.Timeout => 1,
        error.Connect => 2,
        error.Denied => 3,
        error.TooLarge => 4,
        error.Invalid => 5,
        error.Failed => 6,
        error.Limit => 7,
        error.Mismatch => 8,
        error.Full => 9,
        error.Absent => 10,
        error.OutOfMemory => 0,
    };
    text.begin();
    text.print("error {d}", .{n});
    return text.written();
}

var value: [1 << 16]u8 = undefined;

const State = enum { get, set, new, swap, late, delete, add };

fn state(x: anytype, word: []const u8, arg: []const u8) bool {
    const operation = std.meta.stringToEnum(State, word) orelse return false;
    x.appendHeader("x-kv", done(operation, arg) catch |failure| describe(failure));
    return true;
}

fn done(operation: State, arg: []const u8) wasmgate.Failure![]const u8 {
    const id, const rest = cut(arg);
    const key, const s = cut(rest);
    const first, const second = cut(s);
    const store = stores.items[@intCast(number(id))];
    const old = store.get(key, &value) catch @panic("the value is too long");
    const version: wasmgate.Version = if (old) |entry| entry.version else .absent;
    text.begin();
    switch (operation) {
        .get => {
            if (old) |entry| text.print("{d}:{s}", .{ entry.value.len, entry.value }) else text.print("none", .{});
            return text.written();
        },
        .set => try store.set(key, second, number(first)),
        .new => _ = try store.compareAndSet(key, s, .absent, 0),
        .swap => _ = try store.compareAndSet(key, s, version, 0),
        .late => {
            try store.set(key, "early", 0);
            _ = try store.compareAndSet(key, s, version, 0);
        },
        .delete => try store.delete(key),
        .add => {
            text.print("{d}", .{try store.add(key, text.signed(first), number(second))});
            return text.written();
        },
    }
    return "ok";
}

const Body = enum { @"show-body", @"set-body", @"fill-body", @"want-body", metric };

fn bodies(x: anytype, word: []const u8, arg: []const u8) bool {
    const first, const rest = cut(arg);
    switch (std.meta.stringToEnum(Body, word) orelse return false) {
        .@"show-body" => {
            var beginning: [40]u8 = undefined;
            text.begin();
            if (x.readBody(&beginning, 0)) |n| {
                const what: []const u8 = if (x.bodyIsPart()) "part" else "whole";
                text.print("{s} {d}:{s}", .{ what, n, beginning[0..@min(n, beginning.len)] });
            } else {
                text.print("none", .{});
            }
            x.appendHeader("x-body", text.written());
        },
        .@"set-body" => x.setBody(arg),
        .@"fill-body" => x.setBody(text.fill(number(arg), 'b')),
        .@"want-body" => if (!x.hasBody()) x.wantBody(),
        .metric => {
            const v = @as(f64, @floatFromInt(text.signed(rest))) / 4;
            switch (metrics.items[@intCast(number(first))]) {
                .counter => |m| m.add(v),
                .gauge => |m| m.set(v),
                .histogram => |m| m.observe(v),
                .up_down => |m| m.add(v),
            }
        },
    }
    return true;
}

pub fn piece(p: wasmgate.Piece) wasmgate.Decision {
    switch (pieces) {
        .pass => {},
        .upper => return p.replace(text.upper(p.data())),
        .drop => return p.replace(""),
        .keep => if (!p.last()) p.keep(@min(p.data().len, 2)),
        .count => {
            p.setWord(p.word() + 1);
            text.begin();
            text.print("[{d} {d} {d} {d} {d}]", .{ @intFromBool(p.isResponse()), p.word(), p.before(), p.data().len, @intFromBool(p.last()) });
            return p.replace(text.written());
        },
        .trailer => if (p.last()) {
            const found = p.lookupTrailer("x-end", 0, &value) catch @panic("the value is too long");
            return p.replace(found orelse "-");
        },
        .deny => return .{ .deny = 422 },
        .fail => return .{ .fail = "as the configuration says" },
        .trap => @panic("as the configuration says"),
    }
    return .@"continue";
}

pub fn tick(t: wasmgate.Tick) anyerror!void {
    if (t.call(services.items[0], .{ .path = "/tick" })) |a| {
        text.begin();
        text.print("kit: tick {d}", .{a.status()});
        t.log(.info, text.written());
    } else |failure| {
        var line: [32]u8 = undefined;
        t.log(.info, try std.fmt.bufPrint(&line, "kit: tick {s}", .{describe(failure)}));
    }
    _ = try stores.items[0].add("ticks", 1, 0);
}
