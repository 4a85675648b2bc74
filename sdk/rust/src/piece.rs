//! Bodies on their way, and calls without a request.

use crate::answer::{op, Answer};
use crate::decision::Written;
use crate::view::View;
use crate::{host, Decision, Failure, Level, OutboundRequest, OutboundResponse, Service};
use alloc::vec::Vec;
use core::cell::RefCell;

/// A piece of a body on its way: see `Config::stream_request_body`.
pub struct Piece<'a> {
    view: View<'a>,
    out: &'a RefCell<Answer>,
}

impl<'a> Piece<'a> {
    pub(crate) fn new(view: &'a [u8], out: &'a RefCell<Answer>) -> Self {
        Piece { view: View(view), out }
    }

    /// The bytes. There are none only if it is the last piece.
    pub fn data(&self) -> &'a [u8] {
        self.view.pair(40).unwrap_or_default().as_bytes()
    }

    /// Whether the body ends with this piece.
    pub fn last(&self) -> bool {
        self.view.u32(8) & 1 != 0
    }

    /// Whether it is of an answer and not of a request.
    pub fn is_response(&self) -> bool {
        self.view.u32(4) == 1
    }

    /// How many bytes of the body were before this piece.
    pub fn before(&self) -> u64 {
        self.view.u64(32)
    }

    /// The time of the gateway's clock in Unix milliseconds, some milliseconds coarse.
    pub fn time(&self) -> i64 {
        self.view.u64(16) as i64
    }

    /// What [`Piece::set_word`] left with the last piece of the message; with the first it is the word that the handler left
    /// with `set_context`. Pieces of a message may come to different instances, so this is where their state is.
    pub fn word(&self) -> u64 {
        self.view.u64(24)
    }

    /// Leaves a word for the next piece.
    pub fn set_word(&self, word: u64) {
        self.out.borrow_mut().op64(op::CONTEXT, word);
    }

    /// Has the last `n` bytes of the piece come again, in front of the next one: at most 64 KiB, and nothing of the last
    /// piece. [`Decision::Continue`] then passes on what is before them, and [`Piece::replace`] replaces that.
    pub fn keep(&self, n: usize) {
        self.out.borrow_mut().op32(op::KEEP, n as u32);
    }

    /// Sends other bytes instead of the piece. The decision is to be returned.
    pub fn replace(&self, data: impl AsRef<[u8]>) -> Decision {
        self.out.borrow_mut().op_text(op::SET_BODY, data.as_ref());
        Decision::Replace(Written(()))
    }

    /// Sets an attribute of the request's span.
    pub fn attribute(&self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) {
        self.out.borrow_mut().op_pair(op::ATTRIBUTE, key.as_ref(), value.as_ref());
    }

    /// Writes a line to the gateway's log together with the decision.
    pub fn log(&self, level: Level, text: impl AsRef<[u8]>) {
        self.out.borrow_mut().op_log(level as u32, text.as_ref());
    }

    /// Asks the gateway for value `k` of a field of the message's trailers, which are there with the last piece.
    pub fn lookup_trailer(&self, name: impl AsRef<[u8]>, k: usize) -> Option<Vec<u8>> {
        host::get_header(2 + u32::from(self.is_response()), name.as_ref(), k)
    }

    /// See `Exchange::call`.
    pub fn call(&self, service: Service, request: &OutboundRequest) -> Result<OutboundResponse, Failure> {
        request.send(service)
    }
}

/// A call without a request: see `Config::tick`.
pub struct Tick<'a> {
    view: View<'a>,
    out: &'a RefCell<Answer>,
}

impl<'a> Tick<'a> {
    pub(crate) fn new(view: &'a [u8], out: &'a RefCell<Answer>) -> Self {
        Tick { view: View(view), out }
    }

    /// The time of the gateway's clock in Unix milliseconds, some milliseconds coarse.
    pub fn time(&self) -> i64 {
        self.view.u64(8) as i64
    }

    /// A fresh random number.
    pub fn seed(&self) -> u64 {
        self.view.u64(16)
    }

    /// Writes a line to the gateway's log.
    pub fn log(&self, level: Level, text: impl AsRef<[u8]>) {
        self.out.borrow_mut().op_log(level as u32, text.as_ref());
    }

    /// See `Exchange::call`.
    pub fn call(&self, service: Service, request: &OutboundRequest) -> Result<OutboundResponse, Failure> {
        request.send(service)
    }
}
