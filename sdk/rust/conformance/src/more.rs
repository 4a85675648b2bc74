//! What the conformance plugin does of version 1.1.

use crate::{cut, number, Conformance};
use std::time::Duration;
use wasmgate::{
    BodyFlag, Config, Decision, Exchange, Failure, Level, OutboundRequest, OutboundResponse, Piece, Text, Tick, Version,
};

impl Conformance {
    /// Does a line of the configuration; false if it is none.
    pub fn configure_more(&mut self, c: &mut Config, word: Text, arg: Text) -> bool {
        let (first, rest) = cut(arg);
        match word.as_bytes() {
            b"call" => self.services.push(c.service(arg)),
            b"store" => self.stores.push(c.store(arg)),
            b"metric" => self.metrics.push(metric(c, first, &rest.to_string())),
            b"request-body" | b"response-body" => declare_body(c, word == "response-body", first, rest),
            b"pieces" => self.pieces = arg.to_string(),
            b"tick" => c.tick(Duration::from_millis(number(arg))),
            _ => return false,
        }
        true
    }

    /// Does a command; false if it is none.
    pub fn more(&self, x: &Exchange, word: Text, arg: Text) -> bool {
        self.call(x, word, arg) || self.state(x, word, arg) || self.body(x, word, arg)
    }

    fn call(&self, x: &Exchange, word: Text, arg: Text) -> bool {
        let (id, rest) = cut(arg);
        let request = match word.as_bytes() {
            b"call" => {
                let (method, target) = cut(rest);
                let (path, query) = target.split_once(b'?').unwrap_or((target, Text::default()));
                let request = OutboundRequest::new(method, path).header("x-conformance", "yes");
                if query.is_empty() {
                    request
                } else {
                    request.query(query)
                }
            }
            b"call-body" => OutboundRequest::post("/", "z".repeat(number(rest) as usize))
                .authority("kit.example")
                .timeout(Duration::from_millis(250)),
            _ => return false,
        };
        let answer = x.call(self.services[number(id) as usize], &request);
        x.append_header("x-call", answer.map_or_else(error, |a| describe(&a)));
        true
    }

    fn state(&self, x: &Exchange, word: Text, arg: Text) -> bool {
        if !word.starts_with(b"kv-") {
            return false;
        }
        let (id, rest) = cut(arg);
        let (key, value) = cut(rest);
        let store = self.stores[number(id) as usize];
        let old = store.get(key);
        let version = old.as_ref().map_or(Version::ABSENT, |(_, version)| *version);
        let result = match word.as_bytes() {
            b"kv-get" => Ok(old.map_or(b"none".to_vec(), |(v, _)| [v.len().to_string().as_bytes(), b":", &v].concat())),
            b"kv-set" => {
                let (ttl, text) = cut(value);
                ok(store.set(key, text, Duration::from_millis(number(ttl))))
            }
            b"kv-new" => ok(store.compare_and_set(key, value, Version::ABSENT, Duration::ZERO)),
            b"kv-swap" => ok(store.compare_and_set(key, value, version, Duration::ZERO)),
            b"kv-late" => {
                let _ = store.set(key, "early", Duration::ZERO);
                ok(store.compare_and_set(key, value, version, Duration::ZERO))
            }
            b"kv-delete" => ok(store.delete(key)),
            b"kv-add" => {
                let (delta, ttl) = cut(value);
                let sum = store.add(key, signed(delta), Duration::from_millis(number(ttl)));
                sum.map(|sum| sum.to_string().into_bytes())
            }
            _ => return false,
        };
        x.append_header("x-kv", result.unwrap_or_else(|e| error(e).into_bytes()));
        true
    }

    fn body(&self, x: &Exchange, word: Text, arg: Text) -> bool {
        let (first, rest) = cut(arg);
        match word.as_bytes() {
            b"show-body" => {
                let what = if x.body_is_part() { "part" } else { "whole" };
                let shown = match x.body() {
                    Some(b) => [format!("{what} {}:", b.len()).as_bytes(), &b[..b.len().min(40)]].concat(),
                    None => b"none".to_vec(),
                };
                x.append_header("x-body", shown);
            }
            b"set-body" => x.set_body(arg),
            b"fill-body" => x.set_body("b".repeat(number(arg) as usize)),
            b"want-body" if x.has_body() => {}
            b"want-body" => x.want_body(),
            b"metric" => self.metrics[number(first) as usize](signed(rest) as f64 / 4.0),
            _ => return false,
        }
        true
    }

    pub fn piece(&self, p: &Piece) -> Decision {
        match self.pieces.as_str() {
            "upper" => p.replace(p.data().to_ascii_uppercase()),
            "drop" => p.replace(""),
            "keep" if !p.last() => {
                p.keep(p.data().len().min(2));
                Decision::Continue
            }
            "count" => {
                p.set_word(p.word() + 1);
                let [message, last] = [p.is_response(), p.last()].map(u8::from);
                p.replace(format!("[{message} {} {} {} {last}]", p.word(), p.before(), p.data().len()))
            }
            "trailer" if p.last() => p.replace(p.lookup_trailer("x-end", 0).unwrap_or_else(|| b"-".to_vec())),
            "deny" => Decision::Deny(422),
            "fail" => Decision::fail("as the configuration says"),
            "trap" => panic!("as the configuration says"),
            _ => Decision::Continue,
        }
    }

    pub fn ticked(&self, t: &Tick) {
        let answer = t.call(self.services[0], &OutboundRequest::get("/tick"));
        t.log(Level::Info, "kit: tick ".to_string() + &answer.map_or_else(error, |a| a.status().to_string()));
        let _ = self.stores[0].add("ticks", 1, Duration::ZERO);
    }
}

fn metric(c: &mut Config, kind: Text, name: &str) -> Box<dyn Fn(f64)> {
    match number(kind) {
        1 => {
            let m = c.gauge(name, "");
            Box::new(move |v| m.set(v))
        }
        2 => {
            let m = c.histogram(name, "", &[]);
            Box::new(move |v| m.observe(v))
        }
        3 => {
            let m = c.up_down_counter(name, "");
            Box::new(move |v| m.add(v))
        }
        _ => {
            let m = c.counter(name, "");
            Box::new(move |v| m.add(v))
        }
    }
}

fn declare_body(c: &mut Config, response: bool, mode: Text, args: Text) {
    let (bits, most) = cut(args);
    let (bits, most) = (number(bits), number(most) as usize);
    let wanted = |flag: &BodyFlag| bits & *flag as u64 != 0;
    let flags: Vec<BodyFlag> = [BodyFlag::OnDemand, BodyFlag::Partial].into_iter().filter(wanted).collect();
    match (number(mode), response) {
        (1, false) => c.buffer_request_body(most, &flags),
        (1, true) => c.buffer_response_body(most, &flags),
        (_, false) => c.stream_request_body(&flags),
        (_, true) => c.stream_response_body(&flags),
    }
}

fn describe(a: &OutboundResponse) -> String {
    let or = |s: Text| if s.is_empty() { "-".to_string() } else { s.to_string() };
    let body = a.body();
    let beginning = Text::new(&body[..body.len().min(20)]);
    format!("{} {} {} {}:{beginning}", a.status(), or(a.header("x-answer")), or(a.trailer("x-end")), body.len())
}

fn signed(s: Text) -> i64 {
    s.to_str().ok().and_then(|s| s.parse().ok()).unwrap_or(0)
}

fn ok<T>(result: Result<T, Failure>) -> Result<Vec<u8>, Failure> {
    result.map(|_| b"ok".to_vec())
}

fn error(f: Failure) -> String {
    let number = match f {
        Failure::Timeout => 1,
        Failure::Connect => 2,
        Failure::Denied => 3,
        Failure::TooLarge => 4,
        Failure::Invalid => 5,
        Failure::Failed => 6,
        Failure::Limit => 7,
        Failure::Mismatch(_) => 8,
        Failure::Full => 9,
        Failure::Absent => 10,
        Failure::Other(n) => n,
        _ => 0,
    };
    format!("error {number}")
}
