import * as answer from "./answer";
import { Op } from "./answer";
import { Service } from "./config";
import { hostCall, hostCallAnswer } from "./host";
import { Result } from "./result";
import { asciiLower, decode, equals } from "./text";

/** A request of the plugin's own. */
@final
export class OutboundRequest {
  /** The host, or host:port, that is asked for; "": the upstream's own. */
  authority: string = "";
  /** Without '?'. */
  query: string = "";
  /** Names and values in turn. */
  header: string[] = [];
  /** At most 1 MiB. */
  body: string = "";
  /** Milliseconds for all of it, at most 60,000; 0: 5,000. */
  timeout: i32 = 0;

  constructor(public method: string = "GET", public path: string = "/") {}
}

// The last answer, outside of the garbage collector's memory.
let buffer: usize = 0;
let capacity: u32 = 0;

/** The answer to an OutboundRequest. It is valid until the next call, or until the handler returns. */
@final
export class OutboundResponse {
  constructor(
    /** What the call came to; with anything but Result.OK there is nothing else. */
    public readonly result: Result,
  ) {}

  /** The status. */
  get status(): i32 {
    return this.result == Result.OK ? load<u32>(buffer, 4) : 0;
  }

  /** How long the call took, in milliseconds. */
  get took(): i32 {
    return this.result == Result.OK ? load<u32>(buffer, 24) : 0;
  }

  /** The body. */
  get body(): string {
    return this.result == Result.OK ? decode(buffer + load<u32>(buffer, 16), load<u32>(buffer, 20)) : "";
  }

  /** How long the body is, in bytes. */
  get bodyLength(): i32 {
    return this.result == Result.OK ? load<u32>(buffer, 20) : 0;
  }

  /** How many fields there are; headerName and headerValue are those of one of them. */
  get headers(): i32 {
    return this.result == Result.OK ? load<u32>(buffer, 8) : 0;
  }

  /** The name of field i, from 0, in lower case. */
  headerName(i: i32): string {
    return this.text(i, 0);
  }

  /** The value of field i, from 0. */
  headerValue(i: i32): string {
    return this.text(i, 8);
  }

  /** The first value of a field; "" if there is none. */
  header(name: string): string {
    return this.find(name, 0, this.headers);
  }

  /** The first value of a field of the trailers; "" if there is none. */
  trailer(name: string): string {
    const n = this.headers;
    return this.result == Result.OK ? this.find(name, n, n + load<u32>(buffer, 12)) : "";
  }

  private text(i: i32, part: usize): string {
    const p = buffer + load<u32>(buffer) + (<usize>i << 4) + part;
    return decode(buffer + load<u32>(p), load<u32>(p, 4));
  }

  private find(name: string, from: i32, to: i32): string {
    const lower = asciiLower(name);
    for (let i = from; i < to; i++) {
      const p = buffer + load<u32>(buffer) + (<usize>i << 4);
      if (equals(lower, buffer + load<u32>(p), load<u32>(p, 4))) return this.text(i, 8);
    }
    return "";
  }
}

// call sends a request, and waits for the answer.
export function call(service: Service, r: OutboundRequest): OutboundResponse {
  answer.beginRequest();
  answer.opText(Op.Method, r.method);
  if (r.authority.length) answer.opText(Op.Authority, r.authority);
  answer.opText(Op.Path, r.path);
  if (r.query.length) answer.opText(Op.Query, r.query);
  for (let i = 0; i + 1 < r.header.length; i += 2) answer.opPair(Op.AppendHeader, r.header[i], r.header[i + 1]);
  if (r.body.length) answer.opText(Op.SetBody, r.body);
  if (r.timeout) answer.op32(Op.Timeout, r.timeout);
  if (!buffer) resize(8192);
  const packed = hostCall(service, answer.pointer(), answer.written(), buffer, capacity);
  answer.endRequest();
  const length = <u32>packed;
  if (length > capacity) {
    resize(length + length / 4);
    hostCallAnswer(buffer, capacity);
  }
  return new OutboundResponse(<Result>(packed >> 32));
}

function resize(n: u32): void {
  if (buffer) heap.free(buffer);
  buffer = heap.alloc(n);
  capacity = n;
}
