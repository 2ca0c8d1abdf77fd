//! Decodes a read-back tensor repeatedly into one buffer, and checks the result against the source.

use codec_api::util::round;
use codec_api::{Certificate, DecodeCx, EncodedTensor, Lossless, TensorView};

use super::errors::{finite, shannon_gap_bits, snr_db};
use super::row::Row;

/// A NaN with an unusual payload, to recognise elements that a decoder has not written.
const UNWRITTEN: f32 = f32::from_bits(0x7fa5_a5a5);

/// The read-back tensor and its output buffer.
pub(super) struct Decoder<'a> {
    read: &'a EncodedTensor,
    output: Output<'a>,
}

enum Output<'a> {
    /// Stored bytes, from a lossless codec.
    Bytes(&'a dyn Lossless, Vec<u8>),
    Values(Vec<f32>),
}

impl<'a> Decoder<'a> {
    /// A decoder whose buffer starts with values that differ from the decoded tensor.
    pub(super) fn new(read: &'a EncodedTensor, source: &[u8]) -> Self {
        let output = match read.codec.as_lossless() {
            Some(codec) => Output::Bytes(codec, source.iter().map(|b| !b).collect()),
            None => Output::Values(vec![UNWRITTEN; read.spec.elements()]),
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

    /// Measures the decoded weights, rounded to the stored dtype, and fills the error columns of
    /// `row`. `values` are the source as f32 if it is a float tensor.
    ///
    /// # Errors
    /// The reason if the certificate in the file states something else.
    pub(super) fn check(
        &mut self,
        source: &TensorView<'_>,
        values: Option<&[f32]>,
        row: &mut Row,
    ) -> Result<(), String> {
        let stated = self.read.certificate;
        let found = match (&mut self.output, values) {
            (Output::Bytes(_, bytes), _) => {
                if let Some(at) = bytes.iter().zip(source.bytes()).position(|(a, b)| a != b) {
                    return Err(format!("byte {at} differs, and the codec is lossless"));
                }
                Certificate::exact(stated.energy)
            }
            (Output::Values(_), None) => {
                return Err(format!("a tensor of {} comes back only through a lossless codec", row.dtype));
            }
            (Output::Values(decoded), Some(values)) => {
                round(source.spec().dtype(), decoded).map_err(|e| e.to_string())?;
                Certificate::measure(values, decoded)
            }
        };
        row.set_errors(&found);
        if stated.agrees_with(&found) {
            return Ok(());
        }
        Err(format!("the certificate does not hold: it is {stated:?}, but the decoded weights have {found:?}"))
    }
}

impl Row {
    /// Sets the size columns.
    pub(super) fn set_size(&mut self, bytes: u64, header_bytes: u64) {
        (self.bytes, self.header_bytes) = (Some(bytes), Some(header_bytes));
        self.bits_per_weight = finite(8.0 * bytes as f64 / self.weights as f64);
        self.ratio = finite(self.dense_bytes() as f64 / bytes as f64).filter(|ratio| *ratio > 0.0);
    }

    /// Sets the error columns. Needs the size.
    fn set_errors(&mut self, errors: &Certificate) {
        self.exact = Some(errors.exact);
        self.energy = finite(errors.energy);
        self.nmse = finite(errors.nmse());
        self.relative_error = self.nmse.map(f64::sqrt);
        self.mse = finite(errors.squared_error / self.weights.max(1) as f64);
        self.max_abs_error = finite(errors.max_abs);
        self.snr_db = self.nmse.and_then(snr_db);
        let bits = self.bits_per_weight.filter(|bits| *bits > 0.0);
        self.shannon_gap_bits = bits.zip(self.nmse).and_then(|(bits, nmse)| shannon_gap_bits(bits, nmse));
    }
}
