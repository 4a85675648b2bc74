// auth lets requests pass that have the basic credentials of its configuration, "user:password" in base64, and tells the
// upstream who it is: as plugins of Traefik do.
#include "http_handler.h"

static char want[256] = "Basic ", have[256];
static u32 want_len;

EXPORT(_start) void start(void) {
  u32 n = get_config(want + 6, sizeof want - 6);
  if (n == 0 || n > sizeof want - 6) __builtin_trap();
  want_len = n + 6;
}

EXPORT(handle_request) u64 handle_request(void) {
  str name = STR("authorization");
  u64 got = get_header_values(REQUEST, name.at, name.len, have, sizeof have);
  if (got >> 32 == 1 && (u32)got <= sizeof have && equal((str){have, (u32)got - 1}, (str){want, want_len})) {
    set_header_value(REQUEST, "x-user", 6, "known", 5);
    remove_header(REQUEST, name.at, name.len);
    return 1;
  }
  set_status_code(401);
  set_header_value(RESPONSE, "www-authenticate", 16, "Basic realm=\"test\"", 18);
  set_header_value(RESPONSE, "content-type", 12, "text/plain", 10);
  set_header_value(RESPONSE, "content-length", 14, "9", 1);
  write_body(RESPONSE, "who ", 4);
  write_body(RESPONSE, "goes?", 5);
  return 0;
}

EXPORT(handle_response) void handle_response(u32 context, u32 is_error) {
  (void)context;
  (void)is_error;
}
