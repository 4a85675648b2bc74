//! Configuration, and what a plugin declares.

const std = @import("std");
const answer = @import("answer.zig");
const json = @import("json.zig");
const View = @import("view.zig").View;

/// A header that the plugin wants to see: see Config.requestHeader and Config.responseHeader.
pub const Header = struct { index: u16, response: bool };

/// An upstream that the plugin may choose: see Config.upstream. Its number is that of its declaration, from 0.
pub const Upstream = enum(u32) { _ };

/// The names that were declared.
pub const Names = std.ArrayListUnmanaged([]const u8);

pub const Manifest = struct {
    request_headers: Names = .empty,
    response_headers: Names = .empty,
    upstreams: Names = .empty,

    /// Writes the records that the gateway reads.
    pub fn write(m: *const Manifest, phases: u32) void {
        answer.record32(1, phases);
        for (m.request_headers.items) |s| answer.recordText(2, s);
        for (m.response_headers.items) |s| answer.recordText(3, s);
        for (m.upstreams.items) |s| answer.recordText(4, s);
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
        return @enumFromInt(try c.declare(&c.manifest.upstreams, upstream_name, false));
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
