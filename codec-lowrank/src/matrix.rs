//! The matrix for the decomposition, scaled so that nothing overflows or underflows.

use faer::Mat;

/// `W · 2^−exponent` with its largest magnitude in `[1, 2)`; for all zeros the exponent is 0.
pub(crate) struct Matrix {
    /// The transpose: a row of `W` is a column, which faer stores contiguously.
    pub(crate) transposed: Mat<f32>,
    pub(crate) exponent: i16,
    /// `Σ w²`, scaled like the matrix.
    pub(crate) energy: f64,
}

impl Matrix {
    /// Scales finite values, row-major.
    pub(crate) fn new((rows, columns): (usize, usize), values: &[f32]) -> Self {
        let exponent = exponent(simd::max_abs(values));
        // The product is exact in f64; as f32 it loses only bits below 2^-149 of the largest.
        let factor = power_of_two(-exponent);
        let mut transposed = Mat::zeros(columns, rows);
        let mut energy = 0.0;
        for (row, values) in values.chunks_exact(columns).enumerate() {
            let scaled = transposed.col_as_slice_mut(row);
            scale(values, factor, scaled);
            energy += squares(scaled);
        }
        Self { transposed, exponent, energy }
    }
}

simd::kernel! {
    fn scale<'a>(_simd, values: &'a [f32], factor: f64, scaled: &'a mut [f32]) {
        for (to, from) in scaled.iter_mut().zip(values) {
            *to = (f64::from(*from) * factor) as f32;
        }
    }
}

simd::kernel! {
    /// `Σ x²`, in f64.
    fn squares<'a>(_simd, values: &'a [f32]) -> f64 {
        let mut lanes = [0.0; simd::LANES];
        for x in values.chunks(simd::LANES) {
            let x = simd::load(x);
            for i in 0..simd::LANES {
                lanes[i] += f64::from(x[i]) * f64::from(x[i]);
            }
        }
        simd::sum(lanes)
    }
}

/// The exponent of a finite number's leading bit, −149 to 127; 0 for 0.
fn exponent(largest: f32) -> i16 {
    // Every f32 is a normal f64.
    if largest == 0.0 { 0 } else { ((f64::from(largest).to_bits() >> 52) & 0x7ff) as i16 - 1023 }
}

/// `2^exponent`, for exponents of normal f64 numbers.
pub(crate) fn power_of_two(exponent: i16) -> f64 {
    f64::from_bits(((1023 + i64::from(exponent)) as u64) << 52)
}
