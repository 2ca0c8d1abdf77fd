//! The factors of a payload: validation and decoding.

use codec_api::util::first_non_finite;
use codec_api::{DecodeCx, Dtype, PayloadView, Result, TensorSpec};

use crate::keys::Svd;
use crate::matrix::power_of_two;
use crate::size::Sizes;

/// `W ≈ Σ s_k u_k v_kᵀ`.
#[derive(Debug)]
pub(crate) struct Factors {
    pub(crate) rows: usize,
    pub(crate) columns: usize,
    /// Singular values without the factor of 2^`exponent`.
    pub(crate) s: Vec<f32>,
    pub(crate) exponent: i16,
    /// The left vectors, concatenated; each has one element per row of the matrix.
    pub(crate) u: Vec<f32>,
    /// The right vectors, concatenated; each has one element per column of the matrix.
    pub(crate) v: Vec<f32>,
}

impl Factors {
    pub(crate) fn read(codec: &Svd, spec: &TensorSpec, payload: &PayloadView<'_>, cx: &DecodeCx<'_>) -> Result<Self> {
        let sizes = Sizes::new(&*codec.inner, spec);
        let rank = payload.section("s")?.spec().elements();
        let s: Vec<f32> = payload.values("s", Dtype::F32, &[rank])?;
        if !(1..=sizes.below_break_even()).contains(&rank) {
            let even = sizes.break_even();
            return Err(payload.corrupt("s", format!("rank {rank}: it is at least 1 and below {even:.3}, break-even")));
        }
        if let Some(k) = first_non_finite(&s) {
            return Err(payload.corrupt("s", format!("singular value {k} is not finite")));
        }
        let exponent = payload.values::<i16>("exponent", Dtype::I16, &[1])?[0];
        if !(-149..=127).contains(&exponent) {
            return Err(payload.corrupt("exponent", format!("{exponent} is beyond the range of f32")));
        }
        let [of_u, of_v] = sizes.factors(rank)?;
        let u = vectors(codec, "u", &of_u, payload, cx)?;
        let v = vectors(codec, "v", &of_v, payload, cx)?;
        Ok(Self { rows: sizes.rows, columns: sizes.columns, s, exponent, u, v })
    }

    /// The singular values with the factor.
    pub(crate) fn values(&self) -> impl Iterator<Item = f64> {
        self.s.iter().map(|s| f64::from(*s) * power_of_two(self.exponent))
    }
}

/// Decodes the vectors of one scope. The size of the sections is checked against their cost before
/// memory is allocated.
fn vectors(
    codec: &Svd,
    scope: &str,
    spec: &TensorSpec,
    payload: &PayloadView<'_>,
    cx: &DecodeCx<'_>,
) -> Result<Vec<f32>> {
    let view = payload.scoped(scope);
    view.check_size(&*codec.inner, spec)?;
    let mut values = cx.zeros(spec.elements(), view.total_bytes())?;
    codec.inner.decode(spec, view, &cx.for_child(), &mut values)?;
    match first_non_finite(&values) {
        Some(index) => Err(payload.corrupt(scope, format!("element {index} is not finite"))),
        None => Ok(values),
    }
}
