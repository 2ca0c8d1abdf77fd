//! Simulations of a fleet under traffic: queues, batches, machines and their price.

mod queue;
mod report;
mod traffic;

pub use queue::{Batching, Job, Served, serve};
pub use report::{Planned, Quantiles, Simulation, Site, UTILISATION, simulate};
pub use traffic::{Arrival, MAX_REQUESTS, Poisson, trace};

/// Dollars per million tokens of a machine that is always busy.
pub fn cost_per_million(price_per_hour: f64, tokens_per_s: f64) -> f64 {
    price_per_hour * 1e6 / (3600.0 * tokens_per_s)
}

/// The smallest of the values that is at least as large as a share `q` of them (nearest rank); NaN
/// of none. It changes their order.
pub fn quantile(values: &mut [f64], q: f64) -> f64 {
    let rank = (q * values.len() as f64).ceil() as usize;
    let index = rank.clamp(1, values.len().max(1)) - 1;
    if index >= values.len() {
        return f64::NAN;
    }
    *values.select_nth_unstable_by(index, f64::total_cmp).1
}
