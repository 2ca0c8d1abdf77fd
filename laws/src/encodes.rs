//! Laws 1, 3 and 6 judge the same encode of every tensor, so that each tensor is encoded once.

use codec_api::{CodecError, EncodedTensor};

use super::trial::{Trial, each_offer, for_all};
use super::{Law, Subject, Violation, certificate, cost, nasty, refusals};
use crate::strategies;

/// The result of encoding one tensor.
pub(super) struct Encode {
    /// The codec's answer.
    pub(super) answer: Result<Encoded, CodecError>,
}

/// An encoded tensor and its decoded values.
pub(super) struct Encoded {
    pub(super) tensor: EncodedTensor,
    /// The values, or the violation that decoding found.
    values: Result<Vec<f32>, Violation>,
    /// Heap bytes that encode or decode held in addition to input and output, the larger of both;
    /// `None` if the program's allocator does not count.
    pub(super) scratch: Option<u64>,
}

impl Encode {
    pub(super) fn new(trial: &Trial<'_>) -> Result<Self, Violation> {
        let (payload, encode_peak) = heap::peak(|| trial.try_payload());
        let tensor = match payload?.map(|payload| trial.try_certify(payload)) {
            Ok(tensor) => tensor?,
            Err(e) => Err(e),
        };
        let tensor = match tensor {
            Ok(tensor) => tensor,
            Err(e) => return Ok(Self { answer: Err(e) }),
        };
        let (values, decode_peak) = heap::peak(|| trial.decode(&tensor));
        let output = values.as_deref().map_or(0, size_of_val);
        let beside = |peak: Option<u64>, output: usize| peak.map(|peak| peak.saturating_sub(output as u64));
        let scratch = beside(encode_peak, tensor.payload.bytes() as usize).max(beside(decode_peak, output));
        Ok(Self { answer: Ok(Encoded { tensor, values, scratch }) })
    }

    /// The encoded tensor; `None` if the codec refuses the tensor.
    pub(super) fn encoded(&self, trial: &Trial<'_>) -> Result<Option<&Encoded>, Violation> {
        match &self.answer {
            Ok(encoded) => Ok(Some(encoded)),
            Err(e) if e.is_refusal() => Ok(None),
            Err(e) => Err(trial.violation(format!("encode failed: {e}"), "a payload or a refusal")),
        }
    }
}

impl Encoded {
    /// The decoded values.
    pub(super) fn values(&self) -> Result<&[f32], Violation> {
        self.values.as_deref().map_err(Violation::clone)
    }
}

/// Encodes every nasty tensor and the property-generated ones, and judges the results by those of
/// `laws` that concern single encodes (certificate, cost and refusals).
pub(super) fn everywhere(laws: &[Law], subject: &Subject) -> Result<(), Violation> {
    let about = |law: &Law| matches!(law, Law::Certificate | Law::Cost | Law::Refusals);
    let laws: Vec<Law> = laws.iter().copied().filter(about).collect();
    let Some(first) = laws.first().copied() else { return Ok(()) };
    let judge = |trial: &Trial<'_>| {
        let encode = Encode::new(trial)?;
        laws.iter().try_for_each(|&law| {
            let trial = Trial { law, ..*trial };
            match law {
                Law::Certificate => certificate::judge(&trial, &encode),
                Law::Cost => cost::judge(&trial, &encode),
                _ => refusals::judge(&trial, &encode),
            }
        })
    };
    nasty().try_for_each(|sample| each_offer(subject, first, &sample, judge))?;
    for_all(subject, first, &strategies::finite_tensor(), |sample| each_offer(subject, first, sample, judge))
}
