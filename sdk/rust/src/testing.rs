//! Calls a plugin's handlers without a gateway and without WebAssembly, through the same encoding, in `cargo test` on the
//! author's machine.
//!
//! ```
//! use wasmgate::testing::{Answer, Message, Tester};
//! # use wasmgate::*;
//! # struct First;
//! # impl Plugin for First {
//! #     fn configure(_: &mut Config) -> Result<Self, Error> { Ok(First) }
//! #     fn request(&mut self, r: &Request) -> Decision { Decision::Deny(403) }
//! # }
//! let mut plugin = Tester::<First>::new("")?; // the plugin's configuration
//! let answer = plugin.request(&Message { path: "/internal/x".into(), ..Message::default() });
//! assert_eq!((answer.decision.as_str(), answer.status), ("deny", 403));
//! # Ok::<(), Error>(())
//! ```

use crate::answer::{op, DENY, ERROR, NO_MATCH, OK, OPERATIONS, ROUTE};
use crate::guest::Guest;
use crate::view::View;
use crate::{Error, Failure, Plugin, Role};
use std::cell::RefCell;
use std::collections::HashMap;
use std::time::Duration;

/// What a handler is called with. Fields of messages are names and values.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct Message {
    pub role: Role,
    pub method: Vec<u8>,
    pub scheme: Vec<u8>,
    pub authority: Vec<u8>,
    pub path: Vec<u8>,
    pub query: Option<Vec<u8>>,
    pub client: Vec<u8>,
    pub sni: Option<Vec<u8>>,
    pub cert_subject: Option<Vec<u8>>,
    pub route: Option<Vec<u8>>,
    pub headers: Vec<(Vec<u8>, Vec<u8>)>,
    pub time: i64,
    pub seed: u64,
    pub sampled: bool,
    /// For the response handler.
    pub context: u64,
    pub status: u16,
    pub response_headers: Vec<(Vec<u8>, Vec<u8>)>,
    pub local: bool,
    /// The body that is buffered, of the message that the handler is for.
    pub body: Option<Vec<u8>>,
    pub trailers: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Default for Message {
    fn default() -> Self {
        Message {
            role: Role::Route,
            method: b"GET".to_vec(),
            scheme: b"http".to_vec(),
            authority: b"example.com".to_vec(),
            path: b"/".to_vec(),
            query: None,
            client: b"192.0.2.7".to_vec(),
            sni: None,
            cert_subject: None,
            route: None,
            headers: Vec::new(),
            time: 1_789_000_000_000,
            seed: 1,
            sampled: false,
            context: 0,
            status: 0,
            response_headers: Vec::new(),
            local: false,
            body: None,
            trailers: Vec::new(),
        }
    }
}

impl Message {
    /// A GET request for the path.
    pub fn get(path: &str) -> Self {
        Message { path: path.into(), ..Message::default() }
    }

    /// The message with one more request header.
    pub fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.headers.push((name.into(), value.as_ref().into()));
        self
    }

    /// The message with one more response header.
    pub fn response_header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.response_headers.push((name.into(), value.as_ref().into()));
        self
    }
}

/// What a handler said, and what the gateway would do. Bytes that are not UTF-8 are shown as U+FFFD.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Answer {
    /// continue, no_match, route, deny, respond or error.
    pub decision: String,
    /// By route: the upstream's name.
    pub upstream: String,
    /// By deny and respond.
    pub status: u16,
    /// By error and respond.
    pub text: String,
    /// Such as "set_header x-tenant-id: acme", in order.
    pub edits: Vec<String>,
    /// Such as "2 text".
    pub logged: Vec<String>,
}

/// A piece of a body.
#[derive(Clone, Debug, Default)]
#[allow(missing_docs)]
pub struct BodyPiece {
    pub data: Vec<u8>,
    pub last: bool,
    pub before: u64,
    pub word: u64,
    pub trailers: Vec<(Vec<u8>, Vec<u8>)>,
}

/// A request of the plugin's own.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[allow(missing_docs)]
pub struct Outbound {
    pub service: String,
    pub method: String,
    pub authority: String,
    pub path: String,
    pub query: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub timeout: Option<Duration>,
}

/// The answer to an [`Outbound`].
#[derive(Clone, Debug, Default)]
#[allow(missing_docs)]
pub struct OutboundAnswer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub trailers: Vec<(String, String)>,
    pub took: Duration,
}

/// A configured plugin. Its stores and metrics are the tester's own; the stores' clock is the time of the messages.
pub struct Tester<P>(Guest<P>);

impl<P: Plugin> Tester<P> {
    /// Configures the plugin. The error is what the plugin says about the configuration.
    pub fn new(config: &str) -> Result<Self, Error> {
        let mut view = Vec::new();
        for n in [32u32, 0, 0, 1 << 20, 32, 4, 36, config.len() as u32] {
            view.extend_from_slice(&n.to_le_bytes());
        }
        view.extend_from_slice(b"test");
        view.extend_from_slice(config.as_bytes());
        let mut guest = Guest::new();
        let n = guest.load(&view);
        if (guest.configure(n) >> 32) as u32 == ERROR {
            return Err(string(guest.out.get_mut().bytes()).into());
        }
        let names = |list: &[Vec<u8>]| list.iter().map(|n| string(n)).collect();
        host::reset(names(&guest.manifest.services), guest.manifest.metrics.len());
        Ok(Tester(guest))
    }

    /// Has a function answer the plugin's own requests. Without one there is no connection.
    pub fn on_call(&mut self, answer: impl FnMut(&Outbound) -> Result<OutboundAnswer, Failure> + 'static) {
        host::on_call(Box::new(answer));
    }

    /// What the plugin measured with a metric, in order.
    pub fn measured(&self, metric: &str) -> Vec<f64> {
        let place = self.0.manifest.metrics.iter().position(|m| m.name == metric.as_bytes());
        place.map_or_else(Vec::new, host::measured)
    }

    /// Gives the plugin a piece of a request's body. What it said is `Answer::edits`; the new bytes are `Answer::text`.
    pub fn request_body(&mut self, p: &BodyPiece) -> Answer {
        self.piece(0, p)
    }

    /// Gives the plugin a piece of an answer's body.
    pub fn response_body(&mut self, p: &BodyPiece) -> Answer {
        self.piece(1, p)
    }

    fn piece(&mut self, message: u32, p: &BodyPiece) -> Answer {
        let mut v = Vec::new();
        for n in [
            48,
            message,
            p.last.into(),
            0,
            0,
            0,
            p.word as u32,
            (p.word >> 32) as u32,
            p.before as u32,
            (p.before >> 32) as u32,
            48,
            p.data.len() as u32,
        ] {
            v.extend_from_slice(&n.to_le_bytes());
        }
        v.extend_from_slice(&p.data);
        let n = self.0.load(&v);
        host::begin([Vec::new(), Vec::new(), p.trailers.clone(), p.trailers.clone()], None, 0);
        let packed = self.0.body(n);
        self.decode(packed)
    }

    /// Calls the plugin without a request, at a time in Unix milliseconds.
    pub fn tick(&mut self, time: i64) -> Answer {
        let mut v = Vec::new();
        for n in [24, time as u64, 1u64] {
            v.extend_from_slice(&n.to_le_bytes());
        }
        let n = self.0.load(&v);
        host::begin([Vec::new(), Vec::new(), Vec::new(), Vec::new()], None, time);
        let packed = self.0.tick(n);
        self.decode(packed)
    }

    /// Calls the request handler.
    pub fn request(&mut self, m: &Message) -> Answer {
        self.call(m, false)
    }

    /// Calls the response handler.
    pub fn response(&mut self, m: &Message) -> Answer {
        self.call(m, true)
    }

    fn call(&mut self, m: &Message, response: bool) -> Answer {
        let n = self.0.load(&self.encode(m, response));
        let trailers = m.trailers.clone();
        host::begin([m.headers.clone(), m.response_headers.clone(), trailers.clone(), trailers], m.body.clone(), m.time);
        let packed = if response { self.0.response(n) } else { self.0.request(n) };
        self.decode(packed)
    }

    fn decode(&self, packed: u64) -> Answer {
        let mut a = Answer { logged: host::end(), ..Answer::default() };
        let (code, value) = ((packed >> 32) as u32, packed as u32);
        let decision = match code {
            OK => "continue",
            NO_MATCH => "no_match",
            ROUTE => {
                a.upstream = self.upstream(value);
                "route"
            }
            DENY => {
                a.status = if value == 0 { 403 } else { value as u16 };
                "deny"
            }
            ERROR => {
                a.text = string(self.0.out.borrow().bytes());
                "error"
            }
            OPERATIONS => {
                self.operations(&mut a);
                return a;
            }
            _ => "bad answer",
        };
        a.decision = decision.into();
        a
    }

    fn upstream(&self, id: u32) -> String {
        match self.0.manifest.upstreams.get(id as usize) {
            Some(name) => string(name),
            None => format!("undeclared upstream {}", id),
        }
    }

    fn encode(&self, m: &Message, response: bool) -> Vec<u8> {
        let names = &self.0.manifest;
        let mut slots: Vec<Vec<&[u8]>> = names.request_headers.iter().map(|n| values(&m.headers, n)).collect();
        if response {
            slots.extend(names.response_headers.iter().map(|n| values(&m.response_headers, n)));
        }
        let mut v = vec![0; 120 + 8 * slots.len()];
        let flags =
            u32::from(m.query.is_some()) | u32::from(m.sampled) << 1 | u32::from(m.local) << 2 | u32::from(m.body.is_some()) << 3;
        for (at, n) in
            [(0, 120), (4, m.role as u32), (8, response.into()), (12, flags), (40, m.status.into()), (44, slots.len() as u32)]
        {
            put(&mut v, at, n);
        }
        for (at, n) in [(16, m.time as u64), (24, m.seed), (32, m.context)] {
            put(&mut v, at, n as u32);
            put(&mut v, at + 4, (n >> 32) as u32);
        }
        let fields = [
            Some(&m.method),
            Some(&m.scheme),
            Some(&m.authority),
            Some(&m.path),
            m.query.as_ref(),
            Some(&m.client),
            m.sni.as_ref(),
            m.cert_subject.as_ref(),
            m.route.as_ref(),
        ];
        for (i, s) in fields.iter().enumerate() {
            put_text(&mut v, 48 + 8 * i, s.map(|s| s.as_slice()));
        }
        for (i, list) in slots.iter().enumerate() {
            let at = 120 + 8 * i;
            if list.len() < 2 {
                put_text(&mut v, at, list.first().copied());
                continue;
            }
            v.resize((v.len() + 3) & !3, 0);
            let start = v.len();
            put(&mut v, at, start as u32);
            put(&mut v, at + 4, 1 << 31 | list.len() as u32);
            v.resize(start + 8 * list.len(), 0);
            for (k, s) in list.iter().enumerate() {
                put_text(&mut v, start + 8 * k, Some(s));
            }
        }
        v
    }

    fn operations(&self, a: &mut Answer) {
        a.decision = "continue".into();
        let out = self.0.out.borrow();
        let list = View(out.bytes());
        let mut at = 0;
        while at < list.0.len() {
            let (kind, end) = (list.u32(at) as u16, at + 8 + list.u32(at + 4) as usize);
            let body = View(&list.0[at + 8..end]);
            self.operation(a, kind, body);
            at = end;
        }
    }

    fn operation(&self, a: &mut Answer, kind: u16, body: View<'_>) {
        let one = |name: &str| format!("{} {}", name, next(body, &mut 0));
        let pair = |name: &str| {
            let at = &mut 0;
            format!("{} {}: {}", name, next(body, at), next(body, at))
        };
        let edit = match kind {
            op::UPSTREAM => {
                a.decision = "route".into();
                a.upstream = self.upstream(body.u32(0));
                return;
            }
            op::RESPOND => {
                let at = &mut 4;
                a.decision = "respond".into();
                a.status = body.u32(0) as u16;
                a.text = next(body, at);
                let n = body.u32(*at);
                *at += 4;
                for _ in 0..n {
                    a.edits.push(format!("respond_header {}: {}", next(body, at), next(body, at)));
                }
                return;
            }
            op::LOG => {
                a.logged.push(format!("{} {}", body.u32(0), next(body, &mut 4)));
                return;
            }
            op::ADDRESS => one("address"),
            op::TIMEOUT => format!("timeout {}", body.u32(0)),
            op::HASH_KEY => format!("hash_key {}", body.u64(0)),
            op::METHOD => one("method"),
            op::AUTHORITY => one("authority"),
            op::PATH => one("path"),
            op::QUERY => one("query"),
            op::SET_HEADER => pair("set_header"),
            op::APPEND_HEADER => pair("append_header"),
            op::REMOVE_HEADER => one("remove_header"),
            op::ATTRIBUTE => pair("attribute"),
            op::CONTEXT => format!("context {}", body.u64(0)),
            op::REMATCH => "rematch".into(),
            op::WANT_BODY => "want_body".into(),
            op::KEEP => format!("keep {}", body.u32(0)),
            op::SET_BODY => {
                a.text = next(body, &mut 0);
                "set_body".into()
            }
            _ => format!("operation {}", kind),
        };
        a.edits.push(edit);
    }
}

/// The string at `at`, which goes on behind it.
fn next(body: View<'_>, at: &mut usize) -> String {
    let start = *at + 4;
    *at = start + body.u32(*at) as usize;
    string(&body.0[start..*at])
}

fn string(b: &[u8]) -> String {
    String::from_utf8_lossy(b).into_owned()
}

fn put(v: &mut [u8], at: usize, n: u32) {
    v[at..at + 4].copy_from_slice(&n.to_le_bytes());
}

fn put_text(v: &mut Vec<u8>, at: usize, s: Option<&[u8]>) {
    let offset = if s.is_some() { v.len() as u32 } else { u32::MAX };
    put(v, at, offset);
    put(v, at + 4, s.map_or(0, |s| s.len() as u32));
    v.extend_from_slice(s.unwrap_or_default());
}

fn values<'m>(fields: &'m [(Vec<u8>, Vec<u8>)], name: &[u8]) -> Vec<&'m [u8]> {
    fields.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_slice()).collect()
}

type Fields = Vec<(Vec<u8>, Vec<u8>)>;
type OnCall = Box<dyn FnMut(&Outbound) -> Result<OutboundAnswer, Failure>>;

/// The gateway's part of a call. Each thread has one tester at a time.
pub(crate) mod host {
    use super::*;

    /// What is kept for a key.
    struct Value {
        bytes: Vec<u8>,
        version: u32,
        end: i64, // in milliseconds; 0: never
    }

    #[derive(Default)]
    struct Gateway {
        messages: [Fields; 4],
        body: Option<Vec<u8>>,
        time: i64,
        logged: Vec<String>,
        services: Vec<String>,
        on_call: Option<OnCall>,
        answer: Vec<u8>,
        values: HashMap<(u32, Vec<u8>), Value>,
        version: u32,
        measured: Vec<Vec<f64>>,
    }

    thread_local!(static GATEWAY: RefCell<Gateway> = RefCell::default());

    fn with<R>(f: impl FnOnce(&mut Gateway) -> R) -> R {
        GATEWAY.with(|g| f(&mut g.borrow_mut()))
    }

    pub fn reset(services: Vec<String>, metrics: usize) {
        with(|g| *g = Gateway { services, measured: vec![Vec::new(); metrics], ..Gateway::default() });
    }

    pub fn on_call(f: OnCall) {
        with(|g| g.on_call = Some(f));
    }

    pub fn measured(metric: usize) -> Vec<f64> {
        with(|g| g.measured[metric].clone())
    }

    pub fn begin(messages: [Fields; 4], body: Option<Vec<u8>>, time: i64) {
        with(|g| {
            g.messages = messages;
            g.body = body;
            g.time = time;
            g.logged.clear();
        });
    }

    pub fn end() -> Vec<String> {
        with(|g| std::mem::take(&mut g.logged))
    }

    /// Copies what fits, and returns the length.
    fn give(from: &[u8], to: &mut [u8]) -> usize {
        if from.len() <= to.len() {
            to[..from.len()].copy_from_slice(from);
        }
        from.len()
    }

    pub fn log(level: u32, text: &[u8]) {
        with(|g| g.logged.push(format!("{} {}", level, string(text))));
    }

    pub fn get_header(message: u32, name: &[u8], k: usize, to: &mut [u8]) -> i32 {
        with(|g| values(&g.messages[message as usize], name).get(k).map_or(-1, |v| give(v, to) as i32))
    }

    pub fn read_body(_: u32, offset: usize, to: &mut [u8]) -> i32 {
        with(|g| match g.body.as_ref().and_then(|b| b.get(offset..)) {
            Some(rest) => {
                let n = rest.len().min(to.len());
                to[..n].copy_from_slice(&rest[..n]);
                rest.len() as i32
            }
            None => -1,
        })
    }

    pub fn metric(id: u32, value: f64) {
        with(|g| g.measured[id as usize].push(value));
    }

    pub fn call(service: u32, request: &[u8], to: &mut [u8]) -> u64 {
        let (name, answer) = with(|g| (g.services[service as usize].clone(), g.on_call.take()));
        let mut answer = match answer {
            Some(f) => f,
            None => return 2 << 32,
        };
        let result = answer(&outbound(name, View(request)));
        with(|g| {
            g.on_call = Some(answer);
            match result {
                Ok(a) => {
                    g.answer = encode_answer(&a);
                    give(&g.answer, to) as u64
                }
                Err(e) => u64::from(e.code().0) << 32,
            }
        })
    }

    pub fn call_answer(to: &mut [u8]) -> i32 {
        with(|g| give(&g.answer, to) as i32)
    }

    fn outbound(service: String, list: View<'_>) -> Outbound {
        let mut o = Outbound { service, method: "GET".into(), path: "/".into(), ..Outbound::default() };
        let mut at = 0;
        while at < list.0.len() {
            let end = at + 8 + list.u32(at + 4) as usize;
            let body = View(&list.0[at + 8..end]);
            let place = &mut 0;
            match list.u32(at) as u16 {
                op::METHOD => o.method = next(body, place),
                op::AUTHORITY => o.authority = next(body, place),
                op::PATH => o.path = next(body, place),
                op::QUERY => o.query = next(body, place),
                op::SET_BODY => o.body = body.0[4..].to_vec(),
                op::TIMEOUT => o.timeout = Some(Duration::from_millis(body.u32(0).into())),
                _ => o.headers.push((next(body, place), next(body, place))),
            }
            at = end;
        }
        o
    }

    fn encode_answer(a: &OutboundAnswer) -> Vec<u8> {
        let fields: Vec<_> = a.headers.iter().chain(&a.trailers).collect();
        let mut v = vec![0; 32 + 16 * fields.len()];
        for (at, n) in
            [(0, 32), (4, a.status.into()), (8, a.headers.len()), (12, a.trailers.len()), (24, a.took.as_millis() as usize)]
        {
            put(&mut v, at, n as u32);
        }
        put_text(&mut v, 16, Some(&a.body));
        for (i, (name, value)) in fields.into_iter().enumerate() {
            put_text(&mut v, 32 + 16 * i, Some(name.to_ascii_lowercase().as_bytes()));
            put_text(&mut v, 40 + 16 * i, Some(value.as_bytes()));
        }
        v
    }

    impl Gateway {
        /// A value that is there and has not expired.
        fn value(&mut self, store: u32, key: &[u8]) -> Option<&mut Value> {
            let now = self.time;
            self.values.get_mut(&(store, key.to_vec())).filter(|v| v.end == 0 || v.end > now)
        }

        fn put(&mut self, store: u32, key: &[u8], bytes: Vec<u8>, end: i64) -> u32 {
            self.version += 1;
            self.values.insert((store, key.to_vec()), Value { bytes, version: self.version, end });
            self.version
        }

        fn end(&self, ttl: u64) -> i64 {
            if ttl == 0 {
                0
            } else {
                self.time.saturating_add(i64::try_from(ttl).unwrap_or(i64::MAX))
            }
        }
    }

    pub fn kv_get(store: u32, key: &[u8], to: &mut [u8]) -> u64 {
        with(|g| g.value(store, key).map_or(0, |v| u64::from(v.version) << 32 | give(&v.bytes, to) as u64))
    }

    pub fn kv_set(store: u32, key: &[u8], value: &[u8], version: u32, ttl: u64) -> u64 {
        with(|g| {
            let there = g.value(store, key).map_or(0, |v| v.version);
            if version != 0 && version != if there == 0 { u32::MAX } else { there } {
                return 8 << 32 | u64::from(there);
            }
            let end = g.end(ttl);
            g.put(store, key, value.to_vec(), end).into()
        })
    }

    pub fn kv_delete(store: u32, key: &[u8], version: u32) -> u64 {
        with(|g| match g.value(store, key).map(|v| v.version) {
            None => 10 << 32,
            Some(there) if version != 0 && version != there => 8 << 32 | u64::from(there),
            Some(_) => {
                g.values.remove(&(store, key.to_vec()));
                0
            }
        })
    }

    pub fn kv_add(store: u32, key: &[u8], delta: i64, ttl: u64, sum: &mut i64) -> u32 {
        with(|g| {
            let (was, end) = match g.value(store, key) {
                Some(v) => match <[u8; 8]>::try_from(v.bytes.as_slice()) {
                    Ok(b) => (i64::from_le_bytes(b), v.end),
                    Err(_) => return 8,
                },
                None => (0, g.end(ttl)),
            };
            *sum = was.wrapping_add(delta);
            g.put(store, key, sum.to_le_bytes().to_vec(), end);
            0
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::*;

    struct All {
        header: Header,
        service: Service,
        store: Store,
        asked: Counter,
    }

    impl Plugin for All {
        const RESPONSES: Responses = Responses::Marked;

        fn configure(c: &mut Config) -> Result<Self, Error> {
            c.buffer_request_body(1000, &[BodyFlag::OnDemand]);
            c.stream_response_body(&[]);
            c.tick(Duration::from_secs(1));
            Ok(All {
                header: c.request_header("X-A"),
                service: c.service("auth"),
                store: c.store("cache"),
                asked: c.counter("asked", ""),
            })
        }

        fn request(&mut self, r: &Request) -> Decision {
            self.asked.add(1.0);
            if let Some(body) = r.body() {
                r.set_body([&body, r.lookup_trailer("sum", 0).unwrap_or_default().as_slice()].concat());
                return Decision::Continue;
            }
            if r.method() == "POST" {
                r.want_body();
                return Decision::Continue;
            }
            let key = r.header(self.header);
            if let Some((value, version)) = self.store.get(key) {
                let _ = self.store.compare_and_set(key, [&value, &b"+"[..]].concat(), version, Duration::ZERO);
                return r.respond(200, value, &[]);
            }
            let request = OutboundRequest::post("/check", key).query("q").header("a", "b").timeout(Duration::from_millis(250));
            match r.call(self.service, &request) {
                Ok(a) => {
                    let _ = self.store.set(key, a.header("x-user"), Duration::from_secs(1));
                    Decision::fail(format!("{} {} {:?}", a.status(), a.body().len(), a.took()))
                }
                Err(e) => Decision::fail(e.to_string()),
            }
        }

        fn response_body(&mut self, p: &Piece) -> Decision {
            p.set_word(p.word() + p.data().len() as u64);
            if p.last() {
                return p.replace("end");
            }
            p.keep(1);
            Decision::Continue
        }

        fn tick(&mut self, _: &Tick) -> Result<(), Error> {
            match self.store.add("n", 2, Duration::ZERO) {
                Ok(4) => Err("four".into()),
                Ok(_) => Ok(()),
                Err(e) => Err(e.to_string().into()),
            }
        }
    }

    #[test]
    fn calls_and_state() {
        let mut p = Tester::<All>::new("").unwrap();
        let m = Message::get("/").header("x-a", "key");
        assert_eq!(p.request(&m).text, "no connection to the upstream");
        p.on_call(|o| {
            assert_eq!(
                (o.service.as_str(), o.method.as_str(), o.path.as_str(), o.query.as_str()),
                ("auth", "POST", "/check", "q")
            );
            assert_eq!((o.body.as_slice(), o.timeout), (&b"key"[..], Some(Duration::from_millis(250))));
            let headers = vec![("X-User".into(), "7".into())];
            Ok(OutboundAnswer { status: 200, headers, body: vec![b'x'; 5000], ..OutboundAnswer::default() })
        });
        assert_eq!(p.request(&m).text, "200 5000 0ns");
        assert_eq!(p.request(&m).text, "7");
        assert_eq!(p.request(&m).text, "7+");
        let later = Message { time: m.time + 1000, ..m.clone() };
        p.on_call(|_| Err(Failure::Timeout));
        assert_eq!(p.request(&later).text, "7++"); // what was set last does not expire
        assert_eq!(p.request(&later.header("x-a", "other")).text, "7+++");
        assert_eq!(p.measured("asked"), [1.0; 6]);
        assert_eq!(p.tick(0).decision, "continue");
        assert_eq!(p.tick(0).text, "four");
    }

    #[test]
    fn bodies() {
        let mut p = Tester::<All>::new("").unwrap();
        let mut m = Message { method: "POST".into(), ..Message::default() };
        assert_eq!(p.request(&m).edits, ["want_body"]);
        m.body = Some(b"12".to_vec());
        m.trailers = vec![(b"Sum".to_vec(), b"3".to_vec())];
        let a = p.request(&m);
        assert_eq!((a.text.as_str(), a.edits), ("123", vec!["set_body".to_string()]));
        let a = p.response_body(&BodyPiece { data: b"abc".to_vec(), word: 4, ..BodyPiece::default() });
        assert_eq!(a.edits, ["context 7", "keep 1"]);
        let a = p.response_body(&BodyPiece { last: true, ..BodyPiece::default() });
        assert_eq!(a.text, "end");
    }
}
