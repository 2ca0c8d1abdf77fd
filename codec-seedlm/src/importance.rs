//! Importance of each weight's error: equal, or by the magnitude of the weight's inputs.

use std::collections::BTreeMap;

use codec_api::util::relative_importance;
use codec_api::{EncodeCx, InputAxis, Result, TensorSpec};

use crate::block::MAX_BLOCK;

/// Numbers of blocks by the importance of their weights. Blocks with equal importance share the
/// tables of a search.
pub(crate) type Alike = BTreeMap<[u32; MAX_BLOCK], Vec<usize>>;

/// Groups the blocks of a tensor, of `weights` weights each. The zeros that pad the last block get
/// the importance of the most important weight.
///
/// # Errors
/// [`codec_api::CodecError::Usage`] if calibration does not have one value per index of its axis.
pub(crate) fn alike(spec: &TensorSpec, weights: usize, cx: &EncodeCx<'_>) -> Result<Alike> {
    let n = spec.elements();
    let (_, columns) = spec.matrix();
    let calibration = cx.calibration_of(spec)?;
    let mut alike = Alike::new();
    for block in 0..n.div_ceil(weights) {
        let mut importance = [1.0; MAX_BLOCK];
        if let Some(calibration) = calibration {
            let places = block * weights..n.min((block + 1) * weights);
            let known = &mut importance[..places.len()];
            for (h, place) in known.iter_mut().zip(places) {
                let by_row = calibration.axis == InputAxis::Rows;
                *h = calibration.mean_squares[if by_row { place / columns } else { place % columns }];
            }
            relative_importance(known);
        }
        alike.entry(importance.map(f32::to_bits)).or_default().push(block);
    }
    Ok(alike)
}
