//! Queues against the theory of queues.

use planner::{Batching, Job, Poisson, quantile, serve};
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{Rng, SeedableRng};

const REQUESTS: usize = 2_000_000;

/// Poisson arrivals of this rate, with these times of work.
fn jobs(per_s: f64, seed: u64, mut work_s: impl FnMut() -> f64) -> Vec<Job> {
    let arrivals = Poisson::new(per_s, 1, seed).unwrap().take(REQUESTS);
    let job = |arrival_s, work_s| Job { arrival_s, alone_s: work_s, work_s };
    arrivals.map(|arrival| job(arrival.at_s, work_s())).collect()
}

/// Exponential times of mean 1.
fn exponential(seed: u64) -> impl FnMut() -> f64 {
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
    move || -((((rng.next_u64() >> 11) + 1) as f64) * f64::EPSILON / 2.0).ln()
}

fn assert_near(found: f64, theory: f64, what: &str) {
    assert!((found / theory - 1.0).abs() < 0.02, "{what}: {found}, theory {theory}");
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

#[test]
fn one_machine_with_exponential_work() {
    for load in [0.3, 0.5, 0.7] {
        let mut served = serve(&jobs(load, 1, exponential(11)), 1, Batching::NONE);
        // The time in the system is exponential too, of rate 1 − load.
        assert_near(mean(&served.latencies_s), 1.0 / (1.0 - load), "mean of M/M/1");
        // Under more load, waiting times of neighbours are so alike that so many requests do not
        // tell the 99 % within 2 %.
        let quantiles: &[f64] = if load > 0.5 { &[0.5] } else { &[0.5, 0.95, 0.99] };
        for &q in quantiles {
            let theory = -f64::ln(1.0 - q) / (1.0 - load);
            assert_near(quantile(&mut served.latencies_s, q), theory, "quantile of M/M/1");
        }
        assert_near(served.busy_s / served.end_s, load, "utilisation of M/M/1");
        assert_eq!(served.batches, REQUESTS);
    }
}

#[test]
fn one_machine_with_equal_work() {
    for load in [0.3, 0.5, 0.7] {
        let served = serve(&jobs(load, 2, || 1.0), 1, Batching::NONE);
        // Pollaczek and Khinchine.
        assert_near(mean(&served.latencies_s), 1.0 + load / (2.0 * (1.0 - load)), "mean of M/D/1");
        assert_near(mean(&served.latencies_s) - 1.0, load / (2.0 * (1.0 - load)), "wait of M/D/1");
        assert_near(served.busy_s / served.end_s, load, "utilisation of M/D/1");
    }
}

#[test]
fn several_machines_with_exponential_work() {
    let (machines, load) = (3u32, 0.6 * 3.0);
    let served = serve(&jobs(load, 3, exponential(13)), machines as usize, Batching::NONE);
    // Erlang's C: the probability of waiting.
    let term = |n: u32| load.powi(n as i32) / (1..=n).map(f64::from).product::<f64>();
    let tail = term(machines) / (1.0 - load / f64::from(machines));
    let waits = tail / ((0..machines).map(term).sum::<f64>() + tail);
    assert_near(mean(&served.latencies_s), 1.0 + waits / (f64::from(machines) - load), "mean of M/M/3");
    assert_near(served.busy_s / (3.0 * served.end_s), load / 3.0, "utilisation of M/M/3");
}

/// Full batches of b requests that take the time of one: an Erlang/D/1 queue whose machine is busy
/// as often as one of rate b.
#[test]
fn batches_share_the_time_of_their_longest_request() {
    let arrivals = Poisson::new(4.0, 1, 5).unwrap().take(REQUESTS / 4);
    let jobs: Vec<_> = arrivals.map(|arrival| Job { arrival_s: arrival.at_s, alone_s: 1.0, work_s: 0.125 }).collect();
    let served = serve(&jobs, 1, Batching::new(8, 1e9).unwrap());
    assert_eq!(served.batches, jobs.len() / 8);
    assert_near(served.busy_s / served.end_s, 0.5, "utilisation of batches");
    // Without batches, the machine does not keep up.
    assert!(mean(&serve(&jobs, 1, Batching::NONE).latencies_s) > 1e4);
}
