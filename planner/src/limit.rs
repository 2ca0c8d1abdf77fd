//! Limits, and by how much something misses them.

use std::fmt;

use serde::Serialize;

/// What a limit is set on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Limit {
    /// Quality: a share, at least so much.
    Quality,
    /// Latency that 99 % of requests keep, in ms, at most so much.
    P99,
    /// Memory in bytes, at most so much.
    Memory,
    /// Rise of the perplexity over that of the dense model, as a share, at most so much.
    PerplexityChange,
    /// KL divergence from the dense model in nats per token, at most so much.
    Kl,
    /// Decoded tokens per second, at least so much.
    Throughput,
    /// Bytes on disk, at most so much.
    Size,
}

impl Limit {
    /// Whether larger values are better.
    pub fn is_least(self) -> bool {
        matches!(self, Self::Quality | Self::Throughput)
    }

    /// A value with its unit.
    pub fn shown(self, value: f64) -> String {
        match self {
            Self::Quality => format!("{value:.3}"),
            Self::P99 => format!("{} ms", rounded(value)),
            Self::Memory | Self::Size if value >= 1e9 => format!("{:.2} GB", value / 1e9),
            Self::Memory | Self::Size => format!("{:.3} MB", value / 1e6),
            Self::PerplexityChange => format!("{:+.2} %", 100.0 * value),
            Self::Kl => format!("{value:.3e} nats"),
            Self::Throughput => format!("{} tokens/s", rounded(value)),
        }
    }

    /// The miss of a value that is beyond the limit; an unknown value and NaN always are.
    pub(crate) fn miss(self, wanted: Option<f64>, found: Option<f64>) -> Option<Miss> {
        let wanted = wanted?;
        let keeps = found.is_some_and(|found| if self.is_least() { found >= wanted } else { found <= wanted });
        (!keeps).then_some(Miss { limit: self, wanted, found })
    }
}

/// Four significant digits, whole above that.
fn rounded(value: f64) -> String {
    let decimals = match value.abs() {
        1000.0.. => 0,
        100.0.. => 1,
        10.0.. => 2,
        _ => 3,
    };
    let text = format!("{value:.decimals$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Quality => "quality",
            Self::P99 => "p99",
            Self::Memory => "memory",
            Self::PerplexityChange => "change of perplexity",
            Self::Kl => "KL divergence",
            Self::Throughput => "throughput",
            Self::Size => "size",
        })
    }
}

/// A limit that is not kept.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Miss {
    /// The limit.
    pub limit: Limit,
    /// The value it asks for.
    pub wanted: f64,
    /// The value there is; `None` if nobody measured or stated it.
    pub found: Option<f64>,
}

impl Miss {
    /// The distance from the limit, relative to the limit; infinite if the value is unknown.
    pub fn by(&self) -> f64 {
        let distance = self.found.map_or(f64::INFINITY, |found| (found - self.wanted).abs());
        if distance.is_nan() { f64::INFINITY } else { distance / self.wanted.abs().max(f64::MIN_POSITIVE) }
    }
}

impl fmt::Display for Miss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { limit, wanted, found } = self;
        let wanted = limit.shown(*wanted);
        match found {
            Some(found) => {
                let side = if limit.is_least() { "below" } else { "above" };
                write!(f, "{limit} {} is {side} {wanted}", limit.shown(*found))
            }
            None => write!(f, "{limit} is unknown; {wanted} is the limit"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_at_the_limit_keeps_it() {
        assert_eq!(Limit::Quality.miss(Some(0.9), Some(0.9)), None);
        assert_eq!(Limit::P99.miss(Some(100.0), Some(100.0)), None);
        assert_eq!(Limit::P99.miss(None, None), None);
        for found in [None, Some(f64::NAN)] {
            assert_eq!(Limit::P99.miss(Some(100.0), found).unwrap().by(), f64::INFINITY);
        }
    }

    #[test]
    fn a_miss_says_both_values() {
        let say = |limit: Limit, wanted, found| limit.miss(Some(wanted), Some(found)).unwrap().to_string();
        assert_eq!(say(Limit::P99, 100.0, 150.5), "p99 150.5 ms is above 100 ms");
        assert_eq!(say(Limit::Quality, 0.9, 0.88), "quality 0.880 is below 0.900");
        assert_eq!(say(Limit::Memory, 8e9, 14e9), "memory 14.00 GB is above 8.00 GB");
        assert_eq!(say(Limit::PerplexityChange, 0.02, 0.031), "change of perplexity +3.10 % is above +2.00 %");
        let unknown = Limit::Kl.miss(Some(0.01), None).unwrap();
        assert_eq!(unknown.to_string(), "KL divergence is unknown; 1.000e-2 nats is the limit");
        assert!((Limit::P99.miss(Some(100.0), Some(150.0)).unwrap().by() - 0.5).abs() < 1e-12);
    }
}
