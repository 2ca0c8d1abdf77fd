//! Interpolation on spheres. All points are combinations of the input vectors, so that the methods
//! need only the dot products of these vectors, the Gram matrix: one pass over the tensors.

/// The dot products of some vectors, in f64.
#[derive(Clone, Debug)]
pub(super) struct Gram {
    count: usize,
    /// Row by row.
    products: Vec<f64>,
}

impl Gram {
    /// `upper` has the products of the vectors `i ≤ j`, row by row.
    pub(super) fn new(count: usize, upper: &[f64]) -> Self {
        let mut products = vec![0.0; count * count];
        let mut next = upper.iter();
        for i in 0..count {
            for j in i..count {
                let product = next.next().copied().unwrap_or(0.0);
                products[i * count + j] = product;
                products[j * count + i] = product;
            }
        }
        Self { count, products }
    }

    pub(super) fn of(&self, i: usize, j: usize) -> f64 {
        self.products[i * self.count + j]
    }

    pub(super) fn norm(&self, i: usize) -> f64 {
        self.of(i, i).sqrt()
    }

    /// The dot product of two combinations.
    fn product(&self, a: &[f64], b: &[f64]) -> f64 {
        let row = |i: usize| b.iter().enumerate().map(|(j, b)| b * self.of(i, j)).sum::<f64>();
        a.iter().enumerate().map(|(i, a)| a * row(i)).sum()
    }

    fn length(&self, a: &[f64]) -> f64 {
        self.product(a, a).max(0.0).sqrt()
    }
}

/// The coefficients of `slerp(t)` from vector 0 to vector 1. Nearly parallel and antiparallel
/// vectors are interpolated linearly; a vector of zeros has the angle of 90 degrees to any other.
pub(super) fn slerp(gram: &Gram, t: f64) -> [f64; 2] {
    let unit = |i: usize| if gram.norm(i) > 1e-8 { gram.norm(i) } else { 1.0 };
    let cosine = (gram.of(0, 1) / (unit(0) * unit(1))).clamp(-1.0, 1.0);
    if cosine.abs() > 0.9995 { [1.0 - t, t] } else { on_arc(cosine, t) }
}

/// The coefficients of `nuslerp` at the weights' ratio.
pub(super) fn nuslerp(gram: &Gram, [w0, w1]: [f64; 2]) -> [f64; 2] {
    let t = if (w0 + w1).abs() < 1e-6 { 0.5 } else { w1 / (w0 + w1) };
    let cosine = gram.of(0, 1) / (gram.norm(0).max(1e-7) * gram.norm(1).max(1e-7));
    let cosine = cosine.clamp(-1.0, 1.0);
    if 1.0 - cosine * cosine <= 1e-16 { [1.0 - t, t] } else { on_arc(cosine, t) }
}

fn on_arc(cosine: f64, t: f64) -> [f64; 2] {
    let angle = libm::acos(cosine);
    let sine = libm::sin(angle);
    [libm::sin((1.0 - t) * angle) / sine, libm::sin(t * angle) / sine]
}

/// The coefficients of the Karcher mean of the directions, at the mean length.
pub(super) fn karcher(gram: &Gram, max_iter: usize, tol: f64) -> Vec<f64> {
    let weights = vec![1.0 / gram.count as f64; gram.count];
    let Some(mut mean) = start(gram, &weights) else { return vec![0.0; gram.count] };
    for _ in 0..max_iter {
        let tangent = tangent(gram, &weights, &mean);
        if gram.length(&tangent) < tol {
            break;
        }
        mean = step(gram, &mean, &tangent);
    }
    at_length(gram, &weights, mean)
}

/// The coefficients of the normalised weighted mean of the directions, at the mean length. The
/// weighted tangents there that lead to the directions add up to zero.
pub(super) fn multislerp(gram: &Gram, weights: &[f64], normalize: bool) -> Vec<f64> {
    let sum: f64 = weights.iter().sum();
    let weights: Vec<f64> = weights.iter().map(|w| if normalize && sum != 0.0 { w / sum } else { *w }).collect();
    match start(gram, &weights) {
        Some(mean) => at_length(gram, &weights, mean),
        None => weights,
    }
}

/// The coefficients that make a vector a unit vector; none for zeros.
fn directions(gram: &Gram) -> Vec<f64> {
    (0..gram.count).map(|i| if gram.norm(i) > 0.0 { 1.0 / gram.norm(i) } else { 0.0 }).collect()
}

/// The normalised weighted mean of the directions.
fn start(gram: &Gram, weights: &[f64]) -> Option<Vec<f64>> {
    let mean: Vec<f64> = weights.iter().zip(directions(gram)).map(|(w, d)| w * d).collect();
    let length = gram.length(&mean);
    (length > 1e-12).then(|| mean.iter().map(|c| c / length).collect())
}

/// The weighted mean of the tangents at `mean` that lead to the directions.
fn tangent(gram: &Gram, weights: &[f64], mean: &[f64]) -> Vec<f64> {
    let mut sum = vec![0.0; gram.count];
    for (i, direction) in directions(gram).into_iter().enumerate() {
        let cosine = (0..gram.count).map(|j| mean[j] * gram.of(i, j)).sum::<f64>() * direction;
        let cosine = cosine.clamp(-1.0, 1.0);
        let (angle, sine) = (libm::acos(cosine), (1.0 - cosine * cosine).sqrt());
        let factor = weights[i] * if sine > 1e-12 { angle / sine } else { 1.0 };
        sum[i] += factor * direction;
        sum.iter_mut().zip(mean).for_each(|(sum, mean)| *sum -= factor * cosine * mean);
    }
    sum
}

/// The end of the tangent on the sphere.
fn step(gram: &Gram, mean: &[f64], tangent: &[f64]) -> Vec<f64> {
    let length = gram.length(tangent);
    let (along, aside) = if length < 1e-300 { (1.0, 0.0) } else { (libm::cos(length), libm::sin(length) / length) };
    let end: Vec<f64> = mean.iter().zip(tangent).map(|(m, t)| along * m + aside * t).collect();
    let length = gram.length(&end);
    end.iter().map(|c| c / length).collect()
}

/// A direction at the weighted mean of the lengths.
fn at_length(gram: &Gram, weights: &[f64], direction: Vec<f64>) -> Vec<f64> {
    let length: f64 = weights.iter().enumerate().map(|(i, w)| w * gram.norm(i)).sum();
    direction.into_iter().map(|c| c * length).collect()
}
