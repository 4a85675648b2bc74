import { message } from "./answer";
import { decode } from "./text";

const ABSENT: u32 = 0xffffffff;
const LIST: u32 = 0x80000000;

// View reads the view that the gateway handed over. Offsets are the gateway's own.
export namespace View {
  export function u32At(at: u32): u32 {
    return load<u32>(message() + at);
  }

  export function u64At(at: u32): u64 {
    return load<u64>(message() + at);
  }

  export function isAbsent(at: u32): bool {
    return u32At(at) == ABSENT;
  }

  export function pointer(at: u32): usize {
    return message() + u32At(at);
  }

  export function length(at: u32): u32 {
    return isAbsent(at) ? 0 : u32At(at + 4);
  }

  // text is the string whose offset and length are at at; "" if it is absent.
  export function text(at: u32): string {
    return isAbsent(at) ? "" : decode(pointer(at), length(at));
  }

  // slot is where the pair of slot i is, or 0.
  function slot(i: u32): u32 {
    return i < u32At(44) ? u32At(0) + 8 * i : 0;
  }

  export function count(i: u32): u32 {
    const at = slot(i);
    if (!at || isAbsent(at)) return 0;
    const n = u32At(at + 4);
    return n & LIST ? n & ~LIST : 1;
  }

  // valueAt is where the pair of value k of slot i is, or 0.
  export function valueAt(i: u32, k: u32): u32 {
    if (k >= count(i)) return 0;
    const at = slot(i);
    return u32At(at + 4) & LIST ? u32At(at) + 8 * k : at;
  }
}
