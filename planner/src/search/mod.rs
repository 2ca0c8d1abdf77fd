//! The best of many candidates without measuring all of each: successive halving (Jamieson and
//! Talwalkar 2016, "Non-stochastic Best Arm Identification and Hyperparameter Optimization") on
//! growing parts of a text, made exact: what it leaves behind may return.

mod found;
mod known;
mod race;

pub use found::{Dropped, Found, Round};

use std::ops::RangeInclusive;

use crate::choose::{Constraints, Objective};
use crate::profile::Profile;

/// Measures candidates.
pub trait Bench {
    /// What ends the search.
    type Error;

    /// Measures a candidate as far as a stage asks, never [`Stage::Estimate`]. A profile has at
    /// least the bytes on disk; values that the stage does not ask for may be missing. `Err` within
    /// `Ok` says why the candidate cannot be made or run; the search goes on without it.
    ///
    /// # Errors
    /// What ends the search.
    fn measure(&mut self, candidate: usize, stage: Stage) -> Result<Result<Profile, String>, Self::Error>;

    /// The time since the search began, in seconds.
    fn seconds(&self) -> f64;

    /// Hears what a round has decided.
    fn decided(&mut self, round: &Round);
}

/// A candidate before it is measured.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidate {
    /// Its name; equal candidates are decided by it.
    pub name: String,
    /// The least and the most that its bytes on disk will be, if that is known.
    pub bytes: Option<RangeInclusive<u64>>,
    /// Its family and its rate. A family is packed in the same way at several rates. At a higher
    /// rate, a member is larger on disk and in memory, not worse in quality, and not faster; times
    /// of members differ by less than a factor of 1.5, and memory by no more than sizes.
    pub family: Option<(usize, f64)>,
}

/// How far a candidate is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Not at all: its size is estimated.
    Estimate,
    /// Its size.
    Size,
    /// A few requests are timed.
    Quick,
    /// The first windows of the text.
    Windows(usize),
    /// All of the text and all requests.
    Full,
    /// More requests, of which p99 is not chance; only where they decide a limit on time.
    Requests,
}

/// A search.
#[derive(Clone, Copy, Debug)]
pub struct Search {
    /// What the result has to keep.
    pub constraints: Constraints,
    /// Objective to minimise.
    pub objective: Objective,
    /// Windows of the text.
    pub windows: usize,
    /// Whether all candidates are measured in full, in place of a race.
    pub exhaustive: bool,
    /// Seconds after which no candidate but the most promising one is measured.
    pub budget: Option<f64>,
}

/// The first part of the text is one of so many, and each further part is so many times as long.
const PARTS: usize = 16;
const GROWTH: usize = 4;
/// One of so many candidates goes on after the estimate, and after each measurement.
const ESTIMATED: usize = 4;
const MEASURED: usize = 2;

impl Search {
    /// The stages that candidates pass. Requests are timed early only if a limit or the objective
    /// depends on them, the text is read early only if it is long enough to be cut.
    pub fn stages(&self) -> Vec<Stage> {
        if self.exhaustive {
            return self.add_requests(vec![Stage::Full]);
        }
        let mut stages = vec![Stage::Size];
        if self.depends_on_requests() {
            stages.push(Stage::Quick);
        }
        let mut windows = self.windows.div_ceil(PARTS).max(2);
        while self.depends_on_text() && windows < self.windows {
            stages.push(Stage::Windows(windows));
            windows = windows.saturating_mul(GROWTH);
        }
        stages.push(Stage::Full);
        self.add_requests(stages)
    }

    /// Adds [`Stage::Requests`] if there is a limit on time.
    fn add_requests(&self, mut stages: Vec<Stage>) -> Vec<Stage> {
        let Constraints { max_p99_ms, min_tokens_per_s, .. } = self.constraints;
        stages.extend(max_p99_ms.or(min_tokens_per_s).map(|_| Stage::Requests));
        stages
    }

    fn depends_on_requests(&self) -> bool {
        let Constraints { max_p99_ms, min_tokens_per_s, max_memory, .. } = self.constraints;
        let timed = matches!(self.objective, Objective::Cost { .. } | Objective::Latency);
        timed || max_p99_ms.or(min_tokens_per_s).is_some() || max_memory.is_some()
    }

    fn depends_on_text(&self) -> bool {
        let Constraints { max_perplexity_change, max_kl, .. } = self.constraints;
        self.objective == Objective::Quality || max_perplexity_change.or(max_kl).is_some()
    }

    /// Runs the search.
    ///
    /// A candidate is dropped if it misses a limit by the optimistic bound of what was measured. It
    /// waits if another one keeps all limits by the pessimistic bound and is at least as good even
    /// then. These bounds are twice the confidence interval of the text, a factor of 1.5 for times,
    /// of 1.2 for their median, which p99 is not below, and of 1.1 for memory. All of the text and
    /// all requests leave only times open, and only if there is a limit on them: more requests
    /// decide where these bounds do not. Of a family, the
    /// member in the middle is measured first; others are dropped if it follows from its values
    /// that they miss a limit. Of the rest, the better half by the objective goes on, of estimated
    /// ones the better quarter, and the others wait. Those that wait return, the better quarter
    /// first, until a candidate that was measured in full beats them.
    ///
    /// # Errors
    /// Those of the bench.
    pub fn run<B: Bench>(&self, candidates: &[Candidate], bench: &mut B) -> Result<Found, B::Error> {
        race::Race::new(self, candidates).run(bench)
    }
}
