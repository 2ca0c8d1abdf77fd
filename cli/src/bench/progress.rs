//! Progress of a run, on standard error.

use std::fmt;
use std::time::{Duration, Instant};

use harness::matrix::{Observer, Row};
use indicatif::{ProgressBar, ProgressState, ProgressStyle};

use crate::console::{self, INTERVAL, left};
use crate::text;

/// A bar if standard error is a terminal, otherwise a line now and then.
#[derive(Debug)]
pub struct Progress {
    bar: ProgressBar,
    begin: Instant,
    last_line: Instant,
}

impl Progress {
    /// Nothing is shown yet.
    pub fn new() -> Self {
        let now = Instant::now();
        Self { bar: ProgressBar::hidden(), begin: now, last_line: now }
    }
}

impl Observer for Progress {
    fn start(&mut self, cells: usize) {
        *self = Self { bar: console::bar(cells as u64), ..Self::new() };
        if let Ok(style) = ProgressStyle::with_template("{bar:20} {pos}/{len} cells{left}  {wide_msg}") {
            let left = |state: &ProgressState, out: &mut dyn fmt::Write| {
                let _ = out.write_str(&left(state.pos(), state.len().unwrap_or(0), state.elapsed()));
            };
            self.bar.set_style(style.with_key("left", left));
        }
    }

    fn begin(&mut self, tensor: &str, codec: &str) {
        self.bar.set_message(format!("{}  {codec}", text::printable(tensor)));
    }

    fn finish(&mut self, _: &Row) {
        self.bar.inc(1);
        if self.bar.is_hidden() && self.last_line.elapsed() >= INTERVAL {
            self.last_line = Instant::now();
            let (done, cells) = (self.bar.position(), self.bar.length().unwrap_or(0));
            console::line(&line(done, cells, self.begin.elapsed()));
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        console::remove(&self.bar);
    }
}

fn line(done: u64, cells: u64, elapsed: Duration) -> String {
    let percent = 100 * done / cells.max(1);
    format!("{done}/{cells} cells, {percent} %{}", left(done, cells, elapsed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_how_far_the_run_is() {
        assert_eq!(line(20, 80, Duration::from_secs(10)), "20/80 cells, 25 %, about 30 s left");
        assert_eq!(line(0, 0, Duration::ZERO), "0/0 cells, 0 %");
    }
}
