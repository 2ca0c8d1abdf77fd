//! What a search finds.

use super::Stage;
use crate::choose::{Constraints, Near};
use crate::limit::Miss;
use crate::profile::Profile;

/// Why a candidate does not go on.
#[derive(Clone, Debug, PartialEq)]
pub enum Dropped {
    /// It cannot be made or run.
    Failed(String),
    /// It misses limits.
    Misses(Vec<Miss>),
    /// It is of the family of this one, and therefore misses a limit.
    Like(usize),
    /// This one is better and keeps all limits.
    Beaten(usize),
    /// It waits: better ones go first.
    Waits,
}

/// What was measured at a stage, and what followed from it.
#[derive(Clone, Debug, PartialEq)]
pub struct Round {
    /// The stage.
    pub stage: Stage,
    /// The candidates that were measured.
    pub measured: Vec<usize>,
    /// The time that this took, in seconds.
    pub seconds: f64,
    /// Those that do not go on, and why.
    pub dropped: Vec<(usize, Dropped)>,
}

/// The result of a search.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// The best candidate that was measured in full and keeps all limits.
    pub winner: Option<usize>,
    /// What was measured of each candidate, if anything was; the key is that of the last stage.
    pub profiles: Vec<Option<Profile>>,
    /// Which of them were measured in full.
    pub full: Vec<bool>,
    /// All rounds.
    pub rounds: Vec<Round>,
    /// Whether the budget ended before the search.
    pub out_of_time: bool,
}

impl Found {
    /// The candidates that miss limits, the nearest first. A value that was not measured, because
    /// of another miss, is no miss.
    pub fn nearest(&self, constraints: &Constraints) -> Vec<Near> {
        let misses = |profile: &Option<Profile>| {
            let misses = constraints.misses(profile.as_ref()?).into_iter();
            Some(misses.filter(|miss| miss.found.is_some()).collect::<Vec<_>>()).filter(|misses| !misses.is_empty())
        };
        let all = self.profiles.iter().enumerate();
        let mut near: Vec<_> = all.filter_map(|(index, own)| Some(Near { index, misses: misses(own)? })).collect();
        near.sort_by(|a, b| a.by().total_cmp(&b.by()).then(a.index.cmp(&b.index)));
        near
    }
}
