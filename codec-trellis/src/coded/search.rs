//! The search for the step that meets a rate or an error.

use codec_api::{EncodeCx, Result};

use super::config::{Target, Trellis};
use super::encode::{Coding, Contexts, fixed_bytes};
use super::machine::States;
use super::metric::RateDistortion;
use super::quantise::{Plan, Quantised, Rooms, Source, run};
use super::secant::Secant;
use super::survey::Whole;

/// Most passes over the whole tensor, and over a part of it before. Small tensors have fewer, since
/// their sizes are too coarse for more.
const PASSES: usize = 12;
const FEW_PASSES: usize = 6;

/// Most weights of a small tensor.
const SMALL: usize = 1 << 14;

/// Below this many bits per weight, the cost of a path includes its rate; above, the nearest points
/// are as good.
const LOW_RATE: f64 = 1.5;

/// Passes at a low rate until rates and costs agree. At rates where most weights are 0 they may
/// never agree; after this many passes, the costs stay fixed.
const SETTLING: usize = 4;

/// Relative tolerance of the target.
const TOLERANCE: f64 = 0.003;

/// Distance from the target in bits per weight at which a part of a tensor has done its work, and
/// the costs of multiples stay fixed.
const NEAR: f64 = 0.03;

/// Bytes that a tiny tensor may take above its rate, for step, model and states. A 64th of the
/// rate's bytes is subtracted, so tensors of more than a few thousand weights have no allowance.
const OVERHEAD: f64 = 24.0;

/// Logarithm of the finest step.
const LEAST_LOG: f64 = -98.0;

/// Squared error of a trellis of few states, in squared steps.
const DISTORTION: f64 = 0.26;

/// State of a search over a tensor or a sample of its rows.
pub(super) struct Search<'a> {
    codec: &'a Trellis,
    source: &'a Source<'a>,
    contexts: Option<&'a Contexts>,
    /// Mean square of the tensor's weights, and logarithm of the largest magnitude.
    power: f64,
    largest: f64,
    /// The part of the tensor's weights that `source` has.
    share: f64,
    cx: &'a EncodeCx<'a>,
    rooms: Rooms,
    /// Costs of multiples at a low rate: those of the last pass, until `settled`.
    metric: Option<RateDistortion>,
    settled: bool,
    /// Logarithm of the step at the end of the last search.
    found: Option<f64>,
}

/// The result of a pass with one step.
pub(super) struct Tried<'a> {
    pub found: Quantised,
    pub coding: Coding<'a>,
    /// Distance from the target in bits per weight; at most 0 if the target is met.
    miss: f64,
}

impl Tried<'_> {
    /// Whether the target is met, by the estimates of the search.
    pub(super) fn meets(&self) -> bool {
        self.miss <= 0.0
    }

    /// The estimate of the payload's bytes less those aimed at, for a tensor of so many weights.
    pub(super) fn bytes_above(&self, weights: usize) -> f64 {
        self.miss * weights as f64 / 8.0
    }

    /// Whether this meets the target more closely, or at least misses it by less.
    fn better(&self, than: &Self) -> bool {
        match (self.miss <= 0.0, than.miss <= 0.0) {
            (true, true) => self.miss > than.miss,
            (met, other) => met || !other && self.miss < than.miss,
        }
    }

    fn rate(&self) -> f64 {
        8.0 * self.coding.bytes / self.found.stats.weights as f64
    }
}

/// Largest payload in bytes at a rate.
pub(super) fn budget(bits: f64, weights: usize) -> u64 {
    let bytes = bits * weights as f64 / 8.0;
    (bytes + (OVERHEAD - bytes / 64.0).max(0.0)) as u64
}

impl<'a> Search<'a> {
    /// A search over the weights of a tensor, or a sample of them. The tensor's mean square is
    /// `power`.
    pub(super) fn new(
        codec: &'a Trellis,
        source: &'a Source<'a>,
        contexts: Option<&'a Contexts>,
        whole: &Whole,
        power: f64,
        cx: &'a EncodeCx<'a>,
    ) -> Self {
        let largest = libm::log2(f64::from(whole.largest) * source.exponent.factor());
        let share = source.weights.len() as f64 / whole.weights().max(1) as f64;
        let rooms = Rooms::default();
        Self { codec, source, contexts, power, largest, share, cx, rooms, metric: None, settled: false, found: None }
    }

    /// The best coding that meets the target, or else a near one, of at most `bytes` bytes.
    pub(super) fn run(&mut self, bytes: f64) -> Result<Option<Tried<'a>>> {
        let falls = match self.codec.target {
            _ if self.power == 0.0 => return self.at_step(0.0),
            Target::Step(step) => return self.at_given_step(libm::log2(step * self.source.exponent.factor())),
            Target::Bits(_) => true,
            Target::Error(_) => false,
        };
        let states = self.codec.states.get();
        let limits = (LEAST_LOG.max(self.largest - 120.0), self.zero_log());
        let mut secant = Secant::new(self.found.unwrap_or_else(|| self.first_step()), limits, falls);
        if self.found.is_none() {
            self.approach(&mut secant, bytes)?;
        }
        let mut best: Option<Tried<'a>> = None;
        let passes = if self.source.weights.len() > SMALL { PASSES } else { FEW_PASSES };
        for pass in 0..passes {
            let Some(tried) = self.attempt(secant.log(), states, 1, bytes)? else { break };
            let (miss, tolerance) = (tried.miss, self.tolerance());
            if best.as_ref().is_none_or(|best| tried.better(best)) {
                best = Some(tried);
            }
            if -tolerance <= miss && miss <= 0.0 {
                break;
            }
            if self.low() && !self.settled {
                // Each pass has other costs, so earlier passes say nothing about the next.
                secant.forget();
                self.settled = miss.abs() < NEAR || pass >= SETTLING;
            }
            secant.step(miss + 0.3 * tolerance);
        }
        self.found = Some(secant.log());
        Ok(best)
    }

    /// Approaches the step on a part of a large tensor, and with few states instead of many.
    fn approach(&mut self, secant: &mut Secant, bytes: f64) -> Result<()> {
        let few = States::FAST.get();
        let stride = (self.source.segments.count() / 4).max(1);
        if self.low() {
            // The costs of multiples are not known yet; this pass only finds them.
            self.attempt(secant.log(), few, stride, bytes)?;
        }
        if stride == 1 && (self.codec.states.get() <= 2 * few || self.source.weights.len() <= SMALL) {
            return Ok(());
        }
        for _ in 0..PASSES {
            let Some(tried) = self.attempt(secant.log(), few, stride, bytes)? else { break };
            if self.low() {
                secant.forget();
            }
            secant.step(tried.miss);
            if tried.miss.abs() < NEAR {
                break;
            }
        }
        secant.forget();
        Ok(())
    }

    /// All weights 0: the smallest coding.
    pub(super) fn zeros(&mut self) -> Result<Option<Tried<'a>>> {
        self.metric = None;
        self.attempt(self.zero_log(), self.codec.states.get(), 1, f64::INFINITY)
    }

    /// Logarithm of a step that makes all weights 0.
    fn zero_log(&self) -> f64 {
        if self.power == 0.0 { 0.0 } else { self.largest + 4.0 }
    }

    /// A pass with the step of the header; `None` if it is too fine for the arithmetic.
    fn at_given_step(&mut self, log: f64) -> Result<Option<Tried<'a>>> {
        if log < LEAST_LOG { Ok(None) } else { self.at_step(log.min(self.zero_log())) }
    }

    fn at_step(&mut self, log: f64) -> Result<Option<Tried<'a>>> {
        let mut tried = None;
        for _ in 0..SETTLING {
            tried = self.attempt(log, self.codec.states.get(), 1, f64::INFINITY)?;
            if !self.low() || tried.as_ref().is_none_or(|tried| tried.rate() >= LOW_RATE) {
                break;
            }
        }
        Ok(tried)
    }

    /// Logarithm of the right step for Gaussian weights.
    fn first_step(&self) -> f64 {
        let error = match self.codec.target {
            Target::Bits(bits) => libm::exp2(-2.0 * (bits - 0.08)),
            Target::Error(error) => error,
            Target::Step(_) => 1.0,
        };
        0.5 * libm::log2(self.power * error.min(0.6) / DISTORTION)
    }

    /// Accepted distance below the target in bits per weight; four bytes are always accepted.
    fn tolerance(&self) -> f64 {
        match self.codec.target {
            Target::Bits(bits) => (TOLERANCE * bits).max(32.0 / self.source.weights.len() as f64),
            _ => -0.5 * libm::log2(1.0 - TOLERANCE),
        }
    }

    /// Whether costs include rates.
    fn low(&self) -> bool {
        let low = match self.codec.target {
            Target::Bits(bits) => bits < LOW_RATE,
            Target::Error(error) => error > libm::exp2(-2.0 * LOW_RATE),
            Target::Step(_) => true,
        };
        low && self.codec.lambda > 0.0
    }

    /// Quantises every `stride`-th segment with the step of logarithm `log`.
    fn attempt(&mut self, log: f64, states: u32, stride: usize, bytes: f64) -> Result<Option<Tried<'a>>> {
        let plan = Plan { states, step: libm::exp2(log) as f32, metric: self.metric };
        let found = run(self.source, plan, stride, &mut self.rooms, self.cx.cancel)?;
        if self.low() && !self.settled {
            self.metric = Some(RateDistortion::of(&found.stats, self.codec.lambda));
        }
        // Contexts are not counted on a part of the segments.
        let contexts = self.contexts.filter(|_| stride == 1);
        let Some(coding) = Coding::best(&found, self.source.segments, contexts) else { return Ok(None) };
        let weights = found.stats.weights as f64;
        let all = self.source.weights.len() as f64;
        let miss = match self.codec.target {
            Target::Bits(_) => {
                // The tables of a sample serve all rows.
                let coded = coding.bytes - (1.0 - self.share) * coding.tables;
                8.0 * (coded / weights - (bytes - fixed_bytes(self.source)) / all)
            }
            Target::Error(error) => 0.5 * libm::log2(coding.distortion / (weights * self.power * error)),
            Target::Step(_) => 0.0,
        };
        Ok(Some(Tried { found, coding, miss }))
    }
}
