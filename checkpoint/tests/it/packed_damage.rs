//! Damaged packed files, and files that lie.

use std::fs;
use std::path::{Path, PathBuf};

use checkpoint::{Packed, Recipe};
use codec_api::{NoProgress, read_safetensors_header};
use safetensors::tensor::Metadata;
use serde_json::{Value, json};

use crate::support::packed::{edit_manifest, noise, pack, registry, set_description};
use crate::support::{Dir, assert_says, file, floats, model};

fn packed(dir: &Dir) -> PathBuf {
    let values: Vec<f32> = (0..640).map(|i| ((i * 37) % 101) as f32 / 50.0 - 1.0).collect();
    let tensors = model(&[
        ("w/ü", "F32", &[10, 64], floats(&values)),
        ("norm", "F32", &[64], floats(&values[..64])),
        ("ids", "I64", &[100], noise(800)),
        ("tied", "I64", &[100], noise(800)),
    ]);
    let source = dir.write("model.safetensors", tensors);
    pack(&source, &dir.path().join("m.nw.safetensors"), &Recipe::built_in("int8").unwrap())
}

/// The bytes of a file, its header, and where its data begin.
fn read(path: &Path) -> (Vec<u8>, Metadata, usize) {
    let whole = fs::read(path).unwrap();
    let (header, start) = read_safetensors_header(&whole).unwrap();
    (whole, header, start)
}

#[test]
fn a_changed_byte_in_any_section_is_found_and_named() {
    let dir = Dir::new();
    let (whole, header, start) = read(&packed(&dir));
    let mut sections = 0;
    for (name, info) in header.tensors() {
        let (begin, end) = info.data_offsets;
        for at in [begin, usize::midpoint(begin, end), end - 1] {
            let mut bytes = whole.clone();
            bytes[start + at] ^= 0x10;
            let changed = dir.write("changed.nw.safetensors", &bytes);
            let faults = match Packed::open(&changed, &registry()) {
                Ok(packed) => packed.verify(&NoProgress),
                Err(error) => vec![error],
            };
            assert_eq!(faults.len(), 1, "{name}: {faults:?}");
            let tensor = if name.starts_with("w%2Fü/") { "tensor `w/ü`" } else { "" };
            assert_says(&faults[0], &["changed.nw.safetensors", &format!("`{name}`"), tensor, "CRC-32C"]);
        }
        sections += 1;
    }
    assert!(sections >= 6, "{sections}");
}

#[test]
fn a_changed_byte_of_the_header_is_found() {
    let dir = Dir::new();
    let (whole, _, start) = read(&packed(&dir));
    let text = str::from_utf8(&whole[8..start]).unwrap().trim_end().len();
    for at in (0..8 + text).step_by(7) {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        let changed = dir.write("changed.nw.safetensors", &bytes);
        let found = Packed::open(&changed, &registry());
        assert!(found.is_err() || !found.unwrap().verify(&NoProgress).is_empty(), "byte {at}");
    }
}

#[test]
fn a_shortened_file_is_refused() {
    let dir = Dir::new();
    let whole = fs::read(packed(&dir)).unwrap();
    for len in [0, 7, 100, whole.len() / 2, whole.len() - 1] {
        let cut = dir.write("cut.nw.safetensors", &whole[..len]);
        assert_says(&Packed::open(&cut, &registry()).unwrap_err(), &["cut.nw.safetensors"]);
    }
}

#[test]
fn a_wrong_hash_is_found_behind_right_checksums() {
    let dir = Dir::new();
    let path = packed(&dir);
    edit_manifest(&path, |manifest| {
        let [first, second] = [0, 1].map(|i| manifest["tensors"][i]["chunks"][0]["blake3"].clone());
        manifest["tensors"][0]["chunks"][0]["blake3"] = second;
        manifest["tensors"][1]["chunks"][0]["blake3"] = first;
    });
    let packed = Packed::open(&path, &registry()).unwrap();
    let faults = packed.verify(&NoProgress);
    assert_eq!(faults.len(), 2);
    assert_says(&faults[0], &["tensor `w/ü`, rows 0..10", "blake3", "stored is"]);
    assert_says(&packed.tensor("norm").unwrap().decode_bytes().unwrap_err(), &["tensor `norm`"]);
    let out = dir.path().join("out");
    packed.unpack(&out, &NoProgress).unwrap_err();
    assert_eq!(fs::read_dir(&out).unwrap().count(), 0, "no file appears");
}

#[test]
fn manifests_that_contradict_the_file_are_refused() {
    type Edit = fn(&mut Value);
    let edits: [(Edit, &[&str]); 20] = [
        (|m| m["version"] = json!(2), &["newer than 1", "update netweight"]),
        (|m| m["strange"] = json!(0), &["unknown field `strange`"]),
        (|m| m["codecs"][0] = json!({"codec": "x.y", "version": 1}), &["codec 0", "unknown codec `x.y`"]),
        (|m| m["tensors"][0]["name"] = json!("norm"), &["tensor `norm` occurs twice"]),
        (|m| m["tensors"][0]["name"] = json!("v"), &["tensor `v`", "section `v/0/codes` is missing"]),
        (|m| m["tensors"][0]["file"] = json!(1), &["tensor `w/ü`", "source file 1"]),
        (|m| m["tensors"][0]["shape"] = json!([11, 64]), &["tensor `w/ü`", "cover 10 of 11 rows"]),
        (|m| m["tensors"][0]["shape"] = json!([u64::MAX, 64]), &["tensor `w/ü`", "more than"]),
        (|m| m["tensors"][0]["shape"] = json!([9, 64]), &["rows 0..10"]),
        (|m| m["tensors"][0]["chunks"][0]["rows"] = json!([1, 10]), &["rows 1..10 follows row 0"]),
        (|m| m["tensors"][0]["chunks"][0]["rows"] = json!([0, 0]), &["rows 0..0"]),
        (|m| m["tensors"][0]["chunks"][0]["codec"] = json!(99), &["its codec 99"]),
        (|m| m["tensors"][0]["chunks"][0]["certificate"]["max_abs"] = json!(-1.0), &["valid certificate"]),
        (|m| m["tensors"][0]["chunks"] = json!([]), &["either chunks or"]),
        (|m| m["tensors"][0]["same_as"] = json!("norm"), &["either chunks or"]),
        (|m| m["tensors"][3]["same_as"] = json!("tied"), &["tensor `tied`", "without chunks"]),
        (|m| m["tensors"][3]["same_as"] = json!("norm"), &["`norm` is F32 [64]"]),
        (|m| m["tensors"][3]["same_as"] = json!("gone"), &["`gone` does not exist"]),
        (|m| m["files"][0]["name"] = json!("../../etc/x"), &["plain path"]),
        (|m| drop(m["tensors"].as_array_mut().unwrap().pop()), &[]),
    ];
    let dir = Dir::new();
    let whole = fs::read(packed(&dir)).unwrap();
    for (i, (edit, parts)) in edits.into_iter().enumerate() {
        let path = dir.write("edited.nw.safetensors", &whole);
        edit_manifest(&path, edit);
        let found = Packed::open(&path, &registry());
        if parts.is_empty() {
            found.unwrap();
        } else {
            let error = found.err().unwrap_or_else(|| panic!("edit {i} is accepted: {parts:?}"));
            assert_says(&error, &["edited.nw.safetensors"]);
            assert_says(&error, parts);
        }
    }
}

#[test]
fn overlapping_chunks_and_unknown_sections_are_refused() {
    let dir = Dir::new();
    let path = packed(&dir);
    edit_manifest(&path, |manifest| {
        let chunks = manifest["tensors"][0]["chunks"].as_array_mut().unwrap();
        let mut second = chunks[0].clone();
        second["rows"] = json!([9, 10]);
        chunks.push(second);
    });
    assert_says(&Packed::open(&path, &registry()).unwrap_err(), &["rows 9..10 follows row 10"]);

    let path = packed(&dir);
    edit_manifest(&path, |manifest| drop(manifest["tensors"].as_array_mut().unwrap().remove(1)));
    assert_says(&Packed::open(&path, &registry()).unwrap_err(), &["does not know the section `norm/0/"]);
}

#[test]
fn a_tensor_that_claims_too_much_is_refused_before_memory_is_allocated() {
    let dir = Dir::new();
    let path = packed(&dir);
    edit_manifest(&path, |manifest| {
        let tensor = &mut manifest["tensors"][2];
        tensor["shape"] = json!([1u64 << 40]);
        tensor["dtype"] = json!("U8");
    });
    let packed = Packed::open(&path, &registry());
    // The tied tensor still has the old shape.
    assert_says(&packed.unwrap_err(), &["tensor `tied`"]);
    edit_manifest(&path, |manifest| drop(manifest["tensors"].as_array_mut().unwrap().pop()));
    let packed = Packed::open(&path, &registry()).unwrap();
    assert_says(&packed.tensor("ids").unwrap().decode_bytes().unwrap_err(), &["tensor `ids`", "its sections have"]);
}

#[test]
fn what_is_not_packed_is_named() {
    let dir = Dir::new();
    let dense = dir.write("dense.safetensors", model(&[("a", "U8", &[1], vec![0])]));
    assert_says(&Packed::open(&dense, &registry()).unwrap_err(), &["dense.safetensors", "no manifest"]);
    let open = |path: &Path| Packed::open(path, &registry()).unwrap_err();
    assert_says(&open(dir.path()), &["no file in it is named `*.nw.safetensors`"]);
    packed(&dir);
    Packed::open(dir.path(), &registry()).unwrap();
    dir.write("n.nw.safetensors", "");
    assert_says(&open(dir.path()), &["2 files in it"]);
    assert_says(&open(&dir.path().join("none")), &["does not exist"]);
}

/// A manifest as text, which older programs have written, and sets have.
#[test]
fn a_manifest_may_be_text_or_compressed() {
    let dir = Dir::new();
    let path = packed(&dir);
    let open = || Packed::open(&path, &registry()).unwrap();
    let before: Vec<_> = open().tensors().map(|tensor| (tensor.name().to_owned(), tensor.hash())).collect();
    let bytes = fs::metadata(&path).unwrap().len();
    edit_manifest(&path, |_| ());
    assert!(fs::metadata(&path).unwrap().len() > bytes);
    assert!(open().tensors().map(|tensor| (tensor.name().to_owned(), tensor.hash())).eq(before));
    assert!(open().verify(&NoProgress).is_empty());
}

#[test]
fn a_compressed_manifest_that_claims_another_length_is_refused() {
    let dir = Dir::new();
    let (whole, header, start) = read(&packed(&dir));
    let record = header.metadata().clone().unwrap().remove("netweight").unwrap();
    let stated: Value = serde_json::from_str(&record).unwrap();
    for bytes in [0, 1, stated["bytes"].as_u64().unwrap() - 1, 1 << 30, u64::MAX] {
        let mut record = stated.clone();
        record["bytes"] = bytes.into();
        let mut header: Value = serde_json::from_slice(&whole[8..start]).unwrap();
        set_description(&mut header, record.to_string());
        let changed = dir.write("changed.nw.safetensors", file(&header.to_string(), &whole[start..]));
        let error = Packed::open(&changed, &registry()).unwrap_err();
        assert_says(&error, &["changed.nw.safetensors", "`__netweight__/manifest`", &format!("{bytes} bytes")]);
    }
}
