//! Bits above Shannon's bound, accuracy of rates and errors, and importance of inputs.

use codec_api::{Calibration, EncodeCx, InputAxis};
use harness::testing::{measure, weights};

use super::{decode, encode, nmse};

const SHAPE: [usize; 2] = [384, 1024];

/// Bits above the bound of Gaussian weights.
fn gap(spec: &str, shape: &[usize], values: &[f32]) -> f64 {
    let row = measure(spec, shape, values);
    row.bits_per_weight.unwrap() - 0.5 * (1.0 / row.nmse.unwrap()).log2()
}

#[test]
fn gaussian_weights_are_near_the_bound() {
    let values = weights("gaussian", SHAPE[0] * SHAPE[1]);
    for (states, limit) in [(8, 0.085), (64, 0.06), (256, 0.045)] {
        for bits in [0.5, 1.0, 2.0, 4.0, 6.0] {
            let gap = gap(&format!("trellis:states={states}:bits={bits}"), &SHAPE, &values);
            assert!((0.02..limit).contains(&gap), "{states} states, {bits} bits: {gap}");
        }
    }
    let small = &values[..384 * 384];
    let gap = gap("trellis:bits=4", &[384, 384], small);
    assert!(gap < 0.11, "384 × 384: {gap}");
}

#[test]
fn heavy_tails_cost_nothing() {
    let values = weights("laplace", SHAPE[0] * SHAPE[1]);
    for bits in [1.0, 2.0, 3.0, 4.0] {
        let gap = gap(&format!("trellis:bits={bits}"), &SHAPE, &values);
        assert!(gap < 0.03, "{bits} bits: {gap}");
    }
    // Rows and columns of different scales give contexts.
    let values = weights("scale-mixed", SHAPE[0] * SHAPE[1]);
    let gap = gap("trellis:bits=3", &SHAPE, &values);
    assert!(gap < -0.1, "{gap}");
}

#[test]
fn thirty_times_smaller() {
    let row = measure("trellis:preset=30x", &SHAPE, &weights("gaussian", SHAPE[0] * SHAPE[1]));
    assert!(row.bits_per_weight.unwrap() <= 1.067 && row.nmse.unwrap() <= 0.258, "{row:?}");
}

#[test]
fn rates_and_errors_are_met_from_the_safe_side() {
    for suite in ["gaussian", "laplace", "scale-mixed"] {
        let values = weights(suite, 256 * 256);
        for states in [4, 64] {
            for bits in [0.5, 1.3, 2.625, 5.5, 8.0] {
                let encoded =
                    encode(&format!("trellis:states={states}:bits={bits}"), &[256, 256], &values, &EncodeCx::new(0));
                let found = encoded.payload.bytes() as f64 * 8.0 / values.len() as f64;
                let part = found / bits;
                assert!((0.995..=1.0).contains(&part), "{suite}, {states} states, {bits} bits: {found}");
            }
            for error in [0.5, 0.1, 0.01, 1e-4, 1e-6] {
                let encoded =
                    encode(&format!("trellis:states={states}:error={error}"), &[256, 256], &values, &EncodeCx::new(0));
                let part = nmse(&values, &decode(&encoded)) / error;
                assert!((0.995..=1.0).contains(&part), "{suite}, {states} states, error {error}: {part} of it");
            }
        }
    }
}

#[test]
fn a_step_is_the_distance_between_multiples() {
    let values = weights("laplace", 128 * 128);
    for (scale, step) in [(1.0, "0.1"), (1e-28, "1e-29"), (1e28, "1e27")] {
        let values: Vec<f32> = values.iter().map(|w| w * scale).collect();
        let encoded = encode(&format!("trellis:step={step}"), &[128, 128], &values, &EncodeCx::new(0));
        let error = nmse(&values, &decode(&encoded));
        assert!((0.0022..0.0028).contains(&error), "{scale:e}: {error}");
    }
}

#[test]
fn calibrated_inputs_are_quantised_more_finely() {
    let values = weights("gaussian", 256 * 256);
    for axis in [InputAxis::Rows, InputAxis::Columns] {
        let squares: Vec<f32> = (0..256).map(|i| if i % 4 == 0 { 16.0 } else { 1.0 }).collect();
        let cx = EncodeCx::new(0).with_calibration(Calibration::new(axis, &squares));
        let weighted = |cx: &EncodeCx<'_>| {
            let encoded = encode("trellis:bits=3", &[256, 256], &values, cx);
            let decoded = decode(&encoded);
            let input = |i: usize| if axis == InputAxis::Rows { i / 256 } else { i % 256 };
            let error = |(i, (w, v)): (usize, (&f32, &f32))| squares[input(i)] * (w - v).powi(2);
            values.iter().zip(&decoded).enumerate().map(error).sum::<f32>()
        };
        let (with, without) = (weighted(&cx), weighted(&EncodeCx::new(0)));
        // Geometric over arithmetic mean of 16, 1, 1, 1: 2 to 4.75.
        assert!(with < 0.5 * without, "{axis:?}: {with} instead of {without}");
    }
}
