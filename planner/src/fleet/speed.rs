//! How fast a variant is on a kind of hardware.

use serde::Deserialize;

use crate::error::{not_negative, positive};
use crate::profile::{Lengths, Profile};

/// Speeds that somebody states: the table `[variant.on.HARDWARE]` of a fleet file.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
pub struct Stated {
    /// Mean time of a request in ms, whatever its lengths; with the speeds below, the part of it
    /// that does not depend on them.
    pub latency_ms: f64,
    /// The p99 of a request, as a multiple of its mean time.
    pub p99_factor: f64,
    /// Tokens per second of the machine, of prompts and outputs, when it is busy.
    pub tokens_per_s: f64,
    /// Tokens of a prompt per second, of one request.
    pub prefill_tokens_per_s: Option<f64>,
    /// Tokens of an output per second, of one request.
    pub decode_tokens_per_s: Option<f64>,
}

/// Stated or measured speeds.
#[derive(Clone, Debug, PartialEq)]
pub enum Speed {
    /// As somebody states them.
    Stated(Stated),
    /// As measured, one request at a time.
    Measured(Box<Profile>),
}

impl Speed {
    /// The profile, if the speeds are measured.
    pub fn profile(&self) -> Option<&Profile> {
        match self {
            Self::Stated(_) => None,
            Self::Measured(profile) => Some(profile),
        }
    }

    /// The p99 of requests of these lengths in ms; `None` if no latency was measured.
    pub fn p99_ms(&self, lengths: Lengths) -> Option<f64> {
        match self {
            Self::Stated(stated) => Some(stated.p99_factor * stated.mean_ms(lengths)),
            Self::Measured(profile) => profile.p99_ms(lengths),
        }
    }

    /// The seconds that a request takes if it has the machine alone.
    pub fn alone_s(&self, lengths: Lengths) -> f64 {
        match self {
            Self::Stated(stated) => stated.mean_ms(lengths) / 1e3,
            Self::Measured(profile) => profile.mean_ms(lengths).unwrap_or(f64::INFINITY) / 1e3,
        }
    }

    /// Tokens per second of the machine when it is busy with requests of these lengths.
    pub fn tokens_per_s(&self, lengths: Lengths) -> f64 {
        match self {
            Self::Stated(stated) => stated.tokens_per_s,
            Self::Measured(_) => {
                // A request without tokens costs as much per token as the shortest one.
                let lengths = if lengths.total() == 0 { Lengths { prompt: 0, output: 1 } } else { lengths };
                lengths.total() as f64 / self.alone_s(lengths)
            }
        }
    }

    /// The seconds of a busy machine that a request needs.
    pub fn work_s(&self, lengths: Lengths) -> f64 {
        lengths.total() as f64 / self.tokens_per_s(lengths)
    }

    pub(super) fn check(&self) -> Result<(), String> {
        match self {
            Self::Stated(stated) => stated.check(),
            Self::Measured(profile) => {
                profile.check()?;
                let speeds = [profile.prefill_tokens_per_s, profile.decode_tokens_per_s];
                let known = speeds.iter().all(Option::is_some);
                let missing = "its profile has no `prefill_tokens_per_s` or no `decode_tokens_per_s`; measure it again";
                if known { Ok(()) } else { Err(missing.to_owned()) }
            }
        }
    }
}

impl Stated {
    fn mean_ms(&self, lengths: Lengths) -> f64 {
        let time = |tokens: u64, speed: Option<f64>| speed.map_or(0.0, |speed| 1e3 * tokens as f64 / speed);
        self.latency_ms
            + time(lengths.prompt, self.prefill_tokens_per_s)
            + time(lengths.output, self.decode_tokens_per_s)
    }

    fn check(&self) -> Result<(), String> {
        not_negative("latency_ms", self.latency_ms)?;
        positive("tokens_per_s", self.tokens_per_s)?;
        let speeds =
            [("prefill_tokens_per_s", self.prefill_tokens_per_s), ("decode_tokens_per_s", self.decode_tokens_per_s)];
        for (key, speed) in speeds {
            speed.map_or(Ok(()), |speed| positive(key, speed))?;
        }
        let fits = self.p99_factor.is_finite() && self.p99_factor >= 1.0;
        if fits { Ok(()) } else { Err(format!("`p99_factor` is {}; it has to be at least 1", self.p99_factor)) }
    }
}
