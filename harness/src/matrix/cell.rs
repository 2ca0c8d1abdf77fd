//! One cell: encodes, certifies, serialises, reads back, decodes, checks, and times it last.

use std::any::Any;
use std::borrow::Cow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use codec_api::{
    BaseTensor, Bytes, Calibration, CodecError, DecodeCx, EncodeCx, EncodedTensor, FormatError, Need, Payload,
    TensorView,
};

use super::decoder::Decoder;
use super::errors::finite;
use super::row::{Row, Status};
use super::timing::{Run, once, repeat};
use super::{Column, Options};
use crate::suite::{Item, MeanSquares};

/// A tensor prepared once for all codecs.
pub(super) struct Source<'a> {
    name: &'a str,
    seed: u64,
    tensor: Result<Tensor<'a>, Stop>,
}

struct Tensor<'a> {
    view: TensorView<'a>,
    /// The values as f32 if the tensor is a float tensor.
    values: Option<Cow<'a, [f32]>>,
    base: Option<BaseTensor<'a>>,
    calibration: Option<Calibration<'a>>,
}

impl<'a> Source<'a> {
    /// The tensor of this name, or the reason why it cannot be measured.
    pub(super) fn new(name: &'a str, item: Result<&'a Item, &CodecError>, seed: u64) -> Self {
        let refusal = |error: &CodecError| match error {
            CodecError::Unsupported(reason) => Stop::Unsupported(reason.clone()),
            other => Stop::Failed(other.to_string()),
        };
        let tensor = item.map_err(refusal).and_then(|item| Tensor::new(item).map_err(Stop::from));
        Self { name, seed, tensor }
    }
}

impl<'a> Tensor<'a> {
    fn new(item: &'a Item) -> Result<Self, CodecError> {
        let view = item.view()?;
        let values = if item.spec.is_float() { Some(view.to_f32()?) } else { None };
        let calibration = item.calibration.as_ref().map(MeanSquares::calibration);
        Ok(Self { view, values, base: item.base_view()?.map(BaseTensor::new), calibration })
    }
}

/// The run was cancelled.
#[derive(Debug)]
pub(super) struct Cancelled;

/// Why a cell is not `ok`.
#[derive(Clone)]
enum Stop {
    Unsupported(String),
    Failed(String),
    Cancelled,
}

impl From<CodecError> for Stop {
    fn from(error: CodecError) -> Self {
        match error {
            CodecError::Cancelled => Self::Cancelled,
            other => Self::Failed(other.to_string()),
        }
    }
}

impl From<FormatError> for Stop {
    fn from(error: FormatError) -> Self {
        Self::Failed(error.to_string())
    }
}

/// Measures one cell into `row`.
#[tracing::instrument(level = "debug", skip_all, fields(tensor = source.name, codec = column.spec))]
pub(super) fn measure(
    source: &Source<'_>,
    column: &Column,
    options: &Options<'_>,
    row: &mut Row,
) -> Result<(), Cancelled> {
    let work = || {
        let tensor = source.tensor.as_ref().map_err(Stop::clone)?;
        options.cancel.check()?;
        Cell::new(tensor, source, column, options).measure(row)
    };
    let result = catch_unwind(AssertUnwindSafe(work));
    let (status, reason) = match result.unwrap_or_else(|panic| Err(Stop::Failed(describe(&*panic)))) {
        Ok(()) => return Ok(()),
        Err(Stop::Cancelled) => return Err(Cancelled),
        Err(Stop::Unsupported(reason)) => (Status::Unsupported, reason),
        Err(Stop::Failed(reason)) => (Status::Failed, reason),
    };
    tracing::debug!(%status, reason);
    (row.status, row.reason) = (status, Some(reason));
    Ok(())
}

fn describe(panic: &(dyn Any + Send)) -> String {
    let owned = || panic.downcast_ref::<String>().map(String::as_str);
    format!("panic: {}", panic.downcast_ref().copied().or_else(owned).unwrap_or("without a message"))
}

/// Whether a codec gets the calibration of a tensor that has some.
pub(super) fn gets_calibration(column: &Column, options: &Options<'_>) -> bool {
    match column.codec.needs().calibration {
        Need::No => false,
        Need::Uses => options.calibrated,
        Need::Requires => true,
    }
}

struct Cell<'a> {
    tensor: &'a Tensor<'a>,
    column: &'a Column,
    options: &'a Options<'a>,
    encode_cx: EncodeCx<'a>,
    decode_cx: DecodeCx<'a>,
}

impl<'a> Cell<'a> {
    fn new(tensor: &'a Tensor<'a>, source: &Source<'_>, column: &'a Column, options: &'a Options<'a>) -> Self {
        let mut encode_cx = EncodeCx::for_tensor(source.seed, source.name).with_cancel(options.cancel);
        encode_cx.base.clone_from(&tensor.base);
        encode_cx.calibration = tensor.calibration.filter(|_| gets_calibration(column, options));
        let decode_cx = encode_cx.decoding();
        Self { tensor, column, options, encode_cx, decode_cx }
    }

    fn measure(&self, row: &mut Row) -> Result<(), Stop> {
        row.calibrated = self.encode_cx.calibration.is_some();
        self.check_needs()?;
        let payload = once(|| self.encode()).map_err(|error| self.refusal(error))?;
        self.check_size(&payload.result)?;
        let encoded = self.certify(payload.result.clone())?;
        let read = self.write_and_read(&encoded, row)?;
        let mut decoder = Decoder::new(&read, self.tensor.view.bytes());
        let decoded = once(|| decoder.run(&self.decode_cx))?;
        decoder.check(&self.tensor.view, self.tensor.values.as_deref(), row).map_err(Stop::Failed)?;
        self.time(&payload, &decoded, &mut decoder, row)
    }

    /// An error if the codec requires a base or calibration that the tensor does not have.
    fn check_needs(&self) -> Result<(), Stop> {
        let needs = self.column.codec.needs();
        let missing = if needs.base == Need::Requires && self.tensor.base.is_none() {
            "it needs a base tensor: give the base of `model:PATH` with `--base`, or take a suite that has one, such as `delta/gaussian`"
        } else if needs.calibration == Need::Requires && self.tensor.calibration.is_none() {
            "it needs calibration of this tensor: `calibration.safetensors` beside the model"
        } else {
            return Ok(());
        };
        Err(Stop::Unsupported(missing.to_owned()))
    }

    fn encode(&self) -> codec_api::Result<Payload> {
        EncodedTensor::encode_payload(&*self.column.codec, self.tensor.view.clone(), &self.encode_cx)
    }

    /// Tells a refusal of the tensor from a failure.
    fn refusal(&self, error: CodecError) -> Stop {
        match error {
            CodecError::Unsupported(reason) => Stop::Unsupported(reason),
            CodecError::NonFinite { .. } if self.column.codec.as_lossless().is_none() => {
                Stop::Unsupported(error.to_string())
            }
            CodecError::Unsuitable { .. } => Stop::Unsupported(error.to_string()),
            _ => error.into(),
        }
    }

    fn check_size(&self, payload: &Payload) -> Result<(), Stop> {
        let (bytes, allowed) = (payload.bytes(), self.column.codec.cost(self.tensor.view.spec()).bytes);
        if allowed.contains(&bytes) {
            return Ok(());
        }
        let (least, most) = (allowed.start(), allowed.end());
        Err(Stop::Failed(format!("{bytes} bytes; the codec's cost says {least} to {most}")))
    }

    /// The payload is refused if zeros would be as near to the tensor, or nearer.
    fn certify(&self, payload: Payload) -> Result<EncodedTensor, Stop> {
        let codec = Arc::clone(&self.column.codec);
        EncodedTensor::certify(codec, &self.tensor.view, payload, &self.decode_cx).map_err(|error| match error {
            CodecError::Unsuitable { .. } => Stop::Unsupported(error.to_string()),
            _ => error.into(),
        })
    }

    fn write_and_read(&self, encoded: &EncodedTensor, row: &mut Row) -> Result<EncodedTensor, Stop> {
        let (file, bytes) = (Bytes::from(encoded.to_bytes()?), encoded.payload.bytes());
        row.set_size(bytes, file.len() as u64 - bytes);
        let read = EncodedTensor::from_bytes(&file, self.options.registry)?;
        let same = read.payload.sections() == encoded.payload.sections() && read.certificate == encoded.certificate;
        if read.spec != encoded.spec || !same {
            return Err(Stop::Failed("what was read back is not what was written".to_owned()));
        }
        Ok(read)
    }

    fn time(
        &self,
        encoded: &Run<Payload>,
        decoded: &Run<()>,
        decoder: &mut Decoder<'_>,
        row: &mut Row,
    ) -> Result<(), Stop> {
        let encoding = repeat((encoded.seconds, encoded.peak), || self.encode())?;
        let decoding = repeat((decoded.seconds, decoded.peak), || decoder.run(&self.decode_cx))?;
        let megabytes = row.dense_bytes() as f64 / 1e6;
        let speed = |seconds: f64| finite(megabytes / seconds).filter(|speed| *speed > 0.0);
        (row.encode_mb_per_s, row.decode_mb_per_s) = (speed(encoding.seconds), speed(decoding.seconds));
        row.timing_runs = Some(encoding.runs.min(decoding.runs));
        let encode_peak = encoding.peak.map(|peak| peak.saturating_sub(encoded.result.bytes()));
        row.peak_scratch_bytes = encode_peak.max(decoding.peak);
        Ok(())
    }
}
