//! Vector quantisation: quality, settings beyond the presets, calibration, and the documented
//! format.

use std::sync::Arc;

use codec_api::{
    Calibration, Certificate, Codec, CodecError, DecodeCx, EncodeCx, EncodedTensor, InputAxis, Registry, TensorView,
};
use half::{bf16, f16};
use harness::testing::{measure, weights};
use simd::{Level, with_level};

fn codec(spec: &str) -> Arc<dyn Codec> {
    Registry::linked().unwrap().parse_spec(spec).unwrap()
}

fn gaussian([rows, columns]: [usize; 2]) -> Vec<f32> {
    weights(&format!("gaussian:{rows}x{columns}"), rows * columns)
}

fn encode(spec: &str, shape: [usize; 2], values: &[f32], cx: &EncodeCx<'_>) -> EncodedTensor {
    EncodedTensor::encode(codec(spec), TensorView::from_f32(shape, values).unwrap(), cx).unwrap()
}

fn nmse(spec: &str, shape: [usize; 2], values: &[f32]) -> f64 {
    measure(spec, &shape, values).nmse.unwrap()
}

#[test]
fn at_2_258_bits_the_error_is_below_075() {
    let row = measure("quant.vector:preset=2.25bit", &[2048, 2048], &gaussian([2048, 2048]));
    let (bits, error) = (row.bits_per_weight.unwrap(), row.nmse.unwrap());
    assert!(bits <= 2.3 && error <= 0.075, "{bits} bits per weight, NMSE {error}");
}

#[test]
fn every_preset_is_below_the_error_of_a_scalar_quantiser() {
    let values = gaussian([512, 512]);
    // Lloyd–Max: the least errors of scalar quantisers at 2, 3 and 4 bits.
    for (preset, scalar) in [("2bit", 0.1175), ("2bit-pair", 0.1175), ("3bit", 0.0345), ("4bit", 0.0095)] {
        let error = nmse(&format!("quant.vector:preset={preset}"), [512, 512], &values);
        assert!(error < 0.85 * scalar, "{preset}: NMSE {error}");
    }
}

#[test]
fn magnitude_costs_no_accuracy() {
    let values = gaussian([128, 128]);
    for spec in ["quant.vector:preset=2bit", "quant.vector:preset=2bit-pair"] {
        let normal = nmse(spec, [128, 128], &values);
        for factor in [1e-36, 1e-6, 1e37] {
            let scaled: Vec<f32> = values.iter().map(|v| v * factor).collect();
            let error = nmse(spec, [128, 128], &scaled);
            assert!((error / normal - 1.0).abs() < 0.02, "{spec} times {factor:e}: NMSE {error}, not {normal}");
        }
    }
}

#[test]
fn too_many_bits_together_are_refused() {
    let registry = codec_api::Registry::linked().unwrap();
    let refusal = registry.parse_spec("quant.vector:bits=12:residual_bits=5").unwrap_err().to_string();
    assert!(refusal.contains("`bits` 12 and `residual_bits` 5 are 17 together: 16 at most"), "{refusal}");
    assert!(registry.parse_spec("quant.vector:bits=11:residual_bits=5").is_ok());
}

#[test]
fn few_different_vectors_are_restored_exactly() {
    // 40 different vectors of numbers that F16 holds, some a thousand times larger than others.
    let kinds: Vec<f32> = gaussian([40, 4]).iter().map(|v| bf16::from_f32(v * v * v).to_f32()).collect();
    let values: Vec<f32> = (0..1000).flat_map(|i| kinds[i * 7919 % 40 * 4..][..4].to_vec()).collect();
    for spec in ["quant.vector:bits=6", "quant.vector:bits=6:residual_bits=2", "quant.vector:bits=16"] {
        let decoded = encode(spec, [40, 100], &values, &EncodeCx::new(0)).decode(&DecodeCx::new()).unwrap();
        assert_eq!(decoded, values, "{spec}");
    }
}

#[test]
fn calibration_moves_the_error_to_where_it_counts_less() {
    let (rows, columns) = (96, 200);
    for (axis, inputs) in [(InputAxis::Rows, rows), (InputAxis::Columns, columns)] {
        let input = |place: usize| if axis == InputAxis::Rows { place / columns } else { place % columns };
        let squares: Vec<f32> = (0..inputs).map(|i| if i % 3 == 0 { 25.0 } else { 0.25 }).collect();
        // Weights of large inputs are small.
        let sized = |(i, v): (usize, f32)| if input(i) % 3 == 0 { v / 4.0 } else { v };
        let values: Vec<f32> = gaussian([96, 200]).into_iter().enumerate().map(sized).collect();
        for spec in ["quant.vector:bits=6", "quant.vector:preset=2bit-pair:bits=4:residual_bits=4"] {
            let error = |cx: &EncodeCx<'_>| -> f64 {
                let decoded = encode(spec, [rows, columns], &values, cx).decode(&DecodeCx::new()).unwrap();
                let weighted = |(i, (w, d)): (usize, (&f32, &f32))| {
                    f64::from(squares[input(i)]) * f64::from(w - d) * f64::from(w - d)
                };
                values.iter().zip(&decoded).enumerate().map(weighted).sum()
            };
            let plain = error(&EncodeCx::new(0));
            let calibrated = error(&EncodeCx::new(0).with_calibration(Calibration::new(axis, &squares)));
            assert!(calibrated < 0.8 * plain, "{spec}, {axis:?}: {calibrated}, without calibration {plain}");
        }
    }
}

#[test]
fn calibration_of_another_shape_is_refused() {
    let values = gaussian([16, 24]);
    let tensor = TensorView::from_f32([16, 24], &values).unwrap();
    for (axis, inputs) in [(InputAxis::Columns, 16), (InputAxis::Rows, 24)] {
        let squares = vec![1.0; inputs];
        let cx = EncodeCx::new(0).with_calibration(Calibration::new(axis, &squares));
        for spec in ["quant.vector", "quant.int", "quant.int:group=tensor", "quant.nf4"] {
            let refusal = codec(spec).encode(tensor.clone(), &cx).unwrap_err();
            assert!(matches!(refusal, CodecError::Usage(_)), "{spec}: {refusal}");
        }
    }
}

#[test]
fn a_streamed_output_is_the_same_at_every_level_and_address() {
    // Just above 16 MiB; the last vector and the last tile are not full.
    let shape = [2049, 2050];
    let values: Vec<f32> = (0..shape[0] * shape[1]).map(|i| ((i * 7919 + 13) % 10_007) as f32 / 5003.0 - 1.0).collect();
    for spec in ["quant.vector:length=4:bits=3", "quant.vector:length=7:bits=2:residual_bits=1"] {
        let encoded = encode(spec, shape, &values, &EncodeCx::new(0));
        let reference = encoded.decode(&DecodeCx::new()).unwrap();
        assert_eq!(encoded.certificate.max_abs, Certificate::measure(&values, &reference).max_abs, "{spec}");
        let mut buffer = vec![f32::NAN; values.len() + 3];
        for (level, offset) in Level::available().into_iter().zip([1, 2, 3]) {
            let out = &mut buffer[offset..][..values.len()];
            let cx = DecodeCx::new();
            with_level(level, || codec(spec).decode(&encoded.spec, encoded.payload.view(), &cx, out)).unwrap();
            assert!(out == reference, "{spec}: other weights at {level}");
            out.fill(f32::NAN);
        }
    }
}

/// A decoder written from the module's documentation.
fn reference(encoded: &EncodedTensor, length: usize, bits: [usize; 2]) -> Vec<f32> {
    let section = |name: &str| encoded.payload.sections()[name].data();
    let scale = 2f64.powi(i32::from(section("exponent")[0] as i8));
    let weight = |place: usize| {
        let stored = |codebook: &str, indices: &str, bits: usize| {
            let index = (0..bits).fold(0, |index, b| {
                let at = place / length * bits + b;
                index | usize::from(section(indices)[at / 8] >> (at % 8) & 1) << b
            });
            let at = 2 * (index * length + place % length);
            let half = f16::from_le_bytes([section(codebook)[at], section(codebook)[at + 1]]);
            (f64::from(half.to_f32()) * scale) as f32
        };
        let base = stored("codebook", "indices", bits[0]);
        if bits[1] == 0 { base } else { base + stored("residual_codebook", "residual_indices", bits[1]) }
    };
    (0..encoded.spec.elements()).map(weight).collect()
}

#[test]
fn the_documentation_is_enough_to_decode() {
    // The last vector is not full.
    let values = gaussian([61, 67]);
    for (length, bits) in [(2, [8, 0]), (3, [9, 0]), (4, [5, 7]), (6, [6, 6]), (8, [11, 0]), (7, [13, 3])] {
        let spec = format!("quant.vector:length={length}:bits={}:residual_bits={}", bits[0], bits[1]);
        let encoded = encode(&spec, [61, 67], &values, &EncodeCx::new(0));
        let decoded = encoded.decode(&DecodeCx::new()).unwrap();
        assert_eq!(decoded, reference(&encoded, length, bits), "{spec}");
    }
}
