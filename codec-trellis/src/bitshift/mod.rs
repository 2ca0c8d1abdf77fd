//! The bitshift trellis, `trellis.bitshift`. The bits of 256 weights form a ring. The window of
//! `state_bits` bits that begins with a weight's own bits is hashed to a number that looks normally
//! distributed. The weight is that number times a scale.
//!
//! A weight of 1 to 4 bits can therefore take 2¹⁰ to 2¹⁶ values, but shares the choice with its
//! neighbours; the Viterbi algorithm finds the best combination. Decoding sixteen weights takes a
//! dozen instructions and no table. Every block lies at a fixed place and decodes alone.
//!
//! # Source
//! QTIP: Tseng et al., arXiv 2406.11235, section 3: the bitshift trellis, the tail-biting ring and
//! the computed codes 1MAD (algorithm 1) and 3INST (algorithm 2), without its rotation of the
//! weights and its feedback between columns. Levels and scale are ours.
//!
//! # Sections
//! The `R × C` matrix view is cut into spans of `⌈256/C⌉` rows; the last one may have fewer. A span
//! is one row, or as many narrow rows as hold 256 weights. A span of `n` weights, row-major, is cut
//! into `max(1, ⌊n/256⌋)` blocks of 256 weights; the last block also has the rest (or the whole
//! span, if that is shorter). With `k = bits` and `S` spans:
//! - `codes` U8: the blocks in order, `⌈n·k/8⌉` bytes for `n` weights: a bit stream, lowest bit
//!   first;
//! - `levels` U8 `[S]`: level `l` means the factor `f = F[l mod 16] · 2^−⌊l/16⌋`, where `F[i]` is
//!   `2^(−i/16)` rounded to f32; 255 means 0;
//! - `scale` F32 `[1]`.
//!
//! The state of weight `i` of a block consists of the `L = state_bits` bits from bit `i·k` on,
//! lowest first. Bit 0 follows bit `n·k − 1`, and the ring repeats if it has fewer bits than a
//! state. Unused bits of the last byte are written as 0 and not read. The state `s` gives the value
//! `v`, in unsigned 32-bit arithmetic modulo 2³²:
//! - 1MAD: `x = 34038481·s + 76625530`; `v` is the sum of the four bytes of `x`, less 510;
//! - 3INST: `x = 89226354·s + 64248484`; `y = (x & 0x8fff8fff) ^ 0x3b603b60`; `v` is the upper half
//!   of `y` plus its lower half, both as F16 numbers.
//!
//! The weight is `v · (scale · f)`, in f32; +0 where `scale · f` is 0.
//!
//! ## Scales
//! The level of a span says how far its root mean square is below the largest one, to a sixteenth
//! of an octave; a span below 2⁻¹⁵·⁹ counts as zeros. A first scale is searched on a sample of
//! sixteen blocks, in steps of a tenth from the best scale for normal weights. The final scale has
//! the least squared error for the codes found. On `assets/gpt2_mini_layers`, with every bit
//! counted, levels save 0.017 bits per weight at `bits=2` and 0.072 at `bits=4` against one scale
//! for the tensor, and 0.020 at both against a BF16 scale for each row.
//!
//! ## Searching
//! A search goes backwards through the weights. For each of the `2^(L−k)` overlaps of neighbouring
//! states it keeps the least error of a path to that overlap. For each weight it keeps which of the
//! `2^k` states the path came through, the lowest among equals. A block is searched twice: first
//! the ring is cut open in the middle, to find the overlap where the block's end meets its
//! beginning; then the search has this overlap at both ends. If a ring has fewer bits than a state,
//! the search tries all rings. In panels, levels and scales are those of the original tensor, which
//! is encoded first; a panel is a ring of 256 columns, or all columns where the last ring of a row
//! is longer. With calibration, each squared error is weighted by the mean square
//! of the weight's input, relative to the largest and at least 10⁻⁶ of it; levels depend on the
//! weights alone.
//!
//! ## How good it is
//! NMSE on Gaussian weights, for 0.008 bits more than `bits`
//! (`netweight bench --suite gaussian:512x1024 --codecs …`). The last column is the encoding speed
//! in million weights per second, on one core of an AMD EPYC with AVX-512 at `bits=2`, slightly
//! lower at others (`cargo bench -p netweight-codec-trellis --bench bitshift`):
//!
//! | | `bits=1` | | `bits=2` | | `bits=3` | | `bits=4` | | |
//! |---|---|---|---|---|---|---|---|---|---|
//! | `state_bits` | 1MAD | 3INST | 1MAD | 3INST | 1MAD | 3INST | 1MAD | 3INST | Mw/s |
//! | 10 | .290 | .286 | .0777 | .0782 | .0211 | .0217 | .00548 | .00611 | 8.6 |
//! | 12 | .280 | .274 | .0744 | .0729 | .0192 | .0195 | .00499 | .00525 | 2.5 |
//! | 14 | .272 | .270 | .0705 | .0704 | .0182 | .0183 | .00469 | .00483 | .58 |
//! | 16 | .268 | .267 | .0687 | .0689 | .0176 | .0178 | .00454 | .00463 | .14 |
//!
//! 1MAD decodes 64 MiB of f32 at 0.8 of the speed of a memcpy or more with AVX-512 and 0.7 with
//! AVX2; 3INST at 0.75 and 0.5. The presets have `state_bits=12`, and the code that is better
//! there.
//!
//! # Header
//! ```
//! let header = r#"{"codec":"trellis.bitshift","version":1,"bits":2,"state_bits":12,"code":"3inst"}"#;
//! let codec: Box<dyn codec_api::Codec> = serde_json::from_str(header)?;
//! assert_eq!(serde_json::to_string(&codec)?, header);
//! # use codec_trellis as _;
//! # Ok::<(), serde_json::Error>(())
//! ```
//! `bits` 1 to 4; `state_bits` 10 to 16; `code` is `1mad` or `3inst`.
//!
//! # Bound
//! None: the values of a code end slightly above three deviations, so outliers are clipped.
//!
//! # Cost
//! `⌈n·bits/8⌉` bytes for each span of `n` weights, one more for each span, and 4: `bits + 8/C`
//! bits per weight for rows of `C` ≥ 256 weights. The time of an encode is proportional to
//! `2^state_bits`; its paths take up to `511 · 2^(state_bits − bits)` bytes of memory. A read of
//! rows decodes the spans that hold them. A product with a vector multiplies the values of the
//! states in registers, if rows have 256 weights or more.
//!
//! # Limits
//! F32, F16 and BF16. Few weights leave little choice: a ring of two bits is one of four values.
//! Near the end of f32, the scale is below that of the least squared error, if weights would
//! otherwise become infinite. Near 10⁻⁴⁰ it has few digits. A chunk of rows has levels and a scale
//! of its own. Rows of less than 256 weights cannot be encoded in panels.

mod block;
mod code;
mod decode;
mod encode;
mod layout;
mod linear;
mod panels;
mod scale;
mod trellis;

pub use code::Code;
use codec_api::{
    Bounded, Chunking, Codec, CostEstimate, DecodeCx, Dtype, EncodeCx, FormatVersion, LinearKernel, Need, Needs,
    Panels, Payload, PayloadView, Preset, Result, RowReader, Rows, TensorSpec, TensorView, register_codec, typetag,
};
use layout::{Layout, MAX_BLOCK};
use serde::{Deserialize, Serialize};

/// Configuration of `trellis.bitshift`; see the [module's documentation](self) for the format.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct Bitshift {
    /// Format version.
    pub version: FormatVersion<1>,
    /// Bits for each weight.
    pub bits: Bounded<1, 4>,
    /// Bits of a state.
    pub state_bits: Bounded<10, 16>,
    /// The function from a state to a number.
    pub code: Code,
}

impl Default for Bitshift {
    fn default() -> Self {
        Self::new(Bounded::at::<2>(), Bounded::at::<12>(), Code::ThreeInst)
    }
}

impl Bitshift {
    /// A codec with these bits for a weight and for a state, and this code.
    pub fn new(bits: Bounded<1, 4>, state_bits: Bounded<10, 16>, code: Code) -> Self {
        Self { version: FormatVersion, bits, state_bits, code }
    }

    /// The best ratio of the scale to the standard deviation of normal weights.
    fn ratio(&self) -> f64 {
        const RATIOS: [f64; 4] = [0.88, 1.03, 1.1, 1.16];
        RATIOS[self.bits.get() as usize - 1] / self.code.deviation()
    }
}

#[typetag::serde(name = "trellis.bitshift")]
impl Codec for Bitshift {
    fn needs(&self) -> Needs {
        Needs::default().calibration(Need::Uses)
    }

    fn accepts(&self, spec: &TensorSpec) -> Result<()> {
        spec.require_float()
    }

    fn chunking(&self, spec: &TensorSpec) -> Chunking {
        Chunking::Rows(Layout::new(self, spec).rows)
    }

    fn cost(&self, spec: &TensorSpec) -> CostEstimate {
        let (layout, n) = (Layout::new(self, spec), spec.elements());
        let bytes = layout.codes_len() + layout.spans() + size_of::<f32>();
        // The search visits all states twice for each weight.
        let states = 1usize << self.state_bits.get();
        let ops = 2 * 5 * states;
        let search = 4 * states + (8 + MAX_BLOCK.min(n)) * (states >> self.bits.get());
        // The importance of each input, and less than half a byte per weight for blocks and
        // deviations.
        let (rows, columns) = spec.matrix();
        let source = 4 * rows.max(columns) + n / 2 + if spec.dtype() == Dtype::F32 { 0 } else { 4 * n };
        CostEstimate::fixed(bytes as u64).ops(ops as f64 * n as f64, 9.0 * n as f64).scratch((search + source) as u64)
    }

    fn encode(&self, tensor: TensorView<'_>, cx: &EncodeCx<'_>) -> Result<Payload> {
        encode::encode(self, &tensor, cx)
    }

    fn decode(&self, spec: &TensorSpec, payload: PayloadView<'_>, cx: &DecodeCx<'_>, out: &mut [f32]) -> Result<()> {
        spec.check_output(out.len())?;
        self.open(spec, payload, cx)?.read(0..spec.matrix().0, out)
    }

    fn as_rows(&self) -> Option<&dyn Rows> {
        Some(self)
    }

    fn as_linear(&self) -> Option<&dyn LinearKernel> {
        Some(self)
    }

    fn as_panels(&self) -> Option<&dyn Panels> {
        Some(self)
    }
}

impl Rows for Bitshift {
    fn open(&self, spec: &TensorSpec, payload: PayloadView<'_>, cx: &DecodeCx<'_>) -> Result<Box<dyn RowReader>> {
        cx.cancel.check()?;
        Ok(Box::new(decode::Opened::new(self, spec, &payload)?))
    }
}

fn presets() -> Vec<Preset> {
    let with = |bits, code| Bitshift::new(bits, Bounded::at::<12>(), code);
    vec![
        Preset::new("1bit", with(Bounded::at::<1>(), Code::ThreeInst)),
        Preset::new("2bit", with(Bounded::at::<2>(), Code::ThreeInst)),
        Preset::new("3bit", with(Bounded::at::<3>(), Code::OneMad)),
        Preset::new("4bit", with(Bounded::at::<4>(), Code::OneMad)),
    ]
}

/// Every rate and both codes, with few states.
fn probes() -> Vec<String> {
    let specs = [
        "trellis.bitshift:bits=1:state_bits=10:code=1mad",
        "trellis.bitshift:bits=2:state_bits=10:code=3inst",
        "trellis.bitshift:bits=3:state_bits=10:code=3inst",
        "trellis.bitshift:bits=4:state_bits=11:code=1mad",
    ];
    specs.map(str::to_owned).into()
}

register_codec!(
    "trellis.bitshift",
    "bitshift trellis with computed codes (QTIP)",
    presets,
    .probes(probes).slow_presets()
);
