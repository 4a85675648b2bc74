//! tenant-router chooses the upstream by tenant: see ../../../README.md. The versions in other languages do the same.

use std::collections::HashMap;
use wasmgate::{path_under, Config, Decision, Error, Header, Plugin, Request, Upstream};

const MAX_NAME: usize = 63; // a host label's

struct TenantRouter {
    header: Header,
    domain: Vec<u8>, // lower case, without a leading dot; empty: hosts do not say the tenant
    fallback: Upstream,
    tenants: HashMap<Vec<u8>, Upstream>, // by names in lower case
}

wasmgate::plugin!(TenantRouter);

impl Plugin for TenantRouter {
    fn configure(c: &mut Config) -> Result<Self, Error> {
        let mut domain = Vec::new();
        let mut fallback = None;
        let mut tenants = HashMap::new();
        let header = c.request_header("x-tenant");
        c.walk(|c, path, value| {
            match path {
                ["default"] => fallback = Some(c.upstream(value)),
                ["domain"] => domain = value.to_ascii_lowercase().into_bytes(),
                ["tenants", name] => {
                    if name.is_empty() || name.len() > MAX_NAME {
                        return Err("config.tenants: a tenant's name has 1 to 63 bytes".into());
                    }
                    if tenants.insert(name.to_ascii_lowercase().into_bytes(), c.upstream(value)).is_some() {
                        return Err("config.tenants: a tenant is there twice".into());
                    }
                }
                _ => return Err("config: the keys are default, domain and tenants".into()),
            }
            Ok(())
        })?;
        let fallback = fallback.ok_or("config.default is missing: the upstream of unknown tenants")?;
        Ok(TenantRouter { header, domain, fallback, tenants })
    }

    fn request(&mut self, r: &Request) -> Decision {
        if path_under(r.path(), "/admin") {
            return Decision::Deny(403);
        }
        let mut asked = r.header(self.header).as_bytes();
        if asked.is_empty() {
            asked = self.host_label(r.host().as_bytes());
        }
        let mut lower = [0; MAX_NAME];
        let known = lower.get_mut(..asked.len()).and_then(|lower| {
            lower.copy_from_slice(asked);
            lower.make_ascii_lowercase();
            self.tenants.get_key_value(&*lower)
        });
        let (tenant, upstream) = known.map_or((&b"default"[..], self.fallback), |(name, upstream)| (name, *upstream));
        r.set_header("x-tenant-id", tenant);
        r.set_header("x-routed-by", "tenant-router");
        if r.sampled() {
            r.attribute("tenant.id", tenant);
        }
        Decision::RouteTo(upstream)
    }
}

impl TenantRouter {
    /// The one label in front of the domain; empty if there is none.
    fn host_label<'h>(&self, host: &'h [u8]) -> &'h [u8] {
        match host.iter().position(|&c| c == b'.') {
            Some(dot) if !self.domain.is_empty() && host[dot + 1..].eq_ignore_ascii_case(&self.domain) => &host[..dot],
            _ => b"",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wasmgate::testing::{Message, Tester};

    const CONFIG: &str = r#"{"default": "users", "domain": "Example.com", "tenants": {"acme": "acme-upstream"}}"#;

    #[test]
    fn requests() {
        let mut p = Tester::<TenantRouter>::new(CONFIG).unwrap();
        let a = p.request(&Message { authority: "ACME.example.com:80".into(), ..Message::default() });
        assert_eq!((a.decision.as_str(), a.upstream.as_str()), ("route", "acme-upstream"));
        assert_eq!(a.edits, ["set_header x-tenant-id: acme", "set_header x-routed-by: tenant-router"]);
        let a = p.request(&Message::get("/").header("x-tenant", "unknown"));
        assert_eq!((a.upstream.as_str(), a.edits[0].as_str()), ("users", "set_header x-tenant-id: default"));
        assert_eq!(p.request(&Message::get("/admin/x")).status, 403);
    }

    #[test]
    fn configurations() {
        for (config, want) in
            [("", "config.default is missing"), ("{", "not JSON"), (r#"{"default":"x","tenants":{"a":"y","A":"z"}}"#, "twice")]
        {
            let e = Tester::<TenantRouter>::new(config).err().unwrap();
            assert!(e.text().contains(want), "{}: {}", config, e);
        }
    }
}
