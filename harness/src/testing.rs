//! Helpers for the tests and benches of a codec: weights, and the codec's size and error on them.
//!
//! These functions panic instead of returning errors: without its weights, a test has failed.

use codec_api::{DecodeCx, EncodeCx, EncodedTensor, Inputs, Product, Registry, TensorView};
use simd::{Level, with_level};

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

/// Asserts that the operator of this codec agrees with the decoded matrix within its tolerance, for
/// both products and several sizes of inputs, and that every level gives the same bits. Law 8
/// checks the same on smaller matrices, with more kinds of inputs.
///
/// # Panics
/// If it does not, or the codec has no operator.
pub fn assert_products(spec: &str, shape: [usize; 2], values: &[f32]) {
    let codec = Registry::linked().expect("linked codecs").parse_spec(spec).expect("a codec spec");
    let tensor = TensorView::from_f32(shape, values).expect("as many values as the shape says");
    let encoded = EncodedTensor::encode(codec, tensor, &EncodeCx::new(0)).expect("a payload");
    let decoded = encoded.decode(&DecodeCx::new()).expect("weights");
    let norm = |values: &[f32]| values.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt();
    for (product, batch) in [Product::Forward, Product::Transposed].into_iter().flat_map(|p| [(p, 1), (p, 6)]) {
        let (inputs, outputs) = product.sides((shape[0], shape[1]));
        let cx = DecodeCx::new().for_product(product);
        let operator = encoded.own_operator(&cx).expect("a good payload").expect("an operator");
        let weight = |output: usize, input: usize| {
            let (row, column) = if product == Product::Forward { (output, input) } else { (input, output) };
            f64::from(decoded[row * shape[1] + column])
        };
        // Vector after vector is smaller, down to subnormal numbers.
        let sizes = [1.0, 1e-3, 1e-15, 1e-25, 1e-36, 1e20];
        let x: Vec<f32> =
            (0..inputs * batch).map(|i| sizes[i / inputs] * ((i * 7919 % 2003) as f32 / 1000.0 - 1.0)).collect();
        let multiply = |level| {
            with_level(level, || {
                let mut y = vec![f32::NAN; outputs * batch];
                let x = Inputs::new(&x, batch).expect("vectors");
                operator.apply_outputs(product, 0..outputs, &x, &mut y).expect("a product");
                y
            })
        };
        let y = multiply(Level::Scalar);
        for (b, x) in x.chunks(inputs).enumerate() {
            let allowed = f64::from(operator.tolerance()) * norm(&decoded) * norm(x) + f64::from(f32::MIN_POSITIVE);
            for output in 0..outputs {
                let exact: f64 = x.iter().enumerate().map(|(i, x)| f64::from(*x) * weight(output, i)).sum();
                let off = (f64::from(y[output * batch + b]) - exact).abs();
                assert!(off <= allowed, "{spec}, {product:?}, vector {b}, output {output}: {off:e} > {allowed:e}");
            }
        }
        for level in Level::available() {
            let same = multiply(level).iter().zip(&y).all(|(a, b)| a.to_bits() == b.to_bits());
            assert!(same, "{spec}, {product:?}, {batch} vectors: other bits at {level}");
        }
    }
}
