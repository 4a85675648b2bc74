//! Requests of the plugin's own.

const std = @import("std");
const host = @import("host.zig");
const List = @import("list.zig").List;
const View = @import("view.zig").View;
const allocator = @import("list.zig").allocator;

/// An upstream that the plugin sends requests of its own to: see Config.service. Its number is that of its declaration,
/// from 0.
pub const Service = enum(u32) { _ };

/// Why a call of the gateway came to nothing.
pub const Failure = error{
    /// Call: no whole answer in time.
    Timeout,
    /// Call: no connection to the upstream.
    Connect,
    /// It was tried while the plugin is being configured.
    Denied,
    /// Call: the answer has more than 1 MiB. Store: the key or the value is too long.
    TooLarge,
    /// Call: the request is not valid; the gateway's log says why.
    Invalid,
    /// Call: the upstream broke off, or did not speak HTTP.
    Failed,
    /// Call: the handler has made too many.
    Limit,
    /// Store: the key has another version, or its value is no counter.
    Mismatch,
    /// Store: it has no room.
    Full,
    /// Store: there is no such key.
    Absent,
    /// The plugin's own memory has no room.
    OutOfMemory,
};

/// What a result means; one of a later version of the gateway is a failure.
pub fn check(result: u32) Failure!void {
    const failures = [_]Failure{
        error.Timeout, error.Connect, error.Denied, error.TooLarge, error.Invalid, error.Failed, error.Limit, error.Mismatch, error.Full,
        error.Absent,
    };
    if (result == 0) return;
    return if (result <= failures.len) failures[result - 1] else error.Failed;
}

/// The text of a failure, as all SDKs have it.
pub fn describe(failure: Failure) []const u8 {
    return switch (failure) {
        error.Timeout => "no answer in time",
        error.Connect => "no connection to the upstream",
        error.Denied => "not while the plugin is configured",
        error.TooLarge => "too large",
        error.Invalid => "not a valid request",
        error.Failed => "the upstream failed",
        error.Limit => "too many calls",
        error.Mismatch => "another version",
        error.Full => "the store is full",
        error.Absent => "no such key",
        error.OutOfMemory => "the plugin's memory is too small",
    };
}

/// A request of the plugin's own.
pub const OutboundRequest = struct {
    method: []const u8 = "GET",
    /// Default: the upstream's own.
    authority: []const u8 = "",
    path: []const u8 = "/",
    /// Without '?'.
    query: []const u8 = "",
    header: []const [2][]const u8 = &.{},
    /// At most 1 MiB.
    body: []const u8 = "",
    /// Milliseconds for all of it, at most 60,000.
    timeout: u32 = 5000,
};

/// The answer to an OutboundRequest. It is valid until the next call, or until the handler returns.
pub const OutboundResponse = struct {
    view: View,

    /// The status.
    pub fn status(r: OutboundResponse) u16 {
        return @truncate(r.view.int(u32, 4));
    }

    /// How long the call took, in milliseconds.
    pub fn took(r: OutboundResponse) u32 {
        return r.view.int(u32, 24);
    }

    /// The body.
    pub fn body(r: OutboundResponse) []const u8 {
        return r.view.pair(16) orelse "";
    }

    /// How many fields there are; headerAt is one of them.
    pub fn headers(r: OutboundResponse) usize {
        return r.view.int(u32, 8);
    }

    /// Field i, from 0, with its name in lower case.
    pub fn headerAt(r: OutboundResponse, i: usize) [2][]const u8 {
        const at = r.view.int(u32, 0) + 16 * i;
        return .{ r.view.pair(at) orelse "", r.view.pair(at + 8) orelse "" };
    }

    /// The first value of a field; null if there is none. The name is in lower case.
    pub fn header(r: OutboundResponse, name: []const u8) ?[]const u8 {
        return r.find(name, 0, r.headers());
    }

    /// The first value of a field of the trailers; null if there is none. The name is in lower case.
    pub fn trailer(r: OutboundResponse, name: []const u8) ?[]const u8 {
        return r.find(name, r.headers(), r.headers() + r.view.int(u32, 12));
    }

    fn find(r: OutboundResponse, name: []const u8, from: usize, to: usize) ?[]const u8 {
        for (from..to) |i| {
            const field = r.headerAt(i);
            if (std.mem.eql(u8, field[0], name)) return field[1];
        }
        return null;
    }
};

var first: [4096]u8 = undefined;
/// The request under way.
var list: List = .init(&first);
/// The last answer.
var answer: []u8 = &.{};

/// Sends a request, and waits for the answer.
pub fn call(s: Service, r: OutboundRequest) Failure!OutboundResponse {
    list.begin();
    defer list.begin();
    list.opText(.method, r.method);
    if (r.authority.len > 0) list.opText(.authority, r.authority);
    list.opText(.path, r.path);
    if (r.query.len > 0) list.opText(.query, r.query);
    for (r.header) |f| list.opPair(.append_header, f[0], f[1]);
    if (r.body.len > 0) list.opText(.set_body, r.body);
    list.op32(.timeout, r.timeout);
    if (list.full) return error.OutOfMemory;
    if (answer.len == 0) answer = try allocator.alloc(u8, 8 << 10);
    const packed_result = host.calls.call(@backingInt(s), list.bytes().ptr, list.len, answer.ptr, answer.len);
    try check(@intCast(packed_result >> 32));
    const n: usize = @intCast(packed_result & 0xffff_ffff);
    if (n > answer.len) {
        allocator.free(answer);
        answer = &.{};
        answer = try allocator.alloc(u8, n + n / 4);
        _ = host.calls.call_answer(answer.ptr, answer.len);
    }
    return .{ .view = .{ .bytes = answer[0..n] } };
}
