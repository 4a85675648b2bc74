// What most plugins need of JSON: a walk over the values of a configuration.
import { Config } from "./config";
import { decode } from "./text";

const MAX_DEPTH = 16;
const NOT_JSON = "the configuration is not JSON";
const TOO_DEEP = "the configuration is nested too deeply";

type Each = (config: Config, path: string[], value: string) => string | null;

export function walk(config: Config, p: usize, length: u32, each: Each): string | null {
  if (length == 0) return null;
  const w = new Walker(config, p, p + length, each);
  const error = w.value();
  if (error !== null) return error;
  w.space();
  return w.p == w.end ? null : NOT_JSON;
}

@final
class Walker {
  path: string[] = [];
  text: string = ""; // what string read

  constructor(public config: Config, public p: usize, public end: usize, public each: Each) {}

  space(): void {
    while (this.p < this.end) {
      const c = load<u8>(this.p);
      if (c != 0x20 && c != 0x09 && c != 0x0a && c != 0x0d) break;
      this.p++;
    }
  }

  // take consumes c, with the space before it, if it comes next.
  take(c: u8): bool {
    this.space();
    if (this.p == this.end || load<u8>(this.p) != c) return false;
    this.p++;
    return true;
  }

  value(): string | null {
    if (this.path.length > MAX_DEPTH) return TOO_DEEP;
    this.space();
    if (this.p == this.end) return NOT_JSON;
    const c = load<u8>(this.p);
    if (c == 0x7b) return this.members(0x7d); // { }
    if (c == 0x5b) return this.members(0x5d); // [ ]
    if (c == 0x22) {
      if (!this.string()) return NOT_JSON;
      return this.each(this.config, this.path, this.text);
    }
    const start = this.p;
    while (this.p < this.end && isLiteral(load<u8>(this.p))) this.p++;
    if (this.p == start) return NOT_JSON;
    return this.each(this.config, this.path, decode(start, this.p - start));
  }

  // members reads an object or an array up to its closing bracket.
  members(closing: u8): string | null {
    this.p++;
    if (this.take(closing)) return null;
    let i = 0;
    while (true) {
      let name: string;
      if (closing == 0x7d) {
        this.space();
        if (!this.string()) return NOT_JSON;
        name = this.text;
        if (!this.take(0x3a)) return NOT_JSON;
      } else {
        name = (i++).toString();
      }
      this.path.push(name);
      const error = this.value();
      if (error !== null) return error;
      this.path.pop();
      if (this.take(closing)) return null;
      if (!this.take(0x2c)) return NOT_JSON;
    }
  }

  // string reads a string, which comes next, into text; false if there is none.
  string(): bool {
    if (this.p == this.end || load<u8>(this.p) != 0x22) return false;
    let plain = ++this.p;
    let s = "";
    while (this.p < this.end) {
      const c = load<u8>(this.p);
      if (c < 0x20) return false;
      if (c == 0x22) {
        this.text = s + decode(plain, this.p - plain);
        this.p++;
        return true;
      }
      if (c != 0x5c) {
        this.p++;
        continue;
      }
      s += decode(plain, this.p - plain);
      const e = this.escape();
      if (e === null) return false;
      s += e;
      plain = this.p;
    }
    return false;
  }

  // escape reads an escape, which begins with a backslash.
  escape(): string | null {
    if (this.end - this.p < 2) return null;
    const c = load<u8>(this.p, 1);
    if (c == 0x75) return this.codePoint(); // u
    this.p += 2;
    switch (c) {
      case 0x22:
      case 0x5c:
      case 0x2f:
        return String.fromCharCode(c);
      case 0x62:
        return "\b";
      case 0x66:
        return "\f";
      case 0x6e:
        return "\n";
      case 0x72:
        return "\r";
      case 0x74:
        return "\t";
    }
    return null;
  }

  // codePoint reads \uXXXX, or two of them that make a surrogate pair.
  codePoint(): string | null {
    const high = this.hex();
    if (high < 0) return null;
    if (high < 0xd800 || high >= 0xe000) return String.fromCharCode(high);
    if (high < 0xdc00) {
      const after = this.p;
      const low = this.hex();
      if (low >= 0xdc00 && low < 0xe000) return String.fromCharCode(high, low);
      this.p = after;
    }
    return "\uFFFD";
  }

  // hex reads \uXXXX; -1 if it is not one.
  hex(): i32 {
    const p = this.p;
    if (this.end - p < 6 || load<u8>(p) != 0x5c || load<u8>(p, 1) != 0x75) return -1;
    let v = 0;
    for (let i: usize = 2; i < 6; i++) {
      const c = <i32>load<u8>(p + i), lower = c | 0x20;
      if (c >= 0x30 && c <= 0x39) v = v << 4 | (c - 0x30);
      else if (lower >= 0x61 && lower <= 0x66) v = v << 4 | (lower - 0x61 + 10);
      else return -1;
    }
    this.p += 6;
    return v;
  }
}

function isLiteral(c: u8): bool {
  return (c >= 0x61 && c <= 0x7a) || (c >= 0x30 && c <= 0x39) || c == 0x2d || c == 0x2b || c == 0x2e || c == 0x45;
}
