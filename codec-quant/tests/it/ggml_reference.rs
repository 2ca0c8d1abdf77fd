//! ggml's blocks of 32 are never worse than those of ggml's own encoder.

use codec_api::{CodecError, EncodeCx};
use harness::testing::weights;

use crate::ggml::squared_errors;

/// The F16 number nearest to `x`.
fn f16(x: f32) -> f32 {
    half::f16::from_f32(x).to_f32()
}

fn inverse(d: f32) -> f32 {
    if d == 0.0 { 0.0 } else { 1.0 / d }
}

fn peak(x: &[f32]) -> f32 {
    x.iter().fold(0.0, |m: f32, w| if w.abs() > m.abs() { *w } else { m })
}

/// A block as ggml's `quantize_row_*_ref` codes and decodes it.
fn reference(format: &str, x: &[f32]) -> Vec<f32> {
    let (low, high) = x.iter().fold((f32::INFINITY, f32::NEG_INFINITY), |(l, h), w| (l.min(*w), h.max(*w)));
    let (d, m, ends) = match format {
        "q4_0" => (peak(x) / -8.0, 0.0, [-8.0, 7.0]),
        "q5_0" => (peak(x) / -16.0, 0.0, [-16.0, 15.0]),
        "q8_0" => (peak(x).abs() / 127.0, 0.0, [-127.0, 127.0]),
        "q4_1" => ((high - low) / 15.0, low, [0.0, 15.0]),
        "q5_1" => ((high - low) / 31.0, low, [0.0, 31.0]),
        _ => return iq4_nl(x),
    };
    x.iter().map(|w| ((w - m) * inverse(d)).round().clamp(ends[0], ends[1]) * f16(d) + f16(m)).collect()
}

/// As ggml's `quantize_row_iq4_nl_impl` without tries: one least-squares scale, weighted by the
/// squares of the weights.
fn iq4_nl(x: &[f32]) -> Vec<f32> {
    const LEVELS: [f32; 16] =
        [-127.0, -104.0, -83.0, -65.0, -49.0, -35.0, -22.0, -10.0, 1.0, 13.0, 25.0, 38.0, 53.0, 69.0, 89.0, 113.0];
    let by_d = inverse(peak(x) / LEVELS[0]);
    let mut sums = [0.0; 2];
    let levels: Vec<f32> = x
        .iter()
        .map(|w| {
            let nearest =
                |best: f32, level: f32| if (w * by_d - level).abs() < (w * by_d - best).abs() { level } else { best };
            let level = LEVELS.into_iter().fold(LEVELS[0], nearest);
            sums = [sums[0] + w * w * level * w, sums[1] + w * w * level * level];
            level
        })
        .collect();
    let d = if sums[1] == 0.0 { 0.0 } else { f16(sums[0] / sums[1]) };
    levels.into_iter().map(|level| level * d).collect()
}

const FILLS: [fn(f32, usize) -> f32; 7] = [
    |w, _| w,
    |w, _| 1e-4 * w,
    |w, _| 1e-6 * w,
    |w, _| 1e-7 * w,
    |w, i| if i % 32 == 7 { 50.0 } else { w },
    |w, i| w.signum() * (i / 32) as f32 / 64.0,
    |w, i| 3.0 + w.abs() * 10f32.powi(-((i / 32 % 8) as i32)),
];

#[test]
fn no_block_is_worse_than_that_of_ggml() {
    let bell = weights("gaussian", 16 * 256);
    for format in ["q4_0", "q4_1", "q5_0", "q5_1", "q8_0", "iq4_nl"] {
        for (case, fill) in FILLS.iter().enumerate() {
            // A row of large weights beside them, so that no tensor is refused.
            let large = |i: usize| if i < 256 { 1.0 } else { fill(bell[i], i) };
            let values: Vec<f32> = (0..bell.len()).map(large).collect();
            let found = squared_errors(format, &values, &EncodeCx::new(0)).unwrap();
            let mut sums = [0.0; 2];
            for (block, (x, found)) in values.chunks(32).zip(found.chunks(32)).enumerate() {
                let pairs = x.iter().zip(reference(format, x));
                let theirs: f64 = pairs.map(|(w, d)| (f64::from(*w) - f64::from(d)).powi(2)).sum();
                let (ours, zeros): (f64, f64) = (found.iter().sum(), x.iter().map(|w| f64::from(*w).powi(2)).sum());
                sums = [sums[0] + ours, sums[1] + theirs];
                let most = theirs.min(zeros);
                assert!(ours <= most * 1.0001, "{format}, case {case}, block {block}: {ours:e}, not {most:e}");
            }
            assert!(sums[0] <= sums[1] * 1.0001, "{format}, case {case}: {:e}, ggml {:e}", sums[0], sums[1]);
        }
    }
}

/// Whether a tensor with these weights, again and again, loses nothing.
fn is_exact(format: &str, weights: &[f32]) -> bool {
    let values: Vec<f32> = weights.iter().copied().cycle().take(3 * 256).collect();
    squared_errors(format, &values, &EncodeCx::new(0)).unwrap().iter().all(|error| *error == 0.0)
}

#[test]
fn constants_that_f16_holds_are_exact() {
    let smallest = f16(6e-8);
    for format in ["q4_0", "q4_1", "q5_0", "q5_1", "q8_0", "iq4_nl"] {
        for magnitude in
            [0.25, f16(0.3), f16(1.7), 100.0, 65504.0, f16(0.001), f16(3e-5), f16(1e-6), 3.0 * smallest, smallest]
        {
            for value in [magnitude, -magnitude] {
                assert!(is_exact(format, &[value]), "{format} changes a constant of {value:e}");
            }
        }
    }
    // Beyond F16, a power of two times an F16 number.
    for (format, value) in [("q4_0", 8.0 * 50_016.0), ("q5_0", 16.0 * 50_016.0), ("q8_0", 64.0 * 50_016.0)] {
        assert!(is_exact(format, &[value]) && is_exact(format, &[-value]), "{format} changes a constant of {value:e}");
    }
}

#[test]
fn signs_of_one_magnitude_and_zeros_are_exact() {
    for format in ["q4_0", "q5_0", "q8_0"] {
        for value in [f16(0.03), f16(-1.3), f16(2e-7), 4.0 * 60_000.0] {
            assert!(
                is_exact(format, &[value, -value, 0.0, value, value]),
                "{format} changes ternary weights of {value:e}"
            );
        }
    }
}

#[test]
fn iq4_nl_codes_weights_near_the_smallest_f16() {
    // Level 1 times the smallest F16, 5.96e-8, is the nearest that a decoder can give.
    for value in [6e-8, -6e-8, 1e-7, -1e-7] {
        let errors = squared_errors("iq4_nl", &[value; 256], &EncodeCx::new(0)).unwrap();
        let nearest = f64::from((value.abs() / 5.960_464_5e-8).round() * 5.960_464_5e-8);
        let wanted = (f64::from(value.abs()) - nearest).abs();
        assert!((errors[0].sqrt() - wanted).abs() < 1e-12, "{value:e} is {:e} off", errors[0].sqrt());
    }
    // With both signs no code but zero is near: zeros are refused, with the number.
    let values: Vec<f32> = (0..256).map(|i| if i % 2 == 0 { 1e-8 } else { -1e-8 }).collect();
    let refusal = squared_errors("iq4_nl", &values, &EncodeCx::new(0)).unwrap_err();
    assert!(matches!(refusal, CodecError::Unsuitable { number, .. } if number as f32 == 1e-8), "{refusal}");
}
