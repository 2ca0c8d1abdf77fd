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
//!   tensor's dtype.
//!
//! Tensors of fewer than two axes or without elements, and dtypes below a byte, are passed to
//! `inner` unchanged.
//!
//! # Header
//! ```
//! let header = r#"{"codec":"transpose","version":1,"inner":{"codec":"lossless.raw","version":1}}"#;
//! let codec: Box<dyn codec_api::Codec> = serde_json::from_str(header)?;
//! assert_eq!(serde_json::to_string(&codec)?, header);
//! # use codec_compose as _;
//! # use codec_lossless as _;
//! # Ok::<(), serde_json::Error>(())
//! ```
//!
//! # Bound
//! The bound of `inner`: no bound depends on the order of the weights. Exact if `inner` is.
//!
//! # Cost
//! The cost of `inner` for the transposed matrix.
//!
//! # Limits
//! The limits of `inner`, which gets no base tensor. The tensor is not cut into chunks: its later
//! rows would become columns.

use std::borrow::Cow;

use codec_api::{
    Calibration, Chunking, Codec, CodecError, CostEstimate, DecodeCx, EncodeCx, FormatVersion, Lossless, Need, Needs,
    Payload, PayloadView, Preset, Result, TensorSpec, TensorView, register_codec, typetag,
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

#[typetag::serde(name = "transpose")]
impl Codec for Transpose {
    fn needs(&self) -> Needs {
        Needs::default().calibration(self.inner.needs().calibration)
    }

    fn accepts(&self, spec: &TensorSpec) -> Result<()> {
        self.inner.needs().calibration(Need::No).require_nothing()?;
        self.inner.accepts(&turned_spec(spec)?)
    }

    fn chunking(&self, _: &TensorSpec) -> Chunking {
        Chunking::Whole
    }

    fn cost(&self, spec: &TensorSpec) -> CostEstimate {
        let mut cost = self.inner.cost(turned_spec(spec).as_ref().unwrap_or(spec));
        // An encoder keeps the stored bytes of the transposed matrix, a decoder its values.
        let kept = if turns(spec) { spec.byte_len().max(4 * spec.elements()) as u64 } else { 0 };
        cost.scratch_bytes = cost.scratch_bytes.saturating_add(kept);
        cost
    }

    fn encode(&self, tensor: TensorView<'_>, cx: &EncodeCx<'_>) -> Result<Payload> {
        cx.cancel.check()?;
        let spec = tensor.spec();
        if self.inner.as_lossless().is_none() {
            // `inner` would report the index in the transposed matrix.
            tensor.to_finite_f32()?;
        }
        let calibration = cx.calibration.map(|inner| Turned { inner, turns: turns(spec) });
        let mut child_cx = cx.for_child(INNER).with_progress(cx.progress);
        child_cx.calibration = calibration.as_ref().map(|turned| turned as &dyn Calibration);
        let mut bytes = Cow::Borrowed(tensor.bytes());
        if turns(spec) {
            let mut turned = vec![0; bytes.len()];
            transpose_bytes(spec, &bytes, &mut turned)?;
            bytes = Cow::Owned(turned);
        }
        let payload = self.inner.encode(TensorView::new(turned_spec(spec)?, &bytes)?, &child_cx)?;
        Ok(Payload::new(payload.bound()).with_scope(INNER, payload))
    }

    fn decode(&self, spec: &TensorSpec, payload: PayloadView<'_>, cx: &DecodeCx<'_>, out: &mut [f32]) -> Result<()> {
        spec.check_output(out.len())?;
        let (turned, payload, child_cx) = (turned_spec(spec)?, payload.scoped(INNER), cx.for_child());
        if !turns(spec) {
            return self.inner.decode(&turned, payload, &child_cx, out);
        }
        let mut values = vec![0.0; out.len()];
        self.inner.decode(&turned, payload, &child_cx, &mut values)?;
        transpose(turned.matrix(), &values, out);
        Ok(())
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
        let (turned, payload, child_cx) = (turned_spec(spec)?, payload.scoped(INNER), cx.for_child());
        if !turns(spec) {
            return inner.decode_bytes(&turned, payload, &child_cx, out);
        }
        let mut bytes = vec![0; out.len()];
        inner.decode_bytes(&turned, payload, &child_cx, &mut bytes)?;
        transpose_bytes(&turned, &bytes, out)
    }
}

/// Calibration of the transposed matrix.
#[derive(Debug)]
struct Turned<'a> {
    inner: &'a dyn Calibration,
    turns: bool,
}

impl Calibration for Turned<'_> {
    fn input_axis(&self) -> usize {
        match self.inner.input_axis() {
            axis @ (0 | 1) if self.turns => 1 - axis,
            axis => axis,
        }
    }

    fn mean_squares(&self) -> &[f32] {
        self.inner.mean_squares()
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

/// Transposes a matrix of `(rows, columns)`. `from` and `to` must both have all its elements.
fn transpose<T: Copy>((rows, columns): (usize, usize), from: &[T], to: &mut [T]) {
    // The cache lines of a tile fit in the cache, for both matrices.
    const TILE: usize = 32;
    for (top, left) in (0..rows).step_by(TILE).flat_map(|top| (0..columns).step_by(TILE).map(move |left| (top, left))) {
        for column in left..(left + TILE).min(columns) {
            for row in top..(top + TILE).min(rows) {
                to[column * rows + row] = from[row * columns + column];
            }
        }
    }
}

/// The presets use codecs of other crates; only those of linked crates are registered.
fn presets() -> Vec<Preset> {
    const RAW: &str = r#"{"codec":"transpose","version":1,"inner":{"codec":"lossless.raw","version":1}}"#;
    const INT8: &str = r#"{"codec":"transpose","version":1,"inner":{"codec":"quant.int","version":1,"bits":8,"group":"row","symmetric":true,"clip":false}}"#;
    [Preset::from_header("raw", RAW), Preset::from_header("int8", INT8)].into_iter().flatten().collect()
}

fn probes() -> Vec<String> {
    let specs = ["transpose(transpose(quant.int:bits=4))", "transpose(quant.q4_0)", "transpose(lossless.zstd)"];
    specs.map(str::to_owned).into()
}

register_codec!("transpose", "the transposed matrix through another codec", presets, .children(&["inner"]).probes(probes));
