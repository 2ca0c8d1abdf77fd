//! Decisions against a search of everything, on random fleets and requests.

use planner::{Aim, Classes, Decision, Fleet, Hardware, Lengths, Need, Placement, Speed, Stated, Variant};
use proptest::prelude::*;

/// Few values, so that ties and values at a limit are frequent.
fn stated() -> impl Strategy<Value = Stated> {
    let speed = || proptest::option::of(prop::sample::select(vec![50.0, 100.0]));
    (0..4u32, 1..4u32, prop::sample::select(vec![1.0, 1.5]), speed(), speed()).prop_map(
        |(latency, speed, p99_factor, prefill_tokens_per_s, decode_tokens_per_s)| Stated {
            latency_ms: 50.0 * f64::from(latency),
            p99_factor,
            tokens_per_s: 50.0 * f64::from(speed),
            prefill_tokens_per_s,
            decode_tokens_per_s,
        },
    )
}

fn memory() -> impl Strategy<Value = Option<u64>> {
    proptest::option::of((1..4u64).prop_map(|n| n * 8_000_000_000))
}

fn fleet() -> impl Strategy<Value = Fleet> {
    let hardware = prop::collection::vec((1..4u32, memory()), 1..5);
    let on = prop::collection::btree_map(0..4usize, stated(), 1..4);
    let variants = prop::collection::vec((0..6u32, memory(), on), 1..6);
    (hardware, variants, any::<bool>()).prop_map(|(hardware, variants, backwards)| {
        let places = hardware.len();
        let mut hardware: Vec<_> = hardware
            .into_iter()
            .enumerate()
            .map(|(index, (price, memory))| Hardware {
                name: format!("h{index}"),
                price_per_hour: 0.5 * f64::from(price),
                memory,
                machine: None,
            })
            .collect();
        let mut variants: Vec<_> = variants
            .into_iter()
            .enumerate()
            .map(|(index, (quality, memory, on))| {
                let on = on.into_iter().filter(|(at, _)| *at < places || *at == 0);
                let mut placements: Vec<_> =
                    on.map(|(at, stated)| Placement::new(format!("h{at}"), Speed::Stated(stated))).collect();
                if placements.is_empty() {
                    let stated = Stated {
                        latency_ms: 50.0,
                        p99_factor: 1.5,
                        tokens_per_s: 50.0,
                        prefill_tokens_per_s: None,
                        decode_tokens_per_s: None,
                    };
                    placements.push(Placement::new("h0", Speed::Stated(stated)));
                }
                Variant {
                    name: format!("v{index}"),
                    quality: Some(0.75 + 0.05 * f64::from(quality)),
                    memory,
                    placements,
                }
            })
            .collect();
        // The order of a file must not matter.
        if backwards {
            hardware.reverse();
            variants.reverse();
        }
        Fleet::new("random", Classes::default(), hardware, variants).unwrap()
    })
}

fn need() -> impl Strategy<Value = Need> {
    let limit = proptest::option::of((1..40u32).prop_map(|n| 75.0 * f64::from(n)));
    (0..60u64, 0..60u64, 0..6u32, limit).prop_map(|(prompt, output, quality, p99_ms)| Need {
        lengths: Lengths { prompt, output },
        quality: 0.75 + 0.05 * f64::from(quality),
        p99_ms,
    })
}

/// Variant, hardware, cost, p99, price.
type Found = (String, String, f64, f64, f64);

/// Everything that fits, from the public description of the fleet alone.
fn feasible(fleet: &Fleet, hardware: &[(String, f64, Option<u64>)], need: &Need) -> Vec<Found> {
    let mut all = Vec::new();
    for variant in fleet.variants() {
        for placement in &variant.placements {
            let Speed::Stated(stated) = &placement.speed else { unreachable!() };
            let (_, price, has) = hardware.iter().find(|(name, ..)| *name == placement.hardware).unwrap();
            let tokens = |n: u64, speed: Option<f64>| speed.map_or(0.0, |speed| 1e3 * n as f64 / speed);
            let Lengths { prompt, output } = need.lengths;
            let mean = stated.latency_ms
                + tokens(prompt, stated.prefill_tokens_per_s)
                + tokens(output, stated.decode_tokens_per_s);
            let p99 = stated.p99_factor * mean;
            let fits = variant.quality.unwrap() >= need.quality
                && need.p99_ms.is_none_or(|limit| p99 <= limit)
                && variant.memory.zip(*has).is_none_or(|(needs, has)| needs <= has);
            if fits {
                let cost = price * 1e6 / (3600.0 * stated.tokens_per_s);
                all.push((variant.name.clone(), placement.hardware.clone(), cost, p99, *price));
            }
        }
    }
    all
}

/// Hardware of a fleet, by an offer that misses everything or nothing.
fn hardware(fleet: &Fleet) -> Vec<(String, f64, Option<u64>)> {
    let need = Need { lengths: Lengths { prompt: 0, output: 1 }, quality: 0.0, p99_ms: None };
    let decision = Decision::new(fleet, &need, Aim::Cost);
    decision
        .offers()
        .iter()
        .map(|offer| (offer.hardware.name.clone(), offer.hardware.price_per_hour, offer.hardware.memory))
        .collect()
}

fn best(mut all: Vec<Found>, aim: Aim) -> Option<Found> {
    all.sort_by(|a, b| {
        let first = match aim {
            Aim::Cost => a.2.total_cmp(&b.2),
            Aim::Latency => a.3.total_cmp(&b.3).then(a.2.total_cmp(&b.2)),
        };
        first.then(a.4.total_cmp(&b.4)).then_with(|| (&a.0, &a.1).cmp(&(&b.0, &b.1)))
    });
    all.into_iter().next()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(10_000) })]

    #[test]
    fn a_decision_is_that_of_exhaustive_search(fleet in fleet(), need in need(), latency in any::<bool>()) {
        let aim = if latency { Aim::Latency } else { Aim::Cost };
        let decision = Decision::new(&fleet, &need, aim);
        let all = feasible(&fleet, &hardware(&fleet), &need);
        let count = decision.offers().iter().filter(|offer| offer.fits()).count();
        prop_assert_eq!(count, all.len());
        let chosen = decision.chosen().map(|offer| (offer.names().0.to_owned(), offer.names().1.to_owned()));
        prop_assert_eq!(&chosen, &best(all.clone(), aim).map(|best| (best.0, best.1)));
        // Never one that does not fit, and five alternatives with a reason.
        if let Some((variant, hardware)) = &chosen {
            prop_assert!(all.iter().any(|found| found.0 == *variant && found.1 == *hardware));
            prop_assert!(decision.remedies().is_empty());
        }
        let others = decision.offers().len() - usize::from(chosen.is_some());
        prop_assert_eq!(decision.alternatives().count(), others.min(5));
        for (offer, reason) in decision.alternatives() {
            prop_assert!(!reason.is_empty());
            prop_assert!(Some(offer.names()) != chosen.as_ref().map(|(a, b)| (a.as_str(), b.as_str())));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2000) })]

    #[test]
    fn wider_limits_never_cost_more(fleet in fleet(), need in need(), by in 0.0..0.3f64, more in 0.0..1000.0f64) {
        let wider = Need { quality: need.quality - by, p99_ms: need.p99_ms.map(|limit| limit + more), ..need };
        let best = |need: &Need, aim| Decision::new(&fleet, need, aim).chosen().map(|offer| (offer.cost_per_million, offer.p99_ms.unwrap()));
        if let Some((cost, _)) = best(&need, Aim::Cost) {
            prop_assert!(best(&wider, Aim::Cost).unwrap().0 <= cost);
        }
        if let Some((_, p99)) = best(&need, Aim::Latency) {
            prop_assert!(best(&wider, Aim::Latency).unwrap().1 <= p99);
        }
    }

    #[test]
    fn what_would_fit_does(fleet in fleet(), need in need()) {
        let decision = Decision::new(&fleet, &need, Aim::Cost);
        let remedies = decision.remedies();
        prop_assert_eq!(remedies.is_empty(), decision.chosen().is_some());
        for remedy in remedies {
            let mut wider = need;
            let mut memory = false;
            for miss in &remedy.misses {
                match miss.limit {
                    planner::Limit::Quality => wider.quality = miss.found.unwrap(),
                    planner::Limit::P99 => wider.p99_ms = miss.found,
                    _ => memory = true,
                }
            }
            let now = Decision::new(&fleet, &wider, Aim::Cost);
            let offer = now.offers().iter().find(|offer| offer.names() == (remedy.variant, remedy.hardware)).unwrap();
            prop_assert_eq!(offer.fits(), !memory);
            prop_assert_eq!(offer.misses.len(), usize::from(memory));
        }
    }
}
