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

// cut_signed takes a number off that may have a minus.
static int64_t cut_signed(wg_str *s) {
  uint64_t v = 0;
  wg_str word = cut(s);
  bool minus = word.len && word.ptr[0] == '-';
  wg_number(wg_slice(word.ptr + minus, word.len - minus), &v);
  return minus ? -(int64_t)v : (int64_t)v;
}

static wg_str pieces; // what pieces become

static bool line_of_minor_1(wg_str word, wg_str s) {
  if (wg_eq(word, WG_STR("call"))) {
    wg_want_service(s);
  } else if (wg_eq(word, WG_STR("store"))) {
    wg_want_store(s);
  } else if (wg_eq(word, WG_STR("metric"))) {
    uint32_t type = cut_number(&s);
    wg_want_metric(type, s, WG_STR(""), NULL, 0);
  } else if (wg_eq(word, WG_STR("request-body"))) {
    uint32_t mode = cut_number(&s), flags = cut_number(&s);
    if (mode == 1)
      wg_buffer_request_body(cut_number(&s), flags);
    else
      wg_stream_request_body(flags);
  } else if (wg_eq(word, WG_STR("response-body"))) {
    uint32_t mode = cut_number(&s), flags = cut_number(&s);
    if (mode == 1)
      wg_buffer_response_body(cut_number(&s), flags);
    else
      wg_stream_response_body(flags);
  } else if (wg_eq(word, WG_STR("pieces"))) {
    pieces = wg_keep(s);
  } else if (wg_eq(word, WG_STR("tick"))) {
    wg_want_ticks(cut_number(&s));
  } else {
    return false;
  }
  return true;
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
  else if (!line_of_minor_1(word, s))
    return "unknown line";
  return NULL;
}

static const char *configure(wg_config *c) {
  header_count = 0;
  pieces = WG_STR("pass");
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

static char value[1 << 16];

static void lookup(wg_str args) {
  uint32_t message = cut_number(&args);
  uint32_t k = cut_number(&args);
  int32_t n = message < 2    ? wg_lookup(message, args, k, value, sizeof value)
              : message == 4 ? wg_lookup_tls(args, k, value, sizeof value)
                             : wg_lookup_trailer(message - 2, args, k, value, sizeof value);
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

// outcome writes ok, or error and the result's number.
static wg_str outcome(wg_result r) {
  text_len = 0;
  put(r == WG_OK ? WG_STR("ok") : WG_STR("error "));
  if (r != WG_OK) put_number(r);
  return wg_slice(text, text_len);
}

static wg_str or_dash(wg_str s) { return s.len ? s : WG_STR("-"); }

static wg_str beginning(wg_str s, uint32_t most) { return wg_slice(s.ptr, s.len < most ? s.len : most); }

static void call(uint32_t id, const wg_outbound *r) {
  const wg_answer *a;
  wg_result result = wg_call(id, r, &a);
  if (result != WG_OK) {
    wg_append_header(WG_STR("x-call"), outcome(result));
    return;
  }
  text_len = 0;
  put_number(wg_answer_status(a));
  put(WG_STR(" "));
  put(or_dash(wg_answer_get(a, WG_STR("x-answer"))));
  put(WG_STR(" "));
  put(or_dash(wg_answer_trailer(a, WG_STR("x-end"))));
  put(WG_STR(" "));
  put_number(wg_answer_body(a).len);
  put(WG_STR(":"));
  put(beginning(wg_answer_body(a), 20));
  wg_append_header(WG_STR("x-call"), wg_slice(text, text_len));
}

// big is the body of a request; a byte more than a request may have.
static char big[(1 << 20) + 1];

static bool outbound(wg_str word, wg_str args) {
  wg_field yes = {WG_STR("x-conformance"), WG_STR("yes")};
  wg_str none = WG_STR("");
  uint32_t id = cut_number(&args);
  if (wg_eq(word, WG_STR("call"))) {
    wg_outbound r = {cut(&args), none, none, none, &yes, 1, none, 0};
    uint32_t n = wg_find(args, '?');
    r.path = wg_slice(args.ptr, n);
    if (n < args.len) r.query = wg_slice(args.ptr + n + 1, args.len - n - 1);
    call(id, &r);
  } else if (wg_eq(word, WG_STR("call-body"))) {
    uint32_t n = cut_number(&args);
    if (n > sizeof big) n = sizeof big;
    for (uint32_t i = 0; i < n; i++) big[i] = 'z';
    wg_outbound r = {WG_STR("POST"), WG_STR("kit.example"), none, none, NULL, 0, wg_slice(big, n), 250};
    call(id, &r);
  } else {
    return false;
  }
  return true;
}

static bool state(wg_str word, wg_str args) {
  if (!wg_starts_with(word, WG_STR("kv-"))) return false;
  uint32_t store = cut_number(&args), len, version;
  wg_str key = cut(&args);
  wg_result r;
  version = wg_kv_get(store, key, value, sizeof value, &len);
  if (wg_eq(word, WG_STR("kv-get"))) {
    text_len = 0;
    if (version) {
      put_number(len);
      put(WG_STR(":"));
      put(wg_slice(value, len));
    } else {
      put(WG_STR("none"));
    }
    wg_append_header(WG_STR("x-kv"), wg_slice(text, text_len));
    return true;
  }
  if (wg_eq(word, WG_STR("kv-set"))) {
    uint32_t ttl = cut_number(&args);
    r = wg_kv_set(store, key, args, ttl);
  } else if (wg_eq(word, WG_STR("kv-new"))) {
    r = wg_kv_compare_and_set(store, key, args, 0, 0, NULL);
  } else if (wg_eq(word, WG_STR("kv-swap"))) {
    r = wg_kv_compare_and_set(store, key, args, version, 0, NULL);
  } else if (wg_eq(word, WG_STR("kv-late"))) {
    wg_kv_set(store, key, WG_STR("early"), 0);
    r = wg_kv_compare_and_set(store, key, args, version, 0, &version);
  } else if (wg_eq(word, WG_STR("kv-delete"))) {
    r = wg_kv_delete(store, key);
  } else if (wg_eq(word, WG_STR("kv-add"))) {
    int64_t delta = cut_signed(&args), sum = 0;
    r = wg_kv_add(store, key, delta, cut_number(&args), &sum);
    if (r == WG_OK) {
      text_len = 0;
      if (sum < 0) put(WG_STR("-"));
      put_number(sum < 0 ? (uint64_t)-sum : (uint64_t)sum);
      wg_append_header(WG_STR("x-kv"), wg_slice(text, text_len));
      return true;
    }
  } else {
    return false;
  }
  wg_append_header(WG_STR("x-kv"), outcome(r));
  return true;
}

static wg_str fill(uint32_t n, char c);

static bool body(const wg_request *r, wg_str word, wg_str args) {
  if (wg_eq(word, WG_STR("show-body"))) {
    wg_str b = wg_body(r);
    text_len = 0;
    if (!wg_has_body(r)) {
      put(WG_STR("none"));
    } else {
      put(wg_body_is_part(r) ? WG_STR("part ") : WG_STR("whole "));
      put_number(b.len);
      put(WG_STR(":"));
      put(beginning(b, 40));
    }
    wg_append_header(WG_STR("x-body"), wg_slice(text, text_len));
  } else if (wg_eq(word, WG_STR("set-body"))) {
    wg_set_body(args);
  } else if (wg_eq(word, WG_STR("fill-body"))) {
    wg_set_body(fill(cut_number(&args), 'b'));
  } else if (wg_eq(word, WG_STR("want-body"))) {
    if (!wg_has_body(r)) wg_want_body();
  } else if (wg_eq(word, WG_STR("metric"))) {
    uint32_t id = cut_number(&args);
    wg_metric(id, (double)cut_signed(&args) / 4);
  } else {
    return false;
  }
  return true;
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
    if (edit(word, args) || outbound(word, args) || state(word, args) || body(r, word, args)) continue;
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

static wg_decision count(const wg_piece *p) {
  uint64_t numbers[] = {wg_piece_is_response(p), wg_piece_word(p), wg_piece_before(p), wg_piece_data(p).len, wg_piece_is_last(p)};
  text_len = 0;
  for (int i = 0; i < 5; i++) {
    put(i ? WG_STR(" ") : WG_STR("["));
    put_number(numbers[i]);
  }
  put(WG_STR("]"));
  wg_set_context(wg_piece_word(p) + 1);
  return wg_replace(wg_slice(text, text_len));
}

static wg_decision piece(const wg_piece *p) {
  wg_str data = wg_piece_data(p);
  text_len = 0;
  if (wg_eq(pieces, WG_STR("upper"))) {
    for (uint32_t i = 0; i < data.len; i++) {
      char c = data.ptr[i] >= 'a' && data.ptr[i] <= 'z' ? (char)(data.ptr[i] - 'a' + 'A') : data.ptr[i];
      put(wg_slice(&c, 1));
    }
    return wg_replace(wg_slice(text, text_len));
  }
  if (wg_eq(pieces, WG_STR("drop"))) return wg_replace(WG_STR(""));
  if (wg_eq(pieces, WG_STR("keep"))) {
    if (!wg_piece_is_last(p)) wg_keep_end(data.len < 2 ? data.len : 2);
    return wg_continue();
  }
  if (wg_eq(pieces, WG_STR("count"))) return count(p);
  if (wg_eq(pieces, WG_STR("trailer")) && wg_piece_is_last(p)) {
    int32_t n = wg_lookup_trailer(wg_piece_is_response(p), WG_STR("x-end"), 0, value, sizeof value);
    return wg_replace(n < 0 ? WG_STR("-") : wg_slice(value, (uint32_t)n));
  }
  if (wg_eq(pieces, WG_STR("deny"))) return wg_deny(422);
  if (wg_eq(pieces, WG_STR("fail"))) return wg_fail(WG_STR("as the configuration says"));
  if (wg_eq(pieces, WG_STR("trap"))) __builtin_trap();
  return wg_continue();
}

static const char *tick(const wg_tick *t) {
  wg_str none = WG_STR("");
  wg_outbound r = {none, none, WG_STR("/tick"), none, NULL, 0, none, 0};
  const wg_answer *a;
  int64_t sum;
  if (wg_tick_time(t) <= 0 || !wg_tick_seed(t)) return "no time";
  wg_result result = wg_call(0, &r, &a);
  wg_str what = outcome(result);
  if (result == WG_OK) {
    text_len = 0;
    put_number(wg_answer_status(a));
    what = wg_slice(text, text_len);
  }
  static char line[100] = "kit: tick ";
  wg_copy(line + 10, what.ptr, what.len);
  wg_log(WG_INFO, wg_slice(line, 10 + what.len));
  return wg_kv_add(0, WG_STR("ticks"), 1, 0, &sum) == WG_OK ? NULL : "no counter";
}

WASMGATE_PLUGIN(.configure = configure, .request = request, .response = response, .piece = piece, .tick = tick)
