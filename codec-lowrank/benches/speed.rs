//! Encode beside the bare decomposition that it contains; the random block beside the exact method;
//! decode and multiplication beside a memcpy of the dense matrix.

#[path = "../tests/it/harmonic.rs"]
mod harmonic;

use std::hint::black_box;
use std::time::Duration;

use codec_api::{Certificate, Codec, DecodeCx, EncodeCx, Inputs, Product, Registry, TensorView};
use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main, measurement::WallTime};
use faer::diag::Diag;
use faer::dyn_stack::{MemBuffer, MemStack};
use faer::linalg::svd::{ComputeSvdVectors, svd, svd_scratch};
use faer::{Mat, MatRef, Par, Spec};
use harmonic::{best_of_harmonic, harmonic};
use harness::testing::weights;
use {codec_lossless as _, codec_lowrank as _, codec_quant as _};

const SHAPES: [[usize; 2]; 2] = [[768, 768], [3072, 768]];
const RANK: usize = 64;

fn codec(spec: &str) -> std::sync::Arc<dyn Codec> {
    Registry::linked().expect("linked codecs").parse_spec(spec).expect("a valid spec")
}

fn gaussian([rows, columns]: [usize; 2]) -> Vec<f32> {
    weights("gaussian:4096x1024", rows * columns)
}

/// The encoder's call, on the same transposed matrix.
fn bare_svd(a: MatRef<'_, f32>) -> (Diag<f32>, Mat<f32>, Mat<f32>) {
    let (rows, columns) = (a.nrows(), a.ncols());
    let size = rows.min(columns);
    let (mut s, mut u, mut v) = (Diag::zeros(size), Mat::zeros(rows, size), Mat::zeros(columns, size));
    let thin = ComputeSvdVectors::Thin;
    let mut memory = MemBuffer::new(svd_scratch::<f32>(rows, columns, thin, thin, Par::Seq, Spec::default()));
    let stack = MemStack::new(&mut memory);
    svd(a, s.as_mut(), Some(u.as_mut()), Some(v.as_mut()), Par::Seq, stack, Spec::default()).expect("it converges");
    (s, u, v)
}

fn group<'a>(c: &'a mut Criterion, name: &str, shape: [usize; 2]) -> BenchmarkGroup<'a, WallTime> {
    let mut group = c.benchmark_group(format!("{name} {}x{}", shape[0], shape[1]));
    group
        .throughput(Throughput::Bytes(4 * shape.iter().product::<usize>() as u64))
        .sample_size(15)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(3));
    group
}

fn encode(c: &mut Criterion) {
    for shape in SHAPES {
        let values = gaussian(shape);
        let tensor = TensorView::from_f32(shape, &values).expect("the shape fits");
        let mut transposed = Mat::zeros(shape[1], shape[0]);
        for (row, values) in values.chunks(shape[1]).enumerate() {
            transposed.col_as_slice_mut(row).copy_from_slice(values);
        }
        let mut group = group(c, "encode", shape);
        group.bench_function("bare thin SVD", |b| b.iter(|| bare_svd(black_box(transposed.as_ref()))));
        for spec in [
            format!("lowrank.svd:rank={RANK}:method=exact"),
            format!("lowrank.svd(quant.int):rank={RANK}:method=exact"),
        ] {
            let codec = codec(&spec);
            group.bench_function(spec, |b| b.iter(|| codec.encode(black_box(tensor.clone()), &EncodeCx::new(0))));
        }
        group.finish();
    }
}

fn random_block(c: &mut Criterion) {
    let shape = SHAPES[1];
    let values = harmonic(shape);
    let tensor = TensorView::from_f32(shape, &values).expect("the shape fits");
    let best = best_of_harmonic(shape[1], RANK);
    let mut group = group(c, "method", shape);
    for method in ["exact", "randomised"] {
        let codec = codec(&format!("lowrank.svd(lossless.raw):rank={RANK}:method={method}"));
        let payload = codec.encode(tensor.clone(), &EncodeCx::new(0)).expect("it encodes");
        let mut decoded = vec![0.0; values.len()];
        codec.decode(tensor.spec(), payload.view(), &DecodeCx::new(), &mut decoded).expect("it decodes");
        let error = Certificate::measure(&values, &decoded).rel_frobenius();
        println!("{method}: relative error {error:.6}, {:.4} of the least of rank {RANK}", error / best);
        group.bench_function(method, |b| b.iter(|| codec.encode(black_box(tensor.clone()), &EncodeCx::new(0))));
    }
    group.finish();
}

fn decode(c: &mut Criterion) {
    for shape in SHAPES {
        let values = gaussian(shape);
        let tensor = TensorView::from_f32(shape, &values).expect("the shape fits");
        let mut out = vec![0.0; values.len()];
        let mut group = group(c, "decode", shape);
        group.bench_function("memcpy", |b| b.iter(|| black_box(&mut out).copy_from_slice(black_box(&values))));
        for rank in [16, RANK, 256] {
            let codec = codec(&format!("lowrank.svd:rank={rank}:method=randomised"));
            let payload = codec.encode(tensor.clone(), &EncodeCx::new(0)).expect("it encodes");
            group.bench_function(format!("rank {rank}"), |b| {
                b.iter(|| codec.decode(tensor.spec(), payload.view(), &DecodeCx::new(), black_box(&mut out)));
            });
            let kernel = codec.as_linear().expect("it multiplies");
            let operator = kernel.prepare(tensor.spec(), payload.view(), &DecodeCx::new()).expect("its own payload");
            let (x, mut y) = (vec![1.0; shape[1]], vec![0.0; shape[0]]);
            let x = Inputs::new(&x, 1).expect("one vector");
            group.bench_function(format!("rank {rank}, y = W·x"), |b| {
                b.iter(|| operator.apply(Product::Forward, 0..shape[0], black_box(&x), black_box(&mut y)));
            });
        }
        group.finish();
    }
}

criterion_group!(benches, encode, random_block, decode);
criterion_main!(benches);
