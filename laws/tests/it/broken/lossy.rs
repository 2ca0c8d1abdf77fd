//! A codec that keeps the upper half of each f32, with one fault.

use std::sync::atomic::{AtomicU32, Ordering};

use codec_api::{
    Bound, Codec, CodecError, CostEstimate, DecodeCx, Dtype, EncodeCx, FormatVersion, LinearKernel, LinearOp, Need,
    Needs, Payload, PayloadView, Preset, Progressive, Result, Section, TensorSpec, TensorView, max_abs_error, typetag,
};
use serde::{Deserialize, Serialize};
use simd::Level;

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    #[default]
    None,
    // Bound
    FalseBound,
    LooseBound,
    LooserBound,
    LoosestBound,
    NoBound,
    FalseExact,
    Overflows,
    AcceptsAll,
    AcceptsNothing,
    // Determinism
    Counts,
    EncodesByLevel,
    DecodesByLevel,
    TailsByLevel,
    FlushesByLevel,
    EncodesByThreads,
    EncodesByAddress,
    DecodesByAddress,
    // Cost
    WrongCost,
    WideCost,
    ForgetsScratch,
    BoastsScratch,
    ExpectsLess,
    FixedWork,
    // Hostile
    TrustsSections,
    Hangs,
    CostsNothing,
    LevelsCostNothing,
    NoLevels,
    // Refusals
    FailsOnZeros,
    FailsOnZerosInBlocks,
    RefusesSilently,
    RefusesLate,
    KeepsNan,
    WrongIndex,
    PanicsOnEmpty,
    ForgetsCalibration,
    IgnoresCancel,
    TicksTwice,
    // Progressive
    GetsWorse,
    NamesTwice,
    NeedsAll,
    // Linear
    WrongProduct,
    KeepsDense,
    TakesAnyLength,
    PromisesNothing,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Lossy {
    version: FormatVersion<1>,
    fault: Fault,
}

impl Lossy {
    pub fn with(fault: Fault) -> Self {
        Self { fault, ..Self::default() }
    }

    fn has(&self, fault: Fault) -> bool {
        self.fault == fault
    }

    /// The result of `encode` for the faults of law 6.
    fn refuse(&self, values: &[f32]) -> Result<()> {
        match (self.fault, codec_api::first_non_finite(values)) {
            (Fault::KeepsNan, _) => Ok(()),
            (Fault::WrongIndex, Some(index)) => Err(CodecError::NonFinite { index: index + 1 }),
            (_, Some(index)) => Err(CodecError::NonFinite { index }),
            (Fault::FailsOnZeros | Fault::FailsOnZerosInBlocks, _) if values.iter().all(|v| *v == 0.0) => {
                Err(CodecError::Limit("the scale is zero".to_owned()))
            }
            (Fault::RefusesSilently, _) if values.len() % 2 == 1 => {
                Err(CodecError::Unsuitable { reason: String::new(), number: 0.0 })
            }
            (Fault::RefusesLate, _) if values.len() == 1 => Err(CodecError::Unsupported("one element".to_owned())),
            _ => Ok(()),
        }
    }

    fn bound(&self, values: &[f32], decoded: &[f32]) -> Bound {
        let error = max_abs_error(values, decoded);
        match self.fault {
            Fault::FalseBound => Bound::max_abs(error * 0.99),
            Fault::LooseBound => Bound::max_abs(error * 1.5),
            Fault::LooserBound => Bound::max_abs(error * 3.0),
            Fault::LoosestBound => Bound::max_abs(error * 5.0),
            Fault::NoBound => Bound::None,
            Fault::FalseExact => Bound::Exact,
            Fault::Overflows if values.iter().any(|v| overflows(*v)) => Bound::MaxAbs(f32::INFINITY),
            _ => Bound::max_abs(error),
        }
    }

    /// A value that should always be the same.
    fn mark(&self, tensor: &TensorView<'_>, values: &[f32]) -> u32 {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        match self.fault {
            Fault::Counts => COUNT.fetch_add(1, Ordering::Relaxed),
            Fault::EncodesByLevel => Level::current() as u32,
            // The mistake of a kernel that handles its last vector differently.
            Fault::TailsByLevel if !values.len().is_multiple_of(16) => Level::current() as u32,
            // The mistake of a level that flushes subnormal numbers to zero.
            Fault::FlushesByLevel if values.iter().any(|v| v.is_subnormal()) => Level::current() as u32,
            Fault::EncodesByThreads => rayon::current_num_threads() as u32,
            Fault::EncodesByAddress => tensor.bytes().as_ptr().addr() as u32 % 2,
            _ => 0,
        }
    }
}

#[typetag::serde(name = "broken.lossy")]
impl Codec for Lossy {
    fn needs(&self) -> Needs {
        let calibration = if self.has(Fault::ForgetsCalibration) { Need::Requires } else { Need::No };
        Needs::default().calibration(calibration)
    }

    fn accepts(&self, spec: &TensorSpec) -> Result<()> {
        match self.fault {
            Fault::AcceptsAll => Ok(()),
            Fault::AcceptsNothing => Err(CodecError::Unsupported("it is Monday".to_owned())),
            Fault::FailsOnZerosInBlocks => spec.require_float().and_then(|()| spec.require_whole_blocks(128)),
            _ => spec.require_float(),
        }
    }

    fn cost(&self, spec: &TensorSpec) -> CostEstimate {
        let bytes = 4 + 2 * spec.elements() as u64;
        let cost = match self.fault {
            Fault::WrongCost => CostEstimate::fixed(bytes - 4),
            Fault::WideCost => CostEstimate::between(bytes, 10 * bytes + 10_000),
            Fault::CostsNothing => CostEstimate::between(0, bytes),
            Fault::ExpectsLess => CostEstimate::fixed(bytes).rel_rmse(1e-6),
            Fault::FixedWork => CostEstimate::fixed(bytes).ops(1000.0, 1000.0),
            _ => CostEstimate::fixed(bytes),
        };
        cost.scratch(match self.fault {
            Fault::ForgetsScratch => 0,
            Fault::BoastsScratch => 1 << 30,
            _ => 24 * spec.elements() as u64,
        })
    }

    fn encode(&self, tensor: TensorView<'_>, cx: &EncodeCx<'_>) -> Result<Payload> {
        if !self.has(Fault::IgnoresCancel) {
            cx.cancel.check()?;
        }
        let values = tensor.to_f32()?;
        self.refuse(&values)?;
        assert!(!self.has(Fault::PanicsOnEmpty) || !values.is_empty(), "no maximum of nothing");
        let halves: Vec<u16> = values.iter().map(|v| (v.to_bits() >> 16) as u16).collect();
        let decoded: Vec<f32> = halves.iter().map(|h| widened(*h)).collect();
        let bytes: [Vec<u8>; 2] = [1, 0].map(|i| halves.iter().map(|h| h.to_le_bytes()[i]).collect());
        let [high, low] = bytes.map(|b| Section::new(Dtype::U8, [b.len()], b));
        cx.progress.tick(values.len() as u64 * if self.has(Fault::TicksTwice) { 2 } else { 1 });
        Ok(Payload::new(self.bound(&values, &decoded))
            .with("high", high?)
            .with("low", low?)
            .with("mark", Section::from_values(Dtype::U32, [1], vec![self.mark(&tensor, &values)])?))
    }

    fn decode(&self, spec: &TensorSpec, payload: PayloadView<'_>, cx: &DecodeCx<'_>, out: &mut [f32]) -> Result<()> {
        if self.has(Fault::TrustsSections) {
            let (high, low) = (payload.section("high")?.data(), payload.section("low")?.data());
            (0..out.len()).for_each(|i| out[i] = widened(u16::from_le_bytes([low[i], high[i]])));
            return Ok(());
        }
        spec.check_output(out.len())?;
        let high = payload.bytes("high", Dtype::U8, &[out.len()])?;
        while self.has(Fault::Hangs) && !high.is_empty() && high.iter().all(|b| *b == 0x7f) {
            std::thread::yield_now();
        }
        let first = cx.level == Some(0);
        if first && self.has(Fault::NeedsAll) {
            payload.section("low")?;
        }
        let empty = bytes::Bytes::from(vec![0; out.len()]);
        let low = if first { &empty } else { payload.bytes("low", Dtype::U8, &[out.len()])? };
        for ((w, high), low) in out.iter_mut().zip(high).zip(low) {
            *w = widened(u16::from_le_bytes([*low, *high]));
        }
        let wrong = match self.fault {
            Fault::DecodesByLevel => Level::current() == Level::Scalar,
            Fault::DecodesByAddress => high.as_ptr().addr() % 2 == 1,
            Fault::GetsWorse => !first,
            _ => false,
        };
        if self.has(Fault::Overflows) {
            out.iter_mut().filter(|w| overflows(**w)).for_each(|w| *w *= 2.0);
        }
        if wrong {
            for w in out {
                *w = -*w;
            }
        }
        Ok(())
    }

    fn as_progressive(&self) -> Option<&dyn Progressive> {
        Some(self)
    }

    fn as_linear(&self) -> Option<&dyn LinearKernel> {
        Some(self)
    }
}

impl Progressive for Lossy {
    fn levels(&self, spec: &TensorSpec) -> Vec<codec_api::QualityLevel> {
        let n = spec.elements() as u64;
        let again = if self.has(Fault::NamesTwice) { vec!["high"] } else { vec![] };
        if self.has(Fault::NoLevels) {
            return Vec::new();
        }
        let levels = [(vec!["high", "mark"], n + 4), ([vec!["low"], again].concat(), n)];
        let least = |bytes| if self.has(Fault::LevelsCostNothing) { 0 } else { bytes };
        let named = |names: Vec<&str>| names.into_iter().map(str::to_owned).collect();
        levels.map(|(names, bytes)| codec_api::QualityLevel::new(named(names), least(bytes)..=bytes)).into()
    }
}

impl LinearKernel for Lossy {
    fn prepare(&self, spec: &TensorSpec, payload: PayloadView<'_>) -> Result<Box<dyn LinearOp>> {
        let n = spec.elements();
        let (high, low) = (payload.bytes("high", Dtype::U8, &[n])?, payload.bytes("low", Dtype::U8, &[n])?);
        let weights = high.iter().zip(low).map(|(high, low)| widened(u16::from_le_bytes([*low, *high]))).collect();
        let (outputs, inputs) = spec.matrix();
        Ok(Box::new(Operator { fault: self.fault, outputs, inputs, weights }))
    }
}

#[derive(Debug)]
struct Operator {
    fault: Fault,
    outputs: usize,
    inputs: usize,
    weights: Vec<f32>,
}

impl LinearOp for Operator {
    fn apply(&self, x: &[f32], y: &mut [f32]) -> Result<()> {
        let batch = x.len() / self.inputs.max(1);
        if self.fault != Fault::TakesAnyLength && (x.len() != batch * self.inputs || y.len() != batch * self.outputs) {
            return Err(CodecError::Limit("lengths".to_owned()));
        }
        for (x, y) in x.chunks_exact(self.inputs.max(1)).zip(y.chunks_exact_mut(self.outputs.max(1))) {
            for (row, y) in self.weights.chunks_exact(self.inputs.max(1)).zip(y) {
                *y = row.iter().zip(x).map(|(w, x)| w * x).sum();
                // The mistake of a kernel that leaves out its tail.
                if self.fault == Fault::WrongProduct && !self.inputs.is_multiple_of(16) {
                    *y -= row[self.inputs - 1] * x[self.inputs - 1];
                }
            }
        }
        Ok(())
    }

    fn tolerance(&self) -> f32 {
        if self.fault == Fault::PromisesNothing { 2.0 } else { self.inputs as f32 * f32::EPSILON }
    }

    fn resident_bytes(&self) -> u64 {
        let bytes = if self.fault == Fault::KeepsDense { 4 } else { 2 };
        bytes * self.weights.len() as u64
    }
}

/// Whether twice the number is infinite.
fn overflows(value: f32) -> bool {
    value.is_finite() && (2.0 * value).is_infinite()
}

fn widened(half: u16) -> f32 {
    f32::from_bits(u32::from(half) << 16)
}

pub fn presets() -> Vec<Preset> {
    vec![Preset::new("sound", Lossy::default())]
}
