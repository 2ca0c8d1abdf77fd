//! Scales that `quant.int` and `quant.nf4` choose with calibration.

use codec_api::{Calibration, DecodeCx, EncodeCx, EncodedTensor, InputAxis, Registry, TensorView};
use harness::testing::weights;
use simd::{Level, with_level};

/// Groups and blocks end within a row and cross rows.
const SHAPE: [usize; 2] = [40, 200];

const SPECS: [&str; 9] = [
    "quant.int:bits=4:group=128:symmetric=false",
    "quant.int:bits=4:group=128:symmetric=false:clip=true",
    "quant.int:bits=3:group=64",
    "quant.int:bits=3:group=48:clip=true",
    "quant.int:bits=4:group=row",
    "quant.int:bits=3:group=tensor:symmetric=false",
    "quant.int:bits=4:group=tensor:clip=true",
    "quant.nf4",
    "quant.nf4:double_quant=true",
];

fn encode(spec: &str, values: &[f32], calibration: Option<Calibration<'_>>) -> EncodedTensor {
    let codec = Registry::linked().unwrap().parse_spec(spec).unwrap();
    let mut cx = EncodeCx::new(0);
    cx.calibration = calibration;
    EncodedTensor::encode(codec, TensorView::from_f32(SHAPE, values).unwrap(), &cx).unwrap()
}

/// `Σ h·(w − ŵ)²` with the mean squares `h`.
fn weighted(encoded: &EncodedTensor, values: &[f32], calibration: Calibration<'_>) -> f64 {
    let decoded = encoded.decode(&DecodeCx::new()).unwrap();
    let error = |(i, (w, d)): (usize, (&f32, &f32))| {
        let input = if calibration.axis == InputAxis::Rows { i / SHAPE[1] } else { i % SHAPE[1] };
        f64::from(calibration.mean_squares[input]) * (f64::from(*w) - f64::from(*d)).powi(2)
    };
    values.iter().zip(&decoded).enumerate().map(error).sum()
}

/// The weighted error with calibration, relative to the one without.
fn gain(spec: &str, values: &[f32], calibration: Calibration<'_>) -> f64 {
    let error = |encoded: &EncodedTensor| weighted(encoded, values, calibration);
    error(&encode(spec, values, Some(calibration))) / error(&encode(spec, values, None))
}

fn bell() -> Vec<f32> {
    weights("gaussian", SHAPE.iter().product())
}

#[test]
fn the_weighted_error_never_grows() {
    let bell = bell();
    let heavy: Vec<f32> = bell.iter().map(|w| w * w * w).collect();
    let shifted: Vec<f32> = bell.iter().map(|w| (w + 1.0) * 1e-30).collect();
    for axis in [InputAxis::Columns, InputAxis::Rows] {
        let inputs = if axis == InputAxis::Rows { SHAPE[0] } else { SHAPE[1] };
        let equal = vec![3.0; inputs];
        let mild: Vec<f32> = (0..inputs).map(|i| 1.0 + (i * 37 % 64) as f32 / 64.0).collect();
        let wild: Vec<f32> = (0..inputs).map(|i| (10.0f32).powi((i * 37 % 64) as i32 / 8)).collect();
        for squares in [equal, mild, wild] {
            for (values, spec) in [&bell, &heavy, &shifted].into_iter().flat_map(|v| SPECS.map(|spec| (v, spec))) {
                let gain = gain(spec, values, Calibration::new(axis, &squares));
                // The encoder compares sums in f32.
                assert!(gain <= 1.0 + 1e-5, "{spec}, {axis:?}: {gain}");
            }
        }
    }
}

#[test]
fn the_scale_fits_the_inputs_that_matter() {
    let values = bell();
    let strong: Vec<f32> = (0..SHAPE[1]).map(|i| if i % 8 == 3 { 1.0 } else { 0.01 }).collect();
    for spec in SPECS.into_iter().filter(|spec| !spec.contains("tensor")) {
        let gain = gain(spec, &values, Calibration::new(InputAxis::Columns, &strong));
        assert!(gain < 0.9, "{spec}: {gain}");
    }
    // A scale of the tensor gains where the inputs that matter have smaller weights than others.
    for axis in [InputAxis::Columns, InputAxis::Rows] {
        let matters = |input: usize| input % 8 == 3;
        let inputs = if axis == InputAxis::Rows { SHAPE[0] } else { SHAPE[1] };
        let strong: Vec<f32> = (0..inputs).map(|i| if matters(i) { 1.0 } else { 0.01 }).collect();
        let small = |i: usize| matters(if axis == InputAxis::Rows { i / SHAPE[1] } else { i % SHAPE[1] });
        let mixed: Vec<f32> = values.iter().enumerate().map(|(i, w)| if small(i) { 0.5 * w } else { *w }).collect();
        for spec in SPECS.into_iter().filter(|spec| spec.contains("tensor")) {
            let gain = gain(spec, &mixed, Calibration::new(axis, &strong));
            assert!(gain < 0.95, "{spec}, {axis:?}: {gain}");
        }
    }
}

#[test]
fn inputs_along_the_rows_do_not_matter_within_a_row() {
    let values = bell();
    let squares: Vec<f32> = (0..SHAPE[0]).map(|i| (1 + i % 7) as f32).collect();
    let calibration = Calibration::new(InputAxis::Rows, &squares);
    for spec in SPECS.into_iter().filter(|spec| spec.contains("int") && !spec.contains("tensor")) {
        let payload = encode(spec, &values, Some(calibration)).payload;
        assert_eq!(payload, encode(spec, &values, None).payload, "{spec}");
    }
}

#[test]
fn every_level_finds_the_same_scales() {
    let values = bell();
    for (axis, inputs) in [(InputAxis::Rows, SHAPE[0]), (InputAxis::Columns, SHAPE[1])] {
        let squares: Vec<f32> = (0..inputs).map(|i| 1.0 / (1 + i * 37 % 64) as f32).collect();
        for spec in SPECS {
            let encode = || encode(spec, &values, Some(Calibration::new(axis, &squares))).payload;
            let wanted = encode();
            for level in Level::available() {
                assert_eq!(with_level(level, encode), wanted, "{spec} at {level}");
            }
        }
    }
}
