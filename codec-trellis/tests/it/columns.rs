//! `trellis.columns`: both orders, steps of rows and columns, and the distance from the bound.

use codec_api::{Calibration, EncodeCx, InputAxis};
use harness::testing::weights;

use crate::{decode, encode, nmse};

fn turned(values: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    (0..columns).flat_map(|j| (0..rows).map(move |i| values[i * columns + j])).collect()
}

#[test]
fn rows_in_order_are_the_columns_of_the_transposed_matrix() {
    for [rows, columns] in [[70, 33], [33, 70], [1, 40], [40, 1], [1030, 9]] {
        let values = weights("gaussian", rows * columns);
        let cx = EncodeCx::new(0);
        let plain = encode("trellis.columns:step=0.3", &[rows, columns], &values, &cx);
        let other = turned(&values, rows, columns);
        let other = encode("trellis.columns:step=0.3:order=rows", &[columns, rows], &other, &cx);
        assert_eq!(plain.payload.sections(), other.payload.sections(), "{rows} × {columns}");
        assert_eq!(turned(&decode(&plain), rows, columns), decode(&other), "{rows} × {columns}");
    }
}

/// The squared error of a row or column is inversely proportional to its importance.
#[test]
fn errors_follow_the_importance_of_rows_and_columns() {
    let (rows, columns) = (128, 256);
    let values = weights("gaussian", rows * columns);
    let of_columns: Vec<f32> = (0..columns).map(|j| if j % 2 == 0 { 1.0 } else { 16.0 }).collect();
    let of_rows: Vec<f32> = (0..rows).map(|i| if i < 64 { 4.0 } else { 1.0 }).collect();
    for axis in [InputAxis::Columns, InputAxis::Rows] {
        let (inputs, outputs) =
            if axis == InputAxis::Columns { (&of_columns, &of_rows) } else { (&of_rows, &of_columns) };
        let cx = EncodeCx::new(0).with_calibration(Calibration::new(axis, inputs).with_outputs(outputs));
        let decoded = decode(&encode("trellis.columns:step=0.2", &[rows, columns], &values, &cx));
        let error = |of: &dyn Fn(usize, usize) -> bool| {
            let places = (0..rows * columns).filter(|at| of(at / columns, at % columns));
            let (sum, count) = places
                .fold((0.0, 0), |(sum, count), at| (sum + f64::from(values[at] - decoded[at]).powi(2), count + 1));
            sum / f64::from(count)
        };
        let by_column = error(&|_, j| j % 2 == 0) / error(&|_, j| j % 2 == 1);
        let by_row = error(&|i, _| i >= 64) / error(&|i, _| i < 64);
        assert!((12.0..20.0).contains(&by_column), "{axis:?}: {by_column}");
        assert!((3.2..5.0).contains(&by_row), "{axis:?}: {by_row}");
    }
}

/// With eight states and everything counted: blocks of 32 rows cost some hundredths of a bit, and
/// there is no cost of bits at low rates.
#[test]
fn it_is_near_the_bound() {
    let shape = [512, 512];
    let values = weights("gaussian", shape[0] * shape[1]);
    for (step, most) in [(0.7, 0.22), (0.35, 0.155), (0.1, 0.13)] {
        let encoded = encode(&format!("trellis.columns:step={step}"), &shape, &values, &EncodeCx::new(0));
        let bits = 8.0 * encoded.payload.bytes() as f64 / values.len() as f64;
        let bound = -0.5 * nmse(&values, &decode(&encoded)).log2();
        assert!((0.0..most).contains(&(bits - bound)), "step {step}: {bits} bits, {bound} at least");
    }
}
