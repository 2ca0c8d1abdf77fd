//! The routing of an earlier system, as its report prints it.

use planner::{Aim, Class, Decision, Fleet, History, Lengths, Need, Offer, seed001};

fn cents(dollars: f64) -> String {
    format!("{dollars:.2}")
}

#[test]
fn its_scenarios_have_its_classes_models_and_costs() {
    let fleet = seed001::fleet().unwrap();
    for scenario in seed001::SCENARIOS {
        assert_eq!(scenario.request().class_by_words(), Some(scenario.class), "{}", scenario.name);
        let lengths = Lengths { prompt: 0, output: scenario.max_tokens };
        let need = Need { lengths, quality: seed001::QUALITY, p99_ms: None };
        let decision = Decision::new(&fleet, &need, Aim::Cost);
        let chosen = decision.chosen().unwrap();
        let (model, hardware, cost) = scenario.printed.unwrap_or(("Llama-2-7b", "T4", 2.78));
        assert_eq!((chosen.names(), cents(chosen.cost_per_million)), ((model, hardware), cents(cost)));
        let (second, reason) = decision.alternatives().next().unwrap();
        assert_eq!((second.names(), cents(second.cost_per_million)), (("Llama-2-7b", "A10G"), "2.78".to_owned()));
        assert_eq!(reason, "as good, on a dearer machine: $1 an hour in place of $0.5");
    }
}

#[test]
fn its_table_of_costs() {
    let fleet = seed001::fleet().unwrap();
    let need = Need { lengths: Lengths { prompt: 0, output: 100 }, quality: 1.0, p99_ms: None };
    let costs = |fleet: &Fleet, quality| {
        let decision = Decision::new(fleet, &Need { quality, ..need }, Aim::Cost);
        let all = decision.chosen().into_iter().chain(decision.alternatives().map(|(offer, _)| offer));
        all.filter(|offer| offer.fits())
            .map(|offer| (offer.names().1.to_owned(), cents(offer.cost_per_million)))
            .collect::<Vec<_>>()
    };
    let own =
        |pairs: &[(&str, &str)]| pairs.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect::<Vec<_>>();
    assert_eq!(costs(&fleet, 1.0), own(&[("H100", "44.44"), ("A100-80", "46.30"), ("A100-40", "48.61")]));
    let thirteen = costs(&fleet, 0.92);
    assert_eq!(thirteen[..2], own(&[("A10G", "5.56"), ("A100-40", "19.44")])[..]);
    assert_eq!(costs(&fleet, 0.85)[0], own(&[("T4", "2.78")])[0]);
}

#[test]
fn the_class_of_tokens_is_used() {
    let fleet = seed001::fleet().unwrap();
    let count = |text: &str| Ok(text.len().div_ceil(4) as u64);
    let routed = seed001::SCENARIOS.map(|scenario| {
        let request = scenario.request();
        let lengths = request.lengths(&count, &History::default()).unwrap();
        let need = request.need(lengths, fleet.classes());
        let chosen = Decision::new(&fleet, &need, Aim::Cost).chosen().map(Offer::names);
        assert_eq!(Class::of(lengths), scenario.class);
        chosen.unwrap()
    });
    let small = ("Llama-2-7b", "T4");
    assert_eq!(routed, [small, small, ("Llama-2-13b", "A10G"), ("Llama-2-70b", "H100")]);
}

#[test]
fn its_p99_is_one_and_a_half_times_the_time_it_states() {
    let fleet = seed001::fleet().unwrap();
    let need = |p99_ms| Need { lengths: Lengths { prompt: 10, output: 10 }, quality: 0.85, p99_ms: Some(p99_ms) };
    let chosen = |p99_ms, aim| Decision::new(&fleet, &need(p99_ms), aim).chosen().map(Offer::names);
    assert_eq!(chosen(150.0, Aim::Cost), Some(("Llama-2-7b", "T4")));
    assert_eq!(chosen(149.0, Aim::Cost), Some(("Llama-2-7b", "A10G")));
    assert_eq!(chosen(150.0, Aim::Latency), Some(("Llama-2-13b", "A100-40")));
    assert_eq!(chosen(59.0, Aim::Cost), None);
    let need = need(59.0);
    let decision = Decision::new(&fleet, &need, Aim::Cost);
    let remedies = decision.remedies();
    assert_eq!(remedies.len(), 1);
    assert_eq!((remedies[0].variant, remedies[0].hardware), ("Llama-2-13b", "A100-40"));
    assert_eq!(remedies[0].misses[0].to_string(), "p99 60 ms is above 59 ms");
}

#[test]
fn its_savings() {
    let (year, saved) = seed001::savings();
    assert_eq!((year.round(), saved.round(), (saved / 12.0).round()), (730_000.0, 65_700.0, 5475.0));
}
