/* wasmgate.h: the C SDK for plugins of the native ABI (sdk/abi.md): write a function over a request, return a decision.
 *
 *     #include "wasmgate.h"
 *
 *     static wg_header beta;
 *
 *     static const char *configure(wg_config *c) {
 *       beta = wg_want_request_header(WG_STR("x-beta"));
 *       return 0;
 *     }
 *
 *     static wg_decision request(const wg_request *r) {
 *       if (wg_eq(wg_get(r, beta), WG_STR("yes"))) wg_set_header(WG_STR("x-variant"), WG_STR("beta"));
 *       return wg_continue();
 *     }
 *
 *     WASMGATE_PLUGIN(.configure = configure, .request = request)
 *
 *     clang --target=wasm32 -std=c11 -O2 -nostdlib -Wl,--no-entry -Wl,--stack-first -Wl,--strip-all -I sdk/c \
 *       -o plugin.wasm plugin.c
 *
 * It is freestanding: no libc, no allocator in the way of a request. C99 and later, and C++11 and later (before C++20 without
 * designated initialisers). One file of the plugin has WASMGATE_PLUGIN; any number may include the header.
 *
 * Strings (wg_str) have a length and no terminator, and hold raw bytes. Those that come from the SDK are views into
 * the gateway's message and valid until the function that got the wg_request or wg_config returns; wg_keep makes a
 * copy that stays. Those that are passed to the SDK are copied at once. An absent string has a null pointer, an empty
 * one has not.
 *
 * A plugin is one instance of the module; the gateway has several (one for each event loop at least), each is called
 * by one request at a time, and any may be thrown away at any time, so static variables are caches and never truth.
 */
#ifndef WASMGATE_H
#define WASMGATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The capacity of each arena at the start, in bytes. Messages and answers that are longer make them grow. */
#ifndef WASMGATE_ARENA
#define WASMGATE_ARENA 65536
#endif

/* ---- Strings ---- */

typedef struct {
  const char *ptr;
  uint32_t len;
} wg_str;

/* WG_STR makes a wg_str of a string literal. */
#ifdef __cplusplus
#define WG_STR(literal) (wg_str{("" literal), (uint32_t)sizeof(literal) - 1})
#else
#define WG_STR(literal) ((wg_str){("" literal), (uint32_t)sizeof(literal) - 1})
#endif

static inline wg_str wg_slice(const char *ptr, uint32_t len) {
  wg_str s;
  s.ptr = ptr;
  s.len = len;
  return s;
}

/* wg_cstr makes a wg_str of a terminated string. */
static inline wg_str wg_cstr(const char *s) {
  uint32_t n = 0;
  while (s[n]) n++;
  return wg_slice(s, n);
}

static inline char wg_lower(char c) { return c >= 'A' && c <= 'Z' ? (char)(c + ('a' - 'A')) : c; }

static inline bool wg_eq(wg_str a, wg_str b) {
  if (a.len != b.len) return false;
  for (uint32_t i = 0; i < a.len; i++)
    if (a.ptr[i] != b.ptr[i]) return false;
  return true;
}

/* wg_eq_nocase compares without regard to the case of ASCII letters. */
static inline bool wg_eq_nocase(wg_str a, wg_str b) {
  if (a.len != b.len) return false;
  for (uint32_t i = 0; i < a.len; i++)
    if (wg_lower(a.ptr[i]) != wg_lower(b.ptr[i])) return false;
  return true;
}

static inline bool wg_starts_with(wg_str s, wg_str prefix) {
  return s.len >= prefix.len && wg_eq(wg_slice(s.ptr, prefix.len), prefix);
}

static inline bool wg_ends_with(wg_str s, wg_str suffix) {
  return s.len >= suffix.len && wg_eq(wg_slice(s.ptr + (s.len - suffix.len), suffix.len), suffix);
}

/* wg_find returns the place of the first c in s, or s.len. */
static inline uint32_t wg_find(wg_str s, char c) {
  uint32_t i = 0;
  while (i < s.len && s.ptr[i] != c) i++;
  return i;
}

/* wg_path_under says whether path is prefix or lies below it: "/admin" and "/admin/x" are under "/admin",
 * "/administer" is not. The prefix has no '/' at its end. */
static inline bool wg_path_under(wg_str path, wg_str prefix) {
  return wg_starts_with(path, prefix) && (path.len == prefix.len || path.ptr[prefix.len] == '/');
}

/* wg_number reads decimal digits; false if s is empty, has anything else, or does not fit. */
static inline bool wg_number(wg_str s, uint64_t *out) {
  uint64_t v = 0;
  if (s.len == 0) return false;
  for (uint32_t i = 0; i < s.len; i++) {
    uint64_t d = (uint64_t)(unsigned char)s.ptr[i] - '0';
    if (d > 9 || v > (UINT64_MAX - d) / 10) return false;
    v = v * 10 + d;
  }
  *out = v;
  return true;
}

/* ---- Memory ---- */

/* The compiler may call these four for copies and comparisons that it finds; a plugin that has its own wins. */
#ifdef __cplusplus
#define WG__LIB extern "C" __attribute__((weak, no_builtin))
#else
#define WG__LIB __attribute__((weak, no_builtin))
#endif

/* wg_copy copies n bytes between places that do not overlap. Words at a time: most strings are short. */
__attribute__((no_builtin)) static inline void wg_copy(void *dst, const void *src, uint32_t n) {
  char *d = (char *)dst;
  const char *s = (const char *)src;
  uint64_t w;
  for (; n >= 8; n -= 8, d += 8, s += 8) {
    __builtin_memcpy(&w, s, 8);
    __builtin_memcpy(d, &w, 8);
  }
  for (; n; n--) *d++ = *s++;
}

/* What the SDK knows; defined by WASMGATE_PLUGIN. */
struct wg__state {
  uint8_t *in, *arena, *out;          /* request arena, published answer arena, the answer under way */
  uint32_t in_cap, arena_cap, out_cap; /* their capacities */
  uint32_t pos;                       /* length of the answer under way */
  uint32_t request_slots, response_slots, upstreams;
  bool full; /* memory ran out while the answer was written */
  uint8_t *heap, *heap_end;
  uint32_t services, stores, metrics, phases; /* declared; the phases that bodies and ticks need */
  char *call, *answer, *body;                 /* the last call's request and answer, and the message's body */
  uint32_t call_cap, answer_cap, body_cap;
};
extern struct wg__state wg__state;

/* wg_alloc returns n bytes that stay for the life of the instance, aligned to 8, or a null pointer. There is no free:
 * it is for what configure builds. */
static inline void *wg_alloc(uint32_t n) {
  struct wg__state *s = &wg__state;
  if (n > 0x7fffffff) return NULL;
  n = (n + 7) & ~(uint32_t)7;
  if ((uint32_t)(s->heap_end - s->heap) < n) {
    uint32_t pages = (n + 65535) / 65536;
    size_t old = __builtin_wasm_memory_grow(0, pages);
    if (old == (size_t)-1) return NULL;
    s->heap = (uint8_t *)(old * 65536);
    s->heap_end = s->heap + pages * 65536;
  }
  void *p = s->heap;
  s->heap += n;
  return p;
}

/* wg_keep copies a string to memory that stays; its pointer is null if there is no memory. */
static inline wg_str wg_keep(wg_str s) {
  char *p = (char *)wg_alloc(s.len ? s.len : 1);
  if (p) wg_copy(p, s.ptr, s.len);
  return wg_slice(p, p ? s.len : 0);
}

/* ---- Writing an answer ---- */

/* wg__room makes room for n more bytes of the answer and returns where they go, or a null pointer. */
static inline uint8_t *wg__room(uint32_t n) {
  struct wg__state *s = &wg__state;
  if (s->full) return NULL;
  if (n > s->out_cap - s->pos) {
    uint32_t cap = s->out_cap;
    do cap *= 2;
    while (cap && n > cap - s->pos);
    uint8_t *p = cap ? (uint8_t *)wg_alloc(cap) : NULL;
    if (!p) {
      s->full = true;
      return NULL;
    }
    wg_copy(p, s->out, s->pos);
    s->out = p;
    s->out_cap = cap;
  }
  uint8_t *p = s->out + s->pos;
  s->pos += n;
  return p;
}

static inline uint8_t *wg__put32(uint8_t *p, uint32_t v) {
  __builtin_memcpy(p, &v, 4);
  return p + 4;
}

static inline uint8_t *wg__put_str(uint8_t *p, wg_str s) {
  p = wg__put32(p, s.len);
  wg_copy(p, s.ptr, s.len);
  return p + s.len;
}

/* wg__record begins a record with a body of n bytes and returns where the body goes. */
static inline uint8_t *wg__record(uint32_t kind, uint32_t n) {
  uint8_t *p = n > 0x7fffffff ? NULL : wg__room(8 + n);
  if (!p) {
    wg__state.full = true;
    return NULL;
  }
  return wg__put32(wg__put32(p, kind), n);
}

static inline void wg__op32(uint32_t kind, uint32_t v) {
  uint8_t *p = wg__record(kind, 4);
  if (p) wg__put32(p, v);
}

static inline void wg__op64(uint32_t kind, uint64_t v) {
  uint8_t *p = wg__record(kind, 8);
  if (p) __builtin_memcpy(p, &v, 8);
}

static inline void wg__op_str(uint32_t kind, wg_str s) {
  uint8_t *p = wg__record(kind, 4 + s.len);
  if (p) wg__put_str(p, s);
}

static inline void wg__op_pair(uint32_t kind, wg_str a, wg_str b) {
  uint8_t *p = wg__record(kind, 8 + a.len + b.len);
  if (p) wg__put_str(wg__put_str(p, a), b);
}

/* ---- Configuration ---- */

typedef struct {
  wg_str name;   /* the plugin's name in the gateway's configuration */
  wg_str config; /* its configuration: a string as it is, everything else as JSON; empty if there is none */
  uint32_t max_request_body, max_response_body; /* that may be buffered; 0: the plugin is granted none */
} wg_config;

/* A header that the plugin wants to see. */
typedef struct {
  uint16_t index;
  bool response;
} wg_header;

/* wg__declared finds the name among the manifest's records of a kind; its place, or -1. */
static inline int32_t wg__declared(uint32_t kind, wg_str name) {
  const uint8_t *p = wg__state.out, *end = p + wg__state.pos;
  int32_t n = 0;
  while (p < end) {
    uint32_t k, len, str;
    __builtin_memcpy(&k, p, 4);
    __builtin_memcpy(&len, p + 4, 4);
    if (k == kind) {
      __builtin_memcpy(&str, p + 8, 4);
      if (wg_eq(wg_slice((const char *)p + 12, str), name)) return n;
      n++;
    }
    p += 8 + len;
  }
  return -1;
}

static inline uint32_t wg__declare(uint32_t kind, uint32_t *count, wg_str name) {
  int32_t known = wg__declared(kind, name);
  if (known >= 0) return (uint32_t)known;
  wg__op_str(kind, name);
  return (*count)++;
}

/* These three are called in the configure function only. Names of headers are in lower case. A name that was declared
 * before is the same header or upstream. A configuration of the gateway that does not know or not allow an upstream
 * is refused. */
static inline wg_header wg_want_request_header(wg_str name) {
  wg_header h;
  h.index = (uint16_t)wg__declare(2, &wg__state.request_slots, name);
  h.response = false;
  return h;
}

static inline wg_header wg_want_response_header(wg_str name) {
  wg_header h;
  h.index = (uint16_t)wg__declare(3, &wg__state.response_slots, name);
  h.response = true;
  return h;
}

static inline uint32_t wg_want_upstream(wg_str name) { return wg__declare(4, &wg__state.upstreams, name); }

/* These are called in the configure function as well. What the gateway's configuration does not grant is refused. */

/* An upstream that the plugin sends requests of its own to: see wg_call. */
static inline uint32_t wg_want_service(wg_str name) { return wg__declare(5, &wg__state.services, name); }
/* A store: see wg_kv_get. */
static inline uint32_t wg_want_store(wg_str name) { return wg__declare(6, &wg__state.stores, name); }

/* WG_ON_DEMAND has bodies only of messages for which the handler calls wg_want_body, WG_PARTIAL the beginning of those that
 * are longer than the bound, which are else refused. */
enum { WG_ON_DEMAND = 1, WG_PARTIAL = 2 };

static inline void wg__want_body(uint32_t kind, uint32_t phase, uint32_t mode, uint32_t flags, uint32_t max) {
  uint8_t *p = wg__record(kind, 12);
  if (p) wg__put32(wg__put32(wg__put32(p, mode), flags), max);
  wg__state.phases |= phase;
}

/* Bodies of at most max bytes are read before the handler is called: see wg_body. */
static inline void wg_buffer_request_body(uint32_t max, uint32_t flags) { wg__want_body(7, 1, 1, flags, max); }
static inline void wg_buffer_response_body(uint32_t max, uint32_t flags) { wg__want_body(8, 2, 1, flags, max); }
/* Bodies go through wg_plugin.piece while they are sent. */
static inline void wg_stream_request_body(uint32_t flags) { wg__want_body(7, 1, 2, flags, 0); }
static inline void wg_stream_response_body(uint32_t flags) { wg__want_body(8, 2, 2, flags, 0); }

/* wg_plugin.tick is called when the plugin has started, and then each time so long after its last call. */
static inline void wg_want_ticks(uint32_t milliseconds) { wg__op32(9, milliseconds); }

/* The types of metrics, which the gateway exports beside its own. */
enum { WG_COUNTER = 0, WG_GAUGE = 1, WG_HISTOGRAM = 2, WG_UP_DOWN = 3 };

/* wg_want_metric declares a metric; its name has a-z, 0-9, _ and ., and begins with a letter. bounds are those of a
 * histogram's buckets, ascending; without any they are the gateway's, which are good for milliseconds. */
static inline uint32_t wg_want_metric(uint32_t type, wg_str name, wg_str description, const double *bounds, uint32_t n) {
  uint8_t *p = wg__record(10, 16 + name.len + description.len + 8 * n);
  if (p) {
    p = wg__put32(wg__put_str(wg__put_str(wg__put32(p, type), name), description), n);
    if (n) wg_copy(p, bounds, 8 * n);
  }
  return wg__state.metrics++;
}

/* ---- Requests and answers on their way to the client ---- */

/* A wg_request is the gateway's view of an exchange, valid until the handler returns. */
typedef struct wg_request wg_request;

enum { WG_ROLE_ROUTE = 0, WG_ROLE_MATCH = 1, WG_ROLE_LISTENER = 2 };
enum { WG_DEBUG = 0, WG_INFO = 1, WG_WARN = 2, WG_ERROR = 3 };

static inline uint32_t wg__u32(const wg_request *r, uint32_t at) {
  uint32_t v;
  __builtin_memcpy(&v, (const uint8_t *)r + at, 4);
  return v;
}

static inline uint64_t wg__u64(const wg_request *r, uint32_t at) {
  uint64_t v;
  __builtin_memcpy(&v, (const uint8_t *)r + at, 8);
  return v;
}

/* wg__pair reads the string whose offset and length are at at. */
static inline wg_str wg__pair(const wg_request *r, uint32_t at) {
  uint32_t off = wg__u32(r, at);
  if (off == 0xffffffff) return wg_slice(NULL, 0);
  return wg_slice((const char *)r + off, wg__u32(r, at + 4));
}

static inline uint32_t wg_role(const wg_request *r) { return wg__u32(r, 4); }
static inline bool wg_is_response(const wg_request *r) { return wg__u32(r, 8) == 1; }
static inline bool wg_has_query(const wg_request *r) { return wg__u32(r, 12) & 1; }
/* wg_sampled says whether the request is traced, so that span attributes are not in vain. */
static inline bool wg_sampled(const wg_request *r) { return wg__u32(r, 12) & 2; }
/* wg_local says whether the answer was made by the gateway or a plugin and not by an upstream. */
static inline bool wg_local(const wg_request *r) { return wg__u32(r, 12) & 4; }
/* wg_time is the time in Unix milliseconds, some milliseconds coarse. */
static inline int64_t wg_time(const wg_request *r) { return (int64_t)wg__u64(r, 16); }
/* wg_seed is a fresh random number. */
static inline uint64_t wg_seed(const wg_request *r) { return wg__u64(r, 24); }
/* wg_context is the word that the request's handler left with wg_set_context. */
static inline uint64_t wg_context(const wg_request *r) { return wg__u64(r, 32); }
/* wg_status is the answer's status; 0 in the request's handler. */
static inline uint32_t wg_status(const wg_request *r) { return wg__u32(r, 40); }

static inline wg_str wg_method(const wg_request *r) { return wg__pair(r, 48); }
static inline wg_str wg_scheme(const wg_request *r) { return wg__pair(r, 56); }
/* wg_authority is the host and, if it was sent, the port that the client asked for. */
static inline wg_str wg_authority(const wg_request *r) { return wg__pair(r, 64); }
static inline wg_str wg_path(const wg_request *r) { return wg__pair(r, 72); }
static inline wg_str wg_query(const wg_request *r) { return wg__pair(r, 80); }
/* wg_client is the client's address, without a port. */
static inline wg_str wg_client(const wg_request *r) { return wg__pair(r, 88); }
static inline wg_str wg_sni(const wg_request *r) { return wg__pair(r, 96); }
static inline wg_str wg_cert_subject(const wg_request *r) { return wg__pair(r, 104); }
static inline wg_str wg_route_name(const wg_request *r) { return wg__pair(r, 112); }

/* wg_host is the authority without the port, neither lower-cased nor without the brackets of an IPv6 address. */
static inline wg_str wg_host(const wg_request *r) {
  wg_str s = wg_authority(r);
  for (uint32_t i = s.len; i-- && s.ptr[i] != ']';)
    if (s.ptr[i] == ':') return wg_slice(s.ptr, i);
  return s;
}

static inline uint32_t wg__slot(const wg_request *r, wg_header h) {
  uint32_t i = h.index + (h.response ? wg__state.request_slots : 0);
  return i < wg__u32(r, 44) ? wg__u32(r, 0) + 8 * i : 0;
}

/* wg_count is how often a declared header occurs. */
static inline uint32_t wg_count(const wg_request *r, wg_header h) {
  uint32_t at = wg__slot(r, h);
  if (!at || wg__u32(r, at) == 0xffffffff) return 0;
  uint32_t n = wg__u32(r, at + 4);
  return n & 0x80000000 ? n & 0x7fffffff : 1;
}

/* wg_get_at is value k of a declared header, from 0; absent beyond the last. */
static inline wg_str wg_get_at(const wg_request *r, wg_header h, uint32_t k) {
  uint32_t at = wg__slot(r, h);
  if (!at || k >= wg_count(r, h)) return wg_slice(NULL, 0);
  return wg__u32(r, at + 4) & 0x80000000 ? wg__pair(r, wg__u32(r, at) + 8 * k) : wg__pair(r, at);
}

/* wg_get is the first value of a declared header. */
static inline wg_str wg_get(const wg_request *r, wg_header h) { return wg_get_at(r, h, 0); }

/* ---- Edits: applied together with the decision, all or none ---- */

/* Headers: of the request in its handler, of the answer in the answer's. */
static inline void wg_set_header(wg_str name, wg_str value) { wg__op_pair(0x20, name, value); }
static inline void wg_append_header(wg_str name, wg_str value) { wg__op_pair(0x21, name, value); }
static inline void wg_remove_header(wg_str name) { wg__op_str(0x22, name); }
/* A span attribute. */
static inline void wg_attribute(wg_str key, wg_str value) { wg__op_pair(0x40, key, value); }
/* A line in the gateway's log, which limits how many a plugin writes. */
static inline void wg_log(uint32_t level, wg_str text) {
  uint8_t *p = wg__record(0x41, 8 + text.len);
  if (p) wg__put_str(wg__put32(p, level), text);
}

/* In the request's handler only: */
static inline void wg_set_method(wg_str s) { wg__op_str(0x10, s); }
static inline void wg_set_authority(wg_str s) { wg__op_str(0x11, s); }
static inline void wg_set_path(wg_str s) { wg__op_str(0x12, s); }
/* Without '?'; empty: no query. */
static inline void wg_set_query(wg_str s) { wg__op_str(0x13, s); }
/* host:port, where the configuration allows it. */
static inline void wg_set_address(wg_str s) { wg__op_str(0x02, s); }
/* For the whole request. */
static inline void wg_set_timeout(uint32_t milliseconds) { wg__op32(0x03, milliseconds); }
/* The key by which consistent balancing picks a target. */
static inline void wg_set_hash_key(uint64_t key) { wg__op64(0x04, key); }
/* A word for the response handler; see wg_plugin.response_if_marked. */
static inline void wg_set_context(uint64_t word) { wg__op64(0x50, word); }
/* Matches the routes again, by the new path and authority. */
static inline void wg_rematch(void) { wg__record(0x51, 0); }

/* Where the body is buffered whole: another one instead. The gateway sets Content-Length. */
static inline void wg_set_body(wg_str body) { wg__op_str(0x60, body); }
/* Where bodies come on demand: a buffered one by calling the handler once more, a streamed one in pieces. */
static inline void wg_want_body(void) { wg__record(0x61, 0); }

/* ---- Decisions ---- */

typedef uint64_t wg_decision;

static inline wg_decision wg_continue(void) { return 0; }
/* For plugins that match routes; edits are dropped. */
static inline wg_decision wg_no_match(void) { return (uint64_t)1 << 32; }
static inline wg_decision wg_route(uint32_t upstream) { return (uint64_t)2 << 32 | upstream; }
/* A status of 400 to 599 and no body; 0 is 403. */
static inline wg_decision wg_deny(uint32_t status) { return (uint64_t)3 << 32 | status; }

typedef struct {
  wg_str name, value;
} wg_field;

/* wg_respond answers the client: no upstream is asked, or its answer is replaced. */
static inline wg_decision wg_respond(uint32_t status, wg_str body, const wg_field *fields, uint32_t n) {
  uint32_t len = 12 + body.len;
  for (uint32_t i = 0; i < n; i++) len += 8 + fields[i].name.len + fields[i].value.len;
  uint8_t *p = wg__record(0x30, len);
  if (p) {
    p = wg__put32(wg__put_str(wg__put32(p, status), body), n);
    for (uint32_t i = 0; i < n; i++) p = wg__put_str(wg__put_str(p, fields[i].name), fields[i].value);
  }
  return (uint64_t)4 << 32;
}

/* wg_fail says that the plugin could not decide: the request follows its on_error policy, the text is logged. */
static inline wg_decision wg_fail(wg_str text) {
  struct wg__state *s = &wg__state;
  s->out = s->arena;
  s->out_cap = s->arena_cap;
  s->full = false;
  s->pos = text.len < 4096 ? text.len : 4096;
  if (s->pos > s->out_cap) s->pos = s->out_cap;
  wg_copy(s->out, text.ptr, s->pos);
  return (uint64_t)5 << 32 | s->pos;
}

/* ---- Calls of the gateway: only for what the view does not have ---- */

__attribute__((import_module("wasmgate_v1"), import_name("log"))) void wg__import_log(uint32_t level, const char *ptr,
                                                                                     uint32_t len);
__attribute__((import_module("wasmgate_v1"), import_name("get_header"))) int32_t wg__import_get_header(
    uint32_t message, const char *name, uint32_t name_len, uint32_t index, char *out, uint32_t cap);

/* wg_log_now writes to the log at once, whatever is decided afterwards. */
static inline void wg_log_now(uint32_t level, wg_str text) { wg__import_log(level, text.ptr, text.len); }

/* wg_lookup copies value k of any header, declared or not, to out. It returns the value's length, or -1 if there is
 * no such header; if the length is over cap, nothing was copied. */
static inline int32_t wg_lookup(bool response, wg_str name, uint32_t k, char *out, uint32_t cap) {
  return wg__import_get_header(response, name.ptr, name.len, k, out, cap);
}

/* wg_lookup_trailer is wg_lookup for the trailers, which are there where the body is buffered, and with its last piece. */
static inline int32_t wg_lookup_trailer(bool response, wg_str name, uint32_t k, char *out, uint32_t cap) {
  return wg__import_get_header(2u + response, name.ptr, name.len, k, out, cap);
}

/* wg_lookup_tls is wg_lookup for what is known of the client's TLS connection: version, cipher, alpn, server-name, resumed, and
 * of the client's verified certificate subject, issuer, serial, sha256, dns, uri, email, ip, not-before, not-after and
 * certificate (PEM). -1: it was not agreed on, the client has shown no certificate, or there is no TLS. */
static inline int32_t wg_lookup_tls(wg_str name, uint32_t k, char *out, uint32_t cap) {
  return wg__import_get_header(4, name.ptr, name.len, k, out, cap);
}

/* What the calls below come to. */
typedef enum {
  WG_OK = 0,
  WG_TIMEOUT = 1,    /* wg_call: no whole answer in time */
  WG_CONNECT = 2,    /* wg_call: no connection to the upstream */
  WG_DENIED = 3,     /* not while the plugin is configured */
  WG_TOO_LARGE = 4,  /* wg_call: the answer; wg_kv: the key or the value */
  WG_INVALID = 5,    /* wg_call: the request; the gateway's log says why */
  WG_FAILED = 6,     /* wg_call: the upstream broke off, or did not speak HTTP */
  WG_LIMIT = 7,      /* wg_call: too many calls in one call of the plugin */
  WG_MISMATCH = 8,   /* wg_kv: the key has another version, or its value is no counter */
  WG_FULL = 9,       /* wg_kv: the store has no room */
  WG_ABSENT = 10,    /* wg_kv_delete: there is no such key */
  WG_NO_MEMORY = 255 /* the plugin's memory is too small */
} wg_result;

/* ---- Outbound calls ---- */

__attribute__((import_module("wasmgate_v1"), import_name("call"))) uint64_t wg__import_call(
    uint32_t upstream, const uint8_t *request, uint32_t len, char *out, uint32_t cap);
__attribute__((import_module("wasmgate_v1"), import_name("call_answer"))) int32_t wg__import_call_answer(char *out,
                                                                                                       uint32_t cap);

/* A request of the plugin's own. What is absent or 0 has its default. */
typedef struct {
  wg_str method;    /* GET */
  wg_str authority; /* the upstream's own */
  wg_str path;      /* "/" */
  wg_str query;     /* none; without '?' */
  const wg_field *fields;
  uint32_t field_count;
  wg_str body;
  uint32_t timeout; /* milliseconds for all of it; 5000, at most 60,000 */
} wg_outbound;

/* The answer to it, valid until the next call, or until the handler returns. */
typedef struct wg_answer wg_answer;

/* wg__grown makes room for n bytes in memory that stays; what was there is lost. */
static inline char *wg__grown(char **at, uint32_t *cap, uint32_t n) {
  if (n > *cap) {
    uint32_t size = *cap ? *cap : 8192;
    while (size && size < n) size *= 2;
    char *p = size ? (char *)wg_alloc(size) : NULL;
    if (!p) return NULL;
    *at = p;
    *cap = size;
  }
  return *at;
}

/* wg_call sends a request to a service and returns when the answer is whole; the gateway serves others meanwhile. An answer
 * of any status is WG_OK. *answer is set with WG_OK only. Redirects are not followed. */
static inline wg_result wg_call(uint32_t service, const wg_outbound *r, const wg_answer **answer) {
  struct wg__state *s = &wg__state;
  if (!wg__grown(&s->call, &s->call_cap, 1) || !wg__grown(&s->answer, &s->answer_cap, 1)) return WG_NO_MEMORY;
  struct wg__state saved = *s; /* the request is written as an answer is, elsewhere */
  s->out = (uint8_t *)s->call;
  s->out_cap = s->call_cap;
  s->pos = 0;
  s->full = false;
  if (r->method.len) wg__op_str(0x10, r->method);
  if (r->authority.len) wg__op_str(0x11, r->authority);
  if (r->path.len) wg__op_str(0x12, r->path);
  if (r->query.len) wg__op_str(0x13, r->query);
  for (uint32_t i = 0; i < r->field_count; i++) wg__op_pair(0x21, r->fields[i].name, r->fields[i].value);
  if (r->body.len) wg__op_str(0x60, r->body);
  if (r->timeout) wg__op32(0x03, r->timeout);
  uint32_t len = s->pos;
  bool full = s->full;
  s->call = (char *)s->out;
  s->call_cap = s->out_cap;
  s->out = saved.out;
  s->out_cap = saved.out_cap;
  s->pos = saved.pos;
  s->full = saved.full;
  if (full) return WG_NO_MEMORY;
  uint64_t got = wg__import_call(service, (const uint8_t *)s->call, len, s->answer, s->answer_cap);
  if (got >> 32) return (wg_result)(got >> 32);
  if ((uint32_t)got > s->answer_cap) {
    if (!wg__grown(&s->answer, &s->answer_cap, (uint32_t)got)) return WG_NO_MEMORY;
    wg__import_call_answer(s->answer, s->answer_cap);
  }
  *answer = (const wg_answer *)(const void *)s->answer;
  return WG_OK;
}

static inline uint32_t wg__a32(const wg_answer *a, uint32_t at) { return wg__u32((const wg_request *)(const void *)a, at); }
static inline wg_str wg__a_str(const wg_answer *a, uint32_t at) { return wg__pair((const wg_request *)(const void *)a, at); }

static inline uint32_t wg_answer_status(const wg_answer *a) { return wg__a32(a, 4); }
static inline wg_str wg_answer_body(const wg_answer *a) { return wg__a_str(a, 16); }
/* How long the call took, in milliseconds. */
static inline uint32_t wg_answer_took(const wg_answer *a) { return wg__a32(a, 24); }
/* How many fields the answer has; those of its trailers follow them. */
static inline uint32_t wg_answer_count(const wg_answer *a) { return wg__a32(a, 8); }
static inline uint32_t wg_answer_trailer_count(const wg_answer *a) { return wg__a32(a, 12); }

/* wg_answer_field is a field, from 0; its name is in lower case. */
static inline wg_field wg_answer_field(const wg_answer *a, uint32_t i) {
  wg_field f;
  uint32_t at = wg__a32(a, 0) + 16 * i;
  f.name = wg__a_str(a, at);
  f.value = wg__a_str(a, at + 8);
  return f;
}

static inline wg_str wg__answer_find(const wg_answer *a, wg_str name, uint32_t from, uint32_t to) {
  for (uint32_t i = from; i < to; i++) {
    wg_field f = wg_answer_field(a, i);
    if (wg_eq(f.name, name)) return f.value;
  }
  return wg_slice(NULL, 0);
}

/* wg_answer_get is the first value of a field, absent if there is none; the name is in lower case. */
static inline wg_str wg_answer_get(const wg_answer *a, wg_str name) {
  return wg__answer_find(a, name, 0, wg_answer_count(a));
}

/* wg_answer_trailer is wg_answer_get for the trailers. */
static inline wg_str wg_answer_trailer(const wg_answer *a, wg_str name) {
  return wg__answer_find(a, name, wg_answer_count(a), wg_answer_count(a) + wg_answer_trailer_count(a));
}

/* ---- State: stores that all instances share, and other plugins that are granted them ---- */

__attribute__((import_module("wasmgate_v1"), import_name("kv_get"))) uint64_t wg__import_kv_get(
    uint32_t store, const char *key, uint32_t key_len, char *out, uint32_t cap);
__attribute__((import_module("wasmgate_v1"), import_name("kv_set"))) uint64_t wg__import_kv_set(
    uint32_t store, const char *key, uint32_t key_len, const char *value, uint32_t len, uint32_t version, uint64_t ttl);
__attribute__((import_module("wasmgate_v1"), import_name("kv_delete"))) uint64_t wg__import_kv_delete(
    uint32_t store, const char *key, uint32_t key_len, uint32_t version);
__attribute__((import_module("wasmgate_v1"), import_name("kv_add"))) uint32_t wg__import_kv_add(
    uint32_t store, const char *key, uint32_t key_len, int64_t delta, uint64_t ttl, int64_t *out);

/* wg_kv_get copies the value of a key to out and sets *len to its length; if that is over cap, nothing was copied. It
 * returns the value's version; 0: there is no such key. */
static inline uint32_t wg_kv_get(uint32_t store, wg_str key, char *out, uint32_t cap, uint32_t *len) {
  uint64_t got = wg__import_kv_get(store, key.ptr, key.len, out, cap);
  *len = (uint32_t)got;
  return (uint32_t)(got >> 32);
}

/* wg_kv_set sets a key, whatever it was, for ttl milliseconds; 0 is for ever. */
static inline wg_result wg_kv_set(uint32_t store, wg_str key, wg_str value, uint64_t ttl) {
  return (wg_result)(wg__import_kv_set(store, key.ptr, key.len, value.ptr, value.len, 0, ttl) >> 32);
}

/* wg_kv_compare_and_set sets a key if it has this version: with 0, if it is not there. *now, which may be null, is the new
 * version, or with WG_MISMATCH the one that is there. */
static inline wg_result wg_kv_compare_and_set(uint32_t store, wg_str key, wg_str value, uint32_t version, uint64_t ttl,
                                              uint32_t *now) {
  uint64_t got =
      wg__import_kv_set(store, key.ptr, key.len, value.ptr, value.len, version ? version : 0xffffffff, ttl);
  if (now) *now = (uint32_t)got;
  return (wg_result)(got >> 32);
}

/* wg_kv_delete removes a key. */
static inline wg_result wg_kv_delete(uint32_t store, wg_str key) {
  return (wg_result)(wg__import_kv_delete(store, key.ptr, key.len, 0) >> 32);
}

/* wg_kv_compare_and_delete removes a key if it has this version. */
static inline wg_result wg_kv_compare_and_delete(uint32_t store, wg_str key, uint32_t version) {
  return (wg_result)(wg__import_kv_delete(store, key.ptr, key.len, version ? version : 0xffffffff) >> 32);
}

/* wg_kv_add adds to a counter. A key that is not there is 0, and expires ttl milliseconds after this call; 0 is never. One
 * that is there keeps its end. */
static inline wg_result wg_kv_add(uint32_t store, wg_str key, int64_t delta, uint64_t ttl, int64_t *sum) {
  return (wg_result)wg__import_kv_add(store, key.ptr, key.len, delta, ttl, sum);
}

/* ---- Metrics ---- */

__attribute__((import_module("wasmgate_v1"), import_name("metric"))) void wg__import_metric(uint32_t id, double value);

/* wg_metric adds to a counter or an up-down counter, sets a gauge, or has a histogram observe. What is added to a counter
 * is not negative. */
static inline void wg_metric(uint32_t metric, double value) { wg__import_metric(metric, value); }

/* ---- Bodies ---- */

__attribute__((import_module("wasmgate_v1"), import_name("read_body"))) int32_t wg__import_read_body(
    uint32_t message, uint32_t offset, char *out, uint32_t cap);

/* wg_has_body says whether the message's body is buffered; a message without one has an empty one. */
static inline bool wg_has_body(const wg_request *r) { return wg__u32(r, 12) & 8; }
/* wg_body_is_part says whether only its beginning is: see WG_PARTIAL. */
static inline bool wg_body_is_part(const wg_request *r) { return wg__u32(r, 12) & 16; }

/* wg_read_body copies what is buffered of the body from offset on, and returns how many bytes there are from there on; -1
 * if none is buffered, or if offset is beyond its end. */
static inline int32_t wg_read_body(const wg_request *r, uint32_t offset, char *out, uint32_t cap) {
  return wg__import_read_body(wg_is_response(r), offset, out, cap);
}

/* wg_body is the body that is buffered, absent if none is, or if there is not enough memory. It is valid until the handler
 * returns. */
static inline wg_str wg_body(const wg_request *r) {
  struct wg__state *s = &wg__state;
  int32_t n = wg_has_body(r) ? wg_read_body(r, 0, s->body, s->body_cap) : -1;
  if (n < 0) return wg_slice(NULL, 0);
  if ((uint32_t)n > s->body_cap || !s->body) {
    if (!wg__grown(&s->body, &s->body_cap, n ? (uint32_t)n : 1)) return wg_slice(NULL, 0);
    wg_read_body(r, 0, s->body, s->body_cap);
  }
  return wg_slice(s->body, (uint32_t)n);
}

/* A wg_piece is a piece of a body on its way, valid until the function returns. */
typedef struct wg_piece wg_piece;

static inline const wg_request *wg__p(const wg_piece *p) { return (const wg_request *)(const void *)p; }

static inline bool wg_piece_is_response(const wg_piece *p) { return wg__u32(wg__p(p), 4) == 1; }
/* wg_piece_is_last says whether the body ends with this piece, which may be empty then. */
static inline bool wg_piece_is_last(const wg_piece *p) { return wg__u32(wg__p(p), 8) & 1; }
static inline int64_t wg_piece_time(const wg_piece *p) { return (int64_t)wg__u64(wg__p(p), 16); }
/* wg_piece_word is what wg_set_context left with the last piece of the message; with the first it is the handler's. Pieces
 * of a message may come to different instances, so this is where their state is. */
static inline uint64_t wg_piece_word(const wg_piece *p) { return wg__u64(wg__p(p), 24); }
/* wg_piece_before is how many bytes of the body were before this piece. */
static inline uint64_t wg_piece_before(const wg_piece *p) { return wg__u64(wg__p(p), 32); }
static inline wg_str wg_piece_data(const wg_piece *p) { return wg__pair(wg__p(p), 40); }

/* wg_keep_end has the last n bytes of the piece come again, in front of the next one: at most 64 KiB, and nothing of the last
 * piece. wg_continue then passes on what is before them, and wg_replace replaces that. */
static inline void wg_keep_end(uint32_t n) { wg__op32(0x62, n); }

/* wg_replace sends other bytes instead of the piece. It comes after all edits. */
static inline wg_decision wg_replace(wg_str data) {
  if (wg__state.pos) {
    wg__op_str(0x60, data);
    return (uint64_t)4 << 32;
  }
  uint8_t *p = wg__room(data.len);
  if (p) wg_copy(p, data.ptr, data.len);
  return (uint64_t)6 << 32 | data.len;
}

/* ---- Ticks ---- */

/* A wg_tick is a call without a request. */
typedef struct wg_tick wg_tick;

static inline int64_t wg_tick_time(const wg_tick *t) { return (int64_t)wg__u64((const wg_request *)(const void *)t, 8); }
static inline uint64_t wg_tick_seed(const wg_tick *t) { return wg__u64((const wg_request *)(const void *)t, 16); }

/* ---- JSON configuration ---- */

#define WG_JSON_DEPTH 16

/* wg_json_fn is called for each value that is not an object or an array, with the names that lead to it; an element
 * of an array has an empty name. It returns an error text, or a null pointer to go on. */
typedef const char *(*wg_json_fn)(void *arg, const wg_str *path, uint32_t depth, wg_str value);

struct wg__json {
  char *p, *end;
  wg_json_fn fn;
  void *arg;
  wg_str path[WG_JSON_DEPTH];
};

static inline const char *wg__json_value(struct wg__json *j, uint32_t depth);

/* wg_json walks over a JSON text, in order. Strings come without quotes and escapes, everything else as it is written.
 * The text is overwritten: escapes are resolved in place. It returns an error text or a null pointer. */
static inline const char *wg_json(wg_str text, wg_json_fn fn, void *arg);

/* ---- Registration ---- */

typedef struct {
  const char *(*configure)(wg_config *);     /* optional: returns an error text that stays, or a null pointer */
  wg_decision (*request)(const wg_request *);
  wg_decision (*response)(const wg_request *); /* optional */
  bool response_if_marked; /* call response only where the request's handler left a context word that is not 0 */
  /* Optional: sees the pieces of streamed bodies. It returns wg_continue, wg_replace, wg_deny of a request, or wg_fail. */
  wg_decision (*piece)(const wg_piece *);
  /* Optional: is called now and then, see wg_want_ticks. It returns an error text that stays, or a null pointer. */
  const char *(*tick)(const wg_tick *);
} wg_plugin;

static inline uint64_t wg__place(const uint8_t *p, uint32_t cap) { return (uint64_t)cap << 32 | (uint32_t)(size_t)p; }

static inline void wg__begin(void) {
  struct wg__state *s = &wg__state;
  s->out = s->arena;
  s->out_cap = s->arena_cap;
  s->pos = 0;
  s->full = false;
}

/* wg__finish turns the handler's decision and the edits before it into the answer. */
static inline uint64_t wg__finish(wg_decision d) {
  struct wg__state *s = &wg__state;
  uint32_t code = (uint32_t)(d >> 32);
  if (code == 5) return d;
  if (code == 6 && !s->full) return d;
  if (code == 1 || (s->pos == 0 && code != 4 && !s->full)) return d;
  if (code == 2) wg__op32(0x01, (uint32_t)d);
  if (code == 3) wg_respond((uint32_t)d ? (uint32_t)d : 403, wg_slice(NULL, 0), NULL, 0);
  if (s->full) return wg_fail(WG_STR("the plugin's memory is too small for its answer"));
  return (uint64_t)4 << 32 | s->pos;
}

static inline uint64_t wg__configure(const wg_plugin *plugin) {
  struct wg__state *s = &wg__state;
  const wg_request *view = (const wg_request *)(const void *)s->in;
  wg_config c;
  c.name = wg__pair(view, 16);
  c.config = wg__pair(view, 24);
  c.max_request_body = c.max_response_body = 0;
  if (wg__u32(view, 0) >= 40) {
    c.max_request_body = wg__u32(view, 32);
    c.max_response_body = wg__u32(view, 36);
  }
  s->request_slots = s->response_slots = s->upstreams = s->services = s->stores = s->metrics = s->phases = 0;
  wg__begin();
  uint32_t phases = plugin->request ? 1 : 0;
  if (plugin->response) phases |= plugin->response_if_marked ? 4 : 2;
  wg__op32(1, phases);
  const char *error = plugin->configure ? plugin->configure(&c) : NULL;
  if (error) return wg_fail(wg_cstr(error));
  if (s->full) return wg_fail(WG_STR("the plugin's memory is too small for its manifest"));
  /* Bodies need their phase, whether there is a handler or not; so does a plugin that has only ticks. */
  phases |= s->phases & (phases & 4 ? 1 : 3);
  if (!phases) phases = 1;
  wg__put32(s->out + 8, phases);
  return s->pos;
}

static inline uint64_t wg__piece(const wg_plugin *plugin) {
  wg__begin();
  wg_decision d = plugin->piece ? plugin->piece((const wg_piece *)(const void *)wg__state.in) : wg_continue();
  return d >> 32 == 3 ? d : wg__finish(d); /* what denies a message has no edits */
}

static inline uint64_t wg__tick(const wg_plugin *plugin) {
  wg__begin();
  const char *error = plugin->tick ? plugin->tick((const wg_tick *)(const void *)wg__state.in) : NULL;
  return error ? wg_fail(wg_cstr(error)) : wg__finish(wg_continue());
}

static inline uint64_t wg__resize(uint32_t which, uint32_t need) {
  struct wg__state *s = &wg__state;
  if (which == 1) { /* the answer under way outgrew its arena: it is where it is now */
    s->arena = s->out;
    s->arena_cap = s->out_cap;
    return wg__place(s->arena, s->arena_cap);
  }
  uint32_t cap = s->in_cap;
  while (cap && cap < need) cap *= 2;
  uint8_t *p = which == 0 && cap ? (uint8_t *)wg_alloc(cap) : NULL;
  if (!p) return 0;
  s->in = p;
  s->in_cap = cap;
  return wg__place(p, cap);
}

/* WASMGATE_PLUGIN registers a plugin; its arguments initialise a wg_plugin. */
#define WASMGATE_PLUGIN(...)                                                                                       \
  static const wg_plugin wg__registered = {__VA_ARGS__};                                                           \
  static uint8_t wg__arenas[2][WASMGATE_ARENA] __attribute__((aligned(16)));                                       \
  struct wg__state wg__state = {wg__arenas[0], wg__arenas[1], wg__arenas[1], WASMGATE_ARENA, WASMGATE_ARENA,       \
                                WASMGATE_ARENA, 0, 0, 0, 0, false, NULL, NULL, 0, 0, 0, 0, NULL, NULL, NULL, 0, 0, \
                                0};                                                                                \
  __attribute__((export_name("wasmgate_v1_arena"))) uint64_t wg__export_arena(uint32_t which) {                    \
    if (which == 0) return wg__place(wg__state.in, wg__state.in_cap);                                              \
    return which == 1 ? wg__place(wg__state.arena, wg__state.arena_cap) : 0;                                       \
  }                                                                                                                \
  __attribute__((export_name("wasmgate_v1_configure"))) uint64_t wg__export_configure(uint32_t len) {              \
    (void)len;                                                                                                     \
    return wg__configure(&wg__registered);                                                                         \
  }                                                                                                                \
  __attribute__((export_name("wasmgate_v1_request"))) uint64_t wg__export_request(uint32_t len) {                  \
    (void)len;                                                                                                     \
    wg__begin();                                                                                                   \
    if (!wg__registered.request) return 0;                                                                         \
    return wg__finish(wg__registered.request((const wg_request *)(const void *)wg__state.in));                     \
  }                                                                                                                \
  __attribute__((export_name("wasmgate_v1_response"))) uint64_t wg__export_response(uint32_t len) {                \
    (void)len;                                                                                                     \
    wg__begin();                                                                                                   \
    if (!wg__registered.response) return 0;                                                                        \
    return wg__finish(wg__registered.response((const wg_request *)(const void *)wg__state.in));                    \
  }                                                                                                                \
  __attribute__((export_name("wasmgate_v1_body"))) uint64_t wg__export_body(uint32_t len) {                        \
    (void)len;                                                                                                     \
    return wg__piece(&wg__registered);                                                                             \
  }                                                                                                                \
  __attribute__((export_name("wasmgate_v1_tick"))) uint64_t wg__export_tick(uint32_t len) {                        \
    (void)len;                                                                                                     \
    return wg__tick(&wg__registered);                                                                              \
  }                                                                                                                \
  __attribute__((export_name("wasmgate_v1_resize"))) uint64_t wg__export_resize(uint32_t which, uint32_t need) {   \
    return wg__resize(which, need);                                                                                \
  }                                                                                                                \
  WG__LIB void *memcpy(void *d, const void *s, size_t n) {                                                         \
    wg_copy(d, s, (uint32_t)n);                                                                                    \
    return d;                                                                                                      \
  }                                                                                                                \
  WG__LIB void *memmove(void *d, const void *s, size_t n) {                                                        \
    char *to = (char *)d;                                                                                          \
    const char *from = (const char *)s;                                                                            \
    if (to <= from || to >= from + n)                                                                              \
      for (size_t i = 0; i < n; i++) to[i] = from[i];                                                              \
    else                                                                                                           \
      while (n--) to[n] = from[n];                                                                                 \
    return d;                                                                                                      \
  }                                                                                                                \
  WG__LIB void *memset(void *d, int c, size_t n) {                                                                 \
    for (size_t i = 0; i < n; i++) ((char *)d)[i] = (char)c;                                                       \
    return d;                                                                                                      \
  }                                                                                                                \
  WG__LIB int memcmp(const void *a, const void *b, size_t n) {                                                     \
    const unsigned char *x = (const unsigned char *)a, *y = (const unsigned char *)b;                              \
    for (; n; n--, x++, y++)                                                                                       \
      if (*x != *y) return *x < *y ? -1 : 1;                                                                       \
    return 0;                                                                                                      \
  }

/* ---- The JSON reader ---- */

static inline void wg__json_space(struct wg__json *j) {
  while (j->p < j->end && (*j->p == ' ' || *j->p == '\t' || *j->p == '\n' || *j->p == '\r')) j->p++;
}

static inline bool wg__json_take(struct wg__json *j, char c) {
  wg__json_space(j);
  if (j->p == j->end || *j->p != c) return false;
  j->p++;
  return true;
}

/* wg__json_hex reads \uXXXX at p; -1 if it is not one. */
static inline int32_t wg__json_hex(const char *p, const char *end) {
  int32_t v = 0;
  if (end - p < 6 || p[0] != '\\' || p[1] != 'u') return -1;
  for (int i = 2; i < 6; i++) {
    char c = wg_lower(p[i]);
    if (c >= '0' && c <= '9')
      v = v * 16 + (c - '0');
    else if (c >= 'a' && c <= 'f')
      v = v * 16 + (c - 'a' + 10);
    else
      return -1;
  }
  return v;
}

static inline char *wg__json_utf8(char *out, uint32_t c) {
  if (c < 0x80) {
    *out++ = (char)c;
    return out;
  }
  if (c < 0x800) {
    *out++ = (char)(0xc0 | c >> 6);
  } else {
    if (c < 0x10000) {
      *out++ = (char)(0xe0 | c >> 12);
    } else {
      *out++ = (char)(0xf0 | c >> 18);
      *out++ = (char)(0x80 | (c >> 12 & 0x3f));
    }
    *out++ = (char)(0x80 | (c >> 6 & 0x3f));
  }
  *out++ = (char)(0x80 | (c & 0x3f));
  return out;
}

/* wg__json_escape reads the escape at j->p and writes what it means to out; the new out, or a null pointer. */
static inline char *wg__json_escape(struct wg__json *j, char *out) {
  static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
  int32_t high = wg__json_hex(j->p, j->end);
  if (high >= 0) {
    uint32_t c = (uint32_t)high;
    j->p += 6;
    if (c >= 0xd800 && c < 0xe000) {
      int32_t low = wg__json_hex(j->p, j->end);
      if (c < 0xdc00 && low >= 0xdc00 && low < 0xe000) {
        c = 0x10000 + ((c - 0xd800) << 10) + ((uint32_t)low - 0xdc00);
        j->p += 6;
      } else {
        c = 0xfffd;
      }
    }
    return wg__json_utf8(out, c);
  }
  if (j->end - j->p < 2) return NULL;
  for (uint32_t i = 0; from[i]; i++) {
    if (j->p[1] == from[i]) {
      j->p += 2;
      *out++ = to[i];
      return out;
    }
  }
  return NULL;
}

static inline bool wg__json_str(struct wg__json *j, wg_str *s) {
  if (!wg__json_take(j, '"')) return false;
  char *start = j->p, *out = j->p;
  while (j->p < j->end) {
    char c = *j->p;
    if (c == '"') {
      j->p++;
      *s = wg_slice(start, (uint32_t)(out - start));
      return true;
    }
    if ((unsigned char)c < ' ') return false;
    if (c == '\\') {
      out = wg__json_escape(j, out);
      if (!out) return false;
    } else {
      *out++ = c;
      j->p++;
    }
  }
  return false;
}

static const char wg__json_error[] = "the configuration is not JSON";

static inline const char *wg__json_members(struct wg__json *j, uint32_t depth, char closing) {
  j->p++;
  if (wg__json_take(j, closing)) return NULL;
  if (depth == WG_JSON_DEPTH) return "the configuration is nested too deeply";
  for (;;) {
    j->path[depth] = wg_slice("", 0);
    if (closing == '}' && (!wg__json_str(j, &j->path[depth]) || !wg__json_take(j, ':'))) return wg__json_error;
    const char *error = wg__json_value(j, depth + 1);
    if (error) return error;
    if (wg__json_take(j, closing)) return NULL;
    if (!wg__json_take(j, ',')) return wg__json_error;
  }
}

static inline const char *wg__json_value(struct wg__json *j, uint32_t depth) {
  wg_str s;
  wg__json_space(j);
  if (j->p == j->end) return wg__json_error;
  if (*j->p == '{') return wg__json_members(j, depth, '}');
  if (*j->p == '[') return wg__json_members(j, depth, ']');
  if (*j->p == '"') {
    if (!wg__json_str(j, &s)) return wg__json_error;
    return j->fn(j->arg, j->path, depth, s);
  }
  char *start = j->p;
  while (j->p < j->end) {
    char c = *j->p;
    if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '+' || c == '.' || c == 'E')) break;
    j->p++;
  }
  if (j->p == start) return wg__json_error;
  return j->fn(j->arg, j->path, depth, wg_slice(start, (uint32_t)(j->p - start)));
}

static inline const char *wg_json(wg_str text, wg_json_fn fn, void *arg) {
  struct wg__json j;
  if (text.len == 0) return NULL;
  j.p = (char *)text.ptr;
  j.end = j.p + text.len;
  j.fn = fn;
  j.arg = arg;
  const char *error = wg__json_value(&j, 0);
  if (error) return error;
  wg__json_space(&j);
  return j.p == j.end ? NULL : wg__json_error;
}

#ifdef __cplusplus
}
#endif

#endif
