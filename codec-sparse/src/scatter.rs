//! Putting values where they belong.

use codec_api::{Cancel, CodecError, Result};
use simd::{LANES, Simd, kernel, lanes, store};

use crate::form::{Batches, Positions};

/// Places that are cleared at once beyond those that are needed: still in the cache when values come to them.
const AHEAD: usize = 1 << 12;

/// Places that are handed to `finished` at once, or more: short pieces would cost more.
const PIECE: usize = 1 << 12;

/// Fills `out` with the values at their positions and zeros elsewhere; there are as many values as positions. Tells `finished` piece by
/// piece what will not change any more.
pub(crate) fn scatter<const WIDTH: usize>(
    positions: &dyn Positions,
    values: &[[u8; WIDTH]],
    out: &mut [[u8; WIDTH]],
    cancel: &Cancel,
    mut finished: impl FnMut(&[[u8; WIDTH]]),
) -> Result<()> {
    if let Some(flags) = positions.flags()? {
        let mut values = values;
        for (out, flags) in out.chunks_mut(PIECE).zip(flags.chunks(PIECE / 8)) {
            cancel.check()?;
            values = &values[expand(flags, values.as_flattened(), out.as_flattened_mut(), WIDTH).min(values.len())..];
            finished(out);
        }
        return Ok(());
    }
    let (units, mut cleared, mut done, mut values) = (out.len(), 0, 0, values);
    let mut place = |batch: &[usize]| {
        cancel.check()?;
        let Some((now, later)) = values.split_at_checked(batch.len()) else {
            return Err(CodecError::Limit("there are more positions than values".to_owned()));
        };
        values = later;
        let end = batch.last().map_or(0, |last| last + 1);
        if end > cleared {
            let to = (end + AHEAD).min(units);
            out[cleared..to].fill([0; WIDTH]);
            cleared = to;
        }
        for (position, value) in batch.iter().zip(now) {
            out[*position] = *value;
        }
        if end >= done + PIECE {
            finished(&out[done..end]);
            done = end;
        }
        Ok(())
    };
    positions.visit(&mut Batches::new(units, &mut place))?;
    out[cleared..].fill([0; WIDTH]);
    finished(&out[done..]);
    Ok(())
}

kernel! {
    /// Puts values of `width` bytes where bits are set and zeros elsewhere; returns how many there were places for.
    fn expand<'a>(simd, flags: &'a [u8], values: &'a [u8], out: &'a mut [u8], width: usize) -> usize {
        match width {
            1 => expand_units::<1, _>(simd, flags, values, out),
            2 => expand_units::<2, _>(simd, flags, values, out),
            4 => expand_units::<4, _>(simd, flags, values, out),
            _ => expand_units::<8, _>(simd, flags, values, out),
        }
    }
}

#[inline(always)]
fn expand_units<const WIDTH: usize, S: Simd>(simd: S, flags: &[u8], values: &[u8], out: &mut [u8]) -> usize {
    let (values, out) = (values.as_chunks::<WIDTH>().0, out.as_chunks_mut::<WIDTH>().0);
    let mut next = 0;
    for (flags, out) in flags.chunks(LANES / 8).zip(out.chunks_mut(LANES)) {
        let mask = u16::from(flags[0]) | flags.get(1).map_or(0, |high| u16::from(*high) << 8);
        let block = match values.get(next..).and_then(|rest| rest.first_chunk()) {
            Some(block) => *block,
            None => last_block(values, next),
        };
        store(expand_block(simd, &block, mask), out);
        next += mask.count_ones() as usize;
    }
    next
}

/// What is left of the values, filled up with zeros.
#[inline(never)]
fn last_block<const WIDTH: usize>(values: &[[u8; WIDTH]], next: usize) -> [[u8; WIDTH]; LANES] {
    let mut block = [[0; WIDTH]; LANES];
    for (to, from) in block.iter_mut().zip(values.get(next..).unwrap_or_default()) {
        *to = *from;
    }
    block
}

/// The first of sixteen units where the first bit is set, and so on.
#[inline(always)]
fn expand_block<const WIDTH: usize, S: Simd>(simd: S, units: &[[u8; WIDTH]; LANES], mask: u16) -> [[u8; WIDTH]; LANES] {
    // The arms but one are left out for each width.
    let mut out = [[0; WIDTH]; LANES];
    if WIDTH <= 4 {
        let wide: [u32; LANES] = lanes!(i => {
            let mut wide = [0; 4];
            wide[..WIDTH].copy_from_slice(&units[i]);
            u32::from_le_bytes(wide)
        });
        let wide = simd.expand(&wide, mask);
        for (out, wide) in out.iter_mut().zip(wide) {
            out.copy_from_slice(&wide.to_le_bytes()[..WIDTH]);
        }
    } else {
        let mut next = 0;
        for (i, out) in out.iter_mut().enumerate() {
            let set = mask >> i & 1 == 1;
            *out = if set { units[next] } else { [0; WIDTH] };
            next += usize::from(set);
        }
    }
    out
}

/// Checks positions in a tensor of `units` units without using them.
pub(crate) fn checked(positions: &dyn Positions, units: usize) -> Result<()> {
    positions.visit(&mut Batches::new(units, &mut |_| Ok(())))
}
