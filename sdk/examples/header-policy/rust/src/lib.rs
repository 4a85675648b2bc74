//! header-policy removes, renames, sets and appends headers, as its configuration says: see ../../../README.md. The
//! versions in other languages do the same.

use wasmgate::{Config, Decision, Error, Exchange, Header, Plugin, Request, Response, Responses};

/// What is done to a message, in this order.
#[derive(Default)]
struct Policy {
    remove: Vec<String>,
    rename: Vec<(Header, String, String)>, // the header, its name, and its new one
    set: Vec<(String, String)>,
    append: Vec<(String, String)>,
}

#[derive(Default)]
struct HeaderPolicy {
    requests: Policy,
    responses: Policy,
}

wasmgate::plugin!(HeaderPolicy);

impl Plugin for HeaderPolicy {
    const RESPONSES: Responses = Responses::All;

    fn configure(c: &mut Config) -> Result<Self, Error> {
        let mut p = HeaderPolicy::default();
        c.walk(|c, path, value| match path {
            ["request", rule, name] => p.requests.rule(rule, name, value, |name| c.request_header(name)),
            ["response", rule, name] => p.responses.rule(rule, name, value, |name| c.response_header(name)),
            _ => Err(BAD_KEYS.into()),
        })?;
        Ok(p)
    }

    fn request(&mut self, r: &Request) -> Decision {
        self.requests.apply(r)
    }

    fn response(&mut self, r: &Response) -> Decision {
        self.responses.apply(r)
    }
}

const BAD_KEYS: &str = "config: the keys are request and response, with remove, rename, set and append in each";
const NO_NAME: &str = "config: a header has no name";

impl Policy {
    fn rule(&mut self, rule: &str, name: &str, value: &str, declare: impl FnOnce(&str) -> Header) -> Result<(), Error> {
        let (text, nameless) = (value.to_string(), name.is_empty());
        match rule {
            "remove" if value.is_empty() => return Err(NO_NAME.into()),
            "rename" if nameless || value.is_empty() => return Err(NO_NAME.into()),
            "remove" => self.remove.push(text),
            "rename" => self.rename.push((declare(name), name.to_string(), text)),
            "set" => self.set.push((name.to_string(), text)),
            "append" => self.append.push((name.to_string(), text)),
            _ => return Err(BAD_KEYS.into()),
        }
        if nameless {
            return Err(NO_NAME.into());
        }
        Ok(())
    }

    /// Does it all, each with the message as it came.
    fn apply(&self, m: &Exchange) -> Decision {
        for name in &self.remove {
            m.remove_header(name);
        }
        for (from, old, new) in &self.rename {
            for (k, value) in m.header_values(*from).enumerate() {
                if k == 0 {
                    m.remove_header(old);
                    m.set_header(new, value);
                } else {
                    m.append_header(new, value);
                }
            }
        }
        for (name, value) in &self.set {
            m.set_header(name, value);
        }
        for (name, value) in &self.append {
            m.append_header(name, value);
        }
        Decision::Continue
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wasmgate::testing::{Message, Tester};

    #[test]
    fn both_messages() {
        let config = r#"{"request":{"remove":["cookie"],"rename":{"X-Old":"x-new"}},"response":{"set":{"server":"mine"}}}"#;
        let mut p = Tester::<HeaderPolicy>::new(config).unwrap();
        let a = p.request(&Message::get("/").header("x-old", "1").header("x-old", "2"));
        assert_eq!(a.edits, ["remove_header cookie", "remove_header X-Old", "set_header x-new: 1", "append_header x-new: 2"]);
        let a = p.response(&Message { status: 200, ..Message::get("/") });
        assert_eq!(a.edits, ["set_header server: mine"]);
        assert!(Tester::<HeaderPolicy>::new(r#"{"request":{"sets":{"a":"b"}}}"#).is_err());
    }
}
