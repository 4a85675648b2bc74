const std = @import("std");
const wasmgate = @import("wasmgate");

pub fn build(b: *std.Build) void {
    const plugin = wasmgate.addPlugin(b, b.dependency("wasmgate", .{}), "tenant-router", b.path("src/main.zig"));
    plugin.root_module.optimize = .ReleaseFast; // it is measured
}
