//! Payload sizes of weights.

use std::sync::Arc;

use codec_api::{Dtype, EncodeCx, EncodedTensor, TensorSpec, TensorView};
use codec_lossless::{Exact, Level};
use harness::suite::{Item, Suite, SuiteOptions};

const LEVELS: [Level; 2] = [Level::Fast, Level::Max];

/// Payload bytes, after a check of the round trip.
fn size(spec: &TensorSpec, bytes: &[u8], level: Level) -> usize {
    let tensor = TensorView::new(spec.clone(), bytes).unwrap();
    let encoded = EncodedTensor::encode(Arc::new(Exact::new(level)), tensor, &EncodeCx::new(0)).unwrap();
    assert!(encoded.decode_bytes(&codec_api::DecodeCx::new()).unwrap() == bytes, "{spec}, {level:?}");
    encoded.payload.bytes() as usize
}

/// The only tensor of a seeded suite.
fn matrix(suite: &str) -> Item {
    Suite::parse(suite, &SuiteOptions::default()).unwrap().items.remove(0)
}

/// Payload size in percent of the tensor, at the two levels.
fn percents(item: &Item) -> [f64; 2] {
    LEVELS.map(|level| 100.0 * size(&item.spec, &item.data, level) as f64 / item.data.len() as f64)
}

#[test]
fn gaussian_matrices() {
    let bf16 = matrix("gaussian:2048x2048:bf16");
    let [fast, max] = percents(&bf16);
    assert!(fast <= 66.0 && max <= 65.5, "bf16: {fast} % and {max} %");
    let [fast, max] = percents(&matrix("scale-mixed:2048x2048:bf16"));
    assert!(fast <= 66.05 && max <= 65.7, "bf16 with scales of rows and columns: {fast} % and {max} %");
    let [_, max] = percents(&matrix("gaussian:2048x2048:f32"));
    assert!(max <= 82.8, "f32: {max} %");
    let [_, max] = percents(&matrix("gaussian:2048x2048:f16"));
    assert!(max <= 84.3, "f16: {max} %");
    // The same numbers in F32: the lower bytes are zeros.
    let spec = TensorSpec::new(Dtype::F32, bf16.spec.shape()).unwrap();
    let data = bf16.data.as_chunks::<2>().0.iter().flat_map(|[low, high]| [0, 0, *low, *high]).collect();
    for (level, kept) in LEVELS.iter().zip(percents(&Item { spec, data, ..bf16 })) {
        assert!(kept <= 33.5, "bf16 as f32: {kept} %, {level:?}");
    }
}

#[test]
fn constant_tensors_are_next_to_nothing() {
    for (dtype, element) in [(Dtype::F32, &[0xdb, 0x0f, 0x49, 0x40][..]), (Dtype::BF16, &[0, 0]), (Dtype::U8, &[7])] {
        let spec = TensorSpec::new(dtype, [2048, 2048]).unwrap();
        let bytes = element.repeat(spec.elements());
        for level in LEVELS {
            let size = size(&spec, &bytes, level);
            assert!(size <= 64, "{spec}: {size} bytes, {level:?}");
        }
    }
}

#[test]
fn no_model_takes_more_than_zstandard_or_the_tensor_itself() {
    let path = |model| format!("model:{}/../assets/{model}", env!("CARGO_MANIFEST_DIR"));
    for (model, cast) in ["stories260k", "gpt2_mini_layers"]
        .into_iter()
        .flat_map(|model| [Dtype::F32, Dtype::BF16, Dtype::F16].map(|dtype| (model, dtype)))
    {
        let options = SuiteOptions { cast: Some(cast), ..SuiteOptions::default() };
        let suite = Suite::parse(&path(model), &options).unwrap();
        for item in suite.items.iter().map(|item| suite.prepared(item).unwrap()) {
            let Item { name, spec, data, .. } = &*item;
            let frame = zstd::bulk::compress(data, 3).unwrap().len();
            for level in LEVELS {
                let size = size(spec, data, level);
                assert!(size <= frame.min(data.len()) + 64, "{name}, {spec}: {size} bytes, {frame}, {level:?}");
            }
        }
    }
}

#[test]
fn random_bits_stay_as_they_are() {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut random = || {
        // xorshift64*
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        (state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 56) as u8
    };
    for dtype in laws::ALL_DTYPES {
        for shape in [&[][..], &[1], &[3], &[5, 8], &[200, 4], &[64, 100], &[2, 3, 20_000]] {
            let Ok(spec) = TensorSpec::new(dtype, shape) else { continue };
            let bytes: Vec<u8> = (0..spec.byte_len()).map(|_| random()).collect();
            for level in LEVELS {
                let size = size(&spec, &bytes, level);
                assert!(size <= bytes.len() + 64, "{spec}: {size} bytes, {level:?}");
            }
        }
    }
}
