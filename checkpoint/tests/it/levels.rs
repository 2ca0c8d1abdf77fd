//! Sections of quality levels: the first bytes of a packed file are a coarse model.

use std::fs;

use checkpoint::{Packed, Recipe};
use codec_api::{
    Codec, CostEstimate, DecodeCx, Dtype, EncodeCx, FormatVersion, NoProgress, Payload, PayloadView, Preset,
    Progressive, QualityLevel, Result, Section, TensorSpec, TensorView, read_safetensors_header, register_codec,
    typetag,
};
use serde::{Deserialize, Serialize};

use crate::support::packed::{pack, registry};
use crate::support::{Dir, assert_says, floats, model};

/// The bytes of F32 weights in two levels: the highest byte, then the others in two sections.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Levels {
    version: FormatVersion<1>,
}

fn presets() -> Vec<Preset> {
    vec![Preset::new("default", Levels::default())]
}

register_codec!("test.levels", "bytes of F32 weights in two levels", presets);

#[typetag::serde(name = "test.levels")]
impl Codec for Levels {
    fn cost(&self, spec: &TensorSpec) -> CostEstimate {
        CostEstimate::fixed(4 * spec.elements() as u64)
    }

    fn encode(&self, tensor: TensorView<'_>, _: &EncodeCx<'_>) -> Result<Payload> {
        let (n, bytes) = (tensor.spec().elements(), tensor.bytes());
        let byte = |i: usize| bytes.iter().skip(i).step_by(4).copied();
        let middle = byte(1).zip(byte(2)).map(|(low, high)| u16::from_le_bytes([low, high])).collect::<Vec<_>>();
        Payload::new()
            .with("low", Section::from_bytes(byte(0).collect())?)?
            .with("middle", Section::from_values(Dtype::U16, [n], middle)?)?
            .with("top", Section::from_bytes(byte(3).collect())?)
    }

    fn decode(&self, spec: &TensorSpec, payload: PayloadView<'_>, cx: &DecodeCx<'_>, out: &mut [f32]) -> Result<()> {
        self.decode_level(1, spec, payload, cx, out)
    }

    fn as_progressive(&self) -> Option<&dyn Progressive> {
        Some(self)
    }
}

impl Progressive for Levels {
    fn levels(&self, spec: &TensorSpec) -> Vec<QualityLevel> {
        let n = spec.elements() as u64;
        let level = |names: &[&str], bytes| {
            QualityLevel::new(names.iter().map(|name| (*name).to_owned()).collect(), bytes..=bytes)
        };
        vec![level(&["top"], n), level(&["middle", "low"], 3 * n)]
    }

    fn decode_level(
        &self,
        level: usize,
        spec: &TensorSpec,
        payload: PayloadView<'_>,
        _: &DecodeCx<'_>,
        out: &mut [f32],
    ) -> Result<()> {
        let shape = [spec.elements()];
        let top = payload.bytes("top", Dtype::U8, &shape)?;
        let (low, middle) = if level == 0 {
            (vec![0; shape[0]], vec![0; shape[0]])
        } else {
            (payload.bytes("low", Dtype::U8, &shape)?.to_vec(), payload.values::<u16>("middle", Dtype::U16, &shape)?)
        };
        for (i, out) in out.iter_mut().enumerate() {
            let [second, third] = middle[i].to_le_bytes();
            *out = f32::from_le_bytes([low[i], second, third, top[i]]);
        }
        Ok(())
    }
}

#[test]
fn coarse_levels_come_first_and_every_level_is_aligned() {
    let dir = Dir::new();
    let values: Vec<f32> = (1..16u8).map(|i| f32::from(i) / 7.0 - 1.0).collect();
    let tensors = model(&[("a", "F32", &[3, 5], floats(&values)), ("b", "F32", &[7], floats(&values[..7]))]);
    let source = dir.write("model.safetensors", tensors);
    let mut recipe = Recipe::default();
    recipe.default = "test.levels".to_owned();
    let target = pack(&source, &dir.path().join("m.nw.safetensors"), &recipe);
    let mut bytes = fs::read(&target).unwrap();
    let (header, start) = read_safetensors_header(&bytes).unwrap();
    let expected = [
        "__netweight__/manifest",
        "a/0/top",
        "b/0/top",
        "__netweight__/header/0",
        "__netweight__/padding/1",
        "a/0/middle",
        "b/0/middle",
        "a/0/low",
        "b/0/low",
    ];
    assert_eq!(header.offset_keys(), expected);
    // Before it are the manifest, the highest bytes of 15 and 7 weights, the header, and zeros.
    let manifest = header.info("__netweight__/manifest").unwrap().data_offsets.1;
    assert!(manifest.is_multiple_of(8));
    let (frame, second) = (header.info("__netweight__/header/0").unwrap(), header.info("a/0/middle").unwrap());
    assert_eq!(frame.data_offsets.0, manifest + 22);
    assert!(second.data_offsets.0.is_multiple_of(8) && second.data_offsets.0 > frame.data_offsets.1);
    let padding = start + frame.data_offsets.1;

    let back = dir.path().join("back.safetensors");
    Packed::open(&target, &registry()).unwrap().unpack_single(&back, &NoProgress).unwrap();
    assert_eq!(fs::read(&back).unwrap(), fs::read(&source).unwrap());
    bytes[padding] = 1;
    fs::write(&target, bytes).unwrap();
    let faults = Packed::open(&target, &registry()).unwrap().verify(&NoProgress);
    assert_eq!(faults.len(), 1);
    assert_says(&faults[0], &["`__netweight__/padding/1`", "zeros"]);
}
