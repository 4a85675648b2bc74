//! policy is a guest in Rust, without a crate: it counts requests in its own memory, says so in a field of the request, reads
//! the body, and signs the answer.

use std::cell::RefCell;
use std::collections::HashMap;

#[link(wasm_import_module = "http_handler")]
extern "C" {
    fn enable_features(features: u32) -> u32;
    fn get_config(buf: *mut u8, limit: u32) -> u32;
    fn get_uri(buf: *mut u8, limit: u32) -> u32;
    fn set_header_value(kind: u32, name: *const u8, name_len: u32, value: *const u8, value_len: u32);
    fn read_body(kind: u32, buf: *mut u8, limit: u32) -> u64;
    fn write_body(kind: u32, body: *const u8, len: u32);
}

thread_local! {
    static CALLS: RefCell<HashMap<String, u32>> = RefCell::new(HashMap::new());
}

/// Reads a string of any length.
fn text(get: unsafe extern "C" fn(*mut u8, u32) -> u32) -> String {
    let mut buf = vec![0; 16];
    loop {
        let n = unsafe { get(buf.as_mut_ptr(), buf.len() as u32) } as usize;
        let fits = n <= buf.len();
        buf.resize(n, 0);
        if fits {
            return String::from_utf8_lossy(&buf).into_owned();
        }
    }
}

fn body(kind: u32) -> String {
    let (mut all, mut buf) = (Vec::new(), vec![0; 1000]);
    loop {
        let got = unsafe { read_body(kind, buf.as_mut_ptr(), buf.len() as u32) };
        all.extend_from_slice(&buf[..got as u32 as usize]);
        if got >> 32 == 1 {
            return String::from_utf8_lossy(&all).into_owned();
        }
    }
}

#[no_mangle]
pub extern "C" fn _initialize() {
    unsafe { enable_features(3) };
}

#[no_mangle]
pub extern "C" fn handle_request() -> u64 {
    let uri = text(get_uri);
    let count = CALLS.with(|calls| *calls.borrow_mut().entry(uri.clone()).and_modify(|n| *n += 1).or_insert(1));
    let (name, value) = ("x-policy", format!("{} {} {} {}", text(get_config), uri, count, body(0).len()));
    unsafe { set_header_value(0, name.as_ptr(), name.len() as u32, value.as_ptr(), value.len() as u32) };
    7 << 32 | 1
}

#[no_mangle]
pub extern "C" fn handle_response(context: u32, is_error: u32) {
    let signed = format!("{}, signed {} {}", body(1), context, is_error);
    unsafe { write_body(1, signed.as_ptr(), signed.len() as u32) };
}
