// The arenas, and the answer under way. They are outside of the garbage collector's memory, so that they stay where the
// gateway knows them.
import { byteLength, encode } from "./text";

const SIZE: u32 = 64 << 10; // the capacity of each arena at the start
const MAX_TEXT: u32 = 4096;

export const enum Code {
  OK,
  NoMatch,
  Route,
  Deny,
  Operations,
  Error,
}

export const enum Op {
  Upstream = 0x01,
  Address = 0x02,
  Timeout = 0x03,
  HashKey = 0x04,
  Method = 0x10,
  Authority = 0x11,
  Path = 0x12,
  Query = 0x13,
  SetHeader = 0x20,
  AppendHeader = 0x21,
  RemoveHeader = 0x22,
  Respond = 0x30,
  Attribute = 0x40,
  Log = 0x41,
  Context = 0x50,
  Rematch = 0x51,
  SetBody = 0x60,
  WantBody = 0x61,
  Keep = 0x62,
}

let view: usize = heap.alloc(SIZE); // the request arena
let viewCapacity: u32 = SIZE;
let arena: usize = heap.alloc(SIZE); // the answer arena, as the gateway knows it
let arenaCapacity: u32 = SIZE;
let out: usize = arena; // the place that the answer is written to: the arena, until it is outgrown
let capacity: u32 = SIZE;
let length: u32 = 0;

export function pack(code: u32, value: u32): u64 {
  return <u64>code << 32 | <u64>value;
}

// message is where the view is that the gateway handed over.
export function message(): usize {
  return view;
}

// pointer is where the list under way is.
export function pointer(): usize {
  return out;
}

// written is how long the list under way is.
export function written(): u32 {
  return length;
}

// place answers wasmgate_v1_arena.
export function place(which: u32): u64 {
  if (which == 0) return pack(viewCapacity, <u32>view);
  return which == 1 ? pack(arenaCapacity, <u32>arena) : 0;
}

// resize answers wasmgate_v1_resize: a larger request arena, or the place of the answer that outgrew its arena.
export function resize(which: u32, need: u32): u64 {
  if (which == 0) {
    heap.free(view); // two of them need not fit
    viewCapacity = max(need, 2 * viewCapacity);
    view = heap.alloc(viewCapacity);
  } else if (which == 1 && out != arena) {
    heap.free(arena);
    arena = out;
    arenaCapacity = capacity;
  }
  return place(which);
}

export function begin(): void {
  if (out != arena) heap.free(out);
  out = arena;
  capacity = arenaCapacity;
  length = 0;
}

// The list of a request of the plugin's own, and the answer under way while it is written.
let request: usize = 0;
let requestCapacity: u32 = 0;
let savedOut: usize = 0;
let savedCapacity: u32 = 0;
let savedLength: u32 = 0;

// beginRequest has what is written go to the list of a request, until endRequest.
export function beginRequest(): void {
  savedOut = out;
  savedCapacity = capacity;
  savedLength = length;
  if (!request) {
    requestCapacity = 4096;
    request = heap.alloc(requestCapacity);
  }
  out = request;
  capacity = requestCapacity;
  length = 0;
}

export function endRequest(): void {
  request = out;
  requestCapacity = capacity;
  out = savedOut;
  capacity = savedCapacity;
  length = savedLength;
}

// room makes room for n more bytes.
function room(n: u32): usize {
  if (n > capacity - length) more(n);
  const p = out + length;
  length += n;
  return p;
}

function more(n: u32): void {
  capacity = max(2 * capacity, length + n);
  const grown = heap.alloc(capacity);
  memory.copy(grown, out, length);
  if (out != arena) heap.free(out);
  out = grown;
}

// record begins a record with a body of n bytes.
function record(kind: u32, n: u32): usize {
  const p = room(8 + n);
  store<u32>(p, kind);
  store<u32>(p, n, 4);
  return p + 8;
}

function text(p: usize, s: string, n: u32): usize {
  store<u32>(p, n);
  return encode(s, p + 4);
}

export function op(kind: u32): void {
  record(kind, 0);
}

export function op32(kind: u32, v: u32): void {
  store<u32>(record(kind, 4), v);
}

export function op64(kind: u32, v: u64): void {
  store<u64>(record(kind, 8), v);
}

export function opText(kind: u32, s: string): void {
  const n = byteLength(s);
  text(record(kind, 4 + n), s, n);
}

export function opBytes(kind: u32, bytes: usize, n: u32): void {
  const p = record(kind, 4 + n);
  store<u32>(p, n);
  memory.copy(p + 4, bytes, n);
}

export function op32x3(kind: u32, a: u32, b: u32, c: u32): void {
  const p = record(kind, 12);
  store<u32>(p, a);
  store<u32>(p, b, 4);
  store<u32>(p, c, 8);
}

// metric writes the record that declares a metric.
export function metric(type: u32, name: string, description: string, bounds: f64[]): void {
  const m = byteLength(name), n = byteLength(description);
  let p = record(10, 16 + m + n + (bounds.length << 3));
  store<u32>(p, type);
  p = text(text(p + 4, name, m), description, n);
  store<u32>(p, bounds.length);
  p += 4;
  for (let i = 0; i < bounds.length; i++, p += 8) store<f64>(p, bounds[i]);
}

export function opPair(kind: u32, a: string, b: string): void {
  const m = byteLength(a), n = byteLength(b);
  text(text(record(kind, 8 + m + n), a, m), b, n);
}

export function opLog(level: u32, s: string): void {
  const n = byteLength(s);
  const p = record(Op.Log, 8 + n);
  store<u32>(p, level);
  text(p + 4, s, n);
}

// respond writes an answer; fields has names and values in turn.
export function respond(status: u32, body: string, fields: string[]): void {
  const bodyLength = byteLength(body), count = fields.length & ~1;
  let n = 12 + bodyLength;
  for (let i = 0; i < count; i++) n += 4 + byteLength(fields[i]);
  let p = record(Op.Respond, n);
  store<u32>(p, status);
  p = text(p + 4, body, bodyLength);
  store<u32>(p, count >> 1);
  p += 4;
  for (let i = 0; i < count; i++) p = text(p, fields[i], byteLength(fields[i]));
}

// fail is the answer that could not decide, whatever was written before.
export function fail(s: string): u64 {
  begin();
  const n = byteLength(s);
  encode(s, room(n));
  length = min(n, MAX_TEXT);
  return settle(Code.Error);
}

// settle is the answer that has what was written.
export function settle(code: u32): u64 {
  if (out != arena && length <= arenaCapacity) {
    const n = length;
    memory.copy(arena, out, n);
    begin();
    length = n;
  }
  return pack(code, length);
}
