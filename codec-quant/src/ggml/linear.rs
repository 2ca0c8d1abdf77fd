//! Multiplying with the integers of blocks.

use codec_api::{
    CodecError, DecodeCx, Dtype, IntegerLayout, IntegerMatrix, IntegerRow, LinearOp, PayloadView, Result, RowsLinear,
    TensorSpec,
};
use half::f16;

use super::format::{Format, accepts, open};

/// A format whose weights are `scale·(code − zero)`, or `scale·code − minimum`.
pub(super) struct Integers {
    /// Bits of a code: 4, 6 or 8.
    pub(super) bits: usize,
    /// Weights of a group.
    pub(super) group: usize,
    /// The code of zero.
    pub(super) zero: u8,
    /// Groups of a block with integer scales, if there are such scales.
    pub(super) shared: Option<usize>,
    /// Whether groups have minima.
    pub(super) minima: bool,
    /// Reads a block.
    pub(super) read: fn(&[u8], &mut Numbers<'_>),
}

/// The numbers of a block. Slices that the format does not have are empty.
pub(super) struct Numbers<'a> {
    pub(super) codes: &'a mut [u8],
    pub(super) scale: &'a mut u16,
    pub(super) factors: &'a mut [i8],
    pub(super) minimum: Option<&'a mut u16>,
    pub(super) minimum_factors: &'a mut [i8],
}

/// The operator of a payload, for a format with [`Integers`].
pub(super) fn prepare<F: Format>(
    spec: &TensorSpec,
    payload: &PayloadView<'_>,
    cx: &DecodeCx<'_>,
) -> Result<Box<dyn LinearOp>> {
    accepts::<F>(spec)?;
    let blocks = payload.bytes("blocks", Dtype::U8, &[spec.elements() / F::WEIGHTS, F::BYTES])?;
    let sizes = (F::WEIGHTS, F::BYTES);
    if let Some(integers) = &F::INTEGERS
        && let Some(matrix) = pack(integers, spec.matrix(), sizes, blocks, cx)?
    {
        return Ok(Box::new(matrix));
    }
    Ok(Box::new(RowsLinear::new(open::<F>(spec, payload)?)))
}

fn pack(
    integers: &Integers,
    shape: (usize, usize),
    (weights, bytes): (usize, usize),
    blocks: &[u8],
    cx: &DecodeCx<'_>,
) -> Result<Option<IntegerMatrix>> {
    let layout = IntegerLayout::new(shape, integers.bits, Some(integers.group), Some(integers.zero));
    let Some(mut layout) = layout else { return Ok(None) };
    if let Some(groups) = integers.shared {
        layout = layout.sharing(groups, integers.minima);
    }
    let row_len = shape.1 / weights * bytes;
    IntegerMatrix::pack(layout, cx.product, |row, out| {
        cx.cancel.check()?;
        read_row(integers, &blocks[row * row_len..][..row_len], (weights, bytes), out);
        let finite = |halves: &[u16]| halves.iter().all(|half| f16::from_bits(*half).is_finite());
        if finite(&out.scales) && finite(&out.minima) {
            return Ok(());
        }
        Err(CodecError::corrupt("blocks", "a scale is not finite"))
    })
}

fn read_row(integers: &Integers, row: &[u8], (weights, bytes): (usize, usize), out: &mut IntegerRow) {
    let groups = integers.shared.unwrap_or_default();
    let minimum_groups = if integers.minima { groups } else { 0 };
    for (i, (block, codes)) in row.chunks_exact(bytes).zip(out.codes.chunks_exact_mut(weights)).enumerate() {
        (integers.read)(
            block,
            &mut Numbers {
                codes,
                scale: &mut out.scales[i],
                factors: &mut out.factors[i * groups..][..groups],
                minimum: out.minima.get_mut(i),
                minimum_factors: &mut out.minimum_factors[i * minimum_groups..][..minimum_groups],
            },
        );
    }
}
