//! A codec on a suite.

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
    /// Every tensor of the suite; `None` if the codec refuses one, or is exact.
    ///
    /// # Errors
    /// If a cell failed.
    pub fn of(bench: &Bench, spec: &str) -> Result<Option<Self>> {
        let point = |column: &Column<'_>| {
            column.pooled_nmse().filter(|nmse| *nmse > 0.0).map(|nmse| Self { bits: column.bits(), nmse })
        };
        Ok(bench.whole(spec)?.as_ref().and_then(point))
    }

    /// Bits per weight above Shannon's bound for Gaussian weights.
    pub fn gap(self) -> f64 {
        gap(self.bits, self.nmse)
    }
}
