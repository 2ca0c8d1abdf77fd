//! The codec around the blocks, shared by all block formats.

use std::fmt::Debug;
use std::marker::PhantomData;
use std::ops::Range;

use codec_api::{
    Bytes, CodecError, CostEstimate, Dtype, EncodeCx, Payload, PayloadView, Result, RowReader, Section, TensorSpec,
    TensorView, check_rows,
};
use simd::{Kernel, LANES, Lanes, Simd, dispatch, lanes, load, max_abs, stream};

use super::fit::inverse;
use super::levels::Levels;
use super::linear::Integers;
use crate::blocks::{by_parts, check_finite};
use crate::importance::ColumnImportance;

/// A block format: a weight is the level of its code times the scale of its group, minus the
/// minimum of its group.
pub(super) trait Format: Debug + Send + Sync + 'static {
    /// The levels that codes stand for.
    type Levels: Levels;
    /// The numbers of sixteen groups that blocks hold.
    type Numbers;
    /// Weights of a block.
    const WEIGHTS: usize;
    /// Weights of a group; at most [`MOST_GROUP`].
    const GROUP: usize;
    /// Weights coded per call: those of sixteen groups.
    const AT_ONCE: usize = LANES * Self::GROUP;
    /// Bytes of a block.
    const BYTES: usize;
    /// The largest accepted magnitude.
    const LARGEST: f32;
    /// How products read the blocks; `None` if they decode them.
    const INTEGERS: Option<Integers>;

    /// Chooses the scales of whole blocks, [`Self::AT_ONCE`] weights at most.
    fn fit<S: Simd>(simd: S, x: &[f32], importance: Option<&[f32]>) -> Scales<Self::Numbers>;

    /// Packs the codes of the blocks that [`Self::fit`] got.
    fn pack(numbers: &Self::Numbers, codes: &[u8], blocks: &mut [u8]);

    /// Decodes whole blocks, [`Self::AT_ONCE`] weights at most; returns the largest scale magnitude
    /// as F16 bits.
    fn decode<S: Simd>(simd: S, blocks: &[u8], out: &mut [f32]) -> u16;
}

/// Scales and minima of sixteen groups.
pub(super) struct Scales<N> {
    /// Scale of each group, as a decoder computes it.
    pub(super) scale: Lanes<f32>,
    /// Minimum of each group, as a decoder computes it.
    pub(super) minimum: Lanes<f32>,
    /// The numbers that these follow from.
    pub(super) numbers: N,
}

/// Bytes of this many weights, which fill whole blocks.
pub(super) const fn bytes_of<F: Format>(weights: usize) -> usize {
    weights / F::WEIGHTS * F::BYTES
}

/// The largest [`Format::GROUP`].
const MOST_GROUP: usize = super::block::WEIGHTS;
/// The largest [`Format::AT_ONCE`].
pub(super) const MOST_AT_ONCE: usize = LANES * MOST_GROUP;

/// Weights encoded between two checks for cancellation.
const PART: usize = 1 << 13;

pub(super) fn accepts<F: Format>(spec: &TensorSpec) -> Result<()> {
    spec.require_float()?;
    spec.require_whole_blocks(F::WEIGHTS)
}

pub(super) fn cost<F: Format>(spec: &TensorSpec) -> CostEstimate {
    let n = spec.elements();
    // The scales of a part, and its decoded weights.
    let part = n.min(PART);
    let part = part.div_ceil(F::AT_ONCE) * size_of::<Scales<F::Numbers>>() + part * size_of::<f32>();
    let scratch = ColumnImportance::scratch(spec, PART) + crate::widened_bytes(spec) + part as u64;
    CostEstimate::fixed(bytes_of::<F>(n) as u64).ops(200.0 * n as f64, 2.0 * n as f64).scratch(scratch)
}

pub(super) fn encode<F: Format>(tensor: &TensorView<'_>, cx: &EncodeCx<'_>) -> Result<Payload> {
    cx.cancel.check()?;
    accepts::<F>(tensor.spec())?;
    let values = tensor.to_f32()?;
    let largest = checked_peak::<F>(&values)?;
    let importance = ColumnImportance::new(tensor.spec(), cx, F::WEIGHTS)?;
    let mut blocks = vec![0; bytes_of::<F>(values.len())];
    let mut scales = Vec::with_capacity(values.len().min(PART).div_ceil(F::AT_ONCE));
    let mut all_zeros = true;
    by_parts(&values, PART, cx, |part| {
        let x = part.values;
        let importance = importance.as_ref().map(|columns| columns.of(part.start, x.len()));
        let blocks = &mut blocks[bytes_of::<F>(part.start)..][..bytes_of::<F>(x.len())];
        scales.clear();
        dispatch(FitBlocks::<F> { x, importance: importance.as_deref(), scales: &mut scales });
        dispatch(CodeBlocks::<F> { x, scales: &scales, blocks });
        all_zeros = all_zeros && decodes_to_zeros::<F>(blocks);
        largest
    })?;
    refuse_zeros(all_zeros, largest)?;
    payload::<F>(blocks)
}

/// Refuses a tensor with this largest magnitude if all its weights would become zeros.
pub(super) fn refuse_zeros(all_zeros: bool, largest: f32) -> Result<()> {
    if all_zeros && largest > 0.0 {
        let reason = "the weights are too small for scales in F16: all would become 0; the largest magnitude is";
        return Err(CodecError::Unsuitable { reason: reason.to_owned(), number: largest.into() });
    }
    Ok(())
}

pub(super) fn payload<F: Format>(blocks: Vec<u8>) -> Result<Payload> {
    Payload::new().with("blocks", Section::new(Dtype::U8, [blocks.len() / F::BYTES, F::BYTES], blocks)?)
}

/// The largest magnitude; an error if a weight is not finite or above [`Format::LARGEST`].
pub(super) fn checked_peak<F: Format>(values: &[f32]) -> Result<f32> {
    let peak = max_abs(values);
    check_finite(peak, values, 0)?;
    if peak > F::LARGEST {
        let reason = format!("its scales are F16, and magnitudes to {:e} are accepted; the largest is", F::LARGEST);
        return Err(CodecError::Unsuitable { reason, number: peak.into() });
    }
    Ok(peak)
}

/// Chooses the scales of whole blocks, and appends them. The search is most of a format's code, and
/// encoding in panels shares it.
pub(super) struct FitBlocks<'a, F: Format> {
    pub(super) x: &'a [f32],
    /// Importances of the weights; they begin again after the last one.
    pub(super) importance: Option<&'a [f32]>,
    /// For each [`Format::AT_ONCE`] weights.
    pub(super) scales: &'a mut Vec<Scales<F::Numbers>>,
}

impl<F: Format> Kernel for FitBlocks<'_, F> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        for (i, x) in self.x.chunks(F::AT_ONCE).enumerate() {
            let importance = self.importance.map(|w| &w[i * F::AT_ONCE % w.len()..][..x.len()]);
            self.scales.push(F::fit(simd, x, importance));
        }
    }
}

/// Codes whole blocks whose scales are chosen.
struct CodeBlocks<'a, F: Format> {
    x: &'a [f32],
    scales: &'a [Scales<F::Numbers>],
    blocks: &'a mut [u8],
}

impl<F: Format> Kernel for CodeBlocks<'_, F> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let blocks = self.blocks.chunks_mut(bytes_of::<F>(F::AT_ONCE));
        for ((x, scales), blocks) in self.x.chunks(F::AT_ONCE).zip(self.scales).zip(blocks) {
            let mut codes = [0; MOST_AT_ONCE];
            quantise::<S, F>(simd, x, scales, &mut codes[..x.len()]);
            F::pack(&scales.numbers, &codes, blocks);
        }
    }
}

/// Whether whole blocks decode to zeros.
fn decodes_to_zeros<F: Format>(blocks: &[u8]) -> bool {
    let mut out = vec![0.0; blocks.len() / F::BYTES * F::WEIGHTS];
    dispatch(DecodeBlocks { blocks, out: &mut out, format: PhantomData::<F> });
    out.iter().all(|w| *w == 0.0)
}

/// The best codes for these scales.
#[inline(always)]
fn quantise<S: Simd, F: Format>(simd: S, x: &[f32], scales: &Scales<F::Numbers>, codes: &mut [u8]) {
    let by_scale = inverse(&scales.scale);
    for (g, (x, codes)) in x.chunks(F::GROUP).zip(codes.chunks_mut(F::GROUP)).enumerate() {
        for (x, codes) in x.as_chunks::<LANES>().0.iter().zip(codes.as_chunks_mut::<LANES>().0) {
            *codes = F::Levels::code(simd, &lanes!(i => (x[i] + scales.minimum[g]) * by_scale[g]));
        }
    }
}

pub(super) fn open<F: Format>(spec: &TensorSpec, payload: &PayloadView<'_>) -> Result<Box<dyn RowReader>> {
    Ok(Box::new(BlockRows { shape: spec.matrix(), blocks: blocks::<F>(spec, payload)?, format: PhantomData::<F> }))
}

/// The blocks of a payload.
pub(super) fn blocks<F: Format>(spec: &TensorSpec, payload: &PayloadView<'_>) -> Result<Bytes> {
    accepts::<F>(spec)?;
    Ok(payload.bytes("blocks", Dtype::U8, &[spec.elements() / F::WEIGHTS, F::BYTES])?.clone())
}

/// Refuses scales of which the largest magnitude, as F16 bits, is not finite.
pub(super) fn check_scales(largest: u16) -> Result<()> {
    if largest < half::f16::INFINITY.to_bits() {
        return Ok(());
    }
    Err(CodecError::corrupt("blocks", "a scale is not finite"))
}

/// The rows of a payload.
#[derive(Debug)]
struct BlockRows<F> {
    shape: (usize, usize),
    blocks: Bytes,
    format: PhantomData<F>,
}

impl<F: Format> RowReader for BlockRows<F> {
    fn shape(&self) -> (usize, usize) {
        self.shape
    }

    fn read(&self, rows: Range<usize>, out: &mut [f32]) -> Result<()> {
        check_rows(self.shape, &rows, out)?;
        let blocks = &self.blocks[rows.start * bytes_of::<F>(self.shape.1)..][..bytes_of::<F>(out.len())];
        check_scales(dispatch(DecodeBlocks { blocks, out, format: PhantomData::<F> }))
    }

    fn resident_bytes(&self) -> u64 {
        self.blocks.len() as u64
    }
}

/// Decodes whole blocks; returns the largest scale magnitude as F16 bits.
struct DecodeBlocks<'a, F> {
    blocks: &'a [u8],
    out: &'a mut [f32],
    format: PhantomData<F>,
}

impl<F: Format> Kernel for DecodeBlocks<'_, F> {
    type Output = u16;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> u16 {
        stream(self.out, |writer| {
            let mut largest = 0;
            for blocks in self.blocks.chunks(bytes_of::<F>(F::AT_ONCE)) {
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
