//! Rows and products of payloads whose vectors are exact, coarse, and not orthogonal at all.

use codec_api::{DecodeCx, Dtype, EncodedTensor, Inputs, LinearOp, Payload, Product, Section, TensorView};

use crate::common::{encode, low_rank};

const ROWS: usize = 133;
const COLUMNS: usize = 75;
const BATCH: usize = 3;

fn encoded(inner: &str, rank: usize) -> EncodedTensor {
    let values = low_rank([ROWS, COLUMNS], 20, 0.3);
    encode(&format!("lowrank.svd({inner}):rank={rank}"), &[ROWS, COLUMNS], &values).unwrap().encoded
}

/// A payload of exact factors.
fn of_factors(s: &[f32], u: &[f32], v: &[f32]) -> EncodedTensor {
    let mut encoded = encoded("lossless.raw", s.len());
    let cx = codec_api::EncodeCx::new(0);
    let raw = codec_api::Registry::linked().unwrap().parse_spec("lossless.raw").unwrap();
    let coded = |values: &[f32]| {
        let view = TensorView::from_f32([s.len(), values.len() / s.len()], values)?;
        raw.encode(view, &cx)
    };
    let own = Payload::new()
        .with("s", Section::from_values(Dtype::F32, [s.len()], s.to_vec()).unwrap())
        .and_then(|payload| payload.with("exponent", Section::from_values(Dtype::I16, [1], vec![0i16])?));
    let payload = own.and_then(|payload| payload.with_scope("u", coded(u)?)?.with_scope("v", coded(v)?));
    encoded.payload = payload.unwrap();
    encoded
}

/// Two components that cancel except for a small part.
fn cancelling(left: f32) -> EncodedTensor {
    let u: Vec<f32> = (0..ROWS).map(|i| ((i * 37 % 101) as f32 - 50.0) / 50.0).collect();
    let v: Vec<f32> = (0..2 * COLUMNS).map(|i| ((i * 29 % COLUMNS) as f32 - 37.0) / 37.0).collect();
    of_factors(&[1.0, left - 1.0], &[&u[..], &u].concat(), &[&v[..COLUMNS], &v[..COLUMNS]].concat())
}

#[test]
fn every_range_of_rows_is_part_of_the_whole() {
    for encoded in [encoded("quant.int:bits=3", 1), encoded("quant.cast:to=f16", 30)] {
        let whole = encoded.decode(&DecodeCx::new()).unwrap();
        let reader = encoded.open_rows(&DecodeCx::new()).unwrap();
        for (start, end) in (0..=ROWS).flat_map(|start| (start..=ROWS).map(move |end| (start, end))) {
            let mut part = vec![f32::NAN; (end - start) * COLUMNS];
            reader.read(start..end, &mut part).unwrap();
            let wanted = whole[start * COLUMNS..end * COLUMNS].iter();
            assert!(part.iter().map(|v| v.to_bits()).eq(wanted.map(|v| v.to_bits())), "rows {start}..{end}");
        }
    }
}

#[test]
fn a_weight_is_a_sum_in_f64_over_ascending_components() {
    let (shape, rank) = ([301, 299], 140);
    let values = harness::testing::weights("gaussian", shape[0] * shape[1]);
    let coded = encode(&format!("lowrank.svd(lossless.raw):rank={rank}"), &shape, &values).unwrap();
    let view = coded.encoded.payload.view();
    let vectors = |scope, len| view.scoped(scope).values::<f32>("data", Dtype::F32, &[rank, len]).unwrap();
    let (s, u, v) = (coded.s(), vectors("u", shape[0]), vectors("v", shape[1]));
    let power = 2f64.powi(view.values::<i16>("exponent", Dtype::I16, &[1]).unwrap()[0].into());
    for (i, row) in coded.decoded.chunks_exact(shape[1]).enumerate() {
        for (j, w) in row.iter().enumerate() {
            let left = |k: usize| f64::from(s[k]) * power * f64::from(u[k * shape[0] + i]);
            let sum = (0..rank).fold(0.0, |sum, k| sum + left(k) * f64::from(v[k * shape[1] + j]));
            assert_eq!(w.to_bits(), (sum as f32).to_bits(), "weight {i}, {j}");
        }
    }
}

/// The products of all rows, computed range by range; `batch × outputs` values.
fn product(operator: &dyn LinearOp, product: Product, x: &[f32], step: usize) -> Vec<f32> {
    let (_, outputs) = product.sides((ROWS, COLUMNS));
    let (x, mut y) = (Inputs::new(x, BATCH).unwrap(), vec![0.0; outputs * BATCH]);
    for first in (0..ROWS).step_by(step) {
        let rows = first..(first + step).min(ROWS);
        let part = if product == Product::Forward { rows.start * BATCH..rows.end * BATCH } else { 0..y.len() };
        operator.apply(product, rows, &x, &mut y[part]).unwrap();
    }
    y
}

/// The largest error of an output, relative to `‖Ŵ‖·‖x‖`.
fn error(which: Product, weights: &[f32], x: &[f32], y: &[f32]) -> f64 {
    let norm = |values: &[f32]| values.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt();
    let (inputs, outputs) = if which == Product::Forward { (COLUMNS, ROWS) } else { (ROWS, COLUMNS) };
    let weight =
        |i: usize, j: usize| weights[if which == Product::Forward { i * COLUMNS + j } else { j * COLUMNS + i }];
    let mut largest = 0.0f64;
    for (vector, x) in x.chunks_exact(inputs).enumerate() {
        for i in 0..outputs {
            let sum: f64 = x.iter().enumerate().map(|(j, x)| f64::from(weight(i, j)) * f64::from(*x)).sum();
            let off = (f64::from(y[i * BATCH + vector]) - sum).abs();
            largest = largest.max(off / (norm(weights) * norm(x)));
        }
    }
    largest
}

#[test]
fn products_keep_their_tolerance_for_every_input() {
    let (exact, cancelled) = (2e-6, 1e-3);
    for (name, encoded, most) in [
        ("raw", encoded("lossless.raw", 40), exact),
        ("8 bits", encoded("quant.int:bits=8", 20), exact),
        ("2 bits", encoded("quant.int:bits=2", 20), exact),
        ("half cancelled", cancelling(0.5), exact),
        ("nearly cancelled", cancelling(f32::EPSILON), cancelled),
    ] {
        let weights = encoded.decode(&DecodeCx::new()).unwrap();
        let kernel = encoded.codec.as_linear().unwrap();
        let operator = kernel.prepare(&encoded.spec, encoded.payload.view(), &DecodeCx::new()).unwrap();
        assert!(operator.tolerance() < most, "{name}: {}", operator.tolerance());
        for which in [Product::Forward, Product::Transposed] {
            let inputs = if which == Product::Forward { COLUMNS } else { ROWS };
            // A unit vector, alternating signs, and one that points nowhere in particular.
            let x = (0..BATCH * inputs).map(|i| match (i / inputs, i % inputs) {
                (0, j) => f32::from(u8::from(j == 7)),
                (1, j) => 1.0 - 2.0 * (j % 2) as f32,
                (_, j) => ((j * 31 % 97) as f32 - 48.0) / 7.0,
            });
            let x: Vec<f32> = x.collect();
            for step in [ROWS, 50, 29] {
                let off = error(which, &weights, &x, &product(&*operator, which, &x, step));
                assert!(off <= f64::from(operator.tolerance()), "{name}, {which:?} by {step} rows: {off:e}");
            }
        }
    }
}

#[test]
fn the_tolerance_is_honest_where_decoding_clamps_or_nothing_is_left() {
    let tolerance = |encoded: EncodedTensor| {
        let kernel = encoded.codec.as_linear().unwrap();
        kernel.prepare(&encoded.spec, encoded.payload.view(), &DecodeCx::new()).unwrap().tolerance()
    };
    let scaled = |s: f32| of_factors(&[s], &[1.0; ROWS], &[1.0; COLUMNS]);
    assert!(tolerance(scaled(0.0)) < 2e-6 && tolerance(scaled(f32::MAX)) < 2e-6);
    // Each weight is the smallest subnormal number.
    assert!(tolerance(scaled(f32::from_bits(1))) >= 0.5);
    let beyond = of_factors(&[f32::MAX], &[1.5; ROWS], &[1.0; COLUMNS]);
    assert!(tolerance(beyond) >= 0.5);
    assert!(tolerance(cancelling(0.0)) >= 1e-3);
}
