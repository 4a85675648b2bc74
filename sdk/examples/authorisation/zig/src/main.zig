//! authorisation asks a service who a request's credential belongs to, and keeps the answer for a while: see
//! ../../../README.md. The versions in other languages do the same.

const std = @import("std");
const wasmgate = @import("wasmgate");

pub const panic = wasmgate.panic;

const max_key = 1024; // of a store
const max_value = 64 << 10; // of what is in it

var credential: wasmgate.Header = undefined;
var asked: wasmgate.Counter = undefined;
var service: ?wasmgate.Service = null;
var store: ?wasmgate.Store = null;
var path: []const u8 = undefined;
var ttl: u32 = undefined; // milliseconds, like timeout
var timeout: u32 = undefined;

const plugin: wasmgate.Plugin = .{ .configure = configure, .request = request };

comptime {
    wasmgate.plugin(plugin);
}

fn configure(c: *wasmgate.Config) !void {
    service = null;
    store = null;
    path = "/authorise";
    ttl = 60_000;
    timeout = 1000;
    credential = try c.requestHeader("authorization");
    asked = try c.counter("asked", "requests to the service");
    try c.walk(c, setting);
    if (service == null) return c.refuse("config.service is missing: the upstream that is asked");
    if (store == null) return c.refuse("config.store is missing: where answers are kept");
}

const Key = enum { service, store, path, ttl, timeout };

fn setting(c: *wasmgate.Config, key: []const []const u8, value: []const u8) anyerror!void {
    const name = if (key.len == 1) std.meta.stringToEnum(Key, key[0]) else null;
    switch (name orelse return c.refuse("config: the keys are service, store, path, ttl and timeout")) {
        .service => service = try c.service(value),
        .store => store = try c.store(value),
        .path => path = try c.keep(value),
        .ttl => ttl = milliseconds(value) orelse return c.refuse("config.ttl is a number of milliseconds, 1 to 2147483647"),
        .timeout => timeout = milliseconds(value) orelse return c.refuse("config.timeout is a number of milliseconds, 1 to 2147483647"),
    }
}

fn milliseconds(value: []const u8) ?u32 {
    const n = wasmgate.number(value) orelse return null;
    return if (n == 0 or n > 0x7fff_ffff) null else @intCast(n);
}

/// Texts that are put together.
var key_bytes: [max_key]u8 = undefined;
var text: [max_value]u8 = undefined;

fn request(r: wasmgate.Request) wasmgate.Decision {
    switch (r.headerCount(credential)) {
        0 => return r.respond(401, "", &.{.{ "www-authenticate", "Bearer" }}),
        1 => {},
        else => return .{ .deny = 400 }, // which of them would the upstream believe?
    }
    const proof = r.header(credential).?;
    const key: ?[]const u8 = std.fmt.bufPrint(&key_bytes, "authorisation/{s}", .{proof}) catch null; // too long to be kept
    if (key) |k| {
        if (store.?.get(k, &text) catch null) |entry| return decide(r, entry.value, "hit");
    }
    asked.add(1);
    const answer = r.call(service.?, .{ .path = path, .header = &.{.{ "authorization", proof }}, .timeout = timeout }) catch |failure| {
        return fail("the authorisation service: {s}", .{wasmgate.describe(failure)});
    };
    const verdict: []const u8 = switch (answer.status()) {
        200 => std.fmt.bufPrint(&text, "+{s}", .{answer.header("x-user") orelse ""}) catch return .{ .fail = "the user's name is too long" },
        401, 403 => "-",
        else => |status| return fail("the authorisation service answered {d}", .{status}),
    };
    if (key) |k| store.?.set(k, verdict, ttl) catch {}; // a store that is full only costs another question
    return decide(r, verdict, "miss");
}

fn fail(comptime format: []const u8, args: anytype) wasmgate.Decision {
    return .{ .fail = std.fmt.bufPrint(&text, format, args) catch "the authorisation service failed" };
}

/// Does what the service said: "+" and who it is, or "-".
fn decide(r: wasmgate.Request, verdict: []const u8, cache: []const u8) wasmgate.Decision {
    if (r.sampled()) r.attribute("authorisation.cache", cache);
    if (verdict[0] != '+') return .{ .deny = 403 };
    if (verdict.len > 1) r.setHeader("x-user", verdict[1..]) else r.removeHeader("x-user");
    return .@"continue";
}

const testing = wasmgate.testing;

fn ann(o: testing.Outbound) wasmgate.Failure!testing.OutboundAnswer {
    if (!wasmgate.eql(o.path, "/authorise") or !wasmgate.eql(o.header[0][1], "Bearer 1")) return error.Invalid;
    return .{ .header = &.{.{ "x-user", "ann" }} };
}

fn late(_: testing.Outbound) wasmgate.Failure!testing.OutboundAnswer {
    return error.Timeout;
}

test "answers are kept" {
    const equal = std.testing.expectEqualStrings;
    var t: testing.Tester(plugin) = .init;
    defer t.deinit();
    try t.configure(
        \\{"service": "auth", "store": "cache", "ttl": 1000}
    );
    try std.testing.expectEqual(401, (try t.request(.{})).status);
    const m: testing.Message = .{ .headers = &.{.{ "authorization", "Bearer 1" }} };
    try equal("the authorisation service: no connection to the upstream", (try t.request(m)).text);
    t.onCall(ann);
    try equal("set_header x-user: ann\n", (try t.request(m)).edits);
    t.onCall(late);
    try equal("set_header x-user: ann\n", (try t.request(m)).edits);
    try std.testing.expectEqual(2, t.measured("asked"));
    const later: testing.Message = .{ .headers = m.headers, .time = m.time + 1000 };
    try equal("the authorisation service: no answer in time", (try t.request(later)).text);
}
