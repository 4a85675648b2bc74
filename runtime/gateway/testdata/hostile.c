// A plugin that does what its configuration names, and nothing good: tests look at what becomes of the gateway. It speaks
// the native ABI.
#include "hostile.h"

__attribute__((import_module("wasmgate_v1"), import_name("log"))) void host_log(u32 level, const void *p, u32 n);

enum { OK = 0, CONTINUE = 0, OPERATIONS = 4 };
enum { SET_HEADER = 0x20, RESPOND = 0x30 };

static u8 out[1 << 16];

static u64 pack(u32 high, u32 low) { return (u64)high << 32 | low; }
static u32 word(const u8 *p) { return p[0] | p[1] << 8 | p[2] << 16 | (u32)p[3] << 24; }

EXPORT(wasmgate_v1_arena) u64 arena(u32 which) {
  return which ? pack(sizeof out, (u32)out) : pack(sizeof in, (u32)in);
}

EXPORT(wasmgate_v1_configure) u64 configure(u32 len) {
  (void)len;
  mode_len = word(in + 28);
  if (mode_len > sizeof mode) __builtin_trap();
  for (u32 i = 0; i < mode_len; i++) mode[i] = in[word(in + 24) + i];
  return pack(OK, 0);
}

static u32 put_word(u32 at, u32 v) {
  for (u32 i = 0; i < 4; i++) out[at + i] = v >> 8 * i;
  return at + 4;
}

static u32 put_string(u32 at, const char *s) {
  u32 n = 0;
  while (s[n]) n++;
  at = put_word(at, n);
  for (u32 i = 0; i < n; i++) out[at + i] = s[i];
  return at + n;
}

static u64 set_header(const char *name, const char *value) {
  u32 end = put_string(put_string(8, name), value);
  put_word(0, SET_HEADER);
  put_word(4, end - 8);
  return pack(OPERATIONS, end);
}

EXPORT(wasmgate_v1_request) u64 request(u32 len) {
  (void)len;
  abuse();
  if (is("out of range")) return pack(OPERATIONS, 0xfffffff0);
  if (is("oversized")) return pack(OPERATIONS, 1 << 24);
  if (is("unknown code")) return ~0ull;
  if (is("not a list")) return pack(OPERATIONS, 5);
  if (is("line breaks")) return set_header("x-a", "1\r\nx-smuggled: 1");
  if (is("bad name")) return set_header("x a:", "1");
  if (is("content-length")) return set_header("content-length", "0");
  if (is("transfer-encoding")) return set_header("Transfer_Encoding", "chunked");
  if (is("host")) return set_header("host", "other");
  if (is("log flood"))
    for (;;) host_log(3, "flood", 5);
  if (is("log a lot"))
    for (u32 i = 0; i < 50; i++) host_log(3, "a line", 6);
  return pack(CONTINUE, 0);
}

#pragma clang attribute pop
