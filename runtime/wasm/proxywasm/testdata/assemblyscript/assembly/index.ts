// What plugins do, each part once: headers both ways, bodies, answers of its own, calls with pause and continue, shared
// data, metrics, ticks, queues, properties, and an authority by which routes are matched again. The guest in ../rust does
// the same.

export * from "@solo-io/proxy-runtime/proxy";
import {
  Context, Counter, FilterDataStatusValues, FilterHeadersStatusValues, GrpcStatusValues, HeaderPair, LogLevelValues, RootContext, continue_request, log,
  registerRootContext, send_local_response, stream_context,
} from "@solo-io/proxy-runtime";
import { BufferTypeValues, get_buffer_bytes, get_property, set_tick_period_milliseconds } from "@solo-io/proxy-runtime/runtime";
import { add, dequeue, enqueue, register_queue, set_body } from "./host";

class Root extends RootContext {
  config: string = "";
  requests: Counter | null = null;
  queue: u32 = 0;

  onStart(size: usize): bool {
    set_tick_period_milliseconds(20);
    return super.onStart(size);
  }

  onConfigure(size: u32): bool {
    if (size == 0) {
      return false;
    }
    this.config = String.UTF8.decode(get_buffer_bytes(BufferTypeValues.PluginConfiguration, 0, size));
    this.requests = new Counter("requests");
    this.queue = register_queue("paths");
    return true;
  }

  onTick(): void {
    add("ticks");
  }

  onQueueReady(token: u32): void {
    log(LogLevelValues.info, "queued: " + dequeue(token));
  }

  createContext(id: u32): Context {
    return new Stream(id, this);
  }
}

function pair(name: string, value: string): HeaderPair {
  return new HeaderPair(String.UTF8.encode(name), String.UTF8.encode(value));
}

function answer(status: u32, why: string, body: string): void {
  let headers: HeaderPair[] = [];
  if (why != "") {
    headers.push(pair("x-why", why));
  }
  send_local_response(status, "", String.UTF8.encode(body), headers, GrpcStatusValues.InvalidCode);
}

function checked(origin: Context, headers: u32, size: usize, trailers: u32): void {
  if (headers > 0 && stream_context.headers.http_callback.get(":status") == "200") {
    let user = String.UTF8.decode(get_buffer_bytes(BufferTypeValues.HttpCallResponseBody, 0, <u32>size));
    stream_context.headers.request.replace("x-user", user);
    continue_request();
    return;
  }
  answer(401, "unauthorized", "who are you?");
}

class Stream extends Context {
  path: string = "";

  constructor(id: u32, root: Root) {
    super(id, root);
  }

  root(): Root {
    return changetype<Root>(this.root_context);
  }

  onRequestHeaders(n: u32, end: bool): FilterHeadersStatusValues {
    let headers = stream_context.headers.request;
    this.root().requests!.increment(1);
    this.path = headers.get(":path");
    headers.add("x-sdk", "guest");
    headers.remove("x-secret");
    headers.replace("x-count", add("requests").toString());
    headers.replace("x-source", String.UTF8.decode(get_property("source\0address")));
    enqueue(this.root().queue, this.path);
    let tenant = headers.get("x-tenant");
    if (tenant != "") {
      headers.replace(":authority", tenant + ".internal");
    }
    if (this.path.startsWith("/deny")) {
      answer(403, "denied", "denied");
      return FilterHeadersStatusValues.StopIteration;
    }
    if (this.path.startsWith("/body")) {
      headers.remove("content-length");
    }
    if (this.path.startsWith("/auth")) {
      let ask: HeaderPair[] = [
        pair(":method", "GET"), pair(":path", "/check"), pair(":authority", "auth"),
        pair("authorization", headers.get("authorization")),
      ];
      if (this.root().httpCall("auth", ask, new ArrayBuffer(0), [], 2000, this, checked) != 0) {
        answer(503, "", "");
      }
      return FilterHeadersStatusValues.StopIteration;
    }
    return FilterHeadersStatusValues.Continue;
  }

  onRequestBody(size: usize, end: bool): FilterDataStatusValues {
    if (!this.path.startsWith("/body")) {
      return FilterDataStatusValues.Continue;
    }
    if (!end) {
      return FilterDataStatusValues.StopIterationAndBuffer;
    }
    let body = String.UTF8.decode(get_buffer_bytes(BufferTypeValues.HttpRequestBody, 0, <u32>size));
    set_body(BufferTypeValues.HttpRequestBody, body.toUpperCase() + "!");
    return FilterDataStatusValues.Continue;
  }

  onResponseHeaders(n: u32, end: bool): FilterHeadersStatusValues {
    let headers = stream_context.headers.response;
    headers.remove("server");
    headers.add("x-config", this.root().config);
    if (this.path.startsWith("/body")) {
      headers.remove("content-length");
    }
    return FilterHeadersStatusValues.Continue;
  }

  onResponseBody(size: usize, end: bool): FilterDataStatusValues {
    if (!this.path.startsWith("/body")) {
      return FilterDataStatusValues.Continue;
    }
    if (!end) {
      return FilterDataStatusValues.StopIterationAndBuffer;
    }
    let body = String.UTF8.decode(get_buffer_bytes(BufferTypeValues.HttpResponseBody, 0, <u32>size));
    set_body(BufferTypeValues.HttpResponseBody, "[" + body + "]");
    return FilterDataStatusValues.Continue;
  }

  onLog(): void {
    log(LogLevelValues.info, "done: " + this.path + " " + stream_context.headers.response.get(":status"));
  }
}

registerRootContext((id: u32) => new Root(id), "guest");
