// The hostile plugin that speaks Proxy-Wasm.
#include "hostile.h"

#define IMPORT(name) __attribute__((import_module("env"), import_name(#name)))
IMPORT(proxy_log) u32 proxy_log(u32 level, const void *p, u32 n);
IMPORT(proxy_get_buffer_bytes) u32 proxy_get_buffer_bytes(u32 which, u32 start, u32 n, u8 **p, u32 *len);
IMPORT(proxy_get_header_map_value) u32 proxy_get_header_map_value(u32 map, const void *name, u32 n, u8 **p, u32 *len);
IMPORT(proxy_add_header_map_value) u32 proxy_add_header_map_value(u32 map, const void *name, u32 n, const void *value, u32 len);
IMPORT(proxy_replace_header_map_value) u32 proxy_replace_header_map_value(u32 map, const void *name, u32 n, const void *value, u32 len);
IMPORT(proxy_set_header_map_pairs) u32 proxy_set_header_map_pairs(u32 map, const void *p, u32 n);

enum { REQUEST = 0, CONFIGURATION = 7 };

static int lies; // about the memory that it gives

static void set(const char *name, const char *value) {
  u32 n = 0, len = 0;
  while (name[n]) n++;
  while (value[len]) len++;
  proxy_replace_header_map_value(REQUEST, name, n, value, len);
}

EXPORT(proxy_abi_version_0_2_1) void version(void) {}

EXPORT(proxy_on_memory_allocate) u8 *allocate(u32 n) { return lies ? (u8 *)0xfffffff0u : n <= sizeof in ? in : 0; }

EXPORT(proxy_on_configure) u32 configure(u32 context, u32 size) {
  (void)context;
  u8 *p;
  u32 n;
  if (proxy_get_buffer_bytes(CONFIGURATION, 0, size, &p, &n) || n > sizeof mode) return 0;
  for (mode_len = 0; mode_len < n; mode_len++) mode[mode_len] = p[mode_len];
  return 1;
}

EXPORT(proxy_on_request_headers) u32 request(u32 context, u32 n, u32 end) {
  (void)context, (void)n, (void)end;
  u8 *p;
  u32 len;
  abuse();
  if (is("out of range")) {
    lies = 1;
    proxy_get_header_map_value(REQUEST, ":path", 5, &p, &len);
  }
  if (is("oversized"))
    for (;;) proxy_add_header_map_value(REQUEST, "x-a", 3, in, 1000);
  if (is("unknown code")) return ~0u;
  if (is("not a list")) proxy_set_header_map_pairs(REQUEST, "\xff\xff\xff\xff", 4);
  if (is("line breaks")) set("x-a", "1\r\nx-smuggled: 1");
  if (is("bad name")) set("x-smuggled: 1\r\nx-a", "1");
  if (is("content-length")) set("content-length", "0");
  if (is("transfer-encoding")) set("Transfer_Encoding", "chunked");
  if (is("host")) set("host", "a/b\r\nx-smuggled: 1");
  if (is("log flood"))
    for (;;) proxy_log(4, "flood", 5);
  return 0;
}

#pragma clang attribute pop
