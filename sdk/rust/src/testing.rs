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
use crate::{Error, Plugin, Role};
use std::cell::RefCell;

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

/// A configured plugin.
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
        Ok(Tester(guest))
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
        host::begin(m);
        let packed = if response { self.0.response(n) } else { self.0.request(n) };
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
        let flags = u32::from(m.query.is_some()) | u32::from(m.sampled) << 1 | u32::from(m.local) << 2;
        for (at, n) in [(0, 120), (4, m.role as u32), (8, response.into()), (12, flags), (40, m.status.into()), (44, slots.len() as u32)] {
            put(&mut v, at, n);
        }
        for (at, n) in [(16, m.time as u64), (24, m.seed), (32, m.context)] {
            put(&mut v, at, n as u32);
            put(&mut v, at + 4, (n >> 32) as u32);
        }
        let fields = [Some(&m.method), Some(&m.scheme), Some(&m.authority), Some(&m.path), m.query.as_ref(), Some(&m.client), m.sni.as_ref(), m.cert_subject.as_ref(), m.route.as_ref()];
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

/// The gateway's part of a call.
pub(crate) mod host {
    use super::*;

    #[derive(Default)]
    struct Call {
        headers: [Vec<(Vec<u8>, Vec<u8>)>; 2],
        logged: Vec<String>,
    }

    thread_local!(static CALL: RefCell<Call> = RefCell::default());

    pub fn begin(m: &Message) {
        CALL.with(|c| *c.borrow_mut() = Call { headers: [m.headers.clone(), m.response_headers.clone()], logged: Vec::new() });
    }

    pub fn end() -> Vec<String> {
        CALL.with(|c| std::mem::take(&mut *c.borrow_mut()).logged)
    }

    pub fn log(level: u32, text: &[u8]) {
        CALL.with(|c| c.borrow_mut().logged.push(format!("{} {}", level, string(text))));
    }

    pub fn get_header(message: u32, name: &[u8], k: usize) -> Option<Vec<u8>> {
        CALL.with(|c| values(&c.borrow().headers[message as usize], name).get(k).map(|v| v.to_vec()))
    }
}
