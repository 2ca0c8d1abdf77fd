//! Multiplying with the integers of blocks.

use codec_api::{
    DecodeCx, IntegerLayout, IntegerMatrix, IntegerRow, LinearOp, PayloadView, Result, RowsLinear, TensorSpec,
};

use super::format::{Format, blocks, bytes_of, check_scales, largest_magnitude, open};

/// A format whose weights are `scale·(code − zero)`, or `scale·code − minimum`.
pub(super) struct Integers {
    /// Bits of a code: 4, 6 or 8.
    pub(super) bits: usize,
    /// The code of zero.
    pub(super) zero: u8,
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
    if let Some(integers) = &F::INTEGERS
        && let Some(matrix) = pack::<F>(integers, spec.matrix(), &blocks::<F>(spec, payload)?, cx)?
    {
        return Ok(Box::new(matrix));
    }
    Ok(Box::new(RowsLinear::new(open::<F>(spec, payload)?)))
}

fn pack<F: Format>(
    integers: &Integers,
    shape: (usize, usize),
    blocks: &[u8],
    cx: &DecodeCx<'_>,
) -> Result<Option<IntegerMatrix>> {
    let layout = IntegerLayout::new(shape, integers.bits, Some(F::GROUP), Some(integers.zero));
    let shared = shared::<F>();
    let layout = if shared > 0 { layout.and_then(|layout| layout.sharing(shared, integers.minima)) } else { layout };
    let Some(layout) = layout else { return Ok(None) };
    let row_len = bytes_of::<F>(shape.1);
    IntegerMatrix::pack(layout, cx.product, |row, out| {
        cx.cancel.check()?;
        read_row::<F>(integers, &blocks[row * row_len..][..row_len], out);
        check_scales(largest_magnitude(&out.scales).max(largest_magnitude(&out.minima)))
    })
}

/// Groups of a block that have integers times a common scale; 0 if a block is a group.
fn shared<F: Format>() -> usize {
    if F::WEIGHTS > F::GROUP { F::WEIGHTS / F::GROUP } else { 0 }
}

fn read_row<F: Format>(integers: &Integers, row: &[u8], out: &mut IntegerRow) {
    let groups = shared::<F>();
    let minimum_groups = if integers.minima { groups } else { 0 };
    let blocks = row.chunks_exact(F::BYTES).zip(out.codes.chunks_exact_mut(F::WEIGHTS));
    for (i, (block, codes)) in blocks.enumerate() {
        let mut numbers = Numbers {
            codes,
            scale: &mut out.scales[i],
            factors: &mut out.factors[i * groups..][..groups],
            minimum: out.minima.get_mut(i),
            minimum_factors: &mut out.minimum_factors[i * minimum_groups..][..minimum_groups],
        };
        (integers.read)(block, &mut numbers);
    }
}
