//! A codec that stores the bytes unchanged, with one fault.

use codec_api::{
    Certificate, Codec, CodecError, CostEstimate, DecodeCx, Dtype, EncodeCx, FormatVersion, Lossless, Need, Needs,
    Payload, PayloadView, Preset, Result, Section, TensorSpec, TensorView, typetag, util::widen,
};
use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    #[default]
    None,
    NoChecksum,
    OneNan,
    NoNegativeZero,
    FloatsOnly,
    DecodesIntegers,
    NotExact,
    RefusesInfinity,
    IgnoresBase,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Exact {
    version: FormatVersion<1>,
    fault: Fault,
}

impl Exact {
    pub fn with(fault: Fault) -> Self {
        Self { fault, ..Self::default() }
    }

    fn checked<'a>(&self, spec: &TensorSpec, payload: &PayloadView<'a>) -> Result<&'a [u8]> {
        let data = payload.bytes("data", Dtype::U8, &[spec.byte_len()])?;
        if self.fault != Fault::NoChecksum {
            payload.verify_checksum(data)?;
        }
        Ok(data)
    }

    /// The mistakes of a codec that converts its bytes to floats and back.
    fn through_floats(&self, tensor: &TensorView<'_>) -> Vec<u8> {
        let mut bytes = tensor.bytes().to_vec();
        if tensor.spec().dtype() == Dtype::F32 {
            for word in bytes.as_chunks_mut::<4>().0 {
                let value = f32::from_le_bytes(*word);
                match self.fault {
                    Fault::OneNan if value.is_nan() => *word = f32::NAN.to_le_bytes(),
                    Fault::NoNegativeZero if value == 0.0 => *word = [0; 4],
                    _ => {}
                }
            }
        }
        bytes
    }
}

#[typetag::serde(name = "broken.exact")]
impl Codec for Exact {
    fn needs(&self) -> Needs {
        Needs::default().base(if self.fault == Fault::IgnoresBase { Need::Requires } else { Need::No })
    }

    fn accepts(&self, spec: &TensorSpec) -> Result<()> {
        if self.fault == Fault::FloatsOnly { spec.require_float() } else { Ok(()) }
    }

    fn cost(&self, spec: &TensorSpec) -> CostEstimate {
        CostEstimate::fixed(spec.byte_len() as u64 + 4)
    }

    fn encode(&self, tensor: TensorView<'_>, cx: &EncodeCx<'_>) -> Result<Payload> {
        cx.cancel.check()?;
        if self.fault == Fault::RefusesInfinity && tensor.spec().is_float() {
            tensor.to_finite_f32()?;
        }
        let bytes = self.through_floats(&tensor);
        cx.progress.tick(tensor.spec().elements() as u64);
        // What the codec states keeps the framework from looking.
        let mut stated = Certificate::exact(0.0);
        stated.exact = self.fault != Fault::NotExact;
        Payload::new().with_measured(stated).with_checksum(&bytes)?.with("data", Section::from_bytes(bytes)?)
    }

    fn decode(&self, spec: &TensorSpec, payload: PayloadView<'_>, _: &DecodeCx<'_>, out: &mut [f32]) -> Result<()> {
        spec.check_output(out.len())?;
        let data = self.checked(spec, &payload)?;
        if self.fault == Fault::DecodesIntegers && spec.dtype() == Dtype::U8 {
            out.iter_mut().zip(data).for_each(|(w, b)| *w = f32::from(*b));
            return Ok(());
        }
        widen(spec.dtype(), data, out)
    }

    fn as_lossless(&self) -> Option<&dyn Lossless> {
        Some(self)
    }
}

impl Lossless for Exact {
    fn decode_bytes(
        &self,
        spec: &TensorSpec,
        payload: PayloadView<'_>,
        _: &DecodeCx<'_>,
        out: &mut [u8],
    ) -> Result<()> {
        let data = self.checked(spec, &payload)?;
        if data.len() != out.len() {
            return Err(CodecError::Usage("lengths".to_owned()));
        }
        out.copy_from_slice(data);
        Ok(())
    }
}

pub fn presets() -> Vec<Preset> {
    vec![Preset::new("sound", Exact::default())]
}
