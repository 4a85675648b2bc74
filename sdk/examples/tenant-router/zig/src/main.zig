//! tenant-router chooses the upstream by tenant: see ../../../README.md. The versions in other languages do the same.

const std = @import("std");
const wasmgate = @import("wasmgate");

pub const panic = wasmgate.panic;

const max_name = 63; // a host label's

const Tenant = struct { name: []const u8, upstream: wasmgate.Upstream };

var header: wasmgate.Header = undefined;
var domain: []const u8 = ""; // lower case, without a leading dot; empty: hosts do not say the tenant
var fallback: ?Tenant = null;
var tenants: std.StringHashMapUnmanaged(Tenant) = .empty; // by names in lower case

const plugin: wasmgate.Plugin = .{ .configure = configure, .request = request };

comptime {
    wasmgate.plugin(plugin);
}

fn configure(c: *wasmgate.Config) !void {
    domain = "";
    fallback = null;
    tenants = .empty;
    header = try c.requestHeader("x-tenant");
    try c.walk(c, setting);
    if (fallback == null) return c.refuse("config.default is missing: the upstream of unknown tenants");
}

fn setting(c: *wasmgate.Config, path: []const []const u8, value: []const u8) anyerror!void {
    if (path.len == 1 and wasmgate.eql(path[0], "default")) {
        fallback = .{ .name = "default", .upstream = try c.upstream(value) };
    } else if (path.len == 1 and wasmgate.eql(path[0], "domain")) {
        domain = try std.ascii.allocLowerString(c.allocator, value);
    } else if (path.len == 2 and wasmgate.eql(path[0], "tenants")) {
        if (path[1].len == 0 or path[1].len > max_name) return c.refuse("config.tenants: a tenant's name has 1 to 63 bytes");
        const name = try std.ascii.allocLowerString(c.allocator, path[1]);
        const entry = try tenants.getOrPut(c.allocator, name);
        if (entry.found_existing) return c.refuse("config.tenants: a tenant is there twice");
        entry.value_ptr.* = .{ .name = name, .upstream = try c.upstream(value) };
    } else {
        return c.refuse("config: the keys are default, domain and tenants");
    }
}

/// The one label in front of the domain; "" if there is none.
fn hostLabel(host: []const u8) []const u8 {
    const dot = std.mem.findScalar(u8, host, '.') orelse return "";
    return if (domain.len > 0 and wasmgate.eqlIgnoreCase(host[dot + 1 ..], domain)) host[0..dot] else "";
}

fn request(r: wasmgate.Request) wasmgate.Decision {
    if (wasmgate.pathUnder(r.path(), "/admin")) return .{ .deny = 403 };
    var asked: []const u8 = r.header(header) orelse "";
    if (asked.len == 0) asked = hostLabel(r.hostName());
    var tenant = fallback.?;
    var lower: [max_name]u8 = undefined;
    if (asked.len <= max_name) {
        if (tenants.get(std.ascii.lowerString(&lower, asked))) |known| tenant = known;
    }
    r.setHeader("x-tenant-id", tenant.name);
    r.setHeader("x-routed-by", "tenant-router");
    if (r.sampled()) r.attribute("tenant.id", tenant.name);
    return .{ .route_to = tenant.upstream };
}

test "requests" {
    var t: wasmgate.testing.Tester(plugin) = .init;
    defer t.deinit();
    try t.configure(
        \\{"default": "users", "domain": "Example.com", "tenants": {"acme": "acme-upstream"}}
    );
    const acme = try t.request(.{ .authority = "ACME.example.com:80" });
    try std.testing.expectEqualStrings("acme-upstream", acme.upstream);
    try std.testing.expectEqualStrings("set_header x-tenant-id: acme\nset_header x-routed-by: tenant-router\n", acme.edits);
    const unknown = try t.request(.{ .headers = &.{.{ "x-tenant", "unknown" }} });
    try std.testing.expectEqualStrings("users", unknown.upstream);
    try std.testing.expectEqual(403, (try t.request(.{ .path = "/admin/x" })).status);
}

test "a configuration without a default" {
    var t: wasmgate.testing.Tester(plugin) = .init;
    defer t.deinit();
    try std.testing.expectError(error.Refused, t.configure("{}"));
    try std.testing.expectEqualStrings("config.default is missing: the upstream of unknown tenants", t.reason);
}
