//! Which ranks are worth storing, and how many bytes they take: from dtype and shape alone.

use std::ops::RangeInclusive;

use codec_api::{Codec, CodecError, CostEstimate, Dtype, Result, TensorSpec};

use crate::keys::Keep;

/// Bytes of a singular value and of the exponent.
const VALUE: u64 = 4;
const EXPONENT: u64 = 2;

/// A payload is at most this many times smaller than its tensor, or a few bytes could ask for all memory there is: with an inner codec of
/// variable rate, the smallest payload hardly grows with the tensor.
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

    /// Dtype and shape of the left and right vectors of this rank, which is at most the shorter side.
    pub(crate) fn factors(&self, rank: usize) -> Result<[TensorSpec; 2]> {
        Ok([TensorSpec::new(Dtype::F32, [rank, self.rows])?, TensorSpec::new(Dtype::F32, [rank, self.columns])?])
    }

    /// The rank whose factors are as many numbers as the matrix.
    pub(crate) fn break_even(&self) -> f64 {
        (self.rows as f64) * (self.columns as f64) / (self.rows as f64 + self.columns as f64 + 1.0)
    }

    /// The largest rank below break-even; 0 if there is none. At most the shorter side.
    pub(crate) fn below_break_even(&self) -> usize {
        (self.rows * self.columns).saturating_sub(1) / (self.rows + self.columns + 1)
    }

    /// Bytes of a payload of this rank, which is at most the shorter side.
    pub(crate) fn bytes(&self, rank: usize) -> Result<RangeInclusive<u64>> {
        let [u, v] = self.factors(rank)?.map(|spec| self.inner.cost(&spec).bytes);
        let own = VALUE * rank as u64 + EXPONENT;
        Ok(own.saturating_add(*u.start()).saturating_add(*v.start())
            ..=own.saturating_add(*u.end()).saturating_add(*v.end()))
    }

    /// The largest rank below break-even that may take at most `bytes`; 0 if there is none.
    pub(crate) fn largest_within(&self, bytes: u64) -> Result<usize> {
        self.largest(|taken| *taken.start() <= bytes)
    }

    /// The largest rank below break-even that surely takes at most `bytes`; 0 if there is none.
    pub(crate) fn largest_surely_within(&self, bytes: u64) -> Result<usize> {
        self.largest(|taken| *taken.end() <= bytes)
    }

    /// The largest rank that may pay: below break-even, and with fewer bytes than the dense tensor; 0 if there is none.
    pub(crate) fn top(&self) -> Result<usize> {
        self.largest_within(self.dense.saturating_sub(1))
    }

    /// By halving: a higher rank never takes fewer bytes.
    fn largest(&self, fits: impl Fn(&RangeInclusive<u64>) -> bool) -> Result<usize> {
        let (mut least, mut most) = (0, self.below_break_even());
        while least < most {
            let middle = most - (most - least) / 2;
            if fits(&self.bytes(middle)?) { least = middle } else { most = middle - 1 }
        }
        Ok(least)
    }

    /// Refuses matrices of which no rank pays, and vectors that the inner codec refuses.
    pub(crate) fn accepts(&self) -> Result<()> {
        let (rows, columns) = (self.rows, self.columns);
        if self.below_break_even() == 0 {
            let even = self.break_even();
            return Err(CodecError::Unsupported(format!(
                "no rank of a {rows} x {columns} matrix pays: its break-even is rank {even:.3}, and rank 1 takes {} numbers",
                rows + columns + 1
            )));
        }
        // A codec that refuses one vector may not be asked what many cost.
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

    /// Size and work of an encode and a decode.
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
            // What would take as many bytes as the tensor is refused.
            let most = (*self.bytes(top)?.end()).min(self.dense.saturating_sub(1)).min(limit);
            (least..=most.max(least), top)
        };
        let (m, n) = (self.rows as f64, self.columns as f64);
        let (encode, decode) = (DECOMPOSITION * m * n * shorter as f64, 2.0 * m * n * rank as f64);
        Ok(CostEstimate::between(*bytes.start(), *bytes.end())
            .ops(encode + decode, decode)
            .scratch(4 * self.scratch(rank) as u64))
    }

    /// f32 numbers that an encode keeps at once: matrix and vectors, and with them the decomposition's own memory, or later two decoded
    /// tensors and the vectors again, flat, coded and decoded.
    fn scratch(&self, rank: usize) -> usize {
        let (elements, shorter, sum) =
            (self.rows * self.columns, self.rows.min(self.columns), self.rows + self.columns);
        elements + shorter * sum + (elements + 9 * shorter * shorter).max(2 * elements + 3 * rank * sum)
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
