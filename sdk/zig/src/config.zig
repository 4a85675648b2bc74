//! Configuration, and what a plugin declares.

const std = @import("std");
const answer = @import("answer.zig");
const json = @import("json.zig");
const metrics = @import("metric.zig");
const Service = @import("outbound.zig").Service;
const Store = @import("store.zig").Store;
const View = @import("view.zig").View;

/// A header that the plugin wants to see: see Config.requestHeader and Config.responseHeader.
pub const Header = struct { index: u16, response: bool };

/// An upstream that the plugin may choose: see Config.upstream. Its number is that of its declaration, from 0.
pub const Upstream = enum(u32) { _ };

/// More about bodies that a plugin wants.
pub const BodyFlags = packed struct(u32) {
    /// Bodies only of messages for which the handler calls wantBody.
    on_demand: bool = false,
    /// The beginning of bodies that are longer than the bound; else the gateway refuses such a message.
    partial: bool = false,
    _: u30 = 0,
};

/// The names that were declared.
pub const Names = std.ArrayListUnmanaged([]const u8);

const Metric = struct { kind: u32, name: []const u8, description: []const u8, bounds: []const f64 };

pub const Manifest = struct {
    request_headers: Names = .empty,
    response_headers: Names = .empty,
    upstreams: Names = .empty,
    services: Names = .empty,
    stores: Names = .empty,
    /// Mode, bits and the most bytes.
    bodies: [2]?[3]u32 = .{ null, null },
    tick: ?u32 = null,
    metrics: std.ArrayListUnmanaged(Metric) = .empty,

    /// Writes the records that the gateway reads.
    pub fn write(m: *const Manifest, phases: u32) void {
        const out = &answer.out;
        out.record32(1, &.{phases});
        for ([_]*const Names{ &m.request_headers, &m.response_headers, &m.upstreams, &m.services, &m.stores }, 2..) |names, kind| {
            for (names.items) |s| out.recordText(@intCast(kind), s);
        }
        for (m.bodies, 7..) |body, kind| if (body) |b| out.record32(@intCast(kind), &b);
        if (m.tick) |every| out.record32(9, &.{every});
        for (m.metrics.items) |d| {
            var w = out.record(10, 16 + d.name.len + d.description.len + 8 * d.bounds.len) orelse return;
            w.number(d.kind);
            w.string(d.name);
            w.string(d.description);
            w.number(@intCast(d.bounds.len));
            w.raw(std.mem.sliceAsBytes(d.bounds));
        }
    }
};

/// What the plugin is told about itself, and where it declares what it reads and chooses.
pub const Config = struct {
    view: View,
    manifest: *Manifest,
    /// For what stays as long as the plugin does: it is never freed while the instance lives.
    allocator: std.mem.Allocator,
    reason: []const u8 = "",

    /// The plugin's name in the gateway's configuration.
    pub fn name(c: *const Config) []const u8 {
        return c.view.pair(16) orelse "";
    }

    /// The plugin's configuration: a string as it is, everything else as JSON, empty if there is none.
    pub fn raw(c: *const Config) []const u8 {
        return c.view.pair(24) orelse "";
    }

    /// Copies a string to memory that stays.
    pub fn keep(c: *Config, s: []const u8) error{OutOfMemory}![]u8 {
        return c.allocator.dupe(u8, s);
    }

    /// Gives the error that is returned a text for the person who wrote the configuration.
    pub fn refuse(c: *Config, text: []const u8) error{Refused} {
        c.reason = text;
        return error.Refused;
    }

    /// Reads a JSON configuration and calls each with context, the names that lead to a value, and the value, for each
    /// that is not an object or an array, in order; an element of an array is called by its number. Strings come
    /// without quotes and escapes, everything else as it is written; both are valid until configure returns. A
    /// configuration that is absent has no values.
    pub fn walk(
        c: *Config,
        context: anytype,
        comptime each: fn (@TypeOf(context), []const []const u8, []const u8) anyerror!void,
    ) anyerror!void {
        json.walk(c.allocator, c.raw(), context, each) catch |err| switch (err) {
            error.NotJson => return c.refuse("the configuration is not JSON"),
            error.TooDeep => return c.refuse("the configuration is nested too deeply"),
            else => return err,
        };
    }

    /// Declares a request header that handlers read. The name is not case-sensitive.
    pub fn requestHeader(c: *Config, field: []const u8) error{OutOfMemory}!Header {
        return .{ .index = @truncate(try c.declare(&c.manifest.request_headers, field, true)), .response = false };
    }

    /// Declares a response header that the response handler reads.
    pub fn responseHeader(c: *Config, field: []const u8) error{OutOfMemory}!Header {
        return .{ .index = @truncate(try c.declare(&c.manifest.response_headers, field, true)), .response = true };
    }

    /// Declares an upstream that the plugin may choose. A configuration of the gateway that does not know or not allow
    /// it is refused.
    pub fn upstream(c: *Config, upstream_name: []const u8) error{OutOfMemory}!Upstream {
        return @fromBackingInt(@intCast(try c.declare(&c.manifest.upstreams, upstream_name, false)));
    }

    /// Declares an upstream that the plugin sends requests of its own to. A configuration of the gateway that does not know or
    /// not grant it is refused.
    pub fn service(c: *Config, service_name: []const u8) error{OutOfMemory}!Service {
        return @fromBackingInt(@intCast(try c.declare(&c.manifest.services, service_name, false)));
    }

    /// Declares a store that the plugin uses. A configuration of the gateway that does not know or not grant it is refused.
    pub fn store(c: *Config, store_name: []const u8) error{OutOfMemory}!Store {
        return @fromBackingInt(@intCast(try c.declare(&c.manifest.stores, store_name, false)));
    }

    /// Has requests' bodies of at most so many bytes read before the handler is called: see Request.body. A longer one is
    /// answered with 413.
    pub fn bufferRequestBody(c: *Config, most: u32, flags: BodyFlags) void {
        c.manifest.bodies[0] = .{ 1, @bitCast(flags), most };
    }

    /// bufferRequestBody for answers. A longer one is answered with 502.
    pub fn bufferResponseBody(c: *Config, most: u32, flags: BodyFlags) void {
        c.manifest.bodies[1] = .{ 1, @bitCast(flags), most };
    }

    /// Has Plugin.request_body see requests' bodies piece by piece while they are sent on, after the handler was called.
    pub fn streamRequestBody(c: *Config, flags: BodyFlags) void {
        c.manifest.bodies[0] = .{ 2, @bitCast(flags), 0 };
    }

    /// Has Plugin.response_body see answers' bodies piece by piece.
    pub fn streamResponseBody(c: *Config, flags: BodyFlags) void {
        c.manifest.bodies[1] = .{ 2, @bitCast(flags), 0 };
    }

    /// The longest body of a request that the plugin may have buffered, in bytes; 0: it is granted none.
    pub fn maxRequestBody(c: *const Config) u32 {
        return if (c.view.int(u32, 0) < 40) 0 else c.view.int(u32, 32);
    }

    /// maxRequestBody for answers.
    pub fn maxResponseBody(c: *const Config) u32 {
        return if (c.view.int(u32, 0) < 40) 0 else c.view.int(u32, 36);
    }

    /// Has Plugin.tick called when the plugin has started, and then each time so many milliseconds after its last call has
    /// ended, in one instance: 20 to 3,600,000.
    pub fn tick(c: *Config, milliseconds: u32) void {
        c.manifest.tick = milliseconds;
    }

    /// Declares a counter, which only grows. Names of metrics have a-z, 0-9, _ and ., and begin with a letter. The gateway
    /// exports them beside its own, with the plugin's name.
    pub fn counter(c: *Config, metric_name: []const u8, description: []const u8) error{OutOfMemory}!metrics.Counter {
        return @fromBackingInt(@intCast(try c.metric(0, metric_name, description, &.{})));
    }

    /// Declares a gauge.
    pub fn gauge(c: *Config, metric_name: []const u8, description: []const u8) error{OutOfMemory}!metrics.Gauge {
        return @fromBackingInt(@intCast(try c.metric(1, metric_name, description, &.{})));
    }

    /// Declares a histogram with the bounds of its buckets, ascending; without any they are the gateway's, which are good for
    /// milliseconds.
    pub fn histogram(c: *Config, metric_name: []const u8, description: []const u8, bounds: []const f64) error{OutOfMemory}!metrics.Histogram {
        return @fromBackingInt(@intCast(try c.metric(2, metric_name, description, bounds)));
    }

    /// Declares a counter that may shrink.
    pub fn upDownCounter(c: *Config, metric_name: []const u8, description: []const u8) error{OutOfMemory}!metrics.UpDownCounter {
        return @fromBackingInt(@intCast(try c.metric(3, metric_name, description, &.{})));
    }

    fn metric(c: *Config, kind: u32, metric_name: []const u8, description: []const u8, bounds: []const f64) error{OutOfMemory}!u32 {
        const list = &c.manifest.metrics;
        for (list.items, 0..) |m, i| if (std.mem.eql(u8, m.name, metric_name)) return @intCast(i);
        try list.append(c.allocator, .{
            .kind = kind,
            .name = try c.keep(metric_name),
            .description = try c.keep(description),
            .bounds = try c.allocator.dupe(f64, bounds),
        });
        return @intCast(list.items.len - 1);
    }

    /// Finds the name, or adds it, and returns its place.
    fn declare(c: *Config, names: *Names, wanted: []const u8, lower: bool) error{OutOfMemory}!u32 {
        const copy = try c.keep(wanted);
        if (lower) for (copy) |*b| {
            b.* = std.ascii.toLower(b.*);
        };
        for (names.items, 0..) |s, i| if (std.mem.eql(u8, s, copy)) return @intCast(i);
        try names.append(c.allocator, copy);
        return @intCast(names.items.len - 1);
    }
};
