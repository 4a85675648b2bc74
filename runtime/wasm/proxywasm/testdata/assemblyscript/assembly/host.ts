// What version 0.1.8 of the SDK does not have, or has wrong.

// @ts-ignore: decorator
@external("env", "proxy_set_buffer_bytes")
declare function proxy_set_buffer_bytes(type: u32, start: u32, size: u32, data: usize, length: u32): u32;
// @ts-ignore: decorator
@external("env", "proxy_get_shared_data")
declare function proxy_get_shared_data(key: usize, length: u32, data: usize, size: usize, cas: usize): u32;
// @ts-ignore: decorator
@external("env", "proxy_set_shared_data")
declare function proxy_set_shared_data(key: usize, length: u32, data: usize, size: u32, cas: u32): u32;
// @ts-ignore: decorator
@external("env", "proxy_register_shared_queue")
declare function proxy_register_shared_queue(name: usize, length: u32, token: usize): u32;
// @ts-ignore: decorator
@external("env", "proxy_enqueue_shared_queue")
declare function proxy_enqueue_shared_queue(token: u32, data: usize, length: u32): u32;
// @ts-ignore: decorator
@external("env", "proxy_dequeue_shared_queue")
declare function proxy_dequeue_shared_queue(token: u32, data: usize, size: usize): u32;

// Three words that the host writes to.
let words = new Uint32Array(3);

function word(i: i32): usize {
  return changetype<usize>(words.buffer) + 4 * i;
}

function text(): string {
  let s = words[1] == 0 ? "" : String.UTF8.decodeUnsafe(<usize>words[0], <usize>words[1], false);
  words[0] = words[1] = 0;
  return s;
}

/** Replaces a body. */
export function set_body(type: u32, value: string): void {
  let b = String.UTF8.encode(value);
  assert(proxy_set_buffer_bytes(type, 0, 0x7fffffff, changetype<usize>(b), b.byteLength) == 0);
}

/** Adds one to a number in the shared data, and returns it. */
export function add(key: string): u32 {
  let k = String.UTF8.encode(key);
  let n: u32 = 0;
  let swapped = false;
  while (!swapped) {
    words[2] = 0;
    n = 1;
    if (proxy_get_shared_data(changetype<usize>(k), k.byteLength, word(0), word(1), word(2)) == 0) {
      n = <u32>parseInt(text()) + 1;
    }
    let v = String.UTF8.encode(n.toString());
    swapped = proxy_set_shared_data(changetype<usize>(k), k.byteLength, changetype<usize>(v), v.byteLength, words[2]) == 0;
  }
  return n;
}

export function register_queue(name: string): u32 {
  let b = String.UTF8.encode(name);
  assert(proxy_register_shared_queue(changetype<usize>(b), b.byteLength, word(0)) == 0);
  return words[0];
}

export function enqueue(token: u32, item: string): void {
  let b = String.UTF8.encode(item);
  assert(proxy_enqueue_shared_queue(token, changetype<usize>(b), b.byteLength) == 0);
}

export function dequeue(token: u32): string {
  return proxy_dequeue_shared_queue(token, word(0), word(1)) == 0 ? text() : "";
}
