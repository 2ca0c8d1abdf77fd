//! Scaling of tensors near the ends of f32 to a range where arithmetic is safe.

use codec_api::{Dtype, Payload, PayloadView, Result, Section};

/// Tensors with a largest weight from 2⁻⁶⁰ to 2⁶⁰ are not scaled.
const SAFE: i32 = 60;

/// Weights are multiplied by `2^−exponent` before quantisation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Exponent(i16);

impl Exponent {
    /// The exponent for a tensor with this largest magnitude.
    pub(super) fn of(largest: f32) -> Self {
        if largest == 0.0 {
            return Self(0);
        }
        let exponent = libm::ilogb(f64::from(largest));
        // Scales large weights down as little as possible, since there may be small ones beside
        // them.
        Self(if exponent > SAFE {
            exponent - SAFE
        } else if exponent < -SAFE {
            exponent
        } else {
            0
        } as i16)
    }

    /// Factor of the weights.
    pub(super) fn factor(self) -> f64 {
        libm::exp2(-f64::from(self.0))
    }

    pub(super) fn is_none(self) -> bool {
        self.0 == 0
    }

    /// Scales weights to the safe range. This is exact, except for small weights beside large ones,
    /// which may become subnormal.
    pub(super) fn reduce(self, weights: &mut [f32]) {
        self.multiply(-1, weights);
    }

    /// Scales weights back, clamped to the range of f32.
    pub(super) fn restore(self, weights: &mut [f32]) {
        self.multiply(1, weights);
    }

    fn multiply(self, sign: i32, weights: &mut [f32]) {
        if self.is_none() {
            return;
        }
        let factor = libm::exp2(f64::from(sign * i32::from(self.0)));
        for w in weights {
            *w = ((f64::from(*w) * factor) as f32).clamp(-f32::MAX, f32::MAX);
        }
    }

    pub(super) fn read(payload: &PayloadView<'_>) -> Result<Self> {
        if !payload.has(EXPONENT) {
            return Ok(Self(0));
        }
        match payload.values::<i16>(EXPONENT, Dtype::I16, &[1])?.as_slice() {
            &[exponent] if exponent.unsigned_abs() <= 160 => Ok(Self(exponent)),
            other => Err(payload.corrupt(EXPONENT, format!("{other:?} is no exponent"))),
        }
    }

    pub(super) fn write(self, payload: Payload) -> Result<Payload> {
        if self.is_none() {
            return Ok(payload);
        }
        payload.with(EXPONENT, Section::from_values(Dtype::I16, [1], vec![self.0])?)
    }

    /// Bytes of the section.
    pub(super) fn bytes(self) -> usize {
        if self.is_none() { 0 } else { 2 }
    }
}

const EXPONENT: &str = "exponent";
