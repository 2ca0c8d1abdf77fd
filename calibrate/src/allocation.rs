//! The choice of a format for each tensor, so that all of them together cost the loss least.

use std::sync::Arc;

use codec_api::{Codec, EncodeCx, InputAxis, TensorView};
use rayon::prelude::*;

use crate::calibrated::Calibrated;
use crate::error::{Error, Result};
use crate::fit::Fit;
use crate::proxy::proxy;
use crate::statistics::{Curve, TensorStatistics};

/// What a codec would take and cost for a tensor.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Offer {
    /// The number of the codec.
    pub codec: usize,
    /// Bytes of the payload.
    pub bytes: u64,
    /// The expected rise of the loss, `½ tr(G E A Eᵀ)`, in nats per token.
    pub loss: f64,
}

impl Fit<'_> {
    /// What each codec would take and cost for each tensor, encoded with feedback. Codecs that do
    /// not accept a tensor make no offer for it.
    ///
    /// # Errors
    /// [`Error::Tensor`] with a tensor that no codec accepts, that cannot be read, or whose encode
    /// fails.
    pub fn offers(&self, calibrated: &Calibrated, codecs: &[Arc<dyn Codec>]) -> Result<Vec<Vec<Offer>>> {
        self.names.par_iter().map(|name| self.offers_for(name, calibrated, codecs)).collect()
    }

    fn offers_for(&self, name: &str, calibrated: &Calibrated, codecs: &[Arc<dyn Codec>]) -> Result<Vec<Offer>> {
        let failed = |error: Error| error.of(name);
        let found = self.subject.statistics.tensors.get(name);
        let found = found.ok_or_else(|| Error::Usage(format!("no statistics of `{name}`")))?;
        let tensor = self.subject.source.tensor(name)?;
        let cx = EncodeCx::for_tensor(self.subject.seed, name);
        let mut offers = Vec::new();
        for (number, codec) in codecs.iter().enumerate() {
            if codec.accepts(tensor.spec()).is_err() {
                continue;
            }
            let fed = calibrated.encode(name, codec, &tensor, &cx).map_err(failed)?;
            let loss = 0.5 * cost(&tensor, &fed.decoded, found).map_err(failed)?;
            offers.push(Offer { codec: number, bytes: fed.payload.bytes(), loss });
        }
        if offers.is_empty() {
            return Err(failed(Error::Usage("none of the codecs accepts it".to_owned())));
        }
        Ok(offers)
    }
}

/// `tr(G E A Eᵀ)` of a decoded tensor.
fn cost(tensor: &TensorView<'_>, decoded: &[f32], found: &TensorStatistics) -> Result<f64> {
    let weights = tensor.to_finite_f32()?;
    let mut error: Vec<f32> = weights.iter().zip(decoded).map(|(weight, decoded)| weight - decoded).collect();
    let (rows, columns) = tensor.spec().matrix();
    let (inputs, outputs) = (Some(&found.inputs), found.outputs.as_ref());
    let (of_rows, of_columns) = if found.axis == InputAxis::Rows { (inputs, outputs) } else { (outputs, inputs) };
    // A diagonal needs no product of matrices.
    if let Some(Curve::Diagonal(squares)) = of_rows {
        for (row, square) in error.chunks_exact_mut(columns.max(1)).zip(squares) {
            for error in row {
                *error *= square.sqrt();
            }
        }
    }
    if let Some(Curve::Diagonal(squares)) = of_columns {
        for row in error.chunks_exact_mut(columns.max(1)) {
            for (error, square) in row.iter_mut().zip(squares) {
                *error *= square.sqrt();
            }
        }
    }
    Ok(proxy(&error, (rows, columns), matrix(of_rows), matrix(of_columns)))
}

/// The entries of a curvature that is no diagonal.
fn matrix(curve: Option<&Curve>) -> Option<&[f32]> {
    if let Some(Curve::Matrix { values, .. }) = curve { Some(values) } else { None }
}

/// Chooses one of each tensor's offers, such that all together take at most `bytes` and cost little:
/// the steps of the lower convex hulls of loss over bytes, the steepest first (Shoham and Gersho,
/// IEEE Trans. ASSP 36 (9), 1988), and then whatever still fits. `None` if even the smallest offers
/// take more, or a tensor has none.
pub fn allocate(offers: &[Vec<Offer>], bytes: u64) -> Option<Vec<Offer>> {
    let hulls = offers.iter().map(|offers| hull(offers)).collect::<Option<Vec<_>>>()?;
    let mut chosen: Vec<Offer> = hulls.iter().map(|hull| hull[0]).collect();
    let mut rest = bytes.checked_sub(chosen.iter().map(|offer| offer.bytes).sum())?;
    let mut steps: Vec<(f64, usize, Offer)> = Vec::new();
    for (tensor, hull) in hulls.iter().enumerate() {
        steps.extend(hull.windows(2).map(|pair| (slope(&pair[0], &pair[1]), tensor, pair[1])));
    }
    // The sort is stable, and slopes of a hull fall: its steps stay in order.
    steps.sort_by(|a, b| b.0.total_cmp(&a.0));
    for (_, tensor, offer) in steps {
        take(&mut chosen[tensor], offer, &mut rest);
    }
    // What is left may pay for offers above the hulls, or beyond a step that did not fit.
    while let Some((tensor, offer)) = best(offers, &chosen, rest) {
        take(&mut chosen[tensor], offer, &mut rest);
    }
    Some(chosen)
}

/// Takes an offer in place of another one if the bytes that are left suffice.
fn take(now: &mut Offer, offer: Offer, rest: &mut u64) {
    if let Some(left) = (*rest + now.bytes).checked_sub(offer.bytes) {
        (*now, *rest) = (offer, left);
    }
}

/// The offer that lowers the loss most and fits.
fn best(offers: &[Vec<Offer>], chosen: &[Offer], rest: u64) -> Option<(usize, Offer)> {
    let gains = offers.iter().zip(chosen).enumerate().flat_map(|(tensor, (offers, now))| {
        let fits = offers.iter().filter(move |offer| offer.loss < now.loss && offer.bytes <= now.bytes + rest);
        fits.map(move |offer| (now.loss - offer.loss, tensor, *offer))
    });
    gains.max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, tensor, offer)| (tensor, offer))
}

/// The lower convex hull of loss over bytes, from the smallest offer to the one with the least loss.
fn hull(offers: &[Offer]) -> Option<Vec<Offer>> {
    let mut sorted = offers.to_vec();
    sorted.sort_by(|a, b| a.bytes.cmp(&b.bytes).then(a.loss.total_cmp(&b.loss)));
    let mut hull: Vec<Offer> = Vec::new();
    for offer in sorted {
        if hull.last().is_some_and(|last| offer.bytes == last.bytes || offer.loss >= last.loss) {
            continue;
        }
        while let [.., before, last] = hull[..] {
            if slope(&before, &last) > slope(&last, &offer) {
                break;
            }
            hull.pop();
        }
        hull.push(offer);
    }
    (!hull.is_empty()).then_some(hull)
}

/// Loss saved per byte.
fn slope(from: &Offer, to: &Offer) -> f64 {
    (from.loss - to.loss) / (to.bytes - from.bytes) as f64
}
