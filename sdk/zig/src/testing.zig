//! Calls a plugin's handlers without a gateway and without WebAssembly, through the same encoding, in `zig build test` on
//! the author's machine. There is one plugin in a program, so testers are used one after another.
//!
//!     test "internal" {
//!         var t: wasmgate.testing.Tester(.{ .configure = configure, .request = request }) = .init;
//!         defer t.deinit();
//!         try t.configure(""); // the plugin's configuration
//!         const a = try t.request(.{ .path = "/internal/x" });
//!         try std.testing.expectEqual(403, a.status);
//!     }

const std = @import("std");
const answer = @import("answer.zig");
const guest = @import("guest.zig");
const exchange = @import("exchange.zig");
const wasmgate = @import("wasmgate.zig");
const View = @import("view.zig").View;

/// What a handler is called with.
pub const Message = struct {
    role: exchange.Role = .route,
    method: []const u8 = "GET",
    scheme: []const u8 = "http",
    authority: []const u8 = "example.com",
    path: []const u8 = "/",
    query: ?[]const u8 = null,
    client: []const u8 = "192.0.2.7",
    sni: ?[]const u8 = null,
    cert_subject: ?[]const u8 = null,
    route: ?[]const u8 = null,
    headers: []const exchange.Field = &.{},
    time: i64 = 1_789_000_000_000,
    seed: u64 = 1,
    sampled: bool = false,
    // For the response handler.
    context: u64 = 0,
    status: u16 = 0,
    response_headers: []const exchange.Field = &.{},
    local: bool = false,
};

/// What a handler said, and what the gateway would do. Valid until the tester's next call.
pub const Answer = struct {
    decision: enum { @"continue", no_match, route, deny, respond, err } = .@"continue",
    /// By route: the upstream's name.
    upstream: []const u8 = "",
    /// By deny and respond.
    status: u16 = 0,
    /// By err and respond.
    text: []const u8 = "",
    /// Such as "set_header x-tenant-id: acme", in order, a line for each.
    edits: []const u8 = "",
    /// Such as "2 text", a line for each.
    logged: []const u8 = "",
};

const Text = std.ArrayListUnmanaged(u8);

var current: ?*const Message = null;
var logged: Text = .empty;
var memory: std.mem.Allocator = undefined;

/// The gateway's part of a call.
pub const calls = struct {
    pub fn log(level: u32, ptr: [*]const u8, len: usize) void {
        line(&logged, "{d} {s}", .{ level, ptr[0..len] });
    }

    pub fn get_header(message: u32, name: [*]const u8, name_len: usize, index: usize, out: [*]u8, cap: usize) i32 {
        const m = current orelse return -1;
        var k = index;
        for (if (message == 0) m.headers else m.response_headers) |f| {
            if (!std.ascii.eqlIgnoreCase(f[0], name[0..name_len])) continue;
            if (k == 0) {
                if (f[1].len <= cap) @memcpy(out[0..f[1].len], f[1]);
                return @intCast(f[1].len);
            }
            k -= 1;
        }
        return -1;
    }
};

fn line(to: *Text, comptime format: []const u8, args: anytype) void {
    const s = std.fmt.allocPrint(memory, format ++ "\n", args) catch @panic("out of memory");
    to.appendSlice(memory, s) catch @panic("out of memory");
}

/// A tester of a plugin. deinit frees everything.
pub fn Tester(comptime p: wasmgate.Plugin) type {
    return struct {
        arena: std.heap.ArenaAllocator,
        reason: []const u8,

        const Self = @This();
        pub const init: Self = .{ .arena = .init(std.heap.page_allocator), .reason = "" };

        pub fn deinit(t: *Self) void {
            guest.manifest = .{};
            t.arena.deinit();
        }

        /// Configures the plugin. After error.Refused, reason is what the plugin says about the configuration.
        pub fn configure(t: *Self, config: []const u8) !void {
            memory = t.arena.allocator();
            var v: Text = .empty;
            for ([_]u32{ 32, 0, 0, 1 << 20, 32, 4, 36, @intCast(config.len) }) |n| {
                try v.appendSlice(memory, std.mem.asBytes(&std.mem.nativeToLittle(u32, n)));
            }
            try v.appendSlice(memory, "test");
            try v.appendSlice(memory, config);
            load(v.items);
            if (guest.configure(p, memory, v.items.len) >> 32 == 0) return;
            t.reason = try memory.dupe(u8, answer.bytes());
            return error.Refused;
        }

        /// Calls the request handler.
        pub fn request(t: *Self, m: Message) !Answer {
            return t.call(&m, false);
        }

        /// Calls the response handler.
        pub fn response(t: *Self, m: Message) !Answer {
            return t.call(&m, true);
        }

        fn call(t: *Self, m: *const Message, is_response: bool) !Answer {
            memory = t.arena.allocator();
            current = m;
            logged = .empty;
            defer current = null;
            const v = try encode(m, is_response);
            load(v);
            const code = if (is_response) guest.response(p, v.len) else guest.request(p, v.len);
            return decode(code);
        }
    };
}

fn load(v: []const u8) void {
    if (v.len > answer.in.len and !answer.resizeRequest(v.len)) @panic("out of memory");
    @memcpy(answer.in[0..v.len], v);
}

fn upstreamName(id: usize) []const u8 {
    const names = guest.manifest.upstreams.items;
    return if (id < names.len) names[id] else "an upstream that is not declared";
}

const Encoder = struct {
    v: Text = .empty,

    fn put(e: *Encoder, at: usize, n: usize) void {
        std.mem.writeInt(u32, e.v.items[at..][0..4], @intCast(n), .little);
    }

    fn string(e: *Encoder, at: usize, s: ?[]const u8) !void {
        const text: []const u8 = s orelse "";
        e.put(at, if (s == null) 0xffff_ffff else e.v.items.len);
        e.put(at + 4, text.len);
        try e.v.appendSlice(memory, text);
    }

    fn slot(e: *Encoder, at: usize, name: []const u8, fields: []const exchange.Field) !void {
        var n: usize = 0;
        var last: ?[]const u8 = null;
        for (fields) |f| if (std.ascii.eqlIgnoreCase(f[0], name)) {
            n += 1;
            last = f[1];
        };
        if (n < 2) return e.string(at, last);
        try e.v.appendNTimes(memory, 0, (0 -% e.v.items.len) & 3);
        var item = e.v.items.len;
        e.put(at, item);
        e.put(at + 4, 1 << 31 | n);
        try e.v.appendNTimes(memory, 0, 8 * n);
        for (fields) |f| if (std.ascii.eqlIgnoreCase(f[0], name)) {
            try e.string(item, f[1]);
            item += 8;
        };
    }
};

fn encode(m: *const Message, is_response: bool) ![]const u8 {
    const requests = guest.manifest.request_headers.items;
    const responses = if (is_response) guest.manifest.response_headers.items else &.{};
    const slots = requests.len + responses.len;
    var e: Encoder = .{};
    try e.v.appendNTimes(memory, 0, 120 + 8 * slots);
    const flags = @as(u32, @intFromBool(m.query != null)) | @as(u32, @intFromBool(m.sampled)) << 1 | @as(u32, @intFromBool(m.local)) << 2;
    e.put(0, 120);
    e.put(4, @intFromEnum(m.role));
    e.put(8, @intFromBool(is_response));
    e.put(12, flags);
    for ([_]u64{ @bitCast(m.time), m.seed, m.context }, 0..) |n, i| {
        std.mem.writeInt(u64, e.v.items[16 + 8 * i ..][0..8], n, .little);
    }
    e.put(40, m.status);
    e.put(44, slots);
    for ([_]?[]const u8{ m.method, m.scheme, m.authority, m.path, m.query, m.client, m.sni, m.cert_subject, m.route }, 0..) |s, i| {
        try e.string(48 + 8 * i, s);
    }
    for (requests, 0..) |name, i| try e.slot(120 + 8 * i, name, m.headers);
    for (responses, requests.len..) |name, i| try e.slot(120 + 8 * i, name, m.response_headers);
    return e.v.items;
}

fn decode(packed_answer: u64) !Answer {
    const value: u32 = @truncate(packed_answer);
    var a: Answer = .{};
    switch (@as(answer.Code, @enumFromInt(packed_answer >> 32))) {
        .ok => {},
        .no_match => a.decision = .no_match,
        .route => {
            a.decision = .route;
            a.upstream = upstreamName(value);
        },
        .deny => {
            a.decision = .deny;
            a.status = if (value == 0) 403 else @intCast(value);
        },
        .err => {
            a.decision = .err;
            a.text = try memory.dupe(u8, answer.bytes());
        },
        .operations => try operations(&a, .{ .bytes = try memory.dupe(u8, answer.bytes()) }),
        else => return error.BadAnswer,
    }
    a.logged = logged.items;
    return a;
}

/// Strings within a record, one after the other.
const Strings = struct {
    body: View,
    at: usize = 0,

    fn next(s: *Strings) []const u8 {
        const n = s.number();
        defer s.at += n;
        return s.body.bytes[s.at..][0..n];
    }

    fn number(s: *Strings) u32 {
        defer s.at += 4;
        return s.body.int(u32, s.at);
    }
};

fn operations(a: *Answer, list: View) !void {
    var edits: Text = .empty;
    var at: usize = 0;
    while (at < list.bytes.len) {
        const kind: answer.Op = @enumFromInt(list.int(u16, at));
        const end = at + 8 + list.int(u32, at + 4);
        var s: Strings = .{ .body = .{ .bytes = list.bytes[at + 8 .. end] } };
        at = end;
        switch (kind) {
            .upstream => {
                a.decision = .route;
                a.upstream = upstreamName(s.number());
            },
            .respond => {
                a.decision = .respond;
                a.status = @intCast(s.number());
                a.text = s.next();
                for (0..s.number()) |_| {
                    const name = s.next();
                    line(&edits, "respond_header {s}: {s}", .{ name, s.next() });
                }
            },
            .log => {
                const level = s.number();
                line(&logged, "{d} {s}", .{ level, s.next() });
            },
            .timeout => line(&edits, "timeout {d}", .{s.number()}),
            .hash_key, .context => line(&edits, "{s} {d}", .{ @tagName(kind), s.body.int(u64, 0) }),
            .rematch => line(&edits, "rematch", .{}),
            .set_header, .append_header, .attribute => {
                const name = s.next();
                line(&edits, "{s} {s}: {s}", .{ @tagName(kind), name, s.next() });
            },
            else => line(&edits, "{s} {s}", .{ @tagName(kind), s.next() }),
        }
    }
    a.edits = edits.items;
}

const t_headers = struct {
    var a: wasmgate.Header = undefined;
    var d: wasmgate.Header = undefined;
    var users: wasmgate.Upstream = undefined;

    fn configure(c: *wasmgate.Config) !void {
        if (wasmgate.eql(c.raw(), "bad")) return c.refuse("as the configuration says");
        a = try c.requestHeader("X-A");
        d = try c.responseHeader("x-d");
        users = try c.upstream("users");
    }

    fn request(r: wasmgate.Request) wasmgate.Decision {
        if (wasmgate.eql(r.path(), "/deny")) return .{ .deny = 0 };
        if (wasmgate.eql(r.path(), "/fail")) return .{ .fail = "no tenants" };
        if (wasmgate.eql(r.path(), "/match")) return .no_match;
        if (wasmgate.eql(r.path(), "/long")) {
            for (0..100) |_| r.setHeader("a", &@as([5000]u8, @splat('x')));
            return .@"continue";
        }
        if (wasmgate.eql(r.path(), "/answer")) return r.respond(200, "hi", &.{.{ "content-type", "text/plain" }});
        var buffer: [10]u8 = undefined;
        const found = (r.lookupRequest("undeclared", 0, &buffer) catch "too long") orelse "none";
        r.setHeader("x-b", r.headerAt(a, 1) orelse "none");
        r.setHeader("x-c", found);
        r.setTimeout(5);
        r.setContext(9);
        r.log(.warn, "w");
        return .{ .route_to = users };
    }

    fn response(r: wasmgate.Response) wasmgate.Decision {
        if (r.status() == 503) r.removeHeader(r.header(d) orelse "");
        return .@"continue";
    }
};

test Tester {
    const equal = std.testing.expectEqualStrings;
    var t: Tester(.{ .configure = t_headers.configure, .request = t_headers.request, .response = t_headers.response }) = .init;
    defer t.deinit();
    try std.testing.expectError(error.Refused, t.configure("bad"));
    try equal("as the configuration says", t.reason);
    try t.configure("");
    const routed = try t.request(.{ .path = "/", .headers = &.{ .{ "x-a", "1" }, .{ "X-A", "2" }, .{ "Undeclared", "u" } } });
    try std.testing.expectEqual(.route, routed.decision);
    try equal("users", routed.upstream);
    try equal("set_header x-b: 2\nset_header x-c: u\ntimeout 5\ncontext 9\n", routed.edits);
    try equal("2 w\n", routed.logged);
    try std.testing.expectEqual(403, (try t.request(.{ .path = "/deny" })).status);
    try equal("no tenants", (try t.request(.{ .path = "/fail" })).text);
    try std.testing.expectEqual(.no_match, (try t.request(.{ .path = "/match" })).decision);
    const answered = try t.request(.{ .path = "/answer" });
    try equal("hi", answered.text);
    try equal("respond_header content-type: text/plain\n", answered.edits);
    try std.testing.expectEqual(100 * 5015, (try t.request(.{ .path = "/long" })).edits.len);
    const response = try t.response(.{ .status = 503, .response_headers = &.{.{ "X-D", "gone" }} });
    try equal("remove_header gone\n", response.edits);
}
