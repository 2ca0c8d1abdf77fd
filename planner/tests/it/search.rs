//! Searches against measuring everything in full.

use planner::{
    Bench, Candidate, Constraints, Dropped, Estimate, Found, Latency, Lengths, Objective, Profile, Round, Search,
    Stage, choose,
};
use proptest::prelude::*;

/// The values of a candidate.
#[derive(Clone, Debug)]
struct Values {
    bytes: u64,
    kl: f64,
    tokens_per_s: f64,
}

/// A profile with these values, of which latency follows from speed.
fn profile(name: &str, values: &Values) -> Profile {
    let mut profile: Profile = serde_json::from_str(&crate::fleets::profile(name, "Some CPU")).unwrap();
    let exactly = |value| Some(Estimate { value, low: value, high: value });
    (profile.kl, profile.perplexity_change) = (exactly(values.kl), exactly(values.kl / 2.0));
    profile.perplexity = exactly(10.0 + values.kl);
    profile.bytes_on_disk = values.bytes;
    (profile.peak_rss_bytes, profile.resident_bytes) = (Some(values.bytes + 5000), None);
    (profile.decode_tokens_per_s, profile.prefill_tokens_per_s) = (Some(values.tokens_per_s), Some(1e4));
    let time = 1e5 / values.tokens_per_s;
    let lengths = Lengths { prompt: 10, output: 100 };
    profile.latencies = vec![Latency { lengths, p50_ms: time, p95_ms: time, p99_ms: time }];
    profile
}

const WINDOWS: usize = 64;

/// Candidates whose values are known, measured with errors within the stated intervals.
struct Made<'a> {
    all: &'a [Values],
    /// The error of a measurement of part of the text, relative to the end of its interval.
    error: f64,
    /// Whether times in full have errors, too, because more requests decide.
    open_times: bool,
    seconds: f64,
    full: usize,
    rounds: usize,
}

impl<'a> Made<'a> {
    fn new(all: &'a [Values], error: f64) -> Self {
        Self { all, error, open_times: false, seconds: 0.0, full: 0, rounds: 0 }
    }
}

impl Bench for Made<'_> {
    type Error = String;

    fn measure(&mut self, candidate: usize, stage: Stage) -> Measured {
        let mut found = profile(&name(candidate), &self.all[candidate]);
        let clear = |found: &mut Profile| {
            (found.kl, found.perplexity_change, found.perplexity) = (None, None, None);
        };
        match stage {
            Stage::Estimate => return Err("nobody measures an estimate".to_owned()),
            Stage::Size => {
                clear(&mut found);
                (found.latencies, found.decode_tokens_per_s) = (Vec::new(), None);
                (found.peak_rss_bytes, found.resident_bytes) = (None, None);
                self.seconds += 0.1;
            }
            Stage::Quick => {
                clear(&mut found);
                let memory = found.peak_rss_bytes.map(|bytes| bytes as f64 * (1.0 + 0.09 * self.error.max(-0.9)));
                found.peak_rss_bytes = memory.map(|bytes| bytes as u64);
                // Within the factors that a time and a median are given.
                let late = if self.error > 0.0 { [1.19, 1.4, 1.4] } else { [1.0 / 1.4; 3] };
                slow(&mut found, late[2], late);
                self.seconds += 0.1;
            }
            Stage::Windows(windows) => {
                let half = 0.2 / (windows as f64).sqrt();
                let near = |estimate: Estimate| {
                    let value = estimate.value * (1.0 + 1.9 * self.error * half);
                    Estimate { value, low: value - half * estimate.value, high: value + half * estimate.value }
                };
                (found.kl, found.perplexity_change) = (found.kl.map(near), found.perplexity_change.map(near));
                (found.latencies, found.decode_tokens_per_s) = (Vec::new(), None);
                (found.peak_rss_bytes, found.resident_bytes) = (None, None);
                self.seconds += windows as f64 / WINDOWS as f64;
            }
            Stage::Full => {
                self.full += 1;
                self.seconds += 1.0;
                // The mean over all of the text counts, whatever its interval.
                found.kl = found.kl.map(|Estimate { value, .. }| Estimate { value, low: 0.0, high: 2.0 * value });
                if self.open_times && self.error > 0.0 {
                    slow(&mut found, 1.19, [1.0, 1.4, 1.4]);
                } else if self.open_times && self.error < 0.0 {
                    slow(&mut found, 1.0 / 1.19, [1.0 / 1.4; 3]);
                }
            }
            Stage::Requests => self.seconds += 0.1,
        }
        Ok(Ok(found))
    }

    fn seconds(&self) -> f64 {
        self.seconds
    }

    fn decided(&mut self, _: &Round) {
        self.rounds += 1;
    }
}

/// Makes a profile slower: its throughput by a factor, its quantiles by others.
fn slow(profile: &mut Profile, factor: f64, quantiles: [f64; 3]) {
    profile.decode_tokens_per_s = profile.decode_tokens_per_s.map(|speed| speed / factor);
    for Latency { p50_ms, p95_ms, p99_ms, .. } in &mut profile.latencies {
        let [p50, p95, p99] = quantiles;
        (*p50_ms, *p95_ms, *p99_ms) = (*p50_ms * p50, *p95_ms * p95, *p99_ms * p99);
    }
}

/// What a bench says of a candidate.
type Measured = Result<Result<Profile, String>, String>;

/// Candidates whose measurements a function changes.
struct Changed<'a, F>(Made<'a>, F);

impl<F: Fn(usize, Stage, Measured) -> Measured> Bench for Changed<'_, F> {
    type Error = String;

    fn measure(&mut self, candidate: usize, stage: Stage) -> Measured {
        let found = self.0.measure(candidate, stage);
        (self.1)(candidate, stage, found)
    }

    fn seconds(&self) -> f64 {
        self.0.seconds()
    }

    fn decided(&mut self, round: &Round) {
        self.0.decided(round);
    }
}

fn name(candidate: usize) -> String {
    format!("c{candidate:02}")
}

/// Candidates of whose sizes a range is known, with the true size at this place in it; above 1
/// there is none.
fn candidates(all: &[Values], place: f64) -> Vec<Candidate> {
    let candidate = |(index, values): (usize, &Values)| {
        let (low, width) = ((values.bytes as f64 * (1.0 - 0.2 * place)) as u64, values.bytes / 5 + 1);
        Candidate { name: name(index), bytes: (place <= 1.0).then_some(low..=low + width), family: None }
    };
    all.iter().enumerate().map(candidate).collect()
}

/// A family: each member is larger, better and not faster than the one before.
fn family() -> impl Strategy<Value = Vec<Values>> {
    let members = proptest::collection::vec((1u64..3, 1u64..3, 0u64..4), 0..9);
    (members, 1u64..12).prop_map(|(steps, speed)| {
        let (mut bytes, mut kl, mut speed) = (0, 12 * 2, speed * 100);
        let next = |(size, quality, slower): (u64, u64, u64)| {
            (bytes, kl, speed) = (bytes + size * 1000, kl - quality, speed - speed * slower / 100);
            Values { bytes, kl: kl as f64 / 100.0, tokens_per_s: speed as f64 }
        };
        steps.into_iter().map(next).collect()
    })
}

fn search(constraints: Constraints, objective: Objective) -> Search {
    Search { constraints, objective, windows: WINDOWS, exhaustive: false, budget: None }
}

fn values() -> impl Strategy<Value = Values> {
    // Few different values, so that ties occur.
    (1u64..12, 1u64..12, 1u64..12).prop_map(|(size, kl, speed)| Values {
        bytes: size * 1000,
        kl: kl as f64 / 100.0,
        tokens_per_s: speed as f64 * 100.0,
    })
}

fn limits() -> impl Strategy<Value = Constraints> {
    let some = |most: u64| proptest::option::of(0..most);
    (some(13), some(13), some(13), some(13), some(20)).prop_map(|(size, kl, speed, p99, memory)| Constraints {
        max_memory: memory.map(|memory| memory * 1000),
        max_size: size.map(|size| size * 1000),
        max_kl: kl.map(|kl| kl as f64 / 100.0),
        min_tokens_per_s: speed.map(|speed| speed as f64 * 100.0),
        max_p99_ms: p99.map(|time| 1e5 / (time as f64 * 100.0 + 1.0)),
        ..Constraints::default()
    })
}

fn objectives() -> impl Strategy<Value = Objective> {
    let cost = Objective::Cost { price_per_hour: 0.5 };
    prop_oneof![Just(cost), Just(Objective::Size), Just(Objective::Latency), Just(Objective::Quality)]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(10_000) })]

    /// The winner is that of measuring everything in full, whatever the errors within intervals.
    #[test]
    fn the_winner_is_that_of_measuring_everything(
        others in proptest::collection::vec(values(), 0..20),
        families in proptest::collection::vec(family(), 0..3),
        constraints in limits(),
        objective in objectives(),
        error in prop_oneof![Just(-1.0), Just(0.0), Just(1.0)],
        sizes in prop_oneof![Just(0.0), Just(0.5), Just(1.0), Just(2.0)],
    ) {
        let all: Vec<_> = others.iter().chain(families.iter().flatten()).cloned().collect();
        let mut bench = Made::new(&all, error);
        let mut candidates = candidates(&all, sizes);
        let members = families.iter().enumerate().flat_map(|(family, members)| members.iter().map(move |_| family));
        for ((index, candidate), family) in candidates.iter_mut().enumerate().skip(others.len()).zip(members) {
            candidate.family = Some((family, all[index].bytes as f64));
        }
        let search = search(constraints, objective);
        bench.open_times = search.stages().contains(&Stage::Requests);
        let found = search.run(&candidates, &mut bench).unwrap();
        let profiles: Vec<_> = all.iter().enumerate().map(|(i, values)| profile(&name(i), values)).collect();
        prop_assert_eq!(found.winner, choose(&profiles, &constraints, objective).ok());
        prop_assert_eq!(bench.rounds, found.rounds.len());
        // What was dropped for a limit misses it, and no candidate is measured twice at a stage.
        for round in &found.rounds {
            for (index, dropped) in &round.dropped {
                if matches!(dropped, Dropped::Misses(_)) {
                    prop_assert!(!constraints.misses(&profiles[*index]).is_empty());
                }
            }
        }
        let mut steps: Vec<_> =
            found.rounds.iter().flat_map(|round| round.measured.iter().map(|index| (*index, round.stage))).collect();
        let count = steps.len();
        steps.sort_unstable();
        steps.dedup();
        prop_assert_eq!(steps.len(), count);
    }

    /// A tighter limit never makes the result better.
    #[test]
    fn the_objective_is_monotone_in_a_limit(
        all in proptest::collection::vec(values(), 1..12),
        constraints in limits(),
        objective in objectives(),
        less in 0u64..4,
    ) {
        let run = |constraints| {
            let found = search(constraints, objective).run(&candidates(&all, 0.0), &mut Made::new(&all, 0.0)).unwrap();
            found.winner.map_or(f64::INFINITY, |winner| objective.value(&profile("x", &all[winner])).unwrap())
        };
        let max_size = Some(constraints.max_size.unwrap_or(12_000).saturating_sub(less * 1000));
        let tighter = Constraints { max_size, ..constraints };
        prop_assert!(run(constraints) <= run(tighter));
    }
}

fn sixteen() -> Vec<Values> {
    (1..=16u64).map(|n| Values { bytes: n * 1000, kl: 0.5 / n as f64, tokens_per_s: 1600.0 / n as f64 }).collect()
}

#[test]
fn a_search_costs_less_than_measuring_everything() {
    let all = sixteen();
    let constraints = Constraints { max_kl: Some(0.1), ..Constraints::default() };
    let mut bench = Made::new(&all, 0.0);
    let one = search(constraints, Objective::Size);
    let found = one.run(&candidates(&all, 0.0), &mut bench).unwrap();
    assert_eq!(found.winner, Some(4));
    let mut brute = Made::new(&all, 0.0);
    let everything = Search { exhaustive: true, ..one }.run(&candidates(&all, 0.0), &mut brute).unwrap();
    assert_eq!((everything.winner, brute.full), (Some(4), 16));
    assert!(everything.full.iter().all(|full| *full) && everything.rounds.len() == 1);
    assert!(bench.seconds < 0.4 * brute.seconds, "{} of {}", bench.seconds, brute.seconds);
}

/// Six members of a family, each a little slower than the one before.
fn six() -> (Vec<Values>, Vec<Candidate>) {
    let values = |n: u64| Values { bytes: n * 1000, kl: 0.5 / n as f64, tokens_per_s: 1000.0 - n as f64 };
    let all: Vec<_> = (1..=6).map(values).collect();
    let mut candidates = candidates(&all, 0.0);
    for (rate, candidate) in candidates.iter_mut().enumerate() {
        candidate.family = Some((0, rate as f64));
    }
    (all, candidates)
}

#[test]
fn members_of_a_family_that_cannot_be_faster_are_not_packed() {
    let (all, candidates) = six();
    // A few requests leave open whether the fourth one keeps this limit, and all requests do not.
    let fails = Constraints { max_p99_ms: Some(1e5 / 997.0), ..Constraints::default() };
    let found = search(fails, Objective::Quality).run(&candidates, &mut Made::new(&all, 0.0)).unwrap();
    let like = found.rounds.iter().flat_map(|round| &round.dropped).filter(|(_, why)| *why == Dropped::Like(3));
    assert_eq!(like.map(|(index, _)| *index).collect::<Vec<_>>(), [4, 5]);
    assert!(found.profiles[4].is_none() && found.profiles[5].is_none());
    assert_eq!(found.winner, Some(2));
}

#[test]
fn more_requests_decide_a_limit_on_time() {
    let values = |n: u64| Values { bytes: n * 1000, kl: 0.1, tokens_per_s: n as f64 * 1000.0 };
    let all = [values(1), values(2)];
    // Half of the requests to the first one take 100 ms.
    let one = search(Constraints { max_p99_ms: Some(110.0), ..Constraints::default() }, Objective::Size);
    for (late, winner) in [(Stage::Full, 0), (Stage::Requests, 1)] {
        let noisy = |candidate, stage, mut found: Measured| {
            if let (true, Ok(Ok(profile))) = ((candidate, stage) == (0, late), &mut found) {
                profile.latencies[0].p99_ms *= 1.4;
            }
            found
        };
        let run = |search: Search| {
            let mut bench = Changed(Made::new(&all, 0.0), noisy);
            search.run(&candidates(&all, 0.0), &mut bench).unwrap().winner
        };
        assert_eq!(run(one), Some(winner));
        assert_eq!(run(Search { exhaustive: true, ..one }), Some(winner));
        // Without time, the first one is the only one.
        assert_eq!(run(Search { budget: Some(0.0), ..one }), Some(0).filter(|only| *only == winner));
    }
}

#[test]
fn a_chance_request_of_a_member_does_not_end_the_others() {
    let noisy = |candidate, stage, mut found: Measured| {
        if let (3, Stage::Full | Stage::Requests, Ok(Ok(profile))) = (candidate, stage, &mut found) {
            profile.latencies[0].p99_ms *= 2.0;
        }
        found
    };
    let (all, candidates) = six();
    // The fourth is the first that is good enough.
    let constraints = Constraints { max_kl: Some(0.13), max_p99_ms: Some(110.0), ..Constraints::default() };
    let found =
        search(constraints, Objective::Size).run(&candidates, &mut Changed(Made::new(&all, 0.0), noisy)).unwrap();
    assert!(found.full[3]);
    assert_eq!(found.winner, Some(4));
}

#[test]
fn a_spent_budget_leaves_one_measurement() {
    let all = sixteen();
    let constraints = Constraints { max_kl: Some(0.1), ..Constraints::default() };
    let run = |budget: f64| -> (Found, usize) {
        let mut bench = Made::new(&all, 0.0);
        let one = Search { budget: Some(budget), ..search(constraints, Objective::Size) };
        (one.run(&candidates(&all, 0.0), &mut bench).unwrap(), bench.full)
    };
    // The smallest is tried, by its estimated and by its known size.
    for budget in [0.0, 0.5] {
        let (found, full) = run(budget);
        assert_eq!((found.winner, found.out_of_time, full), (None, true, 1));
    }
    let (found, _) = run(100.0);
    assert_eq!((found.winner, found.out_of_time), (Some(4), false));
}

#[test]
fn what_cannot_be_made_is_left_out() {
    let failing = |candidate, stage, found| match (candidate, stage) {
        (4, Stage::Windows(_)) => Ok(Err("no kernel".to_owned())),
        (9, Stage::Full) => Err("a full disk".to_owned()),
        _ => found,
    };
    let all = sixteen();
    let within = |max_kl| search(Constraints { max_kl: Some(max_kl), ..Constraints::default() }, Objective::Size);
    let found = within(0.1).run(&candidates(&all, 0.0), &mut Changed(Made::new(&all, 0.0), failing)).unwrap();
    assert_eq!(found.winner, Some(5));
    assert!(found.profiles[4].is_none());
    let failed = Dropped::Failed("no kernel".to_owned());
    assert!(found.rounds.iter().any(|round| round.dropped.contains(&(4, failed.clone()))));
    let ends = within(0.0502).run(&candidates(&all, 0.0), &mut Changed(Made::new(&all, 0.0), failing)).unwrap_err();
    assert_eq!(ends, "a full disk");
}

#[test]
fn what_nearly_fits_is_named() {
    let all = sixteen();
    let constraints = Constraints { max_kl: Some(0.06), max_size: Some(7000), ..Constraints::default() };
    let found = search(constraints, Objective::Size).run(&candidates(&all, 0.0), &mut Made::new(&all, 0.0)).unwrap();
    assert_eq!(found.winner, None);
    let near = found.nearest(&constraints);
    // The seventh has KL 0.0714; the ninth keeps that limit, and has 9000 bytes.
    assert_eq!((near[0].index, near[0].misses.len()), (6, 1));
    assert!(near.windows(2).all(|pair| pair[0].by() <= pair[1].by()));
}

#[test]
fn stages_suit_the_limits() {
    let stages = |constraints, objective| search(constraints, objective).stages();
    let none = Constraints::default();
    assert_eq!(stages(none, Objective::Size), [Stage::Size, Stage::Full]);
    let text = [Stage::Size, Stage::Windows(4), Stage::Windows(16), Stage::Full];
    assert_eq!(stages(none, Objective::Quality), text);
    let both = Constraints { max_kl: Some(1.0), max_p99_ms: Some(1.0), ..none };
    let all = [Stage::Size, Stage::Quick, Stage::Windows(4), Stage::Windows(16), Stage::Full, Stage::Requests];
    assert_eq!(stages(both, Objective::Size), all);
    // A short text is not cut.
    let short = Search { windows: 2, ..search(both, Objective::Size) };
    assert_eq!(short.stages(), [Stage::Size, Stage::Quick, Stage::Full, Stage::Requests]);
}
