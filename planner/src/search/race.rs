//! The race of candidates.

use std::cmp::Ordering;

use super::known::Known;
use super::{Bench, Search, Stage};
use crate::limit::Miss;
use crate::profile::Profile;

/// Why a candidate does not go on.
#[derive(Clone, Debug, PartialEq)]
pub enum Dropped {
    /// It cannot be made or run.
    Failed(String),
    /// It misses limits.
    Misses(Vec<Miss>),
    /// This one is better and keeps all limits.
    Beaten(usize),
    /// It waits: the better half goes on first.
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
    /// What is known of each candidate; `None` for those that failed.
    pub profiles: Vec<Option<Profile>>,
    /// Which of them were measured in full.
    pub full: Vec<bool>,
    /// All rounds.
    pub rounds: Vec<Round>,
    /// Whether the budget ended before the search.
    pub out_of_time: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Racing,
    Waiting,
    /// Out of the race, or measured in full.
    Done,
}

/// A candidate in the race.
#[derive(Debug)]
struct Runner {
    state: State,
    /// Stages that it has passed.
    passed: usize,
    known: Option<Known>,
}

pub(super) struct Race<'a> {
    search: &'a Search,
    names: &'a [String],
    stages: Vec<Stage>,
    runners: Vec<Runner>,
    rounds: Vec<Round>,
    out_of_time: bool,
}

impl<'a> Race<'a> {
    pub(super) fn new(search: &'a Search, names: &'a [String]) -> Self {
        let runners = names.iter().map(|_| Runner { state: State::Racing, passed: 0, known: None }).collect();
        Self { search, names, stages: search.stages(), runners, rounds: Vec::new(), out_of_time: false }
    }

    pub(super) fn run<B: Bench>(mut self, bench: &mut B) -> Result<Found, B::Error> {
        while let Some((stage, group)) = self.next_group() {
            self.round(stage, &group, true, bench)?;
            if self.out_of_time {
                let best = self.most_promising().filter(|_| self.winner().is_none());
                if let Some(best) = best {
                    self.round(Stage::Full, &[best], false, bench)?;
                }
                break;
            }
        }
        let winner = self.winner();
        let is_full = |runner: &Runner| runner.known.as_ref().is_some_and(|known| known.full);
        let full = self.runners.iter().map(is_full).collect();
        let profiles = self.runners.into_iter().map(|runner| runner.known.map(|known| known.profile)).collect();
        Ok(Found { winner, profiles, full, rounds: self.rounds, out_of_time: self.out_of_time })
    }

    /// Those that race and are the furthest behind, and their next stage. If none races, those that
    /// wait and may still win return.
    fn next_group(&mut self) -> Option<(Stage, Vec<usize>)> {
        if !self.any(State::Racing) {
            for index in 0..self.runners.len() {
                if self.runners[index].state == State::Waiting {
                    let beaten = self.beaten_by(index).is_some_and(|(_, full)| full);
                    self.runners[index].state = if beaten { State::Done } else { State::Racing };
                }
            }
        }
        let racing = || self.runners.iter().enumerate().filter(|(_, runner)| runner.state == State::Racing);
        let behind = racing().map(|(_, runner)| runner.passed).min()?;
        let group = racing().filter(|(_, runner)| runner.passed == behind).map(|(index, _)| index).collect();
        Some((self.stages[behind], group))
    }

    fn any(&self, state: State) -> bool {
        self.runners.iter().any(|runner| runner.state == state)
    }

    /// Measures candidates and decides which of them go on. With `timed`, nothing is begun after the
    /// budget.
    fn round<B: Bench>(&mut self, stage: Stage, group: &[usize], timed: bool, bench: &mut B) -> Result<(), B::Error> {
        let begin = bench.seconds();
        let (mut measured, mut dropped) = (Vec::new(), Vec::new());
        for &index in group {
            self.out_of_time |= self.search.budget.is_some_and(|budget| bench.seconds() >= budget);
            if self.out_of_time && timed {
                break;
            }
            let found = bench.measure(index, stage)?;
            measured.push(index);
            let runner = &mut self.runners[index];
            runner.passed = self.stages.iter().position(|own| *own == stage).map_or(runner.passed, |at| at + 1);
            match found {
                Ok(profile) => {
                    runner.known = Some(Known::after(profile, stage == Stage::Full, runner.known.as_ref()));
                }
                Err(reason) => {
                    (runner.state, runner.known) = (State::Done, None);
                    dropped.push((index, Dropped::Failed(reason)));
                }
            }
        }
        self.drop_hopeless(&measured, &mut dropped);
        if stage != Stage::Full {
            self.halve(&measured, &mut dropped);
        }
        let round = Round { stage, measured, seconds: bench.seconds() - begin, dropped };
        bench.decided(&round);
        self.rounds.push(round);
        Ok(())
    }

    /// Ends the race for those that miss limits or were measured in full; those that another one
    /// beats wait.
    fn drop_hopeless(&mut self, measured: &[usize], dropped: &mut Vec<(usize, Dropped)>) {
        for &index in measured {
            let runner = &mut self.runners[index];
            let Some(known) = &runner.known else { continue };
            let misses = known.surely_misses(&self.search.constraints);
            if known.full || !misses.is_empty() {
                runner.state = State::Done;
            }
            if !misses.is_empty() {
                dropped.push((index, Dropped::Misses(misses)));
            }
        }
        for index in 0..self.runners.len() {
            if self.runners[index].state != State::Racing {
                continue;
            }
            if let Some((by, _)) = self.beaten_by(index) {
                self.runners[index].state = State::Waiting;
                dropped.push((index, Dropped::Beaten(by)));
            }
        }
    }

    /// A candidate that surely keeps all limits and surely is better than this one, and whether it
    /// was measured in full.
    fn beaten_by(&self, index: usize) -> Option<(usize, bool)> {
        let Search { constraints, objective, .. } = self.search;
        let (best_case, _) = self.runners[index].known.as_ref()?.objective(*objective);
        let others = self.runners.iter().enumerate().filter(|(other, _)| *other != index);
        let beats = others.filter_map(|(other, runner)| {
            let known = runner.known.as_ref().filter(|known| known.surely_keeps(constraints))?;
            let (_, worst_case) = known.objective(*objective);
            let order = worst_case.total_cmp(&best_case).then_with(|| self.names[other].cmp(&self.names[index]));
            (order == Ordering::Less).then_some((other, known.full, worst_case))
        });
        // One that was measured in full ends the matter.
        let best = beats.min_by(|a, b| b.1.cmp(&a.1).then(a.2.total_cmp(&b.2)))?;
        Some((best.0, best.1))
    }

    /// Lets the better half by the objective go on, and the others wait.
    fn halve(&mut self, measured: &[usize], dropped: &mut Vec<(usize, Dropped)>) {
        let is_racing = |index: &usize| self.runners[*index].state == State::Racing;
        let mut racing: Vec<usize> = measured.iter().copied().filter(is_racing).collect();
        if racing.iter().any(|index| self.value(*index).is_none()) {
            return;
        }
        racing.sort_by(|a, b| self.order(*a, *b));
        for index in racing.split_off(racing.len().div_ceil(2)) {
            self.runners[index].state = State::Waiting;
            dropped.push((index, Dropped::Waits));
        }
    }

    fn value(&self, index: usize) -> Option<f64> {
        let known = self.runners[index].known.as_ref()?;
        self.search.objective.value(&known.profile).filter(|value| !value.is_nan())
    }

    /// By the objective, then by name; unknown values last.
    fn order(&self, a: usize, b: usize) -> Ordering {
        let value = |index| self.value(index).unwrap_or(f64::INFINITY);
        value(a).total_cmp(&value(b)).then_with(|| self.names[a].cmp(&self.names[b]))
    }

    /// The best by what is known so far of those that may still win: those that surely keep all
    /// limits first.
    fn most_promising(&self) -> Option<usize> {
        let known = |index: &usize| self.runners[*index].known.as_ref();
        let open = (0..self.runners.len()).filter(|index| self.runners[*index].state != State::Done);
        let unsure = |index: &usize| !known(index).is_some_and(|known| known.surely_keeps(&self.search.constraints));
        let all: Vec<_> = open.filter(|index| known(index).is_some()).collect();
        all.into_iter().min_by(|a, b| unsure(a).cmp(&unsure(b)).then_with(|| self.order(*a, *b)))
    }

    /// The best of those that were measured in full and keep all limits.
    fn winner(&self) -> Option<usize> {
        let keeps = |index: &usize| {
            let known = self.runners[*index].known.as_ref();
            known.is_some_and(|known| known.full && known.surely_keeps(&self.search.constraints))
        };
        let all = (0..self.runners.len()).filter(|index| keeps(index) && self.value(*index).is_some());
        all.min_by(|a, b| self.order(*a, *b))
    }
}
