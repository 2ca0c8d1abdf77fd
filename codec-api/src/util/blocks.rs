//! Reading any range of a flat sequence of blocks.

use std::ops::Range;

/// Reads elements `range` of a sequence of `len` elements in blocks of `B`, for formats whose
/// blocks need not begin where rows begin. `out` has the length of the range, which lies within
/// `len`.
///
/// `decode(block, out)` decodes from the start of block number `block` on. `out` ends with a block,
/// with the sequence, or somewhere inside its last block.
pub fn read_blocks<const B: usize>(
    len: usize,
    range: Range<usize>,
    out: &mut [f32],
    mut decode: impl FnMut(usize, &mut [f32]),
) {
    let (first, skipped) = (range.start / B, range.start % B);
    if out.is_empty() {
        return;
    }
    if skipped == 0 {
        return decode(first, out);
    }
    let mut block = [0.0; B];
    let block = &mut block[..B.min(len - first * B)];
    decode(first, block);
    let head = out.len().min(block.len() - skipped);
    out[..head].copy_from_slice(&block[skipped..skipped + head]);
    if head < out.len() {
        decode(first + 1, &mut out[head..]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_range_is_the_part_of_the_whole() {
        const LEN: usize = 23;
        for (start, end) in (0..=LEN).flat_map(|start| (start..=LEN).map(move |end| (start, end))) {
            let mut out = vec![f32::NAN; end - start];
            read_blocks::<8>(LEN, start..end, &mut out, |block, out| {
                assert!(8 * block + out.len() <= LEN);
                out.iter_mut().enumerate().for_each(|(i, v)| *v = (8 * block + i) as f32);
            });
            assert!(out.iter().copied().eq((start..end).map(|i| i as f32)), "{start}..{end}: {out:?}");
        }
    }
}
