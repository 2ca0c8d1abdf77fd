//! A decision, and a simulated day of a million requests.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use planner::{Aim, Batching, Decision, History, Planned, Poisson, seed001, simulate};

const PER_DAY: usize = 1_000_000;

fn benches(c: &mut Criterion) {
    let fleet = seed001::fleet().expect("a fleet");
    let count = |text: &str| Ok(text.len() as u64 / 4);
    let needs = seed001::SCENARIOS.map(|scenario| {
        let request = scenario.request();
        let lengths = request.lengths(&count, &History::default()).expect("a length");
        request.need(lengths, fleet.classes())
    });
    c.bench_function("decision", |bench| bench.iter(|| Decision::new(&fleet, black_box(&needs[0]), Aim::Cost)));
    let planned = needs.map(|need| {
        let placement = Decision::new(&fleet, &need, Aim::Cost).chosen().map(|offer| offer.index);
        Planned { lengths: need.lengths, placement }
    });
    let batching = Batching::new(32, 0.05).expect("a size");
    let mut group = c.benchmark_group("day");
    group.sample_size(10).throughput(Throughput::Elements(PER_DAY as u64));
    group.bench_function("1e6 requests", |bench| {
        bench.iter(|| {
            let traffic = Poisson::new(PER_DAY as f64 / 86_400.0, planned.len(), 1).expect("a rate");
            let arrivals: Vec<_> = traffic.take(PER_DAY).collect();
            simulate(&fleet, black_box(&planned), &arrivals, batching)
        });
    });
}

criterion_group!(planner, benches);
criterion_main!(planner);
