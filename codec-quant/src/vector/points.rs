//! The vectors of a tensor in the order of the kernels: sixteen side by side, coordinate by
//! coordinate.

use codec_api::util::Importance;
use simd::LANES;

/// Evaluates `$value` with the constant `$V` equal to a vector's length.
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

/// Length of the longest vectors.
pub(super) const MAX_LENGTH: usize = 8;

/// The coordinates of sixteen vectors, or their importances.
pub(super) type Block<const V: usize> = [[f32; LANES]; V];

/// The weights of a tensor as vectors; zeros pad the last one.
pub(super) struct Source<'a> {
    pub(super) values: &'a [f32],
    /// Weights of a vector.
    pub(super) length: usize,
    /// A power of two that scales the largest weight into the precise range of F16.
    pub(super) unit: f32,
    pub(super) importance: Option<Importance>,
}

impl Source<'_> {
    /// Number of vectors.
    pub(super) fn count(&self) -> usize {
        self.values.len().div_ceil(self.length)
    }

    /// Gathers the vectors with these indices.
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

/// Vectors in blocks of sixteen; zeros pad the last block.
#[derive(Clone)]
pub(super) struct Points {
    pub(super) length: usize,
    pub(super) count: usize,
    x: Vec<[f32; LANES]>,
    /// Importances of the squared errors; empty if all are equal.
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

    /// Importances of the coordinates of a block.
    #[inline(always)]
    pub(super) fn w<const V: usize>(&self, block: usize) -> Block<V> {
        if self.w.is_empty() { [[1.0; LANES]; V] } else { self.w.as_chunks().0[block] }
    }

    /// One vector, padded with zeros.
    pub(super) fn vector(&self, i: usize) -> [f32; MAX_LENGTH] {
        self.lane(&self.x, i)
    }

    /// Importances of the coordinates of a vector.
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

    /// The residuals: vectors minus their centroids, `indices` of `book`.
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
