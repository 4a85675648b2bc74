//! Requests of the plugin's own.

use crate::answer::{op, Answer};
use crate::failure::milliseconds32;
use crate::view::View;
use crate::{host, Failure, Text};
use alloc::vec::Vec;
use core::time::Duration;

/// An upstream that the plugin sends requests of its own to: see `Config::service`.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Hash)]
pub struct Service(pub(crate) u32);

impl Service {
    /// The service that was declared with this number, from 0. The gateway traps on another one.
    pub const fn from_id(id: u32) -> Self {
        Service(id)
    }
}

/// A request of the plugin's own. What is not said is as in GET / with the upstream's own authority, and five seconds.
pub struct OutboundRequest {
    list: Answer,
}

impl OutboundRequest {
    /// A request with this method and path.
    pub fn new(method: impl AsRef<[u8]>, path: impl AsRef<[u8]>) -> Self {
        let mut list = Answer::with_capacity(512);
        list.op_text(op::METHOD, method.as_ref());
        list.op_text(op::PATH, path.as_ref());
        OutboundRequest { list }
    }

    /// A GET request for a path.
    pub fn get(path: impl AsRef<[u8]>) -> Self {
        OutboundRequest::new("GET", path)
    }

    /// A POST request with a body.
    pub fn post(path: impl AsRef<[u8]>, body: impl AsRef<[u8]>) -> Self {
        OutboundRequest::new("POST", path).body(body)
    }

    /// The host, or host:port, that is asked for.
    pub fn authority(mut self, s: impl AsRef<[u8]>) -> Self {
        self.list.op_text(op::AUTHORITY, s.as_ref());
        self
    }

    /// The query, without '?'.
    pub fn query(mut self, s: impl AsRef<[u8]>) -> Self {
        self.list.op_text(op::QUERY, s.as_ref());
        self
    }

    /// One more field.
    pub fn header(mut self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Self {
        self.list.op_pair(op::APPEND_HEADER, name.as_ref(), value.as_ref());
        self
    }

    /// The body, at most 1 MiB.
    pub fn body(mut self, s: impl AsRef<[u8]>) -> Self {
        self.list.op_text(op::SET_BODY, s.as_ref());
        self
    }

    /// How long all of it may take: at most a minute.
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.list.op32(op::TIMEOUT, milliseconds32(limit));
        self
    }

    pub(crate) fn send(&self, s: Service) -> Result<OutboundResponse, Failure> {
        host::call(s.0, self.list.bytes()).map(OutboundResponse)
    }
}

/// The answer to an [`OutboundRequest`].
#[derive(Clone, Debug)]
pub struct OutboundResponse(Vec<u8>);

impl OutboundResponse {
    fn view(&self) -> View<'_> {
        View(&self.0)
    }

    /// The status.
    pub fn status(&self) -> u16 {
        self.view().u32(4) as u16
    }

    /// How long the call took.
    pub fn took(&self) -> Duration {
        Duration::from_millis(self.view().u32(24).into())
    }

    /// The body.
    pub fn body(&self) -> Text<'_> {
        self.view().pair(16).unwrap_or_default()
    }

    /// The first value of a field; empty if there is none. The name is in lower case.
    pub fn header(&self, name: &str) -> Text<'_> {
        find(self.headers(), name)
    }

    /// The first value of a field of the trailers; empty if there is none. The name is in lower case.
    pub fn trailer(&self, name: &str) -> Text<'_> {
        find(self.trailers(), name)
    }

    /// All fields, with their names in lower case.
    pub fn headers(&self) -> impl Iterator<Item = (Text<'_>, Text<'_>)> {
        self.range(0, self.view().u32(8) as usize)
    }

    /// All fields of the trailers, with their names in lower case.
    pub fn trailers(&self) -> impl Iterator<Item = (Text<'_>, Text<'_>)> {
        self.range(self.view().u32(8) as usize, self.view().u32(12) as usize)
    }

    fn range(&self, first: usize, n: usize) -> impl Iterator<Item = (Text<'_>, Text<'_>)> {
        let view = self.view();
        let at = view.u32(0) as usize + 16 * first;
        (0..n).map(move |i| (view.pair(at + 16 * i).unwrap_or_default(), view.pair(at + 16 * i + 8).unwrap_or_default()))
    }
}

fn find<'a>(mut fields: impl Iterator<Item = (Text<'a>, Text<'a>)>, name: &str) -> Text<'a> {
    fields.find(|(n, _)| n == name).map_or_else(Text::default, |(_, v)| v)
}
