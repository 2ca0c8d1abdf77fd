//! Passes over whole tensors, in blocks that do not depend on the number of threads: what is added
//! up in floating point is added tile by tile, in the order of the elements.

use std::ops::Range;

use codec_api::Cancel;
use rayon::prelude::*;

use crate::error::Result;
use crate::source::Source;

/// Elements that a kernel works on at once.
pub(crate) const TILE: usize = 1 << 13;
/// Elements that a thread reads before it gives the memory of its inputs back.
pub(crate) const BLOCK: usize = 1 << 18;

/// Buffers of a thread, one tile each.
#[derive(Debug, Default)]
pub(crate) struct Scratch(Vec<Vec<f32>>);

impl Scratch {
    /// So many buffers of this length; their values are those of the last use.
    pub(crate) fn take(&mut self, count: usize, len: usize) -> &mut [Vec<f32>] {
        if self.0.len() < count {
            self.0.resize_with(count, Vec::new);
        }
        let taken = &mut self.0[..count];
        for buffer in &mut *taken {
            buffer.resize(len, 0.0);
        }
        taken
    }
}

/// The tensors that one output tensor is made of, all of one shape.
#[derive(Clone, Copy, Debug)]
pub struct Inputs<'a> {
    /// The models, in the order of the recipe, without the base.
    pub models: &'a [&'a dyn Source],
    /// The base, which some methods take differences from.
    pub base: Option<&'a dyn Source>,
    /// Ends the work early.
    pub cancel: &'a Cancel,
}

impl Inputs<'_> {
    /// Number of elements of each tensor.
    pub fn elements(&self) -> usize {
        self.all().next().map_or(0, |source| source.spec().elements())
    }

    /// The extents of each tensor.
    pub(crate) fn shape(&self) -> &[usize] {
        self.all().next().map_or(&[], |source| source.spec().shape())
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &dyn Source> {
        self.models.iter().copied().chain(self.base)
    }

    pub(crate) fn release(&self, range: &Range<usize>) {
        self.all().for_each(|source| source.release(range.clone()));
    }

    /// Reads the models into the first buffers. With a base it is subtracted; its values are in
    /// the buffer behind.
    ///
    /// # Errors
    /// Those of the sources.
    pub(crate) fn read(&self, start: usize, buffers: &mut [Vec<f32>]) -> Result<()> {
        let (models, rest) = buffers.split_at_mut(self.models.len());
        for (source, out) in self.models.iter().zip(&mut *models) {
            source.read(start, out)?;
        }
        if let (Some(base), Some(values)) = (self.base, rest.first_mut()) {
            base.read(start, values)?;
            for model in models {
                subtract(model, values);
            }
        }
        Ok(())
    }

    /// Calls `f` for every block, in parallel; the results are in the order of the blocks.
    ///
    /// # Errors
    /// Those of `f`; cancellation.
    pub(crate) fn per_block<T: Send>(
        &self,
        f: impl Fn(Range<usize>, &mut Scratch) -> Result<T> + Send + Sync,
    ) -> Result<Vec<T>> {
        let elements = self.elements();
        let run = |scratch: &mut Scratch, block: usize| {
            self.cancel.check()?;
            let range = block * BLOCK..elements.min((block + 1) * BLOCK);
            let result = f(range.clone(), scratch);
            self.release(&range);
            result
        };
        (0..elements.div_ceil(BLOCK)).into_par_iter().map_init(Scratch::default, run).collect()
    }
}

/// The tiles of a range.
pub(crate) fn tiles(range: Range<usize>) -> impl Iterator<Item = Range<usize>> {
    let end = range.end;
    range.step_by(TILE).map(move |start| start..end.min(start + TILE))
}

simd::kernel! {
    /// `a − b`, in place of `a`.
    pub(crate) fn subtract<'a>(_simd, a: &'a mut [f32], b: &'a [f32]) {
        a.iter_mut().zip(b).for_each(|(a, b)| *a -= b);
    }
}

simd::kernel! {
    /// `Σ aᵢ·bᵢ` in f64.
    pub(crate) fn dot<'a>(_simd, a: &'a [f32], b: &'a [f32]) -> f64 {
        let ((a, last_a), (b, last_b)) = (a.as_chunks::<16>(), b.as_chunks::<16>());
        let mut lanes = [0.0f64; 16];
        for (a, b) in a.iter().zip(b) {
            for i in 0..16 {
                lanes[i] += f64::from(a[i]) * f64::from(b[i]);
            }
        }
        for (i, (a, b)) in last_a.iter().zip(last_b).enumerate() {
            lanes[i] += f64::from(*a) * f64::from(*b);
        }
        simd::sum(lanes)
    }
}

simd::kernel! {
    /// `Σ |aᵢ|` in f64.
    pub(crate) fn magnitude<'a>(_simd, a: &'a [f32]) -> f64 {
        let (a, last) = a.as_chunks::<16>();
        let mut lanes = [0.0f64; 16];
        for a in a {
            for i in 0..16 {
                lanes[i] += f64::from(a[i].abs());
            }
        }
        for (i, a) in last.iter().enumerate() {
            lanes[i] += f64::from(a.abs());
        }
        simd::sum(lanes)
    }
}

simd::kernel! {
    /// Adds `factor·x` to `out`.
    pub(crate) fn add_scaled<'a>(_simd, factor: f32, x: &'a [f32], out: &'a mut [f32]) {
        out.iter_mut().zip(x).for_each(|(out, x)| *out += factor * x);
    }
}

simd::kernel! {
    /// `factor·x`.
    pub(crate) fn scale<'a>(_simd, factor: f32, x: &'a mut [f32]) {
        for x in x {
            *x *= factor;
        }
    }
}
