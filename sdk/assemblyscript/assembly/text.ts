// Strings and bytes. Bytes that are not UTF-8 are kept: see index.ts.

// utf8 returns how many bytes the character at p has, 1 to 4; 0 if none is there.
function utf8(p: usize, end: usize): usize {
  const b = load<u8>(p);
  if (b < 0x80) return 1;
  if (b < 0xc2 || b > 0xf4 || p + 1 >= end) return 0;
  const second = load<u8>(p, 1);
  if (b < 0xe0) return (second & 0xc0) == 0x80 ? 2 : 0;
  let low: u8 = 0x80, high: u8 = 0xbf;
  if (b == 0xe0) low = 0xa0;
  else if (b == 0xed) high = 0x9f; // surrogates
  else if (b == 0xf0) low = 0x90;
  else if (b == 0xf4) high = 0x8f;
  if (second < low || second > high || p + 2 >= end || (load<u8>(p, 2) & 0xc0) != 0x80) return 0;
  if (b < 0xf0) return 3;
  return p + 3 < end && (load<u8>(p, 3) & 0xc0) == 0x80 ? 4 : 0;
}

// decode makes a string of bytes.
export function decode(p: usize, len: usize): string {
  if (len == 0) return "";
  const end = p + len;
  let ascii = p;
  while (ascii + 8 <= end && (load<u64>(ascii) & 0x8080808080808080) == 0) ascii += 8;
  while (ascii < end && load<u8>(ascii) < 0x80) ascii++;
  let units = ascii - p;
  for (let q = ascii; q < end;) {
    const n = utf8(q, end);
    units += n == 4 ? 2 : 1;
    q += max(n, 1);
  }
  const s = changetype<string>(__new(units << 1, idof<string>()));
  let out = changetype<usize>(s);
  for (; p < ascii; p++, out += 2) store<u16>(out, load<u8>(p));
  while (p < end) {
    const n = utf8(p, end);
    const c = n ? codePoint(p, n) : <u32>0xdc00 + <u32>load<u8>(p);
    p += max(n, 1);
    if (c < 0x10000) {
      store<u16>(out, c);
      out += 2;
    } else {
      store<u16>(out, 0xd800 + ((c - 0x10000) >> 10));
      store<u16>(out, 0xdc00 + ((c - 0x10000) & 0x3ff), 2);
      out += 4;
    }
  }
  return s;
}

function codePoint(p: usize, n: usize): u32 {
  const b = <u32>load<u8>(p);
  if (n == 1) return b;
  const second = <u32>load<u8>(p, 1) & 0x3f;
  if (n == 2) return (b & 0x1f) << 6 | second;
  const third = <u32>load<u8>(p, 2) & 0x3f;
  if (n == 3) return (b & 0x0f) << 12 | second << 6 | third;
  return (b & 0x07) << 18 | second << 12 | third << 6 | <u32>load<u8>(p, 3) & 0x3f;
}

// equals says whether a string has these bytes. It is for names, which are ASCII.
export function equals(s: string, p: usize, len: u32): bool {
  if (<u32>s.length != len) return false;
  for (let i: u32 = 0; i < len; i++) {
    if (s.charCodeAt(i) != <i32>load<u8>(p + i)) return false;
  }
  return true;
}

/** The bytes of a string, and the string of bytes. */
export function toBytes(s: string): Uint8Array {
  const bytes = new Uint8Array(byteLength(s));
  encode(s, bytes.dataStart);
  return bytes;
}

/** See toBytes. */
export function toText(bytes: Uint8Array): string {
  return decode(bytes.dataStart, bytes.length);
}

/** How many bytes a string has in a message. */
export function byteLength(s: string): i32 {
  let p = changetype<usize>(s);
  const end = p + (<usize>s.length << 1);
  while (p + 8 <= end && (load<u64>(p) & 0xff80ff80ff80ff80) == 0) p += 8;
  let n = <i32>((p - changetype<usize>(s)) >> 1);
  for (; p < end; p += 2) {
    const c = <u32>load<u16>(p);
    if (c < 0x80) n++;
    else if (c < 0x800) n += 2;
    else if (isPair(p, end)) {
      n += 4;
      p += 2;
    } else if (c >= 0xdc80 && c <= 0xdcff) n++;
    else n += 3;
  }
  return n;
}

function isPair(p: usize, end: usize): bool {
  return (load<u16>(p) & 0xfc00) == 0xd800 && p + 2 < end && (load<u16>(p, 2) & 0xfc00) == 0xdc00;
}

// encode writes a string's bytes to out and returns the place behind them.
export function encode(s: string, out: usize): usize {
  let p = changetype<usize>(s);
  const end = p + (<usize>s.length << 1);
  for (; p < end; p += 2) {
    let c = <u32>load<u16>(p);
    if (c < 0x80) {
      store<u8>(out++, <u8>c);
      continue;
    }
    if (c < 0x800) {
      store<u8>(out++, <u8>(0xc0 | c >> 6));
      store<u8>(out++, <u8>(0x80 | c & 0x3f));
      continue;
    }
    if (c >= 0xd800 && c < 0xe000) {
      if (isPair(p, end)) {
        c = 0x10000 + ((c - 0xd800) << 10) + (<u32>load<u16>(p, 2) - 0xdc00);
        p += 2;
        store<u8>(out++, <u8>(0xf0 | c >> 18));
        store<u8>(out++, <u8>(0x80 | c >> 12 & 0x3f));
        store<u8>(out++, <u8>(0x80 | c >> 6 & 0x3f));
        store<u8>(out++, <u8>(0x80 | c & 0x3f));
        continue;
      }
      if (c >= 0xdc80 && c <= 0xdcff) {
        store<u8>(out++, <u8>c);
        continue;
      }
      c = 0xfffd;
    }
    store<u8>(out++, <u8>(0xe0 | c >> 12));
    store<u8>(out++, <u8>(0x80 | c >> 6 & 0x3f));
    store<u8>(out++, <u8>(0x80 | c & 0x3f));
  }
  return out;
}

/**
 * Whether path is prefix or lies below it: "/admin" and "/admin/x" are under "/admin", "/administer" is not. The prefix
 * has no '/' at its end.
 */
export function pathUnder(path: string, prefix: string): bool {
  return path.startsWith(prefix) && (path.length == prefix.length || path.charCodeAt(prefix.length) == 0x2f);
}

/** A string with the letters A to Z in lower case, as names in HTTP are compared. */
export function asciiLower(s: string): string {
  for (let i = 0; i < s.length; i++) {
    const c = s.charCodeAt(i);
    if (c >= 0x41 && c <= 0x5a) return lowerFrom(s, i);
  }
  return s;
}

function lowerFrom(s: string, at: i32): string {
  const t = changetype<string>(__new(<usize>s.length << 1, idof<string>()));
  const from = changetype<usize>(s), to = changetype<usize>(t);
  memory.copy(to, from, <usize>s.length << 1);
  for (let p = <usize>at << 1; p < <usize>s.length << 1; p += 2) {
    const c = load<u16>(from + p);
    if (c >= 0x41 && c <= 0x5a) store<u16>(to + p, c | 0x20);
  }
  return t;
}

/** The number that decimal digits say; -1 if there is anything else, or it does not fit into 63 bits. */
export function toNumber(s: string): i64 {
  if (s.length == 0) return -1;
  let n: i64 = 0;
  for (let i = 0; i < s.length; i++) {
    const d = <i64>s.charCodeAt(i) - 0x30;
    if (d < 0 || d > 9 || n > (i64.MAX_VALUE - d) / 10) return -1;
    n = n * 10 + d;
  }
  return n;
}
