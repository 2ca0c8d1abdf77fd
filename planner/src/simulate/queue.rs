//! One queue before several equal machines, event by event.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

use crate::error::{Error, Result, not_negative};

/// A request that waits for a machine.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Job {
    /// When it arrives, in s.
    pub arrival_s: f64,
    /// How long it takes if it has a machine alone, in s.
    pub alone_s: f64,
    /// How much time of a busy machine it needs, in s.
    pub work_s: f64,
}

/// How requests are put together.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Batching {
    max_size: usize,
    max_wait_s: f64,
}

impl Batching {
    /// Batches of at most `max_size` requests; the first one of a batch waits at most `max_wait_s`
    /// seconds for others if a machine is free.
    ///
    /// # Errors
    /// [`Error::Input`] for batches of none, and for a time that is none.
    pub fn new(max_size: usize, max_wait_s: f64) -> Result<Self> {
        not_negative("max_wait_s", max_wait_s).map_err(Error::Input)?;
        if max_size == 0 {
            return Err(Error::Input("a batch needs at least one request".to_owned()));
        }
        Ok(Self { max_size, max_wait_s })
    }

    /// Every request by itself, as soon as a machine is free.
    pub const NONE: Self = Self { max_size: 1, max_wait_s: 0.0 };

    /// Most requests of a batch.
    pub fn max_size(self) -> usize {
        self.max_size
    }
}

/// What became of the jobs.
#[derive(Clone, Debug, PartialEq)]
pub struct Served {
    /// From arrival to end of each job in s, in their order.
    pub latencies_s: Vec<f64>,
    /// The time that machines worked, summed over all, in s.
    pub busy_s: f64,
    /// The number of batches.
    pub batches: usize,
    /// When the last batch ended, in s.
    pub end_s: f64,
}

/// A time of a heap.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Time(f64);

impl Eq for Time {}

impl Ord for Time {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.total_cmp(&other.0)
    }
}

impl PartialOrd for Time {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Serves jobs, which are in the order of their arrival, first come, first served.
///
/// A batch starts at the first moment at which a machine is free, and the queue has as many
/// requests as a batch may have or its oldest one has waited as long as it may. It takes as long as
/// the longest of its requests takes alone, and no less than the work of all; all of them end with
/// it.
pub fn serve(jobs: &[Job], servers: usize, batching: Batching) -> Served {
    let mut served = Served { latencies_s: Vec::with_capacity(jobs.len()), busy_s: 0.0, batches: 0, end_s: 0.0 };
    // More machines than jobs are never used.
    let mut free: BinaryHeap<_> = (0..servers.clamp(1, jobs.len().max(1))).map(|_| Reverse(Time(0.0))).collect();
    let mut first = 0;
    while let (Some(job), Some(mut next)) = (jobs.get(first), free.peek_mut()) {
        let waited = job.arrival_s + batching.max_wait_s;
        let full = first.checked_add(batching.max_size - 1).and_then(|last| jobs.get(last)).map(|last| last.arrival_s);
        let start = full.map_or(waited, |full| full.min(waited)).max(next.0.0);
        let others = jobs[first + 1..].iter().take(batching.max_size - 1).take_while(|job| job.arrival_s <= start);
        let (size, longest, work) = others.fold((1, job.alone_s, job.work_s), |(size, longest, work), job| {
            (size + 1, longest.max(job.alone_s), work + job.work_s)
        });
        let time = longest.max(work);
        let end = start + time;
        served.latencies_s.extend(jobs[first..first + size].iter().map(|job| end - job.arrival_s));
        (served.busy_s, served.batches, served.end_s) =
            (served.busy_s + time, served.batches + 1, served.end_s.max(end));
        *next = Reverse(Time(end));
        first += size;
    }
    served
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(arrival_s: f64, alone_s: f64, work_s: f64) -> Job {
        Job { arrival_s, alone_s, work_s }
    }

    #[test]
    fn batches_by_hand() {
        // Batches of 3, at most 1 s of waiting, one machine.
        let batching = Batching::new(3, 1.0).unwrap();
        let jobs = [
            // Alone for 1 s, then it takes 2 s: ends at 3.
            job(0.0, 2.0, 1.0),
            // Three at 3, full: as long as their work, 3 s. Ends at 6.
            job(1.5, 2.0, 1.0),
            job(1.6, 2.0, 1.0),
            job(1.7, 2.0, 1.0),
            // Two at 6, the older has waited long enough: the longest of them, 2 s. Ends at 8.
            job(1.8, 1.0, 0.5),
            job(6.0, 2.0, 0.5),
        ];
        let served = serve(&jobs, 1, batching);
        assert_eq!(served.latencies_s, [3.0, 4.5, 4.4, 4.3, 6.2, 2.0]);
        assert_eq!((served.busy_s, served.batches, served.end_s), (7.0, 3, 8.0));
        // A full batch does not wait.
        let full = [job(0.0, 1.0, 0.1), job(0.25, 1.0, 0.1), job(0.5, 1.0, 0.1)];
        assert_eq!(serve(&full, 1, batching).latencies_s, [1.5, 1.25, 1.0]);
    }

    #[test]
    fn machines_take_turns() {
        let jobs = [job(0.0, 3.0, 3.0), job(1.0, 3.0, 3.0), job(2.0, 3.0, 3.0), job(2.5, 1.0, 1.0)];
        let served = serve(&jobs, 2, Batching::NONE);
        assert_eq!(served.latencies_s, [3.0, 3.0, 4.0, 2.5]);
        assert_eq!(serve(&jobs, usize::MAX, Batching::NONE).latencies_s, [3.0, 3.0, 3.0, 1.0]);
        assert_eq!(serve(&[], 2, Batching::NONE).end_s, 0.0);
        let wide = Batching::new(usize::MAX, 0.5).unwrap();
        assert_eq!(serve(&jobs, 1, wide).batches, 2);
        assert!(Batching::new(0, 0.0).is_err() && Batching::new(1, f64::NAN).is_err());
    }
}
