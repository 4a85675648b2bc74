// A plugin that does what its configuration names, and nothing good: tests look at what becomes of the gateway. It speaks
// the native ABI without an SDK, so that nothing keeps it from lying.
typedef unsigned char u8;
typedef unsigned int u32;
typedef unsigned long long u64;

#define EXPORT(name) __attribute__((export_name(#name)))
#pragma clang attribute push(__attribute__((target("bulk-memory"))), apply_to = function) // memory.fill is one of its weapons
__attribute__((import_module("wasmgate_v1"), import_name("log"))) void host_log(u32 level, const void *p, u32 n);

enum { OK = 0, CONTINUE = 0, OPERATIONS = 4 };
enum { SET_HEADER = 0x20, RESPOND = 0x30 };

static u8 in[1 << 16], out[1 << 16];
static u8 mode[64];
static u32 mode_len;
static volatile u32 sink;

static u64 pack(u32 high, u32 low) { return (u64)high << 32 | low; }
static u32 word(const u8 *p) { return p[0] | p[1] << 8 | p[2] << 16 | (u32)p[3] << 24; }

static int is(const char *name) {
  u32 i = 0;
  for (; name[i]; i++)
    if (i >= mode_len || mode[i] != name[i]) return 0;
  return i == mode_len;
}

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

__attribute__((noinline)) static u32 recursion(u32 n) {
  sink += n;
  return n == 0 ? 1 : recursion(n - 1) + recursion(n - 1);
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
  if (is("endless loop"))
    for (;;) sink++;
  if (is("recursion")) return recursion(60);
  if (is("deep recursion")) return recursion(1 << 30);
  if (is("growth"))
    for (;;) sink += __builtin_wasm_memory_grow(0, 1);
  if (is("fill"))
    for (;;) __builtin_memset(in, (int)sink++, __builtin_wasm_memory_size(0) * 65536 - (u32)in);
  if (is("trap")) __builtin_trap();
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
