//! Reductions in one fixed order: sixteen partial results, then a tree. The order depends only on
//! the length, so every level gives the same bits.

use crate::{LANES, kernel, lanes, load};

/// Sixteen partial results.
pub type Lanes<T> = [T; LANES];

kernel! {
    /// `max |x|`: 0 without values, infinity if a value is not finite.
    pub fn max_abs<'a>(simd, values: &'a [f32]) -> f32 {
        let mut largest = [0; LANES];
        for x in values.chunks(LANES) {
            largest = simd.max_magnitude(&largest, &load(x));
        }
        simd.reduce_max(&magnitudes(largest))
    }
}

/// Converts bits of magnitudes to numbers; NaN becomes infinity.
#[inline(always)]
pub fn magnitudes(bits: Lanes<u32>) -> Lanes<f32> {
    lanes!(i => f32::from_bits(bits[i].min(f32::INFINITY.to_bits())))
}

/// Adds sixteen partial sums with a balanced tree.
#[inline(always)]
pub fn sum<T: Copy + std::ops::Add<Output = T>>(lanes: Lanes<T>) -> T {
    let mut tree = lanes;
    // The compiler does not always unroll a loop over the widths.
    halve::<T, 8>(&mut tree);
    halve::<T, 4>(&mut tree);
    halve::<T, 2>(&mut tree);
    tree[0] + tree[1]
}

#[inline(always)]
fn halve<T: Copy + std::ops::Add<Output = T>, const WIDTH: usize>(tree: &mut Lanes<T>) {
    for i in 0..WIDTH {
        tree[i] = tree[i] + tree[i + WIDTH];
    }
}

kernel! {
    /// `Σ aᵢ·bᵢ` in f32, with separate multiply and add, up to the shorter length.
    pub fn dot<'a>(_simd, a: &'a [f32], b: &'a [f32]) -> f32 {
        let len = a.len().min(b.len());
        let ((a, last_a), (b, last_b)) = (a[..len].as_chunks(), b[..len].as_chunks());
        let mut lanes = [0.0; LANES];
        for (a, b) in a.iter().zip(b) {
            add_products(&mut lanes, a, b);
        }
        add_products(&mut lanes, &load(last_a), &load(last_b));
        sum(lanes)
    }
}

/// Adds `a[i]·b[i]` to each lane.
#[inline(always)]
fn add_products(lanes: &mut Lanes<f32>, a: &Lanes<f32>, b: &Lanes<f32>) {
    for i in 0..LANES {
        lanes[i] += a[i] * b[i];
    }
}

/// Upper bound of the error of [`dot`] of `n` pairs, relative to the sum of the products'
/// magnitudes. A value is rounded as a product, in n/16 additions of its lane and in 4 of the tree.
pub fn dot_tolerance(n: usize) -> f32 {
    (n.div_ceil(LANES) + 6) as f32 * f32::EPSILON
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Level, with_level};

    fn values(n: usize) -> Vec<f32> {
        (0..n).map(|i| ((i * 7919 + 13) % 1009) as f32 / 331.0 - 1.5).collect()
    }

    #[test]
    fn every_level_gives_the_same_bits() {
        for n in [0, 1, 15, 16, 17, 100, 1000, 4097] {
            let (a, b) = (values(n), values(n + 5).split_off(5));
            let results: Vec<_> = Level::available()
                .into_iter()
                .map(|level| with_level(level, || (dot(&a, &b).to_bits(), max_abs(&a).to_bits())))
                .collect();
            assert!(results.iter().all(|r| *r == results[0]), "length {n}: {results:?}");
        }
    }

    #[test]
    fn results_are_right() {
        let a = values(1000);
        let exact: f64 = a.iter().map(|v| f64::from(*v) * f64::from(*v)).sum();
        assert!((f64::from(dot(&a, &a)) - exact).abs() < 1e-6 * exact);
        assert_eq!(max_abs(&a), a.iter().fold(0.0, |m: f32, v| m.max(v.abs())));
        assert_eq!(max_abs(&[0.0; 20].iter().copied().chain([f32::NAN]).collect::<Vec<_>>()), f32::INFINITY);
        assert_eq!(max_abs(&[1.0, f32::NEG_INFINITY]), f32::INFINITY);
        assert_eq!(max_abs(&[]), 0.0);
    }
}
