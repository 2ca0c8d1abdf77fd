//! What `compress`, `decompress` and `verify` share: threads, progress, and targets that are free.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use indicatif::{ProgressBar, ProgressStyle};
use rayon::{ThreadPool, ThreadPoolBuilder};

/// The end of the name of a model in one file.
pub const DENSE: &str = ".safetensors";

/// The time between two lines where there is no bar.
const INTERVAL: Duration = Duration::from_secs(10);

/// The argument `--base` of commands that read packed models.
#[derive(Debug, clap::Args)]
pub struct Bases {
    /// The model that it was packed relative to, if it is not where it was then; a second --base is
    /// the base of a packed base
    #[arg(long = "base", value_name = "PATH")]
    pub bases: Vec<PathBuf>,
}

/// The threads of `--jobs`; one for each core without it.
///
/// # Errors
/// If the system gives no threads.
pub fn pool(jobs: Option<usize>) -> Result<ThreadPool> {
    ThreadPoolBuilder::new().num_threads(jobs.unwrap_or(0)).build().context("cannot start the threads")
}

/// Refuses a file that exists, and a directory that is not empty, unless `force`.
///
/// # Errors
/// With the path and the remedy; if the directory cannot be read.
pub fn check_free(path: &Path, force: bool) -> Result<()> {
    let Ok(metadata) = fs::symlink_metadata(path) else { return Ok(()) };
    if force {
        return Ok(());
    }
    let shown = path.display();
    if !metadata.is_dir() {
        bail!("`{shown}` exists; --force replaces it");
    }
    let mut entries = fs::read_dir(path).with_context(|| format!("cannot read `{shown}`"))?;
    if entries.next().is_some() {
        bail!("`{shown}` is not empty; --force replaces files in it");
    }
    Ok(())
}

/// The share of the weights that are done: a bar if standard error is a terminal, otherwise a line
/// now and then.
#[derive(Debug)]
pub struct Progress {
    bar: ProgressBar,
    last_line: Mutex<Instant>,
}

impl Progress {
    /// A bar for so many weights.
    pub fn new(weights: u64) -> Self {
        let bar = ProgressBar::new(weights);
        if let Ok(style) = ProgressStyle::with_template("{bar:20} {percent:>3} %, {eta} left") {
            bar.set_style(style);
        }
        Self { bar, last_line: Mutex::new(Instant::now()) }
    }
}

impl codec_api::Progress for Progress {
    fn tick(&self, weights: u64) {
        self.bar.inc(weights);
        if !self.bar.is_hidden() {
            return;
        }
        let mut last = self.last_line.lock().unwrap_or_else(PoisonError::into_inner);
        if last.elapsed() >= INTERVAL {
            *last = Instant::now();
            let (done, all) = (self.bar.position(), self.bar.length().unwrap_or(0));
            // Without a reader of standard error the run goes on.
            drop(writeln!(io::stderr(), "{done} of {all} weights, {} %", 100 * done / all.max(1)));
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
