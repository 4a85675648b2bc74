// What the http-handler ABI of http-wasm (http-wasm.io/http-handler-abi) gives a guest in C, and a little around it.
#pragma once

typedef unsigned int u32;
typedef unsigned long long u64;

#define HOST(name) __attribute__((import_module("http_handler"), import_name(#name)))
#define EXPORT(name) __attribute__((export_name(#name)))

enum { BUFFER_REQUEST = 1, BUFFER_RESPONSE = 2, TRAILERS = 4 };
enum { REQUEST, RESPONSE, REQUEST_TRAILERS, RESPONSE_TRAILERS };

HOST(enable_features) u32 enable_features(u32 features);
HOST(get_config) u32 get_config(void *buf, u32 limit);
HOST(log) void host_log(int level, const char *text, u32 len);
HOST(log_enabled) u32 log_enabled(int level);
HOST(get_method) u32 get_method(void *buf, u32 limit);
HOST(set_method) void set_method(const char *method, u32 len);
HOST(get_uri) u32 get_uri(void *buf, u32 limit);
HOST(set_uri) void set_uri(const char *uri, u32 len);
HOST(get_protocol_version) u32 get_protocol_version(void *buf, u32 limit);
HOST(get_source_addr) u32 get_source_addr(void *buf, u32 limit);
HOST(get_header_names) u64 get_header_names(u32 kind, void *buf, u32 limit);
HOST(get_header_values) u64 get_header_values(u32 kind, const char *name, u32 name_len, void *buf, u32 limit);
HOST(set_header_value) void set_header_value(u32 kind, const char *name, u32 name_len, const char *value, u32 len);
HOST(add_header_value) void add_header_value(u32 kind, const char *name, u32 name_len, const char *value, u32 len);
HOST(remove_header) void remove_header(u32 kind, const char *name, u32 name_len);
HOST(read_body) u64 read_body(u32 kind, void *buf, u32 limit);
HOST(write_body) void write_body(u32 kind, const void *body, u32 len);
HOST(get_status_code) u32 get_status_code(void);
HOST(set_status_code) void set_status_code(u32 status);

// A string with its length.
typedef struct {
  const char *at;
  u32 len;
} str;

#define STR(literal) ((str){literal, sizeof(literal) - 1})

static int equal(str a, str b) {
  if (a.len != b.len) return 0;
  for (u32 i = 0; i < a.len; i++)
    if (a.at[i] != b.at[i]) return 0;
  return 1;
}

// The compiler makes calls of these out of loops.
__attribute__((no_builtin("memcpy"))) void *memcpy(void *to, const void *from, unsigned long n) {
  for (unsigned long i = 0; i < n; i++) ((char *)to)[i] = ((const char *)from)[i];
  return to;
}

__attribute__((no_builtin("memset"))) void *memset(void *to, int c, unsigned long n) {
  for (unsigned long i = 0; i < n; i++) ((char *)to)[i] = (char)c;
  return to;
}
