//! Encode and decode of `hadamard` around codecs on 64 MiB of f32, beside a memcpy of the same
//! output and the codecs alone.
//!
//! All throughput figures count dense f32 bytes, so rows compare directly.

use std::hint::black_box;
use std::time::Duration;

use codec_api::{DecodeCx, EncodeCx, Registry, TensorView};
use codec_compose as _;
use codec_quant as _;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use harness::testing::weights;

const ROWS: usize = 4096;
const COLUMNS: usize = 4096;

const SPECS: [&str; 6] = [
    "quant.int:bits=4:group=128:symmetric=false",
    "hadamard(quant.int:bits=4:group=128:symmetric=false):block=64",
    "hadamard(quant.int:bits=4:group=128:symmetric=false):block=1024",
    "hadamard(quant.int:bits=4:group=128:symmetric=false):block=4096",
    "quant.nf4",
    "hadamard(quant.nf4)",
];

fn speed(c: &mut Criterion) {
    let weights = weights(&format!("gaussian:{ROWS}x{COLUMNS}"), ROWS * COLUMNS);
    let tensor = TensorView::from_f32([ROWS, COLUMNS], &weights).expect("the shape fits");
    let registry = Registry::linked().expect("linked codecs");
    let mut out = vec![0.0f32; weights.len()];
    for encodes in [false, true] {
        let mut group = c.benchmark_group(if encodes { "encode" } else { "decode" });
        group.throughput(Throughput::Bytes(size_of_val(weights.as_slice()) as u64)).sample_size(10);
        group.warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));
        group.bench_function("memcpy", |b| b.iter(|| black_box(&mut out).copy_from_slice(black_box(&weights))));
        for spec in SPECS {
            let codec = registry.parse_spec(spec).expect("a valid spec");
            let encode = || codec.encode(tensor.clone(), &EncodeCx::new(0)).expect("it encodes");
            let payload = encode();
            let cx = DecodeCx::new();
            group.bench_function(spec, |b| {
                if encodes {
                    b.iter(encode);
                } else {
                    b.iter(|| codec.decode(tensor.spec(), payload.view(), &cx, black_box(&mut out)));
                }
            });
        }
        group.finish();
    }
}

criterion_group!(benches, speed);
criterion_main!(benches);
