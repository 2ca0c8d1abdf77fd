//! The steps of rows and columns.

use codec_api::{Calibration, CodecError, InputAxis, Result};

use super::Order;
use super::codes;
use super::layout::Layout;

/// Steps per octave.
const PER_OCTAVE: f64 = 8.0;

/// The step of row `i` and column `j` is `base·2^(rows[i]/8)·2^(columns[j]/8)`.
#[derive(Clone, Debug)]
pub(super) struct Steps {
    pub(super) base: f32,
    pub(super) rows: Vec<u8>,
    pub(super) columns: Vec<u8>,
}

impl Steps {
    /// Inversely proportional to the square roots of the importances of row and column, which are 1
    /// without calibration.
    pub(super) fn new(step: f64, layout: Layout, order: Order, calibration: Option<Calibration<'_>>) -> Result<Self> {
        let (mut rows, mut columns) = (None, None);
        if let Some(Calibration { axis, mean_squares, outputs, .. }) = calibration {
            let inputs_are_columns = (axis == InputAxis::Columns) != (order == Order::Rows);
            (rows, columns) =
                if inputs_are_columns { (outputs, Some(mean_squares)) } else { (Some(mean_squares), outputs) };
        }
        let (rows, row_base) = codes_of(rows, layout.rows);
        let (columns, column_base) = codes_of(columns, layout.columns);
        let base = (step * libm::exp2((row_base + column_base) / PER_OCTAVE)) as f32;
        if !base.is_normal() {
            let reason =
                format!("the finest step would be {base:e}: the importances of rows and columns lie too far away");
            return Err(CodecError::Unsuitable { reason, number: base.into() });
        }
        Ok(Self { base, rows, columns })
    }

    /// The factors of rows, and the steps of columns for a row with factor 1.
    pub(super) fn tables(&self) -> (Vec<f32>, Vec<f32>) {
        let factor = |code: &u8| libm::exp2(f64::from(*code) / PER_OCTAVE) as f32;
        let columns = self.columns.iter().map(|code| self.base * factor(code)).collect();
        (self.rows.iter().map(factor).collect(), columns)
    }

    /// The codes of rows and of columns, written.
    pub(super) fn texts(&self) -> Result<[Vec<u8>; 2]> {
        Ok([codes::encode(&self.rows)?, codes::encode(&self.columns)?])
    }

    /// Reads the output of [`Self::texts`].
    pub(super) fn read(base: f32, [rows, columns]: [&[u8]; 2], layout: Layout) -> Result<Self, String> {
        if !base.is_normal() || base < 0.0 {
            return Err(format!("{base:e} is no step"));
        }
        Ok(Self { base, rows: codes::decode(rows, layout.rows)?, columns: codes::decode(columns, layout.columns)? })
    }
}

/// The codes of importances, and what was taken off all of them. Weights without any importance get
/// the largest code.
fn codes_of(importances: Option<&[f32]>, len: usize) -> (Vec<u8>, f64) {
    let Some(importances) = importances else { return (vec![0; len], 0.0) };
    let log = |importance: &f32| {
        let log = -0.5 * PER_OCTAVE * libm::log2(f64::from(importance.max(f32::MIN_POSITIVE)));
        libm::round(if log.is_nan() { 0.0 } else { log })
    };
    let logs: Vec<f64> = importances.iter().map(log).collect();
    let least = logs.iter().copied().fold(f64::INFINITY, f64::min);
    if logs.is_empty() {
        return (Vec::new(), 0.0);
    }
    (logs.iter().map(|log| (log - least).min(255.0) as u8).collect(), least)
}
