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
const exchange = @import("exchange.zig");
const gateway = @import("gateway.zig");
const guest = @import("guest.zig");
const wasmgate = @import("wasmgate.zig");

pub const Outbound = gateway.Outbound;
pub const OutboundAnswer = gateway.OutboundAnswer;

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
    /// What lookupTls tells.
    tls: []const exchange.Field = &.{},
    route: ?[]const u8 = null,
    headers: []const exchange.Field = &.{},
    /// The clock of stores, too.
    time: u63 = 1_789_000_000_000,
    seed: u64 = 1,
    sampled: bool = false,
    /// The body that is buffered, of the message that the handler is for.
    body: ?[]const u8 = null,
    trailers: []const exchange.Field = &.{},
    // For the response handler.
    context: u64 = 0,
    status: u16 = 0,
    response_headers: []const exchange.Field = &.{},
    local: bool = false,
};

/// A piece of a body.
pub const BodyPiece = struct {
    data: []const u8 = "",
    last: bool = false,
    before: u64 = 0,
    word: u64 = 0,
    trailers: []const exchange.Field = &.{},
};

/// What a handler said, and what the gateway would do. Valid until the tester's next call.
pub const Answer = struct {
    decision: enum { @"continue", no_match, route, deny, respond, err } = .@"continue",
    /// By route: the upstream's name.
    upstream: []const u8 = "",
    /// By deny and respond.
    status: u16 = 0,
    /// By err and respond; a body that was set.
    text: []const u8 = "",
    /// Such as "set_header x-tenant-id: acme", in order, a line for each.
    edits: []const u8 = "",
    /// Such as "2 text", a line for each.
    logged: []const u8 = "",
};

/// A tester of a plugin. Its stores and metrics are its own. deinit frees everything.
pub fn Tester(comptime p: wasmgate.Plugin) type {
    return struct {
        arena: std.heap.ArenaAllocator,
        /// After error.Refused: what the plugin says about the configuration.
        reason: []const u8 = "",

        const Self = @This();
        pub const init: Self = .{ .arena = .init(std.heap.page_allocator) };

        pub fn deinit(t: *Self) void {
            guest.manifest = .{};
            gateway.current = undefined;
            t.arena.deinit();
        }

        /// Configures the plugin.
        pub fn configure(t: *Self, config: []const u8) !void {
            const memory = t.arena.allocator();
            gateway.current = .{ .memory = memory };
            var e: gateway.Encoder = .{ .memory = memory };
            try e.v.appendNTimes(memory, 0, 40);
            for ([_]usize{ 40, 1, 0, 1 << 20 }, 0..) |n, i| e.put(4 * i, n);
            try e.string(16, "test");
            try e.string(24, config);
            e.put(32, 1 << 20);
            e.put(36, 1 << 20);
            load(e.v.items);
            const failed = guest.configure(p, memory, e.v.items.len) >> 32 != 0;
            if (failed) {
                t.reason = try memory.dupe(u8, answer.out.bytes());
                return error.Refused;
            }
            gateway.current.services = guest.manifest.services.items;
        }

        /// Has a function answer the plugin's own requests. Without one there is no connection.
        pub fn onCall(_: *Self, answerer: *const fn (Outbound) wasmgate.Failure!OutboundAnswer) void {
            gateway.current.on_call = answerer;
        }

        /// The sum of what was measured with a metric.
        pub fn measured(_: *Self, metric: []const u8) f64 {
            var sum: f64 = 0;
            for (gateway.current.measured.items) |m| {
                if (std.mem.eql(u8, guest.manifest.metrics.items[m.id].name, metric)) sum += m.value;
            }
            return sum;
        }

        /// Calls the request handler.
        pub fn request(_: *Self, m: Message) !Answer {
            const n = try begin(&m, false);
            return decode(guest.request(p, n));
        }

        /// Calls the response handler.
        pub fn response(_: *Self, m: Message) !Answer {
            const n = try begin(&m, true);
            return decode(guest.response(p, n));
        }

        /// Gives the plugin a piece of a request's body.
        pub fn requestBody(_: *Self, piece: BodyPiece) !Answer {
            return decode(guest.body(p, try beginPiece(0, &piece)));
        }

        /// Gives the plugin a piece of an answer's body.
        pub fn responseBody(_: *Self, piece: BodyPiece) !Answer {
            return decode(guest.body(p, try beginPiece(1, &piece)));
        }

        /// Calls the plugin without a request, at a time in Unix milliseconds.
        pub fn tick(_: *Self, time: u63) !Answer {
            var v: [24]u8 = @splat(0);
            v[0] = v.len;
            std.mem.writeInt(u64, v[8..16], time, .little);
            load(&v);
            gateway.current.time = time;
            gateway.current.logged = .empty;
            return decode(guest.tick(p, v.len));
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

fn slot(e: *gateway.Encoder, at: usize, name: []const u8, fields: []const exchange.Field) !void {
    var n: usize = 0;
    var last: ?[]const u8 = null;
    for (fields) |f| if (std.ascii.eqlIgnoreCase(f[0], name)) {
        n += 1;
        last = f[1];
    };
    if (n < 2) return e.string(at, last);
    try e.v.appendNTimes(e.memory, 0, (0 -% e.v.items.len) & 3);
    var item = e.v.items.len;
    e.put(at, item);
    e.put(at + 4, 1 << 31 | n);
    try e.v.appendNTimes(e.memory, 0, 8 * n);
    for (fields) |f| if (std.ascii.eqlIgnoreCase(f[0], name)) {
        try e.string(item, f[1]);
        item += 8;
    };
}

/// Lays the view of a message out, and returns its length.
fn begin(m: *const Message, is_response: bool) !usize {
    const g = &gateway.current;
    g.messages = .{ m.headers, m.response_headers, m.trailers, m.trailers, m.tls };
    g.body = m.body;
    g.time = m.time;
    g.logged = .empty;
    const requests = guest.manifest.request_headers.items;
    const responses = if (is_response) guest.manifest.response_headers.items else &.{};
    const slots = requests.len + responses.len;
    var e: gateway.Encoder = .{ .memory = g.memory };
    try e.v.appendNTimes(g.memory, 0, 120 + 8 * slots);
    var flags: u32 = 0;
    for ([_]bool{ m.query != null, m.sampled, m.local, m.body != null }, 0..) |on, bit| {
        if (on) flags |= @as(u32, 1) << @intCast(bit);
    }
    for ([_]usize{ 120, @backingInt(m.role), @intFromBool(is_response), flags }, 0..) |n, i| e.put(4 * i, n);
    for ([_]u64{ m.time, m.seed, m.context }, 0..) |n, i| std.mem.writeInt(u64, e.v.items[16 + 8 * i ..][0..8], n, .little);
    e.put(40, m.status);
    e.put(44, slots);
    for ([_]?[]const u8{ m.method, m.scheme, m.authority, m.path, m.query, m.client, m.sni, m.cert_subject, m.route }, 0..) |s, i| {
        try e.string(48 + 8 * i, s);
    }
    for (requests, 0..) |name, i| try slot(&e, 120 + 8 * i, name, m.headers);
    for (responses, requests.len..) |name, i| try slot(&e, 120 + 8 * i, name, m.response_headers);
    load(e.v.items);
    return e.v.items.len;
}

fn beginPiece(message: u32, p: *const BodyPiece) !usize {
    const g = &gateway.current;
    g.messages = .{ &.{}, &.{}, p.trailers, p.trailers, &.{} };
    g.body = null;
    g.logged = .empty;
    var e: gateway.Encoder = .{ .memory = g.memory };
    try e.v.appendNTimes(g.memory, 0, 48);
    for ([_]usize{ 48, message, @intFromBool(p.last) }, 0..) |n, i| e.put(4 * i, n);
    for ([_]u64{ 0, p.word, p.before }, 0..) |n, i| std.mem.writeInt(u64, e.v.items[16 + 8 * i ..][0..8], n, .little);
    try e.string(40, p.data);
    load(e.v.items);
    return e.v.items.len;
}

fn decode(packed_answer: u64) !Answer {
    const memory = gateway.current.memory;
    const value: u32 = @truncate(packed_answer);
    var a: Answer = .{};
    switch (@as(answer.Code, @fromBackingInt(@intCast(packed_answer >> 32)))) {
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
            a.text = try memory.dupe(u8, answer.out.bytes());
        },
        .operations => operations(&a, .{ .list = .{ .bytes = try memory.dupe(u8, answer.out.bytes()) } }),
        else => return error.BadAnswer,
    }
    a.logged = gateway.current.logged.items;
    return a;
}

fn operations(a: *Answer, list: gateway.Records) void {
    const memory = gateway.current.memory;
    var edits: gateway.Text = .empty;
    var records = list;
    while (records.next()) |r| {
        var s = r.body;
        switch (r.kind) {
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
                    gateway.line(memory, &edits, "respond_header {s}: {s}", .{ name, s.next() });
                }
            },
            .log => {
                const level = s.number();
                gateway.line(memory, &gateway.current.logged, "{d} {s}", .{ level, s.next() });
            },
            .set_body => {
                a.text = s.next();
                gateway.line(memory, &edits, "set_body", .{});
            },
            .timeout, .keep => gateway.line(memory, &edits, "{s} {d}", .{ @tagName(r.kind), s.number() }),
            .hash_key, .context => gateway.line(memory, &edits, "{s} {d}", .{ @tagName(r.kind), s.body.int(u64, 0) }),
            .rematch, .want_body => gateway.line(memory, &edits, "{s}", .{@tagName(r.kind)}),
            .set_header, .append_header, .attribute => {
                const name = s.next();
                gateway.line(memory, &edits, "{s} {s}: {s}", .{ @tagName(r.kind), name, s.next() });
            },
            else => gateway.line(memory, &edits, "{s} {s}", .{ @tagName(r.kind), s.next() }),
        }
    }
    a.edits = edits.items;
}

test {
    _ = @import("testing_test.zig");
}
