//! The conformance plugin of the Zig SDK: it does what the commands in x-cmd say, as sdk/conformance/README.md lists
//! them.

const std = @import("std");
const wasmgate = @import("wasmgate");
const more = @import("more.zig");
const text = @import("text.zig");

const cut = text.cut;
const number = text.number;
const print = text.print;

pub const panic = wasmgate.panic;

var command: wasmgate.Header = undefined;
var answer_command: wasmgate.Header = undefined;
var headers: std.ArrayListUnmanaged(wasmgate.Header) = .empty; // those that the configuration declares, in its order

comptime {
    wasmgate.plugin(.{
        .configure = configure,
        .request = request,
        .response = response,
        .request_body = more.piece,
        .response_body = more.piece,
        .tick = more.tick,
    });
}

fn configure(c: *wasmgate.Config) !void {
    headers = .empty;
    more.reset();
    command = try c.requestHeader("x-cmd");
    answer_command = try c.responseHeader("x-cmd");
    var lines = std.mem.tokenizeScalar(u8, c.raw(), '\n');
    while (lines.next()) |line| {
        const word, const arg = cut(line);
        if (wasmgate.eql(word, "request-header")) {
            try headers.append(c.allocator, try c.requestHeader(arg));
        } else if (wasmgate.eql(word, "response-header")) {
            try headers.append(c.allocator, try c.responseHeader(arg));
        } else if (wasmgate.eql(word, "upstream")) {
            _ = try c.upstream(arg);
        } else if (wasmgate.eql(word, "fail")) {
            return c.refuse("as the configuration says");
        } else if (!try more.configure(c, word, arg)) {
            return c.refuse("unknown line");
        }
    }
}

fn request(r: wasmgate.Request) wasmgate.Decision {
    return run(r, command);
}

fn response(r: wasmgate.Response) wasmgate.Decision {
    return run(r, answer_command);
}

const Decision = enum { @"continue", @"no-match", route, deny, respond, body, echo, trap, fail };

/// Does the commands, each a value of the header.
fn run(x: anytype, commands: wasmgate.Header) wasmgate.Decision {
    var d: wasmgate.Decision = .@"continue";
    for (0..x.headerCount(commands)) |k| {
        const word, const arg = cut(x.headerAt(commands, k).?);
        if (edit(x, word, arg) or more.edit(x, word, arg)) continue;
        if (@TypeOf(x) == wasmgate.Request and editRequest(x, word, arg)) continue;
        d = switch (std.meta.stringToEnum(Decision, word) orelse return .{ .fail = "unknown command" }) {
            .@"continue" => .@"continue",
            .@"no-match" => .no_match,
            .route => .{ .route_to = @fromBackingInt(@intCast(number(arg))) },
            .deny => .{ .deny = @intCast(number(arg)) },
            .respond => respond: {
                const status, const answer = cut(arg);
                break :respond x.respond(@intCast(number(status)), answer, &.{ .{ "x-conformance", "yes" }, .{ "x-empty", "" } });
            },
            .body => x.respond(200, text.fill(number(arg), 'y'), &.{}),
            .echo => echo(x),
            .trap => @panic("as the command says"),
            .fail => .{ .fail = arg },
        };
    }
    return d;
}

const Edit = enum { set, append, remove, attribute, log, @"log-now", fill, lookup };

/// Does a command that both messages take; false if it is none.
fn edit(x: anytype, word: []const u8, arg: []const u8) bool {
    const first, const rest = cut(arg);
    switch (std.meta.stringToEnum(Edit, word) orelse return false) {
        .set => x.setHeader(first, rest),
        .append => x.appendHeader(first, rest),
        .remove => x.removeHeader(arg),
        .attribute => x.attribute(first, rest),
        .log => x.log(@fromBackingInt(@intCast(number(first))), rest),
        .@"log-now" => wasmgate.log(@fromBackingInt(@intCast(number(first))), rest),
        .fill => x.setHeader("x-fill", text.fill(number(arg), 'x')),
        .lookup => x.appendHeader("x-lookup", lookup(x, arg)),
    }
    return true;
}

const RequestEdit = enum { method, authority, path, query, address, timeout, hash, context, rematch };

fn editRequest(r: wasmgate.Request, word: []const u8, arg: []const u8) bool {
    switch (std.meta.stringToEnum(RequestEdit, word) orelse return false) {
        .method => r.setMethod(arg),
        .authority => r.setAuthority(arg),
        .path => r.setPath(arg),
        .query => r.setQuery(arg),
        .address => r.setAddress(arg),
        .timeout => r.setTimeout(@intCast(number(arg))),
        .hash => r.setHashKey(number(arg)),
        .context => r.setContext(number(arg)),
        .rematch => r.rematch(),
    }
    return true;
}

var value: [1 << 16]u8 = undefined;

fn lookup(x: anytype, args: []const u8) []const u8 {
    const message, const rest = cut(args);
    const index, const name = cut(rest);
    const k: usize = @intCast(number(index));
    const found = if (wasmgate.eql(message, "0"))
        x.lookupRequest(name, k, &value)
    else if (wasmgate.eql(message, "4"))
        x.lookupTls(name, k, &value)
    else if (number(message) > 1)
        x.lookupTrailer(name, k, &value)
    else if (@TypeOf(x) == wasmgate.Response)
        x.lookupResponse(name, k, &value)
    else
        null;
    text.begin();
    if (found catch @panic("the value is too long")) |v| print("{d}:{s}", .{ v.len, v }) else print("none", .{});
    return text.written();
}

/// Tells everything of an exchange. A string comes with its length, so that it may hold anything.
fn echo(x: anytype) wasmgate.Decision {
    const is_response = @TypeOf(x) == wasmgate.Response;
    text.begin();
    print("role={d}\nresponse={d}\nsampled={d}\nlocal={d}\n", .{
        @backingInt(x.role()), @intFromBool(is_response), @intFromBool(x.sampled()), @intFromBool(is_response and x.local()),
    });
    print("time={d}\nseed={d}\ncontext={d}\nstatus={d}\nhas_query={d}\n", .{
        x.time(), x.seed(), x.context(), if (is_response) x.status() else 0, @intFromBool(x.hasQuery()),
    });
    for ([_][2][]const u8{
        .{ "method", x.method() }, .{ "scheme", x.scheme() }, .{ "authority", x.authority() },
        .{ "host", x.hostName() }, .{ "path", x.path() },     .{ "query", x.query() },
        .{ "client", x.client() }, .{ "sni", x.sni() },       .{ "certificate", x.certSubject() },
        .{ "route", x.route() },
    }) |f| print("{s}={d}:{s}\n", .{ f[0], f[1].len, f[1] });
    for (headers.items) |h| {
        print("header={d}\n", .{x.headerCount(h)});
        for (0..x.headerCount(h)) |k| {
            const v = x.headerAt(h, k).?;
            print("value={d}:{s}\n", .{ v.len, v });
        }
    }
    return x.respond(200, text.written(), &.{});
}
