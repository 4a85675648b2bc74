const std = @import("std");

/// Builds a plugin: freestanding, small, with the exports of the ABI. A plugin's own build.zig calls it with its package
/// "wasmgate" as the dependency.
pub fn addPlugin(b: *std.Build, wasmgate: *std.Build.Dependency, name: []const u8, root: std.Build.LazyPath) *std.Build.Step.Compile {
    const plugin = b.addExecutable(.{
        .name = name,
        .root_module = b.createModule(.{
            .root_source_file = root,
            .target = b.resolveTargetQuery(.{ .cpu_arch = .wasm32, .os_tag = .freestanding }),
            .optimize = .ReleaseSafe, // a mistake traps, and does not go on with what happens to be there
            .strip = true,
            .imports = &.{.{ .name = "wasmgate", .module = wasmgate.module("wasmgate") }},
        }),
    });
    plugin.entry = .disabled;
    plugin.rdynamic = true;
    plugin.stack_size = 128 << 10; // a plugin needs little, and the default is much for each instance
    b.installArtifact(plugin);

    const tests = b.addTest(.{ .root_module = b.createModule(.{
        .root_source_file = root,
        .target = b.graph.host,
        .imports = &.{.{ .name = "wasmgate", .module = wasmgate.module("wasmgate") }},
    }) });
    b.step("test", "Run the plugin's tests, without a gateway").dependOn(&b.addRunArtifact(tests).step);
    return plugin;
}

pub fn build(b: *std.Build) void {
    const module = b.addModule("wasmgate", .{ .root_source_file = b.path("src/wasmgate.zig") });
    _ = module;
    const tests = b.addTest(.{ .root_module = b.createModule(.{ .root_source_file = b.path("src/wasmgate.zig"), .target = b.graph.host }) });
    b.step("test", "Run the SDK's tests").dependOn(&b.addRunArtifact(tests).step);
}
