//! The Rust SDK for plugins of wasmgate's native ABI (sdk/abi.md): write a function over a request, return a decision.
//!
//! ```
//! use wasmgate::{path_under, Config, Decision, Error, Header, Plugin, Request};
//!
//! struct First {
//!     beta: Header, // what the plugin reads, said once
//! }
//!
//! impl Plugin for First {
//!     fn configure(c: &mut Config) -> Result<Self, Error> {
//!         Ok(First { beta: c.request_header("x-beta") })
//!     }
//!
//!     fn request(&mut self, r: &Request) -> Decision {
//!         if path_under(r.path(), "/internal") {
//!             return Decision::Deny(403);
//!         }
//!         if r.path() == "/ping" {
//!             return r.respond(200, "pong\n", &[("content-type", "text/plain")]);
//!         }
//!         if r.header(self.beta) == "yes" {
//!             r.set_header("x-variant", "beta");
//!         }
//!         Decision::Continue
//!     }
//! }
//!
//! wasmgate::plugin!(First);
//! ```
//!
//! The crate is a `cdylib`; `cargo build --release --target wasm32-unknown-unknown` builds it. No other crate is needed, and
//! Rust 1.63 or later.
//!
//! A plugin is one instance of the module; the gateway has several of them (one for each event loop at least), each is
//! called by one request at a time, and any of them may be thrown away at any time: what the plugin's value holds is a
//! cache and never truth.
//!
//! # Strings
//!
//! [`Text`] is a view into the gateway's message: it costs nothing, holds raw bytes that need not be UTF-8, and is valid
//! until the handler returns, which the compiler sees to. What is passed to the SDK is copied at once.
//!
//! Nothing in this crate allocates while a request is handled, as long as answers fit into 64 KiB and no header is looked
//! up that was not declared.
//!
//! # More than a decision
//!
//! A plugin can ask an upstream before it decides ([`Exchange::call`]: the function returns when the answer is there, and
//! the gateway serves others meanwhile), share state with all its instances ([`Store`]), see bodies whole
//! ([`Config::buffer_request_body`]) or piece by piece ([`Config::stream_request_body`]), be called now and then
//! ([`Config::tick`]), and measure ([`Config::counter`]). What it calls, uses and sees is granted by the gateway's
//! configuration.
//!
//! # Tests
//!
//! `cargo test` runs a plugin without a gateway and without WebAssembly: see [`testing`].
//!
//! # Features
//!
//! `std`, on by default: panics are written to the gateway's log, and there is the tester. Without it the crate needs
//! `core` and `alloc`; the plugin then brings its own allocator and panic handler.

#![cfg_attr(not(feature = "std"), no_std)]
#![warn(missing_docs)]

extern crate alloc;

mod answer;
mod config;
mod decision;
mod exchange;
mod failure;
mod guest;
mod host;
mod json;
mod metric;
mod outbound;
#[cfg(all(feature = "std", target_arch = "wasm32"))]
mod panic;
mod piece;
mod store;
#[cfg(all(feature = "std", not(target_arch = "wasm32")))]
pub mod testing;
mod text;
mod view;

pub use config::{BodyFlag, Config, Header};
pub use decision::{Decision, Error, Upstream, Written};
pub use exchange::{Exchange, Level, Request, Response, Role};
pub use failure::Failure;
#[cfg(target_arch = "wasm32")]
#[doc(hidden)]
pub use guest::export;
pub use host::log;
pub use json::walk;
pub use metric::{Counter, Gauge, Histogram, UpDownCounter};
pub use outbound::{OutboundRequest, OutboundResponse, Service};
pub use piece::{Piece, Tick};
pub use store::{Store, Version};
pub use text::{path_under, Text};

/// Of which answers the plugin's [`Plugin::response`] is told.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u32)]
pub enum Responses {
    /// Of none.
    None = 0,
    /// Of the answer of every request.
    All = 2,
    /// Of the answers of requests whose handler left a context word that is not 0.
    Marked = 4,
}

/// A plugin: its value is what it keeps between requests.
pub trait Plugin: Sized {
    /// Which answers [`Plugin::response`] sees. A plugin that has that function says so here.
    const RESPONSES: Responses = Responses::None;

    /// Called once, before any request. An error refuses the configuration, with its text.
    fn configure(config: &mut Config) -> Result<Self, Error>;

    /// Decides about a request.
    fn request(&mut self, request: &Request) -> Decision;

    /// Called before an answer is sent to the client, if [`Plugin::RESPONSES`] says so.
    fn response(&mut self, response: &Response) -> Decision {
        let _ = response;
        Decision::Continue
    }

    /// Sees a request's body piece by piece, where [`Config::stream_request_body`] asked for that. It decides by
    /// [`Decision::Continue`], [`Piece::replace`], [`Decision::Deny`] or [`Decision::Fail`].
    fn request_body(&mut self, piece: &Piece) -> Decision {
        let _ = piece;
        Decision::Continue
    }

    /// Sees an answer's body piece by piece, where [`Config::stream_response_body`] asked for that. An answer cannot be
    /// denied any more.
    fn response_body(&mut self, piece: &Piece) -> Decision {
        let _ = piece;
        Decision::Continue
    }

    /// Called now and then without a request, where [`Config::tick`] asked for that: for what is to be fetched, renewed or
    /// counted, and left in a [`Store`] for all instances. An error is logged.
    fn tick(&mut self, tick: &Tick) -> Result<(), Error> {
        let _ = tick;
        Ok(())
    }
}

/// Makes a type that is a [`Plugin`] the plugin of this module.
#[macro_export]
macro_rules! plugin {
    ($plugin:ty) => {
        #[cfg(target_arch = "wasm32")]
        const _: () = {
            static PLACE: $crate::export::Place<$plugin> = $crate::export::Place::new();
            #[export_name = "wasmgate_v1_arena"]
            extern "C" fn arena(which: u32) -> u64 {
                PLACE.arena(which)
            }
            #[export_name = "wasmgate_v1_resize"]
            extern "C" fn resize(which: u32, need: u32) -> u64 {
                PLACE.resize(which, need)
            }
            #[export_name = "wasmgate_v1_configure"]
            extern "C" fn configure(n: u32) -> u64 {
                PLACE.configure(n)
            }
            #[export_name = "wasmgate_v1_request"]
            extern "C" fn request(n: u32) -> u64 {
                PLACE.request(n)
            }
            #[export_name = "wasmgate_v1_response"]
            extern "C" fn response(n: u32) -> u64 {
                PLACE.response(n)
            }
            #[export_name = "wasmgate_v1_body"]
            extern "C" fn body(n: u32) -> u64 {
                PLACE.body(n)
            }
            #[export_name = "wasmgate_v1_tick"]
            extern "C" fn tick(n: u32) -> u64 {
                PLACE.tick(n)
            }
        };
    };
}

/// The code of the README, for its tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
