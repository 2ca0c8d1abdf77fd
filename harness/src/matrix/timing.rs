//! Repeats an encode or decode until its time is reliable.

use std::time::Instant;

use codec_api::Result;

/// A first run longer than this many seconds is not repeated.
const SLOW: f64 = 1.0;
/// Otherwise the work is repeated until the runs have taken this many seconds together, …
const ENOUGH: f64 = 5e-3;
/// … at least this often, …
const LEAST_RUNS: usize = 3;
/// … and at most this often.
const MOST_RUNS: usize = 15;

/// One finished run.
pub(super) struct Run<T> {
    pub(super) result: T,
    pub(super) seconds: f64,
    /// Peak heap in bytes above the start; `None` if the allocator does not count.
    pub(super) peak: Option<u64>,
}

/// Several runs of the same work.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timing {
    /// Median time of a run.
    pub(super) seconds: f64,
    pub(super) runs: u32,
    /// Peak heap of the last run, which excludes tables that a codec computes once per process.
    pub(super) peak: Option<u64>,
}

/// Runs `work` once.
pub(super) fn once<T>(work: impl FnOnce() -> Result<T>) -> Result<Run<T>> {
    let timed = || {
        let start = Instant::now();
        work().map(|result| (result, start.elapsed().as_secs_f64()))
    };
    let (done, peak) = heap::peak(timed);
    let (result, seconds) = done?;
    Ok(Run { result, seconds, peak })
}

/// Times `work` after a warm-up that took `seconds` and had the peak `peak`. Dropping the result of
/// `work` is not part of the measured time.
pub(super) fn repeat<T>((seconds, peak): (f64, Option<u64>), mut work: impl FnMut() -> Result<T>) -> Result<Timing> {
    if seconds > SLOW {
        return Ok(Timing { seconds, runs: 1, peak });
    }
    let (mut times, mut peak) = (Vec::with_capacity(MOST_RUNS), None);
    while times.len() < LEAST_RUNS || (times.len() < MOST_RUNS && times.iter().sum::<f64>() < ENOUGH) {
        let run = once(&mut work)?;
        times.push(run.seconds);
        peak = run.peak;
    }
    Ok(Timing { runs: times.len() as u32, seconds: median(times), peak })
}

/// The median; the mean of the two middle values for an even count, NaN for an empty list.
pub(super) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let n = values.len();
    match n {
        0 => f64::NAN,
        _ if n.is_multiple_of(2) => f64::midpoint(values[n / 2 - 1], values[n / 2]),
        _ => values[n / 2],
    }
}
