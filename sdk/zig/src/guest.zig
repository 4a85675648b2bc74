//! What the gateway calls.

const std = @import("std");
const answer = @import("answer.zig");
const config = @import("config.zig");
const Decision = @import("wasmgate.zig").Decision;
const Piece = @import("piece.zig").Piece;
const Plugin = @import("wasmgate.zig").Plugin;

/// What the plugin declared.
pub var manifest: config.Manifest = .{};

/// Configures a plugin; what it keeps comes from allocator.
pub fn configure(comptime p: Plugin, allocator: std.mem.Allocator, n: usize) u64 {
    manifest = .{};
    var c: config.Config = .{ .view = .{ .bytes = answer.in[0..n] }, .manifest = &manifest, .allocator = allocator };
    answer.out.begin();
    if (p.configure) |f| f(&c) catch |err| {
        return answer.fail(if (err == error.Refused) c.reason else @errorName(err));
    };
    // Bodies need their phase, whether there is a handler or not; so does a plugin that has only ticks.
    const marked: u32 = if (p.response_if_marked) 4 else 2;
    var phases = @as(u32, @intFromBool(p.request != null or manifest.bodies[0] != null));
    if (p.response != null) phases |= marked else if (manifest.bodies[1] != null) phases |= 2;
    if (phases == 0) phases = 1;
    manifest.write(phases);
    return answer.settle(.ok);
}

pub fn request(comptime p: Plugin, n: usize) u64 {
    const f = p.request orelse return 0;
    answer.out.begin();
    return answer.finish(f(.{ .view = .{ .bytes = answer.in[0..n] } }));
}

pub fn response(comptime p: Plugin, n: usize) u64 {
    const f = p.response orelse return 0;
    answer.out.begin();
    return answer.finish(f(.{ .view = .{ .bytes = answer.in[0..n] } }));
}

pub fn body(comptime p: Plugin, n: usize) u64 {
    const piece: Piece = .{ .view = .{ .bytes = answer.in[0..n] } };
    answer.out.begin();
    const handler = if (piece.isResponse()) p.response_body else p.request_body;
    const f = handler orelse return 0;
    const d = f(piece);
    if (d == .deny) answer.out.begin(); // what denies a message has no edits
    return answer.finish(d);
}

pub fn tick(comptime p: Plugin, n: usize) u64 {
    const f = p.tick orelse return 0;
    answer.out.begin();
    f(.{ .view = .{ .bytes = answer.in[0..n] } }) catch |err| return answer.fail(@errorName(err));
    return answer.finish(@as(Decision, .@"continue"));
}

fn place(arena: []const u8) u64 {
    return @as(u64, arena.len) << 32 | @intFromPtr(arena.ptr);
}

pub fn exportAll(comptime p: Plugin) void {
    const exports = struct {
        fn arena(which: u32) callconv(.c) u64 {
            return switch (which) {
                0 => place(answer.in),
                1 => place(answer.out.arena),
                else => 0,
            };
        }

        fn resize(which: u32, need: u32) callconv(.c) u64 {
            switch (which) {
                0 => if (!answer.resizeRequest(need)) return 0,
                1 => answer.out.adopt(),
                else => {},
            }
            return arena(which);
        }

        fn configured(n: u32) callconv(.c) u64 {
            return configure(p, std.heap.wasm_allocator, n);
        }

        fn requested(n: u32) callconv(.c) u64 {
            return request(p, n);
        }

        fn responded(n: u32) callconv(.c) u64 {
            return response(p, n);
        }

        fn pieced(n: u32) callconv(.c) u64 {
            return body(p, n);
        }

        fn ticked(n: u32) callconv(.c) u64 {
            return tick(p, n);
        }
    };
    @export(&exports.arena, .{ .name = "wasmgate_v1_arena" });
    @export(&exports.resize, .{ .name = "wasmgate_v1_resize" });
    @export(&exports.configured, .{ .name = "wasmgate_v1_configure" });
    @export(&exports.requested, .{ .name = "wasmgate_v1_request" });
    @export(&exports.responded, .{ .name = "wasmgate_v1_response" });
    @export(&exports.pieced, .{ .name = "wasmgate_v1_body" });
    @export(&exports.ticked, .{ .name = "wasmgate_v1_tick" });
}
