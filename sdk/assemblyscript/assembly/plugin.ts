import * as answer from "./answer";
import { Code } from "./answer";
import { Config, declareBody, declareTick } from "./config";
import { Decision } from "./decision";
import { Request, Response } from "./exchange";
import { Piece, Tick } from "./piece";

let configureFn: ((config: Config) => string | null) | null = null;
let requestFn: ((request: Request) => Decision) | null = null;
let responseFn: ((response: Response) => Decision) | null = null;
let marked = false;
let requestPieceFn: ((piece: Piece) => Decision) | null = null;
let responsePieceFn: ((piece: Piece) => Decision) | null = null;
let tickFn: ((tick: Tick) => string | null) | null = null;

const theConfig = new Config();
const theRequest = new Request();
const theResponse = new Response();
const thePiece = new Piece();
const theTick = new Tick();

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

/**
 * Has requests' bodies of at most so many bytes read before the handler is called: see Exchange.body. A longer one is
 * answered with 413. Call it, like those below, at the top level of the module, or in the function given to configure.
 */
export function bufferRequestBody(most: u32, flags: u32 = 0): void {
  declareBody(false, 1, flags, most);
}

/** bufferRequestBody for answers. A longer one is answered with 502. */
export function bufferResponseBody(most: u32, flags: u32 = 0): void {
  declareBody(true, 1, flags, most);
}

/**
 * Has fn see requests' bodies piece by piece while they are sent on, after the handler was called. fn returns
 * Decision.Continue, Piece.replace, Decision.deny or Decision.fail.
 */
export function streamRequestBody(fn: (piece: Piece) => Decision, flags: u32 = 0): void {
  requestPieceFn = fn;
  declareBody(false, 2, flags, 0);
}

/** streamRequestBody for answers, which cannot be denied any more. */
export function streamResponseBody(fn: (piece: Piece) => Decision, flags: u32 = 0): void {
  responsePieceFn = fn;
  declareBody(true, 2, flags, 0);
}

/**
 * Registers a function that is called when the plugin has started, and then each time so many milliseconds after its last
 * call has ended, in one instance: for what is to be fetched, renewed or counted, and left in a Store for all instances. A
 * text is an error that is logged.
 */
export function handleTick(milliseconds: u32, fn: (tick: Tick) => string | null): void {
  tickFn = fn;
  declareTick(milliseconds);
}

export function callConfigure(): u64 {
  answer.begin();
  theConfig.begin();
  const fn = configureFn;
  if (fn) {
    const error = fn(theConfig);
    if (error !== null) return answer.fail(error);
  }
  if (!requestFn && !responseFn && !requestPieceFn && !responsePieceFn && !tickFn) {
    return answer.fail("the plugin registers no handler: call handle at the top level of the module");
  }
  // Bodies need their phase, whether there is a handler or not; so does a plugin that has only ticks.
  let phases: u32 = requestFn || theConfig.wantsBody(false) ? 1 : 0;
  if (responseFn) phases |= marked ? 4 : 2;
  else if (theConfig.wantsBody(true)) phases |= 2;
  if (!phases) phases = 1;
  answer.begin();
  theConfig.write(phases);
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

export function callPiece(): u64 {
  answer.begin();
  const fn = thePiece.isResponse ? responsePieceFn : requestPieceFn;
  if (!fn) return 0;
  const decision = fn(thePiece);
  if (decision.code == Code.Deny) answer.begin(); // what denies a message has no edits
  return decision.finish();
}

export function callTick(): u64 {
  answer.begin();
  const fn = tickFn;
  if (!fn) return 0;
  const error = fn(theTick);
  return error !== null ? answer.fail(error) : Decision.Continue.finish();
}
