//! The layout of two-bit ternary codes, and payloads in it.

use codec_api::{Bytes, Dtype, PayloadView, Result, TensorSpec};
use simd::LANES;

use crate::Scope;

/// Weights per byte.
pub(super) const PLANES: usize = 4;
/// Weights per sixteen bytes.
pub(super) const GROUP: usize = PLANES * LANES;

/// Bytes of a row's codes.
pub(super) fn row_len(columns: usize) -> usize {
    columns.div_ceil(GROUP) * LANES
}

/// A checked payload.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) rows: usize,
    pub(super) columns: usize,
    codes: Bytes,
    scales: Vec<f32>,
}

impl Prepared {
    pub(super) fn read(scope: Scope, spec: &TensorSpec, payload: &PayloadView<'_>) -> Result<Self> {
        let (rows, columns) = spec.matrix();
        let codes = payload.bytes("codes", Dtype::U8, &[rows, columns.div_ceil(GROUP), LANES])?.clone();
        let scales: Vec<f32> = payload.values("scale", Dtype::F32, &[scope.scales(rows)])?;
        if codes.iter().fold(0, |both, byte| both | byte & byte >> 1) & 0x55 != 0 {
            return Err(payload.corrupt("codes", "a code is 3"));
        }
        if let Some(scale) = scales.iter().find(|scale| !scale.is_finite()) {
            return Err(payload.corrupt("scale", format!("{scale} is not finite")));
        }
        Ok(Self { rows, columns, codes, scales })
    }

    #[inline(always)]
    pub(super) fn codes(&self, row: usize) -> &[u8] {
        &self.codes[row * row_len(self.columns)..][..row_len(self.columns)]
    }

    #[inline(always)]
    pub(super) fn scale(&self, row: usize) -> f32 {
        self.scales[row.min(self.scales.len() - 1)]
    }

    /// Bytes held in memory.
    pub(super) fn size(&self) -> usize {
        self.codes.len() + size_of_val(self.scales.as_slice())
    }
}
