//! Standard error: log lines, progress, the last error.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anstream::{AutoStream, ColorChoice};
use indicatif::{MultiProgress, ProgressBar};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::format::FmtSpan;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// The bars on the terminal; hidden if standard error is no terminal, or a dumb one.
static BARS: LazyLock<MultiProgress> = LazyLock::new(MultiProgress::new);

/// Whether every line is a JSON object.
static JSON: AtomicBool = AtomicBool::new(false);

/// The time between two lines where there is no bar.
pub const INTERVAL: Duration = Duration::from_secs(10);

/// Time and steps that an estimate of the remaining time needs.
const BASIS: (Duration, u64) = (Duration::from_secs(2), 3);

/// Standard error for log lines: they appear above the bar.
#[derive(Debug)]
struct Log;

impl Write for Log {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        BARS.suspend(|| io::stderr().write(text))
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

/// Starts the log. `RUST_LOG` overrides `verbose`: a level, or several `TARGET=LEVEL`. Colours
/// follow the rules of clap's messages: a terminal, and no `NO_COLOR`, `CLICOLOR=0` or `TERM=dumb`.
/// With `json`, every line of standard error is a JSON object, and the steps of the work are logged
/// too.
pub fn start(verbose: u8, json: bool) {
    JSON.store(json, Ordering::Relaxed);
    let level = match verbose {
        0 if json => LevelFilter::INFO,
        0 => LevelFilter::WARN,
        1 => LevelFilter::DEBUG,
        _ => LevelFilter::TRACE,
    };
    let asked = std::env::var("RUST_LOG").ok().and_then(|asked| asked.parse().ok());
    let filter = asked.unwrap_or_else(|| Targets::new().with_default(level));
    let log = tracing_subscriber::fmt().with_max_level(LevelFilter::TRACE).with_span_events(FmtSpan::CLOSE);
    let log = log.with_ansi(!json && AutoStream::choice(&io::stderr()) != ColorChoice::Never).with_writer(|| Log);
    if json { log.json().finish().with(filter).init() } else { log.finish().with(filter).init() }
}

/// A line on standard error; an event of the log if that is JSON.
pub fn line(text: &str) {
    if JSON.load(Ordering::Relaxed) {
        tracing::info!("{text}");
    } else {
        // Without a reader of standard error the run goes on.
        drop(writeln!(io::stderr(), "{text}"));
    }
}

/// The error that ends the program.
pub fn error(text: &str) {
    if JSON.load(Ordering::Relaxed) {
        tracing::error!("{text}");
    } else {
        line(&format!("error: {text}"));
    }
}

/// A bar of so many steps; hidden without a terminal and with a log in JSON.
pub fn bar(steps: u64) -> ProgressBar {
    let bar = if JSON.load(Ordering::Relaxed) { ProgressBar::hidden() } else { BARS.add(ProgressBar::new(steps)) };
    bar.set_length(steps);
    bar
}

/// Ends a bar.
pub fn remove(bar: &ProgressBar) {
    bar.finish_and_clear();
    BARS.remove(bar);
}

/// The estimated remaining time, as text behind the count of steps; empty without a basis.
pub fn left(done: u64, steps: u64, elapsed: Duration) -> String {
    let mut text = String::new();
    if elapsed >= BASIS.0 && done >= BASIS.1 && done < steps {
        let seconds = elapsed.as_secs_f64() / done as f64 * (steps - done) as f64;
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
}
