//! Scales with the least squared error: the nearest matrix of rank one, by alternating least
//! squares.

use codec_api::{Cancel, Result};
use simd::{LANES, bf16_to_f32, f32_to_bf16, kernel, lanes, load, store, sum};

use super::scales::{Layout, Scales, block};

/// Maximum number of fits of the column scales.
pub(super) const SWEEPS: u32 = 10;

/// Fits row and column scales to the magnitudes of the differences.
///
/// # Errors
/// [`codec_api::CodecError::Cancelled`].
pub(super) fn fit(layout: &Layout, differences: &[f32], cancel: &Cancel) -> Result<Scales> {
    let ones = vec![1.0; layout.column_scales];
    let mut scales = Scales { rows: Vec::new(), bits: vec![0; ones.len()], columns: ones };
    if layout.column_scales > 0 {
        for _ in 0..SWEEPS {
            let before = std::mem::take(&mut scales.bits);
            scales.set_columns(&column_sums(layout, differences, &scales.columns, cancel)?);
            if scales.bits == before {
                break;
            }
        }
    }
    scales.rows = row_scales(layout, differences, &scales.columns, cancel)?;
    Ok(scales)
}

impl Scales {
    /// Sets the column scales to `sums`, normalised to a maximum of 1 and rounded to BF16.
    fn set_columns(&mut self, sums: &[f64]) {
        let largest = sums.iter().fold(0.0, |m: f64, s| m.max(*s));
        // If there are no differences, all scales are 0.
        let divisor = if largest == 0.0 { 1.0 } else { largest };
        for (scale, sum) in self.columns.iter_mut().zip(sums) {
            *scale = (sum / divisor) as f32;
        }
        self.bits.resize(sums.len(), 0);
        f32_to_bf16(&self.columns, &mut self.bits);
        bf16_to_f32(&self.bits, &mut self.columns);
    }
}

/// `Σᵢ rowᵢ·|dᵢⱼ|` for each column `j`, with the best row scales for `columns`. These sums are
/// proportional to the best column scales for those row scales.
fn column_sums(layout: &Layout, differences: &[f32], columns: &[f32], cancel: &Cancel) -> Result<Vec<f64>> {
    let mut sums = vec![0.0; columns.len()];
    for row in layout.rows_of(differences) {
        cancel.check()?;
        let scale = if layout.row_scales == 1 { 1.0 } else { weighted(row, columns) };
        add_scaled(row, scale, &mut sums);
    }
    Ok(sums)
}

/// The best row scales for `columns`.
fn row_scales(layout: &Layout, differences: &[f32], columns: &[f32], cancel: &Cancel) -> Result<Vec<f32>> {
    let squares = if columns.is_empty() { layout.columns as f64 } else { weighted(columns, columns) };
    let mut sums = Vec::with_capacity(layout.row_scales);
    for row in layout.rows_of(differences) {
        cancel.check()?;
        sums.push(weighted(row, columns));
    }
    if layout.row_scales == 1 {
        sums = vec![sums.iter().sum::<f64>() / layout.rows as f64];
    }
    // All column scales are 0 if there are no differences.
    let scale = |sum: f64| if squares == 0.0 { 0.0 } else { (sum / squares).min(f32::MAX.into()) as f32 };
    Ok(sums.into_iter().map(scale).collect())
}

kernel! {
    /// `Σ |d|·column` of a row; without `columns`, each factor is 1.
    fn weighted<'a>(_simd, differences: &'a [f32], columns: &'a [f32]) -> f64 {
        let mut sums = [0.0; LANES];
        for (i, d) in differences.chunks(LANES).enumerate() {
            let (d, columns) = (load(d), block(columns, i));
            sums = lanes!(k => sums[k] + f64::from(d[k].abs()) * f64::from(columns[k]));
        }
        sum(sums)
    }
}

kernel! {
    /// Adds the magnitudes of a row, times `scale`, to the sums of the columns.
    fn add_scaled<'a>(_simd, differences: &'a [f32], scale: f64, sums: &'a mut [f64]) {
        for (d, sums) in differences.chunks(LANES).zip(sums.chunks_mut(LANES)) {
            let (d, before) = (load(d), load(sums));
            store(lanes!(k => before[k] + scale * f64::from(d[k].abs())), sums);
        }
    }
}
