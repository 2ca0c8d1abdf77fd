//! The vectors of a tensor as kernels want them: sixteen side by side, coordinate by coordinate.

use codec_api::Importance;
use simd::LANES;

/// Calls `$value` with the constant `$V` equal to a vector's length.
macro_rules! with_length {
    ($length:expr, $V:ident => $value:expr) => {
        match $length {
            2 => crate::vector::points::with_length!(@ $V = 2, $value),
            3 => crate::vector::points::with_length!(@ $V = 3, $value),
            4 => crate::vector::points::with_length!(@ $V = 4, $value),
            5 => crate::vector::points::with_length!(@ $V = 5, $value),
            6 => crate::vector::points::with_length!(@ $V = 6, $value),
            7 => crate::vector::points::with_length!(@ $V = 7, $value),
            _ => crate::vector::points::with_length!(@ $V = 8, $value),
        }
    };
    (@ $V:ident = $length:literal, $value:expr) => {{
        const $V: usize = $length;
        $value
    }};
}
pub(super) use with_length;

/// The longest vectors.
pub(super) const MAX_LENGTH: usize = 8;

/// The coordinates of sixteen vectors, or what each counts.
pub(super) type Block<const V: usize> = [[f32; LANES]; V];

/// A tensor's weights as vectors, the last one filled up with zeros.
pub(super) struct Source<'a> {
    pub(super) values: &'a [f32],
    /// Weights of a vector.
    pub(super) length: usize,
    /// A power of two that brings the largest weight to where F16 is precise.
    pub(super) unit: f32,
    pub(super) importance: Option<Importance>,
}

impl Source<'_> {
    /// How many vectors there are.
    pub(super) fn count(&self) -> usize {
        self.values.len().div_ceil(self.length)
    }

    /// These vectors of all.
    pub(super) fn gather(&self, vectors: impl ExactSizeIterator<Item = usize>) -> Points {
        let (length, count) = (self.length, vectors.len());
        let rows = count.div_ceil(LANES) * length;
        let mut points = Points { length, count, x: vec![[0.0; LANES]; rows], w: Vec::new() };
        points.w.resize(if self.importance.is_some() { rows } else { 0 }, [0.0; LANES]);
        for (i, vector) in vectors.enumerate() {
            let (row, lane) = (i / LANES * length, i % LANES);
            let places = vector * length..self.values.len().min((vector + 1) * length);
            for (d, value) in self.values[places.clone()].iter().enumerate() {
                points.x[row + d][lane] = value * self.unit;
            }
            if let Some(importance) = &self.importance {
                for (d, place) in places.enumerate() {
                    points.w[row + d][lane] = importance.of(place);
                }
            }
        }
        points
    }
}

/// Vectors in blocks of sixteen; what fills the last block up is zero.
#[derive(Clone)]
pub(super) struct Points {
    pub(super) length: usize,
    pub(super) count: usize,
    x: Vec<[f32; LANES]>,
    /// What each squared error counts; empty if all count alike.
    w: Vec<[f32; LANES]>,
}

impl Points {
    pub(super) fn blocks(&self) -> usize {
        self.count.div_ceil(LANES)
    }

    pub(super) fn weighted(&self) -> bool {
        !self.w.is_empty()
    }

    /// Coordinates of a block.
    #[inline(always)]
    pub(super) fn x<const V: usize>(&self, block: usize) -> &Block<V> {
        &self.x.as_chunks().0[block]
    }

    /// What the coordinates of a block count.
    #[inline(always)]
    pub(super) fn w<const V: usize>(&self, block: usize) -> Block<V> {
        if self.w.is_empty() { [[1.0; LANES]; V] } else { self.w.as_chunks().0[block] }
    }

    /// One vector; what is beyond its length is zero.
    pub(super) fn vector(&self, i: usize) -> [f32; MAX_LENGTH] {
        self.lane(&self.x, i)
    }

    /// What the coordinates of a vector count.
    pub(super) fn importance(&self, i: usize) -> [f32; MAX_LENGTH] {
        if self.w.is_empty() { [1.0; MAX_LENGTH] } else { self.lane(&self.w, i) }
    }

    fn lane(&self, rows: &[[f32; LANES]], i: usize) -> [f32; MAX_LENGTH] {
        let mut lane = [0.0; MAX_LENGTH];
        for (value, row) in lane.iter_mut().zip(&rows[i / LANES * self.length..][..self.length]) {
            *value = row[i % LANES];
        }
        lane
    }

    /// What is left of the vectors without the centroids `indices` of `book`.
    pub(super) fn less(&self, book: &[f32], indices: &[u16]) -> Self {
        let mut rest = self.clone();
        let blocks = rest.x.chunks_mut(self.length).zip(indices.chunks(LANES));
        for (block, indices) in blocks {
            for (lane, index) in indices.iter().enumerate() {
                let centroid = &book[usize::from(*index) * self.length..][..self.length];
                for (x, c) in block.iter_mut().zip(centroid) {
                    x[lane] -= c;
                }
            }
        }
        rest
    }
}
