//! Progress of a run, on standard error.

use std::fmt::{self, Write as _};
use std::io::{self, Write};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use harness::matrix::{Observer, Row};
use indicatif::{MultiProgress, ProgressBar, ProgressState, ProgressStyle};

use crate::text;

/// The bars on the terminal; hidden if standard error is no terminal, or a dumb one.
static BARS: LazyLock<MultiProgress> = LazyLock::new(MultiProgress::new);

/// The time between two lines where there is no bar.
const INTERVAL: Duration = Duration::from_secs(10);

/// Time and cells that an estimate of the remaining time needs.
const BASIS: (Duration, u64) = (Duration::from_secs(2), 3);

/// Standard error for log lines: they appear above the bar.
#[derive(Debug)]
pub struct Log;

impl Write for Log {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        BARS.suspend(|| io::stderr().write(text))
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

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
        *self = Self { bar: BARS.add(ProgressBar::new(cells as u64)), ..Self::new() };
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
            // Without a reader of standard error the run goes on.
            drop(writeln!(io::stderr(), "{}", line(done, cells, self.begin.elapsed())));
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
        BARS.remove(&self.bar);
    }
}

fn line(done: u64, cells: u64, elapsed: Duration) -> String {
    let percent = 100 * done / cells.max(1);
    format!("{done}/{cells} cells, {percent} %{}", left(done, cells, elapsed))
}

/// The estimated remaining time, as text behind the count of cells; empty without a basis.
fn left(done: u64, cells: u64, elapsed: Duration) -> String {
    let mut text = String::new();
    if elapsed >= BASIS.0 && done >= BASIS.1 && done < cells {
        let seconds = elapsed.as_secs_f64() / done as f64 * (cells - done) as f64;
        let _ = match seconds.ceil() as u64 {
            seconds @ 0..100 => write!(text, ", about {seconds} s left"),
            seconds @ 100..6000 => write!(text, ", about {} min left", seconds.div_ceil(60)),
            seconds => write!(text, ", about {} h left", seconds.div_ceil(3600)),
        };
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_remaining_time_has_a_basis() {
        let after = |done, seconds| left(done, 100, Duration::from_secs(seconds));
        assert_eq!([after(0, 60), after(2, 60), after(50, 1), after(100, 60)], [""; 4]);
        assert_eq!(after(50, 20), ", about 20 s left");
        assert_eq!(after(50, 600), ", about 10 min left");
        assert_eq!(after(10, 3600), ", about 9 h left");
    }

    #[test]
    fn a_line_says_how_far_the_run_is() {
        assert_eq!(line(20, 80, Duration::from_secs(10)), "20/80 cells, 25 %, about 30 s left");
        assert_eq!(line(0, 0, Duration::ZERO), "0/0 cells, 0 %");
    }
}
