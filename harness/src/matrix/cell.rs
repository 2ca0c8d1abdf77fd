//! One cell: encodes, serialises, reads back, decodes, checks, and times it last.

use std::any::Any;
use std::borrow::Cow;
use std::panic::{AssertUnwindSafe, catch_unwind};

use codec_api::{BaseTensor, Bytes, CodecError, DecodeCx, EncodeCx, EncodedTensor, FormatError, Need, TensorView};

use super::decoder::Decoder;
use super::errors::{energy, finite};
use super::row::{Row, Status};
use super::timing::{Run, once, repeat};
use super::{Column, Options};
use crate::suite::Item;

/// A tensor prepared once for all codecs.
pub(super) struct Source<'a> {
    name: &'a str,
    seed: u64,
    tensor: Result<Tensor<'a>, CodecError>,
}

struct Tensor<'a> {
    view: TensorView<'a>,
    /// The values as f32 if the tensor is a float tensor.
    values: Option<Cow<'a, [f32]>>,
    base: Option<BaseTensor<'a>>,
}

impl<'a> Source<'a> {
    pub(super) fn new(item: &'a Item, seed: u64) -> Self {
        Self { name: &item.name, seed, tensor: Tensor::new(item) }
    }
}

impl<'a> Tensor<'a> {
    fn new(item: &'a Item) -> Result<Self, CodecError> {
        let view = item.view()?;
        let values = if item.spec.is_float() { Some(view.to_f32()?) } else { None };
        Ok(Self { view, values, base: item.base_view()?.map(BaseTensor::new) })
    }
}

/// The run was cancelled.
#[derive(Debug)]
pub(super) struct Cancelled;

/// Why a cell is not `ok`.
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
        let tensor = source.tensor.as_ref().map_err(|e| Stop::Failed(e.to_string()))?;
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

struct Cell<'a> {
    tensor: &'a Tensor<'a>,
    column: &'a Column,
    options: &'a Options<'a>,
    encode_cx: EncodeCx<'a>,
    decode_cx: DecodeCx<'a>,
}

impl<'a> Cell<'a> {
    fn new(tensor: &'a Tensor<'a>, source: &Source<'_>, column: &'a Column, options: &'a Options<'a>) -> Self {
        let mut encode_cx = EncodeCx::for_chunk(source.seed, source.name, 0).with_cancel(options.cancel);
        let mut decode_cx = DecodeCx::new().with_cancel(options.cancel);
        if let Some(base) = &tensor.base {
            encode_cx = encode_cx.with_base(base.clone());
            decode_cx = decode_cx.with_base(base.clone());
        }
        Self { tensor, column, options, encode_cx, decode_cx }
    }

    fn measure(&self, row: &mut Row) -> Result<(), Stop> {
        row.energy = self.tensor.values.as_deref().map(energy);
        self.check_needs()?;
        let encoded = self.encode()?;
        let read = self.write_and_read(&encoded.result, row)?;
        let mut decoder = Decoder::new(&read, self.tensor.view.bytes());
        let decoded = once(|| decoder.run(&self.decode_cx))?;
        decoder.check(&self.tensor.view, self.tensor.values.as_deref(), row).map_err(Stop::Failed)?;
        self.time(&encoded, &decoded, &mut decoder, row)
    }

    /// An error if the codec requires a base that the tensor does not have, or calibration, which
    /// no suite has.
    fn check_needs(&self) -> Result<(), Stop> {
        let needs = self.column.codec.needs();
        if needs.base == Need::Requires && self.tensor.base.is_none() {
            return Err(Stop::Unsupported(
                "it needs a base tensor: give the base of `model:PATH` with `--base`, or take a suite that has one, such as `delta/gaussian`".to_owned(),
            ));
        }
        if needs.calibration == Need::Requires {
            return Err(Stop::Unsupported("it needs calibration, which no suite has".to_owned()));
        }
        Ok(())
    }

    fn encode(&self) -> Result<Run<EncodedTensor>, Stop> {
        let codec = &self.column.codec;
        once(|| EncodedTensor::encode(codec.clone(), self.tensor.view.clone(), &self.encode_cx)).map_err(|error| {
            match error {
                CodecError::Unsupported(reason) => Stop::Unsupported(reason),
                CodecError::NonFinite { .. } if codec.as_lossless().is_none() => Stop::Unsupported(error.to_string()),
                _ if error.is_refusal() => Stop::Unsupported(error.to_string()),
                _ => error.into(),
            }
        })
    }

    fn write_and_read(&self, encoded: &EncodedTensor, row: &mut Row) -> Result<EncodedTensor, Stop> {
        let (bytes, allowed) = (encoded.payload.bytes(), self.column.codec.cost(&encoded.spec).bytes);
        let file = Bytes::from(encoded.to_bytes()?);
        row.set_size(bytes, file.len() as u64 - bytes);
        row.set_bound(encoded.payload.bound());
        if !allowed.contains(&bytes) {
            let (least, most) = (allowed.start(), allowed.end());
            return Err(Stop::Failed(format!("{bytes} bytes; the codec's cost says {least} to {most}")));
        }
        let read = EncodedTensor::from_bytes(&file, self.options.registry)?;
        if read.spec != encoded.spec || read.payload != encoded.payload {
            return Err(Stop::Failed("what was read back is not what was written".to_owned()));
        }
        Ok(read)
    }

    fn time(
        &self,
        encoded: &Run<EncodedTensor>,
        decoded: &Run<()>,
        decoder: &mut Decoder<'_>,
        row: &mut Row,
    ) -> Result<(), Stop> {
        let encode = || self.column.codec.encode(self.tensor.view.clone(), &self.encode_cx);
        let encoding = repeat((encoded.seconds, encoded.peak), encode)?;
        let decoding = repeat((decoded.seconds, decoded.peak), || decoder.run(&self.decode_cx))?;
        let megabytes = row.dense_bytes() as f64 / 1e6;
        let speed = |seconds: f64| finite(megabytes / seconds).filter(|speed| *speed > 0.0);
        (row.encode_mb_per_s, row.decode_mb_per_s) = (speed(encoding.seconds), speed(decoding.seconds));
        row.timing_runs = Some(encoding.runs.min(decoding.runs));
        let encode_peak = encoding.peak.map(|peak| peak.saturating_sub(encoded.result.payload.bytes()));
        row.peak_scratch_bytes = encode_peak.max(decoding.peak);
        Ok(())
    }
}
