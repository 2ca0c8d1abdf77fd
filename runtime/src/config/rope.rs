//! Rotary positions: the frequency of each pair of values of a head.
//!
//! The kinds are those of transformers (`modeling_rope_utils`): default, linear, llama3
//! (Llama 3.1), and yarn (Peng et al., arXiv 2309.00071).

use std::f64::consts::TAU;

use super::keys::Keys;
use crate::error::Result;

/// The rotation of the pairs of a head. Value `i` of the first half of a head forms a pair with
/// value `i` of the second half.
#[derive(Clone, Debug)]
pub(crate) struct Rope {
    /// Radians per position.
    pub(crate) frequencies: Vec<f32>,
    /// Factor of sine and cosine.
    pub(crate) scale: f32,
}

impl Rope {
    /// Reads `rope_parameters`, or else `rope_theta` and `rope_scaling`.
    pub(super) fn read(keys: &Keys<'_>, head_width: usize, context: usize) -> Result<Self> {
        let parameters = match keys.inside("rope_parameters")? {
            Some(parameters) => Some(parameters),
            None => keys.inside("rope_scaling")?,
        };
        let theta = match &parameters {
            Some(parameters) if parameters.get("rope_theta").is_some() => parameters.number("rope_theta")?,
            _ => keys.maybe_number("rope_theta")?.unwrap_or(10_000.0),
        };
        let pairs = head_width / 2;
        let frequencies = |factor: f64| {
            (0..pairs).map(move |i| 1.0 / (factor * libm::pow(theta, 2.0 * i as f64 / head_width as f64)))
        };
        let plain: Vec<f64> = frequencies(1.0).collect();
        let Some(parameters) = parameters else { return Ok(Self::new(&plain, 1.0)) };
        if let Some(share) = parameters.maybe_number("partial_rotary_factor")?
            && share != 1.0
        {
            return parameters.refuse("partial_rotary_factor", format!("`{share}` is not supported, only `1`"));
        }
        let key = parameters.first(&["rope_type", "type"]);
        let kind = if parameters.get(key).is_some() { parameters.text(key)? } else { "default".to_owned() };
        match kind.as_str() {
            "default" => Ok(Self::new(&plain, 1.0)),
            "linear" => Ok(Self::new(&frequencies(parameters.number("factor")?).collect::<Vec<_>>(), 1.0)),
            "llama3" => llama3(&parameters, &plain),
            "yarn" => yarn(&parameters, &plain, theta, head_width, context),
            other => {
                parameters.refuse(key, format!("`{other}` is not supported, only default, linear, llama3 and yarn"))
            }
        }
    }

    fn new(frequencies: &[f64], scale: f64) -> Self {
        Self { frequencies: frequencies.iter().map(|f| *f as f32).collect(), scale: scale as f32 }
    }
}

/// Divides low frequencies by the factor, and interpolates between low and high ones.
fn llama3(keys: &Keys<'_>, plain: &[f64]) -> Result<Rope> {
    let (factor, low, high) =
        (keys.number("factor")?, keys.number("low_freq_factor")?, keys.number("high_freq_factor")?);
    let original = keys.number("original_max_position_embeddings")?;
    if high <= low {
        return keys.refuse("high_freq_factor", format!("{high} is not above low_freq_factor, {low}"));
    }
    let scaled = plain.iter().map(|frequency| {
        let turns = original * frequency / TAU;
        let kept = ((turns - low) / (high - low)).clamp(0.0, 1.0);
        frequency * ((1.0 - kept) / factor + kept)
    });
    Ok(Rope::new(&scaled.collect::<Vec<_>>(), 1.0))
}

/// Divides the frequencies of pairs that turn seldom within the original context, keeps those of
/// pairs that turn often, and scales sine and cosine.
fn yarn(keys: &Keys<'_>, plain: &[f64], theta: f64, head_width: usize, context: usize) -> Result<Rope> {
    let original = keys.maybe_number("original_max_position_embeddings")?.unwrap_or(context as f64);
    let factor = keys.maybe_number("factor")?.unwrap_or(context as f64 / original);
    let magnitude = |scale: f64| if factor <= 1.0 { 1.0 } else { 0.1 * scale * libm::log(factor) + 1.0 };
    let scale = match (keys.maybe_number("attention_factor")?, keys.maybe_number("mscale")?) {
        (Some(scale), _) => scale,
        (None, Some(scale)) => match keys.maybe_number("mscale_all_dim")? {
            Some(all) => magnitude(scale) / magnitude(all),
            None => magnitude(1.0),
        },
        (None, None) => magnitude(1.0),
    };
    // The pair that turns so often within the original context.
    let pair = |turns: f64| head_width as f64 * libm::log(original / (turns * TAU)) / (2.0 * libm::log(theta));
    let (fast, slow) =
        (keys.maybe_number("beta_fast")?.unwrap_or(32.0), keys.maybe_number("beta_slow")?.unwrap_or(1.0));
    let (mut low, mut high) = (pair(fast), pair(slow));
    if keys.flag("truncate", true)? {
        (low, high) = (libm::floor(low), libm::ceil(high));
    }
    (low, high) = (low.max(0.0), high.min(head_width as f64 - 1.0));
    if low == high {
        high += 0.001;
    }
    let scaled = plain.iter().enumerate().map(|(i, frequency)| {
        let divided = ((i as f64 - low) / (high - low)).clamp(0.0, 1.0);
        frequency * (divided / factor + 1.0 - divided)
    });
    Ok(Rope::new(&scaled.collect::<Vec<_>>(), scale))
}
