//! One codec on one sample: encodes and decodes for a law, and describes violations.

use std::cell::RefCell;
use std::sync::Arc;

use codec_api::{CodecError, EncodedTensor, Needs, Payload};
use proptest::strategy::Strategy;
use proptest::test_runner::{TestCaseError, TestError};

use super::guard::catch;
use super::{Law, Sample, Subject, Violation};
use crate::strategies;

/// One attempt of a law with a codec and a sample.
#[derive(Clone, Copy)]
pub(crate) struct Trial<'a> {
    pub(crate) subject: &'a Subject,
    pub(crate) law: Law,
    pub(crate) sample: &'a Sample,
    /// The inputs to offer the codec in addition to the tensor.
    pub(crate) offer: Needs,
}

impl Trial<'_> {
    pub(crate) fn violation(&self, found: impl Into<String>, wanted: impl Into<String>) -> Violation {
        self.subject.violation(self.law, self.sample.to_string(), found, wanted)
    }

    /// Runs `f`; a panic is a violation.
    pub(crate) fn calmly<T>(&self, what: &str, f: impl FnOnce() -> T) -> Result<T, Violation> {
        catch(f).map_err(|message| self.violation(format!("{what} {message}"), "no panic"))
    }

    /// Encodes and returns the codec's own result or error.
    pub(crate) fn try_encode(&self) -> Result<Result<EncodedTensor, CodecError>, Violation> {
        let codec = Arc::clone(&self.subject.codec);
        self.calmly("encode", || EncodedTensor::encode(codec, self.sample.view()?, &self.sample.encode_cx(self.offer)?))
    }

    /// The codec's own payload or error, without a certificate.
    pub(crate) fn try_payload(&self) -> Result<Result<Payload, CodecError>, Violation> {
        self.calmly("encode", || {
            let cx = self.sample.encode_cx(self.offer)?;
            EncodedTensor::encode_payload(&*self.subject.codec, self.sample.view()?, &cx)
        })
    }

    /// Certifies a payload of the sample.
    pub(crate) fn try_certify(&self, payload: Payload) -> Result<Result<EncodedTensor, CodecError>, Violation> {
        let codec = Arc::clone(&self.subject.codec);
        self.calmly("decode", || {
            EncodedTensor::certify(codec, &self.sample.view()?, payload, &self.sample.decode_cx(self.offer)?)
        })
    }

    /// Encodes; `None` if the codec refuses the tensor.
    pub(crate) fn encode(&self) -> Result<Option<EncodedTensor>, Violation> {
        match self.try_encode()? {
            Ok(encoded) => Ok(Some(encoded)),
            Err(e) if e.is_refusal() => Ok(None),
            Err(e) => Err(self.violation(format!("encode failed: {e}"), "a payload or a refusal")),
        }
    }

    /// Decodes the whole encoded tensor.
    pub(crate) fn decode(&self, encoded: &EncodedTensor) -> Result<Vec<f32>, Violation> {
        self.calmly("decode", || encoded.decode(&self.sample.decode_cx(self.offer)?))?
            .map_err(|e| self.violation(format!("decode failed: {e}"), "its own payload decodes"))
    }

    /// Decodes the encoded tensor of a lossless codec to the stored bytes.
    pub(crate) fn decode_bytes(&self, encoded: &EncodedTensor) -> Result<Vec<u8>, Violation> {
        self.calmly("decode_bytes", || encoded.decode_bytes(&self.sample.decode_cx(self.offer)?))?
            .map_err(|e| self.violation(format!("decode_bytes failed: {e}"), "its own payload decodes"))
    }

    /// The sample's values as f32.
    pub(crate) fn source(&self) -> Result<Vec<f32>, Violation> {
        let values = self.sample.view().and_then(|view| Ok(view.to_f32()?.into_owned()));
        values.map_err(|e| self.violation(e.to_string(), "a float tensor"))
    }
}

/// Tries the codec with each offer on one sample. If the codec refuses the sample because of its
/// row length, longer rows are tried too.
pub(crate) fn each_offer(
    subject: &Subject,
    law: Law,
    sample: &Sample,
    check: impl Fn(&Trial<'_>) -> Result<(), Violation>,
) -> Result<(), Violation> {
    let longer = subject.in_whole_blocks(sample);
    [sample].into_iter().chain(&longer).try_for_each(|sample| {
        subject.offers().into_iter().try_for_each(|offer| check(&Trial { subject, law, sample, offer }))
    })
}

/// Checks a property over generated samples and returns the violation on the smallest failing one.
pub(crate) fn for_all(
    subject: &Subject,
    law: Law,
    samples: &impl Strategy<Value = Sample>,
    check: impl Fn(&Sample) -> Result<(), Violation>,
) -> Result<(), Violation> {
    let last = RefCell::new(None);
    let outcome = strategies::runner().run(samples, |sample| {
        check(&sample).map_err(|violation| {
            let reason = violation.to_string();
            // Shrinking tries ever smaller samples, so the last failing one is the smallest.
            last.replace(Some(violation));
            TestCaseError::fail(reason)
        })
    });
    match (outcome, last.take()) {
        (Ok(()), _) => Ok(()),
        (Err(TestError::Fail(..)), Some(violation)) => Err(violation),
        (Err(e), _) => Err(subject.violation(law, "generated tensors", e.to_string(), "every case runs")),
    }
}
