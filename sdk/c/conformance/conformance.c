// The conformance plugin of the C SDK: it does what the commands in x-cmd say, as sdk/conformance/README.md lists them.
#include "../wasmgate.h"

#define MAX_HEADERS 256

static wg_header command, answer_command; // x-cmd of the request and of the answer
static wg_header headers[MAX_HEADERS];    // those that the configuration declares, in its order
static uint32_t header_count;

// cut takes the first word off a string.
static wg_str cut(wg_str *s) {
  uint32_t n = wg_find(*s, ' ');
  wg_str word = wg_slice(s->ptr, n);
  if (n < s->len) n++;
  *s = wg_slice(s->ptr + n, s->len - n);
  return word;
}

static uint32_t cut_number(wg_str *s) {
  uint64_t v = 0;
  wg_number(cut(s), &v);
  return (uint32_t)v;
}

static const char *line(wg_str s) {
  wg_str word = cut(&s);
  if (wg_eq(word, WG_STR("request-header")) && header_count < MAX_HEADERS)
    headers[header_count++] = wg_want_request_header(s);
  else if (wg_eq(word, WG_STR("response-header")) && header_count < MAX_HEADERS)
    headers[header_count++] = wg_want_response_header(s);
  else if (wg_eq(word, WG_STR("upstream")))
    wg_want_upstream(s);
  else if (wg_eq(word, WG_STR("fail")))
    return "as the configuration says";
  else
    return "unknown line";
  return NULL;
}

static const char *configure(wg_config *c) {
  header_count = 0;
  command = wg_want_request_header(WG_STR("x-cmd"));
  answer_command = wg_want_response_header(WG_STR("x-cmd"));
  for (wg_str rest = c->config; rest.len;) {
    uint32_t n = wg_find(rest, '\n');
    const char *error = line(wg_slice(rest.ptr, n));
    if (error) return error;
    if (n < rest.len) n++;
    rest = wg_slice(rest.ptr + n, rest.len - n);
  }
  return NULL;
}

static char text[1 << 20];
static uint32_t text_len;

static void put(wg_str s) {
  for (uint32_t i = 0; i < s.len && text_len < sizeof text; i++) text[text_len++] = s.ptr[i];
}

static void put_number(uint64_t v) {
  char digits[20];
  uint32_t n = sizeof digits;
  do digits[--n] = (char)('0' + v % 10);
  while (v /= 10);
  put(wg_slice(digits + n, sizeof digits - n));
}

static void item_number(wg_str name, uint64_t v) {
  put(name);
  put(WG_STR("="));
  put_number(v);
  put(WG_STR("\n"));
}

// item writes a string with its length, so that it may hold anything.
static void item(wg_str name, wg_str v) {
  put(name);
  put(WG_STR("="));
  put_number(v.len);
  put(WG_STR(":"));
  put(v);
  put(WG_STR("\n"));
}

static wg_decision echo(const wg_request *r) {
  text_len = 0;
  item_number(WG_STR("role"), wg_role(r));
  item_number(WG_STR("response"), wg_is_response(r));
  item_number(WG_STR("sampled"), wg_sampled(r));
  item_number(WG_STR("local"), wg_local(r));
  item_number(WG_STR("time"), (uint64_t)wg_time(r));
  item_number(WG_STR("seed"), wg_seed(r));
  item_number(WG_STR("context"), wg_context(r));
  item_number(WG_STR("status"), wg_status(r));
  item_number(WG_STR("has_query"), wg_has_query(r));
  item(WG_STR("method"), wg_method(r));
  item(WG_STR("scheme"), wg_scheme(r));
  item(WG_STR("authority"), wg_authority(r));
  item(WG_STR("host"), wg_host(r));
  item(WG_STR("path"), wg_path(r));
  item(WG_STR("query"), wg_query(r));
  item(WG_STR("client"), wg_client(r));
  item(WG_STR("sni"), wg_sni(r));
  item(WG_STR("certificate"), wg_cert_subject(r));
  item(WG_STR("route"), wg_route_name(r));
  for (uint32_t i = 0; i < header_count; i++) {
    item_number(WG_STR("header"), wg_count(r, headers[i]));
    for (uint32_t k = 0; k < wg_count(r, headers[i]); k++) item(WG_STR("value"), wg_get_at(r, headers[i], k));
  }
  return wg_respond(200, wg_slice(text, text_len), NULL, 0);
}

static void lookup(wg_str args) {
  static char value[1 << 16];
  bool response = cut_number(&args);
  uint32_t k = cut_number(&args);
  int32_t n = wg_lookup(response, args, k, value, sizeof value);
  text_len = 0;
  if (n < 0) {
    put(WG_STR("none"));
  } else {
    put_number((uint64_t)n);
    put(WG_STR(":"));
    put(wg_slice(value, (uint32_t)n));
  }
  wg_append_header(WG_STR("x-lookup"), wg_slice(text, text_len));
}

static wg_str fill(uint32_t n, char c) {
  text_len = 0;
  while (text_len < n && text_len < sizeof text) text[text_len++] = c;
  return wg_slice(text, text_len);
}

static wg_decision respond(wg_str args) {
  uint32_t status = cut_number(&args);
  wg_field fields[] = {{WG_STR("x-conformance"), WG_STR("yes")}, {WG_STR("x-empty"), WG_STR("")}};
  return wg_respond(status, args, fields, 2);
}

// edit does a command that is no decision; false if it is none.
static bool edit(wg_str word, wg_str args) {
  wg_str copy = args;
  if (wg_eq(word, WG_STR("set"))) {
    wg_str name = cut(&args);
    wg_set_header(name, args);
  } else if (wg_eq(word, WG_STR("append"))) {
    wg_str name = cut(&args);
    wg_append_header(name, args);
  } else if (wg_eq(word, WG_STR("attribute"))) {
    wg_str name = cut(&args);
    wg_attribute(name, args);
  } else if (wg_eq(word, WG_STR("log"))) {
    uint32_t level = cut_number(&args);
    wg_log(level, args);
  } else if (wg_eq(word, WG_STR("log-now"))) {
    uint32_t level = cut_number(&args);
    wg_log_now(level, args);
  } else if (wg_eq(word, WG_STR("remove"))) {
    wg_remove_header(args);
  } else if (wg_eq(word, WG_STR("method"))) {
    wg_set_method(args);
  } else if (wg_eq(word, WG_STR("authority"))) {
    wg_set_authority(args);
  } else if (wg_eq(word, WG_STR("path"))) {
    wg_set_path(args);
  } else if (wg_eq(word, WG_STR("query"))) {
    wg_set_query(args);
  } else if (wg_eq(word, WG_STR("address"))) {
    wg_set_address(args);
  } else if (wg_eq(word, WG_STR("timeout"))) {
    wg_set_timeout(cut_number(&copy));
  } else if (wg_eq(word, WG_STR("hash"))) {
    uint64_t key = 0;
    wg_number(args, &key);
    wg_set_hash_key(key);
  } else if (wg_eq(word, WG_STR("context"))) {
    uint64_t v = 0;
    wg_number(args, &v);
    wg_set_context(v);
  } else if (wg_eq(word, WG_STR("rematch"))) {
    wg_rematch();
  } else if (wg_eq(word, WG_STR("fill"))) {
    wg_set_header(WG_STR("x-fill"), fill(cut_number(&copy), 'x'));
  } else if (wg_eq(word, WG_STR("lookup"))) {
    lookup(args);
  } else {
    return false;
  }
  return true;
}

static wg_decision run(const wg_request *r, wg_header commands) {
  wg_decision d = wg_continue();
  for (uint32_t k = 0; k < wg_count(r, commands); k++) {
    wg_str args = wg_get_at(r, commands, k);
    wg_str word = cut(&args);
    if (edit(word, args)) continue;
    if (wg_eq(word, WG_STR("continue")))
      d = wg_continue();
    else if (wg_eq(word, WG_STR("no-match")))
      d = wg_no_match();
    else if (wg_eq(word, WG_STR("route")))
      d = wg_route(cut_number(&args));
    else if (wg_eq(word, WG_STR("deny")))
      d = wg_deny(cut_number(&args));
    else if (wg_eq(word, WG_STR("respond")))
      d = respond(args);
    else if (wg_eq(word, WG_STR("body")))
      d = wg_respond(200, fill(cut_number(&args), 'y'), NULL, 0);
    else if (wg_eq(word, WG_STR("echo")))
      d = echo(r);
    else if (wg_eq(word, WG_STR("trap")))
      __builtin_trap();
    else
      d = wg_fail(wg_eq(word, WG_STR("fail")) ? args : WG_STR("unknown command"));
  }
  return d;
}

static wg_decision request(const wg_request *r) { return run(r, command); }
static wg_decision response(const wg_request *r) { return run(r, answer_command); }

WASMGATE_PLUGIN(.configure = configure, .request = request, .response = response)
