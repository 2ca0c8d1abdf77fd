//! The four- and eight-bit floats: agreement with other programs on the same bytes
//! (`fixtures/fp_formats.py`), size and error on Gaussian weights, and refusals.

use std::collections::BTreeMap;
use std::sync::Arc;

use codec_api::{
    Certificate, Codec, CodecError, DecodeCx, Dtype, EncodeCx, EncodedTensor, InputAxis, Payload, Registry, Section,
    TensorSpec, TensorView,
};
use harness::testing::{MeanSquares, measure, weights};
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
    sections.into_iter().fold(Payload::new(), |payload, (name, section)| payload.with(&name, section).unwrap())
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
    ("quant.ternary:packing=lanes", (1 << 18) + 4, 0.215),
    ("quant.ternary:packing=lanes:fit=absmean", (1 << 18) + 4, 0.265),
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
        let [trits, lanes] = ["trits", "lanes"].map(|packing| {
            let codec = codec(&format!("quant.ternary:packing={packing}{keys}"));
            EncodedTensor::encode(codec, tensor.clone(), &EncodeCx::new(0)).unwrap()
        });
        assert_eq!(trits.certificate, lanes.certificate);
        assert_eq!(trits.decode(&DecodeCx::new()).unwrap(), lanes.decode(&DecodeCx::new()).unwrap());
    }
}

/// `Σ h·(w − ŵ)²` with the importance `h` of each input.
fn weighted_error(spec: &str, shape: [usize; 2], values: &[f32], cx: &EncodeCx<'_>, inputs: &MeanSquares) -> f64 {
    let tensor = TensorView::from_f32(shape, values).unwrap();
    let encoded = EncodedTensor::encode(codec(spec), tensor, cx).unwrap();
    let decoded = encoded.decode(&DecodeCx::new()).unwrap();
    let by_rows = inputs.axis == InputAxis::Rows;
    let error = |(i, (w, d)): (usize, (&f32, &f32))| {
        let input = if by_rows { i / shape[1] } else { i % shape[1] };
        f64::from(inputs.squares[input]) * (f64::from(*w) - f64::from(*d)).powi(2)
    };
    values.iter().zip(&decoded).enumerate().map(error).sum()
}

/// The codecs that weight their errors. The number is the largest part of the weighted error that
/// calibration leaves, on average over tensors, when seven inputs of eight count a hundredth.
const WEIGHTED: [(&str, f64); 6] = [
    ("quant.mxfp4", 0.9),
    ("quant.nvfp4", 0.65),
    ("quant.fp8:format=e4m3:scope=row", 0.55),
    ("quant.fp8:format=e4m3:scope=tensor", 0.9),
    ("quant.fp8:format=e5m2:scope=row", 0.55),
    ("quant.fp8:format=e5m2:scope=tensor", 0.85),
];

#[test]
fn calibration_moves_the_error_to_where_it_matters_least() {
    const SHAPE: [usize; 2] = [128, 64];
    let bell = weights("gaussian", 128 * 64);
    let heavy = bell.iter().map(|w| w.powi(5)).collect();
    let outliers = bell.iter().enumerate().map(|(i, w)| if i % 41 == 0 { 20.0 * w } else { *w }).collect();
    let tensors: [Vec<f32>; 3] = [bell, heavy, outliers];
    let inputs = |axis, n, square: fn(usize) -> f32| MeanSquares { axis, squares: (0..n).map(square).collect() };
    let strong = inputs(InputAxis::Columns, 64, |i| if i % 8 == 3 { 1.0 } else { 0.01 });
    let weak = inputs(InputAxis::Columns, 64, |i| 1.0 + (i * 37 % 64) as f32 / 64.0);
    let rows = inputs(InputAxis::Rows, 128, |i| 1.0 / (i + 1) as f32);
    for (spec, most) in WEIGHTED {
        let parts = |inputs: &MeanSquares| {
            let part = |values: &Vec<f32>| {
                let plain = EncodeCx::new(0);
                let without = weighted_error(spec, SHAPE, values, &plain, inputs);
                weighted_error(spec, SHAPE, values, &plain.with_calibration(inputs.calibration()), inputs) / without
            };
            tensors.each_ref().map(part)
        };
        for inputs in [&strong, &weak, &rows] {
            // The encoder adds in f32.
            assert!(parts(inputs).iter().all(|part| *part < 1.00001), "{spec}: {:?}", parts(inputs));
        }
        assert!(parts(&strong).iter().sum::<f64>() <= most * 3.0, "{spec}: {:?}", parts(&strong));
    }
}

#[test]
fn a_row_whose_weights_count_the_same_keeps_its_bytes() {
    let values = weights("gaussian", 8 * 64);
    let tensor = TensorView::from_f32([8, 64], &values).unwrap();
    let rows = MeanSquares { axis: InputAxis::Rows, squares: (1..=8).map(|i| i as f32).collect() };
    for spec in ["quant.mxfp4", "quant.nvfp4", "quant.fp8:format=e4m3:scope=row", "quant.ternary:scope=row"] {
        let plain = codec(spec).encode(tensor.clone(), &EncodeCx::new(0)).unwrap();
        let cx = EncodeCx::new(0).with_calibration(rows.calibration());
        assert_eq!(codec(spec).encode(tensor.clone(), &cx).unwrap(), plain, "{spec}");
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
        let error = encoded.certificate.max_abs / f64::from(unit);
        assert!(error <= 10.0, "{spec}: {error} units");
    }
}

/// Encodes ones in 2 x 64, changes the bytes of a section, and decodes.
fn damaged(spec: &str, section: &str, change: impl Fn(&mut [u8])) -> Result<Vec<f32>, CodecError> {
    let codec = codec(spec);
    let values = [1.0; 128];
    let tensor = TensorView::from_f32([2, 64], &values).unwrap();
    let mut sections = codec.encode(tensor.clone(), &EncodeCx::new(0)).unwrap().sections().clone();
    let changed = sections.get_mut(section).unwrap();
    let (spec, mut bytes) = (changed.spec().clone(), changed.data().to_vec());
    change(&mut bytes);
    *changed = Section::new(spec.dtype(), spec.shape(), bytes).unwrap();
    decode(&codec, tensor.spec(), &payload(sections))
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
        ("quant.ternary", "codes", 243),
        ("quant.ternary:packing=lanes", "codes", 0x0c),
    ];
    for (spec, section, value) in bytes {
        let answer = damaged(spec, section, byte(value));
        assert!(matches!(&answer, Err(CodecError::Corrupt { section: s, .. }) if s == section), "{spec}: {answer:?}");
    }
    for (spec, section) in [
        ("quant.nvfp4", "global_scale"),
        ("quant.fp8:format=e4m3", "scale"),
        ("quant.fp8:format=e5m2:scope=row", "scale"),
        ("quant.ternary", "scale"),
        ("quant.ternary:packing=lanes", "scale"),
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
        ("quant.ternary", "codes", 242),
        ("quant.ternary:packing=lanes", "codes", 0xaa),
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
    for name in [
        "quant.mxfp4",
        "quant.nvfp4",
        "quant.fp8:scope=row",
        "quant.fp8:format=e5m2",
        "quant.ternary:packing=lanes:scope=row",
    ] {
        let codec = codec(name);
        let tensor = TensorView::from_f32(LARGE, &values).unwrap();
        let payload = codec.encode(tensor.clone(), &EncodeCx::new(0)).unwrap();
        let reference = with_level(Level::Scalar, || decode(&codec, &spec, &payload)).unwrap();
        let error = Certificate::measure(&values, &reference);
        assert!(error.is_valid() && error.nmse() < 1.0, "{name}: {error:?}");
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
