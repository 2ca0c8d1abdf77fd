//! Limits and the objective, as options.

use anyhow::{Result, bail};
use clap::ValueEnum;
use planner::{Constraints, Objective};

use crate::options::parse_size;

/// Limits on what is measured.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Limits")]
pub struct Limits {
    /// Most rise of the perplexity over that of the dense model: 2% or 0.02
    #[arg(long, requires = "text", value_name = "SHARE", value_parser = parse_share, allow_hyphen_values = true)]
    pub max_ppl_delta: Option<f64>,
    /// Most KL divergence from the dense model, in nats per token
    #[arg(long, value_name = "NATS", requires = "text")]
    pub max_kl: Option<f64>,
    /// Most p99 of every kind of timed request: 100ms, 1.5s
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub max_latency_p99: Option<f64>,
    /// Least tokens of an output per second
    #[arg(long, value_name = "N")]
    pub min_throughput: Option<f64>,
    /// Most memory of the process that answers requests: 1GB
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub max_memory: Option<u64>,
    /// Most bytes of the files of weights: 1GB
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub max_size: Option<u64>,
    /// Objective to minimise; by default cost with --price, size without
    #[arg(long, value_name = "WHAT", value_enum)]
    pub objective: Option<What>,
    /// Price of this machine in dollars per hour
    #[arg(long, value_name = "DOLLARS")]
    pub price: Option<f64>,
}

/// Objective to minimise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum What {
    /// Dollars per million tokens of outputs
    Cost,
    /// Bytes of the files
    Size,
    /// The p99 of requests
    Latency,
    /// KL divergence
    Quality,
}

impl Limits {
    /// The limits and the objective.
    ///
    /// # Errors
    /// For numbers that cannot be, cost without a price, quality without a text.
    pub fn read(&self, has_text: bool) -> Result<(Constraints, Objective)> {
        let constraints = Constraints {
            max_perplexity_change: self.max_ppl_delta,
            max_kl: self.max_kl,
            max_p99_ms: self.max_latency_p99,
            min_tokens_per_s: self.min_throughput,
            max_memory: self.max_memory,
            max_size: self.max_size,
        };
        let usual = if self.price.is_some() { What::Cost } else { What::Size };
        let objective = match (self.objective.unwrap_or(usual), self.price) {
            (What::Cost, Some(price_per_hour)) => Objective::Cost { price_per_hour },
            (What::Cost, None) => bail!("--objective cost needs --price, the price of this machine per hour"),
            (What::Size, _) => Objective::Size,
            (What::Latency, _) => Objective::Latency,
            (What::Quality, _) if !has_text => bail!("--objective quality needs --text"),
            (What::Quality, _) => Objective::Quality,
        };
        if let Err(reason) = constraints.check().and_then(|()| objective.check()) {
            bail!("options: {reason}");
        }
        Ok((constraints, objective))
    }
}

/// A share, such as `2%` or `0.02`.
fn parse_share(text: &str) -> Result<f64, String> {
    let parsed = match text.strip_suffix('%') {
        Some(percent) => percent.trim_end().parse::<f64>().map(|percent| percent / 100.0),
        None => text.parse(),
    };
    parsed.ok().filter(|share: &f64| share.is_finite()).ok_or_else(|| "a share is 2% or 0.02".to_owned())
}

/// A time in ms, such as `100ms` or `1.5s`.
fn parse_time(text: &str) -> Result<f64, String> {
    let number = |text: &str, factor: f64| text.trim_end().parse::<f64>().ok().map(|number| factor * number);
    let parsed = match (text.strip_suffix("ms"), text.strip_suffix('s')) {
        (Some(ms), _) => number(ms, 1.0),
        (None, Some(seconds)) => number(seconds, 1e3),
        (None, None) => None,
    };
    parsed.filter(|ms| ms.is_finite() && *ms >= 0.0).ok_or_else(|| "a time is 100ms or 1.5s".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_and_times_have_units() {
        assert_eq!(["2%", "0.02", "2 %", "-1%"].map(parse_share), [Ok(0.02), Ok(0.02), Ok(0.02), Ok(-0.01)]);
        assert_eq!(["100ms", "1.5s", "0s"].map(parse_time), [Ok(100.0), Ok(1500.0), Ok(0.0)]);
        for text in ["", "%", "two", "inf", "NaN"] {
            assert!(parse_share(text).is_err(), "{text}");
        }
        for text in ["", "100", "ms", "-1ms", "infs", "1 h"] {
            assert!(parse_time(text).is_err(), "{text}");
        }
    }
}
