//! Tensors whose rows are in the order of another vocabulary while they are read.

use std::ops::Range;
use std::sync::Arc;

use codec_api::TensorSpec;
use codec_api::util::zeros;

use crate::error::Result;
use crate::source::{Source, check};

/// Where the row of a token comes from. Inputs are numbered by their place among the sources.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Row {
    /// Nothing but zeros.
    Zero,
    /// A row of an input.
    Of {
        /// The input.
        input: u32,
        /// Its row.
        row: u32,
    },
    /// The mean of rows of several inputs, by number.
    Average(u32),
    /// Behind the tokens, and where an id has none: the mean of all tokens.
    Padding,
}

/// The rows of one model in the order of the output, and means that they refer to.
#[derive(Clone, Debug, Default)]
pub(crate) struct RowMap {
    pub(crate) rows: Vec<Row>,
    /// Inputs and rows of each mean.
    pub(crate) averages: Vec<Vec<(u32, u32)>>,
}

/// A tensor with these rows.
#[derive(Debug)]
pub(crate) struct Permuted {
    spec: TensorSpec,
    /// The tensors of all models, which share their rows.
    sources: Arc<[Box<dyn Source>]>,
    map: Arc<RowMap>,
    /// Elements of a row.
    width: usize,
    /// The mean of all rows with a token, if some row has none.
    mean: Vec<f32>,
}

impl Permuted {
    /// `input` is the place of the model whose tensor this is.
    ///
    /// # Errors
    /// Those of the sources, which are read as wholes for the mean.
    pub(crate) fn new(sources: Arc<[Box<dyn Source>]>, input: usize, map: Arc<RowMap>) -> Result<Self> {
        let own = sources[input].spec();
        let mut shape = own.shape().to_vec();
        let width = shape[1..].iter().product::<usize>();
        shape[0] = map.rows.len();
        let spec = TensorSpec::new(own.dtype(), shape)?;
        let mut permuted = Self { spec, sources, map, width, mean: Vec::new() };
        if permuted.map.rows.contains(&Row::Padding) {
            permuted.mean = permuted.mean()?;
        }
        Ok(permuted)
    }

    fn mean(&self) -> Result<Vec<f32>> {
        let (mut sums, mut values): (Vec<f64>, Vec<f32>) = (zeros(self.width)?, zeros(self.width)?);
        let mut count = 0usize;
        for from in &self.map.rows {
            if *from != Row::Padding {
                self.part(*from, 0, &mut values)?;
                sums.iter_mut().zip(&values).for_each(|(sum, x)| *sum += f64::from(*x));
                count += 1;
            }
        }
        self.release(0..self.spec.elements());
        Ok(sums.iter().map(|sum| (sum / count.max(1) as f64) as f32).collect())
    }

    /// The number of rows from `row` to `end` that follow each other in one input; at least 1.
    fn run(&self, row: usize, end: usize) -> usize {
        let Row::Of { input, row: first } = self.map.rows[row] else { return 1 };
        let next = |at: &usize| self.map.rows[*at] == Row::Of { input, row: first + (at - row) as u32 };
        1 + (row + 1..end).take_while(next).count()
    }

    /// The values of rows from `column` on; several ones of an input, or a part of one.
    fn part(&self, from: Row, column: usize, out: &mut [f32]) -> Result<()> {
        match from {
            Row::Zero => out.fill(0.0),
            Row::Padding => out.copy_from_slice(&self.mean[column..column + out.len()]),
            Row::Of { input, row } => {
                self.sources[input as usize].read(row as usize * self.width + column, out)?;
            }
            Row::Average(number) => {
                let of = &self.map.averages[number as usize];
                let (mut sums, mut values): (Vec<f64>, Vec<f32>) = (zeros(out.len())?, zeros(out.len())?);
                for (input, row) in of {
                    self.sources[*input as usize].read(*row as usize * self.width + column, &mut values)?;
                    sums.iter_mut().zip(&values).for_each(|(sum, x)| *sum += f64::from(*x));
                }
                let count = of.len() as f64;
                out.iter_mut().zip(&sums).for_each(|(out, sum)| *out = (sum / count) as f32);
            }
        }
        Ok(())
    }

    /// Calls `f` with the rows that a range of elements consists of: what they are, the first
    /// column, and the place of the elements in the range.
    fn parts(&self, range: Range<usize>, mut f: impl FnMut(Row, usize, Range<usize>) -> Result<()>) -> Result<()> {
        let mut at = range.start;
        while at < range.end {
            let (row, column) = (at / self.width, at % self.width);
            let rows = self.run(row, range.end.div_ceil(self.width));
            let len = (rows * self.width - column).min(range.end - at);
            f(self.map.rows[row], column, at - range.start..at - range.start + len)?;
            at += len;
        }
        Ok(())
    }
}

impl Source for Permuted {
    fn spec(&self) -> &TensorSpec {
        &self.spec
    }

    fn read(&self, start: usize, out: &mut [f32]) -> Result<()> {
        let range = check(&self.spec, start, out.len())?;
        self.parts(range, |from, column, part| self.part(from, column, &mut out[part]))
    }

    fn release(&self, elements: Range<usize>) {
        let end = elements.end.min(self.spec.elements());
        let done = self.parts(elements.start.min(end)..end, |from, column, part| {
            if let Row::Of { input, row } = from {
                let first = row as usize * self.width + column;
                self.sources[input as usize].release(first..first + part.len());
            }
            Ok(())
        });
        debug_assert!(done.is_ok());
    }
}

#[cfg(test)]
mod tests {
    use codec_api::{Bytes, Dtype};

    use super::*;
    use crate::source::Stored;

    #[test]
    fn parts_have_the_values_of_the_whole() {
        let source = |first: usize, rows: usize| -> Box<dyn Source> {
            let values: Vec<f32> = (0..rows * 3).map(|i| (first + i) as f32).collect();
            let bytes = codec_api::util::narrowed(Dtype::F32, &values).unwrap();
            Box::new(Stored::new(TensorSpec::new(Dtype::F32, [rows, 3]).unwrap(), Bytes::from(bytes)).unwrap())
        };
        let of = |input, row| Row::Of { input, row };
        let rows = vec![of(0, 2), of(0, 3), of(1, 0), Row::Zero, Row::Average(0), of(0, 0), of(0, 1), Row::Padding];
        let map = Arc::new(RowMap { rows, averages: vec![vec![(0, 1), (1, 1)]] });
        let permuted = Permuted::new([source(0, 4), source(100, 2)].into(), 0, map).unwrap();
        assert_eq!(permuted.spec().shape(), [8, 3]);
        let mut whole = vec![0.0; 24];
        permuted.read(0, &mut whole).unwrap();
        let expected = [6, 7, 8, 9, 10, 11, 100, 101, 102, 0, 0, 0, 53, 54, 55, 0, 1, 2, 3, 4, 5].map(|x| x as f32);
        assert_eq!(whole[..21], expected);
        let mean = [0, 1, 2].map(|c| (0..7).map(|row| expected[row * 3 + c]).sum::<f32>() / 7.0);
        assert!(whole[21..].iter().zip(mean).all(|(a, b)| (a - b).abs() < 1e-5));
        for start in 0..24 {
            for end in start..=24 {
                let mut part = vec![0.0; end - start];
                permuted.read(start, &mut part).unwrap();
                assert_eq!(part, whole[start..end], "{start}..{end}");
                permuted.release(start..end);
            }
        }
        assert!(permuted.read(20, &mut [0.0; 5]).is_err());
    }
}
