//! The laboratory: measures codecs and prints the pages in `docs/`, and decodes damaged files.
//! `cargo xtask` starts it.

mod calibrated;
mod claims;
mod equal_bytes;
mod formats;
mod lab;
mod levels;
mod made;
mod measure;
mod mutate;
mod packing;
mod patches;
mod process;
mod rate_distortion;
mod stamp;
mod workflows;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
// Links every codec.
use codecs as _;

use crate::lab::Lab;

/// Measurements of Netweight's codecs. Results go to standard output as Markdown.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Args {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Measure packed language models with and without calibration
    Calibrated(calibrated::Options),
    /// Measure what five reports of earlier systems ("seeds") claim
    #[command(after_help = claims::help())]
    Claims {
        /// A seed, `002` or `seed002`; all seeds if left out
        seed: Option<String>,
    },
    /// Measure the formats of fixed size and list the software that reads the same layout
    Formats,
    /// Measure every codec against Shannon's bound; draws the pictures in `docs/`
    RateDistortion,
    /// Compare the error of `trellis` with the error of ggml's formats at equal size
    EqualBytes {
        /// A suite of `netweight bench`; the trained layers in `assets/` if left out
        suite: Option<String>,
    },
    /// Measure the size of patches beside simpler forms, and how fast they apply
    Patches(patches::Options),
    /// Compare files with quality levels with files of one level and the same bytes
    Levels {
        /// A model; the trained layers in `assets/` if left out
        model: Option<PathBuf>,
    },
    /// Decode damaged files of every codec, up to the first panic, slow decode or large allocation
    Mutate(mutate::Options),
    /// Measure time and memory of packing a large model
    Packing(packing::Options),
    /// Measure whole stores of model versions, end to end on disk
    Workflows,
}

/// Measures what a decode allocates.
#[global_allocator]
static HEAP: heap::Counting = heap::Counting;

fn main() -> ExitCode {
    match run(Args::parse().task) {
        Ok(page) => {
            print!("{page}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Measures, and returns the page.
fn run(task: Task) -> Result<String> {
    match task {
        Task::Calibrated(options) => calibrated::page(&Lab::open()?, &options),
        Task::Claims { seed } => claims::pages(&Lab::open()?, seed.as_deref()),
        Task::Formats => formats::page(&Lab::open()?),
        Task::RateDistortion => rate_distortion::page(&Lab::open()?),
        Task::EqualBytes { suite } => Ok(equal_bytes::measure(&Lab::open()?, suite.as_deref())?.text().to_owned()),
        Task::Patches(options) => patches::page(&Lab::open()?, &options),
        Task::Levels { model } => levels::page(&Lab::open()?, model.as_deref()),
        Task::Mutate(options) => mutate::page(&options),
        Task::Packing(options) => packing::page(&Lab::open()?, &options),
        Task::Workflows => workflows::page(&Lab::open()?),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
    }
}
