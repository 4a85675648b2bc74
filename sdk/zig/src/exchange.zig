//! Requests, and answers on their way to the client.

const std = @import("std");
const answer = @import("answer.zig");
const guest = @import("guest.zig");
const host = @import("host.zig");
const wasmgate = @import("wasmgate.zig");
const Header = @import("config.zig").Header;
const View = @import("view.zig").View;

/// From which place of the configuration a handler is called.
pub const Role = enum(u32) {
    /// In a route's plugin list.
    route = 0,
    /// As a route's matcher.
    match = 1,
    /// On a listener, before routes are matched.
    listener = 2,
    _,
};

/// A field of a message: its name and its value.
pub const Field = [2][]const u8;

/// A request that is decided about.
pub const Request = Exchange(.request);

/// An answer on its way to the client, with the request that it answers as it was sent to the upstream.
pub const Response = Exchange(.response);

/// What requests and responses have in common, and what only one of them has: using that of the other does not compile.
/// Values are valid until the handler returns.
fn Exchange(comptime phase: enum { request, response }) type {
    return struct {
        view: View,

        const Self = @This();

        fn only(comptime wanted: @TypeOf(phase)) void {
            if (phase != wanted) @compileError("only a " ++ @tagName(wanted) ++ " has this");
        }

        fn flag(x: Self, bit: u32) bool {
            return x.view.int(u32, 12) & bit != 0;
        }

        /// The place that the plugin is called from.
        pub fn role(x: Self) Role {
            return @enumFromInt(x.view.int(u32, 4));
        }

        /// The request's method.
        pub fn method(x: Self) []const u8 {
            return x.view.pair(48) orelse "";
        }

        /// "http" or "https".
        pub fn scheme(x: Self) []const u8 {
            return x.view.pair(56) orelse "";
        }

        /// The host and, if it was sent, the port that the client asked for.
        pub fn authority(x: Self) []const u8 {
            return x.view.pair(64) orelse "";
        }

        /// The authority without the port, as it was sent: neither lower-cased nor without the brackets of an IPv6
        /// address.
        pub fn hostName(x: Self) []const u8 {
            const s = x.authority();
            const i = std.mem.lastIndexOfAny(u8, s, ":]") orelse return s;
            return if (s[i] == ':') s[0..i] else s;
        }

        /// The path.
        pub fn path(x: Self) []const u8 {
            return x.view.pair(72) orelse "";
        }

        /// What follows the '?'; see hasQuery.
        pub fn query(x: Self) []const u8 {
            return x.view.pair(80) orelse "";
        }

        /// Whether the target has a '?', even if nothing follows it.
        pub fn hasQuery(x: Self) bool {
            return x.flag(1);
        }

        /// The client's address, without a port.
        pub fn client(x: Self) []const u8 {
            return x.view.pair(88) orelse "";
        }

        /// The server name of the client's TLS handshake; "" without one.
        pub fn sni(x: Self) []const u8 {
            return x.view.pair(96) orelse "";
        }

        /// The subject of the client's verified TLS certificate; "" without one.
        pub fn certSubject(x: Self) []const u8 {
            return x.view.pair(104) orelse "";
        }

        /// The name of the route that matched; "" before that.
        pub fn route(x: Self) []const u8 {
            return x.view.pair(112) orelse "";
        }

        /// The time of the gateway's clock in Unix milliseconds, some milliseconds coarse.
        pub fn time(x: Self) i64 {
            return x.view.int(i64, 16);
        }

        /// A fresh random number.
        pub fn seed(x: Self) u64 {
            return x.view.int(u64, 24);
        }

        /// Whether the request is traced, so that span attributes are not in vain.
        pub fn sampled(x: Self) bool {
            return x.flag(2);
        }

        /// The word that the request's handler left with setContext.
        pub fn context(x: Self) u64 {
            return x.view.int(u64, 32);
        }

        fn slot(h: Header) usize {
            return h.index + if (h.response) guest.manifest.request_headers.items.len else 0;
        }

        /// The first value of a declared header; null if it is absent.
        pub fn header(x: Self, h: Header) ?[]const u8 {
            return x.view.value(slot(h), 0);
        }

        /// How often a declared header occurs.
        pub fn headerCount(x: Self, h: Header) usize {
            return x.view.count(slot(h));
        }

        /// Value k of a declared header, from 0; null beyond the last.
        pub fn headerAt(x: Self, h: Header, k: usize) ?[]const u8 {
            return x.view.value(slot(h), k);
        }

        /// Asks the gateway for value k of any request header, declared or not, and copies it to out. It costs a call of
        /// the gateway; declared headers cost nothing. null: there is no such value. An error: it does not fit.
        pub fn lookupRequest(_: Self, name: []const u8, k: usize, out: []u8) error{NoSpaceLeft}!?[]u8 {
            return lookup(0, name, k, out);
        }

        /// lookupRequest for the answer's headers.
        pub fn lookupResponse(_: Self, name: []const u8, k: usize, out: []u8) error{NoSpaceLeft}!?[]u8 {
            only(.response);
            return lookup(1, name, k, out);
        }

        /// Replaces all fields of the name by one: of the request in its handler, of the answer in the answer's.
        pub fn setHeader(_: Self, name: []const u8, value: []const u8) void {
            answer.opPair(.set_header, name, value);
        }

        /// Adds a field.
        pub fn appendHeader(_: Self, name: []const u8, value: []const u8) void {
            answer.opPair(.append_header, name, value);
        }

        /// Removes all fields of the name.
        pub fn removeHeader(_: Self, name: []const u8) void {
            answer.opText(.remove_header, name);
        }

        /// Sets an attribute of the request's span.
        pub fn attribute(_: Self, key: []const u8, value: []const u8) void {
            answer.opPair(.attribute, key, value);
        }

        /// Writes a line to the gateway's log together with the decision, if the decision is one that carries edits. The
        /// gateway limits how many lines a plugin writes. wasmgate.log writes at once.
        pub fn log(_: Self, level: host.Level, text: []const u8) void {
            answer.opLog(@intFromEnum(level), text);
        }

        /// Answers the client: no upstream is asked, or its answer is replaced. The decision is to be returned.
        pub fn respond(_: Self, status_code: u16, body: []const u8, fields: []const Field) wasmgate.Decision {
            answer.respond(status_code, body, fields);
            return .responded;
        }

        /// Replaces the method.
        pub fn setMethod(_: Self, s: []const u8) void {
            only(.request);
            answer.opText(.method, s);
        }

        /// Replaces the authority: host, or host:port.
        pub fn setAuthority(_: Self, s: []const u8) void {
            only(.request);
            answer.opText(.authority, s);
        }

        /// Replaces the path and leaves the query alone.
        pub fn setPath(_: Self, s: []const u8) void {
            only(.request);
            answer.opText(.path, s);
        }

        /// Replaces the query, without '?'; "" removes it.
        pub fn setQuery(_: Self, s: []const u8) void {
            only(.request);
            answer.opText(.query, s);
        }

        /// Sends the request to an address, host:port, where the configuration allows it.
        pub fn setAddress(_: Self, s: []const u8) void {
            only(.request);
            answer.opText(.address, s);
        }

        /// Limits the whole request, in milliseconds.
        pub fn setTimeout(_: Self, milliseconds: u32) void {
            only(.request);
            answer.op32(.timeout, milliseconds);
        }

        /// Sets the key by which consistent balancing picks a target.
        pub fn setHashKey(_: Self, key: u64) void {
            only(.request);
            answer.op64(.hash_key, key);
        }

        /// Leaves a word for the response handler; see Plugin.response_if_marked.
        pub fn setContext(_: Self, word: u64) void {
            only(.request);
            answer.op64(.context, word);
        }

        /// Asks for the routes to be matched again, by the new path and authority.
        pub fn rematch(_: Self) void {
            only(.request);
            answer.op0(.rematch);
        }

        /// The status of the answer.
        pub fn status(x: Self) u16 {
            only(.response);
            return @truncate(x.view.int(u32, 40));
        }

        /// Whether the answer was made by the gateway or a plugin and not by an upstream.
        pub fn local(x: Self) bool {
            only(.response);
            return x.flag(4);
        }
    };
}

fn lookup(message: u32, name: []const u8, k: usize, out: []u8) error{NoSpaceLeft}!?[]u8 {
    const n = host.getHeader(message, name, k, out) orelse return null;
    return if (n <= out.len) out[0..n] else error.NoSpaceLeft;
}
