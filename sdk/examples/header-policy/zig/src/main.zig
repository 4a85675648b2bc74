//! header-policy removes, renames, sets and appends headers, as its configuration says: see ../../../README.md. The
//! versions in other languages do the same.

const std = @import("std");
const wasmgate = @import("wasmgate");

pub const panic = wasmgate.panic;

const Rename = struct { from: wasmgate.Header, old: []const u8, new: []const u8 };

/// What is done to a message, in this order.
const Policy = struct {
    remove: std.ArrayListUnmanaged([]const u8) = .empty,
    rename: std.ArrayListUnmanaged(Rename) = .empty,
    set: std.ArrayListUnmanaged(wasmgate.Field) = .empty,
    append: std.ArrayListUnmanaged(wasmgate.Field) = .empty,

    /// Does it all, each with the message as it came.
    fn apply(p: *const Policy, m: anytype) wasmgate.Decision {
        for (p.remove.items) |name| m.removeHeader(name);
        for (p.rename.items) |r| for (0..m.headerCount(r.from)) |k| {
            const value = m.headerAt(r.from, k) orelse "";
            if (k == 0) {
                m.removeHeader(r.old);
                m.setHeader(r.new, value);
            } else {
                m.appendHeader(r.new, value);
            }
        };
        for (p.set.items) |f| m.setHeader(f[0], f[1]);
        for (p.append.items) |f| m.appendHeader(f[0], f[1]);
        return .@"continue";
    }
};

var requests: Policy = .{};
var responses: Policy = .{};

const plugin: wasmgate.Plugin = .{ .configure = configure, .request = request, .response = response };

comptime {
    wasmgate.plugin(plugin);
}

fn configure(c: *wasmgate.Config) !void {
    requests = .{};
    responses = .{};
    try c.walk(c, setting);
}

const bad_keys = "config: the keys are request and response, with remove, rename, set and append in each";
const no_name = "config: a header has no name";

fn setting(c: *wasmgate.Config, path: []const []const u8, text: []const u8) anyerror!void {
    if (path.len != 3) return c.refuse(bad_keys);
    const is_response = wasmgate.eql(path[0], "response");
    if (!is_response and !wasmgate.eql(path[0], "request")) return c.refuse(bad_keys);
    const p = if (is_response) &responses else &requests;
    const name = try c.keep(path[2]);
    const value = try c.keep(text);
    switch (std.meta.stringToEnum(std.meta.FieldEnum(Policy), path[1]) orelse return c.refuse(bad_keys)) {
        .remove => {
            if (value.len == 0) return c.refuse(no_name);
            try p.remove.append(c.allocator, value);
        },
        .rename => {
            if (name.len == 0 or value.len == 0) return c.refuse(no_name);
            const from = try if (is_response) c.responseHeader(name) else c.requestHeader(name);
            try p.rename.append(c.allocator, .{ .from = from, .old = name, .new = value });
        },
        .set => try p.set.append(c.allocator, .{ name, value }),
        .append => try p.append.append(c.allocator, .{ name, value }),
    }
    if (name.len == 0) return c.refuse(no_name);
}

fn request(r: wasmgate.Request) wasmgate.Decision {
    return requests.apply(r);
}

fn response(r: wasmgate.Response) wasmgate.Decision {
    return responses.apply(r);
}

test "both messages" {
    var t: wasmgate.testing.Tester(plugin) = .init;
    defer t.deinit();
    try t.configure(
        \\{"request":{"remove":["cookie"],"rename":{"X-Old":"x-new"}},"response":{"set":{"server":"mine"}}}
    );
    const a = try t.request(.{ .headers = &.{ .{ "x-old", "1" }, .{ "x-old", "2" } } });
    try std.testing.expectEqualStrings("remove_header cookie\nremove_header X-Old\nset_header x-new: 1\nappend_header x-new: 2\n", a.edits);
    const b = try t.response(.{ .status = 200 });
    try std.testing.expectEqualStrings("set_header server: mine\n", b.edits);
    try std.testing.expectError(error.Refused, t.configure("{\"request\":{\"sets\":{\"a\":\"b\"}}}"));
}
