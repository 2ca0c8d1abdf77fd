//! Ctrl-C: the run ends with a summary of what it has measured.

use std::process;
use std::sync::Once;

use codec_api::Cancel;

/// The exit code after Ctrl-C, as shells expect it.
pub const EXIT: u8 = 130;

static CANCEL: Cancel = Cancel::new();

/// Is cancelled by the first Ctrl-C from now on; the second one ends the process at once.
pub fn watch() -> &'static Cancel {
    static ONCE: Once = Once::new();
    // Without a handler, Ctrl-C ends the process, and the JSON report keeps its rows.
    ONCE.call_once(|| drop(ctrlc::set_handler(interrupt)));
    &CANCEL
}

fn interrupt() {
    if CANCEL.check().is_err() {
        process::exit(EXIT.into());
    }
    CANCEL.cancel();
}
