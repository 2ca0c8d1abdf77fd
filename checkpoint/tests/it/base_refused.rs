//! Wrong, changed and circular bases are refused, and old files stay as they are.

use std::fs::{self, File};
use std::time::{Duration, SystemTime};

use checkpoint::{Hash, Packed, Recipe};
use codec_api::NoProgress;
use serde_json::json;

use crate::support::base::{base_tensors, halves, models, open, pack, plan, weights};
use crate::support::packed::{edit_manifest, registry};
use crate::support::{Dir, assert_says, model};

#[test]
fn another_base_is_refused_by_its_hash() {
    let (dir, base, tuned) = models();
    let target = pack(&tuned, &dir.path().join("p.nw.safetensors"), &base);
    let mut tensors = base_tensors();
    tensors[0].3 = weights(2560, 1);
    let other = dir.write("other.safetensors", model(&tensors));
    let packed = open(&target, &[&other]).unwrap();
    let [wanted, found] = [0, 1].map(|step| Hash::of(&weights(2560, step)).to_string());
    let parts = ["p.nw.safetensors", "tensor `w`", &wanted, &found, "other.safetensors"];
    assert_says(&packed.tensor("w").unwrap().decode_bytes().unwrap_err(), &parts);
    assert_says(&packed.check_base().unwrap_err(), &parts);
    assert_eq!(packed.tensor("half").unwrap().decode_bytes().unwrap(), halves(2560, 1));
    assert_eq!(packed.verify(&NoProgress).len(), 1);
    let back = dir.path().join("back.safetensors");
    packed.unpack_single(&back, &NoProgress).unwrap_err();
    assert!(!back.exists());

    // A base without the tensors, or with other shapes.
    tensors[0].2 = &[64, 40];
    let reshaped = dir.write("reshaped.safetensors", model(&tensors));
    assert_says(&open(&target, &[&reshaped]).unwrap_err(), &["`w`", "is F32 [64, 40], not F32 [40, 64]"]);
    let none = dir.write("none.safetensors", model(&[]));
    assert_says(&open(&target, &[&none]).unwrap_err(), &["none.safetensors` has no such tensor"]);
    assert_says(&open(&target, &[&base, &base]).unwrap_err(), &["base.safetensors", "needs none"]);
    let plain = crate::support::packed::pack(&tuned, &dir.path().join("plain.nw.safetensors"), &Recipe::default());
    assert_says(&open(&plain, &[&base]).unwrap_err(), &["plain.nw.safetensors", "needs none"]);
    // The model at the old place is another one now: it counts as missing.
    fs::copy(&none, &base).unwrap();
    let packed = open(&target, &[]).unwrap();
    assert_says(&packed.require_base().unwrap_err(), &["no such tensor", "--base"]);
}

#[test]
fn circles_and_long_chains_are_refused() {
    let dir = Dir::new();
    let step = |i: u32| model(&[("w", "F32", &[40, 64], weights(2560, i))]);
    let mut base = dir.write("0.safetensors", step(0));
    let mut chain = Vec::new();
    for i in 1..=8 {
        let source = dir.write("source.safetensors", step(i));
        base = pack(&source, &dir.path().join(format!("p{i}.nw.safetensors")), &base);
        chain.push(base.clone());
    }
    let source = dir.write("source.safetensors", step(9));
    let error = plan(&source, &dir.path().join("p9.nw.safetensors"), &base, &Recipe::default()).unwrap_err();
    assert_says(&error, &["8 packed models", "unpack it"]);

    edit_manifest(&chain[0], |manifest| manifest["base"]["hint"] = json!("p2.nw.safetensors"));
    let packed = open(&chain[1], &[]).unwrap();
    assert_says(&packed.verify(&NoProgress)[0], &["p2.nw.safetensors", "its own base"]);
    assert_says(&open(&chain[0], &[&chain[0]]).unwrap_err(), &["its own base"]);
}

#[test]
fn the_target_is_never_the_base() {
    let (dir, base, tuned) = models();
    let packed_base = crate::support::packed::pack(&base, &dir.path().join("b.nw.safetensors"), &Recipe::default());
    let same = dir.path().join("./b.nw.safetensors");
    assert_says(&plan(&tuned, &same, &packed_base, &Recipe::default()).unwrap_err(), &["a file of the base"]);
    let between = pack(&tuned, &dir.path().join("p.nw.safetensors"), &packed_base);
    let error = plan(&tuned, &packed_base, &between, &Recipe::default()).unwrap_err();
    assert_says(&error, &["b.nw.safetensors", "a file of the base"]);
    let target = pack(&tuned, &dir.path().join("q.nw.safetensors"), &base);
    let error = open(&target, &[&base]).unwrap().unpack_single(&base, &NoProgress).unwrap_err();
    assert_says(&error, &["base.safetensors", "a file of the base", "--in-place"]);
    assert_eq!(fs::read(&base).unwrap(), model(&base_tensors()));
}

#[test]
fn a_changed_base_is_refused_by_the_plan() {
    let (dir, base, tuned) = models();
    let made = plan(&tuned, &dir.path().join("p.nw.safetensors"), &base, &Recipe::default()).unwrap();
    let set_time = |time| File::options().write(true).open(&base).unwrap().set_modified(time).unwrap();
    let modified = fs::metadata(&base).unwrap().modified().unwrap();
    set_time(SystemTime::UNIX_EPOCH + Duration::from_secs(5));
    assert_says(&made.run(&registry(), &NoProgress).unwrap_err(), &["base.safetensors", "time of the last change"]);
    assert!(!made.parts().exists());
    set_time(modified);
    made.run(&registry(), &NoProgress).unwrap();
    set_time(SystemTime::UNIX_EPOCH + Duration::from_secs(5));
    let error = made.commit(&registry(), Some(&NoProgress)).unwrap_err();
    assert_says(&error, &["base.safetensors", "make the plan again"]);
    assert!(!made.target().exists());
}

#[test]
fn a_patch_is_applied_in_place_or_not_at_all() {
    let (dir, base, tuned) = models();
    let target = pack(&tuned, &dir.path().join("p.nw.safetensors"), &base);
    let whole = fs::read(&target).unwrap();
    let old = fs::read(&base).unwrap();
    let (header, start) = codec_api::read_safetensors_header(&whole).unwrap();
    let start = start + header.info("__netweight__/manifest").unwrap().data_offsets.1;
    for at in [start + 1, usize::midpoint(start, whole.len()), whole.len() - 1] {
        let mut damaged = whole.clone();
        damaged[at] ^= 1;
        let damaged = dir.write("damaged.nw.safetensors", damaged);
        open(&damaged, &[&base]).unwrap().unpack_in_place(&NoProgress).unwrap_err();
        assert_eq!(fs::read(&base).unwrap(), old, "byte {at}");
    }
    fs::remove_file(dir.path().join("damaged.nw.safetensors")).unwrap();
    let packed = open(&target, &[&base]).unwrap();
    assert_eq!(packed.unpack_in_place(&NoProgress).unwrap(), base);
    assert_eq!(fs::read(&base).unwrap(), fs::read(&tuned).unwrap());
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 3, "no temporary file is left");
    // It is not the base any more.
    let error = open(&target, &[&base]).unwrap_err();
    assert_says(&error, &["`old name`", "no such tensor"]);

    let packed_base = crate::support::packed::pack(&base, &dir.path().join("b.nw.safetensors"), &Recipe::default());
    let other = pack(&tuned, &dir.path().join("q.nw.safetensors"), &packed_base);
    let error = open(&other, &[&packed_base]).unwrap().unpack_in_place(&NoProgress).unwrap_err();
    assert_says(&error, &["b.nw.safetensors", "one dense file", "-o"]);
}

#[test]
fn manifests_with_wrong_bases_are_refused() {
    type Edit = fn(&mut serde_json::Value);
    let edits: [(Edit, &str); 5] = [
        (|m| m["tensors"][0]["base"] = json!(99), "its base tensor 99"),
        (|m| drop(m.as_object_mut().unwrap().remove("base")), "its base tensor 0"),
        (|m| m["tensors"][10]["base"] = json!(0), "either chunks or a base"),
        (|m| m["base"]["strange"] = json!(0), "unknown field `strange`"),
        (|m| m["base"]["tensors"][0]["blake3"] = json!("00"), "blake3 `00`"),
    ];
    let (dir, base, tuned) = models();
    let target = pack(&tuned, &dir.path().join("p.nw.safetensors"), &base);
    let whole = fs::read(&target).unwrap();
    for (edit, part) in edits {
        fs::write(&target, &whole).unwrap();
        edit_manifest(&target, edit);
        assert_says(&Packed::open(&target, &registry()).unwrap_err(), &["p.nw.safetensors", part]);
    }
    // A chunk without the number of its base.
    fs::write(&target, &whole).unwrap();
    edit_manifest(&target, |m| drop(m["tensors"][0].as_object_mut().unwrap().remove("base")));
    let packed = open(&target, &[&base]).unwrap();
    assert_says(&packed.tensor("half").unwrap().decode_bytes().unwrap_err(), &["`half`", "missing base"]);
}
