//! Ternary scales that are weighted by calibration.

use codec_api::{Calibration, DecodeCx, EncodeCx, EncodedTensor, InputAxis, Registry, TensorView};
use harness::testing::{assert_products, weights};

const SHAPE: [usize; 2] = [96, 80];

/// `Σ h·(w − ŵ)²` without and with calibration of these mean squares `h`.
fn errors(spec: &str, values: &[f32], axis: InputAxis, squares: &[f32]) -> [f64; 2] {
    let codec = Registry::linked().unwrap().parse_spec(spec).unwrap();
    let plain = EncodeCx::new(0);
    let calibrated = EncodeCx::new(0).with_calibration(Calibration::new(axis, squares));
    [plain, calibrated].map(|cx| {
        let tensor = TensorView::from_f32(SHAPE, values).unwrap();
        let decoded = EncodedTensor::encode(codec.clone(), tensor, &cx).unwrap().decode(&DecodeCx::new()).unwrap();
        let error = |(i, (w, d)): (usize, (&f32, &f32))| {
            let input = if axis == InputAxis::Rows { i / SHAPE[1] } else { i % SHAPE[1] };
            f64::from(squares[input]) * f64::from(w - d).powi(2)
        };
        values.iter().zip(&decoded).enumerate().map(error).sum()
    })
}

#[test]
fn the_scale_fits_the_inputs_that_matter() {
    let bell = weights("gaussian", SHAPE.iter().product());
    let counts = |input: usize| input % 8 == 3;
    for spec in ["quant.ternary", "quant.ternary:packing=lanes", "quant.ternary:scope=row"] {
        for axis in [InputAxis::Columns, InputAxis::Rows] {
            let by_rows = axis == InputAxis::Rows;
            let inputs = if by_rows { SHAPE[0] } else { SHAPE[1] };
            let strong: Vec<f32> = (0..inputs).map(|i| if counts(i) { 1.0 } else { 0.001 }).collect();
            let weak: Vec<f32> = (0..inputs).map(|i| 1.0 + (i * 37 % 64) as f32 / 64.0).collect();
            // The weights of the inputs that count are a quarter as large as the others.
            let small = |i: usize| counts(if by_rows { i / SHAPE[1] } else { i % SHAPE[1] });
            let mixed: Vec<f32> = bell.iter().enumerate().map(|(i, w)| if small(i) { 0.25 * w } else { *w }).collect();
            for (values, squares) in [(&bell, &weak), (&bell, &strong), (&mixed, &weak), (&mixed, &strong)] {
                let [plain, calibrated] = errors(spec, values, axis, squares);
                assert!(calibrated <= plain, "{spec}, {axis:?}: {calibrated}, without calibration {plain}");
            }
            let [plain, calibrated] = errors(spec, &mixed, axis, &strong);
            // The weights of a row that belongs to one input count the same.
            let can_gain = !(by_rows && spec.ends_with("row"));
            assert!(calibrated < 0.5 * plain || !can_gain, "{spec}, {axis:?}: {calibrated} of {plain}");
        }
    }
}

/// The least squared error of ternary weights: that of the best threshold.
fn least_error(values: &[f32]) -> f64 {
    let mut magnitudes: Vec<f64> = values.iter().map(|w| f64::from(w.abs())).collect();
    magnitudes.sort_by(|a, b| b.total_cmp(a));
    let (mut total, mut gain) = (0.0, 0.0f64);
    for (i, w) in magnitudes.iter().enumerate() {
        total += w;
        gain = gain.max(total * total / (i + 1) as f64);
    }
    magnitudes.iter().map(|w| w * w).sum::<f64>() - gain
}

#[test]
fn no_outlier_hides_the_best_scale() {
    const COUNT: usize = 4096;
    let bell = weights("gaussian", COUNT);
    // Beside one weight of 100 or 1000 sigma all others become zeros, beside one of 30 they do not.
    for (outlier, nmse) in [(0.0, 0.19), (30.0, 0.3215), (100.0, 0.29), (1000.0, 0.0041)] {
        let mut values = bell.clone();
        values[1234] = -outlier;
        for spec in ["quant.ternary", "quant.ternary:scope=row", "quant.ternary:packing=lanes"] {
            let codec = Registry::linked().unwrap().parse_spec(spec).unwrap();
            let tensor = TensorView::from_f32([1, COUNT], &values).unwrap();
            let encoded = EncodedTensor::encode(codec, tensor, &EncodeCx::new(0)).unwrap();
            let decoded = encoded.decode(&DecodeCx::new()).unwrap();
            let found: f64 = values.iter().zip(&decoded).map(|(w, d)| f64::from(w - d).powi(2)).sum();
            let energy: f64 = values.iter().map(|w| f64::from(*w).powi(2)).sum();
            assert!(found <= 1.0005 * least_error(&values), "{spec}, {outlier}: {found}");
            assert!((found / energy / nmse - 1.0).abs() < 0.03, "{spec}, {outlier}: NMSE {}", found / energy);
        }
    }
}

#[test]
fn each_row_gets_its_best_scale() {
    const COLUMNS: usize = 96;
    let row = |r: usize, w: f32, i: usize| match (r, i) {
        (0, _) => 0.0,
        (2, _) => w * w * w,
        (3, 0..3) => 40.0,
        (4, 0) => 1e4,
        (5, 0..8) => 7.0 * w.signum(),
        (5, _) => 0.1 * w,
        _ => w,
    };
    let values: Vec<f32> =
        weights("gaussian", 6 * COLUMNS).iter().enumerate().map(|(i, w)| row(i / COLUMNS, *w, i % COLUMNS)).collect();
    let codec = Registry::linked().unwrap().parse_spec("quant.ternary:scope=row").unwrap();
    let tensor = TensorView::from_f32([6, COLUMNS], &values).unwrap();
    let decoded = EncodedTensor::encode(codec, tensor, &EncodeCx::new(0)).unwrap().decode(&DecodeCx::new()).unwrap();
    for (r, (x, d)) in values.chunks(COLUMNS).zip(decoded.chunks(COLUMNS)).enumerate() {
        let found: f64 = x.iter().zip(d).map(|(w, d)| (f64::from(*w) - f64::from(*d)).powi(2)).sum();
        // Weights of one bin that belong on both sides of the threshold cost a little.
        assert!(found <= 1.01 * least_error(x), "row {r}: {found}, not {}", least_error(x));
    }
}

#[test]
fn trits_multiply_at_every_level() {
    for (rows, columns) in [(1, 1), (3, 4096), (70, 1000), (131, 159), (64, 161), (9, 800)] {
        let mut values = weights("gaussian", rows * columns);
        // Rows of zeros, and of other scales.
        values[..columns.min(rows * columns / 2)].fill(0.0);
        values.iter_mut().skip(2 * columns).step_by(3).for_each(|w| *w *= 30.0);
        for scope in ["tensor", "row"] {
            assert_products(&format!("quant.ternary:scope={scope}"), [rows, columns], &values);
        }
    }
}
