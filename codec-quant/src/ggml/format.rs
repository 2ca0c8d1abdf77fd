//! The codec around the blocks, shared by all block formats.

use std::marker::PhantomData;

use codec_api::{
    CodecError, CostEstimate, DecodeCx, Dtype, EncodeCx, Payload, PayloadView, Result, Section, TensorSpec, TensorView,
    relative_importance,
};
use simd::{Kernel, LANES, Lanes, Simd, dispatch, load, magnitudes, max_abs, stream};

use crate::blocks::{by_parts, check_finite};
use crate::error::{MaxError, certify};

/// A block format.
pub(crate) trait Format {
    /// Weights of a block.
    const WEIGHTS: usize;
    /// Bytes of a block.
    const BYTES: usize;
    /// Weights coded per call: those of sixteen groups.
    const AT_ONCE: usize;
    /// The largest accepted magnitude.
    const LARGEST: f32;

    /// Codes whole blocks, [`Self::AT_ONCE`] weights at most.
    fn encode<S: Simd>(simd: S, x: &[f32], importance: Option<&[f32]>, blocks: &mut [u8]);

    /// Decodes whole blocks, [`Self::AT_ONCE`] weights at most; returns the largest scale magnitude
    /// as F16 bits.
    fn decode<S: Simd>(simd: S, blocks: &[u8], out: &mut [f32]) -> u16;
}

/// Weights encoded between two checks for cancellation.
const PART: usize = 1 << 13;

pub(super) fn accepts<F: Format>(spec: &TensorSpec) -> Result<()> {
    spec.require_float()?;
    spec.require_whole_blocks(F::WEIGHTS)
}

pub(super) fn cost<F: Format>(spec: &TensorSpec) -> CostEstimate {
    let n = spec.elements();
    let scratch = 8 * PART as u64 + 4 * spec.matrix().1 as u64 + crate::widened_bytes(spec);
    CostEstimate::fixed((n / F::WEIGHTS * F::BYTES) as u64).ops(200.0 * n as f64, 2.0 * n as f64).scratch(scratch)
}

pub(super) fn encode<F: Format>(tensor: &TensorView<'_>, cx: &EncodeCx<'_>) -> Result<Payload> {
    cx.cancel.check()?;
    accepts::<F>(tensor.spec())?;
    let values = tensor.to_f32()?;
    let largest = checked_peak::<F>(&values)?;
    let importance = column_importance::<F>(tensor.spec(), cx)?;
    let mut blocks = vec![0; values.len() / F::WEIGHTS * F::BYTES];
    let mut scratch = vec![0.0; values.len().min(PART)];
    let mut largest_decoded = 0.0f32;
    let error = by_parts(&values, PART, cx, |part| {
        let x = part.values;
        let importance = importance.as_ref().map(|columns| {
            let repeated = columns.iter().cycle().skip(part.start % columns.len());
            repeated.take(x.len()).copied().collect::<Vec<f32>>()
        });
        let blocks = &mut blocks[part.start / F::WEIGHTS * F::BYTES..][..x.len() / F::WEIGHTS * F::BYTES];
        let decoded = &mut scratch[..x.len()];
        let call = EncodePart { x, importance: importance.as_deref(), blocks, decoded, format: PhantomData::<F> };
        let (error, magnitude) = dispatch(call);
        largest_decoded = largest_decoded.max(magnitude);
        (error, largest)
    })?;
    if largest_decoded == 0.0 && largest > 0.0 {
        let reason = "the weights are too small for scales in F16: all would become 0; the largest magnitude is";
        return Err(CodecError::Unsuitable { reason: reason.to_owned(), number: largest.into() });
    }
    let shape = [values.len() / F::WEIGHTS, F::BYTES];
    Ok(Payload::new(certify(error)).with("blocks", Section::new(Dtype::U8, shape, blocks)?))
}

pub(super) fn decode<F: Format>(
    spec: &TensorSpec,
    payload: &PayloadView<'_>,
    cx: &DecodeCx<'_>,
    out: &mut [f32],
) -> Result<()> {
    spec.check_output(out.len())?;
    accepts::<F>(spec)?;
    let blocks = payload.bytes("blocks", Dtype::U8, &[out.len() / F::WEIGHTS, F::BYTES])?;
    cx.cancel.check()?;
    let largest = dispatch(DecodeAll { blocks, out, format: PhantomData::<F> });
    if largest >= half::f16::INFINITY.to_bits() {
        return Err(payload.corrupt("blocks", "a scale is not finite".to_owned()));
    }
    Ok(())
}

/// The largest magnitude; an error if a weight is not finite or above [`Format::LARGEST`].
fn checked_peak<F: Format>(values: &[f32]) -> Result<f32> {
    let peak = max_abs(values);
    check_finite(peak, values, 0)?;
    if peak > F::LARGEST {
        let reason = format!("its scales are F16, and magnitudes to {:e} are accepted; the largest is", F::LARGEST);
        return Err(CodecError::Unsuitable { reason, number: peak.into() });
    }
    Ok(peak)
}

/// Importance of each column relative to the largest in its block; `None` without calibration by
/// column. With calibration by row all weights of a block have the same importance, which changes
/// nothing.
fn column_importance<F: Format>(spec: &TensorSpec, cx: &EncodeCx<'_>) -> Result<Option<Vec<f32>>> {
    let Some((1, squares)) = cx.input_squares(spec)? else { return Ok(None) };
    let mut importance = squares.to_vec();
    importance.chunks_mut(F::WEIGHTS).for_each(relative_importance);
    Ok(Some(importance))
}

/// Codes a part of a tensor; returns the largest error and the largest decoded magnitude.
struct EncodePart<'a, F> {
    x: &'a [f32],
    importance: Option<&'a [f32]>,
    blocks: &'a mut [u8],
    decoded: &'a mut [f32],
    format: PhantomData<F>,
}

impl<F: Format> Kernel for EncodePart<'_, F> {
    type Output = (f32, f32);

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> (f32, f32) {
        let (mut error, mut largest) = (MaxError::new(), [0; LANES]);
        let bytes = F::AT_ONCE / F::WEIGHTS * F::BYTES;
        let outputs = self.blocks.chunks_mut(bytes).zip(self.decoded.chunks_mut(F::AT_ONCE));
        for (i, (x, (blocks, decoded))) in self.x.chunks(F::AT_ONCE).zip(outputs).enumerate() {
            let importance = self.importance.map(|w| &w[i * F::AT_ONCE..][..x.len()]);
            F::encode(simd, x, importance, blocks);
            F::decode(simd, blocks, decoded);
            for (x, decoded) in x.as_chunks().0.iter().zip(decoded.as_chunks().0) {
                error.add(x, decoded);
                largest = simd.max_magnitude(&largest, decoded);
            }
        }
        (error.get(), simd.reduce_max(&magnitudes(largest)))
    }
}

/// Decodes a tensor; returns the largest scale magnitude as F16 bits.
struct DecodeAll<'a, F> {
    blocks: &'a [u8],
    out: &'a mut [f32],
    format: PhantomData<F>,
}

impl<F: Format> Kernel for DecodeAll<'_, F> {
    type Output = u16;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> u16 {
        let bytes = F::AT_ONCE / F::WEIGHTS * F::BYTES;
        stream(self.out, |writer| {
            let mut largest = 0;
            for blocks in self.blocks.chunks(bytes) {
                largest = F::decode(simd, blocks, writer.next(blocks.len() / F::BYTES * F::WEIGHTS)).max(largest);
            }
            largest
        })
    }
}

/// Bits of the F16 numbers at byte `at` of at most sixteen blocks of `size` bytes.
#[inline(always)]
pub(super) fn f16_bits_of_blocks(blocks: &[u8], size: usize, at: usize) -> Lanes<u16> {
    let mut bits = [0; LANES];
    for (bits, block) in bits.iter_mut().zip(blocks.chunks_exact(size)) {
        *bits = u16_at(block, at);
    }
    bits
}

/// A little-endian u16.
#[inline(always)]
pub(super) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

/// Two F16 numbers from their bits.
#[inline(always)]
pub(super) fn f16_pair<S: Simd>(simd: S, bits: [u16; 2]) -> [f32; 2] {
    let values = simd.f16_to_f32(&load(&bits));
    [values[0], values[1]]
}

/// The largest magnitude of F16 numbers, as bits; at least the bits of infinity if one is not
/// finite.
#[inline(always)]
pub(super) fn largest_magnitude(bits: &[u16]) -> u16 {
    let mut largest = 0;
    for bits in bits {
        largest = (bits & 0x7fff).max(largest);
    }
    largest
}
