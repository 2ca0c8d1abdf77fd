//! Values of valid files.

use checkpoint::Error;
use codec_api::Dtype;
use half::{bf16, f16};

use crate::support::{Dir, assert_says, entry, file, floats, model, open, pair, parts};

/// Every dtype of the format, with its bits per element.
const DTYPES: [(Dtype, usize); 22] = [
    (Dtype::BOOL, 8),
    (Dtype::F4, 4),
    (Dtype::F6_E2M3, 6),
    (Dtype::F6_E3M2, 6),
    (Dtype::U8, 8),
    (Dtype::I8, 8),
    (Dtype::F8_E5M2, 8),
    (Dtype::F8_E4M3, 8),
    (Dtype::F8_E8M0, 8),
    (Dtype::F8_E4M3FNUZ, 8),
    (Dtype::F8_E5M2FNUZ, 8),
    (Dtype::I16, 16),
    (Dtype::U16, 16),
    (Dtype::F16, 16),
    (Dtype::BF16, 16),
    (Dtype::I32, 32),
    (Dtype::U32, 32),
    (Dtype::F32, 32),
    (Dtype::C64, 64),
    (Dtype::F64, 64),
    (Dtype::I64, 64),
    (Dtype::U64, 64),
];

#[test]
fn every_dtype_is_read_with_its_bytes() {
    let stored: Vec<_> = DTYPES
        .iter()
        .enumerate()
        .map(|(i, &(dtype, bits))| (dtype, dtype.to_string(), vec![i as u8; 8 * bits / 8]))
        .collect();
    let tensors: Vec<_> =
        stored.iter().map(|(_, name, bytes)| (name.as_str(), name.as_str(), &[4, 2][..], bytes.clone())).collect();
    let read = open(model(&tensors)).unwrap();
    assert_eq!(read.len(), DTYPES.len());
    for (dtype, name, bytes) in &stored {
        let (spec, data) = read.bytes(name).unwrap();
        assert_eq!((spec.dtype(), spec.shape()), (*dtype, &[4, 2][..]));
        assert_eq!(data, bytes);
        assert_eq!(read.tensor(name).unwrap().bytes(), bytes);
        assert_eq!(read.spec(name).unwrap(), &spec);
    }
}

#[test]
fn floats_at_every_alignment_have_the_right_values() {
    let values = [1.5f32, -0.25, 3e30, -0.0];
    let halves: Vec<u8> = [0.5f32, -2.0].iter().flat_map(|&v| f16::from_f32(v).to_le_bytes()).collect();
    let brains: Vec<u8> = [0.5f32, -2.0].iter().flat_map(|&v| bf16::from_f32(v).to_le_bytes()).collect();
    let (header, data) = parts(&[
        ("f32", "F32", &[2, 2], floats(&values)),
        ("f16", "F16", &[2], halves),
        ("bf16", "BF16", &[2], brains),
    ]);
    let mut odd = 0;
    for padding in 0..8 {
        // Writers align the data with spaces after the header; this test uses them to misalign the
        // data.
        let bytes = file(&format!("{header}{}", " ".repeat(padding)), &data);
        let read = open(bytes).unwrap();
        odd += usize::from(read.tensor("bf16").unwrap().bytes().as_ptr().addr() % 2 == 1);
        let f32s = read.tensor("f32").unwrap().to_f32().unwrap();
        assert!(f32s.iter().zip(values).all(|(a, b)| a.to_bits() == b.to_bits()), "{f32s:?}");
        assert_eq!(*read.tensor("f16").unwrap().to_f32().unwrap(), [0.5, -2.0]);
        assert_eq!(*read.tensor("bf16").unwrap().to_f32().unwrap(), [0.5, -2.0]);
    }
    assert_eq!(odd, 4);
}

#[test]
fn scalars_and_tensors_without_elements() {
    let read = open(model(&[
        ("none", "F32", &[0], vec![]),
        ("scalar", "F32", &[], floats(&[7.0])),
        ("no rows", "F16", &[0, 3], vec![]),
        ("last", "BF16", &[2, 0, 5], vec![]),
    ]))
    .unwrap();
    assert_eq!(*read.tensor("scalar").unwrap().to_f32().unwrap(), [7.0]);
    assert!(read.spec("scalar").unwrap().shape().is_empty());
    for (name, shape) in [("none", &[0][..]), ("no rows", &[0, 3]), ("last", &[2, 0, 5])] {
        assert_eq!(read.spec(name).unwrap().shape(), shape);
        assert!(read.tensor(name).unwrap().to_f32().unwrap().is_empty());
    }
    // Empty tensors at the same offset are in the order of their names.
    assert_eq!(read.names().collect::<Vec<_>>(), ["none", "scalar", "last", "no rows"]);
}

#[test]
fn files_without_tensors() {
    for header in ["{}", "{}      ", r#"{"__metadata__":{"a":"b"}}"#, r#"{"__metadata__":null}"#] {
        let read = open(file(header, &[])).unwrap();
        assert!(read.is_empty());
        assert_eq!((read.len(), read.names().count()), (0, 0));
    }
}

#[test]
fn names_follow_the_data_not_the_header() {
    let header =
        format!("{{{},{}}}", entry("front of header", "U8", &[1], [1, 2]), entry("front of data", "U8", &[1], [0, 1]));
    let read = open(file(&header, &[10, 20])).unwrap();
    assert_eq!(read.names().collect::<Vec<_>>(), ["front of data", "front of header"]);
    assert_eq!(read.tensor("front of header").unwrap().bytes(), [20]);
}

#[test]
fn bytes_are_the_map_and_outlive_the_checkpoint() {
    let dir = Dir::new();
    let read = checkpoint::Checkpoint::open(dir.write("a.safetensors", model(&[pair("w", [1.0, 2.0])]))).unwrap();
    let (_, data) = read.bytes("w").unwrap();
    assert_eq!(data.as_ptr(), read.tensor("w").unwrap().bytes().as_ptr(), "a copy was made");
    drop(read);
    assert_eq!(data, floats(&[1.0, 2.0]));
}

#[test]
fn an_unknown_name_is_an_error_that_names_file_and_tensor() {
    let read = open(model(&[pair("w", [1.0, 2.0])])).unwrap();
    for error in [read.tensor("v").unwrap_err(), read.bytes("v").unwrap_err(), read.spec("v").unwrap_err()] {
        assert!(matches!(error, Error::UnknownTensor { .. }));
        assert_says(&error, &["made.safetensors", "`v`", "`netweight info`"]);
    }
}

#[test]
fn debug_shows_sizes_and_no_bytes() {
    let text = format!("{:?}", open(model(&[pair("w", [1.0, 2.0])])).unwrap());
    assert!(text.contains("tensors: 1") && text.contains("bytes: 8") && text.contains("made.safetensors"), "{text}");
}
