//! One encoded tensor: spec, codec, payload and certificate together.

use std::ops::Range;
use std::sync::Arc;

use bytemuck::try_cast_slice_mut;

use crate::certificate::Certificate;
use crate::codec::{Codec, Need};
use crate::context::{DecodeCx, EncodeCx};
use crate::error::{CodecError, Result};
use crate::linear::LinearOp;
use crate::measure::{TILE, energy, measure};
use crate::payload::Payload;
use crate::rows::{Buffer, RowReader, open_of_any_size, open_rows, parts, tiles};
use crate::tensor::{Dtype, TensorSpec, TensorView};
use crate::util::{narrow, widen};

/// Weights of a tile that is not copied, or is hashed: hash functions need some 16 KiB at once to
/// be fast, and the second-level cache holds the tile.
const VISITED: usize = 1 << 15;

/// An encoded tensor with everything that decoding needs (except a base tensor).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct EncodedTensor {
    /// Dtype and shape of the source tensor.
    pub spec: TensorSpec,
    /// The codec that encoded it.
    pub codec: Arc<dyn Codec>,
    /// The sections.
    pub payload: Payload,
    /// The error of the decoded weights.
    pub certificate: Certificate,
}

impl EncodedTensor {
    /// Encodes a tensor and certifies the payload: [`Self::encode_payload`], then
    /// [`Self::certify`].
    ///
    /// # Errors
    /// The errors of [`Self::encode_payload`] and of [`Self::certify`].
    #[tracing::instrument(level = "debug", skip_all, fields(codec = codec.typetag_name(), tensor = %tensor.spec()))]
    pub fn encode(codec: Arc<dyn Codec>, tensor: TensorView<'_>, cx: &EncodeCx<'_>) -> Result<Self> {
        let source = tensor.clone();
        let payload = Self::encode_payload(&*codec, tensor, cx)?;
        Self::certify(codec, &source, payload, &cx.decoding())
    }

    /// Encodes a tensor after [`Codec::accepts`] has accepted its spec, without a certificate.
    ///
    /// # Errors
    /// The codec's own errors; [`CodecError::MissingBase`] or [`CodecError::MissingCalibration`] if
    /// the codec requires what `cx` does not have.
    pub fn encode_payload(codec: &dyn Codec, tensor: TensorView<'_>, cx: &EncodeCx<'_>) -> Result<Payload> {
        codec.accepts(tensor.spec())?;
        if codec.needs().base == Need::Requires && cx.base.is_none() {
            return Err(CodecError::MissingBase { wanted: None, given: None });
        }
        if codec.needs().calibration == Need::Requires && cx.calibration.is_none() {
            return Err(CodecError::MissingCalibration);
        }
        codec.encode(tensor, cx)
    }

    /// Decodes a payload, rounds the weights to the stored dtype and measures their error against
    /// `tensor`. If the encoder has already measured the error ([`Payload::with_measured`]), its
    /// numbers are used and nothing is decoded.
    ///
    /// # Errors
    /// [`CodecError::Unsuitable`] if the decoded weights are no nearer to a tensor with weights
    /// other than 0 than zeros are, for example because the format makes zeros of such small
    /// weights, or if a decoded weight is not finite; the codec's own errors. Zeros are accepted
    /// only from a codec that expects a relative error of 1
    /// ([`crate::CostEstimate::expected_rel_rmse`]).
    pub fn certify(
        codec: Arc<dyn Codec>,
        tensor: &TensorView<'_>,
        payload: Payload,
        cx: &DecodeCx<'_>,
    ) -> Result<Self> {
        let certificate = payload.measured().map_or_else(|| measure(&*codec, tensor, &payload, cx), Ok)?;
        Self::certified(codec, tensor, payload, certificate)
    }

    /// Like [`Self::certify`], for callers that need the decoded bytes too: `take` gets them in
    /// their order, in the stored dtype, some rows at a time.
    ///
    /// The payload of an exact codec is not decoded: `take` gets the bytes of `tensor`. The caller
    /// has to check later that the payload decodes to them.
    ///
    /// # Errors
    /// As [`Self::certify`].
    pub fn certify_bytes(
        codec: Arc<dyn Codec>,
        tensor: &TensorView<'_>,
        payload: Payload,
        cx: &DecodeCx<'_>,
        mut take: impl FnMut(&[u8]),
    ) -> Result<Self> {
        if codec.as_lossless().is_some() {
            take(tensor.bytes());
            return Self::certified(codec, tensor, payload, Certificate::exact(energy(tensor)?));
        }
        let (stated, mut measured) = (payload.measured(), Certificate::LOSSY);
        let encoded = Self::from_parts(tensor.spec().clone(), codec, payload, Certificate::EMPTY)?;
        let mut decoded = Vec::new();
        encoded.visit_stored(cx, |rows, bytes| {
            take(bytes);
            if stated.is_none() {
                decoded.resize(rows.len() * tensor.spec().matrix().1, 0.0);
                widen(tensor.spec().dtype(), bytes, &mut decoded)?;
                measured.add(&Certificate::measure(&tensor.rows(rows.start, rows.end)?.to_f32()?, &decoded));
            }
            Ok(())
        })?;
        Self::certified(encoded.codec, tensor, encoded.payload, stated.unwrap_or(measured))
    }

    /// The encoded tensor, unless the certificate says that the payload is useless.
    fn certified(
        codec: Arc<dyn Codec>,
        tensor: &TensorView<'_>,
        payload: Payload,
        certificate: Certificate,
    ) -> Result<Self> {
        // A codec that expects an error of 1 is a reference for others, and stores zeros on
        // purpose.
        let expected = codec.cost(tensor.spec()).expected_rel_rmse;
        refuse_zeros(&certificate, expected.is_some_and(|error| error >= 1.0))?;
        Self::from_parts(tensor.spec().clone(), codec, payload, certificate)
    }

    /// An encoded tensor from its parts, for readers of containers.
    ///
    /// # Errors
    /// [`CodecError::Usage`] if the certificate is not valid; those of [`Codec::accepts`].
    pub fn from_parts(
        spec: TensorSpec,
        codec: Arc<dyn Codec>,
        payload: Payload,
        certificate: Certificate,
    ) -> Result<Self> {
        check_certificate(&certificate)?;
        codec.accepts(&spec)?;
        Ok(Self { spec, codec, payload, certificate })
    }

    /// Decodes to f32, row-major. The values are not rounded to the stored dtype;
    /// [`Self::decode_stored`] rounds them.
    ///
    /// # Errors
    /// As [`Self::decode_into`]. [`CodecError::Limit`] if the output is larger than
    /// [`DecodeCx::output_limit`], or cannot be allocated.
    pub fn decode(&self, cx: &DecodeCx<'_>) -> Result<Vec<f32>> {
        self.check_size()?;
        let mut out = cx.zeros(self.spec.elements(), self.payload.bytes())?;
        self.values(cx, &mut out)?;
        Ok(out)
    }

    /// As [`Self::decode`], into `spec.elements()` values.
    ///
    /// # Errors
    /// The codec's own errors. [`CodecError::Corrupt`], before any allocation, if the payload size
    /// is outside what the codec's cost allows for the spec.
    pub fn decode_into(&self, cx: &DecodeCx<'_>, out: &mut [f32]) -> Result<()> {
        self.check_size()?;
        self.values(cx, out)
    }

    /// Decodes quality levels `0..=level` to f32.
    ///
    /// # Errors
    /// As [`Self::decode`]; [`CodecError::Unsupported`] if the codec has no levels.
    pub fn decode_level(&self, level: usize, cx: &DecodeCx<'_>) -> Result<Vec<f32>> {
        let progressive = self.codec.require_progressive()?;
        self.codec.accepts(&self.spec)?;
        let (mut bytes, mut least, mut most) = (0, 0u64, 0u64);
        for part in progressive.levels(&self.spec).iter().take(level.saturating_add(1)) {
            let sections = self.payload.sections().iter().filter(|(name, _)| part.has(name));
            bytes += sections.map(|(_, section)| section.data().len() as u64).sum::<u64>();
            least = least.saturating_add(*part.bytes.start());
            most = most.saturating_add(*part.bytes.end());
        }
        self.payload.view().check_between(bytes, &(least..=most), &self.spec)?;
        let mut out = cx.zeros(self.spec.elements(), self.payload.bytes())?;
        progressive.decode_level(level, &self.spec, self.payload.view(), &self.limited(cx), &mut out)?;
        Ok(out)
    }

    /// As [`Self::decode_level`], to the bytes of the stored dtype, into `spec.byte_len()` bytes.
    ///
    /// # Errors
    /// As [`Self::decode_level`].
    pub fn decode_level_stored(&self, level: usize, cx: &DecodeCx<'_>, out: &mut [u8]) -> Result<()> {
        self.spec.check_output_bytes(out.len())?;
        narrow(self.spec.dtype(), &self.decode_level(level, cx)?, out)
    }

    /// Opens the rows of the tensor's matrix view.
    ///
    /// # Errors
    /// As [`Self::decode`].
    pub fn open_rows(&self, cx: &DecodeCx<'_>) -> Result<Box<dyn RowReader>> {
        open_rows(&*self.codec, &self.spec, self.payload.view(), &self.limited(cx))
    }

    /// Prepares the codec's own linear operator; `None` if the codec has none.
    ///
    /// # Errors
    /// As [`Self::decode_into`].
    pub fn own_operator(&self, cx: &DecodeCx<'_>) -> Result<Option<Box<dyn LinearOp>>> {
        self.check_size()?;
        let kernel = self.codec.as_linear();
        kernel.map(|kernel| kernel.prepare(&self.spec, self.payload.view(), &self.limited(cx))).transpose()
    }

    /// Decodes to the bytes of the stored dtype, into `spec.byte_len()` bytes. This is the tensor
    /// that a user gets back; the certificate describes its error. A lossy codec's weights are
    /// rounded to the dtype ([`narrow`]).
    ///
    /// # Errors
    /// As [`Self::decode_into`].
    pub fn decode_stored(&self, cx: &DecodeCx<'_>, out: &mut [u8]) -> Result<()> {
        self.check_size()?;
        self.spec.check_output_bytes(out.len())?;
        self.stored(cx, out)
    }

    /// Decodes to the bytes of the stored dtype, and gives them to `visit` in their order, some
    /// rows at a time. An exact codec decodes all rows at once.
    ///
    /// # Errors
    /// As [`Self::decode`], and those of `visit`.
    pub fn visit_stored(
        &self,
        cx: &DecodeCx<'_>,
        mut visit: impl FnMut(Range<usize>, &[u8]) -> Result<()>,
    ) -> Result<()> {
        let ((rows, columns), dtype) = (self.spec.matrix(), self.spec.dtype());
        if self.codec.as_lossless().is_some() {
            return visit(0..rows, &self.decode_bytes(cx)?);
        }
        self.check_size()?;
        let (_span, cx) = (self.span().entered(), &self.limited(cx));
        let reader = open_of_any_size(&*self.codec, &self.spec, self.payload.view(), cx)?;
        let mut bytes = Vec::new();
        tiles(&*reader, 0..rows, columns, VISITED, &mut Buffer::default(), |rows, values| {
            cx.cancel.check()?;
            bytes.resize(values.len() * dtype.bitsize() / 8, 0);
            narrow(dtype, values, &mut bytes)?;
            visit(rows, &bytes)
        })
    }

    /// As [`Self::decode_stored`].
    ///
    /// # Errors
    /// As [`Self::decode`].
    pub fn decode_bytes(&self, cx: &DecodeCx<'_>) -> Result<Vec<u8>> {
        self.check_size()?;
        let mut out = cx.zeros(self.spec.byte_len(), self.payload.bytes())?;
        self.stored(cx, &mut out)?;
        Ok(out)
    }

    /// [`Self::decode_into`] after the check of the size.
    fn values(&self, cx: &DecodeCx<'_>, out: &mut [f32]) -> Result<()> {
        let _span = self.span().entered();
        let mut cx = self.limited(cx);
        // The caller has allocated an output already, which justifies as much for a child's.
        cx.max_output = cx.max_output.max(Some(size_of_val(out) as u64));
        self.codec.decode(&self.spec, self.payload.view(), &cx, out)
    }

    /// [`Self::decode_stored`] after the check of the sizes.
    fn stored(&self, cx: &DecodeCx<'_>, out: &mut [u8]) -> Result<()> {
        let (_span, cx) = (self.span().entered(), &self.limited(cx));
        if let Some(lossless) = self.codec.as_lossless() {
            return lossless.decode_bytes(&self.spec, self.payload.view(), cx, out);
        }
        if self.spec.dtype() == Dtype::F32
            && let Ok(out) = try_cast_slice_mut(out)
        {
            return self.floats(cx, out);
        }
        let reader = open_of_any_size(&*self.codec, &self.spec, self.payload.view(), cx)?;
        let (rows, columns) = self.spec.matrix();
        let width = columns * self.spec.dtype().bitsize() / 8;
        tiles(&*reader, 0..rows, columns, TILE, &mut Buffer::default(), |rows, values| {
            cx.cancel.check()?;
            narrow(self.spec.dtype(), values, &mut out[rows.start * width..rows.end * width])
        })
    }

    /// [`Self::decode_stored`] of F32, without a copy; some rows at a time, so that it can be
    /// cancelled.
    fn floats(&self, cx: &DecodeCx<'_>, out: &mut [f32]) -> Result<()> {
        let Some(by_rows) = self.codec.as_rows() else { return self.values(cx, out) };
        let reader = by_rows.open(&self.spec, self.payload.view(), cx)?;
        let (rows, columns) = self.spec.matrix();
        for part in parts(&*reader, 0..rows, columns, VISITED) {
            cx.cancel.check()?;
            let place = part.start * columns..part.end * columns;
            reader.read(part, &mut out[place])?;
        }
        Ok(())
    }

    /// The span in which a decode logs.
    fn span(&self) -> tracing::Span {
        tracing::debug_span!("decode", codec = self.codec.typetag_name(), tensor = %self.spec)
    }

    /// The context for the codec and its children. Each may allocate what the whole payload, not
    /// only its own part, justifies.
    fn limited<'a>(&self, cx: &DecodeCx<'a>) -> DecodeCx<'a> {
        cx.clone().with_max_output(cx.output_limit(self.payload.bytes()))
    }

    fn check_size(&self) -> Result<()> {
        self.payload.view().check_size(&*self.codec, &self.spec)
    }
}

pub(crate) fn check_certificate(certificate: &Certificate) -> Result<()> {
    if certificate.is_valid() {
        return Ok(());
    }
    Err(CodecError::Usage(format!("{certificate:?} is not a valid certificate")))
}

/// Refuses weights that are not finite, or not nearer to the tensor than zeros; as near is near
/// enough if zeros are `meant`.
fn refuse_zeros(certificate: &Certificate, meant: bool) -> Result<()> {
    let (error, energy) = (certificate.squared_error, certificate.energy);
    // In the error message an infinity is clearer than a NaN.
    let number = if certificate.is_valid() { certificate.nmse() } else { f64::INFINITY };
    let reason = if !certificate.is_valid() {
        "a decoded weight is not finite; the squared error divided by the squared weights is"
    } else if error > energy || error == energy && energy > 0.0 && !meant {
        "zeros would be as near to this tensor as the decoded weights, or nearer; \
         the squared error divided by the squared weights is"
    } else {
        return Ok(());
    };
    Err(CodecError::Unsuitable { reason: reason.to_owned(), number })
}
