// What the conformance plugin does of version 1.1.
import {
  BodyFlag,
  Config,
  Counter,
  Decision,
  Exchange,
  Gauge,
  Histogram,
  Level,
  OutboundRequest,
  Piece,
  Result,
  Service,
  Store,
  Tick,
  UpDownCounter,
  bufferRequestBody,
  bufferResponseBody,
  byteLength,
  handleTick,
  streamRequestBody,
  streamResponseBody,
  toText,
} from "wasmgate";
import { first, rest } from "./text";

let services: Service[] = [];
let stores: Store[] = [];
let metrics: Metric[] = [];
let pieces = "pass"; // what pieces become

class Metric {
  counter: Counter | null = null;
  gauge: Gauge | null = null;
  histogram: Histogram | null = null;
  upDown: UpDownCounter | null = null;

  constructor(type: string, name: string) {
    if (type == "1") this.gauge = new Gauge(name);
    else if (type == "2") this.histogram = new Histogram(name);
    else if (type == "3") this.upDown = new UpDownCounter(name);
    else this.counter = new Counter(name);
  }

  record(v: f64): void {
    const counter = this.counter, gauge = this.gauge, histogram = this.histogram, upDown = this.upDown;
    if (counter) counter.add(v);
    if (gauge) gauge.set(v);
    if (histogram) histogram.observe(v);
    if (upDown) upDown.add(v);
  }
}

export function reset(): void {
  services = [];
  stores = [];
  metrics = [];
  pieces = "pass";
}

// configureMore does a line of the configuration; false if it is none.
export function configureMore(c: Config, word: string, arg: string): bool {
  if (word == "call") services.push(c.service(arg));
  else if (word == "store") stores.push(c.store(arg));
  else if (word == "metric") metrics.push(new Metric(first(arg), rest(arg)));
  else if (word == "request-body" || word == "response-body") declareBody(word == "response-body", first(arg), rest(arg));
  else if (word == "pieces") pieces = arg;
  else if (word == "tick") handleTick(U32.parseInt(arg), tick);
  else return false;
  return true;
}

function declareBody(response: bool, mode: string, args: string): void {
  const bits = U32.parseInt(first(args)), most = U32.parseInt(rest(args));
  const flags = bits & (BodyFlag.OnDemand | BodyFlag.Partial);
  if (mode == "1" && response) bufferResponseBody(most, flags);
  else if (mode == "1") bufferRequestBody(most, flags);
  else if (response) streamResponseBody(piece, flags);
  else streamRequestBody(piece, flags);
}

// more does a command; false if it is none.
export function more(x: Exchange, word: string, arg: string): bool {
  return word.startsWith("kv-") ? state(x, word, arg) : call(x, word, arg) || body(x, word, arg);
}

function call(x: Exchange, word: string, arg: string): bool {
  const id = I32.parseInt(first(arg)), args = rest(arg);
  const r = new OutboundRequest();
  if (word == "call") {
    const target = rest(args), mark = target.indexOf("?");
    r.method = first(args);
    r.path = mark < 0 ? target : target.substring(0, mark);
    r.query = mark < 0 ? "" : target.substring(mark + 1);
    r.header = ["x-conformance", "yes"];
  } else if (word == "call-body") {
    r.method = "POST";
    r.authority = "kit.example";
    r.timeout = 250;
    r.body = "z".repeat(I32.parseInt(args));
  } else {
    return false;
  }
  const a = x.call(services[id], r);
  if (a.result != Result.OK) {
    x.appendHeader("x-call", error(a.result));
    return true;
  }
  const text = a.status.toString() + " " + or(a.header("x-answer")) + " " + or(a.trailer("x-end")) + " ";
  x.appendHeader("x-call", text + a.bodyLength.toString() + ":" + a.body.substring(0, 20));
  return true;
}

function or(s: string): string {
  return s.length ? s : "-";
}

function error(r: Result): string {
  return r == Result.OK ? "ok" : "error " + (<i32>r).toString();
}

function state(x: Exchange, word: string, arg: string): bool {
  const store = stores[I32.parseInt(first(arg))], key = first(rest(arg)), value = rest(rest(arg));
  const old = store.get(key);
  const version = old ? old.version : 0;
  let said: string;
  if (word == "kv-get") {
    said = old ? byteLength(old.value).toString() + ":" + old.value : "none";
  } else if (word == "kv-set") {
    said = error(store.set(key, rest(value), I64.parseInt(first(value))));
  } else if (word == "kv-new") {
    said = error(store.compareAndSet(key, value, 0));
  } else if (word == "kv-swap") {
    said = error(store.compareAndSet(key, value, version));
  } else if (word == "kv-late") {
    store.set(key, "early");
    said = error(store.compareAndSet(key, value, version));
  } else if (word == "kv-delete") {
    said = error(store.delete(key));
  } else if (word == "kv-add") {
    const sum = store.add(key, I64.parseInt(first(value)), I64.parseInt(rest(value)));
    said = store.result == Result.OK ? sum.toString() : error(store.result);
  } else {
    return false;
  }
  x.appendHeader("x-kv", said);
  return true;
}

function body(x: Exchange, word: string, arg: string): bool {
  if (word == "show-body") {
    const b = x.body;
    const what = x.bodyIsPart ? "part " : "whole ";
    x.appendHeader("x-body", b === null ? "none" : what + b.length.toString() + ":" + toText(b.subarray(0, 40)));
  } else if (word == "set-body") {
    x.setBodyText(arg);
  } else if (word == "fill-body") {
    x.setBody(new Uint8Array(I32.parseInt(arg)).fill(0x62));
  } else if (word == "want-body") {
    if (!x.hasBody) x.wantBody();
  } else if (word == "metric") {
    metrics[I32.parseInt(first(arg))].record(<f64>I32.parseInt(rest(arg)) / 4);
  } else {
    return false;
  }
  return true;
}

function piece(p: Piece): Decision {
  if (pieces == "upper") {
    const b = p.data;
    for (let i = 0; i < b.length; i++) {
      if (b[i] >= 0x61 && b[i] <= 0x7a) b[i] -= 0x20;
    }
    return p.replace(b);
  }
  if (pieces == "drop") return p.replaceText("");
  if (pieces == "keep" && !p.last) p.keep(min(p.length, 2));
  if (pieces == "count") {
    p.setWord(p.word + 1);
    const text = "[" + (p.isResponse ? "1 " : "0 ") + p.word.toString() + " " + p.before.toString() + " " + p.length.toString();
    return p.replaceText(text + (p.last ? " 1]" : " 0]"));
  }
  if (pieces == "trailer" && p.last) {
    const v = p.lookupTrailer("x-end");
    return p.replaceText(v === null ? "-" : v);
  }
  if (pieces == "deny") return Decision.deny(422);
  if (pieces == "fail") return Decision.fail("as the configuration says");
  if (pieces == "trap") throw new Error("as the configuration says");
  return Decision.Continue;
}

function tick(t: Tick): string | null {
  const a = t.call(services[0], new OutboundRequest("GET", "/tick"));
  t.log(Level.Info, "kit: tick " + (a.result == Result.OK ? a.status.toString() : error(a.result)));
  stores[0].add("ticks", 1);
  return null;
}
