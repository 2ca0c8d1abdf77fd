//! Contexts for exponents: how large the weights of a row and of a column are.

use codec_api::{CodecError, Dtype, PayloadView, Result, TensorSpec};
use entropy::plane::{self, Known};
use simd::kernel;

/// Steps of a scale to an octave.
const PER_OCTAVE: i64 = 8;

/// Steps that scales of long rows and columns differ by when their weights do not.
const CHANCE: u8 = 2;

/// A scale for each row and each column, in eighths of an octave above the least.
pub(super) struct Scales {
    rows: Vec<u8>,
    columns: Vec<u8>,
}

/// Whether exponents of this dtype are a plane by themselves.
fn has_exponents(dtype: Dtype) -> bool {
    matches!(dtype, Dtype::F32 | Dtype::BF16)
}

impl Scales {
    /// The scales of a float matrix whose exponents are these; `None` where there is nothing to gain.
    pub(super) fn of(spec: &TensorSpec, exponents: &[u8]) -> Option<Self> {
        let (rows, columns) = spec.matrix();
        if !has_exponents(spec.dtype()) || rows < 2 || columns < 2 {
            return None;
        }
        let (row_sums, column_sums) = sums(exponents, columns);
        let scales = Self { rows: above_the_least(&row_sums, columns), columns: above_the_least(&column_sums, rows) };
        // Means of a few exponents differ by that much by chance.
        let differ = |scales: &[u8]| scales.iter().max() > Some(&CHANCE);
        (differ(&scales.rows) || differ(&scales.columns)).then_some(scales)
    }

    /// The contexts, quarters of an octave, of the elements from `first` on.
    pub(super) fn contexts(&self, first: usize, mut out: &mut [u8]) {
        let columns = self.columns.len().max(1);
        let mut column = first % columns;
        for row in self.rows.iter().skip(first / columns) {
            let run = &self.columns[column..];
            let (now, rest) = out.split_at_mut(run.len().min(out.len()));
            now.iter_mut().zip(run).for_each(|(context, column)| *context = row.midpoint(*column).min(LARGEST));
            (out, column) = (rest, 0);
        }
    }

    /// Names and coded planes of the two.
    pub(super) fn coded(&self) -> Result<[(&'static str, Vec<u8>); 2]> {
        let coded = |bytes: &[u8]| plane::encode(bytes, Known::default()).map_err(CodecError::codec);
        Ok([(ROWS, coded(&self.rows)?), (COLUMNS, coded(&self.columns)?)])
    }

    /// Reads what [`Self::coded`] made, if it is there.
    pub(super) fn read(spec: &TensorSpec, payload: &PayloadView<'_>) -> Result<Option<Self>> {
        if !payload.has(ROWS) {
            return Ok(None);
        }
        if !has_exponents(spec.dtype()) {
            return Err(payload.corrupt(ROWS, format!("there are no exponents in {}", spec.dtype())));
        }
        let (rows, columns) = spec.matrix();
        let decoded = |name, len| {
            let mut bytes = vec![0; len];
            let coded = payload.byte_section(name)?;
            plane::decode(coded, Known::default(), &mut bytes).map_err(|e| payload.corrupt(name, e.to_string()))?;
            Ok(bytes)
        };
        Ok(Some(Self { rows: decoded(ROWS, rows)?, columns: decoded(COLUMNS, columns)? }))
    }
}

kernel! {
    /// Sums of rows of so many bytes, and of columns.
    fn sums<'a>(_simd, bytes: &'a [u8], columns: usize) -> (Vec<i64>, Vec<i64>) {
        // Integers of 32 bits hold 2²⁴ bytes, and are added by vectors.
        let sum = |part: &[u8]| i64::from(part.iter().map(|byte| u32::from(*byte)).sum::<u32>());
        let row_sums = bytes.chunks(columns).map(|row| row.chunks(1 << 24).map(sum).sum()).collect();
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

/// Exponents in quarters of an octave above the scale that the contexts stand for, modulo 256.
pub(super) fn relative(exponents: &[u8], contexts: &[u8]) -> Vec<u8> {
    exponents.iter().zip(contexts).map(|(e, context)| e.wrapping_mul(4).wrapping_sub(*context)).collect()
}

const ROWS: &str = "rows";
const COLUMNS: &str = "columns";

/// Contexts reach over so many quarters of an octave.
const LARGEST: u8 = 63;

/// Means of `n` exponents each, in steps above the least of them that is not far below the others.
fn above_the_least(sums: &[i64], n: usize) -> Vec<u8> {
    let means: Vec<i64> = sums.iter().map(|sum| (2 * PER_OCTAVE * sum + n as i64) / (2 * n as i64)).collect();
    let largest = means.iter().max().copied().unwrap_or_default();
    // Rows and columns share what contexts reach over.
    let least = means.iter().min().copied().unwrap_or_default().max(largest - i64::from(LARGEST));
    means.iter().map(|mean| (mean - least).max(0) as u8).collect()
}
