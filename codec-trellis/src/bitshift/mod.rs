//! TODO docs

mod block;
mod code;
mod decode;
mod encode;
mod importance;
mod layout;
mod linear;
mod scale;
mod trellis;

use std::num::NonZeroUsize;

pub use code::Code;
use codec_api::{
    Bounded, Chunking, Codec, CostEstimate, DecodeCx, Dtype, EncodeCx, FormatVersion, LinearKernel, Need, Needs,
    Payload, PayloadView, Preset, Result, TensorSpec, TensorView, register_codec, typetag,
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
    /// Bits of a weight.
    pub bits: Bounded<1, 4>,
    /// Bits of a state.
    pub state_bits: Bounded<10, 16>,
    /// How a state becomes a number.
    pub code: Code,
}

impl Default for Bitshift {
    fn default() -> Self {
        Self::new(Bounded::at::<2>(), Bounded::at::<12>(), Code::ThreeInst)
    }
}

impl Bitshift {
    /// So many bits of a weight and of a state, and how that becomes a number.
    pub fn new(bits: Bounded<1, 4>, state_bits: Bounded<10, 16>, code: Code) -> Self {
        Self { version: FormatVersion, bits, state_bits, code }
    }

    /// The best ratio of a scale to the deviation of normal weights.
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
        Chunking::Rows(NonZeroUsize::new(Layout::new(self, spec).rows).unwrap_or(NonZeroUsize::MIN))
    }

    fn cost(&self, spec: &TensorSpec) -> CostEstimate {
        let (layout, n) = (Layout::new(self, spec), spec.elements());
        let bytes = layout.codes_len() + layout.spans() + size_of::<f32>();
        // A search goes twice through all states for each weight.
        let states = 1usize << self.state_bits.get();
        let ops = 2 * 5 * states;
        let search = 4 * states + (8 + MAX_BLOCK.min(n)) * (states >> self.bits.get());
        // The weights as f32 once for each block's place and span's deviation, and once decoded.
        let weights = 5 * n + if spec.dtype() == Dtype::F32 { 0 } else { 4 * n };
        CostEstimate::fixed(bytes as u64).ops(ops as f64 * n as f64, 9.0 * n as f64).scratch((search + weights) as u64)
    }

    fn encode(&self, tensor: TensorView<'_>, cx: &EncodeCx<'_>) -> Result<Payload> {
        encode::encode(self, &tensor, cx)
    }

    fn decode(&self, spec: &TensorSpec, payload: PayloadView<'_>, cx: &DecodeCx<'_>, out: &mut [f32]) -> Result<()> {
        spec.check_output(out.len())?;
        let prepared = decode::Prepared::read(self, spec, &payload)?;
        cx.cancel.check()?;
        prepared.decode(0..prepared.layout.spans(), out);
        Ok(())
    }

    fn as_linear(&self) -> Option<&dyn LinearKernel> {
        Some(self)
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

register_codec!("trellis.bitshift", "bitshift trellis with computed codes (QTIP)", presets);
