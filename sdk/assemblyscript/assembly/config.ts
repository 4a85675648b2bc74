import * as answer from "./answer";
import { walk } from "./json";
import { Store } from "./store";
import { asciiLower } from "./text";
import { View } from "./view";

/** A header that the plugin wants to see: see requestHeader and responseHeader. */
export type Header = u32;

/** An upstream that the plugin may choose: see Config.upstream. Its number is that of its declaration, from 0. */
export type Upstream = u32;

/** An upstream that the plugin sends requests of its own to: see Config.service. Its number is that of its declaration, from 0. */
export type Service = u32;

/** More about bodies that a plugin wants; several are combined with |. */
export enum BodyFlag {
  /** Bodies only of messages for which the handler calls wantBody. */
  OnDemand = 1,
  /** The beginning of bodies that are longer than the bound; else the gateway refuses such a message. */
  Partial = 2,
}

const RESPONSE: u32 = 1 << 31;

class Metric {
  constructor(public type: u32, public name: string, public description: string, public bounds: f64[]) {}
}

class Body {
  constructor(public mode: u32, public flags: u32, public most: u32) {}
}

// Manifest is what the plugin declared.
class Manifest {
  requestHeaders: string[] = [];
  responseHeaders: string[] = [];
  upstreams: string[] = [];
  services: string[] = [];
  stores: string[] = [];
  requestBody: Body | null = null;
  responseBody: Body | null = null;
  tick: u32 = 0;
  metrics: Metric[] = [];

  copy(): Manifest {
    const m = new Manifest();
    m.requestHeaders = this.requestHeaders.slice();
    m.responseHeaders = this.responseHeaders.slice();
    m.requestBody = this.requestBody;
    m.responseBody = this.responseBody;
    m.tick = this.tick;
    m.metrics = this.metrics.slice();
    return m;
  }
}

let manifest = new Manifest();
let early: Manifest | null = null; // what was declared before the first configuration

// declare finds the name, or adds it, and returns its place.
function declare(names: string[], name: string): u32 {
  const i = names.indexOf(name);
  return i >= 0 ? i : names.push(name) - 1;
}

/**
 * Declares a request header that handlers read. The name is not case-sensitive. Call it where a constant of the module is
 * declared, or in the function given to configure, not later.
 */
export function requestHeader(name: string): Header {
  return declare(manifest.requestHeaders, asciiLower(name));
}

/** Declares a response header that the response handler reads, as requestHeader does for requests. */
export function responseHeader(name: string): Header {
  return declare(manifest.responseHeaders, asciiLower(name)) | RESPONSE;
}

export function declareMetric(type: u32, name: string, description: string, bounds: f64[]): u32 {
  const list = manifest.metrics;
  for (let i = 0; i < list.length; i++) {
    if (list[i].name == name) return i;
  }
  return list.push(new Metric(type, name, description, bounds)) - 1;
}

// declareBody says how bodies are wanted: mode 1 is buffered, 2 streamed.
export function declareBody(response: bool, mode: u32, flags: u32, most: u32): void {
  const body = new Body(mode, flags, most);
  if (response) manifest.responseBody = body;
  else manifest.requestBody = body;
}

export function declareTick(milliseconds: u32): void {
  manifest.tick = milliseconds;
}

// slotOf is the place of a header's values in a view.
export function slotOf(h: Header): u32 {
  return h & RESPONSE ? (h & ~RESPONSE) + manifest.requestHeaders.length : h;
}

/** What the plugin is told about itself. */
@final
export class Config {
  /** The plugin's name in the gateway's configuration. */
  get name(): string {
    return View.text(16);
  }

  /** The plugin's configuration: a string as it is, everything else as JSON, empty if there is none. */
  get raw(): string {
    return View.text(24);
  }

  /**
   * Reads a JSON configuration and calls each for each value that is not an object or an array, in order, with the names
   * that lead to it; an element of an array is called by its number. Strings come without quotes and escapes, everything
   * else as it is written. A configuration that is absent has no values. It returns the first text that each returned, or
   * what is wrong with the JSON, or null.
   */
  walk(each: (config: Config, path: string[], value: string) => string | null): string | null {
    return walk(this, View.pointer(24), View.length(24), each);
  }

  /**
   * Declares an upstream that the plugin may choose. A configuration of the gateway that does not know or not allow it is
   * refused.
   */
  upstream(name: string): Upstream {
    return declare(manifest.upstreams, name);
  }

  /**
   * Declares an upstream that the plugin sends requests of its own to. A configuration of the gateway that does not know or not
   * grant it is refused.
   */
  service(name: string): Service {
    return declare(manifest.services, name);
  }

  /** Declares a store that the plugin uses. A configuration of the gateway that does not know or not grant it is refused. */
  store(name: string): Store {
    return new Store(declare(manifest.stores, name));
  }

  /** The longest body of a request that the plugin may have buffered, in bytes; 0: it is granted none. */
  get maxRequestBody(): u32 {
    return View.u32At(0) < 40 ? 0 : View.u32At(32);
  }

  /** maxRequestBody for answers. */
  get maxResponseBody(): u32 {
    return View.u32At(0) < 40 ? 0 : View.u32At(36);
  }

  // begin forgets what an earlier configuration declared.
  begin(): void {
    let m = early;
    if (m === null) early = m = manifest;
    manifest = m.copy();
  }

  // wantsBody says whether bodies of a message are wanted.
  wantsBody(response: bool): bool {
    return (response ? manifest.responseBody : manifest.requestBody) !== null;
  }

  // write writes the records that the gateway reads.
  write(phases: u32): void {
    const m = manifest;
    answer.op32(1, phases);
    names(2, m.requestHeaders);
    names(3, m.responseHeaders);
    names(4, m.upstreams);
    names(5, m.services);
    names(6, m.stores);
    body(7, m.requestBody);
    body(8, m.responseBody);
    if (m.tick) answer.op32(9, m.tick);
    for (let i = 0; i < m.metrics.length; i++) {
      const d = m.metrics[i];
      answer.metric(d.type, d.name, d.description, d.bounds);
    }
  }
}

function names(kind: u32, list: string[]): void {
  for (let i = 0; i < list.length; i++) answer.opText(kind, list[i]);
}

function body(kind: u32, b: Body | null): void {
  if (b) answer.op32x3(kind, b.mode, b.flags, b.most);
}
