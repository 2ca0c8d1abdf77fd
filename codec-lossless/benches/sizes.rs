//! Encode and decode of tensors of 256 bytes to 32 MiB, in F32 and BF16, beside a memcpy of the
//! same output: what a codec does once per tensor shows in the small ones.
//!
//! The weights are those of the GPT-2 layers in `assets`, repeated where a tensor is larger.

use std::hint::black_box;
use std::time::Duration;

use codec_api::{DecodeCx, Dtype, EncodeCx, Registry, TensorSpec, TensorView};
use codec_lossless as _;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use harness::suite::{Suite, SuiteOptions};

const SPECS: [&str; 3] = ["lossless:level=fast", "lossless:level=max", "lossless.bf16x12"];
const SIZES: [usize; 6] = [1 << 8, 1 << 12, 1 << 16, 1 << 19, 1 << 22, 1 << 25];

/// Stored bytes of all matrices of the model.
fn weights(dtype: Dtype) -> Vec<u8> {
    let path = format!("model:{}/../assets/gpt2_mini_layers", env!("CARGO_MANIFEST_DIR"));
    let options = SuiteOptions { cast: Some(dtype), ..SuiteOptions::default() };
    let items = Suite::parse(&path, &options).expect("the asset is there").items;
    items.iter().filter(|item| item.spec.shape().len() == 2).flat_map(|item| item.data.to_vec()).collect()
}

fn sizes(c: &mut Criterion) {
    let registry = Registry::linked().expect("codec-lossless is linked");
    for (dtype, width) in [(Dtype::F32, 4), (Dtype::BF16, 2)] {
        let weights = weights(dtype);
        for size in SIZES {
            let bytes: Vec<u8> = weights.iter().copied().cycle().take(size).collect();
            let columns = (size / width).min(256);
            let spec = TensorSpec::new(dtype, [size / width / columns, columns]).expect("a valid shape");
            let tensor = TensorView::new(spec, &bytes).expect("the shape fits");
            let mut out = vec![0u8; size];
            let mut group = c.benchmark_group(format!("{dtype} {size}"));
            group.throughput(Throughput::Bytes(size as u64)).sample_size(10);
            group.warm_up_time(Duration::from_millis(100)).measurement_time(Duration::from_millis(300));
            group.bench_function("memcpy", |b| b.iter(|| black_box(&mut out).copy_from_slice(black_box(&bytes))));
            for name in SPECS.into_iter().filter(|name| *name != "lossless.bf16x12" || dtype == Dtype::BF16) {
                let codec = registry.parse_spec(name).expect("a valid spec");
                let payload = codec.encode(tensor.clone(), &EncodeCx::new(0)).expect("it encodes");
                let lossless = codec.as_lossless().expect("it is lossless");
                let (cx, decode) = (EncodeCx::new(0), DecodeCx::new());
                group.bench_function(format!("encode {name}"), |b| {
                    b.iter(|| codec.encode(black_box(tensor.clone()), &cx));
                });
                group.bench_function(format!("decode {name}"), |b| {
                    b.iter(|| lossless.decode_bytes(tensor.spec(), payload.view(), &decode, black_box(&mut out)));
                });
            }
            group.finish();
        }
    }
}

criterion_group!(benches, sizes);
criterion_main!(benches);
