//! What a plan would write, from the costs that codecs state.

use std::ops::RangeInclusive;
use std::sync::Arc;

use codec_api::{Codec, Registry};

use super::Plan;
use crate::error::Error;

/// What a plan would write with one codec.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Estimate {
    /// The codec.
    pub codec: Arc<dyn Codec>,
    /// Number of tensors; of those with the same bytes, one counts.
    pub tensors: usize,
    /// Bytes of the tensors in their stored dtypes.
    pub dense_bytes: u64,
    /// Bytes of their sections, as [`Codec::cost`] states them.
    pub bytes: RangeInclusive<u64>,
}

impl Plan {
    /// The tensors by codec, without reading them. Tensors that their codec refuses because of
    /// their values are not known yet.
    ///
    /// # Errors
    /// [`Error::Plan`] if a codec is not in `registry`.
    pub fn estimate(&self, registry: &Registry) -> Result<Vec<Estimate>, Error> {
        let none = |codec| Estimate { codec, tensors: 0, dense_bytes: 0, bytes: 0..=0 };
        let mut shares: Vec<Estimate> = self.make_codecs(registry)?.into_iter().map(none).collect();
        for tensor in self.tensors.iter().filter(|tensor| tensor.is_stored()) {
            let share = &mut shares[tensor.codec];
            share.tensors += 1;
            share.dense_bytes += tensor.spec.byte_len() as u64;
            // A trial has written the tensor already.
            if let Some(bytes) = tensor.tried.first().and_then(|tried| tried.bytes) {
                let (least, most) = share.bytes.clone().into_inner();
                share.bytes = least.saturating_add(bytes)..=most.saturating_add(bytes);
                continue;
            }
            for chunk in 0..tensor.chunks() {
                let spec = tensor.spec.with_rows(tensor.rows(chunk).len()).map_err(|e| self.wrong(e.to_string()))?;
                let cost = share.codec.cost(&spec).bytes;
                let (least, most) =
                    (share.bytes.start().saturating_add(*cost.start()), share.bytes.end().saturating_add(*cost.end()));
                share.bytes = least..=most;
            }
        }
        shares.retain(|share| share.tensors > 0);
        Ok(shares)
    }
}
