import * as answer from "./answer";
import { Op } from "./answer";
import { Header, Service, slotOf } from "./config";
import { Decision } from "./decision";
import { Level, hostReadBody, lookup } from "./host";
import { OutboundRequest, OutboundResponse, call } from "./outbound";
import { byteLength, decode, pathUnder } from "./text";
import { View } from "./view";

/** From which place of the configuration a handler is called. */
export enum Role {
  /** In a route's plugin list. */
  Route,
  /** As a route's matcher. */
  Match,
  /** On a listener, before routes are matched. */
  Listener,
}

/** What requests and responses have in common. It is valid until the handler returns. */
export class Exchange {
  /** The place that the plugin is called from. */
  get role(): Role {
    return View.u32At(4);
  }

  /** The request's method. */
  get method(): string {
    return View.text(48);
  }

  /** "http" or "https". */
  get scheme(): string {
    return View.text(56);
  }

  /** The host and, if it was sent, the port that the client asked for. */
  get authority(): string {
    return View.text(64);
  }

  /** The authority without the port, as it was sent: neither lower-cased nor without the brackets of an IPv6 address. */
  get host(): string {
    const s = this.authority;
    for (let i = s.length - 1; i >= 0; i--) {
      const c = s.charCodeAt(i);
      if (c == 0x5d) break; // ]
      if (c == 0x3a) return s.substring(0, i); // :
    }
    return s;
  }

  /** The path. */
  get path(): string {
    return View.text(72);
  }

  /** What follows the '?'; see hasQuery. */
  get query(): string {
    return View.text(80);
  }

  /** Whether the target has a '?', even if nothing follows it. */
  get hasQuery(): bool {
    return (View.u32At(12) & 1) != 0;
  }

  /** The client's address, without a port. */
  get client(): string {
    return View.text(88);
  }

  /** The server name of the client's TLS handshake; "" without one. */
  get sni(): string {
    return View.text(96);
  }

  /** The subject of the client's verified TLS certificate; "" without one. */
  get certSubject(): string {
    return View.text(104);
  }

  /** The name of the route that matched; "" before that. */
  get route(): string {
    return View.text(112);
  }

  /** The time of the gateway's clock in Unix milliseconds, some milliseconds coarse. */
  get time(): i64 {
    return View.u64At(16);
  }

  /** A fresh random number. */
  get seed(): u64 {
    return View.u64At(24);
  }

  /** Whether the request is traced, so that span attributes are not in vain. */
  get sampled(): bool {
    return (View.u32At(12) & 2) != 0;
  }

  /** The word that the request's handler left in setContext. */
  get context(): u64 {
    return View.u64At(32);
  }

  /** The first value of a declared header; "" if it is absent or empty. */
  header(h: Header): string {
    return this.headerAt(h, 0);
  }

  /** How often a declared header occurs. */
  headerCount(h: Header): i32 {
    return View.count(slotOf(h));
  }

  /** Value k of a declared header, from 0; "" beyond the last. */
  headerAt(h: Header, k: i32): string {
    const at = View.valueAt(slotOf(h), k);
    return at ? View.text(at) : "";
  }

  /** Whether the path is prefix or lies below it, as pathUnder says, without making a string of it. */
  pathUnder(prefix: string): bool {
    const n = prefix.length, length = <i32>View.length(72), p = View.pointer(72);
    if (byteLength(prefix) != n) return pathUnder(this.path, prefix);
    if (n > length || (n < length && load<u8>(p + n) != 0x2f)) return false;
    for (let i = 0; i < n; i++) {
      if (load<u8>(p + i) != prefix.charCodeAt(i)) return false;
    }
    return true;
  }

  /**
   * Asks the gateway for value k of any request header, declared or not; null if there is none. It costs a call of the
   * gateway; declared headers do not.
   */
  lookupRequest(name: string, k: i32 = 0): string | null {
    return lookup(0, name, k);
  }

  /**
   * Asks the gateway for what is known of the client's TLS connection: value k of version, cipher, alpn, server-name, resumed,
   * and of the client's verified certificate subject, issuer, serial, sha256, dns, uri, email, ip, not-before, not-after and
   * certificate (PEM). null: it was not agreed on, the client has shown no certificate, or there is no TLS.
   */
  lookupTLS(name: string, k: i32 = 0): string | null {
    return lookup(4, name, k);
  }

  /**
   * Sends a request to a service and returns when the answer is whole; the gateway serves others meanwhile. An answer of any
   * status is one; see OutboundResponse.result. Redirects are not followed. A handler may make 32 calls.
   */
  call(service: Service, request: OutboundRequest): OutboundResponse {
    return call(service, request);
  }

  /** Whether the message's body is buffered: see bufferRequestBody. A message without one has an empty one. */
  get hasBody(): bool {
    return (View.u32At(12) & 8) != 0;
  }

  /** Whether only the beginning of the body is buffered: see BodyFlag.Partial. */
  get bodyIsPart(): bool {
    return (View.u32At(12) & 16) != 0;
  }

  /** A copy of the body that is buffered; null if none is. bodyText is the same as a string. */
  get body(): Uint8Array | null {
    const n = hostReadBody(this.message, 0, 0, 0);
    if (n < 0) return null;
    const bytes = new Uint8Array(n);
    hostReadBody(this.message, 0, bytes.dataStart, n);
    return bytes;
  }

  /** The body that is buffered, as a string; "" if none is. */
  get bodyText(): string {
    const bytes = this.body;
    return bytes === null ? "" : decode(bytes.dataStart, bytes.length);
  }

  /**
   * Copies what is buffered of the body from offset on, and returns how many bytes there are from there on; -1 if none is
   * buffered, or if offset is beyond its end. For bodies that need not be in the plugin's memory as a whole.
   */
  readBody(to: Uint8Array, offset: u32 = 0): i32 {
    return hostReadBody(this.message, offset, to.dataStart, to.length);
  }

  /**
   * Replaces a body that is buffered whole. The gateway sets Content-Length; Content-Type and the like are the plugin's
   * business.
   */
  setBody(bytes: Uint8Array): void {
    answer.opBytes(Op.SetBody, bytes.dataStart, bytes.length);
  }

  /** setBody with a string's bytes. */
  setBodyText(text: string): void {
    answer.opText(Op.SetBody, text);
  }

  /**
   * Asks for the message's body, where it was declared to come OnDemand: a buffered one by calling the handler once more (see
   * hasBody) after what it returns now is done, a streamed one by calling the function given to streamRequestBody.
   */
  wantBody(): void {
    answer.op(Op.WantBody);
  }

  /** Asks the gateway for value k of a field of the message's trailers; null if there is none. There are some where the body is buffered. */
  lookupTrailer(name: string, k: i32 = 0): string | null {
    return lookup(2 + this.message, name, k);
  }

  private get message(): u32 {
    return View.u32At(8) & 1;
  }

  /** Replaces all fields of the name by one: of the request in its handler, of the answer in the answer's. */
  setHeader(name: string, value: string): void {
    answer.opPair(Op.SetHeader, name, value);
  }

  /** Adds a field. */
  appendHeader(name: string, value: string): void {
    answer.opPair(Op.AppendHeader, name, value);
  }

  /** Removes all fields of the name. */
  removeHeader(name: string): void {
    answer.opText(Op.RemoveHeader, name);
  }

  /** Sets an attribute of the request's span. */
  attribute(key: string, value: string): void {
    answer.opPair(Op.Attribute, key, value);
  }

  /**
   * Writes a line to the gateway's log together with the decision, if the decision is one that carries edits. The gateway
   * limits how many lines a plugin writes. The function log writes at once.
   */
  log(level: Level, text: string): void {
    answer.opLog(level, text);
  }

  /**
   * Answers the client: no upstream is asked, or its answer is replaced. fields has names and values in turn. The decision
   * is to be returned.
   */
  respond(status: i32, body: string, fields: string[] = []): Decision {
    return Decision.respond(status, body, fields);
  }
}

/** A request that is decided about. */
@final
export class Request extends Exchange {
  /** Replaces the method. */
  setMethod(s: string): void {
    answer.opText(Op.Method, s);
  }

  /** Replaces the authority: host, or host:port. */
  setAuthority(s: string): void {
    answer.opText(Op.Authority, s);
  }

  /** Replaces the path and leaves the query alone. */
  setPath(s: string): void {
    answer.opText(Op.Path, s);
  }

  /** Replaces the query, without '?'; "" removes it. */
  setQuery(s: string): void {
    answer.opText(Op.Query, s);
  }

  /** Sends the request to an address, host:port, where the configuration allows it. */
  setAddress(s: string): void {
    answer.opText(Op.Address, s);
  }

  /** Limits the whole request, in milliseconds. */
  setTimeout(milliseconds: i32): void {
    answer.op32(Op.Timeout, milliseconds);
  }

  /** Sets the key by which consistent balancing picks a target. */
  setHashKey(key: u64): void {
    answer.op64(Op.HashKey, key);
  }

  /** Leaves a word for the response handler; see handleMarkedResponse. */
  setContext(word: u64): void {
    answer.op64(Op.Context, word);
  }

  /** Asks for the routes to be matched again, by the new path and authority. */
  rematch(): void {
    answer.op(Op.Rematch);
  }
}

/** An answer on its way to the client, with the request that it answers as it was sent to the upstream. */
@final
export class Response extends Exchange {
  /** The status of the answer. */
  get status(): i32 {
    return View.u32At(40);
  }

  /** Whether the answer was made by the gateway or a plugin and not by an upstream. */
  get local(): bool {
    return (View.u32At(12) & 4) != 0;
  }

  /** lookupRequest for the answer's headers. */
  lookupResponse(name: string, k: i32 = 0): string | null {
    return lookup(1, name, k);
  }
}
