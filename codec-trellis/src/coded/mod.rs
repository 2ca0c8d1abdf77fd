//! x

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
use quantise::{Rooms, Source};
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
            .scratch(12 * n as u64 + Segments::of(spec).longest() as u64 * (16 + u64::from(self.states.get()) / 8));
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
    /// Decodes rows of the matrix view; others are not touched, but for those in a segment with them.
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
            return match out.iter().position(|v| !v.is_finite()) {
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
        let contexts = Contexts::of(&source, spec)?;
        let power = source.power();
        let mut search = Search {
            codec: self,
            source: &source,
            contexts: contexts.as_ref(),
            exponent,
            power,
            largest: f64::from(largest) * exponent.factor(),
            cx,
            rooms: Rooms::default(),
        };
        let most = if let Target::Bits(bits) = self.target { budget(bits, spec) } else { u64::MAX };
        let mut aim = most as f64;
        // The size that a search goes by is an estimate; a few bytes less the next time, if it was too low.
        for _ in 0..ROUNDS {
            let Some(tried) = search.run(aim)? else { return Ok(None) };
            let payload = self.payload(&source, exponent, &tried, values, spec, cx)?;
            if payload.bytes() <= most {
                return Ok(Some(payload));
            }
            aim -= (payload.bytes() - most) as f64 + 1.0;
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
