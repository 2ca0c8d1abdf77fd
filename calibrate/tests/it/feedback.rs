//! Feedback over codecs.

use std::sync::Arc;

use calibrate::{Curvature, Factor, Fed, feedback, proxy};
use codec_api::{Codec, DecodeCx, EncodeCx, EncodedTensor, InputAxis, Registry, TensorView};

use crate::support::{gram, normal, samples, turned};

/// Codecs with blocks of one weight, of columns, and of rows; scales of rows, groups and tensors.
const CODECS: [&str; 9] = [
    "quant.int:bits=3:group=row",
    "quant.int:bits=4:group=64",
    "quant.nf4",
    "quant.fp8",
    "quant.mxfp4",
    "trellis.bitshift:bits=2:state_bits=10",
    "trellis.columns:states=8:step=0.3",
    "trellis.columns:states=16:order=rows:step=0.3",
    "quant.ternary:scope=row",
];

fn codec(spec: &str) -> Arc<dyn Codec> {
    Registry::linked().expect("a registry").parse_spec(spec).expect("a codec")
}

fn fed(spec: &str, values: &[f32], shape: [usize; 2], of: Curvature<'_>) -> Fed {
    let tensor = TensorView::from_f32(shape, values).expect("a tensor");
    feedback(&*codec(spec), &tensor, of, &EncodeCx::new(0)).expect("an encode")
}

#[test]
fn with_identities_it_is_the_plain_encode() {
    let (m, n) = (96, 512);
    let values = normal(2, m * n);
    let tensor = TensorView::from_f32([m, n], &values).expect("a tensor");
    let flat = |order: usize| (0..order * order).map(|i| f32::from(i % (order + 1) == 0)).collect::<Vec<f32>>();
    let eyes = [Factor::new(&flat(n), n, 0.0).expect("a factor"), Factor::new(&flat(m), m, 0.0).expect("a factor")];
    for spec in CODECS {
        let plain = EncodedTensor::encode(codec(spec), tensor.clone(), &EncodeCx::new(0)).expect("an encode");
        for [inputs, outputs] in [[&Factor::identity(n), &Factor::identity(m)], [&eyes[0], &eyes[1]]] {
            let fed = fed(spec, &values, [m, n], Curvature { axis: InputAxis::Columns, inputs, outputs });
            assert_eq!(fed.payload.sections(), plain.payload.sections(), "{spec}");
            assert!(fed.decoded == plain.decode(&DecodeCx::new()).expect("a decode"), "{spec}");
        }
    }
}

/// In both orientations the proxy is the squared error of the outputs, feedback lowers it, and the
/// payload decodes to what the feedback saw.
#[test]
fn feedback_lowers_the_error_of_the_outputs() {
    let (m, n, tokens) = (64, 128, 400);
    let x = samples(3, tokens, n);
    let a = gram(&x, n);
    let inputs = Factor::new(&a, n, 0.01).expect("a factor");
    let outputs = Factor::identity(m);
    let direct = |error: &[f32]| {
        let squares = x.chunks_exact(n).flat_map(|x| {
            error
                .chunks_exact(n)
                .map(move |row| row.iter().zip(x).map(|(e, x)| f64::from(*e) * f64::from(*x)).sum::<f64>())
        });
        squares.map(|y| y * y).sum::<f64>() / tokens as f64
    };
    let linear = normal(4, m * n);
    for axis in [InputAxis::Columns, InputAxis::Rows] {
        let by_columns = axis == InputAxis::Columns;
        let (values, shape) = if by_columns { (linear.clone(), [m, n]) } else { (turned(&linear, m, n), [n, m]) };
        let straight = |error: Vec<f32>| if by_columns { error } else { turned(&error, n, m) };
        for spec in ["quant.int:bits=3:group=row", "quant.mxfp4"] {
            let cost = |inputs: &Factor| {
                let fed = fed(spec, &values, shape, Curvature { axis, inputs, outputs: &outputs });
                let error: Vec<f32> = values.iter().zip(&fed.decoded).map(|(w, q)| w - q).collect();
                let (rows, columns) = if by_columns { (None, Some(&*a)) } else { (Some(&*a), None) };
                let proxy = proxy(&error, (shape[0], shape[1]), rows, columns);
                let direct = direct(&straight(error));
                assert!((proxy / direct - 1.0).abs() < 1e-4, "{spec}: {proxy} for {direct}");
                let mut encoded = EncodedTensor::encode(
                    codec(spec),
                    TensorView::from_f32(shape, &values).expect("a tensor"),
                    &EncodeCx::new(0),
                )
                .expect("an encode");
                encoded.payload = fed.payload;
                assert!(encoded.decode(&DecodeCx::new()).expect("a decode") == fed.decoded, "{spec}");
                direct
            };
            let (with, without) = (cost(&inputs), cost(&Factor::identity(n)));
            assert!(with < 0.7 * without, "{spec}, {axis:?}: {with} with feedback, {without} without");
        }
    }
}

/// Both curvatures together lower their proxy below that of either alone.
#[test]
fn feedback_of_outputs_adds_to_that_of_inputs() {
    let (m, n) = (96, 64);
    let [a, g] = [(5, n), (6, m)].map(|(seed, width)| gram(&samples(seed, 500, width), width));
    let factors = [(&a, n), (&g, m)].map(|(matrix, order)| Factor::new(matrix, order, 0.01).expect("a factor"));
    let values = normal(7, m * n);
    let cost = |inputs: &Factor, outputs: &Factor| {
        let of = Curvature { axis: InputAxis::Columns, inputs, outputs };
        let decoded = fed("quant.int:bits=3:group=row", &values, [m, n], of).decoded;
        let error: Vec<f32> = values.iter().zip(&decoded).map(|(w, q)| w - q).collect();
        proxy(&error, (m, n), Some(&g), Some(&a))
    };
    let none = cost(&Factor::identity(n), &Factor::identity(m));
    let (of_inputs, both) = (cost(&factors[0], &Factor::identity(m)), cost(&factors[0], &factors[1]));
    assert!(of_inputs < 0.7 * none && both < 0.8 * of_inputs, "{none}, {of_inputs}, {both}");
}

#[test]
fn threads_do_not_change_a_byte() {
    // Threads share a product of this many rows.
    let (m, n) = (600, 320);
    let a = gram(&samples(8, 500, n), n);
    let g = gram(&samples(9, 200, m), m);
    let (inputs, outputs) = (Factor::new(&a, n, 0.01).expect("a factor"), Factor::new(&g, m, 0.01).expect("a factor"));
    let values = normal(10, m * n);
    let encode = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
        let of = Curvature { axis: InputAxis::Columns, inputs: &inputs, outputs: &outputs };
        pool.install(|| fed("quant.int:bits=4:group=64", &values, [m, n], of)).payload
    };
    let one = encode(1);
    for threads in [2, 3] {
        assert_eq!(encode(threads).sections(), one.sections(), "{threads} threads");
    }
}

/// The targets are those of the formula, weight by weight, for blocks of one weight and of rows.
#[test]
fn products_add_what_the_formula_says() {
    let (m, n) = (100, 150);
    let [a, g] = [(13, n), (14, m)].map(|(seed, width)| gram(&samples(seed, 400, width), width));
    let factor = |matrix, order| Factor::new(matrix, order, 0.01).expect("a factor");
    let (inputs, outputs) = (factor(&a, n), factor(&g, m));
    let values = normal(15, m * n);
    let of = Curvature { axis: InputAxis::Columns, inputs: &inputs, outputs: &outputs };
    // One step for all weights: the codec is no more than a rounding.
    let decoded = fed("quant.int:bits=4:group=tensor", &values, [m, n], of).decoded;
    let levels = {
        let mut levels = decoded.clone();
        levels.sort_by(f32::total_cmp);
        levels.dedup();
        levels
    };
    let (of_columns, of_rows) = (inputs.unit().expect("a unit"), outputs.unit().expect("a unit"));
    let (mut targets, mut distances) = (vec![0.0; m * n], Vec::new());
    for j in 0..n {
        for i in 0..m {
            let error = |l: usize| f64::from(values[i * n + l] - decoded[i * n + l]);
            let by_columns: f64 = (0..j).map(|l| of_columns[l * n + j] * error(l)).sum();
            let target = f64::from(values[i * n + j]) + by_columns;
            let residual = |k: usize| targets[k * n + j] - f64::from(decoded[k * n + j]);
            let by_rows: f64 = (0..i).map(|k| of_rows[k * m + i] * residual(k)).sum();
            targets[i * n + j] = target;
            let distance = |level: &f32| (f64::from(*level) - target - by_rows).abs();
            let least = levels.iter().map(distance).fold(f64::INFINITY, f64::min);
            distances.push(distance(&decoded[i * n + j]) - least);
        }
    }
    let largest = distances.iter().copied().fold(0.0, f64::max);
    assert!(largest < 1e-4, "a weight is {largest} farther from its target than another level");
}

/// The weights of inputs that are always 0 do not matter, and the others are encoded as without
/// them.
#[test]
fn dead_inputs_disturb_nothing() {
    let (m, n) = (32, 64);
    let mut x = samples(11, 300, n);
    x.iter_mut().skip(5).step_by(n).for_each(|x| *x = 0.0);
    let a = gram(&x, n);
    let inputs = Factor::new(&a, n, 0.01).expect("a factor");
    let values = normal(12, m * n);
    let of = Curvature { axis: InputAxis::Columns, inputs: &inputs, outputs: &Factor::identity(m) };
    let decoded = fed("quant.int:bits=3:group=row", &values, [m, n], of).decoded;
    assert!(decoded.iter().all(|w| w.is_finite()));
    let error: Vec<f32> = values.iter().zip(&decoded).map(|(w, q)| w - q).collect();
    let of = Curvature { axis: InputAxis::Columns, inputs: &Factor::identity(n), outputs: &Factor::identity(m) };
    let plain = fed("quant.int:bits=3:group=row", &values, [m, n], of).decoded;
    let plain: Vec<f32> = values.iter().zip(&plain).map(|(w, q)| w - q).collect();
    assert!(proxy(&error, (m, n), None, Some(&a)) < 0.7 * proxy(&plain, (m, n), None, Some(&a)));
}

#[test]
fn what_does_not_fit_is_refused() {
    let tensor = TensorView::from_f32([4, 8], &[1.0; 32]).expect("a tensor");
    let (four, eight) = (Factor::identity(4), Factor::identity(8));
    let error = |spec: &str, inputs, outputs| {
        let of = Curvature { axis: InputAxis::Columns, inputs, outputs };
        feedback(&*codec(spec), &tensor, of, &EncodeCx::new(0)).expect_err("it does not fit").to_string()
    };
    assert!(error("quant.int", &four, &eight).contains("(4, 8) inputs and outputs for a layer of (8, 4)"));
    assert!(error("lossless", &eight, &four).contains("`lossless` does not encode column by column"));
}
