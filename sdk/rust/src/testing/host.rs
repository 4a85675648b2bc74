//! The gateway's part of a call: logs, stores, metrics, and answers to the plugin's own requests, all in memory. Each thread
//! has one tester at a time.

use super::{next, put, put_text, string, values, Fields, OnCall, Outbound, OutboundAnswer};
use crate::answer::op;
use crate::view::View;
use std::cell::RefCell;
use std::collections::HashMap;
use std::time::Duration;

/// What is kept for a key.
struct Value {
    bytes: Vec<u8>,
    version: u32,
    end: i64, // in milliseconds; 0: never
}

#[derive(Default)]
struct Gateway {
    messages: [Fields; 5],
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

pub fn begin(messages: [Fields; 5], body: Option<Vec<u8>>, time: i64) {
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
