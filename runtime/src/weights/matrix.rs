//! A matrix of one or several operators, each of which has a range of its rows.

use std::borrow::Cow;
use std::ops::{Deref, Range};

use codec_api::{Inputs, LinearOp, Product, Result};

use super::store::OnDemand;

/// An operator that stays in memory, or one that is loaded when it is used.
#[derive(Debug)]
pub(super) enum Operator {
    Here(Box<dyn LinearOp>),
    OnDemand(OnDemand),
}

impl Deref for Operator {
    type Target = dyn LinearOp;

    fn deref(&self) -> &Self::Target {
        match self {
            Self::Here(operator) => &**operator,
            Self::OnDemand(operator) => operator,
        }
    }
}

/// A matrix. A packed tensor has an operator for each chunk of its rows.
#[derive(Debug)]
pub(crate) struct Matrix {
    /// The first row of each operator, and the operator.
    parts: Vec<(usize, Operator)>,
    rows: usize,
    columns: usize,
    granule: usize,
    shares_outputs: bool,
    divides: bool,
}

impl Matrix {
    /// Puts operators together, one below the other.
    pub(super) fn new(operators: Vec<Operator>) -> Self {
        let (mut rows, mut columns, mut granule) = (0, 0, 1);
        let (mut shares_outputs, mut divides) = (true, true);
        let mut parts = Vec::new();
        for operator in operators {
            let shape = operator.shape();
            granule = granule.max(operator.granule().get());
            shares_outputs &= operator.shares_outputs(Product::Transposed);
            divides &= operator.divides();
            parts.push((rows, operator));
            (rows, columns) = (rows + shape.0, shape.1);
        }
        Self { parts, rows, columns, granule, shares_outputs, divides }
    }

    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    pub(crate) fn columns(&self) -> usize {
        self.columns
    }

    /// Ranges of rows that begin at multiples of it waste no work.
    pub(crate) fn granule(&self) -> usize {
        self.granule
    }

    /// The numbers of the operators of some rows that are loaded on demand.
    pub(super) fn items(&self, rows: &Range<usize>) -> impl Iterator<Item = usize> {
        self.parts.iter().filter_map(|(first, operator)| match operator {
            Operator::OnDemand(item) if *first < rows.end && rows.start < first + item.shape().0 => Some(item.id()),
            _ => None,
        })
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
                let values = inputs_of(x, *first..first + operator.shape().0);
                operator.apply(product, own, &Inputs::new(&values, x.batch())?, y)?;
            }
        }
        Ok(())
    }

    /// Whether threads can share the outputs of the product with the transposed matrix.
    pub(crate) fn shares_outputs(&self) -> bool {
        self.shares_outputs
    }

    /// Whether products for few outputs at a time cost little more than one for many.
    pub(crate) fn divides(&self) -> bool {
        self.divides
    }

    /// Some outputs of the product with the transposed matrix, `outputs × batch`.
    ///
    /// # Errors
    /// Those of the operators.
    pub(crate) fn apply_outputs(&self, outputs: &Range<usize>, x: &Inputs<'_>, y: &mut [f32]) -> Result<()> {
        let operate = |operator: &Operator, x: &Inputs<'_>, y: &mut [f32]| {
            operator.apply_outputs(Product::Transposed, outputs.clone(), x, y)
        };
        self.sum(x, y, operate)
    }

    /// Some outputs of a product, `batch × outputs`. The operators can compute some outputs of the
    /// product with the transposed matrix alone ([`Self::shares_outputs`]).
    ///
    /// # Errors
    /// Those of the operators.
    pub(crate) fn apply_vectors(
        &self,
        product: Product,
        outputs: &Range<usize>,
        x: &Inputs<'_>,
        y: &mut [f32],
    ) -> Result<()> {
        let count = outputs.len();
        if product == Product::Transposed {
            return self.sum(x, y, |operator, x, y| operator.apply_vectors(product, outputs.clone(), x, y, count));
        }
        for (first, operator) in &self.parts {
            let (start, end) = (outputs.start.max(*first), outputs.end.min(first + operator.shape().0));
            if start < end {
                let y = &mut y[start - outputs.start..];
                operator.apply_vectors(product, start - first..end - first, x, y, count)?;
            }
        }
        Ok(())
    }

    /// The sum of what the operators make of their inputs.
    fn sum(
        &self,
        x: &Inputs<'_>,
        y: &mut [f32],
        operate: impl Fn(&Operator, &Inputs<'_>, &mut [f32]) -> Result<()>,
    ) -> Result<()> {
        if let [(_, only)] = &*self.parts {
            return operate(only, x, y);
        }
        y.fill(0.0);
        let mut part = vec![0.0; y.len()];
        for (first, operator) in &self.parts {
            let values = inputs_of(x, *first..first + operator.shape().0);
            operate(operator, &Inputs::new(&values, x.batch())?, &mut part)?;
            y.iter_mut().zip(&part).for_each(|(y, part)| *y += part);
        }
        Ok(())
    }
}

/// Some inputs of each vector.
fn inputs_of<'a>(x: &Inputs<'a>, inputs: Range<usize>) -> Cow<'a, [f32]> {
    if x.batch() == 1 {
        return Cow::Borrowed(&x.values()[inputs]);
    }
    let mut values = Vec::with_capacity(inputs.len() * x.batch());
    x.values().chunks(x.width().max(1)).for_each(|vector| values.extend_from_slice(&vector[inputs.clone()]));
    Cow::Owned(values)
}
