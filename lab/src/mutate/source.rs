//! The files that are damaged: encoded tensors of one codec, in every preset and probe.

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use codec_api::rand_xoshiro::Xoshiro256PlusPlus;
use codec_api::rand_xoshiro::rand_core::{Rng, SeedableRng};
use codec_api::{Codec, DecodeCx, Dtype, EncodedTensor, Registry};
use laws::{Sample, damage};

/// Shapes of tensors of each float dtype.
const SHAPES: [[usize; 2]; 3] = [[4, 64], [3, 70], [2, 256]];

/// Other tensors, for exact codecs.
const OTHERS: [(Dtype, [usize; 2]); 2] = [(Dtype::I16, [5, 7]), (Dtype::BOOL, [4, 64])];

/// Key of the description of an encoded tensor in the metadata.
const KEY: &str = "netweight";

/// The files of one codec.
pub struct Source<'a> {
    pub registry: &'a Registry,
    files: Vec<File>,
}

/// An encoded tensor as bytes, with what it was made from.
struct File {
    bytes: Vec<u8>,
    sample: Arc<Sample>,
    codec: Arc<dyn Codec>,
}

impl<'a> Source<'a> {
    /// Encodes the tensors with every preset and probe of the codec `id`.
    pub fn new(registry: &'a Registry, id: &str) -> Result<Self> {
        let entry = registry.entries().find(|entry| entry.id == id).with_context(|| format!("no codec is `{id}`"))?;
        let mut codecs: Vec<_> = registry.presets_of(id).iter().map(|(_, codec)| Arc::clone(codec)).collect();
        for spec in (entry.probes)() {
            codecs.push(registry.parse_spec(&spec)?);
        }
        let (samples, mut files) = (samples()?, Vec::new());
        for codec in &codecs {
            for sample in &samples {
                files.extend(File::new(codec, sample)?);
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
            damage(&mut bytes, KEY, &mut rng);
        }
        bytes
    }

    /// The context for decoding the mutant of this number: it has the base that the original has.
    pub fn decode_cx(&self, index: u64) -> Result<DecodeCx<'_>> {
        let file = self.file(index);
        Ok(file.sample.decode_cx(file.codec.needs())?)
    }

    fn file(&self, index: u64) -> &File {
        &self.files[(index % self.files.len() as u64) as usize]
    }
}

fn samples() -> Result<Vec<Arc<Sample>>> {
    let floats = laws::FLOAT_DTYPES.into_iter().flat_map(|dtype| SHAPES.map(|shape| Sample::bell(dtype, &shape)));
    let others = OTHERS.map(|(dtype, shape)| Sample::bits(dtype, &shape));
    Ok(floats.chain(others).map(|sample| sample.map(Arc::new)).collect::<Result<_, _>>()?)
}

impl File {
    /// `None` if the codec refuses the tensor.
    fn new(codec: &Arc<dyn Codec>, sample: &Arc<Sample>) -> Result<Option<Self>> {
        match EncodedTensor::encode(Arc::clone(codec), sample.view()?, &sample.encode_cx(codec.needs())?) {
            Ok(encoded) => {
                let bytes = encoded.to_bytes()?;
                Ok(Some(Self { bytes, sample: Arc::clone(sample), codec: Arc::clone(codec) }))
            }
            Err(e) if e.is_refusal() => Ok(None),
            Err(e) => Err(e.into()),
        }
    }
}
