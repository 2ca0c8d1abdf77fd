//! Models that are packed relative to a base come back.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use checkpoint::{Hash, Plan, Recipe, Rule};
use codec_api::NoProgress;
use serde_json::{Value, json};

use crate::support::base::{base_tensors, halves, models, open, pack, plan, tuned_tensors, unpacked, weights};
use crate::support::packed::{noise, registry};
use crate::support::{Dir, Raw, assert_says, floats, model};

#[test]
fn every_dtype_comes_back_from_its_base() {
    let (dir, base, tuned) = models();
    let target = pack(&tuned, &dir.path().join("patch.nw.safetensors"), &base);
    assert!(!dir.path().join("patch.nw.safetensors.parts").exists());
    let packed = open(&target, &[&base]).unwrap();
    assert_eq!((packed.base_name(), packed.base_path()), (Some("base.safetensors"), Some(&*base)));
    for (name, _, _, bytes) in tuned_tensors() {
        let tensor = packed.tensor(name).unwrap();
        assert_eq!(tensor.decode_bytes().unwrap(), bytes, "{name}");
        assert_eq!(tensor.hash(), Hash::of(&bytes), "{name}");
        assert!(tensor.certificate().exact, "{name}");
        if name == "w" || name == "frozen" {
            assert_eq!(floats(&tensor.to_f32().unwrap()), bytes, "{name}");
        }
    }
    assert_eq!(unpacked(&dir, &packed), fs::read(&tuned).unwrap());
}

#[test]
fn bases_are_found_by_content_then_by_name() {
    let (dir, base, tuned) = models();
    let packed = open(&pack(&tuned, &dir.path().join("p.nw.safetensors"), &base), &[&base]).unwrap();
    let tensor = |name: &str| packed.tensor(name).unwrap();
    let hash = |name: &str| Hash::of(&base_tensors().into_iter().find(|tensor| tensor.0 == name).unwrap().3);
    for (name, base, equal) in
        [("half", "half", false), ("f8", "f8", false), ("frozen", "frozen", true), ("new/name", "old name", true)]
    {
        assert_eq!(tensor(name).base(), Some((base, hash(base))), "{name}");
        assert_eq!(tensor(name).equals_base(), equal, "{name}");
        assert_eq!(tensor(name).chunks().count(), usize::from(!equal), "{name}: an equal tensor stores nothing");
        assert_eq!(tensor(name).bytes() == 0, equal, "{name}");
    }
    for name in ["reshaped", "new"] {
        assert_eq!(tensor(name).base(), None, "{name}");
    }
    assert_eq!(tensor("tied").same_as(), Some("w"));
    // A ninth of the weights differs, by three units.
    assert!(tensor("w").bytes() < 2560 * 4 / 12, "{}", tensor("w").bytes());
}

#[test]
fn the_base_is_found_where_it_was() {
    let (dir, base, tuned) = models();
    let target = pack(&tuned, &dir.path().join("sub/p.nw.safetensors"), &base);
    let packed = open(&target, &[]).unwrap();
    assert_eq!(packed.base_hint(), Some(fs::canonicalize(&base).unwrap()));
    assert_eq!(packed.base_path(), packed.base_hint().as_deref());
    assert_eq!(unpacked(&dir, &packed), fs::read(&tuned).unwrap());

    // Elsewhere it is not found. Tensors without a base do not need it.
    let moved = dir.write("far/away/p.nw.safetensors", fs::read(&target).unwrap());
    let packed = open(&moved, &[]).unwrap();
    assert_eq!(packed.base_path(), None);
    assert_eq!(packed.tensor("new").unwrap().decode_bytes().unwrap(), noise(300));
    let hash = Hash::of(&halves(2560, 0)).to_string();
    let parts = ["far/away/p.nw.safetensors", "`base.safetensors`", "base.safetensors`)", "`half`", &hash, "--base"];
    for name in ["half", "frozen", "tied"] {
        assert_says(&packed.tensor(name).unwrap().decode_bytes().unwrap_err(), &parts);
    }
    assert_says(&packed.tensor("w").unwrap().to_f32().unwrap_err(), &parts);
    let faults = packed.verify(&NoProgress);
    assert_eq!(faults.len(), 1);
    assert_says(&faults[0], &parts);
    let error = packed.unpack(&dir.path().join("out"), &NoProgress).unwrap_err();
    assert_says(&error, &parts);
    assert!(!dir.path().join("out").exists());
}

#[test]
fn sharded_and_packed_models_are_bases() {
    let (dir, base, tuned) = models();
    let tensors = base_tensors();
    dir.write("shards/1.safetensors", model(&tensors[..4]));
    dir.write("shards/2.safetensors", model(&tensors[4..]));
    let places: Vec<_> = tensors
        .iter()
        .enumerate()
        .map(|(i, (name, ..))| format!(r#""{name}":"{}.safetensors""#, if i < 4 { 1 } else { 2 }))
        .collect();
    let index = format!(r#"{{"weight_map":{{{}}}}}"#, places.join(","));
    dir.write("shards/model.safetensors.index.json", index);
    let shards = dir.path().join("shards");
    let target = pack(&tuned, &dir.path().join("p.nw.safetensors"), &shards);
    let whole = fs::read(&tuned).unwrap();
    assert_eq!(open(&target, &[&shards]).unwrap().base_name(), Some("shards"));
    let packed_base = crate::support::packed::pack(&base, &dir.path().join("b.nw.safetensors"), &Recipe::default());
    for base in [&shards, &base, &packed_base] {
        assert_eq!(unpacked(&dir, &open(&target, &[base]).unwrap()), whole, "{}", base.display());
    }
    let again = pack(&tuned, &dir.path().join("q.nw.safetensors"), &packed_base);
    assert_eq!(unpacked(&dir, &open(&again, &[&base]).unwrap()), whole);
}

#[test]
fn bases_may_be_cut_into_other_chunks() {
    let dir = Dir::new();
    let (rows, columns) = (4200, 1024);
    let two = |w: &[u8], v: &[u8]| {
        let tensor = |name, bytes: &[u8]| (name, "F8_E4M3", &[4200, 1024][..], bytes.to_vec());
        model(&[tensor("w", w), tensor("v", v)])
    };
    let old = noise(rows * columns);
    let base = dir.write("base.safetensors", two(&old, &old));
    let mut new = old.clone();
    new[4_195_000] ^= 1;
    let tuned = dir.write("tuned.safetensors", two(&new, &old));
    // Three chunks in the base and in the model, at other rows.
    let packed_base = dir.path().join("b.nw.safetensors");
    let saved = dir.path().join("plan.json");
    Plan::new(&base, &packed_base, &Recipe::default(), 0, &registry()).unwrap().save(&saved).unwrap();
    let mut plan: Value = serde_json::from_str(&fs::read_to_string(&saved).unwrap()).unwrap();
    plan["tensors"][0]["chunk_rows"] = json!(1400);
    plan["units"] = json!([[[0, 0], [0, 1], [0, 2]]]);
    fs::write(&saved, plan.to_string()).unwrap();
    let plan = Plan::load(&saved).unwrap();
    plan.run(&registry(), &NoProgress).unwrap();
    plan.commit(&registry(), None).unwrap();
    assert_eq!(open(&packed_base, &[]).unwrap().tensor("v").unwrap().chunks().count(), 3);

    let target = pack(&tuned, &dir.path().join("p.nw.safetensors"), &base);
    for base in [&base, &packed_base] {
        let packed = open(&target, &[base]).unwrap();
        assert_eq!(packed.tensor("w").unwrap().chunks().count(), 3);
        assert!(packed.tensor("v").unwrap().equals_base());
        assert_eq!(unpacked(&dir, &packed), fs::read(&tuned).unwrap(), "{}", base.display());
    }
}

#[test]
fn chains_of_three_come_back() {
    let dir = Dir::new();
    let step = |i: u32| model(&[("w", "F32", &[40, 64], weights(2560, i)), ("same", "U8", &[9], noise(9))]);
    let dense: Vec<PathBuf> = (0..4).map(|i| dir.write(&format!("{i}.safetensors"), step(i))).collect();
    let mut base = dense[0].clone();
    for (i, source) in dense.iter().enumerate().skip(1) {
        base = pack(source, &dir.path().join(format!("p{i}.nw.safetensors")), &base);
    }
    assert_eq!(unpacked(&dir, &open(&base, &[]).unwrap()), step(3), "each base is found where it was");
    let old = dir.path().join("moved");
    fs::create_dir(&old).unwrap();
    for name in ["0.safetensors", "p1.nw.safetensors", "p2.nw.safetensors"] {
        fs::rename(dir.path().join(name), old.join(name)).unwrap();
    }
    let paths = ["p2.nw.safetensors", "p1.nw.safetensors", "0.safetensors"].map(|name| old.join(name));
    let paths: Vec<&Path> = paths.iter().map(PathBuf::as_path).collect();
    for given in 1..=3 {
        let packed = open(&base, &paths[..given]).unwrap();
        assert_eq!(unpacked(&dir, &packed), step(3), "{given} of three bases are given");
    }
    fs::remove_file(paths[2]).unwrap();
    let packed = open(&base, &paths[..1]).unwrap();
    assert_says(&packed.verify(&NoProgress)[0], &["p1.nw.safetensors", "`0.safetensors`", "tensor `w`"]);
}

#[test]
fn an_interrupted_run_goes_on_with_its_base() {
    let dir = Dir::new();
    let names = ["a", "b", "c"];
    let tensors = |changed: u8| -> Vec<Raw<'static>> {
        let tensor = |i: usize| {
            let mut bytes = noise(4 * 1025 * 1024);
            bytes[8] = i as u8;
            bytes[100] = changed;
            (names[i], "F32", &[1025, 1024][..], bytes)
        };
        (0..3).map(tensor).collect()
    };
    let base = dir.write("base.safetensors", model(&tensors(1)));
    let tuned = dir.write("tuned.safetensors", model(&tensors(2)));
    let once = fs::read(pack(&tuned, &dir.path().join("once.nw.safetensors"), &base)).unwrap();
    let target = dir.path().join("m.nw.safetensors");
    let first = plan(&tuned, &target, &base, &Recipe::default()).unwrap();
    let saved = dir.path().join("plan.json");
    first.save(&saved).unwrap();
    assert!(first.units() > 1);
    // As another process would, which is killed after a unit.
    Plan::load(&saved).unwrap().run_unit(1, &registry(), &NoProgress).unwrap();
    let part = first.parts().join("unit-00001.safetensors");
    let long_ago = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
    File::options().write(true).open(&part).unwrap().set_modified(long_ago).unwrap();
    let again = plan(&tuned, &target, &base, &Recipe::default()).unwrap();
    again.run(&registry(), &NoProgress).unwrap();
    assert_eq!(fs::metadata(&part).unwrap().modified().unwrap(), long_ago, "a whole part is kept");
    again.commit(&registry(), Some(&NoProgress)).unwrap();
    assert_eq!(fs::read(&target).unwrap(), once);

    let text = fs::read_to_string(&saved).unwrap();
    for (from, to, reason) in [
        (r#""base":0"#, r#""base":9"#, "its base does not exist"),
        (r#""name":"base.safetensors","bytes""#, r#""name":"../x","bytes""#, "plain path"),
    ] {
        assert!(text.contains(from), "{from} in {text}");
        fs::write(&saved, text.replacen(from, to, 1)).unwrap();
        assert_says(&Plan::load(&saved).unwrap_err(), &["plan.json", reason]);
    }
}

#[test]
fn recipes_may_name_codecs_with_a_base() {
    let (dir, base, tuned) = models();
    let mut recipe = Recipe::for_matrices("delta.sign");
    recipe.rules.insert(0, Rule::of_names("^half$", "quant.int"));
    let target = dir.path().join("p.nw.safetensors");
    let error = Plan::new(&tuned, &target, &recipe, 0, &registry()).unwrap_err();
    assert_says(&error, &["delta.sign", "needs a base", "--base"]);
    let made = plan(&tuned, &target, &base, &recipe).unwrap();
    made.run(&registry(), &NoProgress).unwrap();
    made.commit(&registry(), Some(&NoProgress)).unwrap();
    let packed = open(&target, &[&base]).unwrap();
    let codec = |name: &str| {
        let chunk = packed.tensor(name).unwrap().chunks().next().unwrap();
        (chunk.encoded().codec.typetag_name(), chunk.refused().map(str::to_owned))
    };
    assert_eq!(codec("w"), ("delta.sign", None));
    assert_eq!(codec("half"), ("delta.exact", None), "a codec that uses no base gives way");
    assert_eq!(codec("reshaped"), ("lossless", Some("it has no base".to_owned())));
    assert_eq!(codec("new"), ("lossless", None));
    let certificate = packed.tensor("w").unwrap().certificate();
    assert!(!certificate.exact && certificate.rel_frobenius() < 1e-3, "{certificate:?}");
    assert!(packed.verify(&NoProgress).is_empty());
}
