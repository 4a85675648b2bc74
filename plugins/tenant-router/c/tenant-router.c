// tenant-router chooses the upstream by tenant: see README.md of the plugin. The Go version beside it does the same.
#include "wasmgate.h"

#define MAX_NAME 63 // a host label's

struct tenant {
  wg_str name; // lower case
  uint32_t upstream;
};

static struct {
  wg_header header;
  wg_str domain; // lower case, without a leading dot; empty: hosts do not say the tenant
  uint32_t fallback;
  bool has_fallback;
  struct tenant *tenants; // a hash table with open addressing: an empty place has no name
  uint32_t size, used;    // the size is a power of two
} state;

static uint32_t hash(wg_str s) { // FNV-1a
  uint32_t h = 2166136261u;
  for (uint32_t i = 0; i < s.len; i++) h = (h ^ (uint8_t)s.ptr[i]) * 16777619u;
  return h;
}

// find returns the place of a tenant, or the empty place where it belongs.
static struct tenant *find(wg_str name) {
  uint32_t i = hash(name) & (state.size - 1);
  while (state.tenants[i].name.ptr && !wg_eq(state.tenants[i].name, name)) i = (i + 1) & (state.size - 1);
  return &state.tenants[i];
}

static bool grow(void) {
  struct tenant *old = state.tenants;
  uint32_t n = state.size;
  state.size = n ? 2 * n : 64;
  state.tenants = wg_alloc(state.size * sizeof(struct tenant));
  if (!state.tenants) return false;
  for (uint32_t i = 0; i < state.size; i++) state.tenants[i].name = wg_slice(NULL, 0);
  for (uint32_t i = 0; i < n; i++)
    if (old[i].name.ptr) *find(old[i].name) = old[i];
  return true;
}

// lower_label writes s in lower case to out; false if it cannot be a tenant's name.
static bool lower_label(wg_str s, char *out) {
  if (s.len == 0 || s.len > MAX_NAME) return false;
  for (uint32_t i = 0; i < s.len; i++) out[i] = wg_lower(s.ptr[i]);
  return true;
}

static const char *add_tenant(wg_str key, wg_str upstream) {
  char name[MAX_NAME];
  if (!lower_label(key, name)) return "config.tenants: a tenant's name has 1 to 63 bytes";
  if (2 * (state.used + 1) > state.size && !grow()) return "config.tenants: out of memory";
  struct tenant *t = find(wg_slice(name, key.len));
  if (t->name.ptr) return "config.tenants: a tenant is there twice";
  t->name = wg_keep(wg_slice(name, key.len));
  if (!t->name.ptr) return "config.tenants: out of memory";
  t->upstream = wg_want_upstream(upstream);
  state.used++;
  return NULL;
}

static const char *setting(void *arg, const wg_str *path, uint32_t depth, wg_str value) {
  (void)arg;
  if (depth == 1 && wg_eq(path[0], WG_STR("default"))) {
    state.fallback = wg_want_upstream(value);
    state.has_fallback = true;
    return NULL;
  }
  if (depth == 1 && wg_eq(path[0], WG_STR("domain"))) {
    state.domain = wg_keep(value);
    for (uint32_t i = 0; i < state.domain.len; i++) ((char *)state.domain.ptr)[i] = wg_lower(value.ptr[i]);
    return NULL;
  }
  if (depth == 2 && wg_eq(path[0], WG_STR("tenants"))) return add_tenant(path[1], value);
  return "config: the keys are default, domain and tenants";
}

static const char *configure(wg_config *c) {
  state.header = wg_want_request_header(WG_STR("x-tenant"));
  if (!grow()) return "out of memory";
  const char *error = wg_json(c->config, setting, NULL);
  if (error) return error;
  return state.has_fallback ? NULL : "config.default is missing: the upstream of unknown tenants";
}

// host_label returns the one label in front of the domain; empty if there is none.
static wg_str host_label(wg_str host) {
  wg_str none = wg_slice(NULL, 0);
  if (state.domain.len == 0 || host.len < state.domain.len + 2) return none;
  uint32_t n = host.len - state.domain.len - 1;
  if (host.ptr[n] != '.' || wg_find(wg_slice(host.ptr, n), '.') != n) return none;
  return wg_eq_nocase(wg_slice(host.ptr + n + 1, state.domain.len), state.domain) ? wg_slice(host.ptr, n) : none;
}

static wg_decision request(const wg_request *r) {
  if (wg_path_under(wg_path(r), WG_STR("/admin"))) return wg_deny(403);
  wg_str asked = wg_get(r, state.header);
  if (asked.len == 0) asked = host_label(wg_host(r));
  wg_str tenant = WG_STR("default");
  uint32_t upstream = state.fallback;
  char name[MAX_NAME];
  if (lower_label(asked, name)) {
    struct tenant *t = find(wg_slice(name, asked.len));
    if (t->name.ptr) {
      tenant = t->name;
      upstream = t->upstream;
    }
  }
  wg_set_header(WG_STR("x-tenant-id"), tenant);
  wg_set_header(WG_STR("x-routed-by"), WG_STR("tenant-router"));
  if (wg_sampled(r)) wg_attribute(WG_STR("tenant.id"), tenant);
  return wg_route(upstream);
}

WASMGATE_PLUGIN(.configure = configure, .request = request)
