//! The conformance plugin of the Rust SDK: it does what the commands in x-cmd say, as sdk/conformance/README.md lists
//! them.

use std::time::Duration;
use wasmgate::{
    Config, Decision, Error, Exchange, Header, Level, Piece, Plugin, Request, Response, Responses, Service, Store, Text, Tick,
    Upstream,
};

mod more;

struct Conformance {
    command: Header,
    answer_command: Header,
    headers: Vec<Header>, // those that the configuration declares, in its order
    services: Vec<Service>,
    stores: Vec<Store>,
    metrics: Vec<Box<dyn Fn(f64)>>,
    pieces: String, // what pieces become
}

wasmgate::plugin!(Conformance);

impl Plugin for Conformance {
    const RESPONSES: Responses = Responses::All;

    fn configure(c: &mut Config) -> Result<Self, Error> {
        let mut p = Conformance {
            command: c.request_header("x-cmd"),
            answer_command: c.response_header("x-cmd"),
            headers: Vec::new(),
            services: Vec::new(),
            stores: Vec::new(),
            metrics: Vec::new(),
            pieces: "pass".into(),
        };
        for line in c.raw().as_bytes().split(|&b| b == b'\n').filter(|line| !line.is_empty()) {
            let (word, arg) = cut(Text::new(line));
            match word.as_bytes() {
                b"request-header" => p.headers.push(c.request_header(arg)),
                b"response-header" => p.headers.push(c.response_header(arg)),
                b"upstream" => {
                    c.upstream(arg);
                }
                b"fail" => return Err("as the configuration says".into()),
                _ if p.configure_more(c, word, arg) => {}
                _ => return Err("unknown line".into()),
            }
        }
        Ok(p)
    }

    fn request(&mut self, r: &Request) -> Decision {
        let mut d = Decision::Continue;
        for (word, arg) in r.header_values(self.command).map(cut) {
            if edit(r, None, word, arg) || edit_request(r, word, arg) || self.more(r, word, arg) {
                continue;
            }
            d = if word == "echo" { r.respond(200, echo(r, None, &self.headers), &[]) } else { decide(r, word, arg) };
        }
        d
    }

    fn response(&mut self, r: &Response) -> Decision {
        let mut d = Decision::Continue;
        for (word, arg) in r.header_values(self.answer_command).map(cut) {
            if edit(r, Some(r), word, arg) || self.more(r, word, arg) {
                continue;
            }
            d = if word == "echo" { r.respond(200, echo(r, Some(r), &self.headers), &[]) } else { decide(r, word, arg) };
        }
        d
    }

    fn request_body(&mut self, p: &Piece) -> Decision {
        self.piece(p)
    }

    fn response_body(&mut self, p: &Piece) -> Decision {
        self.piece(p)
    }

    fn tick(&mut self, t: &Tick) -> Result<(), Error> {
        self.ticked(t);
        Ok(())
    }
}

/// Takes the first word off a text.
fn cut(s: Text) -> (Text, Text) {
    s.split_once(b' ').unwrap_or((s, Text::default()))
}

fn number(s: Text) -> u64 {
    s.to_number().unwrap_or(0)
}

fn level(s: Text) -> Level {
    match number(s) {
        0 => Level::Debug,
        1 => Level::Info,
        2 => Level::Warn,
        _ => Level::Error,
    }
}

fn decide(x: &Exchange, word: Text, arg: Text) -> Decision {
    match word.as_bytes() {
        b"continue" => Decision::Continue,
        b"no-match" => Decision::NoMatch,
        b"route" => Decision::RouteTo(Upstream::from_id(number(arg) as u32)),
        b"deny" => Decision::Deny(number(arg) as u16),
        b"respond" => {
            let (status, body) = cut(arg);
            x.respond(number(status) as u16, body, &[("x-conformance", "yes"), ("x-empty", "")])
        }
        b"body" => x.respond(200, "y".repeat(number(arg) as usize), &[]),
        b"trap" => panic!("as the command says"),
        b"fail" => Decision::fail(arg.to_string()),
        _ => Decision::fail("unknown command"),
    }
}

/// Does a command that both messages take; false if it is none.
fn edit(x: &Exchange, response: Option<&Response>, word: Text, arg: Text) -> bool {
    let (first, rest) = cut(arg);
    match word.as_bytes() {
        b"set" => x.set_header(first, rest),
        b"append" => x.append_header(first, rest),
        b"remove" => x.remove_header(arg),
        b"attribute" => x.attribute(first, rest),
        b"log" => x.log(level(first), rest),
        b"log-now" => wasmgate::log(level(first), rest),
        b"fill" => x.set_header("x-fill", "x".repeat(number(arg) as usize)),
        b"lookup" => x.append_header("x-lookup", lookup(x, response, arg)),
        _ => return false,
    }
    true
}

fn edit_request(r: &Request, word: Text, arg: Text) -> bool {
    match word.as_bytes() {
        b"method" => r.set_method(arg),
        b"authority" => r.set_authority(arg),
        b"path" => r.set_path(arg),
        b"query" => r.set_query(arg),
        b"address" => r.set_address(arg),
        b"timeout" => r.set_timeout(Duration::from_millis(number(arg))),
        b"hash" => r.set_hash_key(number(arg)),
        b"context" => r.set_context(number(arg)),
        b"rematch" => r.rematch(),
        _ => return false,
    }
    true
}

fn lookup(x: &Exchange, response: Option<&Response>, args: Text) -> Vec<u8> {
    let (message, args) = cut(args);
    let (k, name) = cut(args);
    let value = match (number(message), response) {
        (0, _) => x.lookup_request(name, number(k) as usize),
        (1, Some(r)) => r.lookup_response(name, number(k) as usize),
        (4, _) => x.lookup_tls(name, number(k) as usize),
        (2 | 3, _) => x.lookup_trailer(name, number(k) as usize),
        _ => None,
    };
    match value {
        Some(v) => [v.len().to_string().as_bytes(), b":", &v].concat(),
        None => b"none".to_vec(),
    }
}

/// Tells everything of an exchange. A string comes with its length, so that it may hold anything.
fn echo(x: &Exchange, response: Option<&Response>, headers: &[Header]) -> Vec<u8> {
    let (status, local) = response.map_or((0, false), |r| (r.status(), r.local()));
    let mut b = Vec::new();
    for (name, n) in [
        ("role", x.role() as u64),
        ("response", response.is_some().into()),
        ("sampled", x.sampled().into()),
        ("local", local.into()),
        ("time", x.time() as u64),
        ("seed", x.seed()),
        ("context", x.context()),
        ("status", status.into()),
        ("has_query", x.has_query().into()),
    ] {
        b.extend_from_slice(format!("{name}={n}\n").as_bytes());
    }
    for (name, s) in [
        ("method", x.method()),
        ("scheme", x.scheme()),
        ("authority", x.authority()),
        ("host", x.host()),
        ("path", x.path()),
        ("query", x.query()),
        ("client", x.client()),
        ("sni", x.sni()),
        ("certificate", x.cert_subject()),
        ("route", x.route()),
    ] {
        item(&mut b, name, s);
    }
    for &h in headers {
        b.extend_from_slice(format!("header={}\n", x.header_count(h)).as_bytes());
        x.header_values(h).for_each(|v| item(&mut b, "value", v));
    }
    b
}

fn item(b: &mut Vec<u8>, name: &str, s: Text) {
    b.extend_from_slice(format!("{name}={}:", s.len()).as_bytes());
    b.extend_from_slice(&s);
    b.push(b'\n');
}
