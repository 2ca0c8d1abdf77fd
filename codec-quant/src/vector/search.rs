//! The hot loops of training: the nearest centroid, or pair of centroids, of every vector; and the
//! distance to one centroid.
//!
//! The loops compare `‖c‖²/2 − x·c` instead of `‖x − c‖²`. For a pair of centroids they add the
//! scores of both and `c·c'`. With importances the score is `Σ w·(c/2 − x)·c`. Ties go to the
//! first.

use simd::{LANES, Simd, kernel, lanes, sum};

use super::points::{Block, Points, with_length};

/// One codebook, or two whose centroids are added.
#[derive(Clone, Copy)]
pub(super) struct Books<'a> {
    /// Centroids, coordinate by coordinate.
    pub(super) first: &'a [f32],
    /// Centroids of the second codebook, if there is one.
    pub(super) second: Option<&'a [f32]>,
    /// The products `c·c'` of each first centroid with each second one.
    pub(super) cross: &'a [f32],
}

/// Output of an assignment: slices of one length; `second` is empty without a second codebook.
pub(super) struct Found<'a> {
    pub(super) first: &'a mut [u16],
    pub(super) second: &'a mut [u16],
    /// Squared distances.
    pub(super) errors: &'a mut [f32],
}

kernel! {
    /// Assigns the vectors from block `from` on to their nearest centroids until `found` is full.
    pub(super) fn assign<'a>(simd, points: &'a Points, from: usize, books: Books<'a>, found: Found<'a>) {
        with_length!(points.length, V => assign_at::<V, _>(simd, points, from, books, found));
    }
}

#[inline(always)]
fn assign_at<const V: usize, S: Simd>(simd: S, points: &Points, from: usize, books: Books<'_>, found: Found<'_>) {
    let (first, second) = (books.first.as_chunks::<V>().0, books.second.map(|book| book.as_chunks::<V>().0));
    let mut halves = vec![0.0; first.len()];
    for (half, c) in halves.iter_mut().zip(first) {
        *half = half_square(c);
    }
    let mut scores = vec![[0.0; LANES]; second.map_or(0, <[_]>::len)];
    let Found { first: firsts, second: seconds, errors } = found;
    let mut seconds = seconds.chunks_mut(LANES);
    let places = firsts.chunks_mut(LANES).zip(errors.chunks_mut(LANES));
    for (b, (firsts, errors)) in places.enumerate() {
        let (x, w) = (points.x::<V>(from + b), points.w::<V>(from + b));
        let nearest = match (second, points.weighted()) {
            (None, false) => nearest(simd, x, first, &halves),
            (None, true) => nearest_weighted(simd, x, &w, first),
            (Some(second), false) => nearest_pair(simd, x, first, &halves, second, books.cross, &mut scores),
            (Some(second), true) => nearest_pair_weighted(simd, x, &w, first, second, &mut scores),
        };
        let seconds = seconds.next().unwrap_or_default();
        for (lane, (error, index)) in errors.iter_mut().zip(firsts).enumerate() {
            let (mut i, mut other) = (nearest[lane] as usize, [0.0; V]);
            if let Some(second) = second {
                seconds[lane] = (i % second.len()) as u16;
                other = second[i % second.len()];
                i /= second.len();
            }
            *index = i as u16;
            *error = 0.0;
            for d in 0..V {
                let rest = x[d][lane] - first[i][d] - other[d];
                *error += rest * rest * w[d][lane];
            }
        }
    }
}

#[inline(always)]
fn half_square<const V: usize>(c: &[f32; V]) -> f32 {
    let mut half = 0.0;
    for c in c {
        half += c * c * 0.5;
    }
    half
}

#[inline(always)]
fn score<const V: usize, S: Simd>(simd: S, x: &Block<V>, c: &[f32; V], half: f32) -> [f32; LANES] {
    let mut score = [half; LANES];
    for d in 0..V {
        score = simd.subtract_product(&score, &x[d], &[c[d]; LANES]);
    }
    score
}

#[inline(always)]
fn score_weighted<const V: usize, S: Simd>(simd: S, wx: &Block<V>, w: &Block<V>, c: &[f32; V]) -> [f32; LANES] {
    let mut score = [0.0; LANES];
    for d in 0..V {
        let slope = simd.subtract_product(&wx[d], &w[d], &[c[d] * 0.5; LANES]);
        score = simd.subtract_product(&score, &slope, &[c[d]; LANES]);
    }
    score
}

#[inline(always)]
fn nearest<const V: usize, S: Simd>(simd: S, x: &Block<V>, centroids: &[[f32; V]], halves: &[f32]) -> [u32; LANES] {
    let (mut best, mut index) = ([f32::INFINITY; LANES], [0; LANES]);
    for (k, (c, half)) in centroids.iter().zip(halves).enumerate() {
        simd.keep_least(&score(simd, x, c, *half), k as u32, &mut best, &mut index);
    }
    index
}

#[inline(always)]
fn nearest_weighted<const V: usize, S: Simd>(
    simd: S,
    x: &Block<V>,
    w: &Block<V>,
    centroids: &[[f32; V]],
) -> [u32; LANES] {
    let wx = products(x, w);
    let (mut best, mut index) = ([f32::INFINITY; LANES], [0; LANES]);
    for (k, c) in centroids.iter().enumerate() {
        simd.keep_least(&score_weighted(simd, &wx, w, c), k as u32, &mut best, &mut index);
    }
    index
}

/// Index of the first centroid times the number of second ones, plus the index of the second.
#[inline(always)]
fn nearest_pair<const V: usize, S: Simd>(
    simd: S,
    x: &Block<V>,
    first: &[[f32; V]],
    halves: &[f32],
    second: &[[f32; V]],
    cross: &[f32],
    scores: &mut [[f32; LANES]],
) -> [u32; LANES] {
    for (score_of, c) in scores.iter_mut().zip(second) {
        *score_of = score(simd, x, c, half_square(c));
    }
    let (mut best, mut index, mut k) = ([f32::INFINITY; LANES], [0; LANES], 0);
    for ((c, half), cross) in first.iter().zip(halves).zip(cross.chunks(second.len())) {
        let of_first = score(simd, x, c, *half);
        for (of_second, cross) in scores.iter().zip(cross) {
            let both = simd.add(&simd.add(&of_first, &[*cross; LANES]), of_second);
            simd.keep_least(&both, k, &mut best, &mut index);
            k += 1;
        }
    }
    index
}

/// Like [`nearest_pair`], with importances. The products of centroids depend on the vector, so they
/// are computed from its residual after the first centroid.
#[inline(always)]
fn nearest_pair_weighted<const V: usize, S: Simd>(
    simd: S,
    x: &Block<V>,
    w: &Block<V>,
    first: &[[f32; V]],
    second: &[[f32; V]],
    halves: &mut [[f32; LANES]],
) -> [u32; LANES] {
    let wx = products(x, w);
    for (half, c) in halves.iter_mut().zip(second) {
        *half = score_weighted(simd, &[[0.0; LANES]; V], w, c);
    }
    let (mut best, mut index, mut k) = ([f32::INFINITY; LANES], [0; LANES], 0);
    for c in first {
        let of_first = score_weighted(simd, &wx, w, c);
        let mut rest = wx;
        for d in 0..V {
            rest[d] = simd.subtract_product(&wx[d], &w[d], &[c[d]; LANES]);
        }
        for (half, c) in halves.iter().zip(second) {
            let mut both = simd.add(&of_first, half);
            for d in 0..V {
                both = simd.subtract_product(&both, &rest[d], &[c[d]; LANES]);
            }
            simd.keep_least(&both, k, &mut best, &mut index);
            k += 1;
        }
    }
    index
}

#[inline(always)]
fn products<const V: usize>(x: &Block<V>, w: &Block<V>) -> Block<V> {
    let mut wx = *x;
    for d in 0..V {
        wx[d] = lanes!(i => w[d][i] * x[d][i]);
    }
    wx
}

kernel! {
    /// Lowers the squared distance of each vector to its distance from `centroid` if that is
    /// smaller, and sums the distances of each block.
    pub(super) fn approach<'a>(
        simd,
        points: &'a Points,
        centroid: &'a [f32],
        distances: &'a mut [[f32; LANES]],
        totals: &'a mut [f32],
    ) {
        with_length!(points.length, V => approach_at::<V, _>(simd, points, centroid, distances, totals));
    }
}

#[inline(always)]
fn approach_at<const V: usize, S: Simd>(
    simd: S,
    points: &Points,
    centroid: &[f32],
    distances: &mut [[f32; LANES]],
    totals: &mut [f32],
) {
    for (b, (distances, total)) in distances.iter_mut().zip(totals).enumerate() {
        let (x, w) = (points.x::<V>(b), points.w::<V>(b));
        let mut square = [0.0; LANES];
        for d in 0..V {
            let error = simd.subtract_product(&x[d], &[1.0; LANES], &[centroid[d]; LANES]);
            let square_of = simd.subtract_product(&[0.0; LANES], &error, &error);
            square = simd.subtract_product(&square, &square_of, &w[d]);
        }
        simd.keep_least(&square, 0, distances, &mut [0; LANES]);
        *total = sum(*distances);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "test helpers may")]
mod tests {
    use codec_api::util::Importance;
    use codec_api::{Calibration, Cancel, Dtype, EncodeCx, InputAxis, TensorSpec};
    use simd::{Level, with_level};

    use super::super::points::{MAX_LENGTH, Source};
    use super::super::train::Assignment;
    use super::*;

    const COUNT: usize = 37;

    fn noise(n: usize, seed: u64) -> Vec<f32> {
        let mut state = seed;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
        };
        (0..n).map(|_| next() + next()).collect()
    }

    /// The least squared distance over all pairs, or over all centroids without a second codebook.
    fn least(points: &Points, i: usize, first: &[f32], second: &[f32]) -> f64 {
        let (x, w) = (points.vector(i), points.importance(i));
        let pairs = first.chunks(points.length).flat_map(|a| second.chunks(points.length).map(move |b| (a, b)));
        let square = |(a, b): (&[f32], &[f32])| -> f64 {
            let error = |d: usize| f64::from(x[d]) - f64::from(a[d]) - f64::from(b[d]);
            (0..points.length).map(|d| f64::from(w[d]) * error(d) * error(d)).sum()
        };
        pairs.map(square).fold(f64::INFINITY, f64::min)
    }

    /// `COUNT` vectors; each coordinate has an importance if `weighted`.
    fn points(length: usize, weighted: bool) -> Points {
        let values = noise(COUNT * length, 1);
        let spec = TensorSpec::new(Dtype::F32, [values.len()]).unwrap();
        let squares: Vec<f32> = noise(values.len(), 2).iter().map(|w| w.abs() + 0.01).collect();
        let inputs = Calibration::new(InputAxis::Columns, &squares);
        let cx = if weighted { EncodeCx::new(0).with_calibration(inputs) } else { EncodeCx::new(0) };
        let importance = Importance::new(&spec, &cx).unwrap();
        Source { values: &values, length, unit: 1.0, importance }.gather(0..COUNT)
    }

    #[test]
    fn the_nearest_is_found_at_every_level() {
        let cases = (2..=MAX_LENGTH).flat_map(|v| [(v, false, 0), (v, true, 0), (v, false, 5), (v, true, 5)]);
        for (length, weighted, size) in cases {
            let points = points(length, weighted);
            let books = [noise(9 * length, 3), noise(size * length, 4)];
            let books = &books[..if size > 0 { 2 } else { 1 }];
            let zero = vec![0.0; length];
            let second = books.get(1).unwrap_or(&zero);
            let mut levels = Level::available()
                .into_iter()
                .map(|level| with_level(level, || Assignment::new(&points, books, &Cancel::new()).unwrap()));
            let found = levels.next().unwrap();
            for (i, error) in found.errors.iter().enumerate() {
                let wanted = least(&points, i, &books[0], second);
                assert!((f64::from(*error) - wanted).abs() < 1e-5, "length {length}, vector {i}: {error} and {wanted}");
            }
            assert!(levels.all(|other| other.indices == found.indices && other.errors == found.errors));
        }
    }
}
