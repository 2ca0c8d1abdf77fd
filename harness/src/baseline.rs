//! Trivial codecs as a reference for error figures: `baseline.zeros` and `baseline.mean`.
//!
//! A codec whose error is close to that of `baseline.zeros` has stored nothing of the weights,
//! however small its payload is.
//!
//! # Source
//! None; the mean of a group is its best constant in the least-squares sense.
//!
//! # Sections
//! - `baseline.zeros`: none. Every weight decodes to 0.
//! - `baseline.mean`: `means`, F32 `[⌈n/group⌉]`: one mean for each `group` successive weights of
//!   the flat tensor of `n` weights; the last group may be shorter. Every weight decodes to the
//!   mean of its group. F32 keeps the means of weights around 1e30 or 1e-40 as accurate as any.
//!
//! # Header
//! ```
//! # use harness as _;
//! let registry = codec_api::Registry::linked()?;
//! for json in [
//!     r#"{"codec":"baseline.zeros","version":1}"#,
//!     r#"{"codec":"baseline.mean","version":1,"group":64}"#,
//! ] {
//!     assert_eq!(codec_api::header(&*registry.parse_header(json)?)?, json);
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Bound
//! Zeros: max |w|; the relative error is 1. Mean: the range of a group's weights; the relative
//! error is at most 1.
//!
//! # Cost
//! 0 bytes and `4·⌈n/group⌉` bytes (0.5 bits per weight at the default group of 64); about one
//! operation per weight. An encode holds an f32 copy of weights of another dtype, a decode nothing.
//! Any range of rows costs its share. On Gaussian weights the relative errors are 1 and
//! `√(1 − 1/group)`.
//!
//! # Limits
//! Float dtypes only; `group` from 1 to 65536. `baseline.zeros` accepts at most 2³² weights: its
//! payload is empty, so without this limit a small forged file could demand any amount of memory.

use std::ops::Range;

use codec_api::{
    Bounded, Bytes, Codec, CodecError, CostEstimate, DecodeCx, Dtype, EncodeCx, FormatVersion, Payload, PayloadView,
    Preset, Result, RowReader, Rows, Section, TensorSpec, TensorView, check_rows, register_codec, typetag,
};
use serde::{Deserialize, Serialize};

/// Largest number of weights that [`Zeros`] accepts.
const MAX_ZEROS: u64 = 1 << 32;

/// Decodes every weight to zero.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Zeros {
    version: FormatVersion<1>,
}

#[typetag::serde(name = "baseline.zeros")]
impl Codec for Zeros {
    fn accepts(&self, spec: &TensorSpec) -> Result<()> {
        if spec.elements() as u64 > MAX_ZEROS {
            let reason = format!("{} weights: a payload without bytes stands for at most {MAX_ZEROS}", spec.elements());
            return Err(CodecError::Unsupported(reason));
        }
        spec.require_float()
    }

    fn cost(&self, spec: &TensorSpec) -> CostEstimate {
        CostEstimate::fixed(0).ops(spec.elements() as f64, 0.0).scratch(copy_bytes(spec)).rel_rmse(1.0)
    }

    fn encode(&self, tensor: TensorView<'_>, cx: &EncodeCx<'_>) -> Result<Payload> {
        cx.cancel.check()?;
        cx.progress.tick(tensor.to_finite_f32()?.len() as u64);
        Ok(Payload::new())
    }

    fn decode(&self, spec: &TensorSpec, _: PayloadView<'_>, cx: &DecodeCx<'_>, out: &mut [f32]) -> Result<()> {
        cx.cancel.check()?;
        spec.check_output(out.len())?;
        out.fill(0.0);
        Ok(())
    }

    fn as_rows(&self) -> Option<&dyn Rows> {
        Some(self)
    }
}

impl Rows for Zeros {
    fn open(&self, spec: &TensorSpec, _: PayloadView<'_>, _: &DecodeCx<'_>) -> Result<Box<dyn RowReader>> {
        Ok(Box::new(ZeroRows { shape: spec.matrix() }))
    }
}

#[derive(Debug)]
struct ZeroRows {
    shape: (usize, usize),
}

impl RowReader for ZeroRows {
    fn shape(&self) -> (usize, usize) {
        self.shape
    }

    fn read(&self, rows: Range<usize>, out: &mut [f32]) -> Result<()> {
        check_rows(self.shape, &rows, out)?;
        out.fill(0.0);
        Ok(())
    }

    fn resident_bytes(&self) -> u64 {
        0
    }
}

/// Decodes every weight to the mean of its group.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Mean {
    version: FormatVersion<1>,
    /// Number of successive weights of the flat tensor that share a mean.
    pub group: Bounded<1, 65536>,
}

impl Default for Mean {
    fn default() -> Self {
        Self { version: FormatVersion, group: Bounded::at::<64>() }
    }
}

impl Mean {
    fn group(&self) -> usize {
        self.group.get() as usize
    }

    fn groups(&self, spec: &TensorSpec) -> usize {
        spec.elements().div_ceil(self.group())
    }
}

#[typetag::serde(name = "baseline.mean")]
impl Codec for Mean {
    fn accepts(&self, spec: &TensorSpec) -> Result<()> {
        spec.require_float()
    }

    fn cost(&self, spec: &TensorSpec) -> CostEstimate {
        let n = spec.elements() as f64;
        CostEstimate::fixed(4 * self.groups(spec) as u64)
            .ops(6.0 * n, 0.0)
            .scratch(copy_bytes(spec))
            .rel_rmse((1.0 - 1.0 / self.group() as f64).sqrt())
    }

    fn encode(&self, tensor: TensorView<'_>, cx: &EncodeCx<'_>) -> Result<Payload> {
        let values = tensor.to_finite_f32()?;
        let mut means = Vec::with_capacity(self.groups(tensor.spec()));
        for group in values.chunks(self.group()) {
            cx.cancel.check()?;
            means.push(mean(group));
            cx.progress.tick(group.len() as u64);
        }
        Payload::new().with("means", Section::from_values(Dtype::F32, [means.len()], means)?)
    }

    fn decode(&self, spec: &TensorSpec, payload: PayloadView<'_>, cx: &DecodeCx<'_>, out: &mut [f32]) -> Result<()> {
        cx.cancel.check()?;
        spec.check_output(out.len())?;
        self.open(spec, payload, cx)?.read(0..spec.matrix().0, out)
    }

    fn as_rows(&self) -> Option<&dyn Rows> {
        Some(self)
    }
}

impl Rows for Mean {
    fn open(&self, spec: &TensorSpec, payload: PayloadView<'_>, _: &DecodeCx<'_>) -> Result<Box<dyn RowReader>> {
        let means = payload.bytes("means", Dtype::F32, &[self.groups(spec)])?.clone();
        Ok(Box::new(MeanRows { shape: spec.matrix(), group: self.group(), means }))
    }
}

#[derive(Debug)]
struct MeanRows {
    shape: (usize, usize),
    group: usize,
    means: Bytes,
}

impl RowReader for MeanRows {
    fn shape(&self) -> (usize, usize) {
        self.shape
    }

    fn read(&self, rows: Range<usize>, mut out: &mut [f32]) -> Result<()> {
        check_rows(self.shape, &rows, out)?;
        // The first group may begin in an earlier row.
        let (first, end) = (rows.start * self.shape.1, rows.end * self.shape.1);
        let mut left = self.group - first % self.group;
        for mean in &self.means.as_chunks().0[first / self.group..end.div_ceil(self.group)] {
            let (part, rest) = out.split_at_mut(left.min(out.len()));
            part.fill(f32::from_le_bytes(*mean));
            (out, left) = (rest, self.group);
        }
        Ok(())
    }

    fn resident_bytes(&self) -> u64 {
        self.means.len() as u64
    }
}

/// The f32 copy that an encode makes of weights of another dtype.
fn copy_bytes(spec: &TensorSpec) -> u64 {
    if spec.dtype() == Dtype::F32 { 0 } else { 4 * spec.elements() as u64 }
}

/// Summed in order in f64, which cannot overflow for f32 values.
fn mean(group: &[f32]) -> f32 {
    (group.iter().copied().map(f64::from).sum::<f64>() / group.len() as f64) as f32
}

fn zeros_presets() -> Vec<Preset> {
    vec![Preset::new("default", Zeros::default())]
}
register_codec!("baseline.zeros", "all zeros: an error of 100 %", zeros_presets);

fn mean_presets() -> Vec<Preset> {
    vec![Preset::new("default", Mean::default())]
}
register_codec!("baseline.mean", "the mean of each group of weights", mean_presets);
