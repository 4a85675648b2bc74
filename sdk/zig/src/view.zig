//! The gateway's view of an exchange, or of a configuration.

const std = @import("std");

const absent = 0xffff_ffff;
const list = 0x8000_0000;

/// The bytes of a view. Offsets are the gateway's own and are not checked in release builds.
pub const View = struct {
    bytes: []const u8,

    pub fn int(v: View, comptime T: type, at: usize) T {
        return std.mem.readInt(T, v.bytes[at..][0..@sizeOf(T)], .little);
    }

    /// The string whose offset and length are at at.
    pub fn pair(v: View, at: usize) ?[]const u8 {
        const offset = v.int(u32, at);
        return if (offset == absent) null else v.bytes[offset..][0..v.int(u32, at + 4)];
    }

    /// Where the pair of slot i is.
    fn slot(v: View, i: usize) ?usize {
        return if (i < v.int(u32, 44)) v.int(u32, 0) + 8 * i else null;
    }

    pub fn count(v: View, i: usize) usize {
        const at = v.slot(i) orelse return 0;
        if (v.int(u32, at) == absent) return 0;
        const n = v.int(u32, at + 4);
        return if (n & list != 0) n & ~@as(u32, list) else 1;
    }

    /// Value k of slot i.
    pub fn value(v: View, i: usize, k: usize) ?[]const u8 {
        const at = v.slot(i) orelse return null;
        if (k >= v.count(i)) return null;
        return v.pair(if (v.int(u32, at + 4) & list != 0) v.int(u32, at) + 8 * k else at);
    }
};
