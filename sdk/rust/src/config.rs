//! Configuration, and what a plugin declares.

use crate::view::View;
use crate::{json, Error, Text, Upstream};
use alloc::vec::Vec;

/// A header that the plugin wants to see: see [`Config::request_header`] and [`Config::response_header`].
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Hash)]
pub struct Header {
    pub(crate) index: u16,
    pub(crate) response: bool,
}

/// What the plugin declares.
#[derive(Clone, Debug, Default)]
pub(crate) struct Manifest {
    pub phases: u32,
    pub request_headers: Vec<Vec<u8>>,
    pub response_headers: Vec<Vec<u8>>,
    pub upstreams: Vec<Vec<u8>>,
}

impl Manifest {
    /// The records that the gateway reads.
    pub fn encode(&self) -> Vec<u8> {
        fn record(out: &mut Vec<u8>, kind: u32, body: &[&[u8]]) {
            let n: usize = body.iter().map(|b| b.len()).sum();
            out.extend_from_slice(&kind.to_le_bytes());
            out.extend_from_slice(&(n as u32).to_le_bytes());
            body.iter().for_each(|b| out.extend_from_slice(b));
        }
        let mut out = Vec::new();
        record(&mut out, 1, &[&self.phases.to_le_bytes()]);
        for (kind, names) in [(2, &self.request_headers), (3, &self.response_headers), (4, &self.upstreams)] {
            for name in names {
                record(&mut out, kind, &[&(name.len() as u32).to_le_bytes(), name]);
            }
        }
        out
    }
}

/// Finds the name, or adds it, and returns its place.
fn declare(names: &mut Vec<Vec<u8>>, name: Vec<u8>) -> usize {
    names.iter().position(|n| *n == name).unwrap_or_else(|| {
        names.push(name);
        names.len() - 1
    })
}

/// What the plugin is told about itself, and where it declares what it reads and chooses.
pub struct Config<'a> {
    name: Text<'a>,
    raw: Text<'a>,
    manifest: &'a mut Manifest,
}

impl<'a> Config<'a> {
    pub(crate) fn new(view: &'a [u8], manifest: &'a mut Manifest) -> Self {
        let view = View(view);
        Config { name: view.pair(16).unwrap_or_default(), raw: view.pair(24).unwrap_or_default(), manifest }
    }

    /// The plugin's name in the gateway's configuration.
    pub fn name(&self) -> Text<'a> {
        self.name
    }

    /// The plugin's configuration: a string as it is, everything else as JSON, empty if there is none.
    pub fn raw(&self) -> Text<'a> {
        self.raw
    }

    /// Reads a JSON configuration and calls `each` for each value that is not an object or an array, in order, with the
    /// names that lead to it; an element of an array is called by its number. Strings come without quotes and escapes,
    /// everything else as it is written. A configuration that is absent has no values.
    ///
    /// ```
    /// # use wasmgate::{Config, Error};
    /// # fn configure(c: &mut Config) -> Result<(), Error> {
    /// c.walk(|c, path, value| match path {
    ///     ["default"] => {
    ///         c.upstream(value);
    ///         Ok(())
    ///     }
    ///     ["tenants", _name] => Ok(()),
    ///     _ => Err("config: the keys are default and tenants".into()),
    /// })
    /// # }
    /// ```
    pub fn walk<F>(&mut self, mut each: F) -> Result<(), Error>
    where
        F: FnMut(&mut Self, &[&str], &str) -> Result<(), Error>,
    {
        json::walk(self.raw.as_bytes(), |path, value| each(self, path, value))
    }

    /// Declares a request header that handlers read. The name is not case-sensitive.
    pub fn request_header(&mut self, name: impl AsRef<[u8]>) -> Header {
        let index = declare(&mut self.manifest.request_headers, name.as_ref().to_ascii_lowercase());
        Header { index: index as u16, response: false }
    }

    /// Declares a response header that the response handler reads.
    pub fn response_header(&mut self, name: impl AsRef<[u8]>) -> Header {
        let index = declare(&mut self.manifest.response_headers, name.as_ref().to_ascii_lowercase());
        Header { index: index as u16, response: true }
    }

    /// Declares an upstream that the plugin may choose. A configuration of the gateway that does not know or not allow
    /// it is refused.
    pub fn upstream(&mut self, name: impl AsRef<[u8]>) -> Upstream {
        Upstream(declare(&mut self.manifest.upstreams, name.as_ref().to_vec()) as u32)
    }
}

