// A Proxy-Wasm guest for tests. It logs each callback with its arguments, and does what its configuration says: lines of
// "CALLBACK COMMAND ARGUMENTS", where each line of a callback's name is carried out when it comes. Where a command has an
// answer it is logged. Words are separated by spaces; %s in a word stands for a space, %z for a zero, %i for the context's id.

#define EXPORT(name) __attribute__((export_name(name)))
#define IMPORT(name) __attribute__((import_module("env"), import_name(name)))

typedef unsigned int u32;
typedef unsigned long long u64;
typedef unsigned char u8;

IMPORT("proxy_log") u32 proxy_log(u32, const void *, u32);
IMPORT("proxy_get_log_level") u32 proxy_get_log_level(u32 *);
IMPORT("proxy_get_current_time_nanoseconds") u32 proxy_get_current_time_nanoseconds(u64 *);
IMPORT("proxy_set_tick_period_milliseconds") u32 proxy_set_tick_period_milliseconds(u32);
IMPORT("proxy_get_status") u32 proxy_get_status(u32 *, u8 **, u32 *);
IMPORT("proxy_set_effective_context") u32 proxy_set_effective_context(u32);
IMPORT("proxy_done") u32 proxy_done(void);
IMPORT("proxy_call_foreign_function") u32 proxy_call_foreign_function(const void *, u32, const void *, u32, u8 **, u32 *);
IMPORT("proxy_get_header_map_size") u32 proxy_get_header_map_size(u32, u32 *);
IMPORT("proxy_get_header_map_pairs") u32 proxy_get_header_map_pairs(u32, u8 **, u32 *);
IMPORT("proxy_set_header_map_pairs") u32 proxy_set_header_map_pairs(u32, const void *, u32);
IMPORT("proxy_get_header_map_value") u32 proxy_get_header_map_value(u32, const void *, u32, u8 **, u32 *);
IMPORT("proxy_add_header_map_value") u32 proxy_add_header_map_value(u32, const void *, u32, const void *, u32);
IMPORT("proxy_replace_header_map_value") u32 proxy_replace_header_map_value(u32, const void *, u32, const void *, u32);
IMPORT("proxy_remove_header_map_value") u32 proxy_remove_header_map_value(u32, const void *, u32);
IMPORT("proxy_get_buffer_bytes") u32 proxy_get_buffer_bytes(u32, u32, u32, u8 **, u32 *);
IMPORT("proxy_set_buffer_bytes") u32 proxy_set_buffer_bytes(u32, u32, u32, const void *, u32);
IMPORT("proxy_get_buffer_status") u32 proxy_get_buffer_status(u32, u32 *, u32 *);
IMPORT("proxy_get_property") u32 proxy_get_property(const void *, u32, u8 **, u32 *);
IMPORT("proxy_set_property") u32 proxy_set_property(const void *, u32, const void *, u32);
IMPORT("proxy_continue_stream") u32 proxy_continue_stream(u32);
IMPORT("proxy_close_stream") u32 proxy_close_stream(u32);
IMPORT("proxy_send_local_response") u32 proxy_send_local_response(u32, const void *, u32, const void *, u32, const void *, u32, u32);
IMPORT("proxy_http_call") u32 proxy_http_call(const void *, u32, const void *, u32, const void *, u32, const void *, u32, u32, u32 *);
IMPORT("proxy_grpc_call") u32 proxy_grpc_call(const void *, u32, const void *, u32, const void *, u32, const void *, u32, const void *, u32, u32, u32 *);
IMPORT("proxy_grpc_stream") u32 proxy_grpc_stream(const void *, u32, const void *, u32, const void *, u32, const void *, u32, u32 *);
IMPORT("proxy_grpc_send") u32 proxy_grpc_send(u32, const void *, u32, u32);
IMPORT("proxy_grpc_close") u32 proxy_grpc_close(u32);
IMPORT("proxy_grpc_cancel") u32 proxy_grpc_cancel(u32);
IMPORT("proxy_get_shared_data") u32 proxy_get_shared_data(const void *, u32, u8 **, u32 *, u32 *);
IMPORT("proxy_set_shared_data") u32 proxy_set_shared_data(const void *, u32, const void *, u32, u32);
IMPORT("proxy_register_shared_queue") u32 proxy_register_shared_queue(const void *, u32, u32 *);
IMPORT("proxy_resolve_shared_queue") u32 proxy_resolve_shared_queue(const void *, u32, const void *, u32, u32 *);
IMPORT("proxy_enqueue_shared_queue") u32 proxy_enqueue_shared_queue(u32, const void *, u32);
IMPORT("proxy_dequeue_shared_queue") u32 proxy_dequeue_shared_queue(u32, u8 **, u32 *);
IMPORT("proxy_define_metric") u32 proxy_define_metric(u32, const void *, u32, u32 *);
IMPORT("proxy_increment_metric") u32 proxy_increment_metric(u32, u64);
IMPORT("proxy_record_metric") u32 proxy_record_metric(u32, u64);
IMPORT("proxy_get_metric") u32 proxy_get_metric(u32, u64 *);
IMPORT("proxy_never_heard_of") u32 proxy_never_heard_of(u32, u64);

// Memory is given out from the end of what is there, and all of it back when a callback is over, but for the configuration.

extern u8 __heap_base;
static u8 *top, *floor_;
static u32 refuse; // how many allocations fail

static u8 *take(u32 n) {
  if (!top) top = &__heap_base;
  u8 *p = top;
  top = (u8 *)(((u32)p + n + 7) & ~7u);
  u32 pages = ((u32)top + 0xffff) >> 16, have = __builtin_wasm_memory_size(0);
  if (pages > have && __builtin_wasm_memory_grow(0, pages - have) == (u32)-1) __builtin_trap();
  return p;
}

static int lies; // what the allocator gives instead of memory

EXPORT("proxy_on_memory_allocate") u8 *allocate(u32 n) {
  switch (lies) {
  case 1: return 0;
  case 2: return (u8 *)0xfffffff0u;
  case 3: return (u8 *)(__builtin_wasm_memory_size(0) * 65536 - 1);
  case 4: __builtin_trap();
  case 5: for (;;) __asm__ volatile("");
  case 6: { u8 *p; u32 m; proxy_get_header_map_pairs(0, &p, &m); return take(n); }
  }
  return take(n);
}

static u32 length(const char *s) {
  u32 n = 0;
  while (s[n]) n++;
  return n;
}

static int same(const char *a, u32 an, const char *b) {
  u32 i = 0;
  for (; i < an && b[i]; i++)
    if (a[i] != b[i]) return 0;
  return i == an && !b[i];
}

// A line that is put together and then logged.

static char line[16384];
static u32 at;

static void bytes(const void *b, u32 n) {
  for (u32 i = 0; i < n && at < sizeof line; i++) {
    char c = ((const char *)b)[i];
    line[at++] = c ? c : '|';
  }
}
static void text(const char *s) { bytes(s, length(s)); }
static void number(u64 v) {
  char d[20];
  u32 n = 0;
  do d[n++] = '0' + v % 10; while (v /= 10);
  while (n) bytes(&d[--n], 1);
}
static void say(void) {
  proxy_log(2, line, at);
  at = 0;
}

// The words of a command.

typedef struct { char *s; u32 n; } word;
static word words[12];
static u32 count;
static u32 id; // the context's

static void split(const char *s, u32 n) {
  count = 0;
  u32 i = 0;
  while (i < n && count < 12) {
    u8 *out = take(2 * n + 16);
    u32 m = 0;
    for (; i < n && s[i] != ' '; i++) {
      if (s[i] != '%' || i + 1 == n) {
        out[m++] = s[i];
        continue;
      }
      switch (s[++i]) {
      case 's': out[m++] = ' '; break;
      case 'z': out[m++] = 0; break;
      case 'n': out[m++] = '\n'; break;
      case 'x': out[m++] = 0xff; break;
      case 'i': {
        char d[10];
        u32 k = 0;
        for (u32 v = id; v || !k; v /= 10) d[k++] = '0' + v % 10;
        while (k) out[m++] = d[--k];
        break;
      }
      default: out[m++] = '%';
      }
    }
    words[count].s = (char *)out;
    words[count++].n = m;
    i++;
  }
}

static u32 arg(u32 i) {
  u32 v = 0, neg = 0;
  if (i >= count) return 0;
  for (u32 k = 0; k < words[i].n; k++) {
    if (words[i].s[k] == '-') { neg = 1; continue; }
    v = v * 10 + (words[i].s[k] - '0');
  }
  return neg ? -v : v;
}
#define W(i) (i < count ? words[i].s : (char *)8), (i < count ? words[i].n : 0)

static void status(const char *what, u32 st) {
  text(what);
  text(" -> ");
  number(st);
}
static void value(u32 st, const u8 *p, u32 n) {
  if (st == 0) {
    text(p || !n ? " " : " null ");
    bytes(p, n);
  }
  say();
}

// pairs serializes the words from i on, as names and values in turn.
static u8 *pairs(u32 i, u32 *size) {
  u32 n = (count > i ? count - i : 0) / 2, total = 4;
  for (u32 k = 0; k < 2 * n; k++) total += 5 + words[i + k].n;
  u8 *b = take(total), *s = b, *d = b + 4 + 8 * n;
  *(u32 *)s = n;
  for (u32 k = 0; k < 2 * n; k++) {
    *(u32 *)(s + 4 + 4 * k) = words[i + k].n;
    for (u32 j = 0; j < words[i + k].n; j++) *d++ = words[i + k].s[j];
    *d++ = 0;
  }
  *size = total;
  return b;
}

static u32 stream; // the last one that was created
static u32 token; // of the last gRPC stream
static u32 waiting;
static u32 answer; // of the callback

static void run(void) {
  u8 *p = 0;
  u32 n = 0, st, v = 0;
  u64 wide = 0;
#define CMD(which) else if (same(words[0].s, words[0].n, which))
  if (0) {}
  CMD("return") answer = arg(1);
  CMD("log") { bytes(W(1)); say(); }
  CMD("loglevel") { status("log", proxy_log(arg(1), W(2))); say(); }
  CMD("size") { st = proxy_get_header_map_size(arg(1), &n); status("size", st); text(" "); number(n); say(); }
  CMD("pairs") {
    st = proxy_get_header_map_pairs(arg(1), &p, &n);
    status("pairs", st);
    u32 k = n ? *(u32 *)p : 0, o = 4 + 8 * k;
    for (u32 i = 0; i < 2 * k; i++) {
      u32 m = *(u32 *)(p + 4 + 4 * i);
      text(i % 2 ? "=" : " ");
      bytes(p + o, m);
      o += m + 1;
    }
    if (o != n && n) text(" WRONG SIZE");
    say();
  }
  CMD("setpairs") { p = pairs(2, &n); status("setpairs", proxy_set_header_map_pairs(arg(1), p, n)); say(); }
  CMD("get") { st = proxy_get_header_map_value(arg(1), W(2), &p, &n); status("get", st); value(st, p, n); }
  CMD("add") { status("add", proxy_add_header_map_value(arg(1), W(2), W(3))); say(); }
  CMD("set") { status("set", proxy_replace_header_map_value(arg(1), W(2), W(3))); say(); }
  CMD("del") { status("del", proxy_remove_header_map_value(arg(1), W(2))); say(); }
  CMD("copy") { // into a header: from map and name to map and name
    if (proxy_get_header_map_value(arg(1), W(2), &p, &n) == 0) proxy_replace_header_map_value(arg(3), W(4), p, n);
  }
  CMD("body") { st = proxy_get_buffer_bytes(arg(1), arg(2), count > 3 ? arg(3) : 0x7fffffff, &p, &n); status("body", st); value(st, p, n); }
  CMD("setbody") { status("setbody", proxy_set_buffer_bytes(arg(1), arg(2), arg(3), W(4))); say(); }
  CMD("bodystatus") { st = proxy_get_buffer_status(arg(1), &n, &v); status("bodystatus", st); text(" "); number(n); say(); }
  CMD("prop") { st = proxy_get_property(W(1), &p, &n); status("prop", st); value(st, p, n); }
  CMD("propint") { st = proxy_get_property(W(1), &p, &n); status("propint", st); if (!st && n == 8) { text(" "); number(*(u64 *)p); } say(); }
  CMD("setprop") { status("setprop", proxy_set_property(W(1), W(2))); say(); }
  CMD("resume") { status("resume", proxy_continue_stream(arg(1))); say(); }
  CMD("close") { status("close", proxy_close_stream(arg(1))); say(); }
  CMD("respond") { p = pairs(4, &n); status("respond", proxy_send_local_response(arg(1), "why", 3, W(2), p, n, arg(3))); say(); }
  CMD("call") { p = pairs(3, &n); st = proxy_http_call(W(1), p, n, (void *)8, 0, (void *)8, 0, arg(2), &v); status("call", st); text(" "); number(v); say(); }
  CMD("callbody") { p = pairs(4, &n); st = proxy_http_call(W(1), p, n, W(3), (void *)8, 0, arg(2), &v); status("call", st); say(); }
  // Of gRPC: the upstream, service, method, and for a call milliseconds and the message; then the metadata. Then the token, 0 for
  // the last one, and the message. "grpcproto" wraps the upstream's name as plugins for Envoy do.
  CMD("grpccall") { p = pairs(6, &n); status("grpccall", proxy_grpc_call(W(1), W(2), W(3), p, n, W(5), arg(4), &v)); text(" "); number(v); say(); }
  CMD("grpcproto") {
    u8 name[64] = {10, words[1].n + 2, 10, words[1].n};
    for (u32 i = 0; i < words[1].n; i++) name[4 + i] = words[1].s[i];
    p = pairs(6, &n); status("grpccall", proxy_grpc_call(name, words[1].n + 4, W(2), W(3), p, n, W(5), arg(4), &v)); text(" "); number(v); say();
  }
  CMD("grpcstream") { p = pairs(4, &n); status("grpcstream", proxy_grpc_stream(W(1), W(2), W(3), p, n, &v)); text(" "); number(v); token = v; say(); }
  CMD("grpcsend") { status("grpcsend", proxy_grpc_send(arg(1) ? arg(1) : token, W(2), arg(3))); say(); }
  CMD("grpcclose") { status("grpcclose", proxy_grpc_close(arg(1) ? arg(1) : token)); say(); }
  CMD("grpccancel") { status("grpccancel", proxy_grpc_cancel(arg(1) ? arg(1) : token)); say(); }
  CMD("grpcecho") { // the message that came is sent again, unless it is this one: then nothing more is
    proxy_get_buffer_bytes(5, 0, 0x7fffffff, &p, &n);
    if (n == words[1].n && same((char *)p, n, words[1].s)) status("grpcclose", proxy_grpc_close(token));
    else status("grpcsend", proxy_grpc_send(token, p, n, 0));
    say();
  }
  CMD("floodsend") { p = take(1 << 19); for (u32 i = 0;; i++) if ((st = proxy_grpc_send(token, p, 1 << 19, 0))) { status("grpcsend", st); text(" "); number(i); say(); break; } }
  CMD("copybody") { if (proxy_get_buffer_bytes(arg(1), 0, 0x7fffffff, &p, &n) == 0) proxy_replace_header_map_value(0, W(2), p, n); }
  CMD("stream") { v = arg(1) ? arg(1) : stream; status("effective", proxy_set_effective_context(v)); say(); }
  CMD("status") { st = proxy_get_status(&v, &p, &n); status("status", st); text(" "); number(v); value(st, p, n); }
  CMD("time") { st = proxy_get_current_time_nanoseconds(&wide); status("time", st); text(wide > 1700000000000000000ull ? " now" : " then"); say(); }
  CMD("level") { st = proxy_get_log_level(&v); status("level", st); text(" "); number(v); say(); }
  CMD("tick") { status("tick", proxy_set_tick_period_milliseconds(arg(1))); say(); }
  CMD("done") { status("done", proxy_done()); say(); }
  CMD("foreign") { st = proxy_call_foreign_function(W(1), W(2), &p, &n); status("foreign", st); say(); }
  CMD("shared") { st = proxy_get_shared_data(W(1), &p, &n, &v); status("shared", st); text(v ? " versioned" : ""); value(st, p, n); }
  CMD("share") { status("share", proxy_set_shared_data(W(1), W(2), arg(3))); say(); }
  CMD("swap") { proxy_get_shared_data(W(1), &p, &n, &v); status("swap", proxy_set_shared_data(W(1), W(2), v)); status(" again", proxy_set_shared_data(W(1), W(2), v)); say(); }
  CMD("register") { st = proxy_register_shared_queue(W(1), &v); status("register", st); say(); }
  CMD("enqueue") { st = proxy_resolve_shared_queue(W(1), W(2), &v); status("resolve", st); if (!st) status(" enqueue", proxy_enqueue_shared_queue(v, W(3))); say(); }
  CMD("dequeue") { proxy_resolve_shared_queue(W(1), W(2), &v); st = proxy_dequeue_shared_queue(v, &p, &n); status("dequeue", st); value(st, p, n); }
  CMD("metric") { // kind, name, increment or record, by
    st = proxy_define_metric(arg(1), W(2), &v);
    status("metric", st);
    long long by = (int)arg(4);
    st = same(words[3].s, words[3].n, "record") ? proxy_record_metric(v, by) : proxy_increment_metric(v, by);
    status(" change", st);
    st = proxy_get_metric(v, &wide);
    status(" get", st);
    text(" ");
    number(wide);
    say();
  }
  CMD("unknown") { status("unknown", proxy_never_heard_of(1, 2)); say(); }
  CMD("trap") __builtin_trap();
  CMD("loop") for (;;) __asm__ volatile("");
  CMD("grow") for (;;) take(1 << 20)[0] = 1;
  CMD("bomb") for (;;) proxy_add_header_map_value(arg(1), W(2), W(3));
  CMD("flood") for (;;) proxy_log(2, W(1));
  CMD("floodprops") for (u32 i = 0;; i++) { char k[4] = {'a' + i % 26, 'a' + i / 26 % 26, 'a' + i / 676 % 26}; if ((st = proxy_set_property(k, 3, W(1)))) { status("setprop", st); number(i); say(); break; } }
  CMD("floodmetrics") for (u32 i = 0;; i++) { char k[4] = {'a' + i % 26, 'a' + i / 26 % 26, 'a' + i / 676 % 26}; if ((st = proxy_define_metric(0, k, 3, &v))) { status("metric", st); text(" "); number(i); say(); break; } }
  CMD("floodqueue") { proxy_register_shared_queue("q", 1, &v); for (u32 i = 0;; i++) if ((st = proxy_enqueue_shared_queue(v, W(1)))) { status("enqueue", st); text(" "); number(i); say(); break; } }
  CMD("floodcalls") { p = pairs(2, &n); for (u32 i = 0;; i++) if ((st = proxy_http_call(W(1), p, n, 0, 0, 0, 0, 1000, &v))) { status("call", st); text(" "); number(i); say(); break; } }
  CMD("lie") lies = arg(1);
  CMD("wild") { // pointers that are not in memory
    status("wild", proxy_log(2, (void *)0xfffffff0u, 100));
    status(" ", proxy_get_header_map_value(0, (void *)0x7fffffff, 8, &p, &n));
    status(" ", proxy_get_header_map_value(0, ":path", 5, (void *)0xffffffffu, (void *)0xfffffffcu));
    status(" ", proxy_get_buffer_bytes(7, 0, 100, (void *)0xfffffffeu, &n));
    status(" ", proxy_set_header_map_pairs(0, "\xff\xff\xff\xff", 4));
    status(" ", proxy_get_metric(4, (void *)0xfffffffcu));
    status(" ", proxy_get_header_map_size(99, &n));
    status(" ", proxy_get_buffer_bytes(99, 0, 1, &p, &n));
    status(" ", proxy_http_call((void *)0xfffffff0u, 100, 0, 0, 0, 0, 0, 0, 0, &v));
    say();
  }
  else { text("no such command: "); bytes(W(0)); say(); }
}

static u8 *config;
static u32 config_size;

// obey carries out the lines for a callback.
static u32 obey(const char *callback, u32 otherwise) {
  answer = otherwise;
  u8 *mark = top;
  for (u32 i = 0; i < config_size;) {
    u32 end = i;
    while (end < config_size && config[end] != '\n') end++;
    u32 name = i;
    while (name < end && config[name] != ' ') name++;
    if (same((char *)config + i, name - i, callback) && name < end) {
      split((char *)config + name + 1, end - name - 1);
      run();
      top = mark;
    }
    i = end + 1;
  }
  return answer;
}

static void came(const char *callback, u32 context, u32 n, const u32 *args) {
  id = context;
  text(callback);
  text("(");
  number(context);
  for (u32 i = 0; i < n; i++) {
    text(" ");
    number(args[i]);
  }
  text(")");
  say();
}
#define CAME(name, context, ...) do { u32 a[] = {__VA_ARGS__}; came(name, context, sizeof a / sizeof *a, a); } while (0)

EXPORT("proxy_abi_version_0_2_1") void version(void) {}

EXPORT("proxy_on_context_create") void on_context_create(u32 context, u32 parent) {
  CAME("create", context, parent);
  if (parent) {
    stream = context;
    obey("create", 0);
  }
}
EXPORT("proxy_on_vm_start") u32 on_vm_start(u32 context, u32 size) {
  CAME("vm_start", context, size);
  u32 n;
  u8 *p;
  if (size) { u32 st = proxy_get_buffer_bytes(6, 0, size, &p, &n); status("vm config", st); value(st, p, n); }
  return 1;
}
EXPORT("proxy_on_configure") u32 on_configure(u32 context, u32 size) {
  CAME("configure", context, size);
  if (!config && size) {
    u32 n;
    proxy_get_buffer_bytes(7, 0, size, &config, &n);
    config_size = n;
  }
  return obey("configure", 1);
}
EXPORT("proxy_on_done") u32 on_done(u32 context) { CAME("done", context); return obey(context < stream || context == 1 ? "root_done" : "done", 1); }
EXPORT("proxy_on_log") void on_log(u32 context) { CAME("log", context); obey("log", 0); }
EXPORT("proxy_on_delete") void on_delete(u32 context) { CAME("delete", context); obey("delete", 0); }
EXPORT("proxy_on_tick") void on_tick(u32 context) { CAME("tick", context); obey("tick", 0); }
EXPORT("proxy_on_queue_ready") void on_queue_ready(u32 context, u32 token) { CAME("queue", context, token); obey("queue", 0); }
EXPORT("proxy_on_request_headers") u32 on_request_headers(u32 context, u32 n, u32 end) { CAME("request", context, n, end); return obey("request", 0); }
EXPORT("proxy_on_request_body") u32 on_request_body(u32 context, u32 n, u32 end) { CAME("request_body", context, n, end); obey("request_body", 0); return obey(end ? "request_end" : "request_more", answer); }
EXPORT("proxy_on_request_trailers") u32 on_request_trailers(u32 context, u32 n) { CAME("request_trailers", context, n); return obey("request_trailers", 0); }
EXPORT("proxy_on_response_headers") u32 on_response_headers(u32 context, u32 n, u32 end) { CAME("response", context, n, end); return obey("response", 0); }
EXPORT("proxy_on_response_body") u32 on_response_body(u32 context, u32 n, u32 end) { CAME("response_body", context, n, end); obey("response_body", 0); return obey(end ? "response_end" : "response_more", answer); }
EXPORT("proxy_on_response_trailers") u32 on_response_trailers(u32 context, u32 n) { CAME("response_trailers", context, n); return obey("response_trailers", 0); }
EXPORT("proxy_on_http_call_response") void on_http_call_response(u32 context, u32 token, u32 n, u32 size, u32 trailers) {
  CAME("answer", context, n, size, trailers);
  obey("answer", 0);
}
EXPORT("proxy_on_grpc_receive_initial_metadata") void on_grpc_head(u32 context, u32 token, u32 n) { CAME("grpc_head", context, token, n); obey("grpc_head", 0); }
EXPORT("proxy_on_grpc_receive") void on_grpc_receive(u32 context, u32 token, u32 n) { CAME("grpc_message", context, token, n); obey("grpc_message", 0); }
EXPORT("proxy_on_grpc_receive_trailing_metadata") void on_grpc_trailers(u32 context, u32 token, u32 n) { CAME("grpc_trailers", context, token, n); obey("grpc_trailers", 0); }
EXPORT("proxy_on_grpc_close") void on_grpc_close(u32 context, u32 token, u32 code) { CAME("grpc_close", context, token, code); obey("grpc_close", 0); }
EXPORT("proxy_on_new_connection") u32 on_new_connection(u32 context) { CAME("connection", context); return obey("connection", 0); }
EXPORT("proxy_on_downstream_data") u32 on_downstream_data(u32 context, u32 n, u32 end) { CAME("downstream", context, n, end); return obey("downstream", 0); }
EXPORT("proxy_on_upstream_data") u32 on_upstream_data(u32 context, u32 n, u32 end) { CAME("upstream", context, n, end); return obey("upstream", 0); }
EXPORT("proxy_on_downstream_connection_close") void on_downstream_close(u32 context, u32 peer) { CAME("downstream_close", context, peer); obey("downstream_close", 0); }
EXPORT("proxy_on_upstream_connection_close") void on_upstream_close(u32 context, u32 peer) { CAME("upstream_close", context, peer); obey("upstream_close", 0); }
