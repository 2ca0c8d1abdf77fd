//! Encoding: from a tensor to its largest components.

use codec_api::{Certificate, CodecError, Dtype, EncodeCx, Payload, Result, RowReader, Section, TensorView};
use faer::Mat;

use crate::factors::Factors;
use crate::keys::{Keep, Svd};
use crate::matrix::Matrix;
use crate::refit::refit;
use crate::rows::{BLOCK, Tiles};
use crate::size::Sizes;
use crate::triples::{Decompositions, FIRST_BLOCK, Triples};

/// The state of an encode.
struct Encoder<'a> {
    codec: &'a Svd,
    tensor: &'a TensorView<'a>,
    values: &'a [f32],
    sizes: Sizes<'a>,
    matrix: &'a Matrix,
    cx: &'a EncodeCx<'a>,
}

/// A payload, and the factors it decodes to.
struct Coded {
    payload: Payload,
    factors: Factors,
}

pub(crate) fn encode(codec: &Svd, tensor: &TensorView<'_>, cx: &EncodeCx<'_>) -> Result<Payload> {
    let sizes = Sizes::new(&*codec.inner, tensor.spec());
    sizes.accepts()?;
    let values = tensor.to_finite_f32()?;
    cx.cancel.check()?;
    refuse_by_size(codec.keep, &sizes)?;
    let matrix = Matrix::new(tensor.spec().matrix(), &values);
    let encoder = Encoder { codec, tensor, values: &values, sizes, matrix: &matrix, cx };
    let payload = encoder.coded()?.payload;
    cx.progress.tick(values.len() as u64);
    Ok(payload)
}

/// Refuses settings that sizes alone rule out, before the decomposition.
fn refuse_by_size(keep: Keep, sizes: &Sizes<'_>) -> Result<()> {
    match keep {
        Keep::Rank(rank) => refuse_rank(rank.get() as usize, sizes),
        Keep::Bytes(bytes) if sizes.largest_within(bytes.get())? == 0 => {
            let least = *sizes.bytes(1)?.start();
            let reason = format!("rank 1 does not fit into {bytes} bytes: it takes");
            Err(CodecError::Unsuitable { reason, number: least as f64 })
        }
        _ => Ok(()),
    }
}

/// Refuses a rank that does not pay.
fn refuse_rank(rank: usize, sizes: &Sizes<'_>) -> Result<()> {
    let (rows, columns, number) = (sizes.rows, sizes.columns, rank as f64);
    if rank > sizes.below_break_even() {
        let even = sizes.break_even();
        let reason = format!("a {rows} x {columns} matrix has its break-even at rank {even:.3}; wanted is rank");
        return Err(CodecError::Unsuitable { reason, number });
    }
    let top = sizes.top()?;
    if rank > top {
        let (least, dense) = (*sizes.bytes(rank)?.start(), sizes.dense);
        let reason = format!(
            "above rank {top} the coded factors take as many bytes as the tensor ({least} of {dense}); wanted is rank"
        );
        return Err(CodecError::Unsuitable { reason, number });
    }
    Ok(())
}

impl Encoder<'_> {
    fn coded(&self) -> Result<Coded> {
        let coded = match self.codec.keep {
            _ if self.matrix.energy == 0.0 => self.zeros()?,
            Keep::Rank(rank) => {
                let rank = rank.get() as usize;
                self.code(&self.decompositions(rank).next(rank)?, rank)?
            }
            Keep::Energy(share) => {
                let (triples, rank) = self.leaving(1.0 - share.get())?;
                refuse_rank(rank, &self.sizes)?;
                self.code(&triples, rank)?
            }
            Keep::Error(limit) => self.within_error(limit.get())?,
            Keep::Bytes(bytes) => self.within_bytes(bytes.get())?,
        };
        self.refuse_bytes(&coded.payload)?;
        Ok(coded)
    }

    /// Refuses a payload that is too large. This is known only now if the inner codec's size
    /// depends on the data.
    fn refuse_bytes(&self, payload: &Payload) -> Result<()> {
        let (bytes, dense) = (payload.bytes(), self.sizes.dense);
        let reason = match self.codec.keep {
            Keep::Bytes(limit) if bytes > limit.get() => format!("rank 1 does not fit into {limit} bytes: it takes"),
            _ if bytes >= dense => format!("the tensor takes {dense} bytes, its coded factors"),
            _ => return Ok(()),
        };
        Err(CodecError::Unsuitable { reason, number: bytes as f64 })
    }

    fn decompositions(&self, wanted: usize) -> Decompositions<'_> {
        Decompositions::new(self.matrix, self.codec.method, wanted, self.cx)
    }

    /// A decomposition, and the smallest number of its components that leave at most `rest` of the
    /// energy.
    fn leaving(&self, rest: f64) -> Result<(Triples, usize)> {
        let (mut decompositions, mut needed) = (self.decompositions(FIRST_BLOCK), 1);
        loop {
            let triples = decompositions.next(needed)?;
            match triples.leaving(rest) {
                Ok(rank) => return Ok((triples, rank)),
                Err(at_least) => needed = at_least,
            }
        }
    }

    /// The fewest components with an error of at most `limit` after coding. Each try starts at the
    /// smallest rank that the previous error allows, so that no rank is skipped.
    fn within_error(&self, limit: f64) -> Result<Coded> {
        let top = self.sizes.top()?;
        let mut decompositions = self.decompositions(FIRST_BLOCK);
        let (mut triples, mut rest, mut least) = (decompositions.next(1)?, limit * limit, 1);
        loop {
            let needed = triples.leaving(rest).unwrap_or_else(|at_least| at_least).max(least);
            let rank = needed.min(top);
            if rank > triples.certain() {
                triples = decompositions.next(rank)?;
                continue;
            }
            let coded = self.code(&triples, rank)?;
            let error = self.error(&coded.factors)?;
            if error <= limit {
                return Ok(coded);
            }
            if rank == top {
                let reason = format!("even rank {top}, the largest that pays, has a relative error above {limit}:");
                return Err(CodecError::Unsuitable { reason, number: error });
            }
            // Coding adds to the truncation error, and adds no less for more components.
            let coding = (error * error - triples.left(rank)).max(0.0);
            (rest, least) = ((limit * limit - coding).max(0.0), rank + 1);
        }
    }

    /// The largest number of components with sections of at most `limit` bytes, without components
    /// that are only rounding errors.
    fn within_bytes(&self, limit: u64) -> Result<Coded> {
        // A payload as large as the tensor would be refused.
        let limit = limit.min(self.sizes.dense - 1);
        let mut most = self.sizes.largest_within(limit)?;
        let triples = self.decompositions(most).next(most)?;
        most = most.min(triples.significant());
        let mut least = self.sizes.largest_surely_within(limit)?.min(most);
        // Bisection, needed if the inner codec's size depends on the data.
        while least < most {
            let middle = most - (most - least) / 2;
            if self.code(&triples, middle)?.payload.bytes() <= limit { least = middle } else { most = middle - 1 }
        }
        self.code(&triples, least.max(1))
    }

    /// Encodes the first `rank` components.
    fn code(&self, triples: &Triples, rank: usize) -> Result<Coded> {
        let (mut u, mut v) = (flat(&triples.u, rank), flat(&triples.v, rank));
        for (u, v) in u.chunks_exact_mut(self.sizes.rows).zip(v.chunks_exact_mut(self.sizes.columns)) {
            if largest(u) < 0.0 {
                u.iter_mut().chain(v).for_each(|x| *x = -*x);
            }
        }
        self.pack(triples.s[..rank].to_vec(), &u, &v, triples.left(rank) * triples.energy)
    }

    /// The payload of a tensor of zeros.
    fn zeros(&self) -> Result<Coded> {
        let rank = if let Keep::Rank(rank) = self.codec.keep { rank.get() as usize } else { 1 };
        self.pack(vec![0.0; rank], &vec![0.0; rank * self.sizes.rows], &vec![0.0; rank * self.sizes.columns], 0.0)
    }

    /// Encodes the vectors, and refits the singular values to the decoded vectors; `left` is the
    /// energy of the other components.
    fn pack(&self, s: Vec<f32>, u: &[f32], v: &[f32], left: f64) -> Result<Coded> {
        self.cx.cancel.check()?;
        let mut sections =
            Payload::new().with("exponent", Section::from_values(Dtype::I16, [1], vec![self.matrix.exponent])?)?;
        for (scope, values) in [("u", u), ("v", v)] {
            let vectors = TensorView::from_f32([s.len(), values.len() / s.len()], values)?;
            let child = self.codec.inner.encode(vectors, &self.cx.for_child(scope))?;
            sections = sections.with_scope(scope, child)?;
        }
        let with = |s: Vec<f32>| sections.clone().with("s", Section::from_values(Dtype::F32, [s.len()], s)?);
        let payload = with(s)?;
        let mut factors = Factors::read(self.codec, self.tensor.spec(), &payload.view(), &self.cx.decoding())?;
        if let Some(fitted) = refit(&factors, u, v, left) {
            let before = self.error(&factors)?;
            let s = std::mem::replace(&mut factors.s, fitted);
            if self.error(&factors)? < before {
                return Ok(Coded { payload: with(factors.s.clone())?, factors });
            }
            factors.s = s;
        }
        Ok(Coded { payload, factors })
    }

    /// The relative Frobenius error of the decoded weights, before they are rounded to the stored
    /// dtype.
    fn error(&self, factors: &Factors) -> Result<f64> {
        let (tiles, columns) = (Tiles::new(factors), self.sizes.columns);
        let mut decoded = vec![0.0; BLOCK.min(self.sizes.rows) * columns];
        let mut sum = Certificate::EMPTY;
        for (block, values) in self.values.chunks(BLOCK * columns).enumerate() {
            self.cx.cancel.check()?;
            let (first, decoded) = (block * BLOCK, &mut decoded[..values.len()]);
            tiles.read(first..first + values.len() / columns, decoded)?;
            sum.add(&Certificate::measure(values, decoded));
        }
        Ok(sum.rel_frobenius())
    }
}

/// The first `rank` columns, concatenated.
fn flat(vectors: &Mat<f32>, rank: usize) -> Vec<f32> {
    (0..rank).flat_map(|k| vectors.col_as_slice(k)).copied().collect()
}

/// The element of largest magnitude, the first among equals.
fn largest(vector: &[f32]) -> f32 {
    vector.iter().fold(0.0, |most: f32, x| if x.abs() > most.abs() { *x } else { most })
}
