// tenant-router chooses the upstream by tenant: see ../../../README.md. The versions in other languages do the same.
import { Config, Decision, Request, Upstream, asciiLower, byteLength, configure, handle, requestHeader } from "wasmgate";
export * from "wasmgate/exports";

const MAX_NAME = 63; // a host label's

const header = requestHeader("x-tenant");
let domain = ""; // lower case, without a leading dot; empty: hosts do not say the tenant
let fallback: Upstream = 0;
let hasFallback = false;
const tenants = new Map<string, Upstream>(); // by names in lower case

configure((c: Config): string | null => {
  domain = "";
  hasFallback = false;
  tenants.clear();
  const error = c.walk(setting);
  if (error !== null) return error;
  return hasFallback ? null : "config.default is missing: the upstream of unknown tenants";
});

function setting(c: Config, path: string[], value: string): string | null {
  if (path.length == 1 && path[0] == "default") {
    fallback = c.upstream(value);
    hasFallback = true;
  } else if (path.length == 1 && path[0] == "domain") {
    domain = asciiLower(value);
  } else if (path.length == 2 && path[0] == "tenants") {
    const n = byteLength(path[1]);
    if (n == 0 || n > MAX_NAME) return "config.tenants: a tenant's name has 1 to 63 bytes";
    const name = asciiLower(path[1]);
    if (tenants.has(name)) return "config.tenants: a tenant is there twice";
    tenants.set(name, c.upstream(value));
  } else {
    return "config: the keys are default, domain and tenants";
  }
  return null;
}

// hostLabel returns the one label in front of the domain; "" if there is none.
function hostLabel(host: string): string {
  const dot = host.indexOf(".");
  if (dot < 0 || domain.length == 0 || host.length - dot - 1 != domain.length) return "";
  return asciiLower(host.substring(dot + 1)) == domain ? host.substring(0, dot) : "";
}

handle((r: Request): Decision => {
  if (r.pathUnder("/admin")) return Decision.deny(403);
  let asked = r.header(header);
  if (asked.length == 0) asked = hostLabel(r.host);
  let tenant = "default";
  let upstream = fallback;
  if (asked.length <= MAX_NAME) {
    const name = asciiLower(asked);
    if (tenants.has(name)) {
      tenant = name;
      upstream = tenants.get(name);
    }
  }
  r.setHeader("x-tenant-id", tenant);
  r.setHeader("x-routed-by", "tenant-router");
  if (r.sampled) r.attribute("tenant.id", tenant);
  return Decision.routeTo(upstream);
});
