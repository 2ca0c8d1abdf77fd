//! What all block formats share: the codec around the blocks.

use std::marker::PhantomData;

use codec_api::{
    CodecError, CostEstimate, DecodeCx, Dtype, EncodeCx, Payload, PayloadView, Result, Section, TensorSpec, TensorView,
    first_non_finite, relative_importance,
};
use simd::{Kernel, LANES, Lanes, Simd, dispatch, load, max_abs, stream};

use crate::error::{MaxError, certify};

/// A block format.
pub(crate) trait Format {
    /// Weights of a block.
    const WEIGHTS: usize;
    /// Bytes of a block.
    const BYTES: usize;
    /// Weights that are coded at once: those of sixteen groups.
    const AT_ONCE: usize;
    /// The largest magnitude that is sure to have a code.
    const LARGEST: f32;

    /// Codes whole blocks, [`Self::AT_ONCE`] weights at most.
    fn encode<S: Simd>(simd: S, x: &[f32], importance: Option<&[f32]>, blocks: &mut [u8]);

    /// Decodes whole blocks, [`Self::AT_ONCE`] weights at most.
    fn decode<S: Simd>(simd: S, blocks: &[u8], out: &mut [f32]);
}

/// Weights that an encoder handles between two looks at cancellation.
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
    let values = tensor.to_f32()?;
    let importance = column_importance(tensor.spec(), cx)?;
    let mut blocks = vec![0; values.len() / F::WEIGHTS * F::BYTES];
    let mut scratch = vec![0.0; values.len().min(PART)];
    let (mut largest, mut error) = (0.0f32, 0.0f32);
    for (i, (x, blocks)) in values.chunks(PART).zip(blocks.chunks_mut(PART / F::WEIGHTS * F::BYTES)).enumerate() {
        cx.cancel.check()?;
        largest = largest.max(checked_peak::<F>(x, i * PART)?);
        let importance = importance.as_ref().map(|columns| {
            let repeated = columns.iter().cycle().skip(i * PART % columns.len());
            repeated.take(x.len()).copied().collect::<Vec<f32>>()
        });
        let decoded = &mut scratch[..x.len()];
        let call = EncodePart { x, importance: importance.as_deref(), blocks, decoded, format: PhantomData::<F> };
        error = error.max(dispatch(call));
        cx.progress.tick(x.len() as u64);
    }
    if error == largest && largest > 0.0 {
        let reason = "the weights are too small for scales in F16; the largest magnitude is".to_owned();
        return Err(CodecError::Unsuitable { reason, number: largest.into() });
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
    dispatch(DecodeAll { blocks, out, format: PhantomData::<F> });
    Ok(())
}

/// The largest magnitude, which the format can hold.
fn checked_peak<F: Format>(x: &[f32], start: usize) -> Result<f32> {
    let peak = max_abs(x);
    if let (false, Some(index)) = (peak.is_finite(), first_non_finite(x)) {
        return Err(CodecError::NonFinite { index: start + index });
    }
    if peak > F::LARGEST {
        let reason = format!("its scales are F16, which is enough for magnitudes to {:e}; one is", F::LARGEST);
        return Err(CodecError::Unsuitable { reason, number: peak.into() });
    }
    Ok(peak)
}

/// What the squared errors in each column count, if the calibration says so. Where inputs run along the rows, all weights of a
/// block have the same, and it does not matter.
fn column_importance(spec: &TensorSpec, cx: &EncodeCx<'_>) -> Result<Option<Vec<f32>>> {
    let Some((1, squares)) = cx.input_squares(spec)? else { return Ok(None) };
    let mut importance = squares.to_vec();
    relative_importance(&mut importance);
    Ok(Some(importance))
}

/// Codes a part of a tensor and returns the largest error.
struct EncodePart<'a, F> {
    x: &'a [f32],
    importance: Option<&'a [f32]>,
    blocks: &'a mut [u8],
    decoded: &'a mut [f32],
    format: PhantomData<F>,
}

impl<F: Format> Kernel for EncodePart<'_, F> {
    type Output = f32;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> f32 {
        let mut error = MaxError::new();
        let bytes = F::AT_ONCE / F::WEIGHTS * F::BYTES;
        let outputs = self.blocks.chunks_mut(bytes).zip(self.decoded.chunks_mut(F::AT_ONCE));
        for (i, (x, (blocks, decoded))) in self.x.chunks(F::AT_ONCE).zip(outputs).enumerate() {
            let importance = self.importance.map(|w| &w[i * F::AT_ONCE..][..x.len()]);
            F::encode(simd, x, importance, blocks);
            F::decode(simd, blocks, decoded);
            for (x, decoded) in x.as_chunks().0.iter().zip(decoded.as_chunks().0) {
                error.add(x, decoded);
            }
        }
        error.get()
    }
}

struct DecodeAll<'a, F> {
    blocks: &'a [u8],
    out: &'a mut [f32],
    format: PhantomData<F>,
}

impl<F: Format> Kernel for DecodeAll<'_, F> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let bytes = F::AT_ONCE / F::WEIGHTS * F::BYTES;
        stream(self.out, |writer| {
            for blocks in self.blocks.chunks(bytes) {
                F::decode(simd, blocks, writer.next(blocks.len() / F::BYTES * F::WEIGHTS));
            }
        });
    }
}

/// The F16 numbers at byte `at` of at most sixteen blocks of `size` bytes.
#[inline(always)]
pub(super) fn f16_of_blocks<S: Simd>(simd: S, blocks: &[u8], size: usize, at: usize) -> Lanes<f32> {
    let mut bits = [0; LANES];
    for (bits, block) in bits.iter_mut().zip(blocks.chunks_exact(size)) {
        *bits = u16::from_le_bytes([block[at], block[at + 1]]);
    }
    simd.f16_to_f32(&bits)
}

/// Two F16 numbers.
#[inline(always)]
pub(super) fn f16_pair<S: Simd>(simd: S, bytes: [u8; 4]) -> [f32; 2] {
    let [a, b, c, d] = bytes;
    let values = simd.f16_to_f32(&load(&[u16::from_le_bytes([a, b]), u16::from_le_bytes([c, d])]));
    [values[0], values[1]]
}
