//! Bodies on their way, and calls without a request.

const answer = @import("answer.zig");
const host = @import("host.zig");
const outbound = @import("outbound.zig");
const wasmgate = @import("wasmgate.zig");
const View = @import("view.zig").View;

/// A piece of a body on its way: see Config.streamRequestBody. It is valid until the function returns.
pub const Piece = struct {
    view: View,

    /// The bytes. There are none only if it is the last piece.
    pub fn data(p: Piece) []const u8 {
        return p.view.pair(40) orelse "";
    }

    /// Whether the body ends with this piece.
    pub fn last(p: Piece) bool {
        return p.view.int(u32, 8) & 1 != 0;
    }

    /// Whether it is of an answer and not of a request.
    pub fn isResponse(p: Piece) bool {
        return p.view.int(u32, 4) == 1;
    }

    /// How many bytes of the body were before this piece.
    pub fn before(p: Piece) u64 {
        return p.view.int(u64, 32);
    }

    /// The time of the gateway's clock in Unix milliseconds, some milliseconds coarse.
    pub fn time(p: Piece) i64 {
        return p.view.int(i64, 16);
    }

    /// What setWord left with the last piece of the message; with the first it is the word that the handler left with
    /// setContext. Pieces of a message may come to different instances, so this is where their state is.
    pub fn word(p: Piece) u64 {
        return p.view.int(u64, 24);
    }

    /// Leaves a word for the next piece.
    pub fn setWord(_: Piece, w: u64) void {
        answer.out.op64(.context, w);
    }

    /// Has the last n bytes of the piece come again, in front of the next one: at most 64 KiB, and nothing of the last piece.
    /// .@"continue" then passes on what is before them, and replace replaces that.
    pub fn keep(_: Piece, n: usize) void {
        answer.out.op32(.keep, @intCast(n));
    }

    /// Sends other bytes instead of the piece. The decision is to be returned.
    pub fn replace(_: Piece, bytes: []const u8) wasmgate.Decision {
        answer.out.opText(.set_body, bytes);
        return .written;
    }

    /// Sets an attribute of the request's span.
    pub fn attribute(_: Piece, key: []const u8, value: []const u8) void {
        answer.out.opPair(.attribute, key, value);
    }

    /// Writes a line to the gateway's log together with the decision.
    pub fn log(_: Piece, level: host.Level, text: []const u8) void {
        answer.out.opLog(@backingInt(level), text);
    }

    /// Asks the gateway for value k of a field of the message's trailers, which are there with the last piece, and copies it
    /// to out. null: there is no such value. An error: it does not fit.
    pub fn lookupTrailer(p: Piece, name: []const u8, k: usize, out: []u8) error{NoSpaceLeft}!?[]u8 {
        return host.getHeader(if (p.isResponse()) 3 else 2, name, k, out);
    }

    /// See Request.call.
    pub fn call(_: Piece, service: outbound.Service, r: outbound.OutboundRequest) outbound.Failure!outbound.OutboundResponse {
        return outbound.call(service, r);
    }
};

/// A call without a request: see Config.tick. It is valid until the function returns.
pub const Tick = struct {
    view: View,

    /// The time of the gateway's clock in Unix milliseconds, some milliseconds coarse.
    pub fn time(t: Tick) i64 {
        return t.view.int(i64, 8);
    }

    /// A fresh random number.
    pub fn seed(t: Tick) u64 {
        return t.view.int(u64, 16);
    }

    /// Writes a line to the gateway's log.
    pub fn log(_: Tick, level: host.Level, text: []const u8) void {
        answer.out.opLog(@backingInt(level), text);
    }

    /// See Request.call.
    pub fn call(_: Tick, service: outbound.Service, r: outbound.OutboundRequest) outbound.Failure!outbound.OutboundResponse {
        return outbound.call(service, r);
    }
};
