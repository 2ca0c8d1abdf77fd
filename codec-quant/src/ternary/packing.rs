//! The two layouts of ternary codes.

use codec_api::Bytes;
use serde::{Deserialize, Serialize};
use simd::{LANES, Simd, kernel, lanes, load, store, stream};

use super::matrix::Matrix;

/// How codes lie in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Packing {
    /// Five weights to a byte: 1.6 bits.
    #[default]
    Trits,
    /// Two bits, in the order of vector lanes.
    Lanes,
}

/// Weights in a byte of trits.
pub(super) const TRITS: usize = 5;
/// Weights in a byte of lanes.
pub(super) const PLANES: usize = 4;
/// Weights in sixteen bytes of lanes.
pub(super) const GROUP: usize = PLANES * LANES;

impl Packing {
    /// The shape of the codes.
    pub(super) fn shape(self, (rows, columns): (usize, usize)) -> Vec<usize> {
        match self {
            Self::Trits => vec![rows, columns.div_ceil(TRITS)],
            Self::Lanes => vec![rows, columns.div_ceil(GROUP), LANES],
        }
    }

    /// Bytes of a row's codes.
    pub(super) fn row_len(self, columns: usize) -> usize {
        match self {
            Self::Trits => columns.div_ceil(TRITS),
            Self::Lanes => columns.div_ceil(GROUP) * LANES,
        }
    }

    /// Whether all weights of a row are zeros.
    pub(super) fn is_zero(self, codes: &[u8]) -> bool {
        let zeros = if self == Self::Trits { 121 } else { 0x55 };
        codes.iter().all(|byte| *byte == zeros)
    }

    /// Whether every byte stands for weights.
    pub(super) fn is_valid(self, codes: &Bytes) -> bool {
        match self {
            Self::Trits => codes.iter().fold(0, |most, byte| *byte.max(&most)) < 243,
            Self::Lanes => codes.iter().fold(0, |both, byte| both | byte & byte >> 1) & 0x55 == 0,
        }
    }
}

kernel! {
    /// Codes all rows; `codes` has their size.
    pub(super) fn encode<'a>(
        _simd,
        packing: Packing,
        values: &'a [f32],
        columns: usize,
        scales: &'a [f32],
        codes: &'a mut [u8],
    ) {
        let rows = values.chunks(columns.max(1)).zip(codes.chunks_mut(packing.row_len(columns).max(1)));
        for (row, (values, codes)) in rows.enumerate() {
            let half = scales[row.min(scales.len() - 1)] * 0.5;
            match packing {
                Packing::Trits => encode_digits::<TRITS, 3>(values, half, codes),
                Packing::Lanes => {
                    for (values, codes) in values.chunks(GROUP).zip(codes.chunks_mut(LANES)) {
                        encode_digits::<PLANES, 4>(values, half, codes);
                    }
                }
            }
        }
    }
}

/// The digit of a weight; ties go to zero.
#[inline(always)]
pub(super) fn digit_of(weight: f32, half: f32) -> u8 {
    u8::from(weight > half) + u8::from(weight >= -half)
}

/// Digit `i` of byte `j` is that of weight `i · codes.len() + j`. Weights beyond the row are zeros.
#[inline(always)]
fn encode_digits<const DIGITS: usize, const BASE: u8>(values: &[f32], half: f32, codes: &mut [u8]) {
    let width = codes.len();
    for (j, codes) in codes.chunks_mut(LANES).enumerate() {
        let mut bytes = [0u8; LANES];
        for digit in (0..DIGITS).rev() {
            let x: [f32; LANES] = load(values.get(digit * width + j * LANES..).unwrap_or_default());
            bytes = lanes!(i => bytes[i] * BASE + digit_of(x[i], half));
        }
        store(bytes, codes);
    }
}

kernel! {
    /// Decodes the rows from `first` on that `out` has room for.
    pub(super) fn decode<'a>(simd, matrix: &'a Matrix, first: usize, out: &'a mut [f32]) {
        match matrix.packing {
            Packing::Trits => {
                for (i, out) in out.chunks_mut(matrix.columns.max(1)).enumerate() {
                    decode_trits(matrix.codes(first + i), matrix.scale(first + i), out);
                }
            }
            Packing::Lanes => decode_lanes(simd, matrix, first, out),
        }
    }
}

#[inline(always)]
fn decode_trits(codes: &[u8], scale: f32, out: &mut [f32]) {
    let mut planes = out.chunks_mut(codes.len());
    let mut next = || planes.next().unwrap_or_default();
    decode_plane::<1>(codes, scale, next());
    decode_plane::<3>(codes, scale, next());
    decode_plane::<9>(codes, scale, next());
    decode_plane::<27>(codes, scale, next());
    decode_plane::<81>(codes, scale, next());
}

#[inline(always)]
fn decode_plane<const POWER: u8>(codes: &[u8], scale: f32, plane: &mut [f32]) {
    for (w, byte) in plane.iter_mut().zip(codes) {
        *w = (f32::from(byte / POWER % 3) - 1.0) * scale;
    }
}

#[inline(always)]
fn decode_lanes<S: Simd>(simd: S, matrix: &Matrix, first: usize, out: &mut [f32]) {
    /// Groups decoded per step.
    const AT_ONCE: usize = 8;
    let columns = matrix.columns;
    let rows = out.len() / columns.max(1);
    stream(out, |writer| {
        for row in first..first + rows {
            let levels = levels(matrix.scale(row));
            for (i, bytes) in matrix.codes(row).chunks(AT_ONCE * LANES).enumerate() {
                let out = writer.next((AT_ONCE * GROUP).min(columns - i * AT_ONCE * GROUP));
                let (groups, rest) = out.as_chunks_mut::<GROUP>();
                let (full, last) = bytes.as_chunks::<LANES>().0.split_at(groups.len());
                for (out, bytes) in groups.iter_mut().zip(full) {
                    for (plane, out) in out.as_chunks_mut().0.iter_mut().enumerate() {
                        *out = simd.lookup16(&levels, &lanes!(i => bytes[i] >> (2 * plane)));
                    }
                }
                for (bytes, out) in last.iter().zip(rest.chunks_mut(GROUP)) {
                    for (plane, out) in out.chunks_mut(LANES).enumerate() {
                        store(simd.lookup16(&levels, &lanes!(i => bytes[i] >> (2 * plane))), out);
                    }
                }
            }
        }
    });
}

/// A table of the weights of two-bit codes. A look-up uses the low 4 bits; the table repeats, so
/// bits 2–3 do not matter.
#[inline(always)]
pub(super) fn levels(scale: f32) -> [f32; LANES] {
    lanes!(i => ((i % 4) as f32 - 1.0) * scale)
}
