//! Metrics of the plugin's own: the gateway exports them beside its own, with the plugin's name. See Config.counter.

const host = @import("host.zig");

/// Counts what only grows.
pub const Counter = enum(u32) {
    _,

    /// Adds to the counter; v is not negative.
    pub fn add(m: Counter, v: f64) void {
        host.calls.metric(@backingInt(m), v);
    }
};

/// Counts what also shrinks.
pub const UpDownCounter = enum(u32) {
    _,

    /// Adds to the counter.
    pub fn add(m: UpDownCounter, v: f64) void {
        host.calls.metric(@backingInt(m), v);
    }
};

/// What was measured last, in whatever instance.
pub const Gauge = enum(u32) {
    _,

    /// Sets the gauge.
    pub fn set(m: Gauge, v: f64) void {
        host.calls.metric(@backingInt(m), v);
    }
};

/// Counts values by their size.
pub const Histogram = enum(u32) {
    _,

    /// Counts a value.
    pub fn observe(m: Histogram, v: f64) void {
        host.calls.metric(@backingInt(m), v);
    }
};
