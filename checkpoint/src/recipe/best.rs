//! `best`: a codec that is chosen by trial, [`Goal`] and candidates.

use std::sync::Arc;

use codec_api::{Codec, Dtype, Need, Registry, TensorSpec};

use crate::error::Error;

/// The candidates of a recipe that names none.
const CANDIDATES: &[&str] = &[
    "lossless",
    "quant.int:bits=8",
    "quant.int:preset=int4-clip",
    "trellis:states=64:error={nmse}",
    "trellis:states=64:bits={bits}",
    "lowrank.svd(quant.int:bits=8):error={error}",
    "lowrank.svd(quant.int:bits=8):bytes={bytes}",
    "sparse.csr(lossless):index=coded",
    "sparse.csr(quant.int:bits=8):index=coded",
];

/// What the codec of a tensor must keep, and what decides between candidates that do.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Goal {
    /// The fewest bytes with at most this `‖w − ŵ‖/‖w‖`.
    Error(f64),
    /// The least error with at most this many bits per weight.
    Bits(f64),
}

impl Goal {
    /// The goal of `best:error=E` or `best:bits=B`; `None` for the spec of a codec.
    ///
    /// # Errors
    /// [`Error::Recipe`] for other keys, or numbers out of range.
    pub(crate) fn parse(spec: &str) -> Result<Option<Self>, Error> {
        let Some(keys) = spec.strip_prefix("best") else { return Ok(None) };
        if !keys.is_empty() && !keys.starts_with(':') {
            return Ok(None);
        }
        let number = |text: &str| text.parse::<f64>().ok();
        let goal = match keys.strip_prefix(':').and_then(|key| key.split_once('=')) {
            Some(("error", text)) => number(text).filter(|error| (0.0..=1.0).contains(error)).map(Self::Error),
            Some(("bits", text)) => number(text).filter(|bits| (0.0..=64.0).contains(bits)).map(Self::Bits),
            _ => None,
        };
        let reason = "`best` has one key: `error`, the most ‖w − ŵ‖/‖w‖, from 0 to 1; or `bits`, the most bits per \
                      weight, from 0 to 64";
        goal.map(Some).ok_or_else(|| Error::recipe(spec, reason.to_owned()))
    }

    /// The spec of a candidate for a tensor. `None` if it has a placeholder for another goal.
    pub(crate) fn fill(self, candidate: &str, spec: &TensorSpec) -> Option<String> {
        let numbers = match self {
            Self::Error(error) => {
                // The search of a codec may miss its target by a hundredth.
                let nmse = 0.99 * (error * error - rounding(spec.dtype()));
                [("{error}", format!("{:.3e}", nmse.max(0.0).sqrt())), ("{nmse}", format!("{nmse:.3e}"))]
            }
            Self::Bits(bits) => {
                let bytes = (bits * spec.elements() as f64 / 8.0) as u64;
                [("{bits}", bits.to_string()), ("{bytes}", bytes.to_string())]
            }
        };
        let fill = |text: String, (name, number): &(&str, String)| text.replace(name, number);
        let filled = numbers.iter().fold(candidate.to_owned(), fill);
        (!filled.contains('{')).then_some(filled)
    }

    /// Whether a candidate keeps it, or misses it by a factor of at most `slack`.
    pub(crate) fn is_met(self, error: f64, bits: f64, slack: f64) -> bool {
        match self {
            Self::Error(most) => error <= slack * most,
            Self::Bits(most) => bits <= slack * most,
        }
    }

    /// What shall be small: first the first number.
    pub(crate) fn rank(self, error: f64, bits: f64) -> [f64; 2] {
        match self {
            Self::Error(_) => [bits, error],
            Self::Bits(_) => [error, bits],
        }
    }
}

/// About the `‖w − ŵ‖²/‖w‖²` of rounding to a dtype, which comes on top of a codec's
/// error: a twelfth of a squared unit in the last place, for weights spread over a power of two.
fn rounding(dtype: Dtype) -> f64 {
    let digits = match dtype {
        Dtype::BF16 => 7,
        Dtype::F16 => 10,
        _ => return 0.0,
    };
    0.25f64.powi(digits) / 24.0
}

/// The candidates of a recipe.
pub(crate) struct Candidates<'a> {
    specs: Vec<&'a str>,
    registry: &'a Registry,
}

/// A candidate for a tensor: its spec, and the codec or why there is none.
pub(crate) type Candidate = (String, Result<Arc<dyn Codec>, String>);

impl<'a> Candidates<'a> {
    /// These candidates; the usual ones of linked codecs if there are none.
    ///
    /// # Errors
    /// [`Error::Recipe`] for one that cannot be made.
    pub(crate) fn new(specs: &'a [String], registry: &'a Registry) -> Result<Self, Error> {
        // Any tensor will do for the check.
        let example = TensorSpec::new(Dtype::F32, [1024, 1024]).map_err(|e| Error::recipe("best", e.to_string()))?;
        let check = |spec: &str| {
            let filled = [Goal::Error(0.01), Goal::Bits(4.0)].into_iter().find_map(|goal| goal.fill(spec, &example));
            let filled = filled.ok_or("its placeholders are `{error}` and `{nmse}`, or `{bits}` and `{bytes}`")?;
            codec(&filled, false, registry).map(drop)
        };
        if specs.is_empty() {
            let linked = CANDIDATES.iter().copied().filter(|spec| check(spec).is_ok()).collect();
            return Ok(Self { specs: linked, registry });
        }
        for spec in specs {
            check(spec).map_err(|reason| Error::recipe(spec, reason))?;
        }
        Ok(Self { specs: specs.iter().map(String::as_str).collect(), registry })
    }

    /// Those for a tensor.
    pub(crate) fn of(&self, goal: Goal, spec: &TensorSpec) -> Vec<Candidate> {
        let filled = self.specs.iter().filter_map(|candidate| goal.fill(candidate, spec));
        filled.map(|text| (text.clone(), codec(&text, false, self.registry))).collect()
    }
}

/// The codec of a spec that a recipe gives, to a model that has a base if `based`.
///
/// # Errors
/// The reason.
pub(crate) fn codec(spec: &str, based: bool, registry: &Registry) -> Result<Arc<dyn Codec>, String> {
    let codec = registry.parse_spec(spec).map_err(|e| e.to_string())?;
    if codec.needs().calibration == Need::Requires {
        return Err("the codec needs calibration, which a recipe does not give".to_owned());
    }
    if codec.needs().base == Need::Requires && !based {
        return Err("the codec needs a base; give one with `--base`".to_owned());
    }
    Ok(codec)
}
