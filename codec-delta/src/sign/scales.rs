//! The number of scales of a matrix, and their sections.

use codec_api::{Dtype, Payload, PayloadView, Result, Section, TensorSpec};
use simd::{LANES, bf16_to_f32, load};

/// Minimum number of columns for one scale per row: a scale has 32 bits.
const COLUMNS_FOR_ROW_SCALES: usize = 32;
/// Minimum number of rows for one scale per column: a scale has 16 bits.
const ROWS_FOR_COLUMN_SCALES: usize = 16;

/// The sizes of the sections.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout {
    pub(super) rows: usize,
    pub(super) columns: usize,
    /// Bytes of a row's signs.
    pub(super) sign_bytes: usize,
    /// Number of scales for rows: one for each row, or one in total.
    pub(super) row_scales: usize,
    /// Number of scales for columns: one for each column, or none.
    pub(super) column_scales: usize,
}

impl Layout {
    pub(super) fn new(spec: &TensorSpec) -> Self {
        let (rows, columns) = spec.matrix();
        Self {
            rows,
            columns,
            sign_bytes: columns.div_ceil(8),
            row_scales: if columns >= COLUMNS_FOR_ROW_SCALES { rows } else { rows.min(1) },
            column_scales: if rows >= ROWS_FOR_COLUMN_SCALES { columns } else { 0 },
        }
    }

    /// Bytes of signs and scales.
    pub(super) fn bytes(&self) -> u64 {
        (self.rows * self.sign_bytes + 4 * self.row_scales + 2 * self.column_scales) as u64
    }

    /// The rows of a matrix.
    pub(super) fn rows_of<'a>(&self, values: &'a [f32]) -> impl Iterator<Item = &'a [f32]> + use<'a> {
        values.chunks_exact(self.columns.max(1))
    }

    /// The rows of a matrix.
    pub(super) fn rows_of_mut<'a>(&self, values: &'a mut [f32]) -> impl Iterator<Item = &'a mut [f32]> + use<'a> {
        values.chunks_exact_mut(self.columns.max(1))
    }

    /// The signs of each row.
    pub(super) fn signs_of<'a>(&self, signs: &'a [u8]) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        signs.chunks_exact(self.sign_bytes.max(1))
    }

    /// The signs of each row.
    pub(super) fn signs_of_mut<'a>(&self, signs: &'a mut [u8]) -> impl Iterator<Item = &'a mut [u8]> + use<'a> {
        signs.chunks_exact_mut(self.sign_bytes.max(1))
    }
}

/// Decoded scales.
#[derive(Clone, Debug)]
pub(super) struct Scales {
    /// One scale for each row, or one for all.
    pub(super) rows: Vec<f32>,
    /// BF16 bits of the scale of each column, or nothing.
    pub(super) bits: Vec<u16>,
    /// The f32 values of `bits`.
    pub(super) columns: Vec<f32>,
}

impl Scales {
    /// The scale of row `i`.
    pub(super) fn row(&self, i: usize) -> f32 {
        if let [one] = self.rows[..] { one } else { self.rows[i] }
    }

    /// Adds the section `rows` and, if there are column scales, `columns`.
    pub(super) fn write(self, payload: Payload) -> Result<Payload> {
        let payload = payload.with("rows", Section::from_values(Dtype::F32, [self.rows.len()], self.rows)?)?;
        if self.bits.is_empty() {
            return Ok(payload);
        }
        payload.with("columns", Section::from_values(Dtype::BF16, [self.bits.len()], self.bits)?)
    }

    /// Reads the scales: finite numbers, 0 or more, so that no product is NaN.
    pub(super) fn read(layout: &Layout, payload: &PayloadView<'_>) -> Result<Self> {
        let rows: Vec<f32> = payload.values("rows", Dtype::F32, &[layout.row_scales])?;
        let bits: Vec<u16> = match layout.column_scales {
            0 => Vec::new(),
            columns => payload.values("columns", Dtype::BF16, &[columns])?,
        };
        let mut columns = vec![0.0; bits.len()];
        bf16_to_f32(&bits, &mut columns);
        for (name, scales) in [("rows", &rows), ("columns", &columns)] {
            if let Some(scale) = scales.iter().find(|scale| !(scale.is_finite() && **scale >= 0.0)) {
                return Err(payload.corrupt(name, format!("{scale} is no scale: a finite number from 0 up is wanted")));
            }
        }
        Ok(Self { rows, bits, columns })
    }
}

/// Sixteen column scales; all 1 if there are none.
#[inline(always)]
pub(super) fn block(columns: &[f32], block: usize) -> [f32; LANES] {
    if columns.is_empty() { [1.0; LANES] } else { load(&columns[block * LANES..]) }
}
