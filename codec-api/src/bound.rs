//! Error bounds that an encoder certifies for the tensor that it has just encoded.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Upper bound on the difference between the source `w` and the decoded tensor `ŵ`, both as f32.
/// The encoder certifies it for this tensor.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Bound {
    /// Decoding restores every bit of the stored dtype.
    Exact,
    /// `max |w − ŵ|` is at most this.
    MaxAbs(f32),
    /// `‖w − ŵ‖₂ / ‖w‖₂` is at most this.
    RelFrobenius(f32),
    /// No bound; allowed for experimental codecs only.
    None,
}

impl Bound {
    /// The tightest [`Bound::MaxAbs`] that holds for these decoded values.
    ///
    /// # Panics
    /// Never; if the lengths differ, only the length of the shorter slice is compared.
    pub fn measure_max_abs(source: &[f32], decoded: &[f32]) -> Self {
        Self::max_abs(max_abs_error(source, decoded))
    }

    /// Like [`Self::measure_max_abs`]. If the largest error exceeds the range of f32, which can
    /// happen to weights near the end of that range, the tightest [`Bound::RelFrobenius`] instead.
    pub fn measure(source: &[f32], decoded: &[f32]) -> Self {
        match Self::measure_max_abs(source, decoded) {
            Self::MaxAbs(error) if error.is_infinite() => Self::rel_frobenius(rel_frobenius_error(source, decoded)),
            bound => bound,
        }
    }

    /// A [`Bound::MaxAbs`] of `error`, rounded up to f32.
    pub fn max_abs(error: f64) -> Self {
        Self::MaxAbs(round_up(error))
    }

    /// A [`Bound::RelFrobenius`] of `error`, rounded up to f32.
    pub fn rel_frobenius(error: f64) -> Self {
        Self::RelFrobenius(round_up(error))
    }

    /// Whether this bound holds for `decoded` against `source`.
    pub fn holds(&self, source: &[f32], decoded: &[f32]) -> bool {
        source.len() == decoded.len()
            && match *self {
                Self::Exact => source.iter().zip(decoded).all(|(a, b)| a.to_bits() == b.to_bits()),
                Self::MaxAbs(limit) => max_abs_error(source, decoded) <= f64::from(limit),
                Self::RelFrobenius(limit) => rel_frobenius_error(source, decoded) <= f64::from(limit),
                Self::None => true,
            }
    }

    /// `exact`, `max_abs`, `rel_frobenius` or `none`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::MaxAbs(_) => "max_abs",
            Self::RelFrobenius(_) => "rel_frobenius",
            Self::None => "none",
        }
    }

    /// The limit: 0 for [`Bound::Exact`], `None` for [`Bound::None`].
    pub fn value(&self) -> Option<f32> {
        match *self {
            Self::Exact => Some(0.0),
            Self::MaxAbs(v) | Self::RelFrobenius(v) => Some(v),
            Self::None => None,
        }
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MaxAbs(v) | Self::RelFrobenius(v) => write!(f, "{} {v:e}", self.kind()),
            _ => f.write_str(self.kind()),
        }
    }
}

/// `max |a − b|`, computed in f64. Infinite if any value is NaN.
pub fn max_abs_error(a: &[f32], b: &[f32]) -> f64 {
    // Partial maxima in lanes let the compiler vectorise. A NaN lane stays NaN, because no
    // comparison with it is true.
    const LANES: usize = 8;
    let mut worst = [0.0f64; LANES];
    let keep = |worst: &mut f64, x: f32, y: f32| {
        let error = (f64::from(x) - f64::from(y)).abs();
        *worst = if error > *worst || error.is_nan() { error } else { *worst };
    };
    let len = a.len().min(b.len());
    let ((a, last_a), (b, last_b)) = (a[..len].as_chunks::<LANES>(), b[..len].as_chunks::<LANES>());
    for (a, b) in a.iter().zip(b) {
        for i in 0..LANES {
            keep(&mut worst[i], a[i], b[i]);
        }
    }
    for (x, y) in last_a.iter().zip(last_b) {
        keep(&mut worst[0], *x, *y);
    }
    worst.into_iter().fold(0.0, |all, lane| if lane.is_nan() { f64::INFINITY } else { all.max(lane) })
}

/// `‖a − b‖₂ / ‖a‖₂`, computed in f64; 0 if `a` equals `b`, infinite if only `a` is all zeros.
pub fn rel_frobenius_error(a: &[f32], b: &[f32]) -> f64 {
    let (mut error, mut norm) = (0.0, 0.0);
    for (&x, &y) in a.iter().zip(b) {
        let (x, y) = (f64::from(x), f64::from(y));
        error += (x - y) * (x - y);
        norm += x * x;
    }
    if error == 0.0 { 0.0 } else { (error / norm).sqrt() }
}

/// The smallest f32 that is not below `x`.
fn round_up(x: f64) -> f32 {
    let y = x as f32;
    if f64::from(y) < x { y.next_up() } else { y }
}
