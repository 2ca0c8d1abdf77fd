//! The ggml formats: decoded as the Python package `gguf` decodes them, encoded as well as ggml encodes.
#![allow(clippy::unwrap_used, clippy::panic, reason = "test helpers may")]

use codec_api::{
    Bound, Calibration, CodecError, DecodeCx, Dtype, EncodeCx, Payload, Registry, Section, TensorSpec, TensorView,
};
use codec_quant as _;
use harness::laws::Activations;
use harness::suite::{Suite, SuiteOptions};
use harness::testing::{measure, weights};
use safetensors::SafeTensors;
use simd::{Level, with_level};

const FORMATS: [&str; 12] =
    ["q8_0", "q4_0", "q4_1", "q5_0", "q5_1", "iq4_nl", "q2_k", "q3_k", "q4_k", "q5_k", "q6_k", "iq4_xs"];

/// `fixtures/ggml_blocks.py` wrote the file.
#[test]
fn arbitrary_blocks_decode_to_the_values_of_gguf() {
    let fixtures = SafeTensors::deserialize(include_bytes!("fixtures/ggml_blocks.safetensors")).unwrap();
    let registry = Registry::linked().unwrap();
    for format in FORMATS {
        let blocks = fixtures.tensor(&format!("{format}.blocks")).unwrap();
        let values = fixtures.tensor(&format!("{format}.values")).unwrap();
        let section = Section::new(Dtype::U8, blocks.shape(), blocks.data().to_vec()).unwrap();
        let payload = Payload::new(Bound::MaxAbs(0.0)).with("blocks", section);
        let spec = TensorSpec::new(Dtype::F32, values.shape()).unwrap();
        let codec = registry.parse_spec(&format!("quant.{format}")).unwrap();
        for level in Level::available() {
            let mut decoded = vec![0.0f32; spec.elements()];
            with_level(level, || codec.decode(&spec, payload.view(), &DecodeCx::new(), &mut decoded)).unwrap();
            let bytes: Vec<u8> = decoded.iter().flat_map(|w| w.to_le_bytes()).collect();
            assert_eq!(bytes, values.data(), "{format}, {level}");
        }
    }
}

/// Bits per weight, a bound for the NMSE on Gaussian weights, and the NMSE of ggml's own encoders (without importance
/// matrix) on the layers in `assets/gpt2_mini_layers`.
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

#[test]
fn calibration_moves_the_error_to_where_it_matters_least() {
    let (rows, columns) = (64, 256);
    let values = weights("gaussian", rows * columns);
    let tensor = TensorView::from_f32([rows, columns], &values).unwrap();
    let calibration = Activations::new(columns);
    let squares = calibration.mean_squares();
    for format in FORMATS {
        let codec = Registry::linked().unwrap().parse_spec(&format!("quant.{format}")).unwrap();
        let error = |cx: &EncodeCx<'_>| {
            let payload = codec.encode(tensor.clone(), cx).unwrap();
            let mut decoded = vec![0.0f32; values.len()];
            codec.decode(tensor.spec(), payload.view(), &DecodeCx::new(), &mut decoded).unwrap();
            let squared = values.iter().zip(&decoded).map(|(w, d)| f64::from(w - d).powi(2));
            squared.enumerate().map(|(i, e)| f64::from(squares[i % columns]) * e).sum::<f64>()
        };
        let (with, without) = (error(&EncodeCx::new(0).with_calibration(&calibration)), error(&EncodeCx::new(0)));
        assert!(with < without, "{format}: {with} with calibration, {without} without");
    }
}

#[test]
fn weights_beyond_the_scales_are_refused_with_the_largest() {
    for format in FORMATS {
        let codec = Registry::linked().unwrap().parse_spec(&format!("quant.{format}")).unwrap();
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
