//! Panics end the instance; their text is written to the gateway's log before that.

use crate::{log, Level};
use std::sync::Once;

pub(crate) fn write_to_log() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| std::panic::set_hook(Box::new(|info| log(Level::Error, info.to_string()))));
}
