//! What handlers say.

use alloc::borrow::Cow;
use alloc::string::String;
use core::fmt;

/// What a handler says. Edits made on the request or response are done with it, all or none.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Decision {
    /// Goes on: the next plugin, or the upstream that the route or an earlier plugin chose.
    Continue,
    /// The route is not for the request. It is for plugins that match routes; edits are dropped.
    NoMatch,
    /// Sends the request to an upstream.
    RouteTo(Upstream),
    /// Answers with a status of 400 to 599 and no body; 0 is 403.
    Deny(u16),
    /// The plugin could not decide. The request follows the plugin's `on_error` policy; the text is logged.
    Fail(Error),
    /// Answers the client: what `respond` of a request or response returns.
    Respond(Written),
    /// Sends other bytes instead of a piece of a body: what `replace` of a piece returns.
    Replace(Written),
}

impl Decision {
    /// [`Decision::Fail`] with a text.
    pub fn fail(text: impl Into<Error>) -> Decision {
        Decision::Fail(text.into())
    }
}

/// An answer or a piece that was written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Written(pub(crate) ());

/// An upstream that the plugin may choose: see `Config::upstream`.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Hash)]
pub struct Upstream(pub(crate) u32);

impl Upstream {
    /// The number of an upstream: that of its declaration, from 0.
    pub const fn id(self) -> u32 {
        self.0
    }

    /// The upstream that was declared with this number. The gateway refuses a decision with another one.
    pub const fn from_id(id: u32) -> Self {
        Upstream(id)
    }
}

/// A text for people: why a configuration is refused, or why there is no decision.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Error(Cow<'static, str>);

impl Error {
    /// The text.
    pub fn text(&self) -> &str {
        &self.0
    }
}

impl From<&'static str> for Error {
    fn from(s: &'static str) -> Self {
        Error(Cow::Borrowed(s))
    }
}

impl From<String> for Error {
    fn from(s: String) -> Self {
        Error(Cow::Owned(s))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(feature = "std")]
impl std::error::Error for Error {}
