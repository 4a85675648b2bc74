// kit is a guest that does what it is told: the request's fields x-request and x-response are scripts for handle_request and
// handle_response, and a configuration that begins with "start:" is one for the start. What comes of each step is logged.
//
// A script's steps are separated by ';'. Each is a letter, numbers, and a text that goes to the step's end; see step.
#include "http_handler.h"

static char script_in[1 << 14], script_out[1 << 14], buf[1 << 17], line[1 << 17];
static u32 out_len, reads;

static u32 put(u32 at, str s) {
  memcpy(line + at, s.at, s.len);
  return at + s.len;
}

static u32 put_number(u32 at, u64 v) {
  char digits[20];
  u32 n = 0;
  do digits[n++] = (char)('0' + v % 10);
  while (v /= 10);
  while (n) line[at++] = digits[--n];
  return at;
}

// word takes a word off s.
static str word(str *s) {
  while (s->len && *s->at == ' ') s->at++, s->len--;
  str w = {s->at, 0};
  while (s->len && *s->at != ' ') s->at++, s->len--, w.len++;
  if (s->len) s->at++, s->len--;
  return w;
}

static int number(str *s) {
  str w = word(s);
  int v = 0, minus = w.len && *w.at == '-';
  for (u32 i = (u32)minus; i < w.len; i++) v = v * 10 + w.at[i] - '0';
  return minus ? -v : v;
}

// list writes strings that end with zeros, with commas between them.
static u32 list(u32 at, u64 count_len) {
  at = put_number(at, count_len >> 32);
  line[at++] = ':';
  for (u32 i = 0; i < (u32)count_len; i++) line[at++] = buf[i] ? buf[i] : ',';
  return at;
}

// read_all reads to the end in pieces and says how much there was, with a sum, and the text if it is short.
static u32 read_all(u32 at, u32 kind, u32 limit) {
  u32 n = 0, sum = 0;
  for (;;) {
    u64 got = read_body(kind, buf + (n < 100 ? n : 100), limit);
    for (u32 i = 0; i < (u32)got; i++) sum = sum * 31 + (unsigned char)buf[(n < 100 ? n : 100) + i];
    n += (u32)got;
    reads++;
    if (got >> 32) break;
  }
  at = put_number(at, n);
  line[at++] = ' ';
  at = put_number(at, sum);
  line[at++] = ' ';
  return put(at, (str){buf, n < 100 ? n : 0});
}

static volatile u32 sink;

// step does a step and logs what comes of it, after the step itself.
static u64 step(str s, u64 next) {
  u32 at = put(0, s);
  at = put(at, STR(" = "));
  u32 begun = at;
  char op = *s.at;
  s.at++, s.len--;
  switch (op) {
  case 'F': at = put_number(at, enable_features((u32)number(&s))); break;
  case 'c': at = put(at, (str){buf, get_config(buf, sizeof buf)}); break;
  case 'C': at = put_number(at, get_config(buf, (u32)number(&s))); break;
  case 'm': at = put(at, (str){buf, get_method(buf, sizeof buf)}); break;
  case 'M': { str v = word(&s); set_method(v.at, v.len); break; }
  case 'u': at = put(at, (str){buf, get_uri(buf, sizeof buf)}); break;
  case 'U': { str v = word(&s); set_uri(v.at, v.len); break; }
  case 'p': at = put(at, (str){buf, get_protocol_version(buf, sizeof buf)}); break;
  case 'a': at = put(at, (str){buf, get_source_addr(buf, sizeof buf)}); break;
  case 's': at = put_number(at, get_status_code()); break;
  case 'S': set_status_code((u32)number(&s)); break;
  case 'n': at = list(at, get_header_names((u32)number(&s), buf, sizeof buf)); break;
  case 'g': { u32 kind = (u32)number(&s); str n = word(&s); at = list(at, get_header_values(kind, n.at, n.len, buf, sizeof buf)); break; }
  case 'G': { // with a limit: what is returned, and what is in the buffer
    u32 kind = (u32)number(&s), limit = (u32)number(&s);
    str n = word(&s);
    memset(buf, '.', 8);
    u64 got = get_header_values(kind, n.at, n.len, buf, limit);
    at = put_number(at, got >> 32);
    line[at++] = ':';
    at = put_number(at, (u32)got);
    line[at++] = ':';
    at = put(at, (str){buf, 8});
    break;
  }
  case 'h': { u32 kind = (u32)number(&s); str n = word(&s); set_header_value(kind, n.at, n.len, s.at, s.len); break; }
  case 'H': { u32 kind = (u32)number(&s); str n = word(&s); add_header_value(kind, n.at, n.len, s.at, s.len); break; }
  case 'E': { // as h, with the value in hex
    u32 kind = (u32)number(&s), k = 0;
    str n = word(&s), v = word(&s);
    for (u32 i = 0; i + 1 < v.len; i += 2) {
      int high = v.at[i] > '9' ? v.at[i] - 'a' + 10 : v.at[i] - '0', low = v.at[i + 1] > '9' ? v.at[i + 1] - 'a' + 10 : v.at[i + 1] - '0';
      buf[k++] = (char)(high << 4 | low);
    }
    set_header_value(kind, n.at, n.len, buf, k);
    break;
  }
  case 'r': { u32 kind = (u32)number(&s); str n = word(&s); remove_header(kind, n.at, n.len); break; }
  case 'b': { // one read
    u32 kind = (u32)number(&s);
    u64 got = read_body(kind, buf, (u32)number(&s));
    at = put_number(at, got >> 32);
    line[at++] = ' ';
    at = put(at, (str){buf, (u32)got});
    break;
  }
  case 'B': { u32 kind = (u32)number(&s); at = read_all(at, kind, (u32)number(&s)); break; }
  case 'w': { u32 kind = (u32)number(&s); write_body(kind, s.at, s.len); break; }
  case 'W': { // so many times 1000 bytes
    u32 kind = (u32)number(&s), n = (u32)number(&s);
    memset(buf, *s.at, 1000);
    for (u32 i = 0; i < n; i++) write_body(kind, buf, 1000);
    break;
  }
  case 'T': { // pass a body on, piece by piece, with each letter in upper case
    u32 kind = (u32)number(&s), limit = (u32)number(&s);
    u64 got;
    do {
      got = read_body(kind, buf, limit);
      for (u32 i = 0; i < (u32)got; i++)
        if (buf[i] >= 'a' && buf[i] <= 'z') buf[i] -= 32;
      write_body(kind, buf, (u32)got);
    } while (!(got >> 32));
    break;
  }
  case 'l': { int level = number(&s); host_log(level, s.at, s.len); break; }
  case 'L': at = put_number(at, log_enabled(number(&s))); break;
  case 'N': next = (u64)(u32)number(&s) << 32 | 1; break;
  case 't': __builtin_trap();
  case 'x': for (;;) sink++;
  case 'z': { // so many units of work
    for (u32 i = (u32)number(&s); i; i--) sink++;
    break;
  }
  default: at = put(at, STR("what?"));
  }
  if (at > begun) host_log(0, line, at);
  return next;
}

static u64 run(str s) {
  u64 next = 0;
  while (s.len) {
    str one = {s.at, 0};
    while (one.len < s.len && one.at[one.len] != ';') one.len++;
    s.at += one.len, s.len -= one.len;
    if (s.len) s.at++, s.len--;
    while (one.len && *one.at == ' ') one.at++, one.len--;
    if (one.len) next = step(one, next);
  }
  return next;
}

// script reads a field of the request.
static u32 script(str name, char *to, u32 limit) {
  u64 got = get_header_values(REQUEST, name.at, name.len, to, limit);
  return got && (u32)got <= limit ? (u32)got - 1 : 0;
}

EXPORT(_start) void start(void) {
  u32 n = get_config(script_in, sizeof script_in);
  if (n >= 6 && n <= sizeof script_in && equal((str){script_in, 6}, STR("start:"))) run((str){script_in + 6, n - 6});
}

EXPORT(handle_request) u64 handle_request(void) {
  str in = {script_in, script(STR("x-request"), script_in, sizeof script_in)};
  out_len = script(STR("x-response"), script_out, sizeof script_out);
  return run(in);
}

EXPORT(handle_response) void handle_response(u32 context, u32 is_error) {
  u32 at = put(0, STR("context "));
  at = put_number(at, context);
  at = put(at, STR(" error "));
  at = put_number(at, is_error);
  host_log(0, line, at);
  run((str){script_out, out_len});
}
