//! The choice among profiles against a search of everything.

use planner::{Constraints, Estimate, Lengths, Objective, Profile, choose, pareto};
use proptest::prelude::*;

/// A profile of few possible values; `None` where nothing was measured.
fn profile() -> impl Strategy<Value = Profile> {
    let value = || proptest::option::of((1..5u32).prop_map(f64::from));
    (0..4usize, value(), value(), value(), 1..5u64, value()).prop_map(|(name, kl, p99, speed, size, memory)| {
        let line = crate::fleets::profile(["a", "b", "c", "d"][name], "Some CPU");
        let mut profile: Profile = serde_json::from_str(&line).unwrap();
        profile.kl = kl.map(|kl| Estimate { value: kl, low: kl, high: kl });
        profile.decode_tokens_per_s = speed;
        profile.bytes_on_disk = size;
        (profile.peak_rss_bytes, profile.resident_bytes) = (memory.map(|memory| memory as u64), None);
        match p99 {
            Some(p99) => {
                let latency = &mut profile.latencies[0];
                (latency.p50_ms, latency.p95_ms, latency.p99_ms) = (p99, p99, p99);
                latency.lengths = Lengths { prompt: 1, output: 1 };
            }
            None => profile.latencies.clear(),
        }
        profile
    })
}

fn constraints() -> impl Strategy<Value = Constraints> {
    let limit = || proptest::option::of((0..6u32).prop_map(f64::from));
    let bytes = || proptest::option::of(0..6u64);
    (limit(), limit(), limit(), bytes(), bytes()).prop_map(
        |(max_kl, max_p99_ms, min_tokens_per_s, max_memory, max_size)| Constraints {
            max_perplexity_change: None,
            max_kl,
            max_p99_ms,
            min_tokens_per_s,
            max_memory,
            max_size,
        },
    )
}

fn keeps(constraints: &Constraints, profile: &Profile) -> bool {
    let most =
        |limit: Option<f64>, value: Option<f64>| limit.is_none_or(|limit| value.is_some_and(|value| value <= limit));
    let bytes = |bytes: Option<u64>| bytes.map(|bytes| bytes as f64);
    most(constraints.max_kl, profile.kl.map(|kl| kl.value))
        && most(constraints.max_p99_ms, profile.latencies.first().map(|latency| latency.p99_ms))
        && constraints.min_tokens_per_s.is_none_or(|limit| profile.decode_tokens_per_s.is_some_and(|v| v >= limit))
        && most(bytes(constraints.max_memory), bytes(profile.peak_rss_bytes))
        && most(bytes(constraints.max_size), Some(profile.bytes_on_disk as f64))
}

fn objective() -> impl Strategy<Value = Objective> {
    let cost = Objective::Cost { price_per_hour: 0.5 };
    prop::sample::select(vec![cost, Objective::Size, Objective::Latency, Objective::Quality])
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2000) })]

    #[test]
    fn the_choice_is_that_of_exhaustive_search(
        profiles in prop::collection::vec(profile(), 0..8),
        constraints in constraints(),
        objective in objective(),
    ) {
        let fits = |profile: &Profile| keeps(&constraints, profile) && objective.value(profile).is_some();
        let values = profiles.iter().filter(|profile| fits(profile)).map(|profile| (objective.value(profile).unwrap(), &profile.key.recipe));
        let least = values.min_by(|a, b| a.0.total_cmp(&b.0).then_with(|| a.1.cmp(b.1)));
        match choose(&profiles, &constraints, objective) {
            Ok(index) => {
                prop_assert!(fits(&profiles[index]));
                let chosen = (objective.value(&profiles[index]).unwrap(), &profiles[index].key.recipe);
                prop_assert_eq!(Some(chosen), least);
            }
            Err(near) => {
                prop_assert_eq!(least, None);
                prop_assert!(near.windows(2).all(|pair| pair[0].by() <= pair[1].by()));
                let missing = profiles.iter().filter(|profile| !keeps(&constraints, profile)).count();
                prop_assert_eq!(near.len(), missing);
            }
        }
    }

    #[test]
    fn the_front_has_whatever_nothing_beats(profiles in prop::collection::vec(profile(), 0..8)) {
        let objectives = [Objective::Size, Objective::Quality];
        let values: Vec<_> = profiles.iter().map(|profile| profile.kl.map(|kl| (profile.bytes_on_disk, kl.value))).collect();
        let front = pareto(&profiles, &objectives);
        for (index, own) in values.iter().enumerate() {
            let Some(own) = own else {
                // Perplexity stands in for KL, the same for all here.
                continue;
            };
            let beaten = profiles.iter().any(|other| {
                let other = (other.bytes_on_disk, objectives[1].value(other).unwrap());
                other.0 <= own.0 && other.1 <= own.1 && other != *own
            });
            prop_assert_eq!(front.contains(&index), !beaten);
        }
    }
}
