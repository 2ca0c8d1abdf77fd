//! A base, a model made from it, and both packed.

use std::fs;
use std::path::{Path, PathBuf};

use checkpoint::{Error, Packed, Plan, Recipe};
use codec_api::NoProgress;
use half::bf16;

use super::packed::{noise, registry};
use super::{Dir, Raw, floats, model};

/// Some F32 weights; `step` moves every ninth one a little.
pub fn weights(len: usize, step: u32) -> Vec<u8> {
    let value = |i: usize| ((i * 7919) % 1009) as f32 / 331.0 - 1.5;
    let moved = |i: usize| if i.is_multiple_of(9) { f32::from_bits(value(i).to_bits() + step) } else { value(i) };
    floats(&(0..len).map(moved).collect::<Vec<_>>())
}

pub fn halves(len: usize, step: u16) -> Vec<u8> {
    let value = |i: usize| bf16::from_f32(((i * 7919) % 1009) as f32 / 331.0 - 1.5).to_bits();
    (0..len).flat_map(|i| (value(i) + step * u16::from(i % 7 == 0)).to_le_bytes()).collect()
}

pub fn changed(mut bytes: Vec<u8>) -> Vec<u8> {
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    bytes
}

/// The tensors of a base, and of a model made from it.
pub fn base_tensors() -> Vec<Raw<'static>> {
    vec![
        ("w", "F32", &[40, 64], weights(2560, 0)),
        ("half", "BF16", &[40, 64], halves(2560, 0)),
        ("ids", "I32", &[5, 7], noise(140)),
        ("f8", "F8_E4M3", &[9, 9], noise(81)),
        ("mask", "BOOL", &[6], vec![0, 1, 1, 0, 1, 0]),
        ("frozen", "F32", &[100], weights(100, 0)),
        ("old name", "F16", &[30], noise(60)),
        ("reshaped", "F32", &[4, 5], weights(20, 0)),
        ("gone", "U8", &[3], noise(3)),
        ("empty", "F32", &[0, 4], Vec::new()),
    ]
}

pub fn tuned_tensors() -> Vec<Raw<'static>> {
    vec![
        ("half", "BF16", &[40, 64], halves(2560, 1)),
        ("w", "F32", &[40, 64], weights(2560, 3)),
        ("ids", "I32", &[5, 7], changed(noise(140))),
        ("f8", "F8_E4M3", &[9, 9], changed(noise(81))),
        ("mask", "BOOL", &[6], vec![0, 1, 1, 0, 1, 1]),
        ("frozen", "F32", &[100], weights(100, 0)),
        ("new/name", "F16", &[30], noise(60)),
        ("reshaped", "F32", &[5, 4], weights(20, 1)),
        ("new", "U8", &[300], noise(300)),
        ("empty", "F32", &[0, 4], Vec::new()),
        ("tied", "F32", &[40, 64], weights(2560, 3)),
    ]
}

/// Base and tuned model in a directory.
pub fn models() -> (Dir, PathBuf, PathBuf) {
    let dir = Dir::new();
    let base = dir.write("base.safetensors", model(&base_tensors()));
    let tuned = dir.write("tuned.safetensors", model(&tuned_tensors()));
    (dir, base, tuned)
}

pub fn plan(source: &Path, target: &Path, base: &Path, recipe: &Recipe) -> Result<Plan, Error> {
    Plan::relative(source, target, &[base.to_owned()], recipe, 0, &registry())
}

#[track_caller]
pub fn pack(source: &Path, target: &Path, base: &Path) -> PathBuf {
    let plan = plan(source, target, base, &Recipe::default()).unwrap();
    plan.run(&registry(), &NoProgress).unwrap();
    plan.commit(&registry(), Some(&NoProgress)).unwrap();
    plan.target().to_owned()
}

pub fn open(packed: &Path, bases: &[&Path]) -> Result<Packed, Error> {
    Packed::open(packed, &registry())?.with_bases(bases, &registry())
}

/// Unpacks to one file and returns its bytes.
pub fn unpacked(dir: &Dir, packed: &Packed) -> Vec<u8> {
    let faults = packed.verify(&NoProgress);
    assert!(faults.is_empty(), "{faults:?}");
    let back = dir.path().join("back.safetensors");
    packed.unpack_single(&back, &NoProgress).unwrap();
    fs::read(back).unwrap()
}
