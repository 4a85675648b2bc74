//! Calls of the gateway. In builds for other machines than WebAssembly the tester answers them.

use crate::Level;
use alloc::vec::Vec;

/// Writes a line to the gateway's log at once, whatever is decided afterwards. The gateway limits how many lines a plugin
/// writes.
pub fn log(level: Level, text: impl AsRef<[u8]>) {
    imports::log(level as u32, text.as_ref());
}

pub(crate) fn get_header(message: u32, name: &[u8], k: usize) -> Option<Vec<u8>> {
    imports::get_header(message, name, k)
}

#[cfg(target_arch = "wasm32")]
mod imports {
    use alloc::vec::Vec;

    #[link(wasm_import_module = "wasmgate_v1")]
    extern "C" {
        #[link_name = "log"]
        fn import_log(level: u32, ptr: *const u8, len: usize);
        #[link_name = "get_header"]
        fn import_get_header(message: u32, name: *const u8, name_len: usize, index: usize, out: *mut u8, cap: usize) -> i32;
    }

    pub fn log(level: u32, text: &[u8]) {
        // SAFETY: the gateway reads the text during the call.
        unsafe { import_log(level, text.as_ptr(), text.len()) }
    }

    pub fn get_header(message: u32, name: &[u8], k: usize) -> Option<Vec<u8>> {
        let mut out = Vec::with_capacity(256);
        loop {
            // SAFETY: the gateway reads the name and writes at most as many bytes as there is room for.
            let n = unsafe { import_get_header(message, name.as_ptr(), name.len(), k, out.as_mut_ptr(), out.capacity()) };
            if n < 0 {
                return None;
            }
            if n as usize <= out.capacity() {
                // SAFETY: the gateway wrote these bytes.
                unsafe { out.set_len(n as usize) };
                return Some(out);
            }
            out.reserve_exact(n as usize);
        }
    }
}

#[cfg(all(not(target_arch = "wasm32"), feature = "std"))]
use crate::testing::host as imports;

#[cfg(all(not(target_arch = "wasm32"), not(feature = "std")))]
mod imports {
    pub fn log(_: u32, _: &[u8]) {}
    pub fn get_header(_: u32, _: &[u8], _: usize) -> Option<alloc::vec::Vec<u8>> {
        None
    }
}
