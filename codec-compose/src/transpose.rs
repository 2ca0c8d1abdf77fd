//! The transposed matrix, `transpose(inner)`: a codec with scales, groups or blocks along rows
//! works along columns instead.
//!
//! If outputs are columns, as in GPT-2's `Conv1D`, a scale for each column is a scale for each
//! output.
//!
//! # Source
//! None needed.
//!
//! # Sections
//! - `inner/…`: the payload of `inner` for the transposed matrix view, `[columns, rows]` in the
//!   tensor's dtype. `inner` also gets the transposed base tensor, with the id of the base itself.
//!
//! Tensors of fewer than two axes or without elements, and dtypes below a byte, are passed to
//! `inner` unchanged.
//!
//! # Header
//! ```
//! let header = concat!(
//!     r#"{"codec":"transpose","version":1,"#,
//!     r#""inner":{"codec":"lossless.raw","version":1}}"#,
//! );
//! let codec: Box<dyn codec_api::Codec> = serde_json::from_str(header)?;
//! assert_eq!(serde_json::to_string(&codec)?, header);
//! # use codec_compose as _;
//! # use codec_lossless as _;
//! # Ok::<(), serde_json::Error>(())
//! ```
//!
//! # Bound
//! That of `inner` for the transposed matrix: no error depends on the order of the weights. Exact
//! if `inner` is.
//!
//! # Cost
//! The cost of `inner` for the transposed matrix.
//!
//! # Limits
//! The limits of `inner`. A row of the tensor is a column for `inner`. So the tensor is not cut
//! into chunks, ranges of rows are not read on their own, and there is no linear operator.

use std::borrow::Cow;

use codec_api::util::{transpose, zeros};
use codec_api::{
    BaseTensor, Calibration, Chunking, Codec, CodecError, CostEstimate, DecodeCx, EncodeCx, FormatVersion, Lossless,
    Need, Needs, Payload, PayloadView, Preset, Result, TensorSpec, TensorView, register_codec, typetag,
};
use serde::{Deserialize, Serialize};

const INNER: &str = "inner";

/// Configuration of `transpose`; see the [module's documentation](self) for the format.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Transpose {
    /// Format version.
    #[serde(default)]
    pub version: FormatVersion<1>,
    /// Encodes the transposed matrix.
    pub inner: Box<dyn Codec>,
}

impl Transpose {
    /// Creates the codec; `inner` encodes the transposed matrix.
    pub fn new(inner: Box<dyn Codec>) -> Self {
        Self { version: FormatVersion, inner }
    }
}

/// Whether the codec transposes this tensor.
fn turns(spec: &TensorSpec) -> bool {
    spec.shape().len() >= 2 && spec.elements() > 0 && spec.dtype().bitsize().is_multiple_of(8)
}

/// The spec of the tensor that `inner` encodes.
fn turned_spec(spec: &TensorSpec) -> Result<TensorSpec> {
    let (rows, columns) = spec.matrix();
    if turns(spec) { TensorSpec::new(spec.dtype(), [columns, rows]) } else { Ok(spec.clone()) }
}

/// The stored bytes of the tensor that `inner` gets.
fn turned_bytes<'a>(tensor: &TensorView<'a>) -> Result<Cow<'a, [u8]>> {
    if !turns(tensor.spec()) {
        return Ok(Cow::Borrowed(tensor.bytes()));
    }
    let mut turned = vec![0; tensor.bytes().len()];
    transpose_bytes(tensor.spec(), tensor.bytes(), &mut turned)?;
    Ok(Cow::Owned(turned))
}

impl Transpose {
    /// Calls `run` with the base that `inner` gets: none if it ignores a base. A base of another
    /// shape than the tensor's is turned as well; `inner` refuses it.
    fn with_base<R>(
        &self,
        base: Option<&BaseTensor<'_>>,
        run: impl FnOnce(Option<BaseTensor<'_>>) -> Result<R>,
    ) -> Result<R> {
        let Some(base) = base.filter(|_| self.inner.needs().base != Need::No) else { return run(None) };
        let turned = turned_bytes(&base.view)?;
        run(Some(BaseTensor::with_id(base.id, TensorView::new(turned_spec(base.view.spec())?, &turned)?)))
    }
}

#[typetag::serde(name = "transpose")]
impl Codec for Transpose {
    fn needs(&self) -> Needs {
        self.inner.needs()
    }

    fn children(&self) -> Vec<(&'static str, &dyn Codec)> {
        vec![(INNER, &*self.inner)]
    }

    fn accepts(&self, spec: &TensorSpec) -> Result<()> {
        self.inner.accepts(&turned_spec(spec)?)
    }

    fn chunking(&self, _: &TensorSpec) -> Chunking {
        Chunking::Whole
    }

    fn cost(&self, spec: &TensorSpec) -> CostEstimate {
        let mut cost = self.inner.cost(turned_spec(spec).as_ref().unwrap_or(spec));
        if turns(spec) {
            // An encoder keeps the stored bytes of the transposed matrix, a decoder its values, and
            // both the bytes of the base.
            let base = if self.inner.needs().base == Need::No { 0 } else { spec.byte_len() };
            let kept = spec.byte_len().max(4 * spec.elements()) + base;
            cost.scratch_bytes = cost.scratch_bytes.saturating_add(kept as u64);
        }
        cost
    }

    fn encode(&self, tensor: TensorView<'_>, cx: &EncodeCx<'_>) -> Result<Payload> {
        cx.cancel.check()?;
        let spec = tensor.spec();
        if self.inner.as_lossless().is_none() {
            // `inner` would report the index in the transposed matrix.
            tensor.to_finite_f32()?;
        }
        let child = self.with_base(cx.base.as_ref(), |base| {
            let mut child_cx = cx.for_child(INNER).with_progress(cx.progress);
            child_cx.base = base;
            child_cx.calibration =
                if turns(spec) { cx.calibration.map(Calibration::transposed) } else { cx.calibration };
            self.inner.encode(TensorView::new(turned_spec(spec)?, &turned_bytes(&tensor)?)?, &child_cx)
        })?;
        Payload::new().with_scope(INNER, child)
    }

    fn decode(&self, spec: &TensorSpec, payload: PayloadView<'_>, cx: &DecodeCx<'_>, out: &mut [f32]) -> Result<()> {
        spec.check_output(out.len())?;
        let (turned, payload) = (turned_spec(spec)?, payload.scoped(INNER));
        self.with_base(cx.base.as_ref(), |base| {
            let mut child_cx = cx.for_child();
            child_cx.base = base;
            if !turns(spec) {
                return self.inner.decode(&turned, payload, &child_cx, out);
            }
            let mut values = zeros(out.len())?;
            self.inner.decode(&turned, payload, &child_cx, &mut values)?;
            transpose(turned.matrix(), &values, out);
            Ok(())
        })
    }

    fn as_lossless(&self) -> Option<&dyn Lossless> {
        self.inner.as_lossless().map(|_| self as _)
    }
}

impl Lossless for Transpose {
    fn decode_bytes(
        &self,
        spec: &TensorSpec,
        payload: PayloadView<'_>,
        cx: &DecodeCx<'_>,
        out: &mut [u8],
    ) -> Result<()> {
        spec.check_output_bytes(out.len())?;
        let inner = self.inner.require_lossless()?;
        let (turned, payload) = (turned_spec(spec)?, payload.scoped(INNER));
        self.with_base(cx.base.as_ref(), |base| {
            let mut child_cx = cx.for_child();
            child_cx.base = base;
            if !turns(spec) {
                return inner.decode_bytes(&turned, payload, &child_cx, out);
            }
            let mut bytes = zeros(out.len())?;
            inner.decode_bytes(&turned, payload, &child_cx, &mut bytes)?;
            transpose_bytes(&turned, &bytes, out)
        })
    }
}

/// Transposes stored elements of whole bytes.
fn transpose_bytes(spec: &TensorSpec, from: &[u8], to: &mut [u8]) -> Result<()> {
    fn of<const WIDTH: usize>(shape: (usize, usize), from: &[u8], to: &mut [u8]) {
        transpose(shape, from.as_chunks::<WIDTH>().0, to.as_chunks_mut::<WIDTH>().0);
    }
    let of = match spec.dtype().bitsize() {
        8 => of::<1>,
        16 => of::<2>,
        32 => of::<4>,
        64 => of::<8>,
        bits => return Err(CodecError::Unsupported(format!("elements of {bits} bits are not transposed"))),
    };
    of(spec.matrix(), from, to);
    Ok(())
}

/// The presets use codecs of other crates; the registry keeps those of linked crates.
fn presets() -> Vec<Preset> {
    vec![
        Preset::from_spec("raw", "transpose(lossless.raw)"),
        Preset::from_spec("int8", "transpose(quant.int:bits=8:group=row)"),
    ]
}

fn probes() -> Vec<String> {
    let specs = ["transpose(transpose(quant.int:bits=4))", "transpose(quant.q4_0)", "transpose(lossless.zstd)"];
    specs.map(str::to_owned).into()
}

register_codec!("transpose", "the transposed matrix through another codec", presets, .children(&["inner"]).probes(probes));
