// What the gateway calls.
import { place, resize } from "./answer";
import { callConfigure, callPiece, callRequest, callResponse, callTick } from "./plugin";

export function wasmgate_v1_arena(which: u32): u64 {
  return place(which);
}

export function wasmgate_v1_resize(which: u32, need: u32): u64 {
  return resize(which, need);
}

export function wasmgate_v1_configure(length: u32): u64 {
  return callConfigure();
}

export function wasmgate_v1_request(length: u32): u64 {
  return callRequest();
}

export function wasmgate_v1_response(length: u32): u64 {
  return callResponse();
}

export function wasmgate_v1_body(length: u32): u64 {
  return callPiece();
}

export function wasmgate_v1_tick(length: u32): u64 {
  return callTick();
}
