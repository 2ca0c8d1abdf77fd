//! Contexts of a matrix: the magnitude of the numbers of each row and each column.

use simd::kernel;

use crate::Error;
use crate::plane::{self, Known};

/// Largest difference by chance between the scales of long rows or columns with equal
/// distributions.
const CHANCE: u8 = 2;

/// The largest context, in quarters of an octave.
const LARGEST: u8 = 63;

/// A scale for each row and each column of a matrix, in eighths of an octave above the smallest.
#[derive(Clone, Debug)]
pub struct Scales {
    rows: Vec<u8>,
    columns: Vec<u8>,
}

impl Scales {
    /// Number of contexts that [`Self::contexts`] distinguishes.
    pub const CONTEXTS: usize = LARGEST as usize + 1;

    /// Steps of a scale per octave.
    pub const PER_OCTAVE: i64 = 8;

    /// From logarithms in eighths of an octave; `None` if the rows and the columns differ by no
    /// more than chance.
    pub fn of_logarithms(rows: &[i64], columns: &[i64]) -> Option<Self> {
        let scales = Self { rows: above_the_least(rows), columns: above_the_least(columns) };
        let differ = |scales: &[u8]| scales.iter().max() > Some(&CHANCE);
        (differ(&scales.rows) || differ(&scales.columns)).then_some(scales)
    }

    /// Writes the contexts of the elements from `first` on, in quarters of an octave.
    pub fn contexts(&self, first: usize, out: &mut [u8]) {
        contexts(&self.rows, &self.columns, first, out);
    }

    /// Codes the scales of rows and of columns as two planes.
    ///
    /// # Errors
    /// Never: a plane without contexts can always be coded.
    pub fn encode(&self) -> Result<[Vec<u8>; 2], Error> {
        Ok([plane::encode(&self.rows, Known::default())?, plane::encode(&self.columns, Known::default())?])
    }

    /// Decodes the planes of [`Self::encode`] for a matrix of this many rows and columns.
    ///
    /// # Errors
    /// [`Error::Damaged`] for any other bytes; [`Error::Memory`] without memory for the scales.
    pub fn decode([rows, columns]: [&[u8]; 2], matrix: (usize, usize)) -> Result<Self, Error> {
        let scales = |plane, len| plane::decoded(plane, Known::default(), len);
        Ok(Self { rows: scales(rows, matrix.0)?, columns: scales(columns, matrix.1)? })
    }
}

kernel! {
    /// The contexts of the elements from `first` on.
    fn contexts<'a>(_simd, rows: &'a [u8], all: &'a [u8], first: usize, out: &'a mut [u8]) {
        let columns = all.len().max(1);
        let (mut out, mut column) = (out, first % columns);
        for row in rows.iter().skip(first / columns) {
            if out.is_empty() {
                break;
            }
            let run = &all[column..];
            let (now, rest) = out.split_at_mut(run.len().min(out.len()));
            for (context, column) in now.iter_mut().zip(run) {
                // The mean, rounded down.
                *context = ((row & column) + ((row ^ column) >> 1)).min(LARGEST);
            }
            (out, column) = (rest, 0);
        }
    }
}

/// Steps above the smallest logarithm; those far below the others become 0.
fn above_the_least(logarithms: &[i64]) -> Vec<u8> {
    let largest = logarithms.iter().max().copied().unwrap_or_default();
    // Rows and columns share the range of contexts.
    let least = logarithms.iter().min().copied().unwrap_or_default().max(largest - i64::from(LARGEST));
    logarithms.iter().map(|log| (log - least).max(0) as u8).collect()
}
