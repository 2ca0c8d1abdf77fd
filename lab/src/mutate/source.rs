//! The files that are damaged: encoded tensors of one codec, in every preset and probe.

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use codec_api::{
    BaseTensor, Bytes, Calibration, Codec, Dtype, EncodeCx, EncodedTensor, InputAxis, Need, Registry, TensorSpec,
    TensorView, util,
};
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{Rng, SeedableRng};

use super::edit::damage;

/// Dtypes and shapes of the tensors; a codec has to accept one of them.
const TENSORS: [(Dtype, [usize; 2]); 6] = [
    (Dtype::F32, [4, 64]),
    (Dtype::F32, [3, 70]),
    (Dtype::BF16, [2, 256]),
    (Dtype::F16, [8, 32]),
    (Dtype::I16, [5, 7]),
    (Dtype::BOOL, [4, 64]),
];

/// The files of one codec.
pub struct Source<'a> {
    pub registry: &'a Registry,
    files: Vec<File>,
}

/// An encoded tensor as bytes, and its base.
struct File {
    bytes: Vec<u8>,
    base: Option<(TensorSpec, Bytes)>,
}

impl<'a> Source<'a> {
    pub fn new(registry: &'a Registry, id: &str) -> Result<Self> {
        let entry = registry.entries().find(|entry| entry.id == id).with_context(|| format!("no codec is `{id}`"))?;
        let mut codecs: Vec<_> = registry.presets_of(id).iter().map(|(_, codec)| codec.clone()).collect();
        for spec in (entry.probes)() {
            codecs.push(registry.parse_spec(&spec)?);
        }
        let mut files = Vec::new();
        for codec in codecs {
            for (dtype, shape) in TENSORS {
                files.extend(File::new(&codec, &TensorSpec::new(dtype, shape)?)?);
            }
        }
        ensure!(!files.is_empty(), "{id} encodes none of the tensors");
        Ok(Self { registry, files })
    }

    /// The mutant of this number.
    pub fn mutant(&self, seed: u64, index: u64) -> Vec<u8> {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed.wrapping_add(index.wrapping_mul(0x9e37_79b9_7f4a_7c15)));
        let mut bytes = self.file(index).bytes.clone();
        for _ in 0..=rng.next_u64() % 3 {
            damage(&mut bytes, &mut rng);
        }
        bytes
    }

    /// The base of the file that this mutant is made from.
    pub fn base(&self, index: u64) -> Option<BaseTensor<'_>> {
        let (spec, bytes) = self.file(index).base.as_ref()?;
        Some(BaseTensor::new(TensorView::new(spec.clone(), bytes).ok()?))
    }

    fn file(&self, index: u64) -> &File {
        &self.files[(index % self.files.len() as u64) as usize]
    }
}

impl File {
    /// `None` if the codec refuses the tensor.
    fn new(codec: &Arc<dyn Codec>, spec: &TensorSpec) -> Result<Option<Self>> {
        let (bytes, near) = (contents(spec, 0)?, contents(spec, 1)?);
        let squares: Vec<f32> = (0..spec.matrix().1).map(|i| 0.5 + (i % 5) as f32).collect();
        let (needs, mut cx) = (codec.needs(), EncodeCx::new(0));
        let base = (needs.base != Need::No).then(|| (spec.clone(), Bytes::from(near)));
        if let Some((spec, bytes)) = &base {
            cx = cx.with_base(BaseTensor::new(TensorView::new(spec.clone(), bytes)?));
        }
        if needs.calibration != Need::No {
            cx = cx.with_calibration(Calibration::new(InputAxis::Columns, &squares));
        }
        match EncodedTensor::encode(codec.clone(), TensorView::new(spec.clone(), &bytes)?, &cx) {
            Ok(encoded) => {
                let bytes = encoded.to_bytes()?;
                drop(cx);
                Ok(Some(Self { bytes, base }))
            }
            Err(e) if e.is_refusal() => Ok(None),
            Err(e) => Err(e.into()),
        }
    }
}

/// Weights that are roughly normal, or bytes of another dtype. Two numbers give tensors that are
/// near to each other.
fn contents(spec: &TensorSpec, number: u64) -> Result<Vec<u8>> {
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(7);
    let mut unit = || (rng.next_u64() >> 40) as f32 / (1 << 24) as f32;
    let mut bytes = vec![0; spec.byte_len()];
    if spec.is_float() {
        let scale = 1.0 + 0.01 * number as f32;
        let weights: Vec<f32> = (0..spec.elements()).map(|_| scale * (unit() + unit() + unit() - 1.5)).collect();
        util::narrow(spec.dtype(), &weights, &mut bytes)?;
    } else {
        bytes.fill_with(|| (unit() * 2.0) as u8);
    }
    Ok(bytes)
}
