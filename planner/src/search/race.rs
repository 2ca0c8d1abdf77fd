//! The race of candidates.

use std::cmp::Ordering;

use super::known::Known;
use super::{Bench, Candidate, Dropped, ESTIMATED, Found, MEASURED, Round, Search, Stage};
use crate::choose::Objective;
use crate::limit::Limit;

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
    /// Stages that it has passed; one that has passed none is only estimated.
    passed: usize,
    known: Known,
}

pub(super) struct Race<'a> {
    search: &'a Search,
    candidates: &'a [Candidate],
    stages: Vec<Stage>,
    runners: Vec<Runner>,
    rounds: Vec<Round>,
    out_of_time: bool,
}

impl<'a> Race<'a> {
    pub(super) fn new(search: &'a Search, candidates: &'a [Candidate]) -> Self {
        let runner = |candidate: &Candidate| Runner {
            state: State::Racing,
            passed: 0,
            known: Known::estimated(candidate.bytes.as_ref()),
        };
        let runners = candidates.iter().map(runner).collect();
        Self { search, candidates, stages: search.stages(), runners, rounds: Vec::new(), out_of_time: false }
    }

    pub(super) fn run<B: Bench>(mut self, bench: &mut B) -> Result<Found, B::Error> {
        if !self.search.exhaustive {
            let all: Vec<_> = (0..self.runners.len()).collect();
            self.decide(Stage::Estimate, all, 0.0, Vec::new(), bench);
        }
        while let Some((stage, group)) = self.next_group() {
            self.round(stage, &group, true, bench)?;
            if self.out_of_time {
                if let Some(best) = self.most_promising().filter(|_| self.winner().is_none()) {
                    self.measure_in_full(best, bench)?;
                }
                break;
            }
        }
        let winner = self.winner();
        let full = self.runners.iter().map(|runner| runner.known.full).collect();
        let profiles = self.runners.into_iter().map(|runner| runner.known.profile).collect();
        Ok(Found { winner, profiles, full, rounds: self.rounds, out_of_time: self.out_of_time })
    }

    /// Measures a candidate in full, whatever it costs.
    fn measure_in_full<B: Bench>(&mut self, index: usize, bench: &mut B) -> Result<(), B::Error> {
        let rest = self.stages.iter().copied().skip(self.runners[index].passed);
        for stage in rest.filter(|stage| *stage >= Stage::Full).collect::<Vec<_>>() {
            if self.runners[index].state != State::Done {
                self.round(stage, &[index], false, bench)?;
            }
        }
        Ok(())
    }

    /// Those that race and are the furthest behind, and their next stage.
    fn next_group(&mut self) -> Option<(Stage, Vec<usize>)> {
        if !self.runners.iter().any(|runner| runner.state == State::Racing) {
            self.call_back();
        }
        let ready: Vec<_> = (0..self.runners.len()).filter(|index| self.is_ready(*index)).collect();
        let behind = ready.iter().map(|index| self.runners[*index].passed).min()?;
        let group = ready.into_iter().filter(|index| self.runners[*index].passed == behind).collect();
        Some((self.stages[behind], group))
    }

    /// Lets the better quarter of those that wait and may still win return; if the best of them is
    /// packed, those that are not wait on.
    fn call_back(&mut self) {
        let is_waiting = |index: &usize| self.runners[*index].state == State::Waiting;
        let waiting = (0..self.runners.len()).filter(is_waiting);
        let (beaten, mut open): (Vec<_>, Vec<_>) =
            waiting.partition(|index| self.beaten_by(*index).is_some_and(|(_, full)| full));
        open.sort_by(|a, b| self.order(*a, *b));
        open.truncate(open.len().div_ceil(ESTIMATED));
        let is_packed = |index: &usize| self.runners[*index].passed > 0;
        if open.first().is_some_and(is_packed) {
            open.retain(is_packed);
        }
        for index in beaten {
            self.runners[index].state = State::Done;
        }
        for index in open {
            self.runners[index].state = State::Racing;
        }
    }

    /// Whether a candidate is measured next. Of the members of a family that are not measured yet,
    /// the one in the middle is, unless another member is in the race whose outcome is open.
    fn is_ready(&self, index: usize) -> bool {
        let is_racing = |index: &usize| self.runners[*index].state == State::Racing;
        let is_new = |index: &usize| self.runners[*index].passed == 0;
        if !is_racing(&index) || !is_new(&index) || self.search.exhaustive {
            return is_racing(&index);
        }
        let Some((family, _)) = self.candidates[index].family else { return true };
        let mut members: Vec<_> = self.family(family).filter(is_racing).collect();
        let keeps = |member: &usize| self.runners[*member].known.surely_keeps(&self.search.constraints);
        if members.iter().any(|member| !is_new(member) && !keeps(member)) {
            return false;
        }
        members.retain(is_new);
        members.sort_by(|a, b| self.rate(*a).total_cmp(&self.rate(*b)));
        members.get(members.len() / 2) == Some(&index)
    }

    fn family(&self, family: usize) -> impl Iterator<Item = usize> {
        let is_member = move |candidate: &Candidate| candidate.family.is_some_and(|(own, _)| own == family);
        self.candidates.iter().enumerate().filter(move |(_, one)| is_member(one)).map(|(index, _)| index)
    }

    fn rate(&self, index: usize) -> f64 {
        self.candidates[index].family.map_or(0.0, |(_, rate)| rate)
    }

    /// Measures candidates and decides which of them go on; with `within_budget`, none is begun
    /// after the budget.
    fn round<B: Bench>(
        &mut self,
        stage: Stage,
        group: &[usize],
        within_budget: bool,
        bench: &mut B,
    ) -> Result<(), B::Error> {
        let begin = bench.seconds();
        let (mut measured, mut dropped) = (Vec::new(), Vec::new());
        for &index in group {
            self.out_of_time |= self.search.budget.is_some_and(|budget| bench.seconds() >= budget);
            if self.out_of_time && within_budget {
                break;
            }
            let found = bench.measure(index, stage)?;
            measured.push(index);
            let runner = &mut self.runners[index];
            runner.passed = self.stages.iter().position(|own| *own == stage).map_or(runner.passed, |at| at + 1);
            match found {
                Ok(profile) => runner.known.add(&profile, stage, runner.passed == self.stages.len()),
                Err(reason) => {
                    (runner.state, runner.known) = (State::Done, Known::default());
                    dropped.push((index, Dropped::Failed(reason)));
                }
            }
        }
        self.decide(stage, measured, bench.seconds() - begin, dropped, bench);
        Ok(())
    }

    /// Decides who goes on after a round.
    fn decide<B: Bench>(
        &mut self,
        stage: Stage,
        measured: Vec<usize>,
        seconds: f64,
        mut dropped: Vec<(usize, Dropped)>,
        bench: &mut B,
    ) {
        if stage == Stage::Quick {
            for index in &measured {
                self.lend(*index, &mut dropped);
            }
        }
        self.drop_hopeless(&measured, &mut dropped);
        self.drop_beaten(&mut dropped);
        match stage {
            Stage::Estimate => self.keep_best(&measured, ESTIMATED, &mut dropped),
            Stage::Full | Stage::Requests => {}
            _ => self.keep_best(&measured, MEASURED, &mut dropped),
        }
        let round = Round { stage, measured, seconds, dropped };
        bench.decided(&round);
        self.rounds.push(round);
    }

    /// The members of a family that are not measured yet take the times and the memory of one that
    /// is, and race only if they may keep the limits.
    fn lend(&mut self, index: usize, dropped: &mut Vec<(usize, Dropped)>) {
        let Some((family, _)) = self.candidates[index].family else { return };
        let (known, others) = (self.runners[index].known.clone(), self.family(family).collect::<Vec<_>>());
        for other in others {
            let higher = self.rate(other) > self.rate(index);
            let runner = &mut self.runners[other];
            if runner.passed > 0 || runner.state == State::Done {
                continue;
            }
            runner.known.borrow(&known, higher);
            if !runner.known.surely_misses(&self.search.constraints).is_empty() {
                runner.state = State::Done;
                dropped.push((other, Dropped::Like(index)));
            }
        }
    }

    /// Ends the race for those that miss limits or of which nothing is open, and for members of their
    /// families that therefore miss the same limits.
    fn drop_hopeless(&mut self, measured: &[usize], dropped: &mut Vec<(usize, Dropped)>) {
        for &index in measured {
            let misses = self.runners[index].known.surely_misses(&self.search.constraints);
            let Runner { passed, known, .. } = &self.runners[index];
            let is_last = *passed == self.stages.len();
            let is_settled = known.is_settled(&self.search.constraints, self.search.objective);
            if is_last || is_settled || !misses.is_empty() {
                self.runners[index].state = State::Done;
            }
            if misses.iter().any(|miss| matches!(miss.limit, Limit::Kl | Limit::PerplexityChange)) {
                self.drop_siblings(index, Ordering::Less, dropped);
            }
            let is_large = misses.iter().any(|miss| matches!(miss.limit, Limit::Memory | Limit::Size));
            if is_large || self.runners[index].known.is_slow(&self.search.constraints) {
                self.drop_siblings(index, Ordering::Greater, dropped);
            }
            if !misses.is_empty() {
                dropped.push((index, Dropped::Misses(misses)));
            }
        }
    }

    /// Ends the race for members of a family whose rates are lower or higher than that of this one
    /// and that are not measured yet.
    fn drop_siblings(&mut self, of: usize, side: Ordering, dropped: &mut Vec<(usize, Dropped)>) {
        let Some((family, rate)) = self.candidates[of].family else { return };
        for index in self.family(family).collect::<Vec<_>>() {
            let runner = &self.runners[index];
            let is_new = runner.passed == 0 && runner.state != State::Done;
            if is_new && self.rate(index).total_cmp(&rate) == side {
                self.runners[index].state = State::Done;
                dropped.push((index, Dropped::Like(of)));
            }
        }
    }

    /// Those that another one beats wait.
    fn drop_beaten(&mut self, dropped: &mut Vec<(usize, Dropped)>) {
        for index in 0..self.runners.len() {
            if self.runners[index].state == State::Racing
                && let Some((by, _)) = self.beaten_by(index)
            {
                self.runners[index].state = State::Waiting;
                dropped.push((index, Dropped::Beaten(by)));
            }
        }
    }

    /// A candidate that surely keeps all limits and surely is better than this one, and whether it
    /// was measured in full.
    fn beaten_by(&self, index: usize) -> Option<(usize, bool)> {
        let Search { constraints, objective, .. } = self.search;
        let others = self.runners.iter().enumerate().filter(|(other, _)| *other != index);
        let beats = others.filter_map(|(other, runner)| {
            let known = Some(&runner.known).filter(|known| known.surely_keeps(constraints))?;
            let worst_case = known.objective(*objective)?.high;
            (self.is_better_sibling(other, index) || self.is_surely_better(worst_case, other, index))
                .then_some((other, known.full, worst_case))
        });
        // One that was measured in full ends the matter.
        let best = beats.min_by(|a, b| b.1.cmp(&a.1).then(a.2.total_cmp(&b.2)))?;
        Some((best.0, best.1))
    }

    fn is_surely_better(&self, worst_case: f64, other: usize, index: usize) -> bool {
        let Some(own) = self.runners[index].known.objective(self.search.objective) else { return false };
        let names = || self.candidates[other].name.cmp(&self.candidates[index].name);
        worst_case.total_cmp(&own.low).then_with(names) == Ordering::Less
    }

    /// Whether the other one is of the family of this one, which is not measured yet, and at the
    /// better side of it.
    fn is_better_sibling(&self, other: usize, index: usize) -> bool {
        let (own, others) = (self.candidates[index].family, self.candidates[other].family);
        let Some(((family, rate), (same, other))) = own.zip(others) else { return false };
        let better = match self.search.objective {
            Objective::Size => other < rate,
            Objective::Quality => other > rate,
            Objective::Cost { .. } | Objective::Latency => false,
        };
        family == same && better && self.runners[index].passed == 0
    }

    /// Lets the best by the objective go on, one of so many, and the others wait.
    fn keep_best(&mut self, measured: &[usize], parts: usize, dropped: &mut Vec<(usize, Dropped)>) {
        let is_racing = |index: &usize| self.runners[*index].state == State::Racing;
        let mut racing: Vec<usize> = measured.iter().copied().filter(is_racing).collect();
        if racing.iter().any(|index| self.value(*index).is_none()) {
            return;
        }
        racing.sort_by(|a, b| self.order(*a, *b));
        for index in racing.split_off(racing.len().div_ceil(parts)) {
            self.runners[index].state = State::Waiting;
            dropped.push((index, Dropped::Waits));
        }
    }

    fn value(&self, index: usize) -> Option<f64> {
        Some(self.runners[index].known.objective(self.search.objective)?.value)
    }

    /// By the objective, then by name; unknown values last.
    fn order(&self, a: usize, b: usize) -> Ordering {
        let value = |index| self.value(index).unwrap_or(f64::INFINITY);
        value(a).total_cmp(&value(b)).then_with(|| self.candidates[a].name.cmp(&self.candidates[b].name))
    }

    /// The best by what is known so far of those that may still win: those that surely keep all
    /// limits first, those that are only estimated last.
    fn most_promising(&self) -> Option<usize> {
        let open = (0..self.runners.len()).filter(|index| self.runners[*index].state != State::Done);
        let doubts = |index: &usize| {
            let known = &self.runners[*index].known;
            (known.profile.is_none(), !known.surely_keeps(&self.search.constraints))
        };
        open.min_by(|a, b| doubts(a).cmp(&doubts(b)).then_with(|| self.order(*a, *b)))
    }

    /// The best of those that were measured in full and keep all limits.
    fn winner(&self) -> Option<usize> {
        let keeps = |index: &usize| {
            let known = &self.runners[*index].known;
            known.full && known.surely_keeps(&self.search.constraints)
        };
        let all = (0..self.runners.len()).filter(|index| keeps(index) && self.value(*index).is_some());
        all.min_by(|a, b| self.order(*a, *b))
    }
}
