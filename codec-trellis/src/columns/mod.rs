//! Entropy-coded trellis quantisation column by column, `trellis.columns`: the format of calibrated
//! compression.
//!
//! Weights are multiples of a step, and each row and each column of the matrix has a step of its
//! own: fine where an error costs much. The trellis runs along the rows within a column, and goes
//! on in the next column. So a caller can change each column after it has seen the errors
//! of the columns before ([`codec_api::Panels`], crate `calibrate`), and within a column each block
//! of rows after the blocks before.
//!
//! # Source
//! Trellis, symbols and models are those of [`trellis`](crate::coded). `WaterSIC` (arXiv
//! 2603.04956) has steps inversely proportional to the square roots of the pivots of the inputs'
//! curvature. The steps of outputs, the trellis across columns and the layout are ours.
//!
//! # Sections
//! A matrix of `R × C`; for `order` `rows`, the transposed one. Its rows form blocks of `h` rows,
//! with `h = ⌈R/⌈R/32⌉⌉`; the last one may have fewer. Up to 32 blocks, as evenly as possible, form
//! a segment. In a segment of `b` blocks, the columns are cut into `p` parts of `w = ⌈C/p⌉`, where
//! `p` is the largest power of two that is at most `32/b` and at most `C`.
//!
//! Lane `l` of 32 codes block `⌊l/p⌋` of the segment in part `l mod p` of the columns: column by
//! column, and in a column row by row, with one trellis that begins in state 0. Step `s` of all
//! lanes is row `s mod h` of column `⌊s/h⌋`, so that the symbol of lane `l` in step `s` is symbol
//! `32·s + l` of the segment's stream. In steps that have no weight, a lane has the multiple with
//! `k = 0`, from a table with this symbol alone, which takes no bits.
//!
//! The only section, `codes` U8, is a head after its length, and the streams. Lengths are in bytes
//! of seven bits, the lowest first; all but the last have the eighth bit set. Format version 1 had
//! two sections, `head` and `streams`, without the length.
//! - The head: the step of row code 0 and column code 0, F32; five parts, each after its length:
//!   the model as in `trellis`, the codes of the rows' steps, those of the columns' steps, and the
//!   codes of the rows' and the columns' scales, two empty parts without contexts; then the length
//!   of stream and escapes of each segment.
//! - The streams: for each segment its rANS stream, its escapes and its low bits, in the form of
//!   `trellis`; raw weights do not occur. A stream for `m` weights has as many states as there.
//!
//! A list of codes begins with 0, and a plane in the layout of `entropy::plane` follows; or with 1,
//! and the bytes `m` and `v` and a stream of one rANS state follow. The frequencies of the code `c`
//! are then those nearest to `exp(−x²/2) + exp(−.3·x)/50 + 10⁻⁴` with `x = |c − m|/2^(v/4 − 2)`.
//!
//! The context of a weight is the sum of the scales of its row and its column, at most 63. A scale
//! is its code minus half the code of the step, rounded down, and at least 0 and at most 63.
//!
//! Code `c` means a step of `2^(c/8)` times the one of code 0. The weight is the multiple times
//! (step of its column times factor of its row), in f32.
//!
//! An empty tensor has no sections.
//!
//! # Searching
//! The Viterbi algorithm takes the path with the least squared error, in steps, through the rows of
//! a block; it begins in the state in which the block ended one column before. Candidates of a
//! weight `x` are the multiples nearest to `x/(1 + κ)` in each of four subsets, with `κ = min(.35,
//! .083/(mean of x² + .05))` for the block: at low rates the smaller of two multiples takes fewer
//! bits. Of equal paths it takes the lower second bit of the multiple, and at the end the lowest
//! state.
//!
//! Steps are inversely proportional to the square roots of the importances of row and column, in
//! eighths of an octave; `step` is that of a weight whose row and column have importance 1.
//!
//! # Header
//! ```
//! let header = r#"{"codec":"trellis.columns","version":2,"states":8,"order":"rows","step":0.01}"#;
//! let codec: Box<dyn codec_api::Codec> = serde_json::from_str(header)?;
//! assert_eq!(serde_json::to_string(&codec)?, header);
//! # use codec_trellis as _;
//! # Ok::<(), serde_json::Error>(())
//! ```
//! `states` 4, 8, 16, 32, 64, 128, 256 or 1024; `order` is `columns`, or `rows` where the rows of
//! the tensor are the inputs of a layer; `step` 10⁻³⁰ to 10³⁰.
//!
//! # Bound
//! None for a single weight: a path may leave it a few steps away, and at low rates `κ` draws it
//! towards zero.
//!
//! # Cost
//! Whatever the multiples take: about `log2(σ/step) + 1.05` bits for Gaussian weights. At most
//! two bytes per symbol, two of low bits and four of an escape. The codec refuses a matrix that
//! would take more than 5/4 of its dense bytes and 4 KiB; a larger step helps.
//!
//! # Limits
//! F32, F16 and BF16. A weight of 2²¹ steps or more is refused, and a matrix of more than 2³²
//! weights: equal weights take few bytes, and nothing else bounds what these decode to. A tensor is
//! one chunk, and a decode of some rows decodes all.

mod codes;
mod contexts;
mod layout;
mod panels;
mod read;
mod search;
mod steps;
mod write;

use codec_api::{
    Chunking, Codec, CodecError, CostEstimate, DecodeCx, EncodeCx, FormatVersion, Need, Needs, Panels, Payload,
    PayloadView, Preset, Result, TensorSpec, TensorView, Upgrade, register_codec, typetag,
};
use entropy::STATES;
use serde::{Deserialize, Serialize};

use crate::coded::States;
use layout::Layout;
use panels::Encoder;

/// Most weights of a matrix.
const MOST_WEIGHTS: u64 = 1 << 32;

/// Name of the section.
const CODES: &str = "codes";

/// Names of the sections of format version 1.
const HEAD: &str = "head";
const STREAMS: &str = "streams";

/// Configuration of `trellis.columns`; see the [module's documentation](self) for the format.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct Columns {
    /// Format version.
    pub version: FormatVersion<2>,
    /// Number of states of the trellis.
    pub states: States,
    /// What is encoded one after the other.
    pub order: Order,
    /// The step of weights of importance 1.
    pub step: Step,
}

/// The axis that is gone through one by one; the trellis runs along the other one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// Columns, the inputs of a Linear layer.
    #[default]
    Columns,
    /// Rows, the inputs of a `Conv1D`.
    Rows,
}

/// A distance between multiples, 10⁻³⁰ to 10³⁰.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "f64", into = "f64")]
pub struct Step(f64);

impl Step {
    /// The number.
    pub const fn get(self) -> f64 {
        self.0
    }
}

impl TryFrom<f64> for Step {
    type Error = String;

    fn try_from(step: f64) -> Result<Self, String> {
        let valid = (1e-30..=1e30).contains(&step);
        valid
            .then_some(Self(step))
            .ok_or_else(|| format!("{step} is out of range: a step from 1e-30 to 1e30 is wanted"))
    }
}

impl From<Step> for f64 {
    fn from(step: Step) -> Self {
        step.0
    }
}

impl Default for Columns {
    fn default() -> Self {
        Self::new(States::FAST, Order::Columns, Step(0.01))
    }
}

impl Columns {
    /// A configuration with this number of states, order and step.
    pub const fn new(states: States, order: Order, step: Step) -> Self {
        Self { version: FormatVersion, states, order, step }
    }
}

/// Steps of all lanes.
fn symbols(layout: Layout) -> usize {
    (0..layout.segments()).map(|number| layout.segment(number).steps() * STATES).sum()
}

/// Most bytes of a payload; an encode that would take more is refused.
fn most_bytes(spec: &TensorSpec, layout: Layout) -> u64 {
    if spec.elements() == 0 {
        return 0;
    }
    // Tables, planes with their models, and lengths.
    let most = 9 * symbols(layout) + 4 * (layout.rows + layout.columns) + (16 << 10);
    (most as u64).min(spec.byte_len() as u64 / 4 * 5 + (4 << 10))
}

#[typetag::serde(name = "trellis.columns")]
impl Codec for Columns {
    fn needs(&self) -> Needs {
        Needs::default().calibration(Need::Uses)
    }

    fn accepts(&self, spec: &TensorSpec) -> Result<()> {
        spec.require_float()?;
        if spec.elements() as u64 <= MOST_WEIGHTS {
            return Ok(());
        }
        let reason = format!("{} weights, where a matrix has at most {MOST_WEIGHTS}", spec.elements());
        Err(CodecError::Unsupported(reason))
    }

    fn chunking(&self, _: &TensorSpec) -> Chunking {
        Chunking::Whole
    }

    fn cost(&self, spec: &TensorSpec) -> CostEstimate {
        let layout = Layout::new(spec, self.order);
        let (n, symbols) = (spec.elements(), symbols(layout));
        let ends = layout.rows + layout.columns;
        let ops = (40.0 + 4.0 * f64::from(self.states.get())) * n as f64;
        let scratch = 20 * symbols + 24 * ends + (5 << 20) + 40 * self.states.get() as usize;
        CostEstimate::between(if n == 0 { 0 } else { 4 }, most_bytes(spec, layout))
            .ops(ops, 30.0 * n as f64)
            .scratch(scratch as u64)
    }

    fn encode(&self, tensor: TensorView<'_>, cx: &EncodeCx<'_>) -> Result<Payload> {
        let values = tensor.to_finite_f32()?;
        let layout = Layout::new(tensor.spec(), self.order);
        let mut encoder = Encoder::new(self, tensor.spec(), cx)?;
        let mut targets = vec![0.0; layout.height];
        for first in (0..layout.rows).step_by(layout.height) {
            let rows = first..layout.rows.min(first + layout.height);
            for column in 0..layout.columns {
                let weight = |row| values[layout.index(self.order, row, column)];
                let targets = &mut targets[..rows.len()];
                targets.iter_mut().zip(rows.clone()).for_each(|(to, row)| *to = weight(row));
                encoder.block(rows.clone(), column, targets)?;
            }
        }
        encoder.finish()
    }

    fn decode(&self, spec: &TensorSpec, payload: PayloadView<'_>, cx: &DecodeCx<'_>, out: &mut [f32]) -> Result<()> {
        spec.check_output(out.len())?;
        if out.is_empty() {
            return Ok(());
        }
        read::decode(self, Layout::new(spec, self.order), &payload, cx.cancel, out)
    }

    fn as_panels(&self) -> Option<&dyn Panels> {
        Some(self)
    }
}

/// The payload tells which version it has.
const UPGRADES: &[Upgrade] =
    &[Upgrade::new(r#"{"codec":"trellis.columns","version":1,"states":8,"order":"columns","step":0.01}"#, |_| Ok(()))];

fn presets() -> Vec<Preset> {
    let preset = |name, states, order| Preset::new(name, Columns::new(states, order, Step(0.01)));
    vec![preset("columns", States::FAST, Order::Columns), preset("rows", States::FAST, Order::Rows)]
}

/// Numbers of states, and the ends of the steps.
fn probes() -> Vec<String> {
    let specs = [
        "trellis.columns:states=4:step=0.5",
        "trellis.columns:states=64:order=rows:step=0.1",
        "trellis.columns:states=256:step=0.02",
        "trellis.columns:states=1024:step=0.2",
        "trellis.columns:order=rows:step=1e-4",
    ];
    specs.map(str::to_owned).into()
}

register_codec!(
    "trellis.columns",
    "entropy-coded trellis with steps of rows and columns, for feedback of errors",
    presets,
    .probes(probes)
    .upgrades(UPGRADES)
);
