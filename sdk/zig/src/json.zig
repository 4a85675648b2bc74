//! What most plugins need of JSON: a walk over the values of a configuration.

const std = @import("std");

const Allocator = std.mem.Allocator;

/// Bounds the nesting of a configuration.
const max_depth = 16;

/// See Config.walk. What allocator gives is not freed.
pub fn walk(
    allocator: Allocator,
    text: []const u8,
    context: anytype,
    comptime each: fn (@TypeOf(context), []const []const u8, []const u8) anyerror!void,
) anyerror!void {
    if (text.len == 0) return;
    var w: Walker(@TypeOf(context), each) = .{ .allocator = allocator, .rest = text, .context = context };
    try w.value();
    w.space();
    if (w.rest.len != 0) return error.NotJson;
}

fn Walker(comptime Context: type, comptime each: fn (Context, []const []const u8, []const u8) anyerror!void) type {
    return struct {
        allocator: Allocator,
        rest: []const u8,
        context: Context,
        path: [max_depth + 1][]const u8 = undefined,
        depth: usize = 0,

        const Self = @This();

        fn space(w: *Self) void {
            w.rest = std.mem.trimStart(u8, w.rest, " \t\n\r");
        }

        /// Consumes c, with the space before it, if it comes next.
        fn take(w: *Self, c: u8) bool {
            w.space();
            if (w.rest.len == 0 or w.rest[0] != c) return false;
            w.rest = w.rest[1..];
            return true;
        }

        fn value(w: *Self) anyerror!void {
            if (w.depth > max_depth) return error.TooDeep;
            w.space();
            if (w.rest.len == 0) return error.NotJson;
            switch (w.rest[0]) {
                '{' => return w.members('}'),
                '[' => return w.members(']'),
                '"' => {
                    const s = try w.string();
                    return each(w.context, w.path[0..w.depth], s);
                },
                else => {},
            }
            var n: usize = 0;
            while (n < w.rest.len) : (n += 1) switch (w.rest[n]) {
                'a'...'z', '0'...'9', '-', '+', '.', 'E' => {},
                else => break,
            };
            if (n == 0) return error.NotJson;
            const s = w.rest[0..n];
            w.rest = w.rest[n..];
            return each(w.context, w.path[0..w.depth], s);
        }

        /// Reads an object or an array up to its closing bracket.
        fn members(w: *Self, closing: u8) anyerror!void {
            w.rest = w.rest[1..];
            if (w.take(closing)) return;
            var i: usize = 0;
            while (true) : (i += 1) {
                var digits: [20]u8 = undefined;
                var name: []const u8 = std.fmt.bufPrint(&digits, "{d}", .{i}) catch unreachable;
                if (closing == '}') {
                    w.space();
                    name = try w.string();
                    if (!w.take(':')) return error.NotJson;
                }
                w.path[w.depth] = name;
                w.depth += 1;
                try w.value();
                w.depth -= 1;
                if (w.take(closing)) return;
                if (!w.take(',')) return error.NotJson;
            }
        }

        /// Reads a string, which comes next. One without escapes is not copied.
        fn string(w: *Self) ![]const u8 {
            if (w.rest.len == 0 or w.rest[0] != '"') return error.NotJson;
            const in = w.rest[1..];
            var end: usize = 0;
            while (true) : (end += 1) {
                if (end == in.len or in[end] < ' ') return error.NotJson;
                if (in[end] == '"') {
                    w.rest = in[end + 1 ..];
                    return in[0..end];
                }
                if (in[end] == '\\') break;
            }
            return w.unescape(in, end);
        }

        fn unescape(w: *Self, in: []const u8, plain: usize) ![]const u8 {
            // An escape is never shorter than what it stands for.
            const closing = closingQuote(in) orelse return error.NotJson;
            const out = try w.allocator.alloc(u8, closing);
            @memcpy(out[0..plain], in[0..plain]);
            var n = plain;
            var i = plain;
            while (i < closing) {
                if (in[i] < ' ') return error.NotJson;
                if (in[i] != '\\') {
                    out[n] = in[i];
                    n += 1;
                    i += 1;
                    continue;
                }
                const e = escape(in[i..closing]) orelse return error.NotJson;
                n += std.unicode.utf8Encode(e.char, out[n..]) catch return error.NotJson;
                i += e.len;
            }
            w.rest = in[closing + 1 ..];
            return out[0..n];
        }
    };
}

/// The place of the quote that ends a string.
fn closingQuote(in: []const u8) ?usize {
    var i: usize = 0;
    while (i < in.len) : (i += 1) switch (in[i]) {
        '"' => return i,
        '\\' => i += 1,
        else => {},
    };
    return null;
}

const Escape = struct { char: u21, len: usize };

/// Reads an escape, which begins with a backslash.
fn escape(s: []const u8) ?Escape {
    if (s.len < 2) return null;
    const char: u21 = switch (s[1]) {
        '"', '\\', '/' => s[1],
        'b' => 8,
        'f' => 12,
        'n' => '\n',
        'r' => '\r',
        't' => '\t',
        'u' => return codePoint(s),
        else => return null,
    };
    return .{ .char = char, .len = 2 };
}

/// Reads \uXXXX, or two of them that make a surrogate pair.
fn codePoint(s: []const u8) ?Escape {
    const high = hex(s) orelse return null;
    if (high < 0xd800 or high >= 0xe000) return .{ .char = high, .len = 6 };
    if (hex(s[6..])) |low| {
        if (high < 0xdc00 and low >= 0xdc00 and low < 0xe000) {
            return .{ .char = 0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00), .len = 12 };
        }
    }
    return .{ .char = 0xfffd, .len = 6 };
}

fn hex(s: []const u8) ?u21 {
    if (s.len < 6 or s[0] != '\\' or s[1] != 'u') return null;
    var v: u21 = 0;
    for (s[2..6]) |c| v = v * 16 + (std.fmt.charToDigit(c, 16) catch return null);
    return v;
}

const Collector = struct {
    buffer: [1024]u8 = undefined,
    len: usize = 0,

    fn each(c: *Collector, path: []const []const u8, value: []const u8) anyerror!void {
        for (path, 0..) |name, i| c.put(if (i > 0) "/" else "", name);
        c.put("=", value);
        c.put("\n", "");
    }

    fn put(c: *Collector, a: []const u8, b: []const u8) void {
        for ([_][]const u8{ a, b }) |s| {
            @memcpy(c.buffer[c.len..][0..s.len], s);
            c.len += s.len;
        }
    }
};

fn expectWalk(want: ?[]const u8, text: []const u8) !void {
    var memory = std.heap.ArenaAllocator.init(std.testing.allocator);
    defer memory.deinit();
    var c: Collector = .{};
    const result = walk(memory.allocator(), text, &c, Collector.each);
    if (want) |w| {
        try result;
        try std.testing.expectEqualStrings(w, c.buffer[0..c.len]);
    } else if (result) |_| {
        std.debug.print("accepted: {s}\n", .{text});
        return error.Accepted;
    } else |_| {}
}

test walk {
    for ([_][2][]const u8{
        .{ "", "" },          .{ "{}", "" },        .{ "[]", "" },
        .{ "\"s\"", "=s\n" }, .{ " 12 ", "=12\n" },
        .{
            \\{"default":"users","tenants":{"acme":"acme-upstream","b":"c"},"n":[1,true,null,"x"]}
            ,
            "default=users\ntenants/acme=acme-upstream\ntenants/b=c\nn/0=1\nn/1=true\nn/2=null\nn/3=x\n",
        },
        .{
            \\{"a\"\\\/\n":"\u00e9\ud83d\ude00\ud800x"}
            ,
            "a\"\\/\n=é😀\u{FFFD}x\n",
        },
    }) |c| try expectWalk(c[1], c[0]);
    for ([_][]const u8{
        "{",                 "{\"a\"}", "{\"a\":}",  "{\"a\":1,}",              "[1", "\"", "\"\\", "\"\\u12\"", "\"\\x\"", "1 2", "}",
        "{\"a\":1 \"b\":2}", "\"\n\"",  "\"\\n\n\"", &@as([40]u8, @splat('[')),
    }) |text| try expectWalk(null, text);
}
