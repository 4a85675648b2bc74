// The hostile plugin that speaks http-wasm.
#include "hostile.h"

#define HOST(name) __attribute__((import_module("http_handler"), import_name(#name)))
HOST(get_config) u32 get_config(void *buf, u32 limit);
HOST(log) void host_log(int level, const void *text, u32 len);
HOST(get_uri) u32 get_uri(void *buf, u32 limit);
HOST(get_header_names) u64 get_header_names(u32 kind, void *buf, u32 limit);
HOST(set_header_value) void set_header_value(u32 kind, const void *name, u32 n, const void *value, u32 len);
HOST(write_body) void write_body(u32 kind, const void *body, u32 len);

enum { REQUEST = 0, RESPONSE = 1 };

static void set(const char *name, const char *value) {
  u32 n = 0, len = 0;
  while (name[n]) n++;
  while (value[len]) len++;
  set_header_value(REQUEST, name, n, value, len);
}

EXPORT(_start) void start(void) { mode_len = get_config(mode, sizeof mode); }

EXPORT(handle_request) u64 request(void) {
  abuse();
  if (is("out of range")) get_uri((void *)0xfffffff0u, 100);
  if (is("oversized"))
    for (;;) write_body(RESPONSE, in, sizeof in);
  if (is("unknown code")) return ~0ull;
  if (is("not a list")) get_header_names(77, in, sizeof in);
  if (is("line breaks")) set("x-a", "1\r\nx-smuggled: 1");
  if (is("bad name")) set("x-smuggled: 1\r\nx-a", "1");
  if (is("content-length")) set("content-length", "0");
  if (is("transfer-encoding")) set("Transfer_Encoding", "chunked");
  if (is("host")) set("host", "a/b");
  if (is("log flood"))
    for (;;) host_log(2, "flood", 5);
  return 1;
}

EXPORT(handle_response) void response(u32 context, u32 is_error) { (void)context, (void)is_error; }

#pragma clang attribute pop
