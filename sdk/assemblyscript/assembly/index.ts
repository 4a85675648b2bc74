// The AssemblyScript SDK for plugins of wasmgate's native ABI (sdk/abi.md): write a function over a request, return a
// decision.
//
//   import { Decision, Request, handle, pathUnder, requestHeader } from "wasmgate";
//   export * from "wasmgate/exports"; // what the gateway calls
//
//   const beta = requestHeader("x-beta"); // what the plugin reads, said once
//
//   handle((r: Request): Decision => {
//     if (pathUnder(r.path, "/internal")) return Decision.deny(403);
//     if (r.path == "/ping") return r.respond(200, "pong\n", ["content-type", "text/plain"]);
//     if (r.header(beta) == "yes") r.setHeader("x-variant", "beta");
//     return Decision.Continue;
//   });
//
// A plugin is one instance of the module; the gateway has several of them (one for each event loop at least), each is
// called by one request at a time, and any of them may be thrown away at any time, so variables are caches and never
// truth.
//
// A plugin can ask an upstream before it decides (Config.service, Exchange.call: the function returns when the answer is there,
// and the gateway serves others meanwhile), share state with all its instances (Config.store), see bodies whole
// (bufferRequestBody) or piece by piece (streamRequestBody), be called now and then (handleTick), and measure (Counter). What it
// calls, uses and sees is granted by the gateway's configuration.
//
// Strings hold any bytes: what is UTF-8 in a message is what it says, and each byte that is not becomes a unit of its own,
// from U+DC80 to U+DCFF, which becomes that byte again where the string is passed to the SDK. A unit of half a surrogate
// pair that is none of these becomes U+FFFD.
export { BodyFlag, Config, Header, Service, Upstream, requestHeader, responseHeader } from "./config";
export { Decision } from "./decision";
export { Exchange, Request, Response, Role } from "./exchange";
export { Level, log } from "./host";
export { Counter, Gauge, Histogram, UpDownCounter } from "./metric";
export { OutboundRequest, OutboundResponse } from "./outbound";
export { Piece, Tick } from "./piece";
export {
  bufferRequestBody,
  bufferResponseBody,
  configure,
  handle,
  handleMarkedResponse,
  handleResponse,
  handleTick,
  streamRequestBody,
  streamResponseBody,
} from "./plugin";
export { Result, describe } from "./result";
export { Entry, Store, Version } from "./store";
export { asciiLower, byteLength, pathUnder, toBytes, toNumber, toText } from "./text";
