//! Requests, and answers on their way to the client.

const std = @import("std");
const answer = @import("answer.zig");
const guest = @import("guest.zig");
const host = @import("host.zig");
const outbound = @import("outbound.zig");
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
            return @fromBackingInt(@intCast(x.view.int(u32, 4)));
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
            return host.getHeader(0, name, k, out);
        }

        /// Asks the gateway for what is known of the client's TLS connection, and copies it to out: value k of version, cipher,
        /// alpn, server-name, resumed, and of the client's verified certificate subject, issuer, serial, sha256, dns, uri, email,
        /// ip, not-before, not-after and certificate (PEM). null: it was not agreed on, the client has shown no certificate, or
        /// there is no TLS. An error: it does not fit.
        pub fn lookupTls(_: Self, name: []const u8, k: usize, out: []u8) error{NoSpaceLeft}!?[]u8 {
            return host.getHeader(4, name, k, out);
        }

        /// lookupRequest for the answer's headers.
        pub fn lookupResponse(_: Self, name: []const u8, k: usize, out: []u8) error{NoSpaceLeft}!?[]u8 {
            only(.response);
            return host.getHeader(1, name, k, out);
        }

        /// lookupRequest for the message's trailers. There are some where the body is buffered.
        pub fn lookupTrailer(_: Self, name: []const u8, k: usize, out: []u8) error{NoSpaceLeft}!?[]u8 {
            return host.getHeader(2 + message, name, k, out);
        }

        const message: u32 = @backingInt(phase);

        /// Sends a request to a service and returns when the answer is whole; the gateway serves others meanwhile. An answer
        /// of any status is no error. Redirects are not followed. A handler may make 32 calls.
        pub fn call(_: Self, service: outbound.Service, r: outbound.OutboundRequest) outbound.Failure!outbound.OutboundResponse {
            return outbound.call(service, r);
        }

        /// Whether the message's body is buffered: see Config.bufferRequestBody. A message without one has an empty one.
        pub fn hasBody(x: Self) bool {
            return x.flag(8);
        }

        /// Whether only the beginning of the body is buffered: see BodyFlags.
        pub fn bodyIsPart(x: Self) bool {
            return x.flag(16);
        }

        /// The body that is buffered, in memory of the allocator's; null if none is.
        pub fn body(x: Self, allocator: std.mem.Allocator) error{OutOfMemory}!?[]u8 {
            const n = x.readBody(&.{}, 0) orelse return null;
            const bytes = try allocator.alloc(u8, n);
            _ = x.readBody(bytes, 0);
            return bytes;
        }

        /// Copies what is buffered of the body from offset on, and returns how many bytes there are from there on; null if none
        /// is buffered, or if offset is beyond its end. For bodies that need not be in the plugin's memory as a whole.
        pub fn readBody(_: Self, out: []u8, offset: usize) ?usize {
            const n = host.calls.read_body(message, offset, out.ptr, out.len);
            return if (n < 0) null else @intCast(n);
        }

        /// Replaces a body that is buffered whole. The gateway sets Content-Length; Content-Type and the like are the plugin's
        /// business.
        pub fn setBody(_: Self, bytes: []const u8) void {
            answer.out.opText(.set_body, bytes);
        }

        /// Asks for the message's body, where it was declared to come on demand: a buffered one by calling the handler once
        /// more (see hasBody) after what it returns now is done, a streamed one by calling Plugin.request_body or
        /// Plugin.response_body.
        pub fn wantBody(_: Self) void {
            answer.out.op(.want_body);
        }

        /// Replaces all fields of the name by one: of the request in its handler, of the answer in the answer's.
        pub fn setHeader(_: Self, name: []const u8, value: []const u8) void {
            answer.out.opPair(.set_header, name, value);
        }

        /// Adds a field.
        pub fn appendHeader(_: Self, name: []const u8, value: []const u8) void {
            answer.out.opPair(.append_header, name, value);
        }

        /// Removes all fields of the name.
        pub fn removeHeader(_: Self, name: []const u8) void {
            answer.out.opText(.remove_header, name);
        }

        /// Sets an attribute of the request's span.
        pub fn attribute(_: Self, key: []const u8, value: []const u8) void {
            answer.out.opPair(.attribute, key, value);
        }

        /// Writes a line to the gateway's log together with the decision, if the decision is one that carries edits. The
        /// gateway limits how many lines a plugin writes. wasmgate.log writes at once.
        pub fn log(_: Self, level: host.Level, text: []const u8) void {
            answer.out.opLog(@backingInt(level), text);
        }

        /// Answers the client: no upstream is asked, or its answer is replaced. The decision is to be returned.
        pub fn respond(_: Self, status_code: u16, text: []const u8, fields: []const Field) wasmgate.Decision {
            answer.out.respond(status_code, text, fields);
            return .written;
        }

        /// Replaces the method.
        pub fn setMethod(_: Self, s: []const u8) void {
            only(.request);
            answer.out.opText(.method, s);
        }

        /// Replaces the authority: host, or host:port.
        pub fn setAuthority(_: Self, s: []const u8) void {
            only(.request);
            answer.out.opText(.authority, s);
        }

        /// Replaces the path and leaves the query alone.
        pub fn setPath(_: Self, s: []const u8) void {
            only(.request);
            answer.out.opText(.path, s);
        }

        /// Replaces the query, without '?'; "" removes it.
        pub fn setQuery(_: Self, s: []const u8) void {
            only(.request);
            answer.out.opText(.query, s);
        }

        /// Sends the request to an address, host:port, where the configuration allows it.
        pub fn setAddress(_: Self, s: []const u8) void {
            only(.request);
            answer.out.opText(.address, s);
        }

        /// Limits the whole request, in milliseconds.
        pub fn setTimeout(_: Self, milliseconds: u32) void {
            only(.request);
            answer.out.op32(.timeout, milliseconds);
        }

        /// Sets the key by which consistent balancing picks a target.
        pub fn setHashKey(_: Self, key: u64) void {
            only(.request);
            answer.out.op64(.hash_key, key);
        }

        /// Leaves a word for the response handler; see Plugin.response_if_marked.
        pub fn setContext(_: Self, word: u64) void {
            only(.request);
            answer.out.op64(.context, word);
        }

        /// Asks for the routes to be matched again, by the new path and authority.
        pub fn rematch(_: Self) void {
            only(.request);
            answer.out.op(.rematch);
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
