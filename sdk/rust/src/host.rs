//! Calls of the gateway. In builds for other machines than WebAssembly the tester answers them.

use crate::{Failure, Level};
use alloc::vec::Vec;

/// Writes a line to the gateway's log at once, whatever is decided afterwards. The gateway limits how many lines a plugin
/// writes.
pub fn log(level: Level, text: impl AsRef<[u8]>) {
    imports::log(level as u32, text.as_ref());
}

pub(crate) fn get_header(message: u32, name: &[u8], k: usize) -> Option<Vec<u8>> {
    let mut value = alloc::vec![0; VALUE];
    loop {
        let n = usize::try_from(imports::get_header(message, name, k, &mut value)).ok()?;
        let fits = n <= value.len();
        value.resize(n, 0);
        if fits {
            return Some(value);
        }
    }
}

pub(crate) fn read_body(message: u32, offset: usize, to: &mut [u8]) -> Option<usize> {
    usize::try_from(imports::read_body(message, offset, to)).ok()
}

pub(crate) fn metric(id: u32, value: f64) {
    imports::metric(id, value);
}

/// What answers of calls, and values, usually fit into.
const ANSWER: usize = 4096;
const VALUE: usize = 256;

pub(crate) fn call(service: u32, request: &[u8]) -> Result<Vec<u8>, Failure> {
    let mut answer = alloc::vec![0; ANSWER];
    let packed = imports::call(service, request, &mut answer);
    let (result, n) = ((packed >> 32) as u32, packed as u32 as usize);
    if result != 0 {
        return Err(Failure::new(result, 0));
    }
    answer.resize(n, 0);
    if n > ANSWER {
        imports::call_answer(&mut answer);
    }
    Ok(answer)
}

pub(crate) fn kv_get(store: u32, key: &[u8]) -> Option<(Vec<u8>, u32)> {
    let mut value = alloc::vec![0; VALUE];
    loop {
        let packed = imports::kv_get(store, key, &mut value);
        let (version, n) = ((packed >> 32) as u32, packed as u32 as usize);
        if version == 0 {
            return None;
        }
        let fits = n <= value.len();
        value.resize(n, 0);
        if fits {
            return Some((value, version));
        }
    }
}

pub(crate) fn kv_set(store: u32, key: &[u8], value: &[u8], version: u32, ttl: u64) -> u64 {
    imports::kv_set(store, key, value, version, ttl)
}

pub(crate) fn kv_delete(store: u32, key: &[u8], version: u32) -> u64 {
    imports::kv_delete(store, key, version)
}

pub(crate) fn kv_add(store: u32, key: &[u8], delta: i64, ttl: u64) -> Result<i64, u32> {
    let mut sum = 0;
    match imports::kv_add(store, key, delta, ttl, &mut sum) {
        0 => Ok(sum),
        result => Err(result),
    }
}

/// The gateway reads and writes what it is given during the call, and nothing behind its end: that is what makes these safe.
#[cfg(target_arch = "wasm32")]
mod imports {
    mod raw {
        #[link(wasm_import_module = "wasmgate_v1")]
        extern "C" {
            pub fn log(level: u32, text: *const u8, text_len: usize);
            pub fn get_header(message: u32, name: *const u8, name_len: usize, k: usize, to: *mut u8, to_len: usize) -> i32;
            pub fn call(service: u32, request: *const u8, request_len: usize, to: *mut u8, to_len: usize) -> u64;
            pub fn call_answer(to: *mut u8, to_len: usize) -> i32;
            pub fn kv_get(store: u32, key: *const u8, key_len: usize, to: *mut u8, to_len: usize) -> u64;
            pub fn kv_set(
                store: u32,
                key: *const u8,
                key_len: usize,
                value: *const u8,
                value_len: usize,
                version: u32,
                ttl: u64,
            ) -> u64;
            pub fn kv_delete(store: u32, key: *const u8, key_len: usize, version: u32) -> u64;
            pub fn kv_add(store: u32, key: *const u8, key_len: usize, delta: i64, ttl: u64, sum: *mut i64) -> u32;
            pub fn read_body(message: u32, offset: usize, to: *mut u8, to_len: usize) -> i32;
            pub fn metric(id: u32, value: f64);
        }
    }

    pub fn log(level: u32, text: &[u8]) {
        // SAFETY: see above.
        unsafe { raw::log(level, text.as_ptr(), text.len()) }
    }

    pub fn get_header(message: u32, name: &[u8], k: usize, to: &mut [u8]) -> i32 {
        // SAFETY: see above.
        unsafe { raw::get_header(message, name.as_ptr(), name.len(), k, to.as_mut_ptr(), to.len()) }
    }

    pub fn call(service: u32, request: &[u8], to: &mut [u8]) -> u64 {
        // SAFETY: see above.
        unsafe { raw::call(service, request.as_ptr(), request.len(), to.as_mut_ptr(), to.len()) }
    }

    pub fn call_answer(to: &mut [u8]) -> i32 {
        // SAFETY: see above.
        unsafe { raw::call_answer(to.as_mut_ptr(), to.len()) }
    }

    pub fn kv_get(store: u32, key: &[u8], to: &mut [u8]) -> u64 {
        // SAFETY: see above.
        unsafe { raw::kv_get(store, key.as_ptr(), key.len(), to.as_mut_ptr(), to.len()) }
    }

    pub fn kv_set(store: u32, key: &[u8], value: &[u8], version: u32, ttl: u64) -> u64 {
        // SAFETY: see above.
        unsafe { raw::kv_set(store, key.as_ptr(), key.len(), value.as_ptr(), value.len(), version, ttl) }
    }

    pub fn kv_delete(store: u32, key: &[u8], version: u32) -> u64 {
        // SAFETY: see above.
        unsafe { raw::kv_delete(store, key.as_ptr(), key.len(), version) }
    }

    pub fn kv_add(store: u32, key: &[u8], delta: i64, ttl: u64, sum: &mut i64) -> u32 {
        // SAFETY: see above.
        unsafe { raw::kv_add(store, key.as_ptr(), key.len(), delta, ttl, sum) }
    }

    pub fn read_body(message: u32, offset: usize, to: &mut [u8]) -> i32 {
        // SAFETY: see above.
        unsafe { raw::read_body(message, offset, to.as_mut_ptr(), to.len()) }
    }

    pub fn metric(id: u32, value: f64) {
        // SAFETY: numbers only.
        unsafe { raw::metric(id, value) }
    }
}

#[cfg(all(not(target_arch = "wasm32"), feature = "std"))]
use crate::testing::host as imports;

/// Without a gateway and without a tester there is nothing.
#[cfg(all(not(target_arch = "wasm32"), not(feature = "std")))]
mod imports {
    pub fn log(_: u32, _: &[u8]) {}
    pub fn get_header(_: u32, _: &[u8], _: usize, _: &mut [u8]) -> i32 {
        -1
    }
    pub fn call(_: u32, _: &[u8], _: &mut [u8]) -> u64 {
        2 << 32
    }
    pub fn call_answer(_: &mut [u8]) -> i32 {
        -1
    }
    pub fn kv_get(_: u32, _: &[u8], _: &mut [u8]) -> u64 {
        0
    }
    pub fn kv_set(_: u32, _: &[u8], _: &[u8], _: u32, _: u64) -> u64 {
        9 << 32
    }
    pub fn kv_delete(_: u32, _: &[u8], _: u32) -> u64 {
        10 << 32
    }
    pub fn kv_add(_: u32, _: &[u8], _: i64, _: u64, _: &mut i64) -> u32 {
        9
    }
    pub fn read_body(_: u32, _: usize, _: &mut [u8]) -> i32 {
        -1
    }
    pub fn metric(_: u32, _: f64) {}
}
