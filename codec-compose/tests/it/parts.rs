//! Ranges of rows and products of combinators, beside those of the decoded matrix.

use codec_api::{DecodeCx, EncodeCx, Inputs, LinearOp, Product, RowReader};
use harness::testing::weights;

use crate::{WIDTHS, codec, encoded};

/// The spec with `LANES` replaced by a codec with rows and a linear operator.
fn with_lanes(spec: &str) -> String {
    spec.replace("LANES", "quant.ternary:packing=lanes")
}

#[test]
fn combinators_have_the_facets_of_their_children() {
    for (spec, rows, linear) in [
        ("hadamard(quant.int)", true, true),
        ("hadamard(LANES)", true, true),
        ("hadamard(lossless.zstd)", false, false),
        ("residual(LANES,LANES)", true, true),
        ("residual(LANES,quant.int)", true, true),
        ("residual(quant.int,quant.int)", true, true),
        ("residual(quant.nf4,quant.nf4)", true, false),
        ("residual(quant.int,lossless.zstd)", false, false),
        ("transpose(LANES)", false, false),
    ] {
        let codec = codec(&with_lanes(spec));
        assert_eq!((codec.as_rows().is_some(), codec.as_linear().is_some()), (rows, linear), "{spec}");
    }
}

/// Reads ranges of rows of every length and compares their bits.
fn check_rows(reader: &dyn RowReader, matrix: &[f32], what: &str) {
    let (rows, columns) = reader.shape();
    for (first, end) in (0..=rows).flat_map(|first| (first..=rows).map(move |end| (first, end))) {
        let mut out = vec![f32::NAN; (end - first) * columns];
        reader.read(first..end, &mut out).unwrap();
        let wanted = &matrix[first * columns..end * columns];
        assert!(out.iter().zip(wanted).all(|(a, b)| a.to_bits() == b.to_bits()), "rows {first}..{end} of {what}");
    }
}

#[test]
fn rows_are_those_of_the_decoded_matrix() {
    for spec in [
        "hadamard(quant.int:bits=4)",
        "residual(quant.int:bits=3,quant.int:bits=4:group=32)",
        "residual(LANES,residual(quant.int:bits=3,hadamard(quant.int:bits=4)))",
        "hadamard(residual(LANES,residual(LANES,LANES)))",
    ] {
        for shape in [&[9, 100][..], &[3, 4, 64], &[2, 2500], &[77]] {
            let values = weights("gaussian", shape.iter().product());
            let encoded = encoded(&with_lanes(spec), shape, &values, &EncodeCx::new(0));
            let matrix = encoded.decode(&DecodeCx::new()).unwrap();
            let reader = encoded.open_rows(&DecodeCx::new()).unwrap();
            assert_eq!(reader.shape(), encoded.spec.matrix());
            check_rows(&*reader, &matrix, &format!("{spec}, {shape:?}"));
            std::thread::scope(|scope| {
                for _ in 0..3 {
                    scope.spawn(|| check_rows(&*reader, &matrix, spec));
                }
            });
        }
    }
}

fn norm(values: &[f32]) -> f64 {
    values.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt()
}

/// The product with the decoded matrix, one row of `batch` values for each output.
fn exact(product: Product, matrix: &[f32], (rows, columns): (usize, usize), x: &Inputs<'_>) -> Vec<f64> {
    let weight = |output: usize, input: usize| match product {
        Product::Forward => matrix[output * columns + input],
        Product::Transposed => matrix[input * columns + output],
    };
    let (_, outputs) = product.sides((rows, columns));
    let sum = |output, vector: &[f32]| {
        vector.iter().enumerate().map(|(i, x)| f64::from(weight(output, i)) * f64::from(*x)).sum::<f64>()
    };
    (0..outputs).flat_map(|output| (0..x.batch()).map(move |i| sum(output, x.vector(i)))).collect()
}

/// Random vectors, one with a single value, one that is a row or a column of the matrix, and one
/// that is large only where that one is small.
fn inputs(product: Product, matrix: &[f32], (rows, columns): (usize, usize)) -> Vec<f32> {
    let first: Vec<f32> = match product {
        Product::Forward => matrix[..columns].to_vec(),
        Product::Transposed => matrix.iter().step_by(columns).copied().collect(),
    };
    let (width, _) = product.sides((rows, columns));
    let hot: Vec<f32> = (0..width).map(|i| if i == width / 2 { 1e4 } else { 0.0 }).collect();
    let small = first.iter().map(|w| 1.0 / (0.01 + w.abs())).collect();
    [weights("gaussian", width), hot, first, small].concat()
}

/// The product of two ranges of rows.
fn multiply(operator: &dyn LinearOp, product: Product, x: &Inputs<'_>) -> Vec<f32> {
    let (rows, _) = operator.shape();
    let middle = rows / 3;
    let (_, outputs) = product.sides(operator.shape());
    let mut y = vec![0.0; outputs * x.batch()];
    let (first, second) = y.split_at_mut(if product == Product::Forward { middle * x.batch() } else { 0 });
    let first = if product == Product::Forward { first } else { &mut *second };
    operator.apply(product, 0..middle, x, first).unwrap();
    operator.apply(product, middle..rows, x, second).unwrap();
    y
}

#[test]
fn products_are_those_of_the_decoded_matrix() {
    for spec in ["hadamard(LANES)", "hadamard(LANES):block=32", "residual(LANES,LANES)"] {
        for shape in WIDTHS.map(|columns| [7, columns]) {
            let encoded =
                encoded(&with_lanes(spec), &shape, &weights("laplace", shape[0] * shape[1]), &EncodeCx::new(0));
            let (matrix, shape) = (encoded.decode(&DecodeCx::new()).unwrap(), encoded.spec.matrix());
            let kernel = encoded.codec.require_linear().unwrap();
            let operator = kernel.prepare(&encoded.spec, encoded.payload.view(), &DecodeCx::new()).unwrap();
            for product in [Product::Forward, Product::Transposed] {
                let values = inputs(product, &matrix, shape);
                let x = Inputs::new(&values, 4).unwrap();
                let y = multiply(&*operator, product, &x);
                for (i, (exact, y)) in exact(product, &matrix, shape, &x).into_iter().zip(y).enumerate() {
                    let allowed = f64::from(operator.tolerance()) * norm(&matrix) * norm(x.vector(i % 4));
                    let off = (exact - f64::from(y)).abs();
                    assert!(off <= allowed, "{spec}, {shape:?}, {product:?}: {off:e} instead of {allowed:e}");
                }
            }
        }
    }
}
