//! Tests of the SDK by its tester.

const std = @import("std");
const testing = @import("testing.zig");
const wasmgate = @import("wasmgate.zig");

const equal = std.testing.expectEqualStrings;

const edits = struct {
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

test "edits and decisions" {
    var t: testing.Tester(.{ .configure = edits.configure, .request = edits.request, .response = edits.response }) = .init;
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

const all = struct {
    var header: wasmgate.Header = undefined;
    var service: wasmgate.Service = undefined;
    var store: wasmgate.Store = undefined;
    var asked: wasmgate.Counter = undefined;

    const plugin: wasmgate.Plugin = .{ .configure = configure, .request = request, .response = response, .response_body = piece, .tick = tick };

    fn configure(c: *wasmgate.Config) !void {
        try std.testing.expectEqual(1 << 20, c.maxRequestBody());
        c.bufferRequestBody(1000, .{ .on_demand = true });
        c.streamResponseBody(.{});
        c.tick(1000);
        header = try c.requestHeader("X-A");
        service = try c.service("auth");
        store = try c.store("cache");
        asked = try c.counter("asked", "");
        _ = try c.histogram("took", "in ms", &.{ 5, 100 });
    }

    var buffer: [100]u8 = undefined;

    fn request(r: wasmgate.Request) wasmgate.Decision {
        return decide(r) catch |err| .{ .fail = @errorName(err) };
    }

    fn decide(r: wasmgate.Request) !wasmgate.Decision {
        asked.add(1);
        if (r.hasBody()) {
            const n = r.readBody(&buffer, 0).?;
            const sum = try r.lookupTrailer("sum", 0, buffer[n..]) orelse "";
            r.setBody(buffer[0 .. n + sum.len]);
            return .@"continue";
        }
        if (wasmgate.eql(r.method(), "POST")) {
            r.wantBody();
            return .@"continue";
        }
        const key = r.header(header) orelse "";
        if (try store.get(key, &buffer)) |entry| {
            buffer[entry.value.len] = '+';
            _ = try store.compareAndSet(key, buffer[0 .. entry.value.len + 1], entry.version, 0);
            return r.respond(200, entry.value, &.{});
        }
        const a = try r.call(service, .{ .method = "POST", .path = "/check", .query = "q", .header = &.{.{ "a", "b" }}, .body = key, .timeout = 250 });
        try store.set(key, a.header("x-user") orelse "", 1000);
        return r.respond(a.status(), a.body(), &.{});
    }

    fn response(_: wasmgate.Response) wasmgate.Decision {
        return .@"continue";
    }

    fn piece(p: wasmgate.Piece) wasmgate.Decision {
        p.setWord(p.word() + p.data().len);
        if (p.last()) return p.replace("end");
        p.keep(1);
        return .@"continue";
    }

    fn tick(_: wasmgate.Tick) !void {
        if (try store.add("n", 2, 0) == 4) return error.Four;
    }

    fn authorise(o: testing.Outbound) wasmgate.Failure!testing.OutboundAnswer {
        if (!wasmgate.eql(o.service, "auth") or !wasmgate.eql(o.path, "/check") or !wasmgate.eql(o.query, "q")) return error.Invalid;
        if (!wasmgate.eql(o.method, "POST") or !wasmgate.eql(o.body, "key") or o.timeout != 250) return error.Invalid;
        return .{ .status = 201, .header = &.{.{ "X-User", "7" }}, .body = &@as([50_000]u8, @splat('x')) };
    }
};

test "calls, stores, metrics, ticks" {
    var t: testing.Tester(all.plugin) = .init;
    defer t.deinit();
    try t.configure("");
    const m: testing.Message = .{ .headers = &.{.{ "x-a", "key" }} };
    try equal("Connect", (try t.request(m)).text);
    t.onCall(all.authorise);
    try std.testing.expectEqual(50_000, (try t.request(m)).text.len);
    try equal("7", (try t.request(m)).text);
    try equal("7+", (try t.request(m)).text);
    try std.testing.expectEqual(4, t.measured("asked"));
    try std.testing.expectEqual(.@"continue", (try t.tick(0)).decision);
    try equal("Four", (try t.tick(0)).text);
}

test "bodies" {
    var t: testing.Tester(all.plugin) = .init;
    defer t.deinit();
    try t.configure("");
    try equal("want_body\n", (try t.request(.{ .method = "POST" })).edits);
    const a = try t.request(.{ .method = "POST", .body = "12", .trailers = &.{.{ "Sum", "3" }} });
    try equal("123", a.text);
    try equal("context 7\nkeep 1\n", (try t.responseBody(.{ .data = "abc", .word = 4 })).edits);
    try equal("end", (try t.responseBody(.{ .last = true })).text);
}
