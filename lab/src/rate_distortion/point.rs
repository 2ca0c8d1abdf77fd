//! One codec on one suite.

use anyhow::Result;

use crate::measure::{Bench, Column, gap};

/// Bits and error of several tensors together.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// Per weight.
    pub bits: f64,
    /// Σ‖w − ŵ‖²/Σ‖w‖².
    pub nmse: f64,
}

impl Point {
    /// All tensors of the suite; `None` if the codec refuses one or is exact.
    ///
    /// # Errors
    /// If a cell failed.
    pub fn of(bench: &Bench, spec: &str) -> Result<Option<Self>> {
        let point = |column: Column| Self { bits: column.bits(), nmse: column.pooled_nmse() };
        Ok(bench.whole(spec)?.map(point).filter(|point| point.nmse > 0.0))
    }

    /// Bits per weight above Shannon's bound for Gaussian weights.
    pub fn gap(self) -> f64 {
        gap(self.bits, self.nmse)
    }
}
