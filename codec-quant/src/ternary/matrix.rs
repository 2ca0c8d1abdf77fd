//! A checked payload, and its rows.

use std::ops::Range;

use codec_api::{Bytes, Dtype, PayloadView, Result, RowReader, TensorSpec, check_rows};

use super::{Packing, Ternary, packing};

/// A checked payload.
#[derive(Debug)]
pub(super) struct Matrix {
    pub(super) packing: Packing,
    pub(super) rows: usize,
    pub(super) columns: usize,
    codes: Bytes,
    scales: Vec<f32>,
}

impl Matrix {
    pub(super) fn open(codec: &Ternary, spec: &TensorSpec, payload: &PayloadView<'_>) -> Result<Self> {
        let (packing, (rows, columns)) = (codec.packing, spec.matrix());
        let codes = payload.bytes("codes", Dtype::U8, &packing.shape((rows, columns)))?.clone();
        let scales: Vec<f32> = payload.values("scale", Dtype::F32, &[codec.scope.scales(rows)])?;
        if !packing.is_valid(&codes) {
            return Err(payload.corrupt("codes", "a byte has a code that is no weight"));
        }
        if let Some(scale) = scales.iter().find(|scale| !scale.is_finite()) {
            return Err(payload.corrupt("scale", format!("{scale} is not finite")));
        }
        Ok(Self { packing, rows, columns, codes, scales })
    }

    #[inline(always)]
    pub(super) fn codes(&self, row: usize) -> &[u8] {
        let len = self.packing.row_len(self.columns);
        &self.codes[row * len..][..len]
    }

    /// The codes from those of a row on; none for a row beyond the last one.
    #[inline(always)]
    pub(super) fn codes_from(&self, row: usize) -> &[u8] {
        self.codes.get(row * self.packing.row_len(self.columns)..).unwrap_or_default()
    }

    /// With the scale 0 for rows of zeros, if rows have scales of their own.
    pub(super) fn without_scales_of_zeros(mut self) -> Self {
        if self.scales.len() == self.rows {
            for row in 0..self.rows {
                if self.packing.is_zero(self.codes(row)) {
                    self.scales[row] = 0.0;
                }
            }
        }
        self
    }

    #[inline(always)]
    pub(super) fn scale(&self, row: usize) -> f32 {
        self.scales[row.min(self.scales.len() - 1)]
    }
}

impl RowReader for Matrix {
    fn shape(&self) -> (usize, usize) {
        (self.rows, self.columns)
    }

    fn read(&self, rows: Range<usize>, out: &mut [f32]) -> Result<()> {
        check_rows((self.rows, self.columns), &rows, out)?;
        packing::decode(self, rows.start, out);
        Ok(())
    }

    fn resident_bytes(&self) -> u64 {
        (self.codes.len() + size_of_val(&*self.scales)) as u64
    }
}
