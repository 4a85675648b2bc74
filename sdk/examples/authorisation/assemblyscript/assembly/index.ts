// authorisation asks a service who a request's credential belongs to, and keeps the answer for a while: see
// ../../../README.md. The versions in other languages do the same.
import {
  Config,
  Counter,
  Decision,
  OutboundRequest,
  Request,
  Result,
  Service,
  Store,
  byteLength,
  configure,
  describe,
  handle,
  requestHeader,
  toNumber,
} from "wasmgate";
export * from "wasmgate/exports";

const MAX_KEY = 1024; // of a store

const credential = requestHeader("authorization");
const asked = new Counter("asked", "requests to the service");
let service: Service = 0;
let hasService = false;
let store: Store | null = null;
let path = "";
let ttl: i64 = 0; // milliseconds, like timeout
let timeout: i64 = 0;

configure((c: Config): string | null => {
  hasService = false;
  store = null;
  path = "/authorise";
  ttl = 60000;
  timeout = 1000;
  const error = c.walk(setting);
  if (error !== null) return error;
  if (!hasService) return "config.service is missing: the upstream that is asked";
  return store ? null : "config.store is missing: where answers are kept";
});

function setting(c: Config, key: string[], value: string): string | null {
  const name = key.length == 1 ? key[0] : "";
  if (name == "service") {
    service = c.service(value);
    hasService = true;
  } else if (name == "store") {
    store = c.store(value);
  } else if (name == "path") {
    path = value;
  } else if (name == "ttl" || name == "timeout") {
    const n = toNumber(value);
    if (n < 1 || n > 0x7fffffff) return "config." + name + " is a number of milliseconds, 1 to 2147483647";
    if (name == "ttl") ttl = n;
    else timeout = n;
  } else {
    return "config: the keys are service, store, path, ttl and timeout";
  }
  return null;
}

handle((r: Request): Decision => {
  const n = r.headerCount(credential);
  if (n == 0) return r.respond(401, "", ["www-authenticate", "Bearer"]);
  if (n > 1) return Decision.deny(400); // which of them would the upstream believe?
  const proof = r.header(credential);
  const key = "authorisation/" + proof;
  const cache = byteLength(key) <= MAX_KEY ? store : null;
  if (cache) {
    const known = cache.get(key);
    if (known) return decide(r, known.value, "hit");
  }
  asked.add(1);
  const question = new OutboundRequest("GET", path);
  question.header = ["authorization", proof];
  question.timeout = <i32>timeout;
  const answer = r.call(service, question);
  if (answer.result != Result.OK) return Decision.fail("the authorisation service: " + describe(answer.result));
  let verdict = "-";
  if (answer.status == 200) verdict = "+" + answer.header("x-user");
  else if (answer.status != 401 && answer.status != 403) {
    return Decision.fail("the authorisation service answered " + answer.status.toString());
  }
  if (cache) cache.set(key, verdict, ttl); // a store that is full only costs another question
  return decide(r, verdict, "miss");
});

// decide does what the service said: "+" and who it is, or "-".
function decide(r: Request, verdict: string, cache: string): Decision {
  if (r.sampled) r.attribute("authorisation.cache", cache);
  if (!verdict.startsWith("+")) return Decision.deny(403);
  if (verdict.length > 1) r.setHeader("x-user", verdict.substring(1));
  else r.removeHeader("x-user");
  return Decision.Continue;
}
