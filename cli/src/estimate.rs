//! `netweight compress --dry-run`: size, time and memory, from a few pieces of the model.

use std::io::Write;
use std::time::{Duration, Instant};

use anyhow::Result;
use checkpoint::{Plan, Sample, Trial, TrialCost};
use codec_api::{CodecError, Registry};
use rayon::ThreadPool;
use rayon::prelude::*;

use crate::text;

/// The time in which a quick sample is repeated.
const REPEATED: Duration = Duration::from_millis(50);

/// Encodes samples on the threads that `compress` would use, and prints what follows from them.
/// `planning` is the time that the plan has taken.
///
/// # Errors
/// If the source cannot be read, a codec fails, or the output cannot be written.
pub fn print(
    plan: &Plan,
    planning: Duration,
    pool: &ThreadPool,
    registry: &Registry,
    out: &mut dyn Write,
) -> Result<()> {
    let samples = plan.samples(registry)?;
    let trials: Vec<Trial> = pool.install(|| {
        let tried = samples.par_iter().map(|sample| measure(plan, sample, registry));
        tried.collect::<Result<_>>()
    })?;
    let found = plan.estimate(&trials, pool.current_num_threads(), registry)?;
    let mut dense = 0;
    for share in &found.shares {
        let (tensors, spec) = (text::count(share.tensors, "tensor"), registry.spec_of(&*share.codec));
        let (before, after) = (text::size(share.dense_bytes), text::size(share.bytes));
        writeln!(out, "{}: {tensors}, {before} to {after}", text::printable(&spec))?;
        dense += share.dense_bytes;
    }
    let ratio = dense as f64 / found.file_bytes.max(1) as f64;
    writeln!(out, "all: {} to {}, ratio {ratio:.2}", text::size(dense), text::size(found.file_bytes))?;
    if let Some(most) = plan.max_shard_size().filter(|most| *most < found.file_bytes) {
        let files = usize::try_from(found.file_bytes.div_ceil(most))?;
        writeln!(out, "in about {} of at most {}", text::count(files, "file"), text::size(most))?;
    }
    let memory = text::size(found.peak_bytes);
    writeln!(
        out,
        "about {} s and {memory} of memory, with {}",
        seconds(planning.as_secs_f64() + found.seconds),
        text::count(pool.current_num_threads(), "thread")
    )?;
    writeln!(out, "estimated from {} weights; nothing was written", found.tried)?;
    Ok(())
}

/// Seconds, with two decimals if there are few.
fn seconds(seconds: f64) -> String {
    if seconds < 10.0 { format!("{seconds:.2}") } else { format!("{seconds:.0}") }
}

/// Encodes a sample. A quick one runs several times, since the first run also loads code and data.
fn measure(plan: &Plan, sample: &Sample, registry: &Registry) -> Result<Trial> {
    let mut trial = measure_once(plan, sample, registry)?;
    let begin = Instant::now();
    while sample.is_timed() && begin.elapsed() < REPEATED {
        let again = measure_once(plan, sample, registry)?;
        if again.cost.seconds() < trial.cost.seconds() {
            trial = again;
        }
    }
    Ok(trial)
}

fn measure_once(plan: &Plan, sample: &Sample, registry: &Registry) -> Result<Trial> {
    let begin = Instant::now();
    let (statistics, first) = heap::peak(|| plan.survey_sample(sample, registry));
    let (statistics, survey, begin) = (statistics?, begin.elapsed().as_secs_f64(), Instant::now());
    let (trial, second) = heap::peak(|| plan.encode_sample(sample, &statistics, registry));
    let (mut trial, encode, begin) = (trial?, begin.elapsed().as_secs_f64(), Instant::now());
    let (same, check_heap) = heap::peak(|| trial.check());
    if !same? {
        return Err(CodecError::corrupt("*", "a sample does not decode to the same values twice").into());
    }
    let check = begin.elapsed().as_secs_f64();
    let (heap, check_heap) = (first.max(second).unwrap_or(0), check_heap.unwrap_or(0));
    trial.cost = TrialCost { survey, encode, check, heap, check_heap };
    Ok(trial)
}
