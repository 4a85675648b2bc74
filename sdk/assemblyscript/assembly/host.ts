// Calls of the gateway.
import { byteLength, decode, encode } from "./text";

// @ts-ignore: decorator
@external("wasmgate_v1", "log")
declare function hostLog(level: u32, text: usize, textLength: u32): void;

// @ts-ignore: decorator
@external("wasmgate_v1", "get_header")
declare function hostGetHeader(message: u32, name: usize, nameLength: u32, k: u32, to: usize, toLength: u32): i32;

// @ts-ignore: decorator
@external("wasmgate_v1", "call")
export declare function hostCall(service: u32, request: usize, requestLength: u32, to: usize, toLength: u32): u64;

// @ts-ignore: decorator
@external("wasmgate_v1", "call_answer")
export declare function hostCallAnswer(to: usize, toLength: u32): i32;

// @ts-ignore: decorator
@external("wasmgate_v1", "kv_get")
export declare function hostKVGet(store: u32, key: usize, keyLength: u32, to: usize, toLength: u32): u64;

// @ts-ignore: decorator
@external("wasmgate_v1", "kv_set")
export declare function hostKVSet(store: u32, key: usize, keyLength: u32, value: usize, valueLength: u32, version: u32, ttl: u64): u64;

// @ts-ignore: decorator
@external("wasmgate_v1", "kv_delete")
export declare function hostKVDelete(store: u32, key: usize, keyLength: u32, version: u32): u64;

// @ts-ignore: decorator
@external("wasmgate_v1", "kv_add")
export declare function hostKVAdd(store: u32, key: usize, keyLength: u32, delta: i64, ttl: u64, sum: usize): u32;

// @ts-ignore: decorator
@external("wasmgate_v1", "read_body")
export declare function hostReadBody(message: u32, offset: u32, to: usize, toLength: u32): i32;

// @ts-ignore: decorator
@external("wasmgate_v1", "metric")
export declare function hostMetric(id: u32, value: f64): void;

/** A level of the log. */
export enum Level {
  Debug,
  Info,
  Warn,
  Error,
}

// Scratch is memory for what goes to the gateway and comes from it, outside of the garbage collector's.
export namespace Scratch {
  let buffer: usize = 0;
  export let capacity: u32 = 0;

  // room returns n bytes or more, which stay until the next call.
  export function room(n: u32): usize {
    if (n > capacity) {
      if (buffer) heap.free(buffer);
      capacity = max(n, max(2 * capacity, 1024));
      buffer = heap.alloc(capacity);
    }
    return buffer;
  }
}

/** Writes a line to the gateway's log at once, whatever is decided afterwards. The gateway limits how many lines a plugin writes. */
export function log(level: Level, text: string): void {
  const n = byteLength(text), p = Scratch.room(n);
  encode(text, p);
  hostLog(level, p, n);
}

export function lookup(message: u32, name: string, k: u32): string | null {
  const nameLength = byteLength(name);
  let need: u32 = nameLength;
  while (true) {
    const p = Scratch.room(need + 256);
    encode(name, p);
    const n = hostGetHeader(message, p, nameLength, k, p + nameLength, Scratch.capacity - nameLength);
    if (n < 0) return null;
    if (<u32>n <= Scratch.capacity - nameLength) return decode(p + nameLength, n);
    need = nameLength + n;
  }
}

/** What a failed assertion, an exception or an access out of bounds calls: the text goes to the log. asconfig.json names it. */
// @ts-ignore: decorator
@global
export function wasmgate_abort(message: string | null, file: string | null, line: u32, column: u32): void {
  log(Level.Error, (message ? message : "abort") + " at " + (file ? file : "?") + ":" + line.toString() + ":" + column.toString());
  unreachable();
}
