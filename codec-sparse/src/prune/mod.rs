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
//! zeros to any codec, and it measures the error against the tensor before pruning.
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
//! `MaxAbs`, measured against the tensor before pruning. With an exact inner codec it is the
//! largest magnitude that was pruned.
//!
//! # Cost
//! That of the inner codec.
//!
//! # Limits
//! F32, F16 and BF16 tensors that the inner codec accepts; it must need neither base nor
//! calibration. A tensor is not cut into chunks if the density refers to the whole tensor.

mod rule;
mod select;

use codec_api::{
    Bound, Chunking, Codec, CostEstimate, DecodeCx, EncodeCx, FormatVersion, LinearKernel, LinearOp, Payload,
    PayloadView, Preset, Result, TensorSpec, TensorView, register_codec, typetag,
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

    /// Bound of the inner codec's payload of `pruned` against `source`.
    fn bound(&self, source: &[f32], pruned: &TensorView<'_>, child: &Payload, cx: &EncodeCx<'_>) -> Result<Bound> {
        if self.inner.as_lossless().is_some() {
            return Ok(Bound::measure(source, &pruned.to_f32()?));
        }
        let mut decoded = vec![0.0; source.len()];
        self.inner.decode(pruned.spec(), child.view(), &cx.decoding().for_child(), &mut decoded)?;
        Ok(Bound::measure(source, &decoded))
    }
}

#[typetag::serde(name = "sparse.prune")]
impl Codec for Prune {
    fn accepts(&self, spec: &TensorSpec) -> Result<()> {
        spec.require_float()?;
        self.inner.needs().require_nothing()?;
        self.inner.accepts(spec)
    }

    fn chunking(&self, spec: &TensorSpec) -> Chunking {
        match self.rule {
            Rule::Density { scope: Scope::Tensor, .. } => Chunking::Whole,
            _ => self.inner.chunking(spec),
        }
    }

    fn cost(&self, spec: &TensorSpec) -> CostEstimate {
        let mut cost = self.inner.cost(spec);
        let n = spec.elements() as u64;
        cost.encode_ops += 10.0 * n as f64;
        // The pruned tensor, magnitudes, keep flags, and the decoded values for the bound.
        cost.scratch_bytes = cost.scratch_bytes.saturating_add(spec.byte_len() as u64 + 9 * n);
        cost.expected_rel_rmse = None;
        cost
    }

    fn encode(&self, tensor: TensorView<'_>, cx: &EncodeCx<'_>) -> Result<Payload> {
        cx.cancel.check()?;
        let (spec, source) = (tensor.spec(), tensor.to_finite_f32()?);
        let mut pruned = tensor.bytes().to_vec();
        let kept = select::select(self.rule, &source, spec.matrix().1, cx.cancel)?;
        for (weight, kept) in pruned.chunks_exact_mut(spec.dtype().bitsize() / 8).zip(kept) {
            if !kept {
                weight.fill(0);
            }
        }
        let pruned = TensorView::new(spec.clone(), &pruned)?;
        cx.cancel.check()?;
        let child = self.inner.encode(pruned.clone(), &cx.for_child(KEPT))?;
        let bound = self.bound(&source, &pruned, &child, cx)?;
        cx.progress.tick(spec.elements() as u64);
        Ok(Payload::new(bound).with_scope(KEPT, child))
    }

    fn decode(&self, spec: &TensorSpec, payload: PayloadView<'_>, cx: &DecodeCx<'_>, out: &mut [f32]) -> Result<()> {
        self.inner.decode(spec, payload.scoped(KEPT), &cx.for_child(), out)
    }

    fn as_linear(&self) -> Option<&dyn LinearKernel> {
        self.inner.as_linear().map(|_| self as &dyn LinearKernel)
    }
}

impl LinearKernel for Prune {
    fn prepare(&self, spec: &TensorSpec, payload: PayloadView<'_>) -> Result<Box<dyn LinearOp>> {
        self.inner.require_linear()?.prepare(spec, payload.scoped(KEPT))
    }
}

fn presets() -> Vec<Preset> {
    let density10 = concat!(
        r#"{"codec":"sparse.prune","version":1,"#,
        r#""inner":{"codec":"sparse","version":1,"inner":{"codec":"lossless.raw","version":1}},"#,
        r#""density":0.1,"scope":"tensor"}"#,
    );
    let two_of_four = concat!(
        r#"{"codec":"sparse.prune","version":1,"inner":{"codec":"sparse.nm","version":1,"inner":{"codec":"quant.int","#,
        r#""version":1,"bits":8,"group":"row","symmetric":true,"clip":false},"n":2,"m":4},"pattern":"2of4"}"#,
    );
    let all = [Preset::from_header("density10", density10), Preset::from_header("2of4", two_of_four)];
    all.into_iter().flatten().collect()
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
