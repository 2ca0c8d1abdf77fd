//! The settings of `trellis`.

use codec_api::FormatVersion;
use serde::{Deserialize, Serialize};

use super::machine::States;

/// Configuration of `trellis`; see the [module's documentation](super) for the format.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Fields", into = "Fields")]
#[non_exhaustive]
pub struct Trellis {
    /// Number of states of the trellis.
    pub states: States,
    /// Target of the encoder.
    pub target: Target,
    /// Lagrange factor between squared error and bits at low rates, in squared steps per bit.
    pub lambda: f64,
}

/// Target of an encoder, which determines the step.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Target {
    /// At most this many bits per weight, everything included.
    Bits(f64),
    /// At most this `‖w − ŵ‖²/‖w‖²`.
    Error(f64),
    /// This distance between neighbouring multiples, before the points are fitted to the weights.
    Step(f64),
}

impl Default for Trellis {
    fn default() -> Self {
        Self::new(States::FAST, Target::Bits(4.0))
    }
}

impl Trellis {
    /// A configuration with this number of states and this target.
    pub const fn new(states: States, target: Target) -> Self {
        Self { states, target, lambda: LAMBDA }
    }
}

/// The lowest target rate in bits per weight: the coding of all weights as 0 meets it.
const LEAST_BITS: f64 = 0.25;

/// Nearly the best value for Gaussian and Laplacian weights at half a bit to one bit.
const LAMBDA: f64 = 0.36;

/// The keys of a header.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Fields {
    version: FormatVersion<1>,
    states: States,
    #[serde(skip_serializing_if = "Option::is_none")]
    bits: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    step: Option<f64>,
    lambda: f64,
}

impl Default for Fields {
    fn default() -> Self {
        Self { version: FormatVersion, states: States::FAST, bits: None, error: None, step: None, lambda: LAMBDA }
    }
}

impl TryFrom<Fields> for Trellis {
    type Error = String;

    fn try_from(fields: Fields) -> Result<Self, String> {
        let target = match (fields.bits, fields.error, fields.step) {
            (None, None, None) => Self::default().target,
            (Some(bits), None, None) => Target::Bits(within("bits", bits, LEAST_BITS, 16.0)?),
            (None, Some(error), None) => Target::Error(within("error", error, 1e-9, 1.0)?),
            (None, None, Some(step)) => Target::Step(within("step", step, 1e-30, 1e30)?),
            _ => return Err("one of `bits`, `error` and `step` is wanted, not several".to_owned()),
        };
        Ok(Self { states: fields.states, target, lambda: within("lambda", fields.lambda, 0.0, 1.0)? })
    }
}

fn within(key: &str, value: f64, least: f64, most: f64) -> Result<f64, String> {
    if (least..=most).contains(&value) {
        return Ok(value);
    }
    Err(format!("`{key}` {value} is out of range: a number from {least} to {most} is wanted"))
}

impl From<Trellis> for Fields {
    fn from(codec: Trellis) -> Self {
        let mut fields = Self { states: codec.states, lambda: codec.lambda, ..Self::default() };
        match codec.target {
            Target::Bits(bits) => fields.bits = Some(bits),
            Target::Error(error) => fields.error = Some(error),
            Target::Step(step) => fields.step = Some(step),
        }
        fields
    }
}
