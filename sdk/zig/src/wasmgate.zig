//! The Zig SDK for plugins of wasmgate's native ABI (sdk/abi.md): write a function over a request, return a decision.
//!
//!     const wasmgate = @import("wasmgate");
//!
//!     var beta: wasmgate.Header = undefined; // what the plugin reads, said once
//!
//!     fn configure(c: *wasmgate.Config) !void {
//!         beta = try c.requestHeader("x-beta");
//!     }
//!
//!     fn request(r: wasmgate.Request) wasmgate.Decision {
//!         if (wasmgate.pathUnder(r.path(), "/internal")) return .{ .deny = 403 };
//!         if (wasmgate.eql(r.path(), "/ping")) return r.respond(200, "pong\n", &.{.{ "content-type", "text/plain" }});
//!         if (wasmgate.eql(r.header(beta) orelse "", "yes")) r.setHeader("x-variant", "beta");
//!         return .@"continue";
//!     }
//!
//!     comptime {
//!         wasmgate.plugin(.{ .configure = configure, .request = request });
//!     }
//!
//!     pub const panic = wasmgate.panic; // optional: panics are written to the gateway's log
//!
//! It is freestanding and needs nothing but Zig; README.md has the build file and the command.
//!
//! A plugin is one instance of the module; the gateway has several of them (one for each event loop at least), each is
//! called by one request at a time, and any of them may be thrown away at any time, so variables are caches and never
//! truth.
//!
//! Strings that come from a Request, Response or Config are views into the gateway's message: they cost nothing, hold
//! raw bytes that need not be UTF-8, and are valid until the function that was given the value returns; Config.keep
//! makes a copy that stays. Strings that are passed to the SDK are copied at once. Nothing here allocates while a
//! request is handled, as long as answers fit into 64 KiB.
//!
//! A plugin can ask an upstream before it decides (Config.service, Request.call: the function returns when the answer is
//! there, and the gateway serves others meanwhile), share state with all its instances (Config.store), see bodies whole
//! (Config.bufferRequestBody) or piece by piece (Config.streamRequestBody), be called now and then (Config.tick), and measure
//! (Config.counter). What it calls, uses and sees is granted by the gateway's configuration.

const std = @import("std");
const builtin = @import("builtin");
const config = @import("config.zig");
const exchange = @import("exchange.zig");
const guest = @import("guest.zig");
const host = @import("host.zig");
const metric = @import("metric.zig");
const outbound = @import("outbound.zig");
const piece = @import("piece.zig");
const store = @import("store.zig");

pub const Config = config.Config;
pub const Header = config.Header;
pub const Upstream = config.Upstream;
pub const Request = exchange.Request;
pub const Response = exchange.Response;
pub const Role = exchange.Role;
pub const Level = host.Level;
pub const Field = exchange.Field;
pub const BodyFlags = config.BodyFlags;
pub const Piece = piece.Piece;
pub const Tick = piece.Tick;
pub const Service = outbound.Service;
pub const OutboundRequest = outbound.OutboundRequest;
pub const OutboundResponse = outbound.OutboundResponse;
pub const Failure = outbound.Failure;
pub const describe = outbound.describe;
pub const Store = store.Store;
pub const Version = store.Version;
pub const Entry = store.Entry;
pub const Counter = metric.Counter;
pub const UpDownCounter = metric.UpDownCounter;
pub const Gauge = metric.Gauge;
pub const Histogram = metric.Histogram;

/// Writes a line to the gateway's log at once, whatever is decided afterwards. The gateway limits how many lines a
/// plugin writes.
pub const log = host.log;

/// What a handler says. Edits made on the request or response are done with it, all or none.
pub const Decision = union(enum) {
    /// Goes on: the next plugin, or the upstream that the route or an earlier plugin chose.
    @"continue",
    /// The route is not for the request. It is for plugins that match routes; edits are dropped.
    no_match,
    /// Sends the request to an upstream.
    route_to: Upstream,
    /// Answers with a status of 400 to 599 and no body; 0 is 403.
    deny: u16,
    /// The plugin could not decide. The request follows the plugin's on_error policy; the text is logged.
    fail: []const u8,
    /// Does what was written: respond of a request or response, and replace of a piece, return it.
    written,
};

/// A plugin: its handlers.
pub const Plugin = struct {
    /// Called once, before any request: declares what the plugin reads and chooses. An error refuses the configuration;
    /// Config.refuse gives it a text.
    configure: ?*const fn (*Config) anyerror!void = null,
    /// Decides about a request.
    request: ?*const fn (Request) Decision = null,
    /// Called before an answer is sent to the client.
    response: ?*const fn (Response) Decision = null,
    /// Has response called only for those requests whose handler left a context word that is not 0.
    response_if_marked: bool = false,
    /// Sees a request's body piece by piece, where Config.streamRequestBody asked for that. It decides by .@"continue",
    /// Piece.replace, .deny or .fail.
    request_body: ?*const fn (Piece) Decision = null,
    /// Sees an answer's body piece by piece, where Config.streamResponseBody asked for that. An answer cannot be denied any
    /// more.
    response_body: ?*const fn (Piece) Decision = null,
    /// Called now and then without a request, where Config.tick asked for that: for what is to be fetched, renewed or
    /// counted, and left in a Store for all instances. An error is logged.
    tick: ?*const fn (Tick) anyerror!void = null,
};

/// Makes p the plugin of this module. Call it in a comptime block of the root file.
pub fn plugin(comptime p: Plugin) void {
    if (p.request == null and p.response == null and p.request_body == null and p.response_body == null and p.tick == null) {
        @compileError("the plugin has no handler");
    }
    if (builtin.cpu.arch.isWasm()) guest.exportAll(p);
}

/// Tests plugins without a gateway and without WebAssembly, in `zig build test` on the author's machine.
pub const testing = @import("testing.zig");

/// A panic handler for the root file: writes the text to the gateway's log and traps.
pub const panic = std.debug.FullPanic(struct {
    fn panicked(text: []const u8, _: ?usize) noreturn {
        log(.err, text);
        @trap();
    }
}.panicked);

/// Whether path is prefix or lies below it: "/admin" and "/admin/x" are under "/admin", "/administer" is not. The prefix
/// has no '/' at its end.
pub fn pathUnder(path: []const u8, prefix: []const u8) bool {
    return std.mem.startsWith(u8, path, prefix) and (path.len == prefix.len or path[prefix.len] == '/');
}

/// Whether two strings are equal.
pub fn eql(a: []const u8, b: []const u8) bool {
    return std.mem.eql(u8, a, b);
}

/// Whether two strings are equal without regard to the case of ASCII letters.
pub fn eqlIgnoreCase(a: []const u8, b: []const u8) bool {
    return std.ascii.eqlIgnoreCase(a, b);
}

/// The number that decimal digits say; null if there is anything else, or it does not fit.
pub fn number(s: []const u8) ?u64 {
    if (s.len == 0) return null;
    var n: u64 = 0;
    for (s) |c| {
        if (c < '0' or c > '9') return null;
        n = std.math.add(u64, std.math.mul(u64, n, 10) catch return null, c - '0') catch return null;
    }
    return n;
}

test {
    _ = @import("json.zig");
    _ = testing;
}

test pathUnder {
    for ([_]struct { []const u8, bool }{
        .{ "/admin", true }, .{ "/admin/", true }, .{ "/admin/x", true },  .{ "/administer", false },
        .{ "/adm", false },  .{ "", false },       .{ "/x/admin", false },
    }) |c| try std.testing.expectEqual(c[1], pathUnder(c[0], "/admin"));
}

test number {
    try std.testing.expectEqual(18446744073709551615, number("18446744073709551615"));
    for ([_][]const u8{ "", "x", "-1", "+1", "1_0", "18446744073709551616" }) |s| try std.testing.expectEqual(null, number(s));
}
