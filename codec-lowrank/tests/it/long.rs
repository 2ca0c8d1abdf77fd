//! Matrices with a side of 2¹⁹ and more, and matrices with nearly equal columns: of both, faer's QR
//! decomposition in f32 drops columns. The right errors come from the Gram matrix in f64.

use codec_api::{EncodeCx, EncodedTensor, Registry, TensorView};
use faer::linalg::qr::no_pivoting::factor::{qr_in_place, qr_in_place_scratch};
use faer::traits::RealField;
use faer::{Mat, Par, Side, Spec, dyn_stack::MemBuffer, dyn_stack::MemStack};
use harness::testing::weights;

/// `rows × columns`, row-major: all columns share a part, beside a part of their own, which is
/// `own` times noise. `noise` has at least `rows · columns` elements.
fn similar_columns([rows, columns]: [usize; 2], own: f32, noise: &[f32]) -> Vec<f32> {
    let rows = noise.chunks_exact(columns).take(rows);
    rows.flat_map(|row| row.iter().map(|w| 2.0 * row[0] + own * w)).collect()
}

/// Rows as columns; the matrix is row-major and has this many columns.
fn transposed(values: &[f32], columns: usize) -> Vec<f32> {
    (0..columns).flat_map(|j| values.iter().skip(j).step_by(columns)).copied().collect()
}

/// The smallest relative error of a matrix of this rank.
fn best(values: &[f32], columns: usize, rank: usize) -> f64 {
    let mut gram = Mat::<f64>::zeros(columns, columns);
    for row in values.chunks_exact(columns) {
        for i in 0..columns {
            for j in 0..columns {
                gram[(i, j)] += f64::from(row[i]) * f64::from(row[j]);
            }
        }
    }
    let squares = gram.self_adjoint_eigenvalues(Side::Lower).unwrap();
    (squares[..columns - rank].iter().sum::<f64>().max(0.0) / squares.iter().sum::<f64>()).sqrt()
}

fn error(spec: &str, shape: [usize; 2], values: &[f32]) -> f64 {
    let codec = Registry::linked().unwrap().parse_spec(spec).unwrap();
    let view = TensorView::from_f32(shape, values).unwrap();
    let scratch = codec.cost(view.spec()).scratch_bytes;
    let (encoded, held) = laws::heap::peak(|| EncodedTensor::encode(codec, view, &EncodeCx::new(0)).unwrap());
    // Payload, scratch memory and the buffers of the certificate.
    let most = encoded.payload.bytes() + scratch + (8 << 20);
    assert!(held.unwrap() <= most, "{spec}, {shape:?}: {held:?} bytes, {most} predicted");
    assert!(most <= 14 * 4 * values.len() as u64 + (16 << 20), "{spec}, {shape:?}: {most} bytes");
    encoded.certificate.rel_frobenius()
}

#[test]
fn sides_around_powers_of_two_keep_their_components() {
    let noise = weights("gaussian:1048577x8", 1_048_577 * 8);
    let half = 1 << 19;
    for (rows, columns) in [(half - 1, 6), (half, 6), (half, 2), (half + 1, 3), (2 * half, 4), (2 * half + 1, 8)] {
        let values = similar_columns([rows, columns], 1.0, &noise);
        let rank = 2.min(columns - 1);
        let best = best(&values, columns, rank);
        let flat = transposed(&values, columns);
        // With so few columns, `randomised` computes all components, too.
        let (tall, wide) = if columns % 4 == 2 { ("exact", "randomised") } else { ("randomised", "exact") };
        for (method, shape, values) in [(tall, [rows, columns], &values), (wide, [columns, rows], &flat)] {
            let error = error(&format!("lowrank.svd(lossless.raw):rank={rank}:method={method}"), shape, values);
            assert!((error - best).abs() < 1e-5, "{method}, {shape:?}: {error} instead of {best}");
        }
    }
}

#[test]
fn a_random_block_of_a_long_matrix_finds_the_largest_component() {
    let (rows, columns) = ((1 << 19) + 1, 33);
    let noise = weights("gaussian:524289x33", rows * columns);
    let values = similar_columns([rows, columns], 0.5, &noise);
    let best = best(&values, columns, 1);
    let flat = transposed(&values, columns);
    for (shape, values) in [([rows, columns], &values), ([columns, rows], &flat)] {
        let error = error("lowrank.svd(lossless.raw):rank=1:method=randomised", shape, values);
        assert!((error - best).abs() < 1e-4, "{shape:?}: {error} instead of {best}");
    }
}

/// The parts of the columns of their own are below the fraction at which faer drops a column.
#[test]
fn nearly_equal_columns_keep_what_is_their_own() {
    let (rows, columns) = (8192, 48);
    let noise = weights("gaussian:8192x48", rows * columns);
    for own in [0.02, 1e-3, 1e-4] {
        let values = similar_columns([rows, columns], own, &noise);
        let flat = transposed(&values, columns);
        for (rank, method) in [(1, "randomised"), (5, "randomised"), (1, "exact"), (40, "exact")] {
            let best = best(&values, columns, rank);
            for (shape, values) in [([rows, columns], &values), ([columns, rows], &flat)] {
                let spec = format!("lowrank.svd(lossless.raw):rank={rank}:method={method}");
                let error = error(&spec, shape, values);
                let most = if method == "exact" { 1.0 } else { 1.05 } * best + 1e-6;
                assert!((best - 1e-6..=most).contains(&error), "{spec}, {shape:?}, {own}: {error} instead of {best}");
            }
        }
    }
}

#[test]
fn equal_columns_are_one_component() {
    for shape in [[2000, 5], [5, 2000], [1 << 19, 3], [600, 300]] {
        for value in [1.0, 0.3] {
            let values = vec![value; shape[0] * shape[1]];
            let error = error("lowrank.svd(lossless.raw):rank=1", shape, &values);
            assert!(error < 1e-6, "{shape:?} of {value}: {error}");
        }
    }
}

/// The rank that faer's QR decomposition finds in `rows × 3` signs of full rank.
fn rank_in_qr<T: RealField>(rows: usize, value: impl Fn(f32) -> T) -> usize {
    let mut a = Mat::from_fn(rows, 3, |i, j| value(if (i >> j) % 2 == 0 { 1.0 } else { -1.0 }));
    let mut memory = MemBuffer::new(qr_in_place_scratch::<T>(rows, 3, 1, Par::Seq, Spec::default()));
    let mut factor = Mat::zeros(1, 3);
    qr_in_place(a.as_mut(), factor.as_mut(), Par::Seq, MemStack::new(&mut memory), Spec::default()).rank
}

/// The limit that the crate works around. If this fails, faer has changed, and the decomposition of
/// long matrices may no longer need blocks.
#[test]
fn faer_drops_columns_of_long_matrices_in_f32_but_not_in_f64() {
    assert_eq!([1 << 10, (1 << 19) - 1, 1 << 19].map(|rows| rank_in_qr(rows, |x| x)), [3, 3, 0]);
    assert_eq!(rank_in_qr(1 << 19, f64::from), 3);
}
