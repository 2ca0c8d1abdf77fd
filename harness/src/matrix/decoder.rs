//! Decodes a read-back tensor repeatedly into one buffer, and checks the result against the source.

use codec_api::{Bound, DecodeCx, EncodedTensor, Lossless, TensorView, max_abs_error};

use super::errors::{finite, nmse, shannon_gap_bits, snr_db, squared_error};
use super::row::Row;

/// A NaN with an unusual payload, to recognise elements that a decoder has not written.
const UNWRITTEN: f32 = f32::from_bits(0x7fa5_a5a5);

/// The read-back tensor and its output buffer.
pub(super) struct Decoder<'a> {
    read: &'a EncodedTensor,
    output: Output<'a>,
}

enum Output<'a> {
    /// Stored bytes: if the codec is lossless and the tensor is certified exact.
    Bytes(&'a dyn Lossless, Vec<u8>),
    Values(Vec<f32>),
}

impl<'a> Decoder<'a> {
    /// A decoder whose buffer starts with values that differ from the decoded tensor.
    pub(super) fn new(read: &'a EncodedTensor, source: &[u8]) -> Self {
        let output = match read.codec.as_lossless() {
            Some(codec) if read.payload.bound() == Bound::Exact => {
                Output::Bytes(codec, source.iter().map(|b| !b).collect())
            }
            _ => Output::Values(vec![UNWRITTEN; read.spec.elements()]),
        };
        Self { read, output }
    }

    pub(super) fn run(&mut self, cx: &DecodeCx<'_>) -> codec_api::Result<()> {
        let EncodedTensor { spec, codec, payload, .. } = self.read;
        match &mut self.output {
            Output::Bytes(codec, bytes) => codec.decode_bytes(spec, payload.view(), cx, bytes),
            Output::Values(values) => codec.decode(spec, payload.view(), cx, values),
        }
    }

    /// Fills the error columns of `row`. `values` are the source as f32 if it is a float tensor.
    ///
    /// # Errors
    /// The reason if the certified bound does not hold.
    pub(super) fn check(&self, source: &TensorView<'_>, values: Option<&[f32]>, row: &mut Row) -> Result<(), String> {
        let broken = |what: String| Err(format!("the certified bound does not hold: {what}"));
        match (&self.output, values) {
            (Output::Bytes(_, bytes), _) => {
                let first = bytes.iter().zip(source.bytes()).position(|(a, b)| a != b);
                if let Some(at) = first {
                    return broken(format!("byte {at} differs and the tensor is certified exact"));
                }
                row.set_errors(0.0, 0.0);
            }
            (Output::Values(_), None) => {
                return broken(format!("a tensor of {} comes back only through a lossless codec", row.dtype));
            }
            (Output::Values(decoded), Some(values)) => {
                let max_abs = max_abs_error(values, decoded);
                row.set_errors(squared_error(values, decoded), max_abs);
                let bound = self.read.payload.bound();
                if !bound.holds(values, decoded) {
                    let relative = row.relative_error.unwrap_or(f64::INFINITY);
                    return broken(format!("{bound}, but max |w − ŵ| is {max_abs:e} and ‖w − ŵ‖/‖w‖ {relative:e}"));
                }
            }
        }
        Ok(())
    }
}

impl Row {
    /// Sets the size columns.
    pub(super) fn set_size(&mut self, bytes: u64, header_bytes: u64) {
        (self.bytes, self.header_bytes) = (Some(bytes), Some(header_bytes));
        self.bits_per_weight = finite(8.0 * bytes as f64 / self.weights as f64);
        self.ratio = finite(self.dense_bytes() as f64 / bytes as f64).filter(|ratio| *ratio > 0.0);
    }

    pub(super) fn set_bound(&mut self, bound: Bound) {
        self.bound_kind = Some(bound.kind().to_owned());
        self.bound_value = bound.value().map(f64::from);
    }

    /// Sets the error columns from ‖w − ŵ‖² and max |w − ŵ|. Needs [`Row::energy`] and the size.
    fn set_errors(&mut self, squared: f64, max_abs: f64) {
        self.nmse = nmse(squared, self.energy.unwrap_or(0.0));
        self.relative_error = self.nmse.map(f64::sqrt);
        self.mse = finite(squared / self.weights.max(1) as f64);
        self.max_abs_error = finite(max_abs);
        self.snr_db = self.nmse.and_then(snr_db);
        let bits = self.bits_per_weight.filter(|bits| *bits > 0.0);
        self.shannon_gap_bits = bits.zip(self.nmse).and_then(|(bits, nmse)| shannon_gap_bits(bits, nmse));
    }
}
