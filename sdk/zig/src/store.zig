//! State that outlives instances.

const host = @import("host.zig");
const outbound = @import("outbound.zig");

const Failure = outbound.Failure;

/// The version of a value in a store: different after each change of it.
pub const Version = enum(u32) {
    /// That of a key that is not there.
    absent = 0,
    _,

    /// What the gateway takes for the version.
    fn condition(v: Version) u32 {
        return if (v == .absent) 0xffff_ffff else @backingInt(v);
    }
};

/// A value and its version.
pub const Entry = struct { value: []u8, version: Version };

/// A store of keys and values that all instances of the plugin share, and other plugins that are granted it: see
/// Config.store. It outlives instances and reloads, not the gateway. Each operation is atomic. Keys have 1 to 1024 bytes.
/// Its number is that of its declaration, from 0.
pub const Store = enum(u32) {
    _,

    /// Copies the value of a key to out. null: it is not there, or has expired. An error: it does not fit.
    pub fn get(s: Store, key: []const u8, out: []u8) error{NoSpaceLeft}!?Entry {
        const r = host.calls.kv_get(@backingInt(s), key.ptr, key.len, out.ptr, out.len);
        const n: usize = @intCast(r & 0xffff_ffff);
        if (r == 0) return null;
        if (n > out.len) return error.NoSpaceLeft;
        return .{ .value = out[0..n], .version = @fromBackingInt(@intCast(r >> 32)) };
    }

    /// Sets a key, whatever it was, for ttl milliseconds; 0 is for ever.
    pub fn set(s: Store, key: []const u8, value: []const u8, ttl: u64) Failure!void {
        _ = try result(host.calls.kv_set(@backingInt(s), key.ptr, key.len, value.ptr, value.len, 0, ttl));
    }

    /// Sets a key if it has this version, which get returned, or if it is not there: Version.absent. It returns the new
    /// version.
    pub fn compareAndSet(s: Store, key: []const u8, value: []const u8, version: Version, ttl: u64) Failure!Version {
        return result(host.calls.kv_set(@backingInt(s), key.ptr, key.len, value.ptr, value.len, version.condition(), ttl));
    }

    /// Removes a key, whatever it was.
    pub fn delete(s: Store, key: []const u8) Failure!void {
        _ = try result(host.calls.kv_delete(@backingInt(s), key.ptr, key.len, 0));
    }

    /// Removes a key if it has this version.
    pub fn compareAndDelete(s: Store, key: []const u8, version: Version) Failure!void {
        _ = try result(host.calls.kv_delete(@backingInt(s), key.ptr, key.len, version.condition()));
    }

    /// Adds to a counter and returns the sum. A key that is not there is 0, and expires ttl milliseconds after this call; 0 is
    /// never. One that is there keeps its end, so that counters of a time span begin anew after it.
    pub fn add(s: Store, key: []const u8, delta: i64, ttl: u64) Failure!i64 {
        var sum: i64 = 0;
        try outbound.check(host.calls.kv_add(@backingInt(s), key.ptr, key.len, delta, ttl, &sum));
        return sum;
    }
};

fn result(r: u64) Failure!Version {
    try outbound.check(@intCast(r >> 32));
    return @fromBackingInt(@intCast(r & 0xffff_ffff));
}
