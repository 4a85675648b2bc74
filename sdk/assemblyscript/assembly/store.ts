import { Scratch, hostKVAdd, hostKVDelete, hostKVGet, hostKVSet } from "./host";
import { Result } from "./result";
import { byteLength, decode, encode } from "./text";

/** The version of a value in a Store: different after each change of it. 0 is that of a key that is not there. */
export type Version = u32;

const IF_ABSENT: u32 = 0xffffffff;

/** A value and its version. */
@final
export class Entry {
  constructor(public readonly value: string, public readonly version: Version) {}
}

/**
 * A store of keys and values that all instances of the plugin share, and other plugins that are granted it: see
 * Config.store. It outlives instances and reloads, not the gateway. Each operation is atomic. Keys have 1 to 1024 bytes.
 */
@final
export class Store {
  /** What the last operation on this store came to. */
  result: Result = Result.OK;

  constructor(private id: u32) {}

  /** The value of a key, and its version; null if it is not there, or has expired. */
  get(key: string): Entry | null {
    const keyLength = byteLength(key);
    let need: u32 = keyLength + 256;
    while (true) {
      const p = Scratch.room(need);
      encode(key, p);
      const room = Scratch.capacity - keyLength;
      const packed = hostKVGet(this.id, p, keyLength, p + keyLength, room);
      const length = <u32>packed;
      this.result = packed ? Result.OK : Result.Absent;
      if (!packed) return null;
      if (length <= room) return new Entry(decode(p + keyLength, length), <u32>(packed >> 32));
      need = keyLength + length;
    }
  }

  /** Sets a key, whatever it was, for ttl milliseconds; 0 is for ever. */
  set(key: string, value: string, ttl: i64 = 0): Result {
    return this.store(key, value, 0, ttl);
  }

  /** Sets a key if it has this version, which get returned: with 0, if it is not there. */
  compareAndSet(key: string, value: string, version: Version, ttl: i64 = 0): Result {
    return this.store(key, value, version ? version : IF_ABSENT, ttl);
  }

  /** Removes a key, whatever it was. */
  delete(key: string): Result {
    return this.remove(key, 0);
  }

  /** Removes a key if it has this version. */
  compareAndDelete(key: string, version: Version): Result {
    return this.remove(key, version ? version : IF_ABSENT);
  }

  /**
   * Adds to a counter and returns the sum; see result for whether it could. A key that is not there is 0, and expires ttl
   * milliseconds after this call; 0 is never. One that is there keeps its end, so that counters of a time span begin anew
   * after it.
   */
  add(key: string, delta: i64, ttl: i64 = 0): i64 {
    const n = byteLength(key), p = Scratch.room(n + 8);
    store<i64>(p, 0);
    encode(key, p + 8);
    this.result = hostKVAdd(this.id, p + 8, n, delta, max(ttl, 0), p);
    return load<i64>(p);
  }

  private store(key: string, value: string, version: u32, ttl: i64): Result {
    const n = byteLength(key), m = byteLength(value);
    const p = Scratch.room(n + m);
    encode(key, p);
    encode(value, p + n);
    return (this.result = <Result>(hostKVSet(this.id, p, n, p + n, m, version, max(ttl, 0)) >> 32));
  }

  private remove(key: string, version: u32): Result {
    const n = byteLength(key), p = Scratch.room(n);
    encode(key, p);
    return (this.result = <Result>(hostKVDelete(this.id, p, n, version) >> 32));
  }
}
