//! Packing and unpacking.

use std::fs;

use checkpoint::{Packed, Plan, Recipe};
use codec_api::{NoProgress, Registry};
use codec_lossless as _;
use codec_quant as _;

use crate::support::{Dir, Raw, floats, model};

fn registry() -> Registry {
    Registry::linked().unwrap()
}

fn odd_tensors() -> Vec<Raw<'static>> {
    let bytes = |n: u32| (0..n).map(|i| (i * 37 % 251) as u8).collect::<Vec<u8>>();
    vec![
        ("a/b%c/wörter", "F32", &[3, 5], floats(&[0.25; 15])),
        ("scalar", "F64", &[], bytes(8)),
        ("empty", "F32", &[0, 4], Vec::new()),
        ("bf16", "BF16", &[2, 3], bytes(12)),
        ("f16", "F16", &[7], bytes(14)),
        ("i64", "I64", &[2], bytes(16)),
        ("bool", "BOOL", &[3], vec![0, 1, 1]),
        ("f8", "F8_E4M3", &[3, 3], bytes(9)),
        ("", "U8", &[5], bytes(5)),
        ("tied", "F32", &[3, 5], floats(&[0.25; 15])),
    ]
}

#[test]
fn every_tensor_comes_back() {
    let dir = Dir::new();
    let tensors = odd_tensors();
    let source = dir.write("model.safetensors", model(&tensors));
    let target = dir.path().join("m.nw.safetensors");
    let plan = Plan::new(&source, &target, &Recipe::default(), 0, &registry()).unwrap();
    plan.run(&registry(), &NoProgress).unwrap();
    plan.commit(&registry(), true).unwrap();
    let packed = Packed::open(&target, &registry()).unwrap();
    for (name, _, _, bytes) in &tensors {
        assert_eq!(&packed.tensor(name).unwrap().decode_bytes().unwrap(), bytes, "{name}");
    }
    assert_eq!(packed.tensor("tied").unwrap().same_as(), Some("a/b%c/wörter"));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2, "no parts are left");
}
