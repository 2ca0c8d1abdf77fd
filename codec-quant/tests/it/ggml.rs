//! The ggml formats: decoding agrees with the Python package `gguf`, encoding is as good as ggml's.

use std::sync::Arc;

use codec_api::{
    Codec, CodecError, DecodeCx, Dtype, EncodeCx, InputAxis, Payload, Registry, Section, TensorSpec, TensorView,
};
use harness::suite::{Suite, SuiteOptions};
use harness::testing::{MeanSquares, measure, weights};
use safetensors::SafeTensors;
use simd::{Level, with_level};

const FORMATS: [&str; 12] =
    ["q8_0", "q4_0", "q4_1", "q5_0", "q5_1", "iq4_nl", "q2_k", "q3_k", "q4_k", "q5_k", "q6_k", "iq4_xs"];

/// `fixtures/ggml_blocks.py` writes the file.
#[test]
fn arbitrary_blocks_decode_to_the_values_of_gguf() {
    let fixtures = SafeTensors::deserialize(include_bytes!("../fixtures/ggml_blocks.safetensors")).unwrap();
    for format in FORMATS {
        let blocks = fixtures.tensor(&format!("{format}.blocks")).unwrap();
        let values = fixtures.tensor(&format!("{format}.values")).unwrap();
        let section = Section::new(Dtype::U8, blocks.shape(), blocks.data().to_vec()).unwrap();
        let payload = Payload::new().with("blocks", section).unwrap();
        let spec = TensorSpec::new(Dtype::F32, values.shape()).unwrap();
        let codec = codec(format);
        for level in Level::available() {
            let mut decoded = vec![0.0f32; spec.elements()];
            with_level(level, || codec.decode(&spec, payload.view(), &DecodeCx::new(), &mut decoded)).unwrap();
            let bytes: Vec<u8> = decoded.iter().flat_map(|w| w.to_le_bytes()).collect();
            assert_eq!(bytes, values.data(), "{format}, {level}");
        }
    }
}

/// Bits per weight, an NMSE on Gaussian weights just above that of the encoders, and the NMSE of
/// ggml's own encoders (`ggml_quantize_chunk`, without importance matrix) on the layers in
/// `assets/gpt2_mini_layers`.
const QUALITY: [(&str, f64, f64, [f64; 2]); 12] = [
    ("q8_0", 8.5, 2.6e-5, [2.659e-5, 2.898e-5]),
    ("q4_0", 4.5, 0.0066, [6.867e-3, 7.445e-3]),
    ("q4_1", 5.0, 0.0050, [5.775e-3, 6.187e-3]),
    ("q5_0", 5.5, 0.00162, [1.696e-3, 1.842e-3]),
    ("q5_1", 6.0, 0.00116, [1.356e-3, 1.445e-3]),
    ("iq4_nl", 4.5, 0.0055, [5.546e-3, 5.851e-3]),
    ("q2_k", 2.625, 0.070, [8.319e-2, 8.846e-2]),
    ("q3_k", 3.4375, 0.0209, [2.155e-2, 2.299e-2]),
    ("q4_k", 4.5, 0.0050, [4.802e-3, 5.139e-3]),
    ("q5_k", 5.5, 0.00121, [1.233e-3, 1.323e-3]),
    ("q6_k", 6.5625, 2.9e-4, [2.946e-4, 3.169e-4]),
    ("iq4_xs", 4.25, 0.0055, [5.637e-3, 5.942e-3]),
];

#[test]
fn gaussian_weights_lose_little() {
    let values = weights("gaussian", 1 << 20);
    for (format, bits, nmse, _) in QUALITY {
        let row = measure(&format!("quant.{format}"), &[1024, 1024], &values);
        assert_eq!(row.bits_per_weight, Some(bits), "{format}");
        assert!(row.nmse.unwrap() <= nmse, "{format}: {:?}", row.nmse);
    }
}

#[test]
fn real_layers_lose_no_more_than_in_ggml() {
    let layers = concat!("model:", env!("CARGO_MANIFEST_DIR"), "/../assets/gpt2_mini_layers");
    let suite = Suite::parse(layers, &SuiteOptions::default()).unwrap();
    for (format, _, _, references) in QUALITY {
        for (item, reference) in suite.items.iter().zip(references) {
            let row = measure(&format!("quant.{format}"), item.spec.shape(), &item.to_f32().unwrap());
            assert!(row.nmse.unwrap() <= reference, "{format}, {}: {:?}, not {reference}", item.name, row.nmse);
        }
    }
}

fn codec(format: &str) -> Arc<dyn Codec> {
    Registry::linked().unwrap().parse_spec(&format!("quant.{format}")).unwrap()
}

/// Squared errors of weights in rows of 256.
pub(crate) fn squared_errors(format: &str, values: &[f32], cx: &EncodeCx<'_>) -> Result<Vec<f64>, CodecError> {
    let tensor = TensorView::from_f32([values.len() / 256, 256], values).unwrap();
    let payload = codec(format).encode(tensor.clone(), cx)?;
    let mut decoded = vec![0.0f32; values.len()];
    codec(format).decode(tensor.spec(), payload.view(), &DecodeCx::new(), &mut decoded).unwrap();
    Ok(values.iter().zip(&decoded).map(|(w, d)| (f64::from(*w) - f64::from(*d)).powi(2)).collect())
}

#[test]
fn calibration_moves_the_error_to_where_it_matters_least() {
    let values = weights("gaussian", 64 * 256);
    let columns =
        MeanSquares { axis: InputAxis::Columns, squares: (0..256).map(|i| [1.0, 0.2, 3.0, 0.7][i % 4]).collect() };
    let rows = MeanSquares { axis: InputAxis::Rows, squares: (1..=64).map(|i| i as f32).collect() };
    for format in FORMATS {
        let errors = |cx: &EncodeCx<'_>| squared_errors(format, &values, cx).unwrap();
        let cost =
            |errors: Vec<f64>| errors.iter().enumerate().map(|(i, e)| f64::from(columns.squares[i % 256]) * e).sum();
        let plain = errors(&EncodeCx::new(0));
        assert_eq!(
            errors(&EncodeCx::new(0).with_calibration(rows.calibration())),
            plain,
            "{format}: a row's weights count the same"
        );
        let (with, without): (f64, f64) =
            (cost(errors(&EncodeCx::new(0).with_calibration(columns.calibration()))), cost(plain));
        assert!(with < without, "{format}: {with} with calibration, {without} without");
    }
}

#[test]
fn an_outlier_that_does_not_matter_does_no_harm() {
    let mut values = weights("gaussian", 64 * 256);
    values.iter_mut().step_by(32).for_each(|w| *w = -20.0);
    let squares = MeanSquares {
        axis: InputAxis::Columns,
        squares: (0..256).map(|i| if i % 32 == 0 { 0.0 } else { 1.0 }).collect(),
    };
    let cx = EncodeCx::new(0).with_calibration(squares.calibration());
    for (format, _, nmse, _) in QUALITY {
        let errors = squared_errors(format, &values, &cx).unwrap();
        let others = errors.iter().enumerate().filter(|(i, _)| i % 32 != 0).map(|(_, e)| e);
        let mean = others.sum::<f64>() / (values.len() * 31 / 32) as f64;
        // The outliers take a code, so it is not quite what it is without them.
        assert!(mean < 2.0 * nmse, "{format}: the mean squared error of the others is {mean}");
    }
}

#[test]
fn small_weights_are_better_than_zeros() {
    let bell = weights("gaussian", 4 * 256);
    for (format, _, nmse, _) in QUALITY {
        for power in 0..9 {
            let scale = 10f32.powi(-power);
            // Small weights alone, and beside a row of large ones.
            for large in [scale, 1.0] {
                let factor = |i: usize| if i < 256 { large } else { scale };
                let values: Vec<f32> = bell.iter().enumerate().map(|(i, w)| w * factor(i)).collect();
                let Ok(errors) = squared_errors(format, &values, &EncodeCx::new(0)) else {
                    assert!(large < 1e-6, "{format} refuses {scale:e}");
                    continue;
                };
                let sum = |squares: &[f64]| squares.iter().sum::<f64>();
                let energy = sum(&values[256..].iter().map(|w| f64::from(*w).powi(2)).collect::<Vec<_>>());
                let found = sum(&errors[256..]) / energy;
                assert!(found <= 1.0, "{format}: NMSE {found} at {scale:e} beside {large:e}");
                assert!(scale < 1e-3 || found < 1.3 * nmse, "{format}: NMSE {found} at {scale:e}");
            }
        }
    }
}

#[test]
fn constant_groups_stay_constant_under_any_calibration() {
    let squares = MeanSquares {
        axis: InputAxis::Columns,
        squares: (0..256).map(|i| 0.1 + (i * 37 % 101) as f32 * 0.3).collect(),
    };
    let cx = EncodeCx::new(0).with_calibration(squares.calibration());
    for format in FORMATS {
        for value in [0.3, -0.3, 1.7, -1.7] {
            let errors = squared_errors(format, &[value; 256], &cx).unwrap();
            let worst = errors.iter().fold(0.0, |m: f64, e| m.max(e.sqrt())) / f64::from(value.abs());
            assert!(worst < 0.02, "{format}: a constant of {value} is {worst} off");
        }
    }
}

#[test]
fn a_stack_has_the_blocks_of_its_matrices() {
    let values = weights("gaussian", 6 * 256);
    for format in FORMATS {
        let encoded = |shape: &[usize]| {
            let tensor = TensorView::from_f32(shape, &values).unwrap();
            codec(format).encode(tensor, &EncodeCx::new(0)).unwrap()
        };
        assert_eq!(encoded(&[3, 2, 256]), encoded(&[6, 256]), "{format}");
        let odd = TensorSpec::new(Dtype::F32, [8, 2, 80]).unwrap();
        assert!(codec(format).accepts(&odd).is_err(), "{format}");
    }
}

#[test]
fn scales_that_are_not_finite_are_corrupt() {
    let fixtures = SafeTensors::deserialize(include_bytes!("../fixtures/ggml_blocks.safetensors")).unwrap();
    let spec = TensorSpec::new(Dtype::F32, [3, 256]).unwrap();
    for format in FORMATS {
        let blocks = fixtures.tensor(&format!("{format}.blocks")).unwrap();
        let at = match format {
            "q2_k" => 82,
            "q3_k" => 108,
            "q6_k" => 208,
            "q4_1" | "q5_1" | "q4_k" | "q5_k" => 2,
            _ => 0,
        };
        for bits in [0x7c00u16, 0xfc00, 0x7e01] {
            let mut data = blocks.data().to_vec();
            let last = data.len() - blocks.shape()[1];
            data[last + at..last + at + 2].copy_from_slice(&bits.to_le_bytes());
            let section = Section::new(Dtype::U8, blocks.shape(), data).unwrap();
            let payload = Payload::new().with("blocks", section).unwrap();
            let answer = codec(format).decode(&spec, payload.view(), &DecodeCx::new(), &mut vec![0.0; 768]);
            assert!(matches!(answer, Err(CodecError::Corrupt { .. })), "{format}, {bits:#x}: {answer:?}");
        }
    }
}

#[test]
fn weights_beyond_the_scales_are_refused_with_the_largest() {
    for format in FORMATS {
        let codec = codec(format);
        for (magnitude, reason) in [(3e8, "magnitudes to"), (1e-12, "too small")] {
            let values: Vec<f32> = (0..256).map(|i| if i == 77 { -magnitude } else { 0.0 }).collect();
            let refusal = codec.encode(TensorView::from_f32([256], &values).unwrap(), &EncodeCx::new(0)).unwrap_err();
            let CodecError::Unsuitable { reason: found, number } = refusal else { panic!("{format}: {refusal}") };
            assert!(found.contains(reason) && number as f32 == magnitude, "{format}: {found} ({number})");
        }
        let refusal = codec.accepts(&TensorSpec::new(Dtype::F32, [4, 80]).unwrap()).unwrap_err().to_string();
        assert!(refusal.contains("rows of 80 elements"), "{refusal}");
    }
}
