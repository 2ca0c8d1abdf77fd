//! Putting values where they belong.

use codec_api::{Cancel, CodecError, Result};

use crate::form::{Batches, Positions};

/// Places that are cleared at once beyond those that are needed: still in the cache when values come to them.
const AHEAD: usize = 1 << 12;

/// Places that are handed to `finished` at once, or more: short pieces would cost more.
const PIECE: usize = 1 << 12;

/// Fills `out` with the values at their positions and `zero` elsewhere. Tells `finished` piece by piece what will not change any more.
pub(crate) fn scatter<T: Copy>(
    positions: &dyn Positions,
    values: &[T],
    zero: T,
    out: &mut [T],
    cancel: &Cancel,
    mut finished: impl FnMut(&[T]),
) -> Result<()> {
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
            out[cleared..to].fill(zero);
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
    out[cleared..].fill(zero);
    finished(&out[done..]);
    Ok(())
}

/// Checks positions in a tensor of `units` units without using them.
pub(crate) fn checked(positions: &dyn Positions, units: usize) -> Result<()> {
    positions.visit(&mut Batches::new(units, &mut |_| Ok(())))
}
