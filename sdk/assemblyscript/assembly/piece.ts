import * as answer from "./answer";
import { Op } from "./answer";
import { Service } from "./config";
import { Decision } from "./decision";
import { Level, lookup } from "./host";
import { OutboundRequest, OutboundResponse, call } from "./outbound";
import { View } from "./view";

/** A piece of a body on its way: see streamRequestBody. It is valid until the function returns. */
@final
export class Piece {
  /** A copy of the bytes. There are none only if it is the last piece. */
  get data(): Uint8Array {
    const n = View.length(40);
    const bytes = new Uint8Array(n);
    memory.copy(bytes.dataStart, View.pointer(40), n);
    return bytes;
  }

  /** The bytes as a string. A character that lies in two pieces is not one here. */
  get text(): string {
    return View.text(40);
  }

  /** How many bytes there are. */
  get length(): i32 {
    return View.length(40);
  }

  /** Whether the body ends with this piece. */
  get last(): bool {
    return (View.u32At(8) & 1) != 0;
  }

  /** Whether it is of an answer and not of a request. */
  get isResponse(): bool {
    return View.u32At(4) == 1;
  }

  /** How many bytes of the body were before this piece. */
  get before(): i64 {
    return View.u64At(32);
  }

  /** The time of the gateway's clock in Unix milliseconds, some milliseconds coarse. */
  get time(): i64 {
    return View.u64At(16);
  }

  /**
   * What setWord left with the last piece of the message; with the first it is the word that the handler left with
   * setContext. Pieces of a message may come to different instances, so this is where their state is.
   */
  get word(): u64 {
    return View.u64At(24);
  }

  /** Leaves a word for the next piece. */
  setWord(word: u64): void {
    answer.op64(Op.Context, word);
  }

  /**
   * Has the last n bytes of the piece come again, in front of the next one: at most 64 KiB, and nothing of the last piece.
   * Decision.Continue then passes on what is before them, and replace replaces that.
   */
  keep(n: i32): void {
    answer.op32(Op.Keep, n);
  }

  /** Sends other bytes instead of the piece. The decision is to be returned. */
  replace(bytes: Uint8Array): Decision {
    answer.opBytes(Op.SetBody, bytes.dataStart, bytes.length);
    return Decision.written();
  }

  /** replace with a string's bytes. */
  replaceText(text: string): Decision {
    answer.opText(Op.SetBody, text);
    return Decision.written();
  }

  /** Sets an attribute of the request's span. */
  attribute(key: string, value: string): void {
    answer.opPair(Op.Attribute, key, value);
  }

  /** Writes a line to the gateway's log together with the decision. */
  log(level: Level, text: string): void {
    answer.opLog(level, text);
  }

  /** Asks the gateway for value k of a field of the message's trailers, which are there with the last piece; null if there is none. */
  lookupTrailer(name: string, k: i32 = 0): string | null {
    return lookup(this.isResponse ? 3 : 2, name, k);
  }

  /** See Exchange.call. */
  call(service: Service, request: OutboundRequest): OutboundResponse {
    return call(service, request);
  }
}

/** A call without a request: see handleTick. It is valid until the function returns. */
@final
export class Tick {
  /** The time of the gateway's clock in Unix milliseconds, some milliseconds coarse. */
  get time(): i64 {
    return View.u64At(8);
  }

  /** A fresh random number. */
  get seed(): u64 {
    return View.u64At(16);
  }

  /** Writes a line to the gateway's log. */
  log(level: Level, text: string): void {
    answer.opLog(level, text);
  }

  /** See Exchange.call. */
  call(service: Service, request: OutboundRequest): OutboundResponse {
    return call(service, request);
  }
}
