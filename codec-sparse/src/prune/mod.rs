//! Magnitude pruning, `sparse.prune`: sets the smallest weights to zero, and encodes the pruned
//! tensor with another codec.
//!
//! The rule keeps the `⌈density · n⌉` (computed in f64) weights of the largest magnitude among the
//! `n` of the tensor or of each row; or those with a magnitude above a threshold; or the N largest
//! of each M consecutive columns of a row, where the last group may be shorter. Among equal
//! magnitudes the first are kept. All other weights become +0, and so does −0. The kept weights do
//! not change.
//!
//! Pruning is a codec around a codec, not an option of each sparse form: it can pass a tensor with
//! zeros to any codec, and its certificate is about the tensor before pruning.
//!
//! # Source
//! Han et al., *Learning both weights and connections*, arXiv 1506.02626, section 3, without its
//! retraining; N of M as in Mishra et al., arXiv 2104.08378, section 4.
//!
//! # Sections
//! `kept/…`: the inner codec's sections for the pruned tensor, of the same dtype and shape.
//!
//! # Header
//! ```
//! let header = concat!(
//!     r#"{"codec":"sparse.prune","version":1,"#,
//!     r#""inner":{"codec":"sparse","version":1,"inner":{"codec":"lossless.raw","version":1}},"#,
//!     r#""density":0.1,"scope":"tensor"}"#,
//! );
//! let codec: Box<dyn codec_api::Codec> = serde_json::from_str(header)?;
//! assert_eq!(serde_json::to_string(&codec)?, header);
//! # use {codec_lossless as _, codec_sparse as _};
//! # Ok::<(), serde_json::Error>(())
//! ```
//! A header has exactly one of
//! - `density` (above 0, at most 1), with `scope` (`"tensor"` or `"row"`; `"tensor"` where a spec
//!   leaves it out);
//! - `threshold` (0 or more);
//! - `pattern` (`"2of4"`: M from 2 to 16, N from 1 to M).
//!
//! `inner` is `sparse` where a spec leaves it out.
//!
//! # Bound
//! With an exact inner codec the largest error is the largest magnitude that was pruned. Any other
//! inner codec adds its error on the pruned tensor.
//!
//! # Cost
//! That of the inner codec.
//!
//! # Limits
//! F32, F16 and BF16 tensors that the inner codec accepts; it must not need a base. Calibration
//! goes to the inner codec, since every weight keeps its row and column. Chunks are those of the
//! inner codec, and one if it has statistics of the whole tensor. A density of the whole tensor is
//! also that of its chunks together: with an exact inner codec, chunks decode to the bits of the
//! whole.

mod rule;
mod select;
mod survey;

use codec_api::{
    Chunking, Codec, CostEstimate, DecodeCx, EncodeCx, FormatVersion, LinearKernel, LinearOp, Need, Needs, Payload,
    PayloadView, Preset, Result, RowReader, Rows, Surveyed, TensorSpec, TensorView, open_rows, register_codec,
    statistics, typetag,
};
use rule::Keys;
pub use rule::{Pattern, Rule, Scope};
use serde::{Deserialize, Serialize};

/// Scope of the inner codec's sections.
const KEPT: &str = "kept";

/// Configuration of `sparse.prune`; see the [module's documentation](self) for the format.
#[derive(Debug, Serialize, Deserialize)]
#[serde(try_from = "Unchecked")]
#[non_exhaustive]
pub struct Prune {
    /// Format version.
    pub version: FormatVersion<1>,
    /// Stores the pruned tensor.
    pub inner: Box<dyn Codec>,
    #[serde(flatten)]
    rule: Rule,
}

/// The serialised configuration.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Unchecked {
    #[serde(default)]
    version: FormatVersion<1>,
    inner: Box<dyn Codec>,
    density: Option<f64>,
    scope: Option<Scope>,
    threshold: Option<f64>,
    pattern: Option<Pattern>,
}

impl TryFrom<Unchecked> for Prune {
    type Error = String;

    fn try_from(text: Unchecked) -> Result<Self, String> {
        let Unchecked { version, inner, density, scope, threshold, pattern } = text;
        Ok(Self { version, inner, rule: Keys { density, scope, threshold, pattern }.try_into()? })
    }
}

impl Prune {
    /// Prunes by `rule`. `None` if a number of the rule is out of range.
    pub fn new(inner: Box<dyn Codec>, rule: Rule) -> Option<Self> {
        let keys = match rule {
            Rule::Density { density, scope } => Keys { density: Some(density), scope: Some(scope), ..Keys::default() },
            Rule::Threshold { threshold } => Keys { threshold: Some(threshold), ..Keys::default() },
            Rule::Pattern { pattern } => Keys { pattern: Some(pattern), ..Keys::default() },
        };
        Some(Self { version: FormatVersion, inner, rule: keys.try_into().ok()? })
    }

    /// The rule that selects the kept weights.
    pub fn rule(&self) -> Rule {
        self.rule
    }

    /// Whether the density refers to the whole tensor.
    fn is_of_tensor(&self) -> bool {
        matches!(self.rule, Rule::Density { scope: Scope::Tensor, .. })
    }

    /// For each weight, whether to keep it.
    fn select(&self, tensor: &TensorView<'_>, cx: &EncodeCx<'_>) -> Result<Vec<bool>> {
        let (spec, weights) = (tensor.spec(), tensor.to_finite_f32()?);
        let (_, columns) = spec.matrix();
        if self.is_of_tensor() {
            let found = statistics(self, &TensorView::from_f32(spec.shape(), &weights)?, cx)?;
            return survey::select(&found, &weights, columns);
        }
        select::select(self.rule, &weights, columns, cx.cancel)
    }
}

#[typetag::serde(name = "sparse.prune")]
impl Codec for Prune {
    fn children(&self) -> Vec<(&'static str, &dyn Codec)> {
        vec![("inner", &*self.inner)]
    }

    fn needs(&self) -> Needs {
        Needs::default().calibration(self.inner.needs().calibration)
    }

    fn accepts(&self, spec: &TensorSpec) -> Result<()> {
        spec.require_float()?;
        self.inner.needs().calibration(Need::No).require_nothing()?;
        self.inner.accepts(spec)
    }

    fn chunking(&self, spec: &TensorSpec) -> Chunking {
        // Chunks would not share the statistics of the pruned tensor.
        if self.inner.as_surveyed().is_some() { Chunking::Whole } else { self.inner.chunking(spec) }
    }

    fn cost(&self, spec: &TensorSpec) -> CostEstimate {
        let mut cost = self.inner.cost(spec);
        let n = spec.elements() as u64;
        cost.encode_ops += 10.0 * n as f64;
        // The selection keeps the values, the flags, and the magnitudes of a row or a survey.
        let selecting = 5 * n + if self.is_of_tensor() { survey::scratch(spec) } else { 4 * spec.matrix().1 as u64 };
        // Later there is the pruned tensor.
        cost.scratch_bytes = cost.scratch_bytes.saturating_add(spec.byte_len() as u64).max(selecting);
        cost.expected_rel_rmse = None;
        cost
    }

    fn encode(&self, tensor: TensorView<'_>, cx: &EncodeCx<'_>) -> Result<Payload> {
        cx.cancel.check()?;
        let spec = tensor.spec();
        let kept = self.select(&tensor, cx)?;
        let mut pruned = tensor.bytes().to_vec();
        for (weight, kept) in pruned.chunks_exact_mut(spec.dtype().bitsize() / 8).zip(kept) {
            if !kept {
                weight.fill(0);
            }
        }
        let pruned = TensorView::new(spec.clone(), &pruned)?;
        cx.cancel.check()?;
        let mut child_cx = cx.for_child(KEPT);
        child_cx.calibration = cx.calibration;
        let child = self.inner.encode(pruned, &child_cx)?;
        cx.progress.tick(spec.elements() as u64);
        Payload::new().with_scope(KEPT, child)
    }

    fn decode(&self, spec: &TensorSpec, payload: PayloadView<'_>, cx: &DecodeCx<'_>, out: &mut [f32]) -> Result<()> {
        self.inner.decode(spec, payload.scoped(KEPT), &cx.for_child(), out)
    }

    fn as_rows(&self) -> Option<&dyn Rows> {
        self.inner.as_rows().map(|_| self as &dyn Rows)
    }

    fn as_surveyed(&self) -> Option<&dyn Surveyed> {
        (self.is_of_tensor() && self.inner.as_surveyed().is_none()).then_some(self)
    }

    fn as_linear(&self) -> Option<&dyn LinearKernel> {
        self.inner.as_linear().map(|_| self as &dyn LinearKernel)
    }
}

impl Rows for Prune {
    fn open(&self, spec: &TensorSpec, payload: PayloadView<'_>, cx: &DecodeCx<'_>) -> Result<Box<dyn RowReader>> {
        open_rows(&*self.inner, spec, payload.scoped(KEPT), &cx.for_child())
    }
}

impl LinearKernel for Prune {
    fn prepare(&self, spec: &TensorSpec, payload: PayloadView<'_>, cx: &DecodeCx<'_>) -> Result<Box<dyn LinearOp>> {
        self.inner.require_linear()?.prepare(spec, payload.scoped(KEPT), &cx.for_child())
    }
}

fn presets() -> Vec<Preset> {
    const TWO_OF_FOUR: &str = concat!(
        "sparse.prune(sparse.nm(quant.int:bits=8:group=row:symmetric=true:clip=false):n=2:m=4)",
        ":pattern=2of4",
    );
    vec![
        Preset::from_spec("density10", "sparse.prune(sparse(lossless.raw)):density=0.1:scope=tensor"),
        Preset::from_spec("2of4", TWO_OF_FOUR),
    ]
}

fn probes() -> Vec<String> {
    let specs = [
        "sparse.prune:density=1",
        "sparse.prune:density=1e-9",
        "sparse.prune:density=0.3:scope=row",
        "sparse.prune:threshold=0",
        "sparse.prune:threshold=1.5",
        "sparse.prune(quant.int:bits=4):pattern=1of16",
        "sparse.prune(sparse.nm:n=3:m=8):pattern=3of8",
    ];
    specs.map(str::to_owned).into()
}

register_codec!("sparse.prune", "sets small weights to zero, the rest through another codec", presets,
    .children(&["inner"]).default_children(&["sparse"]).probes(probes));
