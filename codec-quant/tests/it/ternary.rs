//! Ternary scales that are weighted by calibration.

use codec_api::{Calibration, DecodeCx, EncodeCx, EncodedTensor, InputAxis, Registry, TensorView};
use harness::testing::weights;

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
