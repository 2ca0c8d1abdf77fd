//! Entropy-coded trellis quantisation, `trellis`: a few hundredths of a bit above Shannon's bound.
//!
//! Every weight becomes a multiple of one step, and multiples are entropy-coded: with a single step for the whole tensor the squared error is the
//! same everywhere, which is what a squared error wants, and the coder gives the frequent multiples fewer bits. A scalar quantiser of that kind is
//! .255 bits above the bound, for its cells are cubes. A trellis makes them rounder: from each of its states only the even or only the odd multiples are
//! allowed, which state follows depends on the multiple, and the Viterbi algorithm finds the cheapest of all paths. A decoder follows the path from the multiples alone.
//!
//! # Source
//! Marcellin and Fischer, *Trellis coded quantization of memoryless and Gauss–Markov sources*, IEEE Trans. Comm. 38 (1990); Fischer and Wang,
//! *Entropy-constrained trellis-coded quantization*, IEEE Trans. IT 38 (1992), whose supersets are these; Ungerboeck, *Channel coding with multilevel/phase
//! signals*, IEEE Trans. IT 28 (1982), table I, for the codes of 4 to 256 states. The models, contexts and points are ours.
//!
//! # Sections
//! The flat tensor of `n` weights, a matrix of `R × C`, is cut into `⌈n/2¹⁸⌉` segments or fewer, each of equally many whole rows, the last maybe of fewer: with
//! `s = ⌈n/2¹⁸⌉`, of `⌈R/s⌉` rows. Where `C > 2¹⁸` they have 2¹⁸ weights, whatever the rows. Segments are coded on their own, with the same model.
//! - `step` F32 `[1]`;
//! - `shifts` I8 `[3]`, if there are any: by how much ±1, ±2 and all larger multiples move towards zero, in 128ths of a step;
//! - `model` U8: how symbols are coded, see below;
//! - `rows` U8, `columns` U8, if there are contexts: a scale for each row and each column, planes of `R` and `C` bytes in the layout of `entropy::plane`;
//! - `streams` U8: the rANS streams of all segments, in the layout of `entropy`, of `w` states for a segment of `m` weights, `w` the largest power of two that is at most
//!   `m/2¹³`, but at least 1 and at most 32; `lengths` U32 `[segments − 1]`, if there are several: the bytes of each stream but the last;
//! - `low` U8, if there are low bits, `L` for each multiple: for each 32 weights of a segment (the last ones maybe fewer) `L` words U32, of which the `b`-th has the
//!   `b`-th low bit of the `i`-th weight at its bit `i`;
//! - `escapes` U8, if there are any, and `escape_lengths` U32 `[segments − 1]`, as for streams: numbers in bytes of seven bits, the lowest first, all but the last of a number with the
//!   eighth bit set. 0 and 1 are followed by a weight as it is, F32; `2·q + 2` is the upper part `q ≥ 0`, and `−2·q + 1` one below;
//! - `exponent` I16 `[1]`, for tensors near the ends of f32: decoded weights are multiplied by 2 to its power, and held within f32;
//! - `input_rows` or `input_columns` U8, if there was calibration: a plane of a byte for each row or column; decoded weights are multiplied by 2 to the power of an eighth of it,
//!   before the exponent.
//!
//! A tensor that would take more than its stored bytes has these instead: `data`, of its dtype and shape. An empty one has no bytes.
//!
//! ## From symbols to weights
//! Weight `i` of a segment belongs to trellis `i mod 32`; all begin in state `s = 0`.
//! - The multiple is `j = 2k + (s mod 2)`, and `k = q·2^L + low`.
//! - The upper part `q` is the symbol minus `reach` minus 1; for symbol 0 it is the next escape's. For a weight that stands in the escapes, it is its number, 0 or 1.
//! - The next state is `⌊s/2⌋`, xor `⌊h0/2⌋` if `s` is odd, xor `⌊h1/2⌋` if `k` is odd.
//! - The weight is `±(|j| − shift)·step` in f32, rounded after each operation.
//!
//! | states | 4 | 8 | 16 | 32 | 64 | 128 | 256 | 1024 |
//! |---|---|---|---|---|---|---|---|---|
//! | `h0`, octal | 5 | 13 | 23 | 45 | 103 | 235 | 515 | 2007 |
//! | `h1`, octal | 2 | 4 | 4 | 10 | 24 | 126 | 362 | 664 |
//!
//! The context of a weight is the mean of its row's and its column's scale, rounded down, 63 at most; without scales it is 0. `model` begins with a byte for the way in which frequencies are told, `L`, and `reach`. In way 0
//! come tables in the layout of `entropy::plane`, for the contexts of even multiples and then, from 64 on (1 without scales), for those of odd ones. In way 1 there are the number of contexts that have tables of their own (those from there
//! on have the last one's), ten times an exponent `e`, and `v` U16: the frequencies of context `c` are those nearest to `exp(−(|j|/2^(v/256 − 64 + c/4))^e)`, for `|j|` the magnitude of the mean of the multiples of a symbol, relative to their sum over all symbols but the escape;
//! those of at most 2⁻¹⁴ are 0, and the escape's is 2⁻¹⁴.
//!
//! ## The search
//! Thirty-two paths go side by side in vectors. The cost of a multiple is its squared distance. Below 1.5 bits a weight its bits count too, `lambda` times, and distance is from where it will be decoded: both as the last pass had them, so that passes
//! agree after a few. Of members of one subset the nearest is taken, or the one on the other side of the weight or of zero. Costs are f32, added in the order of the weights and made small again every 64; of equal ones the lower bit, and
//! last the lower state, is taken. So the path is the same on every CPU.
//!
//! The step is searched by secants: for large tensors on a few segments first, for many states with eight of them, and then with all. Whatever is fitted, tables, points, contexts, alphabets, is fitted to what the pass found, and counted.
//!
//! ## How good it is
//! Bits above Shannon's bound for Gaussian weights of the same energy, everything included, on a million weights (`cargo xtask rate-distortion`, which draws the curves and has more):
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
//! A bitshift trellis of 65,536 states and a fixed rate is at .055 to .117 from 1 to 4 bits, ggml's formats are at .49 to 1.16. 4 Mi Gaussian weights at a given step encode at 61, 51 and 32 million a second with 8, 64
//! and 256 states, and decode at 660 to 960 million (`cargo bench -p netweight-codec-trellis --bench speed`, one core of an AMD EPYC with AVX-512); with AVX2 at 59, 47, 26 and 630 to 835. With the search
//! for a rate they are as fast at 4 bits, and take five times as long at 1.
//!
//! # Header
//! ```
//! let header = r#"{"codec":"trellis","version":1,"states":64,"bits":3.0,"lambda":0.36}"#;
//! let codec: Box<dyn codec_api::Codec> = serde_json::from_str(header)?;
//! assert_eq!(serde_json::to_string(&codec)?, header);
//! # use codec_trellis as _;
//! # Ok::<(), serde_json::Error>(())
//! ```
//! `states` 4, 8, 16, 32, 64, 128, 256 or 1024. What it aims at is one of `bits`, at most so many a weight, .25 to 16; `error`, at most this `‖w − ŵ‖²/‖w‖²`, 10⁻⁹ to 1, where calibration, if it is used, weighs both norms; and `step`, this distance between multiples, 10⁻³⁰ to 10³⁰; without any, 4 bits. `lambda` 0 to 1, for the encoder only.
//! Rate and error are met from the safe side, within .5 % on tensors of 2¹⁶ weights and more; below half a bit, where a path is mostly zeros, within 1 %.
//!
//! # Bound
//! `MaxAbs`, measured; `RelFrobenius`, measured, where a weight near the end of f32 is off by more than an f32 can say.
//!
//! # Cost
//! Never more than the stored bytes. At `bits`, which are `b` bytes, never more than these and `max(24 − b/64, 0)` bytes: step, model and states of tensors below 1.5 KiB are not held against them. The states of the segments' streams, which let rows be decoded without the other segments, are .003 bits a weight of it.
//!
//! # Limits
//! F32, F16 and BF16. Calibration is used where each input has 64 weights or more. A weight of 2²¹ steps and more is stored as it is. An encode keeps about 20 bytes a weight, above 11 bits a weight twice that, and for a segment a bit for each of its weights and states; cut large tensors into chunks of rows.
//! Decoding less than a segment decodes all of it.

mod alphabet;
mod config;
mod decode;
mod encode;
mod escapes;
mod exponent;
mod inputs;
mod machine;
mod metric;
mod model;
mod points;
mod quantise;
mod search;
mod secant;
mod segments;
mod shape;
mod stats;
mod viterbi;

use std::ops::Range;

use codec_api::{
    Bound, Codec, CodecError, CostEstimate, DecodeCx, EncodeCx, Need, Needs, Payload, PayloadView, Preset, Result,
    Section, TensorSpec, TensorView, register_codec, typetag,
};
pub use config::{Target, Trellis};
use decode::Reader;
use encode::Contexts;
use exponent::Exponent;
use inputs::Inputs;
pub use machine::States;
use quantise::Source;
use search::{Search, Tried, budget};
use segments::Segments;

#[typetag::serde(name = "trellis")]
impl Codec for Trellis {
    fn needs(&self) -> Needs {
        Needs::default().calibration(Need::Uses)
    }

    fn accepts(&self, spec: &TensorSpec) -> Result<()> {
        spec.require_float()
    }

    fn cost(&self, spec: &TensorSpec) -> CostEstimate {
        let (n, dense) = (spec.elements() as f64, spec.byte_len() as u64);
        let most = match self.target {
            Target::Bits(bits) => budget(bits, spec).min(dense),
            _ => dense,
        };
        let states = f64::from(self.states.get());
        let least = Segments::of(spec).state_bytes().min(most);
        let cost = CostEstimate::between(least, most)
            .ops(3.0 * (40.0 + 6.0 * states) * n, 30.0 * n)
            .scratch(20 * n as u64 + Segments::of(spec).longest() as u64 * (16 + u64::from(self.states.get()) / 8));
        match self.target {
            Target::Bits(bits) => cost.rel_rmse(libm::exp2(-(bits - 0.08).max(0.0))),
            Target::Error(error) => cost.rel_rmse(libm::sqrt(error)),
            Target::Step(_) => cost,
        }
    }

    fn encode(&self, tensor: TensorView<'_>, cx: &EncodeCx<'_>) -> Result<Payload> {
        let values = tensor.to_finite_f32()?;
        let spec = tensor.spec();
        let payload = match self.encode_values(&values, spec, cx)? {
            Some(payload) if payload.bytes() < spec.byte_len() as u64 => payload,
            _ => Payload::new(Bound::max_abs(0.0))
                .with(DATA, Section::new(spec.dtype(), spec.shape(), tensor.bytes().to_vec())?),
        };
        cx.progress.tick(spec.elements() as u64);
        Ok(payload)
    }

    fn decode(&self, spec: &TensorSpec, payload: PayloadView<'_>, cx: &DecodeCx<'_>, out: &mut [f32]) -> Result<()> {
        spec.check_output(out.len())?;
        self.decode_weights(spec, payload, 0..spec.elements(), cx, out)
    }
}

impl Trellis {
    /// Decodes rows of the matrix view. Only the segments that hold them are decoded.
    ///
    /// # Errors
    /// As [`Codec::decode`]; [`CodecError::Limit`] for rows that are not there.
    pub fn decode_rows(
        &self,
        spec: &TensorSpec,
        payload: PayloadView<'_>,
        rows: Range<usize>,
        cx: &DecodeCx<'_>,
        out: &mut [f32],
    ) -> Result<()> {
        let (all, columns) = spec.matrix();
        if rows.start > rows.end || rows.end > all || out.len() != rows.len() * columns {
            let places = out.len();
            return Err(CodecError::Limit(format!("rows {rows:?} of {all} × {columns} weights into {places} places")));
        }
        self.decode_weights(spec, payload, rows.start * columns..rows.end * columns, cx, out)
    }

    fn decode_weights(
        &self,
        spec: &TensorSpec,
        payload: PayloadView<'_>,
        weights: Range<usize>,
        cx: &DecodeCx<'_>,
        out: &mut [f32],
    ) -> Result<()> {
        cx.cancel.check()?;
        if payload.has(DATA) {
            let data = payload.bytes(DATA, spec.dtype(), spec.shape())?;
            let width = spec.dtype().bitsize() / 8;
            codec_api::widen(spec.dtype(), &data[weights.start * width..weights.end * width], out)?;
            return match codec_api::first_non_finite(out) {
                Some(at) => Err(payload.corrupt(DATA, format!("weight {} is not finite", weights.start + at))),
                None => Ok(()),
            };
        }
        if out.is_empty() {
            return Ok(());
        }
        Reader::new(self.states, spec, payload)?.decode(weights, cx, out)
    }

    /// The payload of quantised weights; `None` without weights.
    fn encode_values(&self, values: &[f32], spec: &TensorSpec, cx: &EncodeCx<'_>) -> Result<Option<Payload>> {
        let largest = simd::max_abs(values);
        let exponent = Exponent::of(largest);
        let mut reduced = Vec::new();
        if !exponent.is_none() {
            reduced = values.to_vec();
            exponent.reduce(&mut reduced);
        }
        let source = Source {
            weights: if exponent.is_none() { values } else { &reduced },
            columns: spec.matrix().1,
            segments: Segments::of(spec),
            inputs: Inputs::of(cx, spec)?,
        };
        let squares = source.squares(cx.cancel)?;
        let contexts = Contexts::of(&squares)?;
        let power = squares[0].iter().sum::<f64>() / values.len().max(1) as f64;
        drop(squares);
        let largest = f64::from(largest) * exponent.factor();
        let mut search = Search::new(self, &source, contexts.as_ref(), exponent, (power, largest), cx);
        let most = if let Target::Bits(bits) = self.target { budget(bits, spec) } else { u64::MAX };
        let mut aim = most as f64;
        // The size that a search goes by is an estimate; a few bytes less the next time, if it was too low.
        for _ in 0..ROUNDS {
            let Some(tried) = search.run(aim)? else { return Ok(None) };
            if matches!(self.target, Target::Error(_)) && !tried.meets() {
                continue;
            }
            let payload = self.payload(&source, exponent, &tried, values, spec, cx)?;
            if payload.bytes() <= most {
                return Ok(Some(payload));
            }
            aim -= (payload.bytes() - most) as f64 + 1.0;
        }
        if !matches!(self.target, Target::Bits(_)) {
            return Ok(None);
        }
        let zeros = search.zeros()?;
        zeros.map(|zeros| self.payload(&source, exponent, &zeros, values, spec, cx)).transpose()
    }

    fn payload(
        &self,
        source: &Source<'_>,
        exponent: Exponent,
        tried: &Tried<'_>,
        values: &[f32],
        spec: &TensorSpec,
        cx: &EncodeCx<'_>,
    ) -> Result<Payload> {
        let mut payload = exponent.write(tried.coding.payload(source, &tried.found, cx)?)?;
        if let Some(inputs) = &source.inputs {
            payload = inputs.write(payload)?;
        }
        let mut decoded = vec![0.0; values.len()];
        self.decode(spec, payload.view(), &cx.decoding(), &mut decoded)?;
        Ok(payload.with_bound(Bound::measure(values, &decoded)))
    }
}

/// Searches at most: the first one, and others if the first missed a rate by a few bytes.
const ROUNDS: usize = 4;

const DATA: &str = "data";

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

register_codec!("trellis", "entropy-coded trellis quantisation, near the rate-distortion bound", presets);
