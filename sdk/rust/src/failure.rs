//! What calls of the gateway can come to.

use crate::Version;
use core::fmt;
use core::time::Duration;

/// Why a call of the gateway came to nothing.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Failure {
    /// Call: no whole answer in time.
    Timeout,
    /// Call: no connection to the upstream.
    Connect,
    /// It was tried while the plugin is being configured.
    Denied,
    /// Call: the answer has more than 1 MiB. Store: the key or the value is too long.
    TooLarge,
    /// Call: the request is not valid; the gateway's log says why.
    Invalid,
    /// Call: the upstream broke off, or did not speak HTTP.
    Failed,
    /// Call: the handler has made too many.
    Limit,
    /// Store: the key has another version, this one; or its value is no counter.
    Mismatch(Version),
    /// Store: it has no room.
    Full,
    /// Store: there is no such key.
    Absent,
    /// A result of a later version of the gateway.
    Other(u32),
}

impl Failure {
    pub(crate) fn new(result: u32, version: u32) -> Self {
        match result {
            1 => Failure::Timeout,
            2 => Failure::Connect,
            3 => Failure::Denied,
            4 => Failure::TooLarge,
            5 => Failure::Invalid,
            6 => Failure::Failed,
            7 => Failure::Limit,
            8 => Failure::Mismatch(Version(version)),
            9 => Failure::Full,
            10 => Failure::Absent,
            n => Failure::Other(n),
        }
    }

    /// The number of the result, and the version with it.
    #[cfg(all(feature = "std", not(target_arch = "wasm32")))]
    pub(crate) fn code(self) -> (u32, u32) {
        match self {
            Failure::Timeout => (1, 0),
            Failure::Connect => (2, 0),
            Failure::Denied => (3, 0),
            Failure::TooLarge => (4, 0),
            Failure::Invalid => (5, 0),
            Failure::Failed => (6, 0),
            Failure::Limit => (7, 0),
            Failure::Mismatch(v) => (8, v.0),
            Failure::Full => (9, 0),
            Failure::Absent => (10, 0),
            Failure::Other(n) => (n, 0),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Failure::Timeout => "no answer in time",
            Failure::Connect => "no connection to the upstream",
            Failure::Denied => "not while the plugin is configured",
            Failure::TooLarge => "too large",
            Failure::Invalid => "not a valid request",
            Failure::Failed => "the upstream failed",
            Failure::Limit => "too many calls",
            Failure::Mismatch(_) => "another version",
            Failure::Full => "the store is full",
            Failure::Absent => "no such key",
            Failure::Other(_) => "failed",
        })
    }
}

#[cfg(feature = "std")]
impl std::error::Error for Failure {}

/// A duration in milliseconds: what is not zero is one at least, what is too long the longest.
pub(crate) fn milliseconds(d: Duration) -> u64 {
    let n = u64::try_from(d.as_millis()).unwrap_or(u64::MAX);
    n.max(u64::from(!d.is_zero()))
}

pub(crate) fn milliseconds32(d: Duration) -> u32 {
    u32::try_from(milliseconds(d)).unwrap_or(u32::MAX)
}
