//! The ranks that pay, and their sizes in bytes; both from dtype and shape alone.

use std::ops::RangeInclusive;

use codec_api::{Codec, CodecError, CostEstimate, Dtype, Result, TensorSpec};

use crate::keys::Keep;
use crate::rows::{BLOCK, Tiles};
use crate::thin::block_rows;

/// Bytes of a singular value and of the exponent.
const VALUE: u64 = 4;
const EXPONENT: u64 = 2;

/// Maximum ratio of tensor size to payload size, so that a small file cannot claim a huge tensor:
/// with an inner codec of variable rate, the smallest payload hardly grows with the tensor.
const LARGEST_RATIO: u64 = 1 << 24;

/// Operations of a decomposition for each weight and each row or column of the shorter side.
const DECOMPOSITION: f64 = 20.0;

/// A tensor's matrix view, and the codec of its singular vectors.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes<'a> {
    pub(crate) rows: usize,
    pub(crate) columns: usize,
    /// Bytes of the stored tensor.
    pub(crate) dense: u64,
    inner: &'a dyn Codec,
}

impl<'a> Sizes<'a> {
    pub(crate) fn new(inner: &'a dyn Codec, spec: &TensorSpec) -> Self {
        let (rows, columns) = spec.matrix();
        Self { rows, columns, dense: spec.byte_len() as u64, inner }
    }

    /// Specs of the left and right vectors of this rank, which must be at most the shorter side.
    pub(crate) fn factors(&self, rank: usize) -> Result<[TensorSpec; 2]> {
        Ok([TensorSpec::new(Dtype::F32, [rank, self.rows])?, TensorSpec::new(Dtype::F32, [rank, self.columns])?])
    }

    /// The rank at which the factors have as many numbers as the matrix.
    pub(crate) fn break_even(&self) -> f64 {
        (self.rows as f64) * (self.columns as f64) / (self.rows as f64 + self.columns as f64 + 1.0)
    }

    /// The largest rank below break-even; 0 if there is none. At most the shorter side.
    pub(crate) fn below_break_even(&self) -> usize {
        (self.rows * self.columns).saturating_sub(1) / (self.rows + self.columns + 1)
    }

    /// Range of the payload size for this rank, which must be at most the shorter side.
    pub(crate) fn bytes(&self, rank: usize) -> Result<RangeInclusive<u64>> {
        let [u, v] = self.factors(rank)?.map(|spec| self.inner.cost(&spec).bytes);
        let own = VALUE * rank as u64 + EXPONENT;
        Ok(own.saturating_add(*u.start()).saturating_add(*v.start())
            ..=own.saturating_add(*u.end()).saturating_add(*v.end()))
    }

    /// The largest rank below break-even that can fit into `bytes`; 0 if there is none.
    pub(crate) fn largest_within(&self, bytes: u64) -> Result<usize> {
        self.largest(|taken| *taken.start() <= bytes)
    }

    /// The largest rank below break-even that always fits into `bytes`; 0 if there is none.
    pub(crate) fn largest_surely_within(&self, bytes: u64) -> Result<usize> {
        self.largest(|taken| *taken.end() <= bytes)
    }

    /// The largest rank that may pay: below break-even, and smaller in bytes than the dense tensor;
    /// 0 if there is none.
    pub(crate) fn top(&self) -> Result<usize> {
        self.largest_within(self.dense.saturating_sub(1))
    }

    /// Bisection: a higher rank never takes fewer bytes.
    fn largest(&self, fits: impl Fn(&RangeInclusive<u64>) -> bool) -> Result<usize> {
        let (mut least, mut most) = (0, self.below_break_even());
        while least < most {
            let middle = most - (most - least) / 2;
            if fits(&self.bytes(middle)?) { least = middle } else { most = middle - 1 }
        }
        Ok(least)
    }

    /// Refuses matrices without a rank that pays, and vectors that the inner codec refuses.
    pub(crate) fn accepts(&self) -> Result<()> {
        let (rows, columns) = (self.rows, self.columns);
        if self.below_break_even() == 0 {
            let even = self.break_even();
            return Err(CodecError::Unsupported(format!(
                "no rank of a {rows} x {columns} matrix pays: its break-even is rank {even:.3}, and rank 1 takes {} numbers",
                rows + columns + 1
            )));
        }
        // Checked first: the cost of many vectors is undefined for a codec that refuses one.
        self.accepts_factors(1)?;
        let (top, least, dense) = (self.top()?, *self.bytes(1)?.start(), self.dense);
        if dense / least > LARGEST_RATIO {
            return Err(CodecError::Unsupported(format!(
                "a payload of {least} bytes could stand for {dense}, more than {LARGEST_RATIO} times as many"
            )));
        }
        if top == 0 {
            return Err(CodecError::Unsupported(format!(
                "no rank of a {rows} x {columns} matrix pays: rank 1 takes {least} bytes, the tensor {dense}"
            )));
        }
        self.accepts_factors(top)
    }

    /// Estimates size and work of an encode and a decode.
    pub(crate) fn cost(&self, keep: Keep) -> Result<CostEstimate> {
        self.accepts_factors(1)?;
        let shorter = self.rows.min(self.columns);
        let (bytes, rank) = if let Keep::Rank(rank) = keep {
            let rank = shorter.min(rank.get() as usize);
            let (least, most) = self.bytes(rank)?.into_inner();
            (least..=most.min(self.dense.saturating_sub(1)).max(least), rank)
        } else {
            let (top, limit) = (self.top()?, if let Keep::Bytes(limit) = keep { limit.get() } else { u64::MAX });
            let least = *self.bytes(1)?.start();
            // A payload as large as the tensor would be refused.
            let most = (*self.bytes(top)?.end()).min(self.dense.saturating_sub(1)).min(limit);
            (least..=most.max(least), top)
        };
        let (m, n) = (self.rows as f64, self.columns as f64);
        let (encode, decode) = (DECOMPOSITION * m * n * shorter as f64, 2.0 * m * n * rank as f64);
        Ok(CostEstimate::between(*bytes.start(), *bytes.end())
            .ops(encode, decode)
            .scratch(4 * self.scratch(rank) as u64 + self.inner_scratch(rank)?))
    }

    /// f32 numbers that an encode keeps at the same time: matrix and vectors, and the weights of a
    /// tensor that is not F32; in addition the decomposition's own memory, or later the vectors
    /// again, flat, coded, decoded and packed for a product, and a block of this product. A decode
    /// keeps less.
    fn scratch(&self, rank: usize) -> usize {
        let (elements, shorter, sum) =
            (self.rows * self.columns, self.rows.min(self.columns), self.rows + self.columns);
        let weights = if self.dense < 4 * elements as u64 { elements } else { 0 };
        // faer begins every column of the transposed matrix at a multiple of 64 bytes.
        let matrix = self.rows * self.columns.next_multiple_of(16);
        // Blocks of reflectors, of at most 64 columns.
        let blocks = shorter.min(64) * sum;
        // In f64: the triangle, its right vectors and what their decomposition takes; later a block
        // of rows before and after a product with the vectors.
        let height = block_rows(self.rows.max(self.columns), shorter);
        let in_f64 = (13 * shorter * shorter).max(4 * (height + shorter) * shorter);
        let later = 3 * rank * sum + Tiles::size(self.rows, self.columns, rank) + BLOCK.min(self.rows) * self.columns;
        weights + matrix + shorter * sum + blocks + (elements + 9 * shorter * shorter).max(in_f64).max(later)
    }

    /// Heap bytes that the inner codec needs.
    fn inner_scratch(&self, rank: usize) -> Result<u64> {
        let [u, v] = self.factors(rank)?.map(|spec| self.inner.cost(&spec).scratch_bytes);
        Ok(u.max(v))
    }

    fn accepts_factors(&self, rank: usize) -> Result<()> {
        self.factors(rank)?.iter().try_for_each(|spec| {
            self.inner.accepts(spec).map_err(|e| match e {
                CodecError::Unsupported(reason) => {
                    CodecError::Unsupported(format!("singular vectors {spec}: {reason}"))
                }
                other => other,
            })
        })
    }
}
