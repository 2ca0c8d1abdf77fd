//! Repeats one encode or decode until its time can be trusted.

use std::time::Instant;

use codec_api::Result;

/// A cell whose first run takes longer than this many seconds is not run again.
const SLOW: f64 = 1.0;
/// Otherwise it is run until it has taken this many seconds all together …
const ENOUGH: f64 = 5e-3;
/// … and at least so often …
const LEAST_RUNS: usize = 3;
/// … but not more often than this.
const MOST_RUNS: usize = 15;

/// One finished run.
pub(super) struct Run<T> {
    pub(super) result: T,
    pub(super) seconds: f64,
    /// Peak heap above the start, if the program's allocator counts.
    pub(super) peak: Option<u64>,
}

/// Several runs of the same work.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timing {
    /// Median.
    pub(super) seconds: f64,
    pub(super) runs: u32,
    /// Peak heap of the last run: tables that a codec makes once for the process are not in it.
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

/// Times `work`, whose warm-up took `seconds` and had this `peak`. What it returns is dropped outside the
/// measured time.
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

/// The middle value, or the mean of the two in the middle; NaN if there is none.
pub(super) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let n = values.len();
    match n {
        0 => f64::NAN,
        _ if n.is_multiple_of(2) => f64::midpoint(values[n / 2 - 1], values[n / 2]),
        _ => values[n / 2],
    }
}
