// What plugins/tenant-router decides by tenant, as a Proxy-Wasm plugin does it: the upstream by the authority, by which routes are
// matched again, and two fields. Tenants come from the configuration: lines of "TENANT AUTHORITY".

#define EXPORT(name) __attribute__((export_name(name)))
#define IMPORT(name) __attribute__((import_module("env"), import_name(name)))

typedef unsigned int u32;
typedef unsigned char u8;

IMPORT("proxy_get_header_map_value") u32 get(u32, const char *, u32, char **, u32 *);
IMPORT("proxy_replace_header_map_value") u32 replace(u32, const char *, u32, const char *, u32);
IMPORT("proxy_get_buffer_bytes") u32 buffer(u32, u32, u32, char **, u32 *);

static u8 heap[64 << 10];
static u32 used, kept; // what a callback takes begins behind what is kept

EXPORT("malloc") void *allocate(u32 n) {
  if (n > sizeof heap - used) return 0;
  void *p = heap + used;
  used += (n + 7) & ~7u;
  return p;
}

static struct tenant {
  const char *name, *authority;
  u32 size, length;
} tenants[256];

static u32 hash(const char *s, u32 n) { // FNV-1a
  u32 h = 2166136261u;
  for (u32 i = 0; i < n; i++) h = (h ^ (u8)s[i]) * 16777619u;
  return h % 256;
}

static struct tenant *find(const char *name, u32 n) {
  for (u32 i = hash(name, n);; i = (i + 1) % 256) {
    struct tenant *t = &tenants[i];
    if (!t->name) return t;
    if (t->size != n) continue;
    u32 k = 0;
    while (k < n && t->name[k] == name[k]) k++;
    if (k == n) return t;
  }
}

EXPORT("proxy_abi_version_0_2_1") void version(void) {}

EXPORT("proxy_on_configure") u32 on_configure(u32 context, u32 size) {
  char *s;
  u32 n, count = 0;
  if (buffer(7, 0, size, &s, &n) != 0) return 0;
  kept = used;
  for (u32 i = 0; i < n && count < 128; count++) {
    u32 from = i, space;
    while (i < n && s[i] != ' ') i++;
    space = i;
    while (i < n && s[i] != '\n') i++;
    struct tenant *t = find(s + from, space - from);
    t->name = s + from, t->size = space - from;
    t->authority = s + space + 1, t->length = i - space - 1;
    i++;
  }
  return 1;
}

EXPORT("proxy_on_request_headers") u32 on_request_headers(u32 context, u32 n, u32 end) {
  char *tenant;
  u32 size;
  used = kept;
  if (get(0, "x-tenant", 8, &tenant, &size) != 0 || size > 63) return 0;
  for (u32 i = 0; i < size; i++)
    if (tenant[i] >= 'A' && tenant[i] <= 'Z') tenant[i] += 'a' - 'A';
  struct tenant *t = find(tenant, size);
  if (!t->name) return 0;
  replace(0, ":authority", 10, t->authority, t->length);
  replace(0, "x-tenant-id", 11, t->name, t->size);
  replace(0, "x-routed-by", 11, "tenant-router", 13);
  return 0;
}
