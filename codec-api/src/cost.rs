//! The predicted cost of a codec on a tensor, without reading the tensor.

use std::ops::RangeInclusive;

/// Predicted size and work for one tensor of a given spec.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct CostEstimate {
    /// Payload bytes. The payload size always lies in this range; a fixed-rate codec has equal
    /// ends.
    pub bytes: RangeInclusive<u64>,
    /// Total arithmetic operations of an encode; for comparison and planning.
    pub encode_ops: f64,
    /// Total arithmetic operations of a decode.
    pub decode_ops: f64,
    /// Heap bytes that encode or decode needs besides input and output.
    pub scratch_bytes: u64,
    /// Expected `‖w − ŵ‖ / ‖w‖` on Gaussian weights if it is known; 0 for exact codecs.
    /// A codec that expects 1 may make zeros of a tensor; all others are refused then
    /// ([`crate::EncodedTensor::certify`]).
    pub expected_rel_rmse: Option<f64>,
}

impl CostEstimate {
    /// For a codec whose payload size follows from the spec alone.
    pub fn fixed(bytes: u64) -> Self {
        Self::between(bytes, bytes)
    }

    /// For a codec whose payload size depends on the data: from `least` to `most` bytes.
    pub fn between(least: u64, most: u64) -> Self {
        Self { bytes: least..=most, encode_ops: 0.0, decode_ops: 0.0, scratch_bytes: 0, expected_rel_rmse: None }
    }

    /// Sets the operations of an encode and of a decode.
    #[must_use]
    pub fn ops(mut self, encode: f64, decode: f64) -> Self {
        (self.encode_ops, self.decode_ops) = (encode, decode);
        self
    }

    /// Sets the heap bytes needed besides input and output.
    #[must_use]
    pub fn scratch(mut self, bytes: u64) -> Self {
        self.scratch_bytes = bytes;
        self
    }

    /// Sets the expected relative error on Gaussian weights.
    #[must_use]
    pub fn rel_rmse(mut self, error: f64) -> Self {
        self.expected_rel_rmse = Some(error);
        self
    }
}
