//! Scattering values to their positions.

use std::ops::Range;

use codec_api::{Cancel, CodecError, Result};
use simd::{LANES, Simd, kernel, lanes};

use crate::form::{Batches, POSITIONS, Positions};

/// Units to clear ahead of the current batch, so that they are still in the cache when values
/// arrive.
const AHEAD: usize = 1 << 12;

/// Minimum number of units passed to `finished` in one call: shorter pieces would cost more.
pub(crate) const PIECE: usize = 1 << 12;

/// Fills `out`, the units of `rows`, with the values at their positions and zeros elsewhere.
/// `first` is the flat index of the first unit. Passes each piece of `out` to `finished` when it is
/// final.
pub(crate) fn scatter<const WIDTH: usize>(
    positions: &dyn Positions,
    (rows, first): (Range<usize>, usize),
    values: &[[u8; WIDTH]],
    out: &mut [[u8; WIDTH]],
    cancel: &Cancel,
    mut finished: impl FnMut(&[[u8; WIDTH]]),
) -> Result<()> {
    let (units, mut cleared, mut done, mut values) = (out.len(), 0, 0, values);
    let mut place = |batch: &[usize]| {
        cancel.check()?;
        let Some((now, later)) = values.split_at_checked(batch.len()) else {
            return Err(CodecError::corrupt(POSITIONS, "there are more positions than values"));
        };
        values = later;
        let end = batch.last().map_or(0, |last| last + 1 - first);
        if end > cleared {
            let to = (end + AHEAD).min(units);
            out[cleared..to].fill([0; WIDTH]);
            cleared = to;
        }
        for (position, value) in batch.iter().zip(now) {
            out[*position - first] = *value;
        }
        if end >= done + PIECE {
            finished(&out[done..end]);
            done = end;
        }
        Ok(())
    };
    positions.visit(rows, &mut Batches::new(first..first + units, &mut place))?;
    out[cleared..].fill([0; WIDTH]);
    finished(&out[done..]);
    Ok(())
}

/// Moves the values, which are the last units of `out`, to the positions of set bits, and clears
/// all other units. `flags` has a bit for each unit of `out`; its last byte may have more. The
/// number of values must equal the number of set bits of these units. Calls `finished` as
/// [`scatter`] does.
///
/// No value is overwritten before it is moved: the remaining values always fit behind the finished
/// units.
pub(crate) fn expand<const WIDTH: usize>(
    flags: &[u8],
    values: usize,
    out: &mut [[u8; WIDTH]],
    cancel: &Cancel,
    mut finished: impl FnMut(&[[u8; WIDTH]]),
) -> Result<()> {
    let (units, mut at) = (out.len(), 0);
    let mut next = units.saturating_sub(values);
    for flags in flags.chunks(PIECE / 8) {
        cancel.check()?;
        let end = (at + PIECE).min(units);
        if end <= next {
            // Clearing brings lines into the cache without reading them; the stores of single
            // blocks would not.
            out[at..end].fill([0; WIDTH]);
        }
        next = expand_piece(flags, out.as_flattened_mut(), at, next, WIDTH);
        finished(&out[at..end]);
        at = end;
    }
    Ok(())
}

kernel! {
    /// Moves the values starting at unit `next` to the units from `at` on with set bits; returns
    /// the index of the next value.
    fn expand_piece<'a>(simd, flags: &'a [u8], out: &'a mut [u8], at: usize, next: usize, width: usize) -> usize {
        match width {
            1 => expand_units::<1, _>(simd, flags, out.as_chunks_mut().0, at, next),
            2 => expand_units::<2, _>(simd, flags, out.as_chunks_mut().0, at, next),
            4 => expand_units::<4, _>(simd, flags, out.as_chunks_mut().0, at, next),
            _ => expand_units::<8, _>(simd, flags, out.as_chunks_mut().0, at, next),
        }
    }
}

#[inline(always)]
fn expand_units<const WIDTH: usize, S: Simd>(
    simd: S,
    flags: &[u8],
    out: &mut [[u8; WIDTH]],
    mut at: usize,
    mut next: usize,
) -> usize {
    let (pairs, rest) = flags.as_chunks();
    for pair in pairs {
        let mask = u16::from_le_bytes(*pair);
        let block = match out.get(next..).and_then(|rest| rest.first_chunk()) {
            Some(block) => *block,
            None => last_block(out, next),
        };
        match out.get_mut(at..).and_then(|rest| rest.first_chunk_mut()) {
            Some(to) => *to = expand_block(simd, &block, mask),
            None => end_with(out, at, &expand_block(simd, &block, mask)),
        }
        (at, next) = (at + LANES, next + mask.count_ones() as usize);
    }
    if let [last] = rest {
        let block = expand_block(simd, &last_block(out, next), (*last).into());
        end_with(out, at, &block);
        next += last.count_ones() as usize;
    }
    next
}

/// Writes the part of a block that fits into `out` from `at` on.
#[inline(never)]
fn end_with<const WIDTH: usize>(out: &mut [[u8; WIDTH]], at: usize, block: &[[u8; WIDTH]; LANES]) {
    for (to, from) in out.iter_mut().skip(at).zip(block) {
        *to = *from;
    }
}

/// The remaining values, fewer than a block, padded with zeros.
#[inline(never)]
fn last_block<const WIDTH: usize>(values: &[[u8; WIDTH]], next: usize) -> [[u8; WIDTH]; LANES] {
    let mut block = [[0; WIDTH]; LANES];
    for (to, from) in block.iter_mut().zip(values.get(next..).unwrap_or_default()) {
        *to = *from;
    }
    block
}

/// Places the units, in order, at the set bits of `mask`; zeros elsewhere.
#[inline(always)]
fn expand_block<const WIDTH: usize, S: Simd>(simd: S, units: &[[u8; WIDTH]; LANES], mask: u16) -> [[u8; WIDTH]; LANES] {
    if WIDTH > 4 {
        let (mut out, mut next) = ([[0; WIDTH]; LANES], 0);
        for (_, out) in out.iter_mut().enumerate().filter(|(i, _)| mask >> i & 1 == 1) {
            *out = units[next];
            next += 1;
        }
        return out;
    }
    let wide: [u32; LANES] = lanes!(i => widen(units[i]));
    let wide = simd.expand(&wide, mask);
    let mut out = [[0; WIDTH]; LANES];
    for i in 0..LANES {
        out[i] = narrow(wide[i]);
    }
    out
}

/// A unit of at most four bytes as an integer.
#[inline(always)]
fn widen<const WIDTH: usize>(unit: [u8; WIDTH]) -> u32 {
    let mut bytes = [0; 4];
    bytes[..WIDTH.min(4)].copy_from_slice(&unit[..WIDTH.min(4)]);
    u32::from_le_bytes(bytes)
}

/// The inverse of [`widen`].
#[inline(always)]
fn narrow<const WIDTH: usize>(wide: u32) -> [u8; WIDTH] {
    let (bytes, mut unit) = (wide.to_le_bytes(), [0; WIDTH]);
    unit[..WIDTH.min(4)].copy_from_slice(&bytes[..WIDTH.min(4)]);
    unit
}
