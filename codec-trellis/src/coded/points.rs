//! The decoded values of multiples of the step.

use codec_api::{Dtype, Payload, PayloadView, Result, Section};
use simd::{LANES, Simd, lanes};

use super::metric::Lanes;
use super::stats::{Magnitude, Stats};

/// Classes of multiples that share a shift towards zero: ±1, ±2, and all others.
const CLASSES: usize = 3;

/// Bits that shifts must gain: the bits of their text, and some for the work of a decoder.
const WORTH: f64 = 64.0;

/// Parts of a step in which shifts are measured.
const PARTS: f64 = 128.0;

/// A multiple `j` is decoded to `±(|j| − shift)·step`, with the shift of its class.
#[derive(Clone, Copy, Debug)]
pub(super) struct Points {
    pub step: f32,
    shifts: [i8; CLASSES],
}

impl Points {
    /// The points nearest to the weights; `step` is the step of the quantisation. Shifts gain for
    /// heavy tails at low rates, otherwise they are 0.
    pub(super) fn fit(stats: &Stats, step: f32) -> Self {
        let [xj, jj] = stats.products(1);
        if jj <= 0.0 || xj <= 0.0 {
            return Self { step: valid(step), shifts: [0; CLASSES] };
        }
        let plain = (xj / jj, [0; CLASSES]);
        let shifted = [xj / jj, slope(stats)].map(|scale| (scale, shifts(stats, scale)));
        // Halving the squared error is worth half a bit per weight.
        let gain = |distortion: f64| 0.5 * stats.weights as f64 * libm::log2(distortion / stats.squares.max(1e-300));
        let text = |shifts: &[i8; CLASSES]| if *shifts == [0; CLASSES] { 0.0 } else { WORTH };
        let cost = |(scale, shifts): &(f64, [i8; CLASSES])| gain(distortion(stats, *scale, *shifts)) + text(shifts);
        let best = std::iter::once(plain).chain(shifted).min_by(|a, b| cost(a).total_cmp(&cost(b)));
        let (scale, shifts) = best.unwrap_or(plain);
        Self { step: valid((f64::from(step) * scale) as f32), shifts }
    }

    /// Reads the points of a payload.
    pub(super) fn read(payload: &PayloadView<'_>) -> Result<Self> {
        let step: Vec<f32> = payload.values(STEP, Dtype::F32, &[1])?;
        let shifts: Vec<i8> =
            if payload.has(SHIFTS) { payload.values(SHIFTS, Dtype::I8, &[CLASSES])? } else { vec![0; CLASSES] };
        match (step.as_slice(), shifts.as_slice()) {
            (&[step], &[a, b, c]) if STEPS.contains(&step) => Ok(Self { step, shifts: [a, b, c] }),
            _ => Err(payload.corrupt(STEP, format!("{step:?} is no step"))),
        }
    }

    pub(super) fn write(self, payload: Payload) -> Result<Payload> {
        let payload = payload.with(STEP, Section::from_values(Dtype::F32, [1], vec![self.step])?)?;
        if self.shifts == [0; CLASSES] {
            return Ok(payload);
        }
        payload.with(SHIFTS, Section::from_values(Dtype::I8, [CLASSES], self.shifts.to_vec())?)
    }

    /// Bytes of the sections.
    pub(super) fn bytes(self) -> usize {
        if self.shifts == [0; CLASSES] { 4 } else { 4 + CLASSES }
    }

    /// The shift of each magnitude; the last entry is for all larger ones.
    pub(super) fn shift_table(self) -> Option<Lanes> {
        let shift = |i: usize| f32::from(self.shifts[(i - 1).min(CLASSES - 1)]) / PARTS as f32;
        (self.shifts != [0; CLASSES]).then(|| lanes!(i => if i == 0 { 0.0 } else { shift(i) }))
    }

    /// The squared error, in squared units of `step`, the step of the quantisation.
    pub(super) fn distortion(self, stats: &Stats, step: f32) -> f64 {
        distortion(stats, f64::from(self.step) / f64::from(step), self.shifts)
    }
}

/// Valid steps, for weights that the exponent left in, or scaled to, 2⁻⁶⁰ to 2⁶⁰. With these, no
/// multiple is beyond f32, even times the factor of an input.
const STEPS: std::ops::RangeInclusive<f32> = 1e-30..=2e19;

/// The nearest valid step. A given step may be far above all weights.
fn valid(step: f32) -> f32 {
    step.clamp(*STEPS.start(), *STEPS.end())
}

const STEP: &str = "step";
const SHIFTS: &str = "shifts";

/// Decodes sixteen weights.
#[inline(always)]
pub(super) fn values<S: Simd>(simd: S, step: f32, shifts: Option<&Lanes>, multiples: &[i32; LANES]) -> Lanes {
    let Some(shifts) = shifts else { return lanes!(i => multiples[i] as f32 * step) };
    let class: [u8; LANES] = lanes!(i => multiples[i].unsigned_abs().min(LANES as u32 - 1) as u8);
    let shift = simd.lookup16(shifts, &class);
    lanes!(i => {
        let j = multiples[i] as f32;
        (j.abs() - shift[i]).copysign(j) * step
    })
}

/// Slope of weights over multiples, from ±3 up, for a line that need not go through zero.
fn slope(stats: &Stats) -> f64 {
    let [count, j, x] = stats.firsts(CLASSES);
    let [xj, jj] = stats.products(CLASSES);
    let spread = count * jj - j * j;
    let plain = stats.products(1);
    if count < 64.0 || spread < count * count * 0.1 { plain[0] / plain[1] } else { (count * xj - j * x) / spread }
}

/// The best shifts for a scale.
fn shifts(stats: &Stats, scale: f64) -> [i8; CLASSES] {
    let part = |count: f64, j: f64, x: f64| {
        let shift = if count > 0.0 && scale > 0.0 { (j - x / scale) / count } else { 0.0 };
        libm::round((shift * PARTS).clamp(-127.0, 127.0)) as i8
    };
    let of = |j: usize| {
        let Magnitude { count, sum } = stats.magnitude(j);
        part(count, count * j as f64, sum)
    };
    let [count, j, x] = stats.firsts(CLASSES);
    [of(1), of(2), part(count, j, x)]
}

fn distortion(stats: &Stats, scale: f64, shifts: [i8; CLASSES]) -> f64 {
    let shift = shifts.map(|shift| f64::from(shift) / PARTS);
    let mut sum = stats.squares;
    for (j, shift) in (1..CLASSES).zip(shift) {
        let Magnitude { count, sum: x } = stats.magnitude(j);
        let point = scale * (j as f64 - shift);
        sum += point * (point * count - 2.0 * x);
    }
    let ([xj, jj], [count, j, x]) = (stats.products(CLASSES), stats.firsts(CLASSES));
    let last = shift[CLASSES - 1];
    sum += scale * scale * (jj - 2.0 * last * j + last * last * count) - 2.0 * scale * (xj - last * x);
    sum.max(0.0)
}
