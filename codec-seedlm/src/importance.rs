//! What the error of each weight counts: equally, or by how large the inputs are that it meets.

use std::collections::BTreeMap;

use codec_api::{Calibration, CodecError, Result, TensorSpec};

use crate::block::MAX_BLOCK;

/// Least importance of a weight relative to the largest in its block: no weight is free to become anything.
const LEAST: f32 = 1e-6;

/// Blocks by the importance of their weights: blocks alike share the tables of a search.
pub(crate) type Alike = BTreeMap<[u32; MAX_BLOCK], Vec<usize>>;

/// Groups the blocks of `weights` weights each of a tensor. The zeros that fill up the last block count as much as the
/// most important weight.
///
/// # Errors
/// [`CodecError::Limit`] if calibration does not have a value for each index of its axis.
pub(crate) fn alike(spec: &TensorSpec, weights: usize, calibration: Option<&dyn Calibration>) -> Result<Alike> {
    let n = spec.elements();
    let (rows, columns) = spec.matrix();
    let inputs = calibration.filter(|_| n > 0).map(|c| (c.input_axis(), c.mean_squares()));
    if let Some((axis, squares)) = inputs
        && [rows, columns].get(axis) != Some(&squares.len())
    {
        let found = format!("calibration has {} inputs along axis {axis}", squares.len());
        return Err(CodecError::Limit(format!("{found}, the matrix is {rows} × {columns}")));
    }
    let mut alike = Alike::new();
    for block in 0..n.div_ceil(weights) {
        let mut importance = [1.0; MAX_BLOCK];
        if let Some((axis, squares)) = inputs {
            let places = block * weights..n.min((block + 1) * weights);
            let known = &mut importance[..places.len()];
            for (h, place) in known.iter_mut().zip(places) {
                *h = squares[if axis == 0 { place / columns } else { place % columns }];
            }
            make_relative(known);
        }
        alike.entry(importance.map(f32::to_bits)).or_default().push(block);
    }
    Ok(alike)
}

/// Divides by the largest.
fn make_relative(importance: &mut [f32]) {
    let largest = importance.iter().fold(0.0, |m: f32, h| if h.is_finite() { m.max(*h) } else { m });
    for h in importance {
        // NaN and negative numbers are no mean squares.
        let share = if largest > 0.0 { *h / largest } else { 1.0 };
        *h = if share > LEAST { share.min(1.0) } else { LEAST };
    }
}
