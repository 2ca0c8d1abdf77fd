//! Contexts for exponents: the scales of the weights' row and column.

use codec_api::{CodecError, Dtype, PayloadView, Result, TensorSpec};
use entropy::Scales;
use simd::kernel;

/// Whether the exponents of this dtype form a plane of their own.
fn has_exponents(dtype: Dtype) -> bool {
    matches!(dtype, Dtype::F32 | Dtype::BF16)
}

/// The scales of a float matrix with these exponents; `None` if contexts gain nothing.
pub(super) fn of_exponents(spec: &TensorSpec, exponents: &[u8]) -> Option<Scales> {
    let (rows, columns) = spec.matrix();
    if !has_exponents(spec.dtype()) || rows < 2 || columns < 2 {
        return None;
    }
    let (row_sums, column_sums) = sums(exponents, columns);
    Scales::of_logarithms(&means(&row_sums, columns), &means(&column_sums, rows))
}

/// Section names and coded planes of the row and column scales.
pub(super) fn coded(scales: &Scales) -> Result<[(&'static str, Vec<u8>); 2]> {
    let [rows, columns] = scales.encode().map_err(CodecError::codec)?;
    Ok([(ROWS, rows), (COLUMNS, columns)])
}

/// Reads the output of [`coded`], if present.
pub(super) fn read(spec: &TensorSpec, payload: &PayloadView<'_>) -> Result<Option<Scales>> {
    if !payload.has(ROWS) {
        return Ok(None);
    }
    if !has_exponents(spec.dtype()) {
        return Err(payload.corrupt(ROWS, format!("there are no exponents in {}", spec.dtype())));
    }
    let planes = [&**payload.byte_section(ROWS)?, &**payload.byte_section(COLUMNS)?];
    Scales::decode(planes, spec.matrix()).map(Some).map_err(|e| payload.corrupt(ROWS, e.to_string()))
}

kernel! {
    /// Sums of the rows and of the columns of a matrix of bytes with `columns` columns.
    fn sums<'a>(_simd, bytes: &'a [u8], columns: usize) -> (Vec<i64>, Vec<i64>) {
        // A 32-bit integer holds the sum of 2²⁴ bytes, and vectors can add them.
        let mut row_sums = Vec::with_capacity(bytes.len().div_ceil(columns));
        // A loop: code of `collect` need not be compiled for the level.
        for row in bytes.chunks(columns) {
            let mut sum = 0;
            for part in row.chunks(1 << 24) {
                let mut small = 0u32;
                for byte in part {
                    small += u32::from(*byte);
                }
                sum += i64::from(small);
            }
            row_sums.push(sum);
        }
        let mut column_sums = vec![0; columns];
        for rows in bytes.chunks(columns.saturating_mul(1 << 24)) {
            let mut sums = vec![0u32; columns];
            for row in rows.chunks(columns) {
                sums.iter_mut().zip(row).for_each(|(sum, byte)| *sum += u32::from(*byte));
            }
            column_sums.iter_mut().zip(sums).for_each(|(sum, part)| *sum += i64::from(part));
        }
        (row_sums, column_sums)
    }
}

/// Exponents in quarters of an octave above the scale given by the context, modulo 256.
pub(super) fn relative(exponents: &[u8], contexts: &[u8]) -> Vec<u8> {
    exponents.iter().zip(contexts).map(|(e, context)| e.wrapping_mul(4).wrapping_sub(*context)).collect()
}

const ROWS: &str = "rows";
const COLUMNS: &str = "columns";

/// Means of `n` exponents each, in the steps of [`Scales`].
fn means(sums: &[i64], n: usize) -> Vec<i64> {
    let n = n as i64;
    sums.iter().map(|sum| (2 * Scales::PER_OCTAVE * sum + n) / (2 * n)).collect()
}
