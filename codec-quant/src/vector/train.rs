//! Training of codebooks: k-means++ and Lloyd's rounds on a sample, then rounds over all vectors.

use codec_api::{Cancel, EncodeCx, Result};
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::Rng;
use simd::LANES;

use super::points::{MAX_LENGTH, Points, Source};
use super::search::{Books, Found, approach, assign};

/// Sample size: vectors for each centroid, and the limits of the total.
const PER_CENTROID: usize = 64;
const LEAST_SAMPLE: usize = 1 << 14;
const LARGEST_SAMPLE: usize = 1 << 18;
/// Most rounds on the sample.
const ROUNDS: usize = 50;
/// Most rounds over all vectors.
const FULL_ROUNDS: usize = 10;
/// Rounds end when one lowers the error by less than this share.
const LEAST_GAIN: f64 = 1e-3;
/// Centroids move this many times the distance to the mean of their vectors, which saves rounds.
const STEP: f64 = 1.8;
/// Passes over all vectors: the full rounds, the round that ends with the means, and the assignment
/// to rounded centroids.
pub(super) const PASSES: usize = FULL_ROUNDS + 2;
/// Blocks assigned between two checks for cancellation.
const PART: usize = 64;

/// Trains a codebook of each of these sizes for all vectors; the second one begins with the
/// residuals of the first.
pub(super) fn train(source: &Source<'_>, points: &Points, sizes: &[usize], cx: &EncodeCx<'_>) -> Result<Vec<Vec<f32>>> {
    let mut rng = cx.rng(0);
    let wanted = sample_size(sizes.iter().copied());
    let drawn = (points.count > wanted).then(|| source.gather(strata(points.count, wanted, &mut rng)));
    let sample = drawn.as_ref().unwrap_or(points);
    let mut books: Vec<Vec<f32>> = Vec::with_capacity(sizes.len());
    for size in sizes {
        let rest = match books.as_slice() {
            [] => None,
            before => Some(sample.less(&before[0], &Assignment::new(sample, before, cx.cancel)?.indices[0])),
        };
        books.push(seed(rest.as_ref().unwrap_or(sample), *size, &mut rng, cx.cancel)?);
        lloyd(sample, &mut books, ROUNDS, STEP, cx.cancel)?;
    }
    if drawn.is_some() {
        lloyd(points, &mut books, FULL_ROUNDS, STEP, cx.cancel)?;
    }
    lloyd(points, &mut books, 1, 1.0, cx.cancel)?;
    Ok(books)
}

/// Number of vectors in the sample, if the tensor has that many.
pub(super) fn sample_size(books: impl Iterator<Item = usize>) -> usize {
    books.fold(0, |most, size| most.max(size * PER_CENTROID)).clamp(LEAST_SAMPLE, LARGEST_SAMPLE)
}

/// One vector from each of `count` strata of nearly equal size.
fn strata(vectors: usize, count: usize, rng: &mut Xoshiro256PlusPlus) -> impl ExactSizeIterator<Item = usize> {
    (0..count).map(move |i| {
        let (first, next) = (i * vectors / count, (i + 1) * vectors / count);
        first + (rng.next_u64() % (next - first) as u64) as usize
    })
}

/// Centroids by k-means++: each is a vector, drawn with probability proportional to its squared
/// distance from the earlier centroids. When all vectors are centroids, the remaining centroids are
/// zero.
fn seed(points: &Points, size: usize, rng: &mut Xoshiro256PlusPlus, cancel: &Cancel) -> Result<Vec<f32>> {
    let mut distances = vec![[1.0; LANES]; points.blocks()];
    if let Some(last) = distances.last_mut() {
        last[(points.count - 1) % LANES + 1..].fill(0.0);
    }
    let mut totals: Vec<f32> = distances.iter().map(|lanes| simd::sum(*lanes)).collect();
    let mut book = vec![0.0; size * points.length];
    for (k, centroid) in book.chunks_mut(points.length).enumerate() {
        cancel.check()?;
        let Some(drawn) = draw(&distances, &totals, rng) else { break };
        if k == 0 {
            distances.as_flattened_mut()[..points.count].fill(f32::INFINITY);
        }
        for (c, x) in centroid.iter_mut().zip(points.vector(drawn)) {
            *c = x;
        }
        approach(points, centroid, &mut distances, &mut totals);
    }
    Ok(book)
}

/// A vector drawn with probability proportional to its distance; `None` if all are zero.
fn draw(distances: &[[f32; LANES]], totals: &[f32], rng: &mut Xoshiro256PlusPlus) -> Option<usize> {
    let total: f64 = totals.iter().copied().map(f64::from).sum();
    let left = total * ((rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64);
    let (block, left) = reach(totals, left)?;
    let (lane, _) = reach(&distances[block], left)?;
    Some(block * LANES + lane)
}

/// The first index at which the sum exceeds `left`, or the last with a share above zero; and the
/// rest of `left` before that index.
fn reach(shares: &[f32], mut left: f64) -> Option<(usize, f64)> {
    let mut last = None;
    for (i, share) in shares.iter().enumerate().filter(|(_, share)| **share > 0.0) {
        last = Some((i, left));
        if left < f64::from(*share) {
            break;
        }
        left -= f64::from(*share);
    }
    last
}

/// Lloyd's rounds: assign vectors to their nearest centroids, then move centroids to their vectors.
fn lloyd(points: &Points, books: &mut [Vec<f32>], most: usize, step: f64, cancel: &Cancel) -> Result<()> {
    let mut before = f64::INFINITY;
    for _ in 0..most {
        let found = Assignment::new(points, books, cancel)?;
        found.move_centroids(points, books, step);
        if found.total >= before * (1.0 - LEAST_GAIN) {
            break;
        }
        before = found.total;
    }
    Ok(())
}

/// The nearest centroid, or pair of centroids, of each vector.
pub(super) struct Assignment {
    /// Indices for each codebook.
    pub(super) indices: Vec<Vec<u16>>,
    /// Squared distances.
    pub(super) errors: Vec<f32>,
    total: f64,
}

impl Assignment {
    pub(super) fn new(points: &Points, books: &[Vec<f32>], cancel: &Cancel) -> Result<Self> {
        let cross = products(books, points.length);
        let (mut first, mut errors) = (vec![0; points.count], vec![0.0; points.count]);
        let mut second = vec![0; if books.len() > 1 { points.count } else { 0 }];
        let mut seconds = second.chunks_mut(PART * LANES);
        let parts = first.chunks_mut(PART * LANES).zip(errors.chunks_mut(PART * LANES));
        for (part, (first, errors)) in parts.enumerate() {
            cancel.check()?;
            let found = Found { first, second: seconds.next().unwrap_or_default(), errors };
            let books = Books { first: &books[0], second: books.get(1).map(Vec::as_slice), cross: &cross };
            assign(points, part * PART, books, found);
        }
        let total = errors.iter().copied().map(f64::from).sum();
        let indices = [first, second].into_iter().take(books.len()).collect();
        Ok(Self { indices, errors, total })
    }

    /// Moves centroids `step` times the distance to the means of their vectors, after subtracting
    /// the other codebook's centroids. A centroid without vectors moves to the vector farthest from
    /// its own.
    fn move_centroids(&self, points: &Points, books: &mut [Vec<f32>], step: f64) {
        for s in 0..books.len() {
            let sums = self.sums(points, books, s);
            for (c, [wx, w]) in books[s].iter_mut().zip(&sums) {
                if *w > 0.0 {
                    *c += (step * (wx / w - f64::from(*c))) as f32;
                }
            }
            let empty: Vec<usize> = (0..sums.len()).step_by(points.length).filter(|at| sums[*at][1] == 0.0).collect();
            for (at, i) in empty.iter().zip(self.farthest(empty.len())) {
                let x = self.target(points, books, s, i);
                books[s][*at..*at + points.length].copy_from_slice(&x[..points.length]);
            }
        }
    }

    /// Sums of `w·x` and `w` over the vectors of each centroid of codebook `s`, for each
    /// coordinate.
    fn sums(&self, points: &Points, books: &[Vec<f32>], s: usize) -> Vec<[f64; 2]> {
        let mut sums = vec![[0.0; 2]; books[s].len()];
        for (i, index) in self.indices[s].iter().enumerate() {
            let (x, w) = (self.target(points, books, s, i), points.importance(i));
            let at = usize::from(*index) * points.length;
            for (d, sums) in sums[at..at + points.length].iter_mut().enumerate() {
                sums[0] += f64::from(x[d]) * f64::from(w[d]);
                sums[1] += f64::from(w[d]);
            }
        }
        sums
    }

    /// Vector `i` minus its centroid in the codebook other than `s`.
    fn target(&self, points: &Points, books: &[Vec<f32>], s: usize, i: usize) -> [f32; MAX_LENGTH] {
        let mut x = points.vector(i);
        for other in (0..books.len()).filter(|other| *other != s) {
            let at = usize::from(self.indices[other][i]) * points.length;
            for (x, c) in x.iter_mut().zip(&books[other][at..at + points.length]) {
                *x -= c;
            }
        }
        x
    }

    /// At most `wanted` vectors with the largest errors above zero; ties go to the first.
    fn farthest(&self, wanted: usize) -> Vec<usize> {
        let mut far: Vec<usize> = (0..self.errors.len()).filter(|i| wanted > 0 && self.errors[*i] > 0.0).collect();
        far.sort_unstable_by(|a, b| self.errors[*b].total_cmp(&self.errors[*a]).then(a.cmp(b)));
        far.truncate(wanted);
        far
    }
}

/// The products of each first centroid with each second one.
fn products(books: &[Vec<f32>], length: usize) -> Vec<f32> {
    let [first, second] = books else { return Vec::new() };
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum();
    first.chunks(length).flat_map(|a| second.chunks(length).map(move |b| dot(a, b))).collect()
}
