//! Strings of messages.

use alloc::borrow::Cow;
use alloc::string::String;
use core::fmt;
use core::ops::Deref;
use core::str::{from_utf8, Utf8Error};

/// A string of a message: raw bytes that need not be UTF-8. It is a view into the gateway's message, costs nothing, and
/// is compared with literals as it is: `r.path() == "/ping"`.
#[derive(Clone, Copy, Default, Eq, PartialEq, Hash, Ord, PartialOrd)]
pub struct Text<'a>(&'a [u8]);

impl<'a> Text<'a> {
    /// A text of these bytes.
    pub const fn new(bytes: &'a [u8]) -> Self {
        Text(bytes)
    }

    /// The bytes, for as long as the message is there.
    pub const fn as_bytes(self) -> &'a [u8] {
        self.0
    }

    /// The text as a `str`, if it is one.
    pub fn to_str(self) -> Result<&'a str, Utf8Error> {
        from_utf8(self.0)
    }

    /// The text as a string; what is not UTF-8 becomes U+FFFD.
    pub fn to_string_lossy(self) -> Cow<'a, str> {
        String::from_utf8_lossy(self.0)
    }

    /// The number that decimal digits say; `None` if there is anything else, or it does not fit.
    pub fn to_number(self) -> Option<u64> {
        if self.0.is_empty() {
            return None;
        }
        self.0.iter().try_fold(0u64, |n, c| {
            let digit = c.wrapping_sub(b'0');
            if digit > 9 {
                return None;
            }
            n.checked_mul(10)?.checked_add(u64::from(digit))
        })
    }

    /// The text in front of the first `c`, and what follows it; `None` if there is no `c`.
    pub fn split_once(self, c: u8) -> Option<(Text<'a>, Text<'a>)> {
        let i = self.0.iter().position(|&b| b == c)?;
        Some((Text(&self.0[..i]), Text(&self.0[i + 1..])))
    }
}

impl Deref for Text<'_> {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        self.0
    }
}

impl AsRef<[u8]> for Text<'_> {
    fn as_ref(&self) -> &[u8] {
        self.0
    }
}

impl<'a> From<&'a str> for Text<'a> {
    fn from(s: &'a str) -> Self {
        Text(s.as_bytes())
    }
}

impl<'a> From<&'a [u8]> for Text<'a> {
    fn from(s: &'a [u8]) -> Self {
        Text(s)
    }
}

impl PartialEq<str> for Text<'_> {
    fn eq(&self, s: &str) -> bool {
        self.0 == s.as_bytes()
    }
}

impl PartialEq<&str> for Text<'_> {
    fn eq(&self, s: &&str) -> bool {
        self.0 == s.as_bytes()
    }
}

impl PartialEq<[u8]> for Text<'_> {
    fn eq(&self, s: &[u8]) -> bool {
        self.0 == s
    }
}

impl PartialEq<&[u8]> for Text<'_> {
    fn eq(&self, s: &&[u8]) -> bool {
        self.0 == *s
    }
}

/// What is not UTF-8 is shown as U+FFFD.
impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.to_string_lossy(), f)
    }
}

impl fmt::Debug for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.to_string_lossy(), f)
    }
}

/// Whether `path` is `prefix` or lies below it: "/admin" and "/admin/x" are under "/admin", "/administer" is not. The
/// prefix has no '/' at its end.
pub fn path_under(path: impl AsRef<[u8]>, prefix: impl AsRef<[u8]>) -> bool {
    match path.as_ref().strip_prefix(prefix.as_ref()) {
        Some(rest) => rest.is_empty() || rest[0] == b'/',
        None => false,
    }
}
