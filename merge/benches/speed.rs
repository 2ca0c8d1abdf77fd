//! Merges of BF16 matrices in memory, beside a memcpy of the same bytes. Throughput counts the
//! bytes of inputs and output.

use std::hint::black_box;
use std::time::Duration;

use codec_api::util::narrow;
use codec_api::{Bytes, Cancel, Dtype, TensorSpec};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use merge::{Draws, Inputs, Method, Source, Sparsify, Stored, Task, TaskModel};

const SHAPE: [usize; 2] = [4096, 4096];
const STEP: usize = 1 << 15;

fn source(seed: u64) -> Stored {
    let (base, own) = (Draws::new(0, 0, "base"), Draws::new(seed, 0, "own"));
    let unit = |draw: u32| f64::from(draw) / 2_147_483_648.0 - 1.0;
    let value = |i: usize| (0.02 * unit(base.at(i)) + 0.002 * unit(own.at(i))) as f32;
    let values: Vec<f32> = (0..SHAPE[0] * SHAPE[1]).map(value).collect();
    let mut bytes = vec![0; 2 * values.len()];
    narrow(Dtype::BF16, &values, &mut bytes).unwrap_or_default();
    let spec = TensorSpec::new(Dtype::BF16, SHAPE).and_then(|spec| {
        Stored::new(spec, Bytes::from(bytes)).map_err(|e| codec_api::CodecError::Usage(e.to_string()))
    });
    spec.expect("a matrix")
}

fn task(sparsify: Sparsify, rescale: bool) -> Method {
    let model = |i| TaskModel {
        weight: 0.5,
        density: 0.5,
        gamma: 0.01,
        epsilon: 0.1,
        draws: Draws::new(0, i, "x"),
        mask: None,
    };
    let models = (0..2).map(model).collect();
    Method::Task(Task { models, sparsify, consensus: true, normalize: true, rescale, lambda: 1.0 })
}

fn methods(c: &mut Criterion) {
    let sources = [source(1), source(2), source(3)];
    let (models, base) = ([&sources[1] as &dyn Source, &sources[2]], &sources[0] as &dyn Source);
    let all = [base, models[0], models[1]];
    let cancel = Cancel::new();
    let based = Inputs { models: &models, base: Some(base), cancel: &cancel };
    let three = Inputs { models: &all, base: None, cancel: &cancel };
    let elements = SHAPE[0] * SHAPE[1];
    let mut group = c.benchmark_group("merge");
    group.throughput(Throughput::Bytes(8 * elements as u64)).sample_size(10).measurement_time(Duration::from_secs(3));
    let (from, mut to) = (vec![1u8; 4 * elements], vec![0u8; 4 * elements]);
    group.bench_function("memcpy", |b| b.iter(|| to.copy_from_slice(black_box(&from))));
    for (name, method, inputs) in [
        ("linear", Method::Linear { weights: vec![0.5, 0.3, 0.2], normalize: true }, three),
        ("karcher", Method::Karcher { max_iter: 10, tol: 1e-5 }, three),
        ("task_arithmetic", task(Sparsify::Dense, false), based),
        ("ties", task(Sparsify::Magnitude, false), based),
        ("dare_ties", task(Sparsify::Random, true), based),
        ("breadcrumbs_ties", task(Sparsify::Outliers, false), based),
        ("della", task(Sparsify::Ranked, true), based),
    ] {
        let (mut values, mut bytes) = (vec![0.0; STEP], vec![0; 2 * elements]);
        group.bench_function(name, |b| {
            b.iter(|| {
                let prepared = method.prepare(&inputs).expect("inputs fit");
                for (i, bytes) in bytes.chunks_mut(2 * STEP).enumerate() {
                    prepared.apply(&inputs, i * STEP, &mut values).expect("inputs fit");
                    narrow(Dtype::BF16, &values, bytes).expect("lengths fit");
                }
            });
        });
    }
    group.finish();
}

criterion_group!(benches, methods);
criterion_main!(benches);
