//! A codec that keeps the upper half of each f32, with one fault.

use std::sync::atomic::{AtomicU32, Ordering};

use codec_api::{
    Certificate, Codec, CodecError, CostEstimate, DecodeCx, Dtype, EncodeCx, FormatVersion, LinearKernel, Need, Needs,
    Payload, PayloadView, Preset, Progressive, Result, Rows, Section, TensorSpec, TensorView, typetag,
};
use serde::{Deserialize, Serialize};
use simd::Level;

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    #[default]
    None,
    // Certificate
    SmallerError,
    LargerError,
    WrongSquares,
    WrongEnergy,
    ForgetsRounding,
    FalseExact,
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
    AllocatesFirst,
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
    WrongTransposed,
    Overwrites,
    IgnoresRange,
    AddsByThread,
    RoundsByRange,
    ClipsOutliers,
    KeepsDense,
    TakesAnyLength,
    PromisesNothing,
    // Rows
    WrongRows,
    WrongShape,
    Allocates,
    ReadsByThread,
    TakesAnyRows,
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

    pub fn fault(&self) -> Fault {
        self.fault
    }

    fn has(&self, fault: Fault) -> bool {
        self.fault == fault
    }

    /// The result of `encode` for the faults of law 6.
    fn refuse(&self, values: &[f32]) -> Result<()> {
        match (self.fault, codec_api::util::first_non_finite(values)) {
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

    /// What an encoder that measures states.
    fn stated(&self, values: &[f32], decoded: &[f32]) -> Option<Certificate> {
        let mut stated = Certificate::measure(values, decoded);
        match self.fault {
            Fault::SmallerError => stated.max_abs *= 0.99,
            Fault::LargerError => stated.max_abs *= 1.01,
            Fault::WrongSquares => stated.squared_error *= 1.01,
            Fault::WrongEnergy => stated.energy *= 1.01,
            Fault::FalseExact => stated = Certificate::exact(stated.energy),
            Fault::ForgetsRounding => {}
            _ => return None,
        }
        Some(stated)
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
        let decoded: Vec<f32> = halves.iter().map(|h| self.widened(*h)).collect();
        let bytes: [Vec<u8>; 2] = [1, 0].map(|i| halves.iter().map(|h| h.to_le_bytes()[i]).collect());
        let [high, low] = bytes.map(|b| Section::new(Dtype::U8, [b.len()], b));
        cx.progress.tick(values.len() as u64 * if self.has(Fault::TicksTwice) { 2 } else { 1 });
        let payload = Payload::new().with("high", high?)?.with("low", low?)?;
        let payload = self.stated(&values, &decoded).map_or(payload.clone(), |stated| payload.with_measured(stated));
        payload.with("mark", Section::from_values(Dtype::U32, [1], vec![self.mark(&tensor, &values)])?)
    }

    fn decode(&self, spec: &TensorSpec, payload: PayloadView<'_>, _: &DecodeCx<'_>, out: &mut [f32]) -> Result<()> {
        self.decode_part(false, spec, &payload, out)
    }

    fn as_progressive(&self) -> Option<&dyn Progressive> {
        Some(self)
    }

    fn as_linear(&self) -> Option<&dyn LinearKernel> {
        Some(self)
    }

    fn as_rows(&self) -> Option<&dyn Rows> {
        Some(self)
    }
}

impl Lossy {
    /// The value of an upper half.
    pub fn widened(&self, half: u16) -> f32 {
        // A decoder's values need not be values of the stored dtype.
        widened(half) * if self.has(Fault::ForgetsRounding) { 1.001 } else { 1.0 }
    }

    /// Decodes both sections, or only the first one.
    fn decode_part(&self, first: bool, spec: &TensorSpec, payload: &PayloadView<'_>, out: &mut [f32]) -> Result<()> {
        if self.has(Fault::TrustsSections) {
            let (high, low) = (payload.section("high")?.data(), payload.section("low")?.data());
            (0..out.len()).for_each(|i| out[i] = widened(u16::from_le_bytes([low[i], high[i]])));
            return Ok(());
        }
        if self.has(Fault::AllocatesFirst) {
            drop(std::hint::black_box(vec![1u8; 100 << 20]));
        }
        spec.check_output(out.len())?;
        let high = payload.bytes("high", Dtype::U8, &[out.len()])?;
        while self.has(Fault::Hangs) && !high.is_empty() && high.iter().all(|b| *b == 0x7f) {
            std::thread::yield_now();
        }
        if first && self.has(Fault::NeedsAll) {
            payload.section("low")?;
        }
        let empty = bytes::Bytes::from(vec![0; out.len()]);
        let low = if first { &empty } else { payload.bytes("low", Dtype::U8, &[out.len()])? };
        for ((w, high), low) in out.iter_mut().zip(high).zip(low) {
            *w = self.widened(u16::from_le_bytes([*low, *high]));
        }
        let wrong = match self.fault {
            Fault::DecodesByLevel => Level::current() == Level::Scalar,
            Fault::DecodesByAddress => high.as_ptr().addr() % 2 == 1,
            Fault::GetsWorse => !first,
            _ => false,
        };
        if wrong {
            for w in out {
                *w = -*w;
            }
        }
        Ok(())
    }
}

impl Progressive for Lossy {
    fn decode_level(
        &self,
        level: usize,
        spec: &TensorSpec,
        payload: PayloadView<'_>,
        _: &DecodeCx<'_>,
        out: &mut [f32],
    ) -> Result<()> {
        self.decode_part(level == 0, spec, &payload, out)
    }

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

fn widened(half: u16) -> f32 {
    f32::from_bits(u32::from(half) << 16)
}

pub fn presets() -> Vec<Preset> {
    vec![Preset::new("sound", Lossy::default())]
}
