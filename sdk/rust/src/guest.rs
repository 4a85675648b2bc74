//! The one plugin of a module, and what the gateway calls of it.

#![cfg_attr(not(target_arch = "wasm32"), allow(dead_code))] // what exports alone use

use crate::answer::{pack, Answer, ARENA, OK};
use crate::config::Manifest;
use crate::{Config, Decision, Exchange, Piece, Plugin, Request, Response, Responses, Tick};
use alloc::boxed::Box;
use alloc::vec;
use core::cell::RefCell;

/// A plugin and its arenas.
pub(crate) struct Guest<P> {
    plugin: Option<P>,
    view: Box<[u8]>,
    pub(crate) out: RefCell<Answer>,
    pub(crate) manifest: Manifest,
}

impl<P: Plugin> Guest<P> {
    pub fn new() -> Self {
        Guest {
            plugin: None,
            view: vec![0; ARENA].into_boxed_slice(),
            out: RefCell::new(Answer::with_capacity(ARENA)),
            manifest: Manifest::default(),
        }
    }

    pub fn arena(&mut self, which: u32) -> &[u8] {
        match which {
            0 => &self.view,
            1 => self.out.get_mut().arena(),
            _ => &[],
        }
    }

    /// A larger request arena, or the place of the answer that outgrew its arena.
    pub fn resize(&mut self, which: u32, need: u32) -> &[u8] {
        match which {
            0 => {
                self.view = Box::default(); // two of them need not fit
                self.view = vec![0; (need as usize).max(2 * ARENA).next_power_of_two()].into_boxed_slice();
                &self.view
            }
            1 => self.out.get_mut().adopt(),
            _ => &[],
        }
    }

    #[cfg(not(target_arch = "wasm32"))]
    pub fn load(&mut self, view: &[u8]) -> u32 {
        if view.len() > self.view.len() {
            self.resize(0, view.len() as u32);
        }
        self.view[..view.len()].copy_from_slice(view);
        view.len() as u32
    }

    fn view(&self, n: u32) -> &[u8] {
        &self.view[..(n as usize).min(self.view.len())]
    }

    pub fn configure(&mut self, n: u32) -> u64 {
        self.out.get_mut().begin();
        let mut m = Manifest { phases: 1 | P::RESPONSES as u32, ..Manifest::default() };
        match P::configure(&mut Config::new(self.view(n), &mut m)) {
            Ok(p) => self.plugin = Some(p),
            Err(e) => return self.out.get_mut().fail(e.text().as_bytes()),
        }
        if m.bodies[1].is_some() && P::RESPONSES == Responses::None {
            m.phases |= Responses::All as u32; // bodies need their phase
        }
        self.out.get_mut().write(&m.encode());
        self.manifest = m;
        self.out.get_mut().settle(OK)
    }

    /// Calls a handler with the view, and answers what it decides.
    fn handle<F>(&mut self, n: u32, handler: F) -> u64
    where
        F: FnOnce(&mut P, &[u8], &RefCell<Answer>, usize) -> Decision,
    {
        self.out.get_mut().begin();
        let d = match &mut self.plugin {
            Some(p) => {
                let view = &self.view[..(n as usize).min(self.view.len())];
                handler(p, view, &self.out, self.manifest.request_headers.len())
            }
            None => return pack(OK, 0),
        };
        self.out.get_mut().finish(d)
    }

    pub fn request(&mut self, n: u32) -> u64 {
        self.handle(n, |p, view, out, slots| p.request(&Request(Exchange::new(view, out, slots))))
    }

    pub fn response(&mut self, n: u32) -> u64 {
        if P::RESPONSES == Responses::None {
            return pack(OK, 0);
        }
        self.handle(n, |p, view, out, slots| p.response(&Response(Exchange::new(view, out, slots))))
    }

    pub fn body(&mut self, n: u32) -> u64 {
        self.handle(n, |p, view, out, _| {
            let piece = Piece::new(view, out);
            let d = if piece.is_response() { p.response_body(&piece) } else { p.request_body(&piece) };
            if let Decision::Deny(_) = d {
                out.borrow_mut().begin(); // what denies a message has no edits
            }
            d
        })
    }

    pub fn tick(&mut self, n: u32) -> u64 {
        self.handle(n, |p, view, out, _| match p.tick(&Tick::new(view, out)) {
            Ok(()) => Decision::Continue,
            Err(e) => Decision::Fail(e),
        })
    }
}

/// What [`crate::plugin!`] defines the module's exports with. Not for plugins.
#[cfg(target_arch = "wasm32")]
pub mod export {
    use super::Guest;
    use crate::answer::pack;
    use crate::Plugin;
    use core::cell::UnsafeCell;

    /// The place of the module's one plugin.
    pub struct Place<P>(UnsafeCell<Option<Guest<P>>>);

    // SAFETY: an instance has one thread.
    unsafe impl<P> Sync for Place<P> {}

    impl<P: Plugin> Place<P> {
        /// An empty place.
        #[allow(clippy::new_without_default)]
        pub const fn new() -> Self {
            Place(UnsafeCell::new(None))
        }

        /// # Safety
        ///
        /// The gateway calls an export only after the one before has returned, so there is one reference at a time.
        #[allow(clippy::mut_from_ref)]
        unsafe fn guest(&self) -> &mut Guest<P> {
            (*self.0.get()).get_or_insert_with(Guest::new)
        }

        /// `wasmgate_v1_arena`
        pub fn arena(&self, which: u32) -> u64 {
            #[cfg(feature = "std")]
            crate::panic::write_to_log();
            // SAFETY: see guest.
            address(unsafe { self.guest() }.arena(which))
        }

        /// `wasmgate_v1_resize`
        pub fn resize(&self, which: u32, need: u32) -> u64 {
            // SAFETY: see guest.
            address(unsafe { self.guest() }.resize(which, need))
        }

        /// `wasmgate_v1_configure`
        pub fn configure(&self, n: u32) -> u64 {
            // SAFETY: see guest.
            unsafe { self.guest() }.configure(n)
        }

        /// `wasmgate_v1_request`
        pub fn request(&self, n: u32) -> u64 {
            // SAFETY: see guest.
            unsafe { self.guest() }.request(n)
        }

        /// `wasmgate_v1_response`
        pub fn response(&self, n: u32) -> u64 {
            // SAFETY: see guest.
            unsafe { self.guest() }.response(n)
        }

        /// `wasmgate_v1_body`
        pub fn body(&self, n: u32) -> u64 {
            // SAFETY: see guest.
            unsafe { self.guest() }.body(n)
        }

        /// `wasmgate_v1_tick`
        pub fn tick(&self, n: u32) -> u64 {
            // SAFETY: see guest.
            unsafe { self.guest() }.tick(n)
        }
    }

    fn address(arena: &[u8]) -> u64 {
        if arena.is_empty() {
            return 0;
        }
        pack(arena.len() as u32, arena.as_ptr() as u32)
    }
}
