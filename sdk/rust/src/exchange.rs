//! Requests, and answers on their way to the client.

use crate::answer::{op, Answer};
use crate::decision::Written;
use crate::failure::milliseconds32;
use crate::view::View;
use crate::{host, Decision, Failure, Header, OutboundRequest, OutboundResponse, Service, Text};
use alloc::vec::Vec;
use core::cell::RefCell;
use core::ops::Deref;
use core::time::Duration;

/// From which place of the configuration a handler is called.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u32)]
pub enum Role {
    /// In a route's plugin list.
    Route = 0,
    /// As a route's matcher.
    Match = 1,
    /// On a listener, before routes are matched.
    Listener = 2,
}

/// A level of the log.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Ord, PartialOrd)]
#[repr(u32)]
pub enum Level {
    /// Details.
    Debug = 0,
    /// What is as it should be.
    Info = 1,
    /// What somebody should look at.
    Warn = 2,
    /// What went wrong.
    Error = 3,
}

/// What requests and responses have in common. Strings are views into the gateway's message, valid until the handler
/// returns.
pub struct Exchange<'a> {
    view: View<'a>,
    out: &'a RefCell<Answer>,
    request_slots: usize,
}

impl<'a> Exchange<'a> {
    pub(crate) fn new(view: &'a [u8], out: &'a RefCell<Answer>, request_slots: usize) -> Self {
        Exchange { view: View(view), out, request_slots }
    }

    fn text(&self, at: usize) -> Text<'a> {
        self.view.pair(at).unwrap_or_default()
    }

    fn flag(&self, bit: u32) -> bool {
        self.view.u32(12) & bit != 0
    }

    /// The place that the plugin is called from.
    pub fn role(&self) -> Role {
        match self.view.u32(4) {
            1 => Role::Match,
            2 => Role::Listener,
            _ => Role::Route,
        }
    }

    /// The request's method.
    pub fn method(&self) -> Text<'a> {
        self.text(48)
    }

    /// "http" or "https".
    pub fn scheme(&self) -> Text<'a> {
        self.text(56)
    }

    /// The host and, if it was sent, the port that the client asked for.
    pub fn authority(&self) -> Text<'a> {
        self.text(64)
    }

    /// The authority without the port, as it was sent: neither lower-cased nor without the brackets of an IPv6 address.
    pub fn host(&self) -> Text<'a> {
        let s = self.authority().as_bytes();
        match s.iter().rposition(|&c| c == b':' || c == b']') {
            Some(i) if s[i] == b':' => Text::new(&s[..i]),
            _ => Text::new(s),
        }
    }

    /// The path.
    pub fn path(&self) -> Text<'a> {
        self.text(72)
    }

    /// What follows the '?'; see [`Exchange::has_query`].
    pub fn query(&self) -> Text<'a> {
        self.text(80)
    }

    /// Whether the target has a '?', even if nothing follows it.
    pub fn has_query(&self) -> bool {
        self.flag(1)
    }

    /// The client's address, without a port.
    pub fn client(&self) -> Text<'a> {
        self.text(88)
    }

    /// The server name of the client's TLS handshake; empty without one.
    pub fn sni(&self) -> Text<'a> {
        self.text(96)
    }

    /// The subject of the client's verified TLS certificate; empty without one.
    pub fn cert_subject(&self) -> Text<'a> {
        self.text(104)
    }

    /// The name of the route that matched; empty before that.
    pub fn route(&self) -> Text<'a> {
        self.text(112)
    }

    /// The time of the gateway's clock in Unix milliseconds, some milliseconds coarse.
    pub fn time(&self) -> i64 {
        self.view.u64(16) as i64
    }

    /// A fresh random number.
    pub fn seed(&self) -> u64 {
        self.view.u64(24)
    }

    /// Whether the request is traced, so that span attributes are not in vain.
    pub fn sampled(&self) -> bool {
        self.flag(2)
    }

    /// The word that the request's handler left with [`Request::set_context`].
    pub fn context(&self) -> u64 {
        self.view.u64(32)
    }

    fn slot(&self, h: Header) -> usize {
        usize::from(h.index) + if h.response { self.request_slots } else { 0 }
    }

    /// The first value of a declared header; empty if it is absent.
    pub fn header(&self, h: Header) -> Text<'a> {
        self.header_at(h, 0)
    }

    /// How often a declared header occurs.
    pub fn header_count(&self, h: Header) -> usize {
        self.view.count(self.slot(h))
    }

    /// Value `k` of a declared header, from 0; empty beyond the last.
    pub fn header_at(&self, h: Header, k: usize) -> Text<'a> {
        self.view.value(self.slot(h), k).unwrap_or_default()
    }

    /// All values of a declared header.
    pub fn header_values(&self, h: Header) -> impl Iterator<Item = Text<'a>> {
        let (view, slot) = (self.view, self.slot(h));
        (0..view.count(slot)).map(move |k| view.value(slot, k).unwrap_or_default())
    }

    /// Asks the gateway for value `k` of any request header, declared or not. It costs a call of the gateway and an
    /// allocation; declared headers cost nothing.
    pub fn lookup_request(&self, name: impl AsRef<[u8]>, k: usize) -> Option<Vec<u8>> {
        host::get_header(0, name.as_ref(), k)
    }

    /// Asks the gateway for what is known of the client's TLS connection: value `k` of `version`, `cipher`, `alpn`,
    /// `server-name`, `resumed`, and of the client's verified certificate `subject`, `issuer`, `serial`, `sha256`, `dns`, `uri`,
    /// `email`, `ip`, `not-before`, `not-after` and `certificate` (PEM). `None`: it was not agreed on, the client has shown no
    /// certificate, or there is no TLS.
    pub fn lookup_tls(&self, name: impl AsRef<[u8]>, k: usize) -> Option<Vec<u8>> {
        host::get_header(4, name.as_ref(), k)
    }

    /// Replaces all fields of the name by one: of the request in its handler, of the answer in the answer's.
    pub fn set_header(&self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) {
        self.out.borrow_mut().op_pair(op::SET_HEADER, name.as_ref(), value.as_ref());
    }

    /// Adds a field.
    pub fn append_header(&self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) {
        self.out.borrow_mut().op_pair(op::APPEND_HEADER, name.as_ref(), value.as_ref());
    }

    /// Removes all fields of the name.
    pub fn remove_header(&self, name: impl AsRef<[u8]>) {
        self.out.borrow_mut().op_text(op::REMOVE_HEADER, name.as_ref());
    }

    /// Sets an attribute of the request's span.
    pub fn attribute(&self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) {
        self.out.borrow_mut().op_pair(op::ATTRIBUTE, key.as_ref(), value.as_ref());
    }

    /// Writes a line to the gateway's log together with the decision, if the decision is one that carries edits. The
    /// gateway limits how many lines a plugin writes. [`crate::log`] writes at once.
    pub fn log(&self, level: Level, text: impl AsRef<[u8]>) {
        self.out.borrow_mut().op_log(level as u32, text.as_ref());
    }

    /// Sends a request to a service and returns when the answer is whole; the gateway serves others meanwhile. An answer of
    /// any status is one. Redirects are not followed. A handler may make 32 calls.
    pub fn call(&self, service: Service, request: &OutboundRequest) -> Result<OutboundResponse, Failure> {
        request.send(service)
    }

    fn message(&self) -> u32 {
        self.view.u32(8) & 1
    }

    /// Whether the message's body is buffered: see [`crate::Config::buffer_request_body`]. A message without one has an
    /// empty one.
    pub fn has_body(&self) -> bool {
        self.flag(8)
    }

    /// Whether only the beginning of the body is buffered: see [`crate::BodyFlag::Partial`].
    pub fn body_is_part(&self) -> bool {
        self.flag(16)
    }

    /// The body that is buffered; `None` if none is.
    pub fn body(&self) -> Option<Vec<u8>> {
        let mut body = Vec::new();
        let n = host::read_body(self.message(), 0, &mut body)?;
        body.resize(n, 0);
        if n > 0 {
            host::read_body(self.message(), 0, &mut body);
        }
        Some(body)
    }

    /// Copies what is buffered of the body from `offset` on, and returns how many bytes there are from there on; `None` if
    /// none is buffered, or if `offset` is beyond its end. For bodies that need not be in the plugin's memory as a whole.
    pub fn read_body(&self, to: &mut [u8], offset: usize) -> Option<usize> {
        host::read_body(self.message(), offset, to)
    }

    /// Replaces a body that is buffered whole. The gateway sets Content-Length; Content-Type and the like are the plugin's
    /// business.
    pub fn set_body(&self, body: impl AsRef<[u8]>) {
        self.out.borrow_mut().op_text(op::SET_BODY, body.as_ref());
    }

    /// Asks for the message's body, where it was declared to come [`crate::BodyFlag::OnDemand`]: a buffered one by calling
    /// the handler once more (see [`Exchange::has_body`]) after what it returns now is done, a streamed one by calling
    /// `request_body` or `response_body`.
    pub fn want_body(&self) {
        self.out.borrow_mut().op(op::WANT_BODY);
    }

    /// Asks the gateway for value `k` of a field of the message's trailers. There are some where the body is buffered.
    pub fn lookup_trailer(&self, name: impl AsRef<[u8]>, k: usize) -> Option<Vec<u8>> {
        host::get_header(2 + self.message(), name.as_ref(), k)
    }

    /// Answers the client: no upstream is asked, or its answer is replaced. The decision is to be returned.
    pub fn respond(&self, status: u16, body: impl AsRef<[u8]>, fields: &[(&str, &str)]) -> Decision {
        self.out.borrow_mut().respond(u32::from(status), body.as_ref(), fields);
        Decision::Respond(Written(()))
    }

    /// [`Exchange::respond`] with fields of any bytes.
    pub fn respond_bytes(&self, status: u16, body: &[u8], fields: &[(&[u8], &[u8])]) -> Decision {
        self.out.borrow_mut().respond(u32::from(status), body, fields);
        Decision::Respond(Written(()))
    }
}

/// A request that is decided about.
pub struct Request<'a>(pub(crate) Exchange<'a>);

impl<'a> Deref for Request<'a> {
    type Target = Exchange<'a>;
    fn deref(&self) -> &Exchange<'a> {
        &self.0
    }
}

impl Request<'_> {
    /// Replaces the method.
    pub fn set_method(&self, s: impl AsRef<[u8]>) {
        self.out.borrow_mut().op_text(op::METHOD, s.as_ref());
    }

    /// Replaces the authority: host, or host:port.
    pub fn set_authority(&self, s: impl AsRef<[u8]>) {
        self.out.borrow_mut().op_text(op::AUTHORITY, s.as_ref());
    }

    /// Replaces the path and leaves the query alone.
    pub fn set_path(&self, s: impl AsRef<[u8]>) {
        self.out.borrow_mut().op_text(op::PATH, s.as_ref());
    }

    /// Replaces the query, without '?'; an empty one removes it.
    pub fn set_query(&self, s: impl AsRef<[u8]>) {
        self.out.borrow_mut().op_text(op::QUERY, s.as_ref());
    }

    /// Sends the request to an address, host:port, where the configuration allows it.
    pub fn set_address(&self, s: impl AsRef<[u8]>) {
        self.out.borrow_mut().op_text(op::ADDRESS, s.as_ref());
    }

    /// Limits the whole request: a millisecond to an hour.
    pub fn set_timeout(&self, limit: Duration) {
        self.out.borrow_mut().op32(op::TIMEOUT, milliseconds32(limit));
    }

    /// Sets the key by which consistent balancing picks a target.
    pub fn set_hash_key(&self, key: u64) {
        self.out.borrow_mut().op64(op::HASH_KEY, key);
    }

    /// Leaves a word for the response handler; see [`crate::Responses::Marked`].
    pub fn set_context(&self, word: u64) {
        self.out.borrow_mut().op64(op::CONTEXT, word);
    }

    /// Asks for the routes to be matched again, by the new path and authority.
    pub fn rematch(&self) {
        self.out.borrow_mut().op(op::REMATCH);
    }
}

/// An answer on its way to the client, with the request that it answers as it was sent to the upstream.
pub struct Response<'a>(pub(crate) Exchange<'a>);

impl<'a> Deref for Response<'a> {
    type Target = Exchange<'a>;
    fn deref(&self) -> &Exchange<'a> {
        &self.0
    }
}

impl Response<'_> {
    /// The status of the answer.
    pub fn status(&self) -> u16 {
        self.view.u32(40) as u16
    }

    /// Whether the answer was made by the gateway or a plugin and not by an upstream.
    pub fn local(&self) -> bool {
        self.flag(4)
    }

    /// [`Exchange::lookup_request`] for the answer's headers.
    pub fn lookup_response(&self, name: impl AsRef<[u8]>, k: usize) -> Option<Vec<u8>> {
        host::get_header(1, name.as_ref(), k)
    }
}
