//! Configuration, and what a plugin declares.

use crate::failure::milliseconds32;
use crate::view::View;
use crate::{json, Counter, Error, Gauge, Histogram, Service, Store, Text, UpDownCounter, Upstream};
use alloc::vec::Vec;
use core::time::Duration;

/// A header that the plugin wants to see: see [`Config::request_header`] and [`Config::response_header`].
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Hash)]
pub struct Header {
    pub(crate) index: u16,
    pub(crate) response: bool,
}

/// More about bodies that a plugin wants.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u32)]
pub enum BodyFlag {
    /// Bodies only of messages for which the handler calls `want_body`.
    OnDemand = 1,
    /// The beginning of bodies that are longer than the bound; else the gateway refuses such a message.
    Partial = 2,
}

/// A record of a body: mode, bits, and the most bytes.
type Body = [u32; 3];

const BUFFERED: u32 = 1;
const STREAMED: u32 = 2;

fn body(mode: u32, flags: &[BodyFlag], most: usize) -> Body {
    [mode, flags.iter().fold(0, |bits, f| bits | *f as u32), u32::try_from(most).unwrap_or(u32::MAX)]
}

/// What the plugin declares.
#[derive(Clone, Debug, Default)]
pub(crate) struct Manifest {
    pub phases: u32,
    pub request_headers: Vec<Vec<u8>>,
    pub response_headers: Vec<Vec<u8>>,
    pub upstreams: Vec<Vec<u8>>,
    pub services: Vec<Vec<u8>>,
    pub stores: Vec<Vec<u8>>,
    pub bodies: [Option<Body>; 2],
    pub tick: Option<u32>,
    pub metrics: Vec<Metric>,
}

#[derive(Clone, Debug)]
pub(crate) struct Metric {
    kind: u32,
    pub name: Vec<u8>,
    description: Vec<u8>,
    bounds: Vec<f64>,
}

impl Manifest {
    /// The records that the gateway reads.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        record(&mut out, 1, &[&self.phases.to_le_bytes()]);
        let names = [&self.request_headers, &self.response_headers, &self.upstreams, &self.services, &self.stores];
        for (kind, names) in (2u32..).zip(names) {
            for name in names {
                record(&mut out, kind, &[&(name.len() as u32).to_le_bytes(), name]);
            }
        }
        for (kind, body) in (7u32..).zip(&self.bodies) {
            if let Some([mode, bits, most]) = body {
                record(&mut out, kind, &[&mode.to_le_bytes(), &bits.to_le_bytes(), &most.to_le_bytes()]);
            }
        }
        if let Some(every) = self.tick {
            record(&mut out, 9, &[&every.to_le_bytes()]);
        }
        for m in &self.metrics {
            let bounds: Vec<u8> = m.bounds.iter().flat_map(|b| b.to_le_bytes()).collect();
            let lengths = [m.name.len() as u32, m.description.len() as u32, m.bounds.len() as u32].map(u32::to_le_bytes);
            record(
                &mut out,
                10,
                &[&m.kind.to_le_bytes(), &lengths[0], &m.name, &lengths[1], &m.description, &lengths[2], &bounds],
            );
        }
        out
    }
}

fn record(out: &mut Vec<u8>, kind: u32, body: &[&[u8]]) {
    let n: usize = body.iter().map(|b| b.len()).sum();
    out.extend_from_slice(&kind.to_le_bytes());
    out.extend_from_slice(&(n as u32).to_le_bytes());
    body.iter().for_each(|b| out.extend_from_slice(b));
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
    longest: [u32; 2], // bodies that can be buffered
    manifest: &'a mut Manifest,
}

impl<'a> Config<'a> {
    pub(crate) fn new(view: &'a [u8], manifest: &'a mut Manifest) -> Self {
        let view = View(view);
        let longest = if view.u32(0) >= 40 { [view.u32(32), view.u32(36)] } else { [0, 0] };
        Config { longest, name: view.pair(16).unwrap_or_default(), raw: view.pair(24).unwrap_or_default(), manifest }
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

    /// Declares an upstream that the plugin sends requests of its own to. A configuration of the gateway that does not know
    /// or not grant it is refused.
    pub fn service(&mut self, name: impl AsRef<[u8]>) -> Service {
        Service(declare(&mut self.manifest.services, name.as_ref().to_vec()) as u32)
    }

    /// Declares a store that the plugin uses. A configuration of the gateway that does not know or not grant it is refused.
    pub fn store(&mut self, name: impl AsRef<[u8]>) -> Store {
        Store(declare(&mut self.manifest.stores, name.as_ref().to_vec()) as u32)
    }

    /// Has requests' bodies of at most so many bytes read before the handler is called: see [`crate::Exchange::body`]. A
    /// longer one is answered with 413.
    pub fn buffer_request_body(&mut self, most: usize, flags: &[BodyFlag]) {
        self.manifest.bodies[0] = Some(body(BUFFERED, flags, most));
    }

    /// [`Config::buffer_request_body`] for answers. A longer one is answered with 502.
    pub fn buffer_response_body(&mut self, most: usize, flags: &[BodyFlag]) {
        self.manifest.bodies[1] = Some(body(BUFFERED, flags, most));
    }

    /// Has [`crate::Plugin::request_body`] see requests' bodies piece by piece while they are sent on, after the handler was
    /// called.
    pub fn stream_request_body(&mut self, flags: &[BodyFlag]) {
        self.manifest.bodies[0] = Some(body(STREAMED, flags, 0));
    }

    /// Has [`crate::Plugin::response_body`] see answers' bodies piece by piece.
    pub fn stream_response_body(&mut self, flags: &[BodyFlag]) {
        self.manifest.bodies[1] = Some(body(STREAMED, flags, 0));
    }

    /// The longest body of a request that the plugin may have buffered, in bytes; 0: it is granted none.
    pub fn max_request_body(&self) -> usize {
        self.longest[0] as usize
    }

    /// [`Config::max_request_body`] for answers.
    pub fn max_response_body(&self) -> usize {
        self.longest[1] as usize
    }

    /// Has [`crate::Plugin::tick`] called when the plugin has started, and then each time so long after its last call has
    /// ended, in one instance: 20 milliseconds to an hour.
    pub fn tick(&mut self, every: Duration) {
        self.manifest.tick = Some(milliseconds32(every));
    }

    /// Declares a counter, which only grows. Names of metrics have a-z, 0-9, _ and ., and begin with a letter. The gateway
    /// exports them beside its own, with the plugin's name.
    pub fn counter(&mut self, name: &str, description: &str) -> Counter {
        Counter(self.metric(0, name, description, &[]))
    }

    /// Declares a gauge.
    pub fn gauge(&mut self, name: &str, description: &str) -> Gauge {
        Gauge(self.metric(1, name, description, &[]))
    }

    /// Declares a histogram with the bounds of its buckets, ascending; without any they are the gateway's, which are good for
    /// milliseconds.
    pub fn histogram(&mut self, name: &str, description: &str, bounds: &[f64]) -> Histogram {
        Histogram(self.metric(2, name, description, bounds))
    }

    /// Declares a counter that may shrink.
    pub fn up_down_counter(&mut self, name: &str, description: &str) -> UpDownCounter {
        UpDownCounter(self.metric(3, name, description, &[]))
    }

    fn metric(&mut self, kind: u32, name: &str, description: &str, bounds: &[f64]) -> u32 {
        let list = &mut self.manifest.metrics;
        let known = list.iter().position(|m| m.name == name.as_bytes());
        known.unwrap_or_else(|| {
            list.push(Metric { kind, name: name.into(), description: description.into(), bounds: bounds.to_vec() });
            list.len() - 1
        }) as u32
    }
}
