//! Metrics of the plugin's own: the gateway exports them beside its own, with the plugin's name. See `Config::counter`.

use crate::host;

/// Counts what only grows.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Hash)]
pub struct Counter(pub(crate) u32);

/// Counts what also shrinks.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Hash)]
pub struct UpDownCounter(pub(crate) u32);

/// What was measured last, in whatever instance.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Hash)]
pub struct Gauge(pub(crate) u32);

/// Counts values by their size.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Hash)]
pub struct Histogram(pub(crate) u32);

impl Counter {
    /// Adds to the counter; `v` is not negative.
    pub fn add(self, v: f64) {
        host::metric(self.0, v);
    }
}

impl UpDownCounter {
    /// Adds to the counter.
    pub fn add(self, v: f64) {
        host::metric(self.0, v);
    }
}

impl Gauge {
    /// Sets the gauge.
    pub fn set(self, v: f64) {
        host::metric(self.0, v);
    }
}

impl Histogram {
    /// Counts a value.
    pub fn observe(self, v: f64) {
        host::metric(self.0, v);
    }
}
