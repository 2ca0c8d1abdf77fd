//! Size and error on a million Gaussian weights, against the figures that the formats are known for.
#![allow(clippy::unwrap_used, clippy::panic, reason = "test helpers may")]

use codec_api::{DecodeCx, EncodeCx, EncodedTensor, Registry, TensorView};
use codec_quant as _;
use harness::suite::{Suite, SuiteOptions};

fn gaussian() -> Vec<f32> {
    let suite = Suite::parse("gaussian", &SuiteOptions::default()).unwrap();
    suite.items[0].view().unwrap().to_f32().unwrap().into_owned()
}

/// Bits per weight of the serialised sections, and ‖w − ŵ‖² / ‖w‖².
fn measure(spec: &str, values: &[f32]) -> (f64, f64) {
    let registry = Registry::linked().unwrap();
    let tensor = TensorView::from_f32([1024, 1024], values).unwrap();
    let encoded = EncodedTensor::encode(registry.parse_spec(spec).unwrap(), tensor, &EncodeCx::new(0)).unwrap();
    let file = encoded.to_bytes().unwrap();
    let (header, _) = codec_api::read_safetensors_header(&file).unwrap();
    assert_eq!(header.data_len() as u64, encoded.payload.bytes(), "{spec}: the sections are what the file holds");
    let decoded = EncodedTensor::from_bytes(&file.into(), &registry).unwrap().decode(&DecodeCx::new()).unwrap();
    let square = |x: f32| f64::from(x) * f64::from(x);
    let error: f64 = values.iter().zip(&decoded).map(|(w, d)| square(w - d)).sum();
    let norm: f64 = values.iter().map(|w| square(*w)).sum();
    (encoded.payload.bytes() as f64 * 8.0 / values.len() as f64, error / norm)
}

#[test]
fn gaussian_weights_cost_what_the_formats_promise() {
    let values = gaussian();
    let most = [
        ("quant.int:bits=4:group=128:symmetric=false", 4.17, 0.0102),
        ("quant.int:bits=4:group=128:symmetric=false:clip=true", 4.17, 0.0092),
        ("quant.int:bits=4:group=64:symmetric=false:clip=true", 4.32, 0.0077),
        ("quant.int:bits=8:group=32", 8.51, 3.0e-5),
        ("quant.nf4", 4.51, 0.0086),
        ("quant.nf4:double_quant=true", 4.13, 0.0086),
        ("quant.ternary", 1.61, 0.215),
        ("quant.ternary:fit=absmean", 1.61, 0.265),
        ("quant.cast:to=bf16", 16.0, 3.0e-6),
    ];
    for (spec, bits, error) in most {
        let (found_bits, found_error) = measure(spec, &values);
        assert!(found_bits <= bits && found_error <= error, "{spec}: {found_bits} bits per weight, NMSE {found_error}");
    }
}

#[test]
fn magnitude_costs_no_accuracy() {
    let values = gaussian();
    for spec in [
        "quant.int:bits=8:group=32",
        "quant.int:bits=4:group=128:symmetric=false:clip=true",
        "quant.nf4",
        "quant.ternary",
    ] {
        let (_, normal) = measure(spec, &values);
        for factor in [1e-6, 1e30] {
            let scaled: Vec<f32> = values.iter().map(|v| v * factor).collect();
            let (_, error) = measure(spec, &scaled);
            assert!((error / normal - 1.0).abs() < 0.01, "{spec} times {factor:e}: NMSE {error}, not {normal}");
        }
    }
}
