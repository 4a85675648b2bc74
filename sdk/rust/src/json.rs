//! What most plugins need of JSON: a walk over the values of a configuration.

use crate::Error;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

/// Bounds the nesting of a configuration.
const MAX_DEPTH: usize = 16;

const NOT_JSON: &str = "the configuration is not JSON";
const TOO_DEEP: &str = "the configuration is nested too deeply";

/// Calls `each` for each value that is not an object or an array, in order, with the names that lead to it; an element of
/// an array is called by its number. Strings come without quotes and escapes, everything else as it is written. A text
/// that is empty has no values.
pub fn walk<F>(text: &[u8], mut each: F) -> Result<(), Error>
where
    F: FnMut(&[&str], &str) -> Result<(), Error>,
{
    if text.is_empty() {
        return Ok(());
    }
    let text = core::str::from_utf8(text).map_err(|_| NOT_JSON)?;
    let mut w = Walker { rest: text, path: Vec::new() };
    w.value(&mut each)?;
    w.space();
    if w.rest.is_empty() {
        Ok(())
    } else {
        Err(NOT_JSON.into())
    }
}

type Each<'e> = &'e mut dyn FnMut(&[&str], &str) -> Result<(), Error>;

struct Walker<'a> {
    rest: &'a str,
    path: Vec<String>,
}

impl<'a> Walker<'a> {
    fn space(&mut self) {
        self.rest = self.rest.trim_start_matches([' ', '\t', '\n', '\r']);
    }

    /// Consumes `c`, with the space before it, if it comes next.
    fn take(&mut self, c: char) -> bool {
        self.space();
        match self.rest.strip_prefix(c) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn say(&self, each: Each<'_>, value: &str) -> Result<(), Error> {
        let path: Vec<&str> = self.path.iter().map(String::as_str).collect();
        each(&path, value)
    }

    fn value(&mut self, each: Each<'_>) -> Result<(), Error> {
        if self.path.len() > MAX_DEPTH {
            return Err(TOO_DEEP.into());
        }
        self.space();
        match self.rest.as_bytes().first() {
            Some(b'{') => self.members('}', each),
            Some(b'[') => self.members(']', each),
            Some(b'"') => {
                let s = self.string()?;
                self.say(each, &s)
            }
            _ => {
                let in_literal = |c: char| matches!(c, 'a'..='z' | '0'..='9' | '-' | '+' | '.' | 'E');
                let n = self.rest.find(|c| !in_literal(c)).unwrap_or(self.rest.len());
                if n == 0 {
                    return Err(NOT_JSON.into());
                }
                let (literal, rest) = self.rest.split_at(n);
                self.rest = rest;
                self.say(each, literal)
            }
        }
    }

    /// Reads an object or an array up to its closing bracket.
    fn members(&mut self, closing: char, each: Each<'_>) -> Result<(), Error> {
        self.rest = &self.rest[1..];
        if self.take(closing) {
            return Ok(());
        }
        for i in 0u32.. {
            let name = if closing == '}' {
                self.space();
                let name = self.string()?;
                if !self.take(':') {
                    return Err(NOT_JSON.into());
                }
                name
            } else {
                i.to_string()
            };
            self.path.push(name);
            self.value(each)?;
            self.path.pop();
            if self.take(closing) {
                break;
            }
            if !self.take(',') {
                return Err(NOT_JSON.into());
            }
        }
        Ok(())
    }

    /// Reads a string, which comes next.
    fn string(&mut self) -> Result<String, Error> {
        let mut rest = self.rest.strip_prefix('"').ok_or(NOT_JSON)?;
        let mut s = String::new();
        loop {
            let n = rest.find(|c| c == '"' || c == '\\' || c < ' ').ok_or(NOT_JSON)?;
            s.push_str(&rest[..n]);
            let special = rest.as_bytes()[n];
            rest = &rest[n + 1..];
            match special {
                b'"' => {
                    self.rest = rest;
                    return Ok(s);
                }
                b'\\' => {
                    let (c, after) = escape(rest).ok_or(NOT_JSON)?;
                    s.push(c);
                    rest = after;
                }
                _ => return Err(NOT_JSON.into()),
            }
        }
    }
}

/// Reads what follows a backslash.
fn escape(s: &str) -> Option<(char, &str)> {
    let c = match *s.as_bytes().first()? {
        c @ (b'"' | b'\\' | b'/') => char::from(c),
        b'b' => '\u{8}',
        b'f' => '\u{c}',
        b'n' => '\n',
        b'r' => '\r',
        b't' => '\t',
        b'u' => return code_point(&s[1..]),
        _ => return None,
    };
    Some((c, &s[1..]))
}

/// Reads four hexadecimal digits, or a surrogate pair.
fn code_point(s: &str) -> Option<(char, &str)> {
    let (high, rest) = hex(s)?;
    if let Some((low, after)) = rest.strip_prefix("\\u").and_then(hex) {
        if (0xD800..0xDC00).contains(&high) && (0xDC00..0xE000).contains(&low) {
            let c = 0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00);
            return Some((char::from_u32(c)?, after));
        }
    }
    Some((char::from_u32(high).unwrap_or(char::REPLACEMENT_CHARACTER), rest))
}

fn hex(s: &str) -> Option<(u32, &str)> {
    let digits = s.get(..4)?;
    if !digits.bytes().all(|c| c.is_ascii_hexdigit()) {
        return None;
    }
    Some((u32::from_str_radix(digits, 16).ok()?, &s[4..]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;
    use alloc::vec;

    fn all(text: &str) -> Result<Vec<String>, Error> {
        let mut got = Vec::new();
        walk(text.as_bytes(), |path, value| {
            got.push(format!("{}={}", path.join("/"), value));
            Ok(())
        })?;
        Ok(got)
    }

    #[test]
    fn values() {
        for (text, want) in [
            ("", vec![]),
            ("{}", vec![]),
            ("[]", vec![]),
            ("\"s\"", vec!["=s"]),
            (" 12 ", vec!["=12"]),
            (
                r#"{"default":"users","tenants":{"acme":"acme-upstream","b":"c"},"n":[1,true,null,"x"]}"#,
                vec!["default=users", "tenants/acme=acme-upstream", "tenants/b=c", "n/0=1", "n/1=true", "n/2=null", "n/3=x"],
            ),
            (r#"{"a\"\\\/\n":"\u00e9\ud83d\ude00\ud800x"}"#, vec!["a\"\\/\n=é😀\u{FFFD}x"]),
        ] {
            assert_eq!(all(text).unwrap(), want, "{}", text);
        }
    }

    #[test]
    fn refused() {
        let deep = "[".repeat(40);
        for text in [
            "{",
            r#"{"a"}"#,
            r#"{"a":}"#,
            r#"{"a":1,}"#,
            "[1",
            "\"",
            "\"\\",
            r#""\u12""#,
            r#""\u+123""#,
            r#""\x""#,
            "1 2",
            "}",
            r#"{"a":1 "b":2}"#,
            "\"\n\"",
            &deep,
        ] {
            assert!(all(text).is_err(), "{}", text);
        }
        assert_eq!(all(&deep).unwrap_err().text(), TOO_DEEP);
    }
}
