//! State that outlives instances.

use crate::failure::milliseconds;
use crate::{host, Failure};
use alloc::vec::Vec;
use core::time::Duration;

/// A store of keys and values that all instances of the plugin share, and other plugins that are granted it: see
/// `Config::store`. It outlives instances and reloads, not the gateway. Each operation is atomic. Keys have 1 to 1024 bytes.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Hash)]
pub struct Store(pub(crate) u32);

/// The version of a value in a store: different after each change of it.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Hash)]
pub struct Version(pub(crate) u32);

impl Version {
    /// The version of a key that is not there.
    pub const ABSENT: Version = Version(0);

    /// The number of the version.
    pub const fn number(self) -> u32 {
        self.0
    }

    /// The version with a number that was kept.
    pub const fn from_number(n: u32) -> Self {
        Version(n)
    }

    /// What the gateway takes for the version.
    fn condition(self) -> u32 {
        if self == Version::ABSENT {
            u32::MAX
        } else {
            self.0
        }
    }
}

impl Store {
    /// The store that was declared with this number, from 0. The gateway traps on another one.
    pub const fn from_id(id: u32) -> Self {
        Store(id)
    }

    /// The value of a key, and its version; `None` if the key is not there, or has expired.
    pub fn get(self, key: impl AsRef<[u8]>) -> Option<(Vec<u8>, Version)> {
        host::kv_get(self.0, key.as_ref()).map(|(value, version)| (value, Version(version)))
    }

    /// Sets a key, whatever it was. The value expires after `ttl`; zero is never.
    pub fn set(self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>, ttl: Duration) -> Result<Version, Failure> {
        result(host::kv_set(self.0, key.as_ref(), value.as_ref(), 0, milliseconds(ttl)))
    }

    /// Sets a key if it has this version, which [`Store::get`] returned, or if it is not there: [`Version::ABSENT`].
    pub fn compare_and_set(
        self,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
        version: Version,
        ttl: Duration,
    ) -> Result<Version, Failure> {
        result(host::kv_set(self.0, key.as_ref(), value.as_ref(), version.condition(), milliseconds(ttl)))
    }

    /// Removes a key, whatever it was.
    pub fn delete(self, key: impl AsRef<[u8]>) -> Result<(), Failure> {
        result(host::kv_delete(self.0, key.as_ref(), 0)).map(drop)
    }

    /// Removes a key if it has this version.
    pub fn compare_and_delete(self, key: impl AsRef<[u8]>, version: Version) -> Result<(), Failure> {
        result(host::kv_delete(self.0, key.as_ref(), version.condition())).map(drop)
    }

    /// Adds to a counter and returns the sum. A key that is not there is 0, and expires `ttl` after this call, zero being
    /// never; one that is there keeps its end, so that counters of a time span begin anew after it.
    pub fn add(self, key: impl AsRef<[u8]>, delta: i64, ttl: Duration) -> Result<i64, Failure> {
        host::kv_add(self.0, key.as_ref(), delta, milliseconds(ttl)).map_err(|result| Failure::new(result, 0))
    }
}

fn result(packed: u64) -> Result<Version, Failure> {
    match ((packed >> 32) as u32, packed as u32) {
        (0, version) => Ok(Version(version)),
        (result, version) => Err(Failure::new(result, version)),
    }
}
