//! Helpers for the tests and benches of a codec: weights, and the codec's size and error on them.
//!
//! These functions panic instead of returning errors: without its weights, a test has failed.

use codec_api::Registry;

use crate::matrix::{Options, Row, Status, columns_for, run};
use crate::suite::{Item, Suite, SuiteOptions};

pub use crate::suite::MeanSquares;

/// `n` weights of the suite of this name: an equal number from the start of each float tensor. If
/// some tensors are too small for that, further weights of the other tensors follow, in tensor
/// order.
///
/// # Panics
/// If there is no such suite, or it has fewer than `n` weights.
pub fn weights(suite: &str, n: usize) -> Vec<f32> {
    let suite = Suite::parse(suite, &SuiteOptions::default()).expect("a suite");
    let floats = suite.items.iter().filter(|item| item.spec.is_float());
    let tensors: Vec<_> = floats.map(|item| item.to_f32().expect("a float tensor")).collect();
    let part = n / tensors.len().max(1) + 1;
    let (firsts, rests): (Vec<_>, Vec<_>) = tensors.iter().map(|t| t.split_at(part.min(t.len()))).unzip();
    let values: Vec<f32> = firsts.into_iter().chain(rests).flatten().copied().take(n).collect();
    assert_eq!(values.len(), n, "suite `{}` has too few weights", suite.name);
    values
}

/// The matrix row of one F32 tensor through one codec.
///
/// # Panics
/// If no linked codec has this spec, `shape` does not fit, or the row is not `ok`.
pub fn measure(spec: &str, shape: &[usize], values: &[f32]) -> Row {
    let registry = Registry::linked().expect("linked codecs");
    let columns = columns_for(&registry, &[spec.to_owned()]).expect("a codec spec");
    let item = Item::from_f32("values", shape, values).expect("as many values as the shape says");
    let row = run(&Suite::new("test", 0, vec![item]), &columns, &Options::new(&registry), &mut ()).remove(0);
    assert_eq!(row.status, Status::Ok, "{spec}: {:?}", row.reason);
    row
}
