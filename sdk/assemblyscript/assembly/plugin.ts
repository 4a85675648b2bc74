import * as answer from "./answer";
import { Code } from "./answer";
import { Config } from "./config";
import { Decision } from "./decision";
import { Request, Response } from "./exchange";

let configureFn: ((config: Config) => string | null) | null = null;
let requestFn: ((request: Request) => Decision) | null = null;
let responseFn: ((response: Response) => Decision) | null = null;
let marked = false;

const theConfig = new Config();
const theRequest = new Request();
const theResponse = new Response();

/**
 * Registers a function that is called once, before any request. A text refuses the configuration. Call it, like those
 * below, at the top level of the module.
 */
export function configure(fn: (config: Config) => string | null): void {
  configureFn = fn;
}

/** Registers the function that decides about requests. */
export function handle(fn: (request: Request) => Decision): void {
  requestFn = fn;
}

/** Registers a function that is called before an answer is sent to the client. */
export function handleResponse(fn: (response: Response) => Decision): void {
  responseFn = fn;
}

/** handleResponse only for those requests whose handler left a context word that is not 0. */
export function handleMarkedResponse(fn: (response: Response) => Decision): void {
  responseFn = fn;
  marked = true;
}

export function callConfigure(): u64 {
  answer.begin();
  theConfig.begin();
  const fn = configureFn;
  if (fn) {
    const error = fn(theConfig);
    if (error !== null) return answer.fail(error);
  }
  const phases: u32 = (requestFn ? 1 : 0) | (responseFn ? (marked ? 4 : 2) : 0);
  if (!phases) return answer.fail("the plugin registers no handler: call handle at the top level of the module");
  answer.begin();
  theConfig.manifest(phases);
  return answer.settle(Code.OK);
}

export function callRequest(): u64 {
  answer.begin();
  const fn = requestFn;
  return fn ? fn(theRequest).finish() : 0;
}

export function callResponse(): u64 {
  answer.begin();
  const fn = responseFn;
  return fn ? fn(theResponse).finish() : 0;
}
