// What the gateway calls. Between its calls nothing is on the stack, and with the minimal runtime that is when garbage is
// collected: after configure, and after so many calls that memory need not grow for it. The incremental runtime does it
// itself, bit by bit.
import { place, resize } from "./answer";
import { callConfigure, callRequest, callResponse } from "./plugin";

const MINIMAL = 1; // of ASC_RUNTIME
const MOST_CALLS = 1024;
const PLENTY = 64; // pages of memory up to which collecting less often is tried again

let calls = 0;
let every = MOST_CALLS;
let pages = memory.size();

function tidy(): void {
  if (ASC_RUNTIME != MINIMAL) return;
  const grown = memory.size() > pages;
  if (++calls < every && !grown) return;
  if (grown) every = max(1, calls >> 1);
  else if (memory.size() <= PLENTY) every = min(MOST_CALLS, every << 1);
  __collect();
  calls = 0;
  pages = memory.size();
}

export function wasmgate_v1_arena(which: u32): u64 {
  return place(which);
}

export function wasmgate_v1_resize(which: u32, need: u32): u64 {
  return resize(which, need);
}

export function wasmgate_v1_configure(length: u32): u64 {
  const answer = callConfigure();
  if (ASC_RUNTIME == MINIMAL) __collect();
  pages = memory.size();
  return answer;
}

export function wasmgate_v1_request(length: u32): u64 {
  const answer = callRequest();
  tidy();
  return answer;
}

export function wasmgate_v1_response(length: u32): u64 {
  const answer = callResponse();
  tidy();
  return answer;
}
