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
use std::time::Duration;

pub(crate) mod host;
#[cfg(test)]
mod tests;

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
    /// What `lookup_tls` tells.
    pub tls: Vec<(Vec<u8>, Vec<u8>)>,
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
            tls: Vec::new(),
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
        host::begin([Vec::new(), Vec::new(), p.trailers.clone(), p.trailers.clone(), Vec::new()], None, 0);
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
        host::begin([Vec::new(), Vec::new(), Vec::new(), Vec::new(), Vec::new()], None, time);
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
        host::begin(
            [m.headers.clone(), m.response_headers.clone(), trailers.clone(), trailers, m.tls.clone()],
            m.body.clone(),
            m.time,
        );
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
