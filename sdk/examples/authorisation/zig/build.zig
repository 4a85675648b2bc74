const std = @import("std");
const wasmgate = @import("wasmgate");

pub fn build(b: *std.Build) void {
    _ = wasmgate.addPlugin(b, b.dependency("wasmgate", .{}), "authorisation", b.path("src/main.zig"));
}
