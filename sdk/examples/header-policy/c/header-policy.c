// header-policy removes, renames, sets and appends headers, as its configuration says: see ../../README.md. The versions
// in other languages do the same.
#include "wasmgate.h"

#define MAX_RULES 256

enum { REMOVE, RENAME, SET, APPEND, KINDS };

// What is done to a message, in the order of the kinds.
struct rule {
  wg_header from; // RENAME
  wg_str name, value;
};

struct policy {
  struct rule rules[KINDS][MAX_RULES];
  uint32_t count[KINDS];
};

static struct policy policies[2]; // of requests and of answers

static const char bad_keys[] = "config: the keys are request and response, with remove, rename, set and append in each";
static const char no_name[] = "config: a header has no name";

// lower_copy is for wg_want_…, which take names in lower case.
static wg_str lower_copy(wg_str s) {
  wg_str copy = wg_keep(s);
  for (uint32_t i = 0; i < copy.len; i++) ((char *)copy.ptr)[i] = wg_lower(s.ptr[i]);
  return copy;
}

static const char *setting(void *arg, const wg_str *path, uint32_t depth, wg_str value) {
  (void)arg;
  static const wg_str kinds[KINDS] = {{"remove", 6}, {"rename", 6}, {"set", 3}, {"append", 6}};
  if (depth != 3) return bad_keys;
  bool response = wg_eq(path[0], WG_STR("response"));
  if (!response && !wg_eq(path[0], WG_STR("request"))) return bad_keys;
  int kind = 0;
  while (kind < KINDS && !wg_eq(path[1], kinds[kind])) kind++;
  if (kind == KINDS) return bad_keys;
  wg_str name = kind == REMOVE ? value : path[2];
  if (name.len == 0 || (kind == RENAME && value.len == 0)) return no_name;
  struct policy *p = &policies[response];
  if (p->count[kind] == MAX_RULES) return "config: there are too many rules";
  struct rule *r = &p->rules[kind][p->count[kind]++];
  r->name = wg_keep(name);
  r->value = wg_keep(value);
  if (!r->name.ptr || !r->value.ptr) return "config: out of memory";
  if (kind == RENAME) r->from = response ? wg_want_response_header(lower_copy(name)) : wg_want_request_header(lower_copy(name));
  return NULL;
}

static const char *configure(wg_config *c) {
  for (int i = 0; i < 2; i++)
    for (int kind = 0; kind < KINDS; kind++) policies[i].count[kind] = 0;
  return wg_json(c->config, setting, NULL);
}

// apply does it all, each with the message as it came.
static wg_decision apply(const wg_request *m, const struct policy *p) {
  for (uint32_t i = 0; i < p->count[REMOVE]; i++) wg_remove_header(p->rules[REMOVE][i].name);
  for (uint32_t i = 0; i < p->count[RENAME]; i++) {
    const struct rule *r = &p->rules[RENAME][i];
    uint32_t n = wg_count(m, r->from);
    if (n == 0) continue;
    wg_remove_header(r->name);
    wg_set_header(r->value, wg_get(m, r->from));
    for (uint32_t k = 1; k < n; k++) wg_append_header(r->value, wg_get_at(m, r->from, k));
  }
  for (uint32_t i = 0; i < p->count[SET]; i++) wg_set_header(p->rules[SET][i].name, p->rules[SET][i].value);
  for (uint32_t i = 0; i < p->count[APPEND]; i++) wg_append_header(p->rules[APPEND][i].name, p->rules[APPEND][i].value);
  return wg_continue();
}

static wg_decision request(const wg_request *r) { return apply(r, &policies[0]); }
static wg_decision response(const wg_request *r) { return apply(r, &policies[1]); }

WASMGATE_PLUGIN(.configure = configure, .request = request, .response = response)
