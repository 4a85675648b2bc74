// redact replaces a secret, which is its configuration, by hash signs in the bodies of requests and answers: the example that
// users of http-wasm know best. It allocates nothing: bodies have at most 64 KiB here.
#include "http_handler.h"

static char secret[256], body[1 << 16];
static u32 secret_len;

static int redact(u32 n) {
  int found = 0;
  for (u32 i = 0; i + secret_len <= n; i++) {
    if (!equal((str){body + i, secret_len}, (str){secret, secret_len})) continue;
    memset(body + i, '#', secret_len);
    found = 1;
  }
  return found;
}

static void handle(u32 kind) {
  u32 n = 0;
  u64 got;
  do {
    got = read_body(kind, body + n, sizeof body - n);
    n += (u32)got;
  } while (!(got >> 32) && n < sizeof body);
  if (!(got >> 32)) __builtin_trap();
  if (redact(n)) write_body(kind, body, n);
}

EXPORT(_initialize) void initialize(void) {
  u32 want = BUFFER_REQUEST | BUFFER_RESPONSE;
  if ((enable_features(want) & want) != want) __builtin_trap();
  secret_len = get_config(secret, sizeof secret);
  if (secret_len == 0 || secret_len > sizeof secret) __builtin_trap();
}

EXPORT(handle_request) u64 handle_request(void) {
  handle(REQUEST);
  return 1;
}

EXPORT(handle_response) void handle_response(u32 context, u32 is_error) {
  (void)context;
  if (!is_error) handle(RESPONSE);
}
