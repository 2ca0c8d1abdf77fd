//! What the commands of packed models share: threads, progress, and targets that are free.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use checkpoint::{Obstacle, PackedTensor};
use indicatif::{ProgressBar, ProgressState, ProgressStyle};
use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::console::{self, INTERVAL, left};

/// The end of the name of a model in one file.
pub const DENSE: &str = ".safetensors";

/// How a command works.
#[derive(Debug, clap::Args)]
pub struct Work {
    /// Number of threads; by default one for each core
    #[arg(short, long, value_name = "N")]
    pub jobs: Option<usize>,
    /// No progress and no summary: only faults, errors and the exit code
    #[arg(short, long)]
    pub quiet: bool,
}

/// The argument `--base` of commands that read packed models.
#[derive(Debug, clap::Args)]
pub struct Bases {
    /// The model that it was packed relative to, if it is not where it was then; a second --base is
    /// the base of a packed base
    #[arg(long = "base", value_name = "PATH")]
    pub bases: Vec<PathBuf>,
}

impl Work {
    /// The threads.
    ///
    /// # Errors
    /// If the system gives none.
    pub fn pool(&self) -> Result<ThreadPool> {
        ThreadPoolBuilder::new().num_threads(self.jobs.unwrap_or(0)).build().context("cannot start the threads")
    }

    /// Progress of so many weights and bytes; `what` says what is done with them.
    pub fn progress(&self, what: &'static str, size: (u64, u64)) -> Progress {
        Progress::new(what, size, self.quiet)
    }
}

/// Number of weights of these tensors, and their bytes when decoded.
pub fn size<'a>(tensors: impl Iterator<Item = PackedTensor<'a>>) -> (u64, u64) {
    let specs = tensors.map(|tensor| tensor.spec());
    specs.fold((0, 0), |(weights, bytes), spec| (weights + spec.elements() as u64, bytes + spec.byte_len() as u64))
}

/// Refuses a file that exists, and a directory that is not empty, unless `force`.
///
/// # Errors
/// With the path and the remedy; if the directory cannot be read.
pub fn check_free(path: &Path, force: bool) -> Result<()> {
    refuse(if force { None } else { Obstacle::at(path)? })
}

/// Refuses what is in the way.
///
/// # Errors
/// With the path and the remedy.
pub fn refuse(obstacle: Option<Obstacle>) -> Result<()> {
    obstacle.map_or(Ok(()), |obstacle| bail!(obstacle.message("--force")))
}

/// The share of the weights that are done, the speed and the remaining time: a bar if standard
/// error is a terminal, otherwise a line now and then.
#[derive(Debug)]
pub struct Progress {
    what: &'static str,
    bar: ProgressBar,
    /// Bytes of a weight.
    width: f64,
    begin: Instant,
    /// `None` for no lines at all.
    last_line: Option<Mutex<Instant>>,
}

impl Progress {
    fn new(what: &'static str, (weights, bytes): (u64, u64), quiet: bool) -> Self {
        let (bar, width) = (if quiet { ProgressBar::hidden() } else { console::bar(weights) }, per(bytes, weights));
        let (begin, last_line) = (Instant::now(), (!quiet).then(|| Mutex::new(Instant::now())));
        if let Ok(style) = ProgressStyle::with_template("{what} {bar:20} {percent:>3} %{speed}") {
            let speed = move |state: &ProgressState, out: &mut dyn fmt::Write| {
                let _ = out.write_str(&speed(state.pos(), state.len().unwrap_or(0), width, state.elapsed()));
            };
            let name = move |_: &ProgressState, out: &mut dyn fmt::Write| {
                let _ = out.write_str(what);
            };
            bar.set_style(style.with_key("speed", speed).with_key("what", name));
        }
        Self { what, bar, width, begin, last_line }
    }
}

fn per(bytes: u64, weights: u64) -> f64 {
    bytes as f64 / weights.max(1) as f64
}

/// Speed and remaining time, behind the share that is done.
fn speed(done: u64, weights: u64, width: f64, elapsed: Duration) -> String {
    let rate = done as f64 * width / elapsed.as_secs_f64().max(1e-3) / 1e6;
    format!(", {rate:.0} MB/s{}", left(done, weights, elapsed))
}

impl codec_api::Progress for Progress {
    fn tick(&self, weights: u64) {
        self.bar.inc(weights);
        let Some(last) = self.last_line.as_ref().filter(|_| self.bar.is_hidden()) else { return };
        let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.elapsed() >= INTERVAL {
            *last = Instant::now();
            let (done, all) = (self.bar.position(), self.bar.length().unwrap_or(0));
            let speed = speed(done, all, self.width, self.begin.elapsed());
            console::line(&format!("{}: {} %{speed}", self.what, 100 * done / all.max(1)));
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        console::remove(&self.bar);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_speed_is_in_bytes_of_the_stored_dtype() {
        assert_eq!(speed(5_000_000, 10_000_000, 2.0, Duration::from_secs(2)), ", 5 MB/s, about 2 s left");
        assert_eq!(speed(0, 0, per(0, 0), Duration::ZERO), ", 0 MB/s");
    }
}
