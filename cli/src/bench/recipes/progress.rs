//! Progress of the model level, on standard error.

use std::cell::Cell;
use std::fmt;
use std::time::Instant;

use indicatif::{ProgressBar, ProgressState, ProgressStyle};

use crate::console::{self, INTERVAL, left};
use crate::text;

/// Tokens that ran, of those of all models: a bar if standard error is a terminal, otherwise a line
/// now and then.
#[derive(Debug)]
pub struct Progress {
    bar: ProgressBar,
    begin: Instant,
    last_line: Cell<Instant>,
}

impl Progress {
    /// For so many tokens.
    pub fn new(tokens: u64) -> Self {
        let bar = console::bar(tokens);
        if let Ok(style) = ProgressStyle::with_template("{bar:20} {percent:>3} %{left}  {wide_msg}") {
            let left = |state: &ProgressState, out: &mut dyn fmt::Write| {
                let _ = out.write_str(&left(state.pos(), state.len().unwrap_or(0), state.elapsed()));
            };
            bar.set_style(style.with_key("left", left));
        }
        Self { bar, begin: Instant::now(), last_line: Cell::new(Instant::now()) }
    }

    /// The recipe that is measured.
    pub fn begin(&self, recipe: &str) {
        self.bar.set_message(text::printable(recipe));
    }

    /// So many tokens ran.
    pub fn add(&self, tokens: u64) {
        self.bar.inc(tokens);
        if self.bar.is_hidden() && self.last_line.get().elapsed() >= INTERVAL {
            self.last_line.set(Instant::now());
            let (done, all) = (self.bar.position(), self.bar.length().unwrap_or(0));
            let left = left(done, all, self.begin.elapsed());
            console::line(&format!("{} %{left}, {}", 100 * done / all.max(1), self.bar.message()));
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        console::remove(&self.bar);
    }
}
