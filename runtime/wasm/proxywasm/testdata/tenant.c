// The decision of the tenant router as a Proxy-Wasm plugin makes it: routes are matched again by the authority that it sets.

#define EXPORT(name) __attribute__((export_name(name)))
#define IMPORT(name) __attribute__((import_module("env"), import_name(name)))

typedef unsigned int u32;
typedef unsigned char u8;

IMPORT("proxy_get_header_map_value") u32 get(u32, const char *, u32, char **, u32 *);
IMPORT("proxy_replace_header_map_value") u32 replace(u32, const char *, u32, const char *, u32);

static u8 heap[4096];
static u32 used;

EXPORT("malloc") void *allocate(u32 n) {
  if (used + n > sizeof heap) return 0;
  void *p = heap + used;
  used += (n + 7) & ~7u;
  return p;
}

EXPORT("proxy_abi_version_0_2_1") void version(void) {}

EXPORT("proxy_on_request_headers") u32 on_request_headers(u32 context, u32 n, u32 end) {
  static const char suffix[] = ".internal";
  char *tenant, authority[64];
  u32 size;
  used = 0;
  if (get(0, "x-tenant", 8, &tenant, &size) != 0 || size > 48) return 0;
  for (u32 i = 0; i < size; i++) authority[i] = tenant[i];
  for (u32 i = 0; i < sizeof suffix - 1; i++) authority[size + i] = suffix[i];
  replace(0, ":authority", 10, authority, size + sizeof suffix - 1);
  replace(0, "x-routed-by", 11, "tenant", 6);
  return 0;
}
