//! Ctrl-C: the run ends with a summary of what it has measured.

use std::process;
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};

use codec_api::Cancel;

use crate::console;

/// The exit code after Ctrl-C, as shells expect it.
pub const EXIT: u8 = 130;

static CANCEL: Cancel = Cancel::new();

/// Whether the first Ctrl-C ends the process.
static AT_ONCE: AtomicBool = AtomicBool::new(false);

/// Is cancelled by the first Ctrl-C from now on; the second one ends the process at once.
pub fn watch() -> &'static Cancel {
    static ONCE: Once = Once::new();
    // Without a handler, Ctrl-C ends the process, and the JSON report keeps its rows.
    ONCE.call_once(|| drop(ctrlc::set_handler(interrupt)));
    &CANCEL
}

/// Does long work with which the same command goes on: meanwhile, Ctrl-C ends the process at once.
#[cfg(feature = "runtime")]
pub fn resumable<T>(work: impl FnOnce() -> T) -> T {
    watch();
    AT_ONCE.store(true, Ordering::SeqCst);
    let done = work();
    AT_ONCE.store(false, Ordering::SeqCst);
    done
}

fn interrupt() {
    if AT_ONCE.load(Ordering::SeqCst) {
        console::line("interrupted; the same command goes on");
        process::exit(EXIT.into());
    }
    if CANCEL.check().is_err() {
        process::exit(EXIT.into());
    }
    CANCEL.cancel();
}
