//! `trellis.bitshift` against a decoder written from its module's documentation, against the
//! figures of its paper, and with odd sizes.

use codec_api::{Calibration, CodecError, DecodeCx, EncodeCx, InputAxis, Payload, Section};
use harness::testing::{assert_products, measure, weights};
use simd::{Level, with_level};

use super::{assert_same_bits, decode, encode, replaced};

/// Bits of a weight, bits of a state, and the code.
#[derive(Clone, Copy, Debug)]
struct Setting(usize, usize, &'static str);

impl Setting {
    fn spec(self) -> String {
        format!("trellis.bitshift:bits={}:state_bits={}:code={}", self.0, self.1, self.2)
    }
}

/// A decoder that follows the module's documentation literally, one bit at a time.
fn reference(Setting(k, state_bits, code): Setting, payload: &Payload, rows: usize, columns: usize) -> Vec<f32> {
    let bytes = |name: &str| payload.sections()[name].data().to_vec();
    let (codes, levels) = (bytes("codes"), bytes("levels"));
    let scale = f32::from_le_bytes(bytes("scale").try_into().unwrap());
    let (mut out, mut at) = (Vec::new(), 0);
    let rows_of_span = 256usize.div_ceil(columns);
    for (span, first) in (0..rows).step_by(rows_of_span).enumerate() {
        let mut left = rows_of_span.min(rows - first) * columns;
        let level = levels[span];
        let factor = if level == 255 { 0.0 } else { 2f64.powf(-f64::from(level % 16) / 16.0) as f32 };
        let step = scale * (factor * 0.5f32.powi(i32::from(level / 16)));
        while left > 0 {
            let n = if left < 512 { left } else { 256 };
            let ring = &codes[at..at + (n * k).div_ceil(8)];
            for i in 0..n {
                let bit = |j: usize| u32::from(ring[j % (n * k) / 8] >> (j % (n * k) % 8) & 1);
                let state = (0..state_bits).map(|j| bit(i * k + j) << j).sum();
                out.push(if step == 0.0 { 0.0 } else { value(code, state) * step });
            }
            (at, left) = (at + ring.len(), left - n);
        }
    }
    assert_eq!(at, codes.len());
    out
}

fn value(code: &str, state: u32) -> f32 {
    if code == "1mad" {
        let x = state.wrapping_mul(34_038_481).wrapping_add(76_625_530);
        return (x.to_le_bytes().into_iter().map(i32::from).sum::<i32>() - 510) as f32;
    }
    let x = state.wrapping_mul(89_226_354).wrapping_add(64_248_484);
    let x = (x & 0x8fff_8fff) ^ 0x3b60_3b60;
    let half = |bits: u32| {
        let magnitude = (1.0 + (bits & 0x3ff) as f32 / 1024.0) * 2f32.powi((bits >> 10 & 0x1f) as i32 - 15);
        if bits & 0x8000 == 0 { magnitude } else { -magnitude }
    };
    half(x >> 16) + half(x & 0xffff)
}

const SETTINGS: [Setting; 7] = [
    Setting(1, 10, "1mad"),
    Setting(1, 16, "3inst"),
    Setting(2, 11, "3inst"),
    Setting(2, 12, "1mad"),
    Setting(3, 13, "3inst"),
    Setting(3, 10, "1mad"),
    Setting(4, 10, "3inst"),
];

#[test]
fn a_decoder_from_the_documentation_agrees_at_every_level() {
    let shapes = [[1, 1], [1, 3], [1, 5], [1, 16], [3, 1], [300, 1], [7, 33], [1, 511], [1, 513], [3, 300], [9, 77]];
    for setting in SETTINGS {
        for [rows, columns] in shapes {
            let case = format!("{setting:?}, {rows} x {columns}");
            // Rows of very different sizes, one of them too small for a level.
            let rows_differ = |i: usize| [1.0, 0.01, 3e-7][i / columns % 3];
            let values = weights("gaussian", rows * columns).into_iter().enumerate().map(|(i, w)| w * rows_differ(i));
            let values: Vec<f32> = values.collect();
            let made = |level| {
                with_level(level, || {
                    let encoded = encode(&setting.spec(), &[rows, columns], &values, &EncodeCx::new(0));
                    let decoded = decode(&encoded);
                    (encoded, decoded)
                })
            };
            let (encoded, decoded) = made(Level::Scalar);
            let expected = reference(setting, &encoded.payload, rows, columns);
            assert_same_bits(&decoded, &expected, &case);
            for level in Level::available() {
                let (again, values) = made(level);
                assert!(again.payload == encoded.payload, "{case}, {level}: another payload");
                assert_same_bits(&values, &decoded, &format!("{case}, {level}"));
            }
        }
    }
}

#[test]
fn arbitrary_codes_decode_as_documented() {
    let mut state = 1u64;
    let mut byte = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 56) as u8
    };
    for setting in SETTINGS {
        let values = [1.0; 3 * 700];
        let mut encoded = encode(&setting.spec(), &[3, 700], &values, &EncodeCx::new(0));
        let codes = encoded.payload.sections()["codes"].data().len();
        let codes = Section::from_bytes((0..codes).map(|_| byte()).collect()).unwrap();
        let levels = Section::from_bytes(vec![254, 17, 255]).unwrap();
        encoded.payload = replaced(&replaced(&encoded.payload, "codes", &codes), "levels", &levels);
        let expected = reference(setting, &encoded.payload, 3, 700);
        for level in Level::available() {
            let found = with_level(level, || decode(&encoded));
            assert_same_bits(&found, &expected, &format!("{setting:?}, {level}"));
        }
    }
}

#[test]
fn gaussian_weights_have_the_error_that_is_known() {
    let shape = [64, 512];
    let values = weights("gaussian", shape.iter().product());
    for (setting, nmse) in [
        (Setting(2, 10, "1mad"), 0.0778),
        (Setting(2, 12, "1mad"), 0.0745),
        (Setting(2, 12, "3inst"), 0.0732),
        (Setting(1, 12, "3inst"), 0.274),
        (Setting(3, 12, "1mad"), 0.0193),
        (Setting(4, 12, "1mad"), 0.0050),
    ] {
        let row = measure(&setting.spec(), &shape, &values);
        let (found, bits) = (row.nmse.unwrap(), row.bits_per_weight.unwrap());
        // With this many weights, the standard deviation is near a hundredth.
        assert!((found / nmse - 1.0).abs() < 0.02, "{setting:?}: NMSE {found}, not {nmse}");
        assert!(bits < setting.0 as f64 + 0.017, "{setting:?}: {bits} bits per weight");
    }
}

#[test]
fn magnitude_costs_no_accuracy() {
    let values = weights("gaussian", 4 * 512);
    let nmse = |factor: f32| {
        let scaled: Vec<f32> = values.iter().map(|v| v * factor).collect();
        measure("trellis.bitshift", &[4, 512], &scaled).nmse.unwrap()
    };
    let normal = nmse(1.0);
    for factor in [1e-35, 1e-6, 1e30] {
        let error = nmse(factor);
        assert!((error / normal - 1.0).abs() < 0.02, "times {factor:e}: NMSE {error}, not {normal}");
    }
}

#[test]
fn the_end_of_f32_stays_finite() {
    for code in ["1mad", "3inst"] {
        for n in [1, 2, 40, 300] {
            let values: Vec<f32> = (0..n).map(|i| if i % 2 == 0 { f32::MAX } else { f32::MIN }).collect();
            let encoded = encode(&format!("trellis.bitshift:code={code}"), &[1, n], &values, &EncodeCx::new(0));
            assert!(decode(&encoded).iter().all(|v| v.is_finite()), "{code}, {n} weights");
        }
    }
}

#[test]
fn an_outlier_does_not_spoil_its_block() {
    let mut values = weights("gaussian", 64 * 256);
    let without = measure("trellis.bitshift", &[64, 256], &values).mse.unwrap();
    values[1000] = 40.0;
    let encoded = encode("trellis.bitshift", &[64, 256], &values, &EncodeCx::new(0));
    let decoded = decode(&encoded);
    let others = values.iter().zip(&decoded).filter(|(v, _)| **v < 40.0);
    let error = others.map(|(v, w)| f64::from(v - w).powi(2)).sum::<f64>() / values.len() as f64;
    assert!(error < 1.2 * without, "MSE of the others {error}, {without} without the outlier");
}

#[test]
fn calibration_lowers_the_weighted_error() {
    let (rows, columns) = (32, 256);
    let values = weights("gaussian", rows * columns);
    let squares: Vec<f32> = (0..columns).map(|i| if i % 3 == 0 { 4.0 } else { 0.1 }).collect();
    let calibration = Calibration::new(InputAxis::Columns, &squares);
    let error = |cx: &EncodeCx<'_>| -> f64 {
        let decoded = decode(&encode("trellis.bitshift", &[rows, columns], &values, cx));
        let weighted = |(i, (v, w)): (usize, (&f32, &f32))| f64::from(squares[i % columns] * (v - w) * (v - w));
        values.iter().zip(&decoded).enumerate().map(weighted).sum()
    };
    let (plain, calibrated) = (error(&EncodeCx::new(0)), error(&EncodeCx::new(0).with_calibration(calibration)));
    assert!(calibrated < 0.7 * plain, "{calibrated}, {plain} without calibration");
}

#[test]
fn a_scale_that_is_no_number_is_refused() {
    let mut encoded = encode("trellis.bitshift", &[2, 40], &[0.5; 80], &EncodeCx::new(0));
    for scale in [f32::NAN, f32::INFINITY] {
        let section = Section::from_values(codec_api::Dtype::F32, [1], vec![scale]).unwrap();
        encoded.payload = replaced(&encoded.payload, "scale", &section);
        let answer = encoded.decode(&DecodeCx::new());
        assert!(matches!(answer, Err(CodecError::Corrupt { ref section, .. }) if section == "scale"), "{answer:?}");
    }
}

#[test]
fn codes_multiply_at_every_level() {
    // Rows have one block or several ones, whole bytes and groups or not; some are narrower than a
    // block.
    for (rows, columns) in [(5, 256), (3, 257), (4, 511), (3, 1024), (2, 787), (17, 40)] {
        for bits in 1..=4 {
            for code in ["1mad", "3inst"] {
                let values = weights("gaussian", rows * columns);
                assert_products(&Setting(bits, 10, code).spec(), [rows, columns], &values);
            }
        }
    }
}
