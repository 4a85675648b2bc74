//! The answer under way, in the arena that the gateway reads.

#![cfg_attr(not(target_arch = "wasm32"), allow(dead_code))] // what exports alone use

use crate::Decision;
use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;

/// The capacity of each arena at the start.
pub(crate) const ARENA: usize = 64 << 10;

const MAX_TEXT: usize = 4096;

/// Codes of answers.
pub(crate) const OK: u32 = 0;
pub(crate) const NO_MATCH: u32 = 1;
pub(crate) const ROUTE: u32 = 2;
pub(crate) const DENY: u32 = 3;
pub(crate) const OPERATIONS: u32 = 4;
pub(crate) const ERROR: u32 = 5;

/// Operations of a list.
pub(crate) mod op {
    pub const UPSTREAM: u16 = 0x01;
    pub const ADDRESS: u16 = 0x02;
    pub const TIMEOUT: u16 = 0x03;
    pub const HASH_KEY: u16 = 0x04;
    pub const METHOD: u16 = 0x10;
    pub const AUTHORITY: u16 = 0x11;
    pub const PATH: u16 = 0x12;
    pub const QUERY: u16 = 0x13;
    pub const SET_HEADER: u16 = 0x20;
    pub const APPEND_HEADER: u16 = 0x21;
    pub const REMOVE_HEADER: u16 = 0x22;
    pub const RESPOND: u16 = 0x30;
    pub const ATTRIBUTE: u16 = 0x40;
    pub const LOG: u16 = 0x41;
    pub const CONTEXT: u16 = 0x50;
    pub const REMATCH: u16 = 0x51;
    pub const SET_BODY: u16 = 0x60;
    pub const WANT_BODY: u16 = 0x61;
    pub const KEEP: u16 = 0x62;
}

pub(crate) const fn pack(code: u32, value: u32) -> u64 {
    (code as u64) << 32 | value as u64
}

/// What is written is in the arena as long as it fits, and else in `spill`, all of it.
pub(crate) struct Answer {
    arena: Box<[u8]>,
    len: usize,
    spill: Vec<u8>,
    spilled: bool,
}

impl Answer {
    pub fn with_capacity(n: usize) -> Self {
        Answer { arena: vec![0; n].into_boxed_slice(), len: 0, spill: Vec::new(), spilled: false }
    }

    pub fn begin(&mut self) {
        self.len = 0;
        self.spilled = false;
    }

    pub fn arena(&self) -> &[u8] {
        &self.arena
    }

    /// What was written.
    pub fn bytes(&self) -> &[u8] {
        if self.spilled {
            &self.spill
        } else {
            &self.arena[..self.len]
        }
    }

    /// The place that an answer that outgrew the arena is in becomes the arena.
    pub fn adopt(&mut self) -> &[u8] {
        if self.spilled {
            let mut grown = core::mem::take(&mut self.spill);
            self.len = grown.len();
            grown.resize(grown.capacity(), 0);
            self.arena = grown.into_boxed_slice();
            self.spilled = false;
        }
        &self.arena
    }

    /// Room for `n` more bytes.
    #[inline]
    fn room(&mut self, n: usize) -> &mut [u8] {
        let at = self.len;
        if !self.spilled && n <= self.arena.len() - at {
            self.len = at + n;
            return &mut self.arena[at..at + n];
        }
        self.more(n)
    }

    #[cold]
    fn more(&mut self, n: usize) -> &mut [u8] {
        if !self.spilled {
            self.spilled = true;
            self.spill.clear();
            self.spill.reserve(2 * self.arena.len() + n);
            self.spill.extend_from_slice(&self.arena[..self.len]);
        }
        let at = self.spill.len();
        self.spill.resize(at + n, 0);
        &mut self.spill[at..]
    }

    /// A record's body of `n` bytes.
    #[inline]
    fn record(&mut self, kind: u16, n: usize) -> Writer<'_> {
        let mut w = Writer(self.room(8 + n));
        w.number(u32::from(kind));
        w.number(n as u32);
        w
    }

    pub fn op(&mut self, kind: u16) {
        self.record(kind, 0);
    }

    pub fn op32(&mut self, kind: u16, v: u32) {
        self.record(kind, 4).number(v);
    }

    pub fn op64(&mut self, kind: u16, v: u64) {
        self.record(kind, 8).bytes(&v.to_le_bytes());
    }

    pub fn op_text(&mut self, kind: u16, s: &[u8]) {
        self.record(kind, 4 + s.len()).string(s);
    }

    pub fn op_pair(&mut self, kind: u16, a: &[u8], b: &[u8]) {
        let mut w = self.record(kind, 8 + a.len() + b.len());
        w.string(a);
        w.string(b);
    }

    pub fn op_log(&mut self, level: u32, s: &[u8]) {
        let mut w = self.record(op::LOG, 8 + s.len());
        w.number(level);
        w.string(s);
    }

    pub fn respond<N: AsRef<[u8]>, V: AsRef<[u8]>>(&mut self, status: u32, body: &[u8], fields: &[(N, V)]) {
        let n: usize = fields.iter().map(|(n, v)| 8 + n.as_ref().len() + v.as_ref().len()).sum();
        let mut w = self.record(op::RESPOND, 12 + body.len() + n);
        w.number(status);
        w.string(body);
        w.number(fields.len() as u32);
        for (name, value) in fields {
            w.string(name.as_ref());
            w.string(value.as_ref());
        }
    }

    /// Appends bytes as they are: a manifest.
    pub fn write(&mut self, b: &[u8]) {
        self.room(b.len()).copy_from_slice(b);
    }

    /// The answer that could not decide: its text is in the arena, whatever was written before.
    pub fn fail(&mut self, text: &[u8]) -> u64 {
        self.begin();
        let n = text.len().min(MAX_TEXT).min(self.arena.len());
        self.write(&text[..n]);
        pack(ERROR, n as u32)
    }

    /// The answer that has what was written.
    pub fn settle(&mut self, code: u32) -> u64 {
        if self.spilled && self.spill.len() <= self.arena.len() {
            self.len = self.spill.len();
            self.arena[..self.len].copy_from_slice(&self.spill);
            self.spilled = false;
        }
        pack(code, self.bytes().len() as u32)
    }

    /// Turns the handler's decision and the edits before it into the answer.
    pub fn finish(&mut self, d: Decision) -> u64 {
        let plain = self.len == 0 && !self.spilled;
        match d {
            Decision::Fail(e) => return self.fail(e.text().as_bytes()),
            Decision::NoMatch => return pack(NO_MATCH, 0),
            Decision::Continue if plain => return pack(OK, 0),
            Decision::RouteTo(u) if plain => return pack(ROUTE, u.id()),
            Decision::Deny(status) if plain => return pack(DENY, u32::from(status)),
            Decision::Continue | Decision::Respond(_) | Decision::Replace(_) => {}
            Decision::RouteTo(u) => self.op32(op::UPSTREAM, u.id()),
            Decision::Deny(status) => {
                let status = if status == 0 { 403 } else { status };
                self.respond::<&str, &str>(u32::from(status), b"", &[]);
            }
        }
        self.settle(OPERATIONS)
    }
}

/// Writes into room that was made.
struct Writer<'a>(&'a mut [u8]);

impl Writer<'_> {
    #[inline]
    fn bytes(&mut self, b: &[u8]) {
        let (head, rest) = core::mem::take(&mut self.0).split_at_mut(b.len());
        head.copy_from_slice(b);
        self.0 = rest;
    }

    #[inline]
    fn number(&mut self, v: u32) {
        self.bytes(&v.to_le_bytes());
    }

    #[inline]
    fn string(&mut self, s: &[u8]) {
        self.number(s.len() as u32);
        self.bytes(s);
    }
}
