//! A matrix of one or several operators, each of which has a range of its rows.

use std::ops::Range;

use codec_api::{Inputs, LinearOp, Product, Result};

/// A matrix. A packed tensor has an operator for each chunk of its rows.
#[derive(Debug)]
pub(crate) struct Matrix {
    /// The first row of each operator, and the operator.
    parts: Vec<(usize, Box<dyn LinearOp>)>,
    rows: usize,
    columns: usize,
}

impl Matrix {
    /// Puts operators together, one below the other.
    pub(crate) fn new(operators: Vec<Box<dyn LinearOp>>) -> Self {
        let (mut rows, mut columns) = (0, 0);
        let mut parts = Vec::new();
        for operator in operators {
            let shape = operator.shape();
            parts.push((rows, operator));
            (rows, columns) = (rows + shape.0, shape.1);
        }
        Self { parts, rows, columns }
    }

    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    pub(crate) fn columns(&self) -> usize {
        self.columns
    }

    /// Ranges of rows that begin at multiples of it waste no work.
    pub(crate) fn granule(&self) -> usize {
        self.parts.iter().map(|(_, operator)| operator.granule().get()).max().unwrap_or(1)
    }

    /// As [`LinearOp::apply`].
    ///
    /// # Errors
    /// Those of the operators.
    pub(crate) fn apply(&self, product: Product, rows: Range<usize>, x: &Inputs<'_>, y: &mut [f32]) -> Result<()> {
        if let [(_, only)] = &*self.parts {
            return only.apply(product, rows, x, y);
        }
        for (first, operator) in &self.parts {
            let end = first + operator.shape().0;
            let (start, end) = (rows.start.max(*first), rows.end.min(end));
            if start >= end {
                continue;
            }
            let own = start - first..end - first;
            if product == Product::Forward {
                let batch = x.batch();
                let y = &mut y[(start - rows.start) * batch..(end - rows.start) * batch];
                operator.apply(product, own, x, y)?;
            } else {
                let (width, last) = (x.width(), first + operator.shape().0);
                let values: Vec<f32> =
                    x.values().chunks(width.max(1)).flat_map(|vector| &vector[*first..last]).copied().collect();
                operator.apply(product, own, &Inputs::new(&values, x.batch())?, y)?;
            }
        }
        Ok(())
    }
}
