//! The step that keeps to a rate or an error.

use codec_api::{EncodeCx, Result, TensorSpec};

use super::config::{Target, Trellis};
use super::encode::{Coding, Contexts, fixed_bytes};
use super::exponent::Exponent;
use super::machine::States;
use super::quantise::{Plan, Quantised, Rooms, Source, run};

/// Passes over the whole tensor, and over a part of it before, at most.
const PASSES: usize = 8;

/// Bits a weight below which the rate is part of what a path costs: above, the nearest points are as good.
const LOW_RATE: f64 = 1.5;

/// Passes at a given step and a low rate, until rates and costs agree.
const SETTLING: usize = 4;

/// Rates are met to this part.
const TOLERANCE: f64 = 0.003;

/// A part of a tensor is enough to come as near as this, in bits a weight.
const NEAR: f64 = 0.02;

/// What any payload may take, in bytes and in bits a weight: then all weights may become 0, at least.
const LEAST_BYTES: f64 = 24.0;
pub(super) const LEAST_BITS: f64 = 0.25;

/// The squared error of a trellis of few states, in squared steps.
const DISTORTION: f64 = 0.26;

/// What is searched in, and for whom.
pub(super) struct Search<'a> {
    pub codec: &'a Trellis,
    pub source: &'a Source<'a>,
    pub contexts: Option<&'a Contexts>,
    pub exponent: Exponent,
    /// Mean square of the weights, and the largest magnitude.
    pub power: f64,
    pub largest: f64,
    pub cx: &'a EncodeCx<'a>,
    pub rooms: Rooms,
}

/// A step that was tried.
pub(super) struct Tried<'a> {
    pub found: Quantised,
    pub coding: Coding<'a>,
    /// How far from what is wanted, in bits a weight; not above 0 if it is met.
    miss: f64,
}

/// The most bytes of a payload at a rate.
pub(super) fn budget(bits: f64, spec: &TensorSpec) -> u64 {
    let weights = spec.elements() as f64;
    (bits * weights / 8.0).max(LEAST_BITS * weights / 8.0 + LEAST_BYTES) as u64
}

impl<'a> Search<'a> {
    /// The best coding that meets the target, or else one that comes near; `bytes` is the most that it may take.
    pub(super) fn run(&mut self, bytes: f64) -> Result<Option<Tried<'a>>> {
        if let Target::Step(step) = self.codec.target {
            return self.at_step(step * self.exponent.factor());
        }
        if self.power == 0.0 {
            return self.at_step(1.0);
        }
        let parts = (self.source.segments.count() / 4).max(1);
        let many = self.codec.states.get() > 2 * States::FAST.get();
        let mut log = libm::log2(self.first_step());
        let mut last = None;
        if parts > 1 || many {
            (log, last) = self.descend(log, None, States::FAST.get(), parts, bytes, NEAR)?.0;
        }
        let ((_, _), best) = self.descend(log, last, self.codec.states.get(), 1, bytes, 0.0)?;
        Ok(best)
    }

    /// All weights 0: of all codings the smallest.
    pub(super) fn zeros(&mut self) -> Result<Option<Tried<'a>>> {
        self.attempt(16.0 * self.largest, None, self.codec.states.get(), 1, f64::INFINITY)
    }

    fn at_step(&mut self, step: f64) -> Result<Option<Tried<'a>>> {
        let mut tried = self.attempt(step, None, self.codec.states.get(), 1, f64::INFINITY)?;
        for _ in 1..SETTLING {
            let Some(last) = tried.as_ref().filter(|last| self.rate(last) < LOW_RATE && self.codec.lambda > 0.0) else {
                break;
            };
            tried = self.attempt(step, Some(&last.found), self.codec.states.get(), 1, f64::INFINITY)?;
        }
        Ok(tried)
    }

    /// A step that would be right for Gaussian weights.
    fn first_step(&self) -> f64 {
        let error = match self.codec.target {
            Target::Bits(bits) => libm::exp2(-2.0 * (bits - 0.08)),
            Target::Error(error) => error,
            Target::Step(_) => 1.0,
        };
        libm::sqrt(self.power * error.min(0.6) / DISTORTION)
    }

    fn rate(&self, tried: &Tried<'_>) -> f64 {
        8.0 * tried.coding.bytes / tried.found.stats.weights as f64
    }

    /// Goes from step to step, by secants, until the target is met, or nearly.
    #[allow(clippy::type_complexity)]
    fn descend(
        &mut self,
        mut log: f64,
        mut last: Option<Quantised>,
        states: u32,
        stride: usize,
        bytes: f64,
        near: f64,
    ) -> Result<((f64, Option<Quantised>), Option<Tried<'a>>)> {
        let falls = matches!(self.codec.target, Target::Bits(_));
        let sign = if falls { -1.0 } else { 1.0 };
        let (mut best, mut slope): (Option<Tried<'a>>, f64) = (None, sign);
        let (mut before, mut bracket): (Option<(f64, f64)>, _) = (None, [f64::NEG_INFINITY, f64::INFINITY]);
        for _ in 0..PASSES {
            let Some(tried) = self.attempt(libm::exp2(log), last.as_ref(), states, stride, bytes)? else { break };
            let (miss, tolerance) = (tried.miss, self.tolerance());
            let met = -tolerance <= miss && miss <= 0.0 || near > 0.0 && miss.abs() < near;
            if let Some((log_before, miss_before)) = before.filter(|(l, _)| (l - log).abs() > 1e-6) {
                slope = sign * (sign * (miss - miss_before) / (log - log_before)).clamp(0.3, 4.0);
            }
            before = Some((log, miss));
            bracket[usize::from((miss > 0.0) != falls)] = log;
            let better = |best: &Tried<'_>| match (miss <= 0.0, best.miss <= 0.0) {
                (true, true) => miss > best.miss,
                (met, other) => met || !other && miss < best.miss,
            };
            let found = if near > 0.0 {
                Some(tried.found)
            } else {
                if best.as_ref().is_none_or(better) {
                    best = Some(tried);
                }
                best.as_ref().map(|best| best.found.light())
            };
            last = found;
            if met {
                break;
            }
            let next = log - (miss + 0.3 * tolerance) / slope;
            let inside = bracket[0] < next && next < bracket[1];
            let middle = 0.5 * (bracket[0] + bracket[1]);
            log = if inside || !middle.is_finite() { next } else { middle };
            // Beyond, all weights are 0, or too many too large for multiples.
            log = log.clamp(libm::log2(self.largest) - 20.0, libm::log2(self.largest) + 4.0);
        }
        Ok(((log, last), best))
    }

    /// How far below the target is near enough, in bits a weight; two bytes are.
    fn tolerance(&self) -> f64 {
        match self.codec.target {
            Target::Bits(bits) => (TOLERANCE * bits).max(16.0 / self.source.weights.len() as f64),
            _ => -0.5 * libm::log2(1.0 - TOLERANCE),
        }
    }

    fn attempt(
        &mut self,
        step: f64,
        last: Option<&Quantised>,
        states: u32,
        stride: usize,
        bytes: f64,
    ) -> Result<Option<Tried<'a>>> {
        let low = match self.codec.target {
            Target::Bits(bits) => bits < LOW_RATE,
            Target::Error(error) => error > libm::exp2(-2.0 * LOW_RATE),
            Target::Step(_) => true,
        };
        let metric = last.filter(|_| low && self.codec.lambda > 0.0).map(|last| self.codec.metric(last));
        let plan = Plan { states, step: step as f32, metric };
        let found = run(self.source, plan, stride, &mut self.rooms, self.cx.cancel)?;
        let contexts = self.contexts.filter(|_| stride == 1);
        let Some(coding) = Coding::best(&found, self.source.segments, contexts) else { return Ok(None) };
        let weights = found.stats.weights as f64;
        let all = self.source.weights.len() as f64;
        let miss = match self.codec.target {
            Target::Bits(_) => 8.0 * (coding.bytes / weights - (bytes - fixed_bytes(self.source, self.exponent)) / all),
            Target::Error(error) => 0.5 * libm::log2(coding.distortion / (weights * self.power * error)),
            Target::Step(_) => 0.0,
        };
        Ok(Some(Tried { found, coding, miss }))
    }
}
