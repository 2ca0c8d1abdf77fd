//! When requests arrive.

use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{Rng, SeedableRng};

use crate::error::{Error, Result, positive};
use crate::request::Request;

/// A request that arrives.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Arrival {
    /// When, in s.
    pub at_s: f64,
    /// Its place in the list of requests.
    pub request: usize,
}

/// Most requests of a simulation.
pub const MAX_REQUESTS: usize = 20_000_000;

/// An endless Poisson process: requests drawn at random from a list, at independent, exponentially
/// distributed distances.
#[derive(Clone, Debug)]
pub struct Poisson {
    rng: Xoshiro256PlusPlus,
    per_s: f64,
    requests: usize,
    now_s: f64,
}

impl Poisson {
    /// A process of so many arrivals per second on average, of requests of a list of this length.
    ///
    /// # Errors
    /// [`Error::Input`] for a rate that is none, and for an empty list.
    pub fn new(per_s: f64, requests: usize, seed: u64) -> Result<Self> {
        positive("arrivals per second", per_s).map_err(Error::Input)?;
        if requests == 0 {
            return Err(Error::Input("traffic needs at least one request".to_owned()));
        }
        Ok(Self { rng: Xoshiro256PlusPlus::seed_from_u64(seed), per_s, requests, now_s: 0.0 })
    }
}

impl Iterator for Poisson {
    type Item = Arrival;

    fn next(&mut self) -> Option<Arrival> {
        // In (0, 1], from 53 random bits.
        let uniform = ((self.rng.next_u64() >> 11) + 1) as f64 * f64::EPSILON / 2.0;
        self.now_s -= libm::log(uniform) / self.per_s;
        let request = ((u128::from(self.rng.next_u64()) * self.requests as u128) >> 64) as usize;
        Some(Arrival { at_s: self.now_s, request })
    }
}

/// The arrivals that the requests themselves state, in time since the first of them.
///
/// # Errors
/// [`Error::Input`] if one has no `arrival_s`, or it is before the one above it.
pub fn trace<'a>(requests: impl IntoIterator<Item = &'a Request>) -> Result<Vec<Arrival>> {
    let mut arrivals: Vec<Arrival> = Vec::new();
    for (request, at_s) in requests.into_iter().map(|request| request.arrival_s).enumerate() {
        let number = request + 1;
        let Some(at_s) = at_s else {
            return Err(Error::Input(format!("request {number} has no `arrival_s`, which a trace needs")));
        };
        if let Some(before) = arrivals.last().filter(|before| before.at_s > at_s) {
            let reason = format!("request {number} arrives at {at_s} s, before the one above it at {} s", before.at_s);
            return Err(Error::Input(reason));
        }
        arrivals.push(Arrival { at_s, request });
    }
    let first = arrivals.first().map_or(0.0, |first| first.at_s);
    for arrival in &mut arrivals {
        arrival.at_s -= first;
    }
    Ok(arrivals)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrivals_have_the_rate_and_all_requests_come() {
        let n = 200_000;
        let arrivals: Vec<_> = Poisson::new(4.0, 5, 1).unwrap().take(n).collect();
        let gaps = || arrivals.windows(2).map(|pair| pair[1].at_s - pair[0].at_s);
        let mean = gaps().sum::<f64>() / n as f64;
        let variance = gaps().map(|gap| (gap - mean).powi(2)).sum::<f64>() / n as f64;
        // An exponential distribution of mean 1/4; four standard errors.
        assert!((mean * 4.0 - 1.0).abs() < 0.009, "{mean}");
        assert!((variance * 16.0 - 1.0).abs() < 0.026, "{variance}");
        for request in 0..5 {
            let share = arrivals.iter().filter(|arrival| arrival.request == request).count() as f64 / n as f64;
            assert!((share - 0.2).abs() < 0.004, "{share}");
        }
        assert_eq!(arrivals[..9], Poisson::new(4.0, 5, 1).unwrap().take(9).collect::<Vec<_>>());
        assert_ne!(arrivals[0], Poisson::new(4.0, 5, 2).unwrap().next().unwrap());
        assert!(Poisson::new(f64::NAN, 1, 0).is_err() && Poisson::new(1.0, 0, 0).is_err());
    }

    #[test]
    fn a_trace_is_in_order() {
        let at = |arrival_s| Request { arrival_s, ..Request::default() };
        let arrivals = trace(&[at(Some(86400.0)), at(Some(86402.0)), at(Some(86402.0))]).unwrap();
        assert_eq!(
            arrivals.iter().map(|arrival| (arrival.at_s, arrival.request)).collect::<Vec<_>>(),
            [(0.0, 0), (2.0, 1), (2.0, 2)]
        );
        let wrong = |requests: &[Request]| trace(requests).unwrap_err().to_string();
        assert!(wrong(&[at(Some(0.0)), at(None)]).contains("request 2 has no `arrival_s`"));
        assert!(wrong(&[at(Some(3.0)), at(Some(2.0))]).contains("request 2 arrives at 2 s, before"));
    }
}
