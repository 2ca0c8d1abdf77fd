//! The contexts of multiples: how large those of a row and a column are.

use super::layout::Layout;
use crate::coded::model::CONTEXTS;

/// Parts of an octave.
const PER_OCTAVE: f64 = 4.0;

/// Largest difference by chance between rows or columns with equal distributions.
const CHANCE: u8 = 1;

/// The largest context.
const LARGEST: u8 = CONTEXTS as u8 - 1;

/// The scale of each row and each column, in quarters of an octave above the smallest. The context
/// of a multiple is the sum of both, at most 63.
#[derive(Clone, Debug)]
pub(super) struct Contexts {
    pub(super) rows: Vec<u8>,
    pub(super) columns: Vec<u8>,
}

impl Contexts {
    /// From multiples, column by column; `None` if scales differ by no more than chance.
    pub(super) fn of(layout: Layout, multiples: &[i32]) -> Option<Self> {
        let mut squares = [vec![0.0; layout.rows], vec![0.0; layout.columns]];
        for (column, multiples) in multiples.chunks_exact(layout.rows).enumerate() {
            for (row, j) in multiples.iter().enumerate() {
                let square = f64::from(*j) * f64::from(*j);
                squares[0][row] += square;
                squares[1][column] += square;
            }
        }
        let [rows, columns] = squares;
        let (rows, columns) = (above_the_least(&rows, layout.columns), above_the_least(&columns, layout.rows));
        let differ = |scales: &[u8]| scales.iter().max() > Some(&CHANCE);
        (differ(&rows) || differ(&columns)).then_some(Self { rows, columns })
    }

    /// Those of a row.
    pub(super) fn of_row(&self, row: usize) -> impl Iterator<Item = u8> {
        self.columns.iter().map(move |column| (self.rows[row] + column).min(LARGEST))
    }

    /// What is written: the scales, to which the codes of the steps add what they tell about them.
    /// Twice the step means multiples half as large.
    pub(super) fn residuals(scales: &[u8], steps: &[u8]) -> Vec<u8> {
        scales.iter().zip(steps).map(|(scale, step)| scale + step / 2).collect()
    }

    /// The scales of [`Self::residuals`], or some scales for other codes.
    pub(super) fn scales(residuals: &[u8], steps: &[u8]) -> Vec<u8> {
        residuals.iter().zip(steps).map(|(code, step)| code.saturating_sub(step / 2).min(LARGEST)).collect()
    }
}

/// Logarithms of the root mean squares of `len` multiples each, above the smallest.
fn above_the_least(sums: &[f64], len: usize) -> Vec<u8> {
    // A row of zeros is as one with a few small multiples.
    let log = |sum: &f64| libm::round(0.5 * PER_OCTAVE * libm::log2(sum / len as f64 + 0.0625)) as i64;
    let logs: Vec<i64> = sums.iter().map(log).collect();
    let least = logs.iter().min().copied().unwrap_or_default();
    logs.iter().map(|log| (log - least).min(i64::from(LARGEST)) as u8).collect()
}
