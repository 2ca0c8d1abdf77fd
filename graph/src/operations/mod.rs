//! The operations of this crate, one file for each family.

pub(crate) mod elementwise;
pub(crate) mod matmul;
pub(crate) mod norms;
pub(crate) mod quantise;
pub(crate) mod sums;
pub(crate) mod views;

use codec_api::{Dtype, TensorSpec};

/// A spec of computed values.
fn computed(shape: &[usize]) -> Result<TensorSpec, String> {
    TensorSpec::new(Dtype::F32, shape).map_err(|error| error.to_string())
}

/// The only operand.
fn one<'a>(operands: &[&'a TensorSpec]) -> Result<&'a TensorSpec, String> {
    match operands {
        [only] => Ok(only),
        _ => Err(format!("it takes one operand, not {}", operands.len())),
    }
}

/// The only two operands.
fn two<'a>(operands: &[&'a TensorSpec]) -> Result<[&'a TensorSpec; 2], String> {
    match operands {
        [a, b] => Ok([a, b]),
        _ => Err(format!("it takes two operands, not {}", operands.len())),
    }
}
