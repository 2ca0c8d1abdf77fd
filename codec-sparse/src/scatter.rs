//! Putting values where they belong.

use codec_api::{Cancel, CodecError, Result};

use crate::form::{Batches, Positions};

/// Places that are cleared at once beyond those that are needed: still in the cache when values come to them.
const AHEAD: usize = 1 << 12;

/// Fills `out` with the values at their positions and `zero` elsewhere.
pub(crate) fn scatter<T: Copy>(
    positions: &dyn Positions,
    values: &[T],
    zero: T,
    out: &mut [T],
    cancel: &Cancel,
) -> Result<()> {
    let (units, mut cleared, mut values) = (out.len(), 0, values);
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
        Ok(())
    };
    positions.visit(&mut Batches::new(units, &mut place))?;
    out[cleared..].fill(zero);
    Ok(())
}

/// Checks positions in a tensor of `units` units without using them.
pub(crate) fn checked(positions: &dyn Positions, units: usize) -> Result<()> {
    positions.visit(&mut Batches::new(units, &mut |_| Ok(())))
}
