// A Proxy-Wasm guest for fuzzing: its configuration is a tape. Each callback reads from it which host functions to call
// with which arguments, and what to answer; so does the allocator. At the tape's end everything is zero.

#define EXPORT(name) __attribute__((export_name(name)))
#define IMPORT(name) __attribute__((import_module("env"), import_name(name)))

typedef unsigned int u32;
typedef unsigned long long u64;
typedef unsigned char u8;

#define F1(n) IMPORT(#n) u32 n(u32);
#define F2(n) IMPORT(#n) u32 n(u32, u32);
#define F3(n) IMPORT(#n) u32 n(u32, u32, u32);
#define F4(n) IMPORT(#n) u32 n(u32, u32, u32, u32);
#define F5(n) IMPORT(#n) u32 n(u32, u32, u32, u32, u32);
#define F6(n) IMPORT(#n) u32 n(u32, u32, u32, u32, u32, u32);
IMPORT("proxy_done") u32 proxy_done(void);
F1(proxy_get_log_level) F1(proxy_get_current_time_nanoseconds) F1(proxy_set_tick_period_milliseconds) F1(proxy_set_effective_context)
F1(proxy_continue_stream) F1(proxy_close_stream) F1(proxy_grpc_cancel) F1(proxy_grpc_close)
F2(proxy_get_header_map_size) F2(proxy_get_metric) F2(proxy_get_configuration)
F3(proxy_log) F3(proxy_get_status) F3(proxy_get_header_map_pairs) F3(proxy_set_header_map_pairs) F3(proxy_remove_header_map_value)
F3(proxy_get_buffer_status) F3(proxy_register_shared_queue) F3(proxy_dequeue_shared_queue) F3(proxy_enqueue_shared_queue)
F4(proxy_get_property) F4(proxy_set_property) F4(proxy_define_metric) F4(proxy_grpc_send)
F5(proxy_get_header_map_value) F5(proxy_add_header_map_value) F5(proxy_replace_header_map_value) F5(proxy_get_buffer_bytes)
F5(proxy_set_buffer_bytes) F5(proxy_get_shared_data) F5(proxy_set_shared_data) F5(proxy_resolve_shared_queue)
F6(proxy_call_foreign_function)
IMPORT("proxy_increment_metric") u32 proxy_increment_metric(u32, u64);
IMPORT("proxy_record_metric") u32 proxy_record_metric(u32, u64);
IMPORT("proxy_send_local_response") u32 proxy_send_local_response(u32, u32, u32, u32, u32, u32, u32, u32);
IMPORT("proxy_http_call") u32 proxy_http_call(u32, u32, u32, u32, u32, u32, u32, u32, u32, u32);
IMPORT("proxy_grpc_call") u32 proxy_grpc_call(u32, u32, u32, u32, u32, u32, u32, u32, u32, u32, u32, u32);
IMPORT("proxy_grpc_stream") u32 proxy_grpc_stream(u32, u32, u32, u32, u32, u32, u32, u32, u32);
IMPORT("proxy_clear_route_cache") u32 proxy_clear_route_cache(void);

static u8 tape[65536], out[256], heap[1 << 20];
static u32 at, size, used;
static int honest = 1;

static u32 next(void) { return at < size ? tape[at++] : 0; }

// The names that mean something. Each has eight bytes before it: as lengths they make a serialized map.
static const char names[16][24] = {
    ":path", ":authority", ":method", ":status", "x-tenant", "content-length", "host", "auth", "plugin_name", "request\0headers\0x-tenant",
    "clear_route_cache", "/a/b?c=d", "GET", "q", "connection", "x\r\ny"};

static u32 arg(void) {
  u32 v;
  switch (next() % 8) {
  case 0: return next();
  case 1: v = next(); v |= next() << 8; v |= next() << 16; return v | next() << 24;
  case 2: case 3: return (u32)names[next() % 16];
  case 4: return (u32)out + next() % 64 * 4;
  case 5: return (u32)tape + at;
  case 6: return next() % 24;
  }
  return next() % 8;
}

EXPORT("proxy_on_memory_allocate") u32 allocate(u32 n) {
  if (!honest && next() % 8 == 7) return arg();
  if (used + n > sizeof heap) used = 0;
  if (n > sizeof heap) return 0;
  u32 p = (u32)heap + used;
  used += (n + 7) & ~7u;
  return p;
}

// pairs writes a serialized map of names.
static u32 pairs(u32 *n) {
  static u8 b[4096];
  u32 count = next() % 6, o = 4 + 8 * count;
  *(u32 *)b = count;
  for (u32 i = 0; i < 2 * count; i++) {
    const char *s = names[next() % 16];
    u32 m = 0;
    while (s[m]) b[o++] = s[m++];
    b[o++] = 0;
    *(u32 *)(b + 4 + 4 * i) = m;
  }
  *n = o;
  return (u32)b;
}

#define A arg()
static void op(void) {
  u32 n, p;
  switch (next() % 53) {
  case 0: proxy_done(); break;
  case 1: proxy_get_log_level(A); break;
  case 2: proxy_get_current_time_nanoseconds(A); break;
  case 3: proxy_set_tick_period_milliseconds(A); break;
  case 4: proxy_set_effective_context(A); break;
  case 5: case 40: proxy_continue_stream(A); break;
  case 6: proxy_close_stream(A); break;
  case 7: proxy_grpc_cancel(A); break;
  case 8: proxy_grpc_close(A); break;
  case 9: proxy_get_header_map_size(A, A); break;
  case 10: proxy_get_metric(A, A); break;
  case 11: proxy_get_configuration(A, A); break;
  case 12: proxy_log(A, A, A); break;
  case 13: proxy_get_status(A, A, A); break;
  case 14: proxy_get_header_map_pairs(A, A, A); break;
  case 15: proxy_set_header_map_pairs(A, A, A); break;
  case 16: proxy_remove_header_map_value(A, A, A); break;
  case 17: proxy_get_buffer_status(A, A, A); break;
  case 18: proxy_register_shared_queue(A, A, A); break;
  case 19: proxy_dequeue_shared_queue(A, A, A); break;
  case 20: proxy_enqueue_shared_queue(A, A, A); break;
  case 21: proxy_get_property(A, A, A, A); break;
  case 22: proxy_set_property(A, A, A, A); break;
  case 23: proxy_define_metric(A, A, A, A); break;
  case 24: proxy_grpc_send(A, A, A, A); break;
  case 25: proxy_get_header_map_value(A, A, A, A, A); break;
  case 26: proxy_add_header_map_value(A, A, A, A, A); break;
  case 27: proxy_replace_header_map_value(A, A, A, A, A); break;
  case 28: proxy_get_buffer_bytes(A, A, A, A, A); break;
  case 29: proxy_set_buffer_bytes(A, A, A, A, A); break;
  case 30: proxy_get_shared_data(A, A, A, A, A); break;
  case 31: proxy_set_shared_data(A, A, A, A, A); break;
  case 32: proxy_resolve_shared_queue(A, A, A, A, A); break;
  case 33: proxy_call_foreign_function(A, A, A, A, A, A); break;
  case 34: proxy_increment_metric(A, A); break;
  case 35: proxy_record_metric(A, A); break;
  case 36: proxy_send_local_response(A, A, A, A, A, A, A, A); break;
  case 37: proxy_http_call(A, A, A, A, A, A, A, A, A, A); break;
  case 38: proxy_clear_route_cache(); break;
  case 39: p = pairs(&n); proxy_set_header_map_pairs(next() % 8, p, n); break;
  case 41: p = pairs(&n); proxy_send_local_response(200 + next() * 2, 0, 0, A, next(), p, n, A); break;
  case 42: p = pairs(&n); proxy_http_call((u32)names[7], 4, p, n, A, next(), 0, 0, next(), (u32)out); break;
  case 43: { const char *k = names[next() % 16], *v = names[next() % 16]; u32 kn = 0, vn = 0; while (k[kn]) kn++; while (v[vn]) vn++; proxy_replace_header_map_value(next() % 8, (u32)k, kn, (u32)v, vn); break; }
  case 44: proxy_set_buffer_bytes(next() % 2, next(), next(), (u32)names, next()); break;
  case 45: proxy_get_buffer_bytes(next() % 2, next(), next(), (u32)out, (u32)out + 4); break;
  case 46: proxy_set_effective_context(next() % 5); break;
  case 47: __builtin_trap();
  case 48: proxy_grpc_call(A, A, A, A, A, A, A, A, A, A, A, A); break;
  case 49: proxy_grpc_stream(A, A, A, A, A, A, A, A, A); break;
  case 50: p = pairs(&n); proxy_grpc_call((u32)names[7], 4, (u32)names[13], 1, (u32)names[13], 1, p, n, A, next(), next(), (u32)out); break;
  case 51: p = pairs(&n); proxy_grpc_stream((u32)names[7], 4, (u32)names[13], 1, (u32)names[13], 1, p, n, (u32)out); break;
  case 52: switch (next() % 3) { case 0: proxy_grpc_send(next() % 4, A, next(), next() % 2); break; case 1: proxy_grpc_close(next() % 4); break; case 2: proxy_grpc_cancel(next() % 4); } break;
  }
}

static u32 come(void) {
  for (u32 n = next() % 8; n; n--) op();
  return next() % 6;
}

EXPORT("proxy_abi_version_0_1_0") void v1(void) {}
EXPORT("proxy_abi_version_0_2_0") void v2(void) {}
EXPORT("proxy_on_vm_start") u32 on_vm_start(u32 a, u32 b) { return 1; }
EXPORT("proxy_on_configure") u32 on_configure(u32 a, u32 n) {
  u32 p, m;
  if (proxy_get_buffer_bytes(7, 0, sizeof tape, (u32)&p, (u32)&m) == 0 && m <= sizeof tape) {
    for (u32 i = 0; i < m; i++) tape[i] = ((u8 *)p)[i];
    size = m;
  }
  honest = 0;
  come();
  return 1;
}
#define C1(n) EXPORT("proxy_" #n) u32 n(u32 a) { return come(); }
#define C2(n) EXPORT("proxy_" #n) u32 n(u32 a, u32 b) { return come(); }
#define C3(n) EXPORT("proxy_" #n) u32 n(u32 a, u32 b, u32 c) { return come(); }
C2(on_context_create) C1(on_done) C1(on_log) C1(on_delete) C1(on_tick) C2(on_queue_ready)
C3(on_request_headers) C3(on_request_body) C2(on_request_trailers) C3(on_response_headers) C3(on_response_body) C2(on_response_trailers)
EXPORT("proxy_on_http_call_response") void on_http_call_response(u32 a, u32 b, u32 c, u32 d, u32 e) { come(); }
C3(on_grpc_receive_initial_metadata) C3(on_grpc_receive) C3(on_grpc_receive_trailing_metadata) C3(on_grpc_close)
C1(on_new_connection) C3(on_downstream_data) C3(on_upstream_data) C2(on_downstream_connection_close) C2(on_upstream_connection_close)
