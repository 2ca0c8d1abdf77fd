//! The first bytes of a packed file are a coarse model.

use std::fs;
use std::path::{Path, PathBuf};

use checkpoint::{Error, Packed, Recipe, Rule};
use codec_api::{Certificate, NoProgress, read_safetensors_header};
use half::bf16;
use serde_json::json;

use crate::support::packed::{edit_manifest, gaussian, noise, pack, registry};
use crate::support::{Dir, assert_says, floats, model};

const TARGET: &str = "m.nw.safetensors";

fn bf16s(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| bf16::from_f32(*v).to_le_bytes()).collect()
}

/// A model of tensors with three levels, two levels and one.
fn source(dir: &Dir) -> PathBuf {
    let values = gaussian(24 * 64, 1);
    let tensors = [
        ("a", "F32", &[24, 64][..], floats(&values)),
        ("b", "BF16", &[8, 64], bf16s(&values[..512])),
        ("ids", "I64", &[100], noise(800)),
        ("tied", "F32", &[24, 64], floats(&values)),
    ];
    dir.write("model.safetensors", model(&tensors))
}

fn recipe() -> Recipe {
    let int = |bits| format!("quant.int:bits={bits}:group=32");
    let mut recipe = Recipe::default();
    recipe.rules.push(Rule::of_names("a|tied", &format!("residual({},residual({},{}))", int(2), int(3), int(4))));
    recipe.rules.push(Rule::of_names("b", "residual(trellis:bits=3,trellis:bits=2)"));
    recipe
}

fn packed(dir: &Dir) -> PathBuf {
    pack(&source(dir), &dir.path().join(TARGET), &recipe())
}

fn open(path: &Path) -> Packed {
    Packed::open(path, &registry()).unwrap()
}

/// The bytes of every tensor at a level.
fn decoded(packed: &Packed, level: usize) -> Vec<Vec<u8>> {
    packed.tensors().map(|tensor| tensor.at_level(level).unwrap().decode_bytes().unwrap()).collect()
}

#[test]
fn levels_state_what_a_decoder_returns() {
    let dir = Dir::new();
    let source = checkpoint::Checkpoint::open(source(&dir)).unwrap();
    let whole = open(&packed(&dir));
    assert_eq!(whole.levels().len(), 3);
    assert!(whole.levels().iter().all(|level| level.whole));
    assert_eq!(whole.levels()[2].file_bytes, whole.file_bytes());
    let of_all: Vec<_> = whole.tensors().map(|tensor| tensor.certificate()).collect();
    for level in 0..3 {
        let model = open(whole.path()).at_level(level).unwrap();
        assert_eq!(model.tensors().map(|tensor| tensor.bytes()).sum::<u64>(), whole.levels()[level].bytes);
        for (tensor, all) in model.tensors().zip(&of_all) {
            let stated = tensor.certificate();
            let (name, levels) = (tensor.name(), if tensor.name() == "b" { 2 } else { 3 });
            if tensor.name() == "ids" || level + 1 >= levels {
                assert_eq!(stated, *all, "{name}: the last level is the tensor");
            } else {
                assert!(stated.nmse() > 4.0 * all.nmse(), "{name}, level {level}: {stated:?}");
            }
            if tensor.name() != "ids" {
                let values = source.tensor(name).unwrap();
                let measured = Certificate::measure(&values.to_f32().unwrap(), &tensor.to_f32().unwrap());
                assert_eq!(stated.max_abs, measured.max_abs, "{name}, level {level}");
                assert!(
                    (stated.nmse() / measured.nmse() - 1.0).abs() < codec_api::Certificate::TOLERANCE,
                    "{name}, level {level}"
                );
            }
            let mut rows = vec![0.0; 2 * 64];
            if name == "a" {
                tensor.rows(3..5, &mut rows).unwrap();
                assert_eq!(rows, tensor.to_f32().unwrap()[3 * 64..5 * 64]);
            }
        }
        assert!(model.verify(&NoProgress).is_empty());
        let out = dir.path().join(format!("level-{level}.safetensors"));
        model.unpack_single(&out, &NoProgress).unwrap();
        let dense = checkpoint::Checkpoint::open(&out).unwrap();
        for (tensor, bytes) in model.tensors().zip(decoded(&whole, level)) {
            assert_eq!(*dense.bytes(tensor.name()).unwrap().1, bytes, "{}", tensor.name());
        }
    }
}

#[test]
fn a_prefix_gives_the_levels_that_are_whole() {
    let dir = Dir::new();
    let path = packed(&dir);
    let (whole, bytes) = (open(&path), fs::read(&path).unwrap());
    let values: Vec<_> = (0..3).map(|level| decoded(&whole, level)).collect();
    let (header, start) = read_safetensors_header(&bytes).unwrap();
    let mut lengths: Vec<usize> = header.tensors().values().map(|info| start + info.data_offsets.1).collect();
    lengths.extend([start, start / 2, 8, 0]);
    for length in
        lengths.iter().flat_map(|end| [end.saturating_sub(1), *end, end + 1]).filter(|end| *end <= bytes.len())
    {
        let cut = dir.write("cut.nw.safetensors", &bytes[..length]);
        let held = whole.levels().iter().filter(|level| level.file_bytes <= length as u64).count();
        if held == 0 {
            let error = Packed::open(&cut, &registry()).unwrap_err();
            assert_says(&error, &["cut.nw.safetensors"]);
            continue;
        }
        let found = open(&cut);
        assert_eq!(found.levels().iter().filter(|level| level.whole).count(), held);
        assert_eq!(
            found.levels().iter().map(|level| level.file_bytes).collect::<Vec<_>>(),
            [0, 1, 2].map(|i| whole.levels()[i].file_bytes)
        );
        for (level, values) in values.iter().enumerate().take(held) {
            assert_eq!(decoded(&found, level), *values, "{length} bytes, level {level}");
        }
        let faults = found.verify(&NoProgress);
        assert_eq!(faults.is_empty(), held == 3, "{length} bytes: {faults:?}");
        if held < 3 {
            let next = whole.levels()[held].file_bytes;
            let needs = [format!("ends after {length} bytes"), format!("level {held} needs the first {next}")];
            assert_says(&faults[0], &[&needs[0], &needs[1], &format!("read level {}", held - 1)]);
            match found.tensor("a").unwrap().decode_bytes() {
                Ok(bytes) => assert_eq!(bytes, values[2][0], "its own sections are whole"),
                Err(error) => assert!(matches!(error, Error::Level { .. }), "{error}"),
            }
            assert_says(&open(&cut).at_level(held).unwrap_err(), &[&needs[1]]);
            found.tensor("ids").unwrap().decode_bytes().unwrap();
        }
    }
}

#[test]
fn reading_beyond_a_prefix_names_tensor_and_bytes() {
    let dir = Dir::new();
    let path = packed(&dir);
    let (levels, bytes) = (open(&path).levels().to_vec(), fs::read(&path).unwrap());
    let cut = dir.write("cut.nw.safetensors", &bytes[..levels[0].file_bytes as usize]);
    let found = open(&cut);
    let wanted = [
        format!("level 1 needs the first {}", levels[1].file_bytes),
        format!("level 2 needs the first {}", levels[2].file_bytes),
    ];
    let mut values = vec![0.0; 64];
    let tied = found.tensor("tied").unwrap();
    for error in
        [tied.decode_bytes().unwrap_err(), tied.to_f32().unwrap_err(), tied.rows(0..1, &mut values).unwrap_err()]
    {
        assert_says(&error, &["cut.nw.safetensors", "tensor `a`, rows 0..24", &wanted[0], &wanted[1], "read level 0"]);
    }
    let out = dir.path().join("out.safetensors");
    assert_says(&found.unpack_single(&out, &NoProgress).unwrap_err(), &[&wanted[1]]);
    assert!(!out.exists());
    open(&cut).at_level(0).unwrap().unpack_single(&out, &NoProgress).unwrap();
    assert_says(&open(&cut).at_level(3).unwrap_err(), &["no quality level 3", "0 to 2"]);
    assert_says(&tied.at_level(3).unwrap_err(), &["no quality level 3"]);
}

#[test]
fn damage_in_a_later_level_does_not_hide_the_earlier_ones() {
    let dir = Dir::new();
    let path = packed(&dir);
    let mut bytes = fs::read(&path).unwrap();
    let (header, start) = read_safetensors_header(&bytes).unwrap();
    bytes[start + header.info("a/0/second/first/codes").unwrap().data_offsets.0] ^= 1;
    fs::write(&path, bytes).unwrap();
    let found = open(&path);
    let tensor = found.tensor("a").unwrap();
    tensor.at_level(0).unwrap().decode_bytes().unwrap();
    for level in [1, 2] {
        let error = tensor.at_level(level).unwrap().decode_bytes().unwrap_err();
        assert_says(&error, &["tensor `a`", "`second/first/codes`", "CRC-32C"]);
    }
    assert!(open(&path).at_level(0).unwrap().verify(&NoProgress).is_empty());
    assert_eq!(found.verify(&NoProgress).len(), 1);
}

#[test]
fn records_of_levels_are_checked() {
    let dir = Dir::new();
    let path = packed(&dir);
    let whole = fs::read(&path).unwrap();
    let edited = |edit: fn(&mut serde_json::Value)| {
        let path = dir.write("edited.nw.safetensors", &whole);
        edit_manifest(&path, |manifest| edit(&mut manifest["tensors"][0]["chunks"][0]["levels"]));
        path
    };
    let missing = edited(|levels| drop(levels.as_array_mut().unwrap().pop()));
    assert_says(&Packed::open(missing, &registry()).unwrap_err(), &["tensor `a`", "of 2 quality levels of 3"]);
    let negative = edited(|levels| levels[1]["certificate"]["max_abs"] = json!(-1.0));
    assert_says(&Packed::open(negative, &registry()).unwrap_err(), &["tensor `a`", "level 1", "valid certificate"]);
    let other = edited(|levels| levels[0]["blake3"] = levels[1]["blake3"].clone());
    let tensor = open(&other);
    assert_says(&tensor.tensor("a").unwrap().at_level(0).unwrap().decode_bytes().unwrap_err(), &["blake3"]);
    tensor.tensor("a").unwrap().decode_bytes().unwrap();
}
