//! The four- and eight-bit floats: agreement with other programs on the same bytes
//! (`fixtures/fp_formats.py`), size and error on Gaussian weights, and refusals.

use std::collections::BTreeMap;
use std::sync::Arc;

use codec_api::{
    Bound, Codec, CodecError, DecodeCx, Dtype, EncodeCx, EncodedTensor, Payload, Registry, Section, TensorSpec,
    TensorView,
};
use harness::testing::{measure, weights};
use safetensors::SafeTensors;
use simd::{Level, with_level};

fn codec(spec: &str) -> Arc<dyn Codec> {
    Registry::linked().unwrap().parse_spec(spec).unwrap()
}

/// The tensors of a case in the fixture, keyed by the rest of their name.
fn case(name: &str) -> BTreeMap<String, Section> {
    let file = SafeTensors::deserialize(include_bytes!("../fixtures/fp_formats.safetensors")).unwrap();
    let of_case = file.tensors().into_iter().filter_map(|(full, tensor)| {
        let section = full.strip_prefix(&format!("{name}."))?.to_owned();
        Some((section, Section::new(tensor.dtype(), tensor.shape(), tensor.data().to_vec()).unwrap()))
    });
    of_case.collect()
}

fn payload(sections: BTreeMap<String, Section>) -> Payload {
    sections.into_iter().fold(Payload::new(Bound::None), |payload, (name, section)| payload.with(&name, section))
}

fn decode(codec: &Arc<dyn Codec>, spec: &TensorSpec, payload: &Payload) -> Result<Vec<f32>, CodecError> {
    let mut out = vec![f32::NAN; spec.elements()];
    codec.decode(spec, payload.view(), &DecodeCx::new(), &mut out)?;
    Ok(out)
}

const FORMATS: [(&str, &str); 4] = [
    ("mxfp4", "quant.mxfp4"),
    ("nvfp4", "quant.nvfp4"),
    ("e4m3", "quant.fp8:format=e4m3:scope=row"),
    ("e5m2", "quant.fp8:format=e5m2:scope=row"),
];

#[test]
fn bytes_mean_what_they_mean_to_other_programs() {
    for (name, spec) in FORMATS {
        let mut sections = case(&format!("decode.{name}"));
        let weights = sections.remove("weights").unwrap();
        let payload = payload(sections);
        for level in Level::available() {
            let found = with_level(level, || decode(&codec(spec), weights.spec(), &payload)).unwrap();
            let bytes: Vec<u8> = found.iter().flat_map(|w| w.to_le_bytes()).collect();
            assert_eq!(bytes, **weights.data(), "{spec} at {level}");
        }
    }
}

#[test]
fn weights_become_the_bytes_that_an_exhaustive_search_finds() {
    for (name, spec) in FORMATS {
        let mut expected = case(&format!("encode.{name}"));
        let source = expected.remove("source").unwrap();
        let tensor = TensorView::new(source.spec().clone(), source.data()).unwrap();
        let codec = codec(&spec.replace("row", "tensor"));
        for level in Level::available() {
            let found = with_level(level, || codec.encode(tensor.clone(), &EncodeCx::new(0))).unwrap();
            assert_eq!(found.sections(), &expected, "{spec} at {level}");
        }
    }
}

const SHAPE: [usize; 2] = [1024, 1024];

fn gaussian() -> Vec<f32> {
    weights("gaussian", SHAPE.iter().product())
}

/// Size, and the largest permitted error on a million Gaussian weights.
const QUALITY: [(&str, u64, f64); 7] = [
    ("quant.mxfp4", 17 * 32_768, 0.0126),
    ("quant.nvfp4", 9 * 65_536 + 4, 0.0067),
    ("quant.fp8:format=e4m3:scope=row", (1 << 20) + 4096, 6.6e-4),
    ("quant.fp8:format=e4m3:scope=tensor", (1 << 20) + 4, 7.1e-4),
    ("quant.fp8:format=e5m2:scope=row", (1 << 20) + 4096, 2.6e-3),
    ("quant.ternary2", (1 << 18) + 4, 0.215),
    ("quant.ternary2:fit=absmean", (1 << 18) + 4, 0.265),
];

#[test]
fn gaussian_weights_cost_what_the_formats_promise() {
    let values = gaussian();
    for (spec, bytes, error) in QUALITY {
        let row = measure(spec, &SHAPE, &values);
        let (found_bytes, found_error) = (row.bytes.unwrap(), row.nmse.unwrap());
        assert!(found_bytes == bytes && found_error <= error, "{spec}: {found_bytes} bytes, NMSE {found_error}");
    }
}

#[test]
fn both_ternary_packings_hold_the_same_weights() {
    let values = gaussian();
    let tensor = TensorView::from_f32([8, 333], &values[..8 * 333]).unwrap();
    for keys in ["", ":fit=absmean", ":scope=row"] {
        let [dense, lanes] = ["quant.ternary", "quant.ternary2"].map(|id| {
            let codec = codec(&format!("{id}{keys}"));
            EncodedTensor::encode(codec, tensor.clone(), &EncodeCx::new(0)).unwrap()
        });
        assert_eq!(dense.payload.bound(), lanes.payload.bound());
        assert_eq!(dense.decode(&DecodeCx::new()).unwrap(), lanes.decode(&DecodeCx::new()).unwrap());
    }
}

#[test]
fn magnitude_costs_no_accuracy() {
    let values = gaussian();
    // Powers of two, because a scale of MXFP4 is one.
    for factor in [2.0f32.powi(-90), 2.0f32.powi(124)] {
        let scaled: Vec<f32> = values.iter().map(|v| v * factor).collect();
        for (spec, _, most) in QUALITY {
            let error = measure(spec, &SHAPE, &scaled).nmse.unwrap();
            assert!(error <= most, "{spec} times {factor:e}: NMSE {error}");
        }
    }
}

#[test]
fn subnormal_weights_keep_an_error_of_a_few_units() {
    let unit = f32::from_bits(1);
    let values: Vec<f32> = (0..64 * 32).map(|i| (i % 97 - 48) as f32 * unit).collect();
    for spec in ["quant.nvfp4", "quant.fp8:format=e4m3:scope=row", "quant.fp8:format=e5m2:scope=tensor"] {
        let tensor = TensorView::from_f32([64, 32], &values).unwrap();
        let encoded = EncodedTensor::encode(codec(spec), tensor, &EncodeCx::new(0)).unwrap();
        let bound = encoded.payload.bound().value().unwrap();
        assert!(bound <= 10.0 * unit, "{spec}: {} units", bound / unit);
    }
}

/// Encodes ones in 2 x 64, changes the bytes of a section, and decodes.
fn damaged(spec: &str, section: &str, change: impl Fn(&mut [u8])) -> Result<Vec<f32>, CodecError> {
    let codec = codec(spec);
    let values = [1.0; 128];
    let tensor = TensorView::from_f32([2, 64], &values).unwrap();
    let mut payload = codec.encode(tensor.clone(), &EncodeCx::new(0)).unwrap();
    let old = &payload.sections()[section];
    let (spec, mut bytes) = (old.spec().clone(), old.data().to_vec());
    change(&mut bytes);
    payload = payload.with(section, Section::new(spec.dtype(), spec.shape(), bytes).unwrap());
    decode(&codec, tensor.spec(), &payload)
}

#[test]
fn what_would_decode_to_no_number_is_refused() {
    let f32_of = |x: f32| move |bytes: &mut [u8]| bytes[..4].copy_from_slice(&x.to_le_bytes());
    let byte = |value: u8| move |bytes: &mut [u8]| bytes[1] = value;
    let bytes = [
        ("quant.mxfp4", "scales", 253),
        ("quant.mxfp4", "scales", 255),
        ("quant.nvfp4", "scales", 0x7f),
        ("quant.nvfp4", "scales", 0xff),
        ("quant.fp8:format=e4m3", "values", 0x7f),
        ("quant.fp8:format=e4m3", "values", 0xff),
        ("quant.fp8:format=e5m2", "values", 0x7c),
        ("quant.fp8:format=e5m2", "values", 0xff),
        ("quant.ternary2", "codes", 0x0c),
    ];
    for (spec, section, value) in bytes {
        let answer = damaged(spec, section, byte(value));
        assert!(matches!(&answer, Err(CodecError::Corrupt { section: s, .. }) if s == section), "{spec}: {answer:?}");
    }
    for (spec, section) in [
        ("quant.nvfp4", "global_scale"),
        ("quant.fp8:format=e4m3", "scale"),
        ("quant.fp8:format=e5m2:scope=row", "scale"),
        ("quant.ternary2", "scale"),
    ] {
        for scale in [f32::NAN, f32::INFINITY, 3e38] {
            let answer = damaged(spec, section, f32_of(scale));
            let finite = answer.as_ref().is_ok_and(|weights| weights.iter().all(|w| w.is_finite()));
            assert!(finite || matches!(answer, Err(CodecError::Corrupt { .. })), "{spec}, {scale}: {answer:?}");
        }
    }
    // The largest bytes that decode to numbers.
    for (spec, section, value) in [
        ("quant.mxfp4", "scales", 252),
        ("quant.nvfp4", "scales", 0xfe),
        ("quant.fp8:format=e4m3", "values", 0xfe),
        ("quant.fp8:format=e5m2", "values", 0xfb),
        ("quant.ternary2", "codes", 0xaa),
    ] {
        assert!(damaged(spec, section, byte(value)).unwrap().iter().all(|w| w.is_finite()), "{spec}");
    }
}

#[test]
fn a_large_tensor_decodes_to_the_same_bits_at_every_level_and_address() {
    /// Just above 16 MiB, where decoders write past the caches; rows consist of whole blocks, but
    /// not of whole decoder steps.
    const LARGE: [usize; 2] = [2049, 2080];
    let values: Vec<f32> = (0..LARGE[0] * LARGE[1]).map(|i| ((i * 7919 + 13) % 10_007) as f32 / 5003.0 - 1.0).collect();
    let spec = TensorSpec::new(Dtype::F32, LARGE).unwrap();
    for name in
        ["quant.mxfp4", "quant.nvfp4", "quant.fp8:scope=row", "quant.fp8:format=e5m2", "quant.ternary2:scope=row"]
    {
        let codec = codec(name);
        let tensor = TensorView::from_f32(LARGE, &values).unwrap();
        let payload = codec.encode(tensor.clone(), &EncodeCx::new(0)).unwrap();
        let reference = with_level(Level::Scalar, || decode(&codec, &spec, &payload)).unwrap();
        assert!(payload.bound().holds(&values, &reference), "{name}: the bound is broken");
        let mut buffer = vec![f32::NAN; values.len() + 3];
        for (level, offset) in Level::available().into_iter().zip([1, 2, 3]) {
            let out = &mut buffer[offset..][..values.len()];
            with_level(level, || codec.decode(&spec, payload.view(), &DecodeCx::new(), out)).unwrap();
            assert!(
                out.iter().zip(&reference).all(|(a, b)| a.to_bits() == b.to_bits()),
                "{name}: other bits at {level}"
            );
            out.fill(f32::NAN);
        }
    }
}
