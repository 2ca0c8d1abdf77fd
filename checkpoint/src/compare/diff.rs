//! The differences between two models, tensor by tensor.

use std::collections::BTreeSet;
use std::ops::Range;

use codec_api::{Progress, TensorSpec};
use rayon::prelude::*;
use serde::Serialize;

use super::values::{Sum, is_number};
use crate::error::Error;
use crate::map::Meter;
use crate::model::Model;

/// Elements of a piece of a dense tensor.
const PIECE: usize = 1 << 22;

/// What happened to a tensor between two models.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Change {
    /// The same dtype, shape and bits.
    Identical,
    /// Other values.
    Changed,
    /// Only in the second model.
    New,
    /// Only in the first model.
    Removed,
    /// Another shape. Values are not compared.
    Reshaped,
    /// Another dtype, and perhaps other values.
    OtherDtype,
}

/// How the values of a tensor differ.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Difference {
    /// Elements with other bits; between two dtypes, with another value.
    pub changed: u64,
    /// `‖a − b‖ / ‖a‖`: infinite if `a` is zero, NaN if a changed value is not finite.
    /// `None` for dtypes that are neither integers nor floats of at least 16 bits.
    pub relative: Option<f64>,
    /// `max |a − b|`, of the same dtypes.
    pub max_abs: Option<f64>,
}

/// A tensor of one or both models.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct TensorDiff {
    /// The name.
    pub name: String,
    /// What happened to it.
    pub change: Change,
    /// Dtype and shape in both models.
    pub specs: [Option<TensorSpec>; 2],
    /// `None` if there are no two tensors of one shape.
    pub difference: Option<Difference>,
}

/// Compares every tensor of `first` with the one of its name in `second`, on rayon's current pool,
/// in pieces of about 4 million elements. `progress` gets the number of compared elements.
///
/// The result has the tensors of `first` in their order, then those that only `second` has.
///
/// # Errors
/// [`Error::Damaged`] and others if a model cannot be read or decoded.
pub fn diff(first: &Model, second: &Model, progress: &dyn Progress) -> Result<Vec<TensorDiff>, Error> {
    let both = [first, second];
    let [known, others] = both.map(|model| model.names().into_iter().collect::<BTreeSet<_>>());
    let mut found = Vec::new();
    let new = second.names().into_iter().filter(|name| !known.contains(name));
    for name in first.names().into_iter().chain(new) {
        let spec =
            |model: &Model, names: &BTreeSet<&str>| names.contains(name).then(|| model.spec(name).cloned()).transpose();
        found.push(TensorDiff::unread(name, [spec(first, &known)?, spec(second, &others)?]));
    }
    let mut work = Vec::new();
    for (i, tensor) in found.iter().enumerate() {
        if let ([Some(spec), Some(_)], Change::Identical | Change::OtherDtype) = (&tensor.specs, tensor.change) {
            let cuts = [first.chunks(&tensor.name)?, second.chunks(&tensor.name)?, pieces(spec)];
            let cut = cuts.into_iter().find(|cut| !cut.is_empty()).unwrap_or_default();
            work.extend(cut.into_iter().map(|rows| (i, rows)));
        }
    }
    let meter = Meter::default();
    let compare = |(i, rows): &(usize, Range<usize>)| -> Result<(usize, Sum), Error> {
        let TensorDiff { name, specs: [Some(a), Some(b)], .. } = &found[*i] else { return Ok((*i, Sum::default())) };
        Error::check(progress)?;
        let bytes = [first.rows(name, rows)?, second.rows(name, rows)?];
        let sum = Sum::of([a.dtype(), b.dtype()], [&bytes[0], &bytes[1]]);
        progress.tick((rows.len() * a.matrix().1) as u64);
        meter.add((bytes[0].len() + bytes[1].len()) as u64, || both.iter().for_each(|model| model.release()));
        Ok((*i, sum))
    };
    let sums: Vec<(usize, Sum)> = work.par_iter().map(compare).collect::<Result<_, _>>()?;
    let mut all = vec![Sum::default(); found.len()];
    for (i, sum) in &sums {
        all[*i].add(sum);
    }
    found.iter_mut().zip(&all).for_each(|(tensor, sum)| tensor.take(sum));
    Ok(found)
}

/// Rows of a dense tensor that are compared at once: whole bytes, about [`PIECE`] elements.
fn pieces(spec: &TensorSpec) -> Vec<Range<usize>> {
    let (rows, columns) = spec.matrix();
    // Eight rows of any dtype are whole bytes.
    let step = (PIECE / columns.max(1)).next_multiple_of(8).max(8);
    (0..rows).step_by(step).map(|first| first..rows.min(first.saturating_add(step))).collect()
}

impl TensorDiff {
    /// Before the values are read.
    fn unread(name: &str, specs: [Option<TensorSpec>; 2]) -> Self {
        let change = match &specs {
            [Some(a), Some(b)] if a.shape() != b.shape() => Change::Reshaped,
            [Some(a), Some(b)] if a.dtype() != b.dtype() => Change::OtherDtype,
            [Some(_), None] => Change::Removed,
            [None, _] => Change::New,
            [Some(_), Some(_)] => Change::Identical,
        };
        Self { name: name.to_owned(), change, specs, difference: None }
    }

    /// Takes the sum of its pieces.
    fn take(&mut self, sum: &Sum) {
        let ([Some(a), Some(b)], Change::Identical | Change::OtherDtype) = (&self.specs, self.change) else { return };
        let numbers = is_number(a.dtype()) && is_number(b.dtype());
        // Without numbers, elements of another dtype cannot be told apart.
        if numbers || a.dtype() == b.dtype() {
            let (relative, max_abs) = (numbers.then(|| sum.relative()), numbers.then(|| sum.max_abs()));
            self.difference = Some(Difference { changed: sum.changed, relative, max_abs });
        }
        if self.change == Change::Identical && sum.changed > 0 {
            self.change = Change::Changed;
        }
    }
}
