import * as answer from "./answer";
import { walk } from "./json";
import { asciiLower } from "./text";
import { View } from "./view";

/** A header that the plugin wants to see: see requestHeader and responseHeader. */
export type Header = u32;

/** An upstream that the plugin may choose: see Config.upstream. Its number is that of its declaration, from 0. */
export type Upstream = u32;

const RESPONSE: u32 = 1 << 31;

// What the plugin declared. The first ones were declared before it was configured.
let requestHeaders: string[] = [];
let responseHeaders: string[] = [];
let upstreams: string[] = [];
let early = -1;
let earlyResponse = -1;

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
  return declare(requestHeaders, asciiLower(name));
}

/** Declares a response header that the response handler reads, as requestHeader does for requests. */
export function responseHeader(name: string): Header {
  return declare(responseHeaders, asciiLower(name)) | RESPONSE;
}

// slotOf is the place of a header's values in a view.
export function slotOf(h: Header): u32 {
  return h & RESPONSE ? (h & ~RESPONSE) + requestHeaders.length : h;
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
    return declare(upstreams, name);
  }

  // begin forgets what an earlier configuration declared.
  begin(): void {
    if (early < 0) {
      early = requestHeaders.length;
      earlyResponse = responseHeaders.length;
    }
    requestHeaders.length = early;
    responseHeaders.length = earlyResponse;
    upstreams = [];
  }

  // manifest writes the records that the gateway reads.
  manifest(phases: u32): void {
    answer.op32(1, phases);
    for (let i = 0; i < requestHeaders.length; i++) answer.opText(2, requestHeaders[i]);
    for (let i = 0; i < responseHeaders.length; i++) answer.opText(3, responseHeaders[i]);
    for (let i = 0; i < upstreams.length; i++) answer.opText(4, upstreams[i]);
  }
}
