//! Simulated training: derives a tensor from a tensor, which becomes its base.

use bytes::Bytes;
use codec_api::Dtype;

use super::random::Draw;
use super::{Item, SuiteError, narrow};

impl Item {
    /// `self + sd·N(0, 1)`, summed in f64, rounded to f32 and then to the dtype.
    pub(super) fn plus_normal(&self, seed: u64, name: &str, sd: f64) -> Result<Self, SuiteError> {
        let base = self.to_f32().map_err(|source| SuiteError::Tensor { tensor: self.name.clone(), source })?;
        let mut draw = Draw::new(seed, name);
        let values: Vec<f32> = base.iter().map(|w| (f64::from(*w) + sd * draw.normal()) as f32).collect();
        Ok(self.becomes(name, narrow(&values, self.spec.dtype())))
    }

    /// For an F32, F16 or BF16 tensor: moves each weight, with this probability, to the next value
    /// of the dtype, to a larger or smaller magnitude with equal probability, as far as a finite
    /// neighbour exists.
    pub(super) fn stepped(&self, seed: u64, name: &str, probability: f64) -> Self {
        let mut draw = Draw::new(seed, name);
        let mut direction = || draw.chance(probability).then(|| draw.chance(0.5));
        let mut bytes = self.data.to_vec();
        for weight in bytes.chunks_exact_mut(self.spec.dtype().bitsize() / 8) {
            let Some(up) = direction() else { continue };
            let mut bits = [0; 4];
            bits[..weight.len()].copy_from_slice(weight);
            let moved = step(u32::from_le_bytes(bits), self.spec.dtype(), up).to_le_bytes();
            weight.copy_from_slice(&moved[..weight.len()]);
        }
        self.becomes(name, bytes.into())
    }

    fn becomes(&self, name: &str, data: Bytes) -> Self {
        Self { base: Some(self.data.clone()), ..Self::new(name, self.spec.clone(), data) }
    }
}

/// The bits of the finite float with the next larger or smaller magnitude and the same sign. Zero
/// always moves up, the largest number always down.
fn step(bits: u32, dtype: Dtype, up: bool) -> u32 {
    let (largest, sign) = match dtype {
        Dtype::F16 => (0x7bff, 0x8000),
        Dtype::BF16 => (0x7f7f, 0x8000),
        _ => (0x7f7f_ffff, 0x8000_0000),
    };
    let magnitude = bits & !sign;
    if magnitude == 0 || (up && magnitude < largest) { bits + 1 } else { bits - 1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_stays_among_the_finite_numbers_of_its_sign() {
        for (dtype, largest, sign) in
            [(Dtype::F16, 0x7bff, 0x8000), (Dtype::BF16, 0x7f7f, 0x8000), (Dtype::F32, 0x7f7f_ffff, 0x8000_0000)]
        {
            for sign in [0, sign] {
                assert_eq!([true, false].map(|up| step(sign | 5, dtype, up)), [sign | 6, sign | 4]);
                assert_eq!([true, false].map(|up| step(sign, dtype, up)), [sign | 1; 2]);
                assert_eq!([true, false].map(|up| step(sign | largest, dtype, up)), [sign | (largest - 1); 2]);
            }
        }
    }
}
