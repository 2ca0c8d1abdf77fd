//! A fleet under traffic.

use serde::Serialize;

use super::quantile;
use super::queue::{Batching, Job, serve};
use super::traffic::{Arrival, MAX_REQUESTS};
use crate::error::{Error, Result};
use crate::fleet::Fleet;
use crate::profile::Lengths;

/// A request of the traffic, and who answers it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Planned {
    /// The tokens that it takes.
    pub lengths: Lengths,
    /// The place in [`Fleet::placements`] of what answers it ([`crate::Offer::index`]); `None` if
    /// nothing does.
    pub placement: Option<usize>,
}

/// Quantiles of latencies in s.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Quantiles {
    /// Of half of the requests.
    pub p50_s: f64,
    /// Of 95 %.
    pub p95_s: f64,
    /// Of 99 %.
    pub p99_s: f64,
}

impl Quantiles {
    fn of(latencies: &mut [f64]) -> Self {
        let [p50_s, p95_s, p99_s] = [0.5, 0.95, 0.99].map(|q| quantile(latencies, q));
        Self { p50_s, p95_s, p99_s }
    }
}

/// The machines of one kind that have one variant.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Site {
    /// The variant.
    pub variant: String,
    /// The hardware.
    pub hardware: String,
    /// How many machines there are.
    pub servers: u32,
    /// How many requests they answered.
    pub requests: usize,
    /// In how many batches.
    pub batches: usize,
    /// The share of the time that the machines worked.
    pub utilisation: f64,
    /// Latencies, with waiting.
    #[serde(flatten)]
    pub latency: Quantiles,
    /// Dollars per day of all machines.
    pub cost_per_day: f64,
    /// Dollars per day of the time that they worked.
    pub busy_cost_per_day: f64,
}

/// What became of the traffic.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Simulation {
    /// From 0, when a trace has its first request, to the end of the last one, in s.
    pub duration_s: f64,
    /// Answered requests.
    pub requests: usize,
    /// Requests that nothing answers.
    pub refused: usize,
    /// Latencies of all, with waiting.
    #[serde(flatten)]
    pub latency: Quantiles,
    /// Dollars per day of all machines.
    pub cost_per_day: f64,
    /// Dollars per day of the time that machines worked.
    pub busy_cost_per_day: f64,
    /// Where requests were answered.
    pub sites: Vec<Site>,
}

/// The utilisation with full batches that the number of machines is chosen for, if the fleet does
/// not state it.
pub const UTILISATION: f64 = 0.7;

/// Simulates traffic, which is in the order of arrival. Each placement has a queue of its own.
///
/// # Errors
/// [`Error::Input`] for traffic of no or too many requests, or if nothing answers any.
pub fn simulate(fleet: &Fleet, planned: &[Planned], arrivals: &[Arrival], batching: Batching) -> Result<Simulation> {
    if arrivals.len() > MAX_REQUESTS {
        let reason =
            format!("{} requests are too many to simulate; at most {MAX_REQUESTS} are possible", arrivals.len());
        return Err(Error::Input(reason));
    }
    let placements: Vec<_> = fleet.placements().collect();
    let mut queues = vec![Vec::new(); placements.len()];
    for Arrival { at_s, request } in arrivals {
        let Some(Planned { lengths, placement: Some(at) }) = planned.get(*request) else { continue };
        let speed = &placements[*at].1.speed;
        queues[*at].push(Job { arrival_s: *at_s, alone_s: speed.alone_s(*lengths), work_s: speed.work_s(*lengths) });
    }
    let span = arrivals.last().map_or(0.0, |last| last.at_s);
    let (mut all, mut served) = (Vec::new(), Vec::new());
    for ((variant, placement), jobs) in placements.iter().zip(&queues).filter(|(_, jobs)| !jobs.is_empty()) {
        let servers = placement.servers.unwrap_or_else(|| needed(jobs, span, batching));
        let mut result = serve(jobs, servers as usize, batching);
        all.extend_from_slice(&result.latencies_s);
        let latency = Quantiles::of(&mut result.latencies_s);
        served.push((*variant, fleet.hardware(placement), servers, latency, result));
    }
    if all.is_empty() {
        return Err(Error::Input("no request of the traffic is answered; there is nothing to simulate".to_owned()));
    }
    let duration_s = served.iter().map(|(.., result)| result.end_s).fold(span, f64::max);
    let sites = served.into_iter().map(|(variant, hardware, servers, latency, result)| {
        let machines_s = f64::from(servers) * duration_s;
        let utilisation = if machines_s > 0.0 { result.busy_s / machines_s } else { 0.0 };
        let cost_per_day = 24.0 * hardware.price_per_hour * f64::from(servers);
        Site {
            variant: variant.name.clone(),
            hardware: hardware.name.clone(),
            servers,
            requests: result.latencies_s.len(),
            batches: result.batches,
            utilisation,
            latency,
            cost_per_day,
            busy_cost_per_day: utilisation * cost_per_day,
        }
    });
    let sites: Vec<_> = sites.collect();
    Ok(Simulation {
        duration_s,
        requests: all.len(),
        refused: arrivals.len() - all.len(),
        latency: Quantiles::of(&mut all),
        cost_per_day: sites.iter().map(|site| site.cost_per_day).sum(),
        busy_cost_per_day: sites.iter().map(|site| site.busy_cost_per_day).sum(),
        sites,
    })
}

/// The number of machines that are busy [`UTILISATION`] of the time with these jobs, at full
/// batches.
fn needed(jobs: &[Job], span: f64, batching: Batching) -> u32 {
    let load: f64 = jobs.iter().map(|job| job.work_s.max(job.alone_s / batching.max_size() as f64)).sum();
    if span > 0.0 { ((load / (UTILISATION * span)).ceil() as u32).max(1) } else { 1 }
}
