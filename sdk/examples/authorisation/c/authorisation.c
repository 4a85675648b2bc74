// authorisation asks a service who a request's credential belongs to, and keeps the answer for a while: see ../../README.md.
// The versions in other languages do the same.
#include "wasmgate.h"

#define MAX_KEY 1024   // of a store
#define MAX_VALUE 65536 // of what is in it

static struct {
  wg_header credential;
  uint32_t asked, service, store;
  bool has_service, has_store;
  wg_str path;
  uint32_t ttl, timeout; // milliseconds
} state;

static const char *milliseconds(wg_str value, uint32_t *out, const char *error) {
  uint64_t n;
  if (!wg_number(value, &n) || n == 0 || n > 0x7fffffff) return error;
  *out = (uint32_t)n;
  return NULL;
}

static const char *setting(void *arg, const wg_str *key, uint32_t depth, wg_str value) {
  (void)arg;
  if (depth != 1) return "config: the keys are service, store, path, ttl and timeout";
  if (wg_eq(key[0], WG_STR("service"))) {
    state.service = wg_want_service(value);
    state.has_service = true;
  } else if (wg_eq(key[0], WG_STR("store"))) {
    state.store = wg_want_store(value);
    state.has_store = true;
  } else if (wg_eq(key[0], WG_STR("path"))) {
    state.path = wg_keep(value);
  } else if (wg_eq(key[0], WG_STR("ttl"))) {
    return milliseconds(value, &state.ttl, "config.ttl is a number of milliseconds, 1 to 2147483647");
  } else if (wg_eq(key[0], WG_STR("timeout"))) {
    return milliseconds(value, &state.timeout, "config.timeout is a number of milliseconds, 1 to 2147483647");
  } else {
    return "config: the keys are service, store, path, ttl and timeout";
  }
  return NULL;
}

static const char *configure(wg_config *c) {
  state.path = WG_STR("/authorise");
  state.ttl = 60000;
  state.timeout = 1000;
  state.has_service = state.has_store = false;
  state.credential = wg_want_request_header(WG_STR("authorization"));
  state.asked = wg_want_metric(WG_COUNTER, WG_STR("asked"), WG_STR("requests to the service"), NULL, 0);
  const char *error = wg_json(c->config, setting, NULL);
  if (error) return error;
  if (!state.has_service) return "config.service is missing: the upstream that is asked";
  return state.has_store ? NULL : "config.store is missing: where answers are kept";
}

// A text that is put together.
static char text[MAX_VALUE];
static uint32_t text_len;

static wg_str append(wg_str s) {
  for (uint32_t i = 0; i < s.len && text_len < sizeof text; i++) text[text_len++] = s.ptr[i];
  return wg_slice(text, text_len);
}

static wg_str start(wg_str s) {
  text_len = 0;
  return append(s);
}

static wg_str append_number(uint32_t n) {
  char digits[10];
  uint32_t i = sizeof digits;
  do digits[--i] = (char)('0' + n % 10);
  while (n /= 10);
  return append(wg_slice(digits + i, sizeof digits - i));
}

static const wg_str failures[] = {{"", 0},
                                  {"no answer in time", 17},
                                  {"no connection to the upstream", 29},
                                  {"not while the plugin is configured", 34},
                                  {"too large", 9},
                                  {"not a valid request", 19},
                                  {"the upstream failed", 19},
                                  {"too many calls", 14}};

static wg_decision failed(wg_result r) {
  start(WG_STR("the authorisation service: "));
  return wg_fail(append(r < sizeof failures / sizeof failures[0] ? failures[r] : WG_STR("failed")));
}

// decide does what the service said: "+" and who it is, or "-".
static wg_decision decide(const wg_request *r, wg_str verdict, wg_str cache) {
  if (wg_sampled(r)) wg_attribute(WG_STR("authorisation.cache"), cache);
  if (verdict.ptr[0] != '+') return wg_deny(403);
  if (verdict.len > 1)
    wg_set_header(WG_STR("x-user"), wg_slice(verdict.ptr + 1, verdict.len - 1));
  else
    wg_remove_header(WG_STR("x-user"));
  return wg_continue();
}

static wg_decision request(const wg_request *r) {
  static char key_bytes[MAX_KEY], known[MAX_VALUE];
  uint32_t n = wg_count(r, state.credential), len = 0;
  wg_str credential = wg_get(r, state.credential), prefix = WG_STR("authorisation/");
  if (n == 0) {
    wg_field challenge = {WG_STR("www-authenticate"), WG_STR("Bearer")};
    return wg_respond(401, WG_STR(""), &challenge, 1);
  }
  if (n > 1) return wg_deny(400); // which of them would the upstream believe?
  wg_str key = wg_slice(key_bytes, prefix.len + credential.len);
  bool keep = key.len <= MAX_KEY;
  if (keep) {
    wg_copy(key_bytes, prefix.ptr, prefix.len);
    wg_copy(key_bytes + prefix.len, credential.ptr, credential.len);
    if (wg_kv_get(state.store, key, known, sizeof known, &len) && len <= sizeof known)
      return decide(r, wg_slice(known, len), WG_STR("hit"));
  }
  wg_metric(state.asked, 1);
  wg_field authorization = {WG_STR("authorization"), credential};
  wg_outbound question = {.path = state.path, .fields = &authorization, .field_count = 1, .timeout = state.timeout};
  const wg_answer *answer;
  wg_result result = wg_call(state.service, &question, &answer);
  if (result != WG_OK) return failed(result);
  uint32_t status = wg_answer_status(answer);
  wg_str verdict = start(WG_STR("-"));
  if (status == 200) {
    start(WG_STR("+"));
    verdict = append(wg_answer_get(answer, WG_STR("x-user")));
  } else if (status != 401 && status != 403) {
    start(WG_STR("the authorisation service answered "));
    return wg_fail(append_number(status));
  }
  if (keep) wg_kv_set(state.store, key, verdict, state.ttl); // a store that is full only costs another question
  return decide(r, verdict, WG_STR("miss"));
}

WASMGATE_PLUGIN(.configure = configure, .request = request)
