//! authorisation asks a service who a request's credential belongs to, and keeps the answer for a while: see
//! ../../../README.md. The versions in other languages do the same.

use std::time::Duration;
use wasmgate::{Config, Counter, Decision, Error, Header, OutboundRequest, Plugin, Request, Service, Store};

const MAX_KEY: usize = 1024; // of a store

struct Authorisation {
    credential: Header,
    asked: Counter,
    service: Service,
    store: Store,
    path: String,
    ttl: Duration,
    timeout: Duration,
}

wasmgate::plugin!(Authorisation);

impl Plugin for Authorisation {
    fn configure(c: &mut Config) -> Result<Self, Error> {
        let (mut service, mut store, mut path) = (None, None, "/authorise".to_string());
        let (mut ttl, mut timeout) = (Duration::from_secs(60), Duration::from_secs(1));
        let credential = c.request_header("authorization");
        let asked = c.counter("asked", "requests to the service");
        c.walk(|c, key, value| {
            match key {
                ["service"] => service = Some(c.service(value)),
                ["store"] => store = Some(c.store(value)),
                ["path"] => path = value.to_string(),
                ["ttl"] => ttl = milliseconds(key, value)?,
                ["timeout"] => timeout = milliseconds(key, value)?,
                _ => return Err("config: the keys are service, store, path, ttl and timeout".into()),
            }
            Ok(())
        })?;
        let service = service.ok_or("config.service is missing: the upstream that is asked")?;
        let store = store.ok_or("config.store is missing: where answers are kept")?;
        Ok(Authorisation { credential, asked, service, store, path, ttl, timeout })
    }

    fn request(&mut self, r: &Request) -> Decision {
        match r.header_count(self.credential) {
            0 => return r.respond(401, "", &[("www-authenticate", "Bearer")]),
            1 => {}
            _ => return Decision::Deny(400), // which of them would the upstream believe?
        }
        let credential = r.header(self.credential);
        let key = [b"authorisation/", credential.as_bytes()].concat();
        let keep = key.len() <= MAX_KEY;
        if keep {
            if let Some((verdict, _)) = self.store.get(&key) {
                return decide(r, &verdict, "hit");
            }
        }
        self.asked.add(1.0);
        let question = OutboundRequest::get(&self.path).header("authorization", credential).timeout(self.timeout);
        let answer = match r.call(self.service, &question) {
            Ok(answer) => answer,
            Err(e) => return Decision::fail(format!("the authorisation service: {e}")),
        };
        let verdict = match answer.status() {
            200 => [b"+", answer.header("x-user").as_bytes()].concat(),
            401 | 403 => b"-".to_vec(),
            status => return Decision::fail(format!("the authorisation service answered {status}")),
        };
        if keep {
            let _ = self.store.set(&key, &verdict, self.ttl); // a store that is full only costs another question
        }
        decide(r, &verdict, "miss")
    }
}

fn milliseconds(key: &[&str], value: &str) -> Result<Duration, Error> {
    match value.bytes().all(|c| c.is_ascii_digit()).then(|| value.parse()) {
        Some(Ok(n @ 1..=0x7fff_ffff)) => Ok(Duration::from_millis(n)),
        _ => Err(format!("config.{} is a number of milliseconds, 1 to 2147483647", key[0]).into()),
    }
}

/// Does what the service said: "+" and who it is, or "-".
fn decide(r: &Request, verdict: &[u8], cache: &str) -> Decision {
    if r.sampled() {
        r.attribute("authorisation.cache", cache);
    }
    match verdict.split_first() {
        Some((b'+', [])) => r.remove_header("x-user"),
        Some((b'+', user)) => r.set_header("x-user", user),
        _ => return Decision::Deny(403),
    }
    Decision::Continue
}

#[cfg(test)]
mod tests {
    use super::*;
    use wasmgate::testing::{Message, OutboundAnswer, Tester};
    use wasmgate::Failure;

    #[test]
    fn answers_are_kept() {
        let mut p = Tester::<Authorisation>::new(r#"{"service": "auth", "store": "cache", "ttl": 1000}"#).unwrap();
        assert_eq!(p.request(&Message::get("/")).status, 401);
        let m = Message::get("/").header("authorization", "Bearer 1");
        assert_eq!(p.request(&m).text, "the authorisation service: no connection to the upstream");
        p.on_call(|o| {
            assert_eq!((o.path.as_str(), o.headers[0].1.as_str()), ("/authorise", "Bearer 1"));
            Ok(OutboundAnswer { status: 200, headers: vec![("x-user".into(), "ann".into())], ..OutboundAnswer::default() })
        });
        assert_eq!(p.request(&m).edits, ["set_header x-user: ann"]);
        p.on_call(|_| Err(Failure::Timeout));
        assert_eq!(p.request(&m).edits, ["set_header x-user: ann"]);
        assert_eq!(p.measured("asked").len(), 2);
        assert_eq!(p.request(&Message { time: m.time + 1000, ..m }).text, "the authorisation service: no answer in time");
    }
}
