//! Uniform integer quantisation, `quant.int`: `ŵ = (code − zero) · scale`.
//!
//! The rows of the matrix view are cut into groups (the last one of a row may be shorter). Each
//! group has a scale and, if not symmetric, a zero point. Symmetric groups use the codes 1 … 2ᵇ−1
//! around the middle 2ᵇ⁻¹ with the scale `max|w| / (2ᵇ⁻¹ − 1)`. Asymmetric groups spread 0 … 2ᵇ−1
//! over `[min(w, 0), max(w, 0)]`, so that zero stays exactly zero. With `clip` or calibration the
//! encoder searches scale and zero point for the least squared error of the group; symmetric groups
//! may then also use code 0 and a negative scale.
//!
//! With calibration a squared error counts as much as the mean square of its input, relative to the
//! largest one and at least 10⁻⁶. The result of an encode without calibration is one of the
//! candidates. If the inputs run along the rows, all weights of a row count the same, so that only
//! one group for the tensor makes use of calibration.
//!
//! # Source
//! Affine quantisation: Jacob et al., arXiv 1712.05877, section 2.1; groups as in GPTQ, arXiv
//! 2210.17323; the search over clipped ranges follows the aim of HQQ and of `OmniQuant` (arXiv
//! 2308.13137, section 3.2). Calibration weights errors as the importance matrices of llama.cpp do.
//!
//! # Sections
//! With `R × C` the matrix view and `G` groups in `[R, ⌈C/group⌉]` (`[R, 1]` by row, `[1, 1]` by
//! tensor):
//! - `codes` U8 `[R, ⌈C·bits/8⌉]`: unsigned (offset-binary) codes, a little-endian bit stream per
//!   row, lowest bit first; 4-bit codes are in the order of ONNX `MatMulNBits`;
//! - `scales` F16, the shape of the groups, and `exponent` I8 `[1]`: scale = F16 · 2^exponent, so
//!   that the tensor's magnitude costs no accuracy;
//! - `zeros` U8 `[⌈G·bits/8⌉]`, absent if symmetric: the zero points, packed like the codes.
//!
//! The exponent is chosen from the first block of rows that is not all zeros, with five octaves of
//! headroom, so that one pass over the weights suffices. If a later block needs a larger exponent,
//! the tensor is encoded again with the exponent for its largest scale. Both choices depend on the
//! data alone. With one group for the tensor, chunks share its grid and thus the exponent.
//!
//! In panels the exponent is that of a plain encode. A scale that feedback makes too large for it
//! becomes the largest F16 number.
//!
//! # Header
//! ```
//! let header = r#"{"codec":"quant.int","version":1,"bits":4,"group":128,"symmetric":false,"clip":false}"#;
//! let codec: Box<dyn codec_api::Codec> = serde_json::from_str(header)?;
//! assert_eq!(serde_json::to_string(&codec)?, header);
//! # use codec_quant as _;
//! # Ok::<(), serde_json::Error>(())
//! ```
//! `bits` 2 to 8; `group` a multiple of 16 from 16 to 512, `"row"` or `"tensor"`.
//!
//! # Bound
//! About half a scale without `clip` and calibration; with them a weight beyond the range has a
//! larger error.
//!
//! # Cost
//! `R·⌈C·bits/8⌉ + 2·G + 1` bytes, and `⌈G·bits/8⌉` more if not symmetric: 4.156 bits per weight
//! for 4 bits in groups of 128. `clip` compares about thirty grids for each group, and so does
//! calibration. With one group for the tensor, each of the two takes up to five passes over it.
//!
//! # Limits
//! F32, F16 and BF16. A group with scale 2²⁴ times smaller than the largest of its chunk begins to
//! lose digits of its scale; at 2³⁵ times smaller it becomes zeros.

mod clip;
mod decode;
mod encode;
mod group;
mod layout;
mod linear;
mod panels;
mod quantise;
mod range;
mod scale;
mod survey;

use codec_api::{
    Bounded, Codec, CostEstimate, DecodeCx, EncodeCx, FormatVersion, LinearKernel, Need, Needs, Panels, Payload,
    PayloadView, Preset, Result, RowReader, Rows, Surveyed, TensorSpec, TensorView, register_codec, typetag,
};
pub use group::Group;
use layout::Layout;
use range::Codes;
use serde::{Deserialize, Serialize};

/// Configuration of `quant.int`; see the [module's documentation](self) for the format.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct IntQuant {
    /// Format version.
    pub version: FormatVersion<1>,
    /// Bits of a code.
    pub bits: Bounded<2, 8>,
    /// Which weights share a scale.
    pub group: Group,
    /// No zero points: the range is symmetric around zero.
    pub symmetric: bool,
    /// Search each group's scale and zero point for the least squared error.
    pub clip: bool,
}

impl Default for IntQuant {
    fn default() -> Self {
        Self::new(Bounded::at::<8>(), Group::Row)
    }
}

impl IntQuant {
    /// Symmetric quantisation without clipping.
    pub fn new(bits: Bounded<2, 8>, group: Group) -> Self {
        Self { version: FormatVersion, bits, group, symmetric: true, clip: false }
    }

    /// With zero points.
    #[must_use]
    pub fn asymmetric(mut self) -> Self {
        self.symmetric = false;
        self
    }

    /// With the search for the least squared error.
    #[must_use]
    pub fn clipped(mut self) -> Self {
        self.clip = true;
        self
    }

    /// The code of zero in symmetric groups.
    fn middle(&self) -> u8 {
        1 << (self.bits.get() - 1)
    }

    /// The codes available to grids. Leaving out code 0 keeps a symmetric range symmetric; a
    /// search, by `clip` or because the codec is `calibrated`, decides that itself.
    fn codes(&self, calibrated: bool) -> Codes {
        let min = if self.symmetric && !self.clip && !calibrated { 1.0 } else { 0.0 };
        let max = ((1u32 << self.bits.get()) - 1) as f32;
        Codes { min, max, middle: self.symmetric.then(|| f32::from(self.middle())) }
    }
}

#[typetag::serde(name = "quant.int")]
impl Codec for IntQuant {
    fn needs(&self) -> Needs {
        Needs::default().calibration(Need::Uses)
    }

    fn accepts(&self, spec: &TensorSpec) -> Result<()> {
        spec.require_float()
    }

    fn cost(&self, spec: &TensorSpec) -> CostEstimate {
        let layout = Layout::new(self, spec);
        let zeros = if self.symmetric { 0 } else { layout.zeros_len() };
        let bytes = layout.codes_len() + 2 * layout.groups() + 1 + zeros;
        let n = spec.elements() as f64;
        let encode = if self.clip { 20.0 * clip::CANDIDATES as f64 } else { 15.0 };
        // A decode keeps scale and zero point of all groups, also as they are stored. An encode
        // keeps ranges, grids, F16 scales and parameters of the groups of a step, and the decoded
        // rows that it measures.
        let scratch = 11 * layout.groups() + 34 * layout.block_groups() + 4 * encode::measured_at_once(&layout);
        // A survey widens all weights of 16 bits, an encode those of a step.
        let widened = match self.group {
            Group::Tensor => crate::widened_bytes(spec),
            _ => crate::widened_bytes(spec).min(4 * layout.block_weights() as u64),
        };
        CostEstimate::fixed(bytes as u64)
            .ops(encode * n, 4.0 * n)
            .scratch(scratch as u64 + crate::importance_bytes(spec) + widened)
    }

    fn encode(&self, tensor: TensorView<'_>, cx: &EncodeCx<'_>) -> Result<Payload> {
        encode::encode(self, &tensor, cx)
    }

    fn decode(&self, spec: &TensorSpec, payload: PayloadView<'_>, cx: &DecodeCx<'_>, out: &mut [f32]) -> Result<()> {
        crate::decode_rows(self, spec, payload, cx, out)
    }

    fn as_rows(&self) -> Option<&dyn Rows> {
        Some(self)
    }

    fn as_surveyed(&self) -> Option<&dyn Surveyed> {
        (self.group == Group::Tensor).then_some(self)
    }

    fn as_linear(&self) -> Option<&dyn LinearKernel> {
        self.multiplies().then_some(self)
    }

    fn as_panels(&self) -> Option<&dyn Panels> {
        Some(self)
    }
}

impl Rows for IntQuant {
    fn open(&self, spec: &TensorSpec, payload: PayloadView<'_>, _: &DecodeCx<'_>) -> Result<Box<dyn RowReader>> {
        Ok(Box::new(decode::Reader::open(self, spec, &payload)?))
    }
}

fn presets() -> Vec<Preset> {
    let int4 = IntQuant::new(Bounded::at::<4>(), Group::of::<128>()).asymmetric();
    vec![
        Preset::new("int8", IntQuant::new(Bounded::at::<8>(), Group::Row)),
        Preset::new("int8-g32", IntQuant::new(Bounded::at::<8>(), Group::of::<32>())),
        Preset::new("int4", int4.clone()),
        Preset::new("int4-clip", int4.clipped()),
    ]
}

/// Every width, with every kind of group and every other key.
fn probes() -> Vec<String> {
    let mut specs = Vec::new();
    for bits in 2..=8 {
        for group in ["16", "48", "512", "row", "tensor"] {
            for keys in ["", ":symmetric=false", ":clip=true", ":symmetric=false:clip=true"] {
                specs.push(format!("quant.int:bits={bits}:group={group}{keys}"));
            }
        }
    }
    specs
}

register_codec!("quant.int", "uniform integers of 2 to 8 bits by group, row or tensor", presets, .probes(probes));
