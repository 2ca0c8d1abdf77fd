//! Entropy-coded trellis quantisation, `trellis`: a few hundredths of a bit above Shannon's bound.
//!
//! Every weight becomes a multiple of one step, and the multiples are entropy-coded. With a single
//! step for the whole tensor, the squared error is the same everywhere, which minimises the total
//! squared error, and the coder gives the frequent multiples fewer bits. A scalar quantiser of this
//! kind is .255 bits above the bound, because its cells are cubes. A trellis makes the cells
//! rounder. Each of its states allows only the even or only the odd multiples, and the next state
//! depends on the multiple. The Viterbi algorithm finds the cheapest of all paths. A decoder
//! follows the path from the multiples alone.
//!
//! # Source
//! Marcellin and Fischer, *Trellis coded quantization of memoryless and Gauss–Markov sources*, IEEE
//! Trans. Comm. 38 (1990); Fischer and Wang, *Entropy-constrained trellis-coded quantization*, IEEE
//! Trans. IT 38 (1992), the source of the supersets; Ungerboeck, *Channel coding with
//! multilevel/phase signals*, IEEE Trans. IT 28 (1982), table I, for the codes of 4 to 256 states.
//! The models, contexts and points are ours.
//!
//! # Sections
//! The flat tensor of `n` weights, a matrix of `R × C`, is cut into `s = ⌈n/2¹⁸⌉` segments or
//! fewer. A segment has `⌈R/s⌉` whole rows; the last one may have fewer. Where `C > 2¹⁸`, a segment
//! has 2¹⁸ weights, regardless of the rows. Segments are coded separately, with the same model.
//! - `step` F32 `[1]`;
//! - `shifts` I8 `[3]`, if any is not 0: how far ±1, ±2 and all larger multiples move towards zero,
//!   in 128ths of a step;
//! - `model` U8: how symbols are coded, see below;
//! - `rows` U8, `columns` U8, if there are contexts: a scale for each row and each column, planes
//!   of `R` and `C` bytes in the layout of `entropy::plane`;
//! - `streams` U8: the rANS streams of all segments, in the layout of `entropy`. The stream of a
//!   segment of `m` weights has `w` states, where `w` is the largest power of two that is at most
//!   `m/2¹³`, but at least 1 and at most 32;
//! - `lengths` U32 `[segments − 1]`, if there are several segments: the bytes of each stream but
//!   the last;
//! - `low` U8, if `L` is not 0: the `L` low bits of each multiple. Each 32 weights of a segment
//!   (the last group may have fewer) give `L` words U32; bit `i` of word `b` is low bit `b` of
//!   weight `i`;
//! - `escapes` U8, if there are any, and `escape_lengths` U32 `[segments − 1]`, as for streams:
//!   numbers in bytes of seven bits, the lowest first; all bytes of a number but the last have the
//!   eighth bit set. 0 and 1 are followed by a raw weight, F32; `2·q + 2` means the upper part
//!   `q ≥ 0`, and `−2·q + 1` the upper part `q < 0`;
//! - `exponent` I16 `[1]`, for tensors near the ends of f32: decoded weights are multiplied by 2 to
//!   this power, and clamped to the range of f32;
//! - `input_rows` or `input_columns` U8, if there was calibration: a plane of a byte for each row
//!   or column; decoded weights are multiplied by 2 to the power of an eighth of it, before the
//!   exponent.
//!
//! A tensor that would take more than its stored bytes has one section instead: `data`, of its
//! dtype and shape. An empty tensor has no bytes.
//!
//! ## From symbols to weights
//! Weight `i` of a segment belongs to trellis `i mod 32`; all begin in state `s = 0`.
//! - The multiple is `j = 2k + (s mod 2)`, and `k = q·2^L + low`.
//! - The upper part `q` is the symbol minus `reach` minus 1. Symbol 0 is an escape: `q` comes from
//!   the next number of the escapes. For a raw weight, `q` is that number, 0 or 1.
//! - The next state is `⌊s/2⌋`, xor `⌊h0/2⌋` if `s` is odd, xor `⌊h1/2⌋` if `k` is odd.
//! - The weight is `±(|j| − shift)·step` in f32, rounded after each operation.
//!
//! | states | 4 | 8 | 16 | 32 | 64 | 128 | 256 | 1024 |
//! |---|---|---|---|---|---|---|---|---|
//! | `h0`, octal | 5 | 13 | 23 | 45 | 103 | 235 | 515 | 2007 |
//! | `h1`, octal | 2 | 4 | 4 | 10 | 24 | 126 | 362 | 664 |
//!
//! The context of a weight is the mean of its row's and its column's scale, rounded down, at most
//! 63; without scales it is 0. `model` begins with a byte for the way in which frequencies are
//! written, then `L`, then `reach`.
//! - Way 0: tables in the layout of `entropy::plane`, for the contexts of even multiples and then,
//!   from 64 on (1 without scales), for those of odd multiples.
//! - Way 1, a shape: the number of contexts that have tables of their own (later contexts use the
//!   last of these), ten times an exponent `e`, and `v` U16. The frequencies of context `c` are
//!   those nearest to `exp(−(|j|/2^(v/256 − 64 + c/4))^e)`, relative to the sum over all symbols
//!   but the escape, where `|j|` is the magnitude of the mean of the multiples of a symbol. Values
//!   of at most 2⁻¹⁴ become 0, and the escape has 2⁻¹⁴.
//!
//! ## Why this format
//! - A tensor has one step and one model, and segments of 2¹⁸ weights are coded separately. A
//!   stream of 32 states for each row of 4096 weights would cost a fifth of a bit.
//! - Thirty-two trellises run side by side. So a decoder advances all states of the stream at once,
//!   and knows the contexts of a step before it.
//! - Small tensors have narrow streams, because a state takes four bytes, and a shape instead of
//!   tables, because a table takes a hundred bytes. Frequencies from a shape are computed with
//!   `libm` alone, so they are the same on every platform.
//! - A weight that is too large for a multiple is stored raw, and the path continues as if the
//!   weight were 0. A multiple without a symbol is an escape. Nothing is clamped.
//!
//! ## The search
//! Thirty-two paths go side by side in vectors. The cost of a multiple is its squared distance.
//! Below 1.5 bits per weight, it also includes `lambda` times its bits, and the distance is
//! measured from the decoded value. Bits and decoded values are those of the last pass, counted and
//! not those of a Gaussian; passes agree after a few. At higher rates, a rate term has no effect
//! that another step would not have. Within a subset, the search considers the nearest member;
//! below 1.5 bits also the next one towards or across zero. Costs are f32, added in the order of
//! the weights and rebased every 64 weights. Of equal costs the path with the lower second bit of
//! the multiple wins, and at the end the lowest state. So the path is the same on every CPU.
//!
//! The step is searched by secants: for large tensors first on a few segments, for many states
//! first with eight states, and then with everything. Tables, points, contexts and alphabets are
//! fitted to the counts of the pass.
//!
//! The chunks of a tensor share the step of the search, the costs of multiples, the exponent and
//! the scale of importances. They are found on the whole rows of 2²¹ weights, or of all. The rows
//! are the middles of equal parts of all rows in the order of their energy, so that they do not
//! depend on where chunks begin. Each chunk has tables, contexts and fitted points of its own.
//!
//! ## How good it is
//! Bits above Shannon's bound for Gaussian weights of the same energy, everything included, on a
//! million weights (`cargo xtask rate-distortion`, which draws the curves and has more):
//!
//! | | .5 bits | 1 | 2 | 3 | 4 | 6 | 8 |
//! |---|---|---|---|---|---|---|---|
//! | Gaussian, 8 states | .076 | .077 | .079 | .078 | .079 | .080 | .080 |
//! | 64 states | .049 | .049 | .050 | .050 | .050 | .052 | .052 |
//! | 256 states | .037 | .036 | .037 | .037 | .037 | .039 | .039 |
//! | Laplacian, 8 states | .018 | −.004 | −.019 | −.024 | −.024 | −.022 | −.021 |
//! | 64 states | .013 | −.030 | −.048 | −.052 | −.052 | −.050 | −.049 |
//! | 256 states | .008 | −.043 | −.061 | −.065 | −.066 | −.062 | −.062 |
//!
//! A bitshift trellis of 65,536 states and a fixed rate is at .055 to .117 from 1 to 4 bits; ggml's
//! formats are at .49 to 1.16. 4 Mi Gaussian weights at a given step encode at 61, 51 and 32
//! million a second with 8, 64 and 256 states, and decode at 660 to 960 million
//! (`cargo bench -p netweight-codec-trellis --bench speed`, one core of an AMD EPYC with AVX-512);
//! with AVX2 at 59, 47, 26 and 630 to 835. With the search for a rate, encodes are as fast at 4
//! bits, and take five times as long at 1.
//!
//! # Header
//! ```
//! let header = r#"{"codec":"trellis","version":1,"states":64,"bits":3.0,"lambda":0.36}"#;
//! let codec: Box<dyn codec_api::Codec> = serde_json::from_str(header)?;
//! assert_eq!(serde_json::to_string(&codec)?, header);
//! # use codec_trellis as _;
//! # Ok::<(), serde_json::Error>(())
//! ```
//! `states` 4, 8, 16, 32, 64, 128, 256 or 1024. The target is one of
//! - `bits`, .25 to 16: at most this many bits per weight;
//! - `error`, 10⁻⁹ to 1: at most this `‖w − ŵ‖²/‖w‖²`, where calibration, if it is used, weights
//!   both norms;
//! - `step`, 10⁻³⁰ to 10³⁰: this distance between multiples.
//!
//! The default is 4 bits. `lambda`, 0 to 1, affects only the encoder. Rate and error are met from
//! the safe side (for tiny tensors see Cost), within .5 % on tensors of 2¹⁶ weights and more; below
//! half a bit, where a path is mostly zeros, within 1 %. Chunks meet them together, within 1 %
//! above or below on tensors of more than 2²¹ weights, and without the tables of all chunks but
//! one.
//!
//! # Bound
//! A target of `error` bounds `‖w − ŵ‖²/‖w‖²`. From 1.5 bits per weight on, a weight is at most two
//! steps from its multiple, before step and shifts are fitted. At lower rates a single weight has
//! no bound.
//!
//! # Cost
//! Never more than the stored bytes. At a target of `bits`, which are `b` bytes, a tensor encoded
//! as a whole never takes more than `b + max(24 − b/64, 0)` bytes: the allowance covers step, model
//! and states of tensors below 1.5 KiB. `b` includes .003 bits per weight for the states of the
//! segments' streams, which let rows be decoded without the other segments. A chunk may take any
//! part of the bytes of its tensor.
//!
//! # Limits
//! F32, F16 and BF16. Calibration is used where each input has 64 weights or more. A weight of 2²¹
//! steps or more is stored raw. An encode keeps the multiples of two passes, each in a byte if all
//! of its segment are below 128, in two below 2¹⁵, else in four. Weights that are not F32, or near
//! the ends of f32, are copied as f32. Multiples from 2¹¹ on are counted one by one, with up to 16
//! bytes for each. A segment takes half a bit for each of its weights and states. Cut large tensors
//! into chunks of rows. The search for the step of all chunks keeps about 60 MiB. A read of rows
//! decodes their segments from the start on.

pub(crate) mod alphabet;
mod config;
pub(crate) mod decode;
pub(crate) mod encode;
pub(crate) mod escapes;
mod exponent;
mod inputs;
pub(crate) mod machine;
mod metric;
pub(crate) mod model;
mod multiples;
mod points;
mod quantise;
mod rows;
mod search;
mod secant;
pub(crate) mod segments;
mod shape;
pub(crate) mod stats;
mod survey;
mod viterbi;

use codec_api::{
    Codec, CostEstimate, DecodeCx, Dtype, EncodeCx, Need, Needs, Payload, PayloadView, Preset, Result, RowReader, Rows,
    Section, Surveyed, TensorSpec, TensorView, register_codec, typetag,
};
pub use config::{Target, Trellis};
use encode::Contexts;
pub use machine::States;
use quantise::Source;
use rows::{DATA, Opened};
use search::{Search, budget};
use secant::lower_aim;
use segments::Segments;
use survey::Whole;

#[typetag::serde(name = "trellis")]
impl Codec for Trellis {
    fn needs(&self) -> Needs {
        Needs::default().calibration(Need::Uses)
    }

    fn accepts(&self, spec: &TensorSpec) -> Result<()> {
        spec.require_float()
    }

    fn cost(&self, spec: &TensorSpec) -> CostEstimate {
        // A chunk may have any part of the bytes of its tensor.
        let (n, most) = (spec.elements() as f64, spec.byte_len() as u64);
        let states = f64::from(self.states.get());
        let least = Segments::of(spec).state_bytes().min(most);
        let ops = 3.0 * (40.0 + 6.0 * states) * n;
        let cost = CostEstimate::between(least, most).ops(ops, 30.0 * n).scratch(self.scratch(spec) as u64);
        match self.target {
            Target::Bits(bits) => cost.rel_rmse(libm::exp2(-(bits - 0.08).max(0.0))),
            Target::Error(error) => cost.rel_rmse(libm::sqrt(error)),
            Target::Step(_) => cost,
        }
    }

    fn encode(&self, tensor: TensorView<'_>, cx: &EncodeCx<'_>) -> Result<Payload> {
        let values = tensor.to_finite_f32()?;
        let spec = tensor.spec();
        let payload = match cx.shared {
            Some(shared) => self.encode_chunk(&values, spec, shared, cx)?,
            None => self.encode_values(&values, spec, cx)?,
        };
        let payload = match payload {
            Some(payload) if payload.bytes() < spec.byte_len() as u64 => payload,
            _ => Payload::new().with(DATA, Section::new(spec.dtype(), spec.shape(), tensor.bytes().to_vec())?)?,
        };
        cx.progress.tick(spec.elements() as u64);
        Ok(payload)
    }

    fn decode(&self, spec: &TensorSpec, payload: PayloadView<'_>, cx: &DecodeCx<'_>, out: &mut [f32]) -> Result<()> {
        spec.check_output(out.len())?;
        cx.cancel.check()?;
        Opened::new(self.states, spec, &payload)?.weights(0..spec.elements(), cx.cancel, out)
    }

    fn as_rows(&self) -> Option<&dyn Rows> {
        Some(self)
    }

    fn as_surveyed(&self) -> Option<&dyn Surveyed> {
        Some(self)
    }
}

impl Rows for Trellis {
    fn open(&self, spec: &TensorSpec, payload: PayloadView<'_>, cx: &DecodeCx<'_>) -> Result<Box<dyn RowReader>> {
        cx.cancel.check()?;
        Ok(Box::new(Opened::new(self.states, spec, &payload)?))
    }
}

impl Trellis {
    /// Heap bytes of an encode; a decode takes only tables, and factors of inputs.
    fn scratch(&self, spec: &TensorSpec) -> usize {
        let (rows, columns) = spec.matrix();
        // Counts, costs, and up to 128 tables of the entropy coder with contexts, 2 without.
        let tables = if Contexts::pay(rows, columns) { 2304 << 10 } else { 384 << 10 };
        // The multiples of two passes, if all are large, and weights scaled to the range of
        // arithmetic.
        let mut of_weight = 12;
        if spec.dtype() != Dtype::F32 {
            of_weight += 4;
        }
        // Multiples above 2048, of which there are few at low rates, are also kept in lists.
        of_weight += match self.target {
            Target::Bits(..=8.0) | Target::Error(1e-5..) => 4,
            _ => 16,
        };
        let of_segment = 24 + self.states.get() as usize / 16;
        tables + of_weight * spec.elements() + of_segment * Segments::of(spec).longest()
    }

    /// The payload of quantised weights. `None` without weights, or if the target needs the stored
    /// bytes.
    fn encode_values(&self, values: &[f32], spec: &TensorSpec, cx: &EncodeCx<'_>) -> Result<Option<Payload>> {
        let whole = Whole::of(values, spec, cx)?;
        let source = Source::new(values, spec, &whole, cx)?;
        let squares = source.squares(cx.cancel)?;
        let contexts = Contexts::of(&squares)?;
        let power = squares[0].iter().sum::<f64>() / values.len().max(1) as f64;
        drop(squares);
        let mut search = Search::new(self, &source, contexts.as_ref(), &whole, power, cx);
        let most = if let Target::Bits(bits) = self.target { budget(bits, values.len()) } else { u64::MAX };
        let mut aim = most as f64;
        // The search uses an estimate of the size, which may be too low.
        for round in 0..ROUNDS {
            let Some(tried) = search.run(aim)? else { return Ok(None) };
            if matches!(self.target, Target::Error(_)) && !tried.meets() {
                continue;
            }
            let payload = tried.coding.payload(&source, &tried.found, cx)?;
            if payload.bytes() <= most {
                return Ok(Some(payload));
            }
            aim = lower_aim(most, payload.bytes(), aim + tried.bytes_above(values.len()), round);
        }
        if !matches!(self.target, Target::Bits(_)) {
            return Ok(None);
        }
        let zeros = search.zeros()?;
        zeros.map(|zeros| zeros.coding.payload(&source, &zeros.found, cx)).transpose()
    }
}

/// Most rounds: the first search, and repeated ones if it missed a rate by a few bytes.
const ROUNDS: i32 = 5;

fn presets() -> Vec<Preset> {
    let preset = |name, states, bits| Preset::new(name, Trellis::new(states, Target::Bits(bits)));
    vec![
        preset("2bit-fast", States::FAST, 2.0),
        preset("3bit-fast", States::FAST, 3.0),
        preset("4bit-fast", States::FAST, 4.0),
        preset("5bit-fast", States::FAST, 5.0),
        preset("2bit-balanced", States::BALANCED, 2.0),
        preset("3bit-balanced", States::BALANCED, 3.0),
        preset("4bit-balanced", States::BALANCED, 4.0),
        preset("5bit-balanced", States::BALANCED, 5.0),
        preset("2bit-best", States::BEST, 2.0),
        preset("3bit-best", States::BEST, 3.0),
        preset("4bit-best", States::BEST, 4.0),
        preset("5bit-best", States::BEST, 5.0),
        // A thirtieth of 32 bits, rounded down.
        preset("30x", States::BEST, 1.0666),
    ]
}

/// A rate of each kind, and the ends of every key.
fn probes() -> Vec<String> {
    let specs = [
        "trellis:states=4:bits=0.25",
        "trellis:states=8:bits=3",
        "trellis:states=16:bits=16",
        "trellis:states=32:bits=8:lambda=0",
        "trellis:states=64:bits=0.5:lambda=1",
        "trellis:states=256:bits=2",
        "trellis:states=1024:bits=4",
        "trellis:preset=30x",
        "trellis:error=1",
        "trellis:error=0.03",
        "trellis:states=16:error=1e-9",
        "trellis:step=0.1",
        "trellis:step=1e-30",
        "trellis:step=1",
    ];
    specs.map(str::to_owned).into()
}

register_codec!(
    "trellis",
    "entropy-coded trellis quantisation, near the rate-distortion bound",
    presets,
    .probes(probes).slow_presets()
);
