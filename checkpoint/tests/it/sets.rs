//! Packed models in several files.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use checkpoint::{Checkpoint, Error, Packed, Plan, Recipe, Rule};
use codec_api::{NoProgress, read_safetensors_header};

use crate::support::packed::{gaussian, noise, pack, registry};
use crate::support::{Dir, assert_says, floats, model};

const LIMIT: u64 = 100_000;

fn stories() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../assets/stories260k")
}

/// Packs a model in shards and returns the index.
fn pack_set(source: &Path, target: &Path, recipe: &Recipe, limit: u64) -> PathBuf {
    let plan = Plan::new(source, target, recipe, 0, &registry()).unwrap().with_max_shard_size(limit).unwrap();
    plan.run(&registry(), &NoProgress).unwrap();
    plan.commit(&registry(), Some(&NoProgress)).unwrap();
    assert!(plan.is_committed(&registry()) && !plan.parts().exists());
    plan.written()
}

fn open(path: &Path) -> Packed {
    Packed::open(path, &registry()).unwrap()
}

fn refused(path: &Path) -> Error {
    Packed::open(path, &registry()).unwrap_err()
}

fn name_of(path: &Path) -> &str {
    path.file_name().unwrap().to_str().unwrap()
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn shards(packed: &Packed) -> Vec<PathBuf> {
    packed.packed_files().map(|file| file.path).collect()
}

/// A lossless set of stories260k named `m`, and its shards.
fn lossless_set(dir: &Dir) -> (PathBuf, Vec<PathBuf>) {
    let index = pack_set(&stories(), &dir.path().join("m.nw.safetensors"), &Recipe::default(), LIMIT);
    let files = shards(&open(&index));
    (index, files)
}

/// Checks names and lengths of the files of a set named `model`.
fn check_files(set: &Packed) {
    let files: Vec<_> = set.packed_files().collect();
    assert!(files.len() >= 3 && set.max_shard_size() == Some(LIMIT), "{files:?}");
    for (i, file) in files.iter().enumerate() {
        let (name, length) = (name_of(&file.path), fs::metadata(&file.path).unwrap().len());
        assert_eq!(name, format!("model-{:05}-of-{:05}.nw.safetensors", i + 1, files.len()));
        assert_eq!((file.bytes, file.found), (length, Some(length)), "{name}");
        assert!(length <= LIMIT, "{name} has {length} bytes");
        safetensors::SafeTensors::deserialize(&fs::read(&file.path).unwrap()).unwrap();
    }
}

#[test]
fn a_model_comes_back_from_shards_of_at_most_the_limit() {
    for recipe in ["lossless", "int8"] {
        let dir = Dir::new();
        let recipe = Recipe::built_in(recipe).unwrap();
        let whole = pack(&stories(), &dir.path().join("whole.nw.safetensors"), &recipe);
        let index = pack_set(&stories(), &dir.path().join("packed"), &recipe, LIMIT);
        let folder = dir.path().join("packed");
        let (set, single) = (open(&index), open(&whole));
        let files: Vec<_> = set.packed_files().collect();
        check_files(&set);
        for (of_set, of_file) in set.tensors().zip(single.tensors()) {
            assert_eq!(
                (of_set.name(), of_set.hash(), of_set.bytes()),
                (of_file.name(), of_file.hash(), of_file.bytes())
            );
            assert_eq!(of_set.decode_bytes().unwrap(), of_file.decode_bytes().unwrap());
        }
        // Any file of the set, its folder, and the name in whose place it is.
        let others = [files[0].path.clone(), files[files.len() - 1].path.clone(), folder.clone()];
        for path in others.into_iter().chain([folder.join("model.nw.safetensors")]) {
            let found = open(&path);
            assert_eq!((found.path(), found.file_bytes()), (index.as_path(), set.file_bytes()));
            assert!(found.verify(&NoProgress).is_empty());
            assert!(checkpoint::Model::open(&path, &[], &registry()).is_ok());
        }
        assert!(set.verify_against(&stories(), &registry(), &NoProgress).unwrap().is_empty());
        assert!(set.verify_companions(&stories()).unwrap().is_empty());
        let [back, from_file] = ["back", "from-file"].map(|name| dir.path().join(name));
        set.unpack(&back, &NoProgress).unwrap();
        single.unpack(&from_file, &NoProgress).unwrap();
        let dense = fs::read(back.join("model.safetensors")).unwrap();
        assert!(dense == fs::read(from_file.join("model.safetensors")).unwrap());
        if set.tensors().all(|tensor| tensor.certificate().exact) {
            assert!(dense == fs::read(stories().join("model.safetensors")).unwrap());
        }
        assert_says(&set.unpack_single(&files[1].path, &NoProgress).unwrap_err(), &["the packed file itself"]);
    }
}

/// Other programs read the set as they read any sharded model.
#[test]
fn the_index_lists_every_section_of_a_single_file() {
    let dir = Dir::new();
    let whole = Checkpoint::open(pack(&stories(), &dir.path().join("w.nw.safetensors"), &Recipe::default())).unwrap();
    let (index, files) = lossless_set(&dir);
    let set = Checkpoint::open(&index).unwrap();
    assert!(set.is_packed() && Checkpoint::open(&files[1]).unwrap().is_packed());
    assert_eq!(set.files(), files);
    let sections: Vec<&str> = whole.names().filter(|name| *name != "__netweight__/manifest").collect();
    assert_eq!(set.names().collect::<Vec<_>>(), sections, "the order is the same");
    for name in sections {
        assert_eq!(set.bytes(name).unwrap(), whole.bytes(name).unwrap(), "{name}");
    }
    let json: serde_json::Value = serde_json::from_str(&fs::read_to_string(&index).unwrap()).unwrap();
    let bytes: usize = set.names().map(|name| set.bytes(name).unwrap().1.len()).sum();
    assert_eq!(json["metadata"]["total_size"], bytes);
    let error = Plan::new(&files[1], dir.path().join("p"), &Recipe::default(), 0, &registry()).unwrap_err();
    assert_says(&error, &["packed already"]);
}

#[test]
fn a_limit_that_is_not_reached_changes_nothing() {
    let dir = Dir::new();
    let [with, without] = ["with", "without"].map(|name| dir.path().join(format!("{name}/m.nw.safetensors")));
    let without = pack(&stories(), &without, &Recipe::default());
    assert_eq!(pack_set(&stories(), &with, &Recipe::default(), 5_000_000_000), with);
    assert!(fs::read(&with).unwrap() == fs::read(without).unwrap());
    assert_eq!(names(with.parent().unwrap()), ["m.nw.safetensors"]);
}

#[test]
fn limits_that_are_too_small_are_refused() {
    let dir = Dir::new();
    for limit in [0, 1, 999] {
        let plan = Plan::new(stories(), dir.path().join("p"), &Recipe::default(), 0, &registry()).unwrap();
        let error = plan.with_max_shard_size(limit).unwrap_err();
        assert_says(&error, &[&format!("at most {limit} bytes are too small"), "at least 1000"]);
    }
    // The manifest and some sections need more than this, each in a file of its own.
    let index = pack_set(&stories(), &dir.path().join("m.nw.safetensors"), &Recipe::default(), 10_000);
    let found = open(&index);
    let sections = |file: &PathBuf| read_safetensors_header(&fs::read(file).unwrap()).unwrap().0.tensors().len();
    let large: Vec<_> =
        found.packed_files().filter(|file| file.bytes > 10_000).map(|file| sections(&file.path)).collect();
    assert!(large.len() > 5 && large.iter().all(|sections| *sections == 1), "{large:?}");
    assert!(found.verify(&NoProgress).is_empty());
}

#[test]
fn missing_and_shortened_shards_are_named_together() {
    let dir = Dir::new();
    let (index, files) = lossless_set(&dir);
    let bytes: Vec<_> = files.iter().map(|file| fs::read(file).unwrap()).collect();
    let (last, count) = (files.len() - 1, files.len());
    let name = |i: usize| name_of(&files[i]).to_owned();
    fs::remove_file(&files[1]).unwrap();
    for length in [bytes[last].len() - 1, 100, 0] {
        fs::write(&files[last], &bytes[last][..length]).unwrap();
        let error = refused(&index);
        assert!(matches!(error, Error::Incomplete { count: 2, .. }), "{error:?}");
        let cut = format!("{} ends after {length} of {} bytes", name(last), bytes[last].len());
        let all = [format!("2 of the {count} shards"), format!("{} is missing, {cut}", name(1))];
        assert_says(&error, &["m.nw.safetensors.index.json", &all[0], &all[1], "fetch them again"]);
    }
    // Without the manifest: the files that their names tell.
    fs::write(&files[last], &bytes[last]).unwrap();
    fs::remove_file(&files[0]).unwrap();
    for path in [&index, &files[last]] {
        let error = refused(path);
        assert!(matches!(error, Error::Incomplete { count: 2, .. }), "{error:?}");
        assert_says(&error, &[&format!("{} is missing, {} is missing", name(0), name(1))]);
    }
    for file in files.iter().filter(|file| file.exists()) {
        fs::remove_file(file).unwrap();
    }
    assert!(matches!(refused(&index), Error::MissingShards { .. }));
}

#[test]
fn shards_of_another_packing_and_swapped_ones_are_refused() {
    let dir = Dir::new();
    let (index, files) = lossless_set(&dir);
    let bytes: Vec<_> = files.iter().map(|file| fs::read(file).unwrap()).collect();
    let count = files.len();
    // The same sections, made with another seed.
    let plan = Plan::new(stories(), dir.path().join("o.nw.safetensors"), &Recipe::default(), 1, &registry()).unwrap();
    let plan = plan.with_max_shard_size(LIMIT).unwrap();
    plan.run(&registry(), &NoProgress).unwrap();
    plan.commit(&registry(), None).unwrap();
    let other = shards(&open(&plan.written()));
    fs::copy(&other[1], &files[1]).unwrap();
    assert_says(&refused(&index), &["m-00002-of-", "a shard of another packing", "blake3"]);

    fs::write(&files[1], &bytes[2]).unwrap();
    fs::write(&files[2], &bytes[1]).unwrap();
    let swapped = format!("it is shard 3 of {count}, and has the name of shard 2 of {count}: shards were swapped");
    for path in [&index, &files[0], &files[1]] {
        assert_says(&refused(path), &["m-00002-of-", &swapped]);
    }
    fs::write(&files[0], &bytes[1]).unwrap();
    assert_says(&refused(&index), &["m-00001-of-", "it is shard 2 of", "the name of shard 1"]);

    for (file, bytes) in files.iter().zip(&bytes) {
        fs::write(file, bytes).unwrap();
    }
    fs::write(&files[1], model(&[("a", "F32", &[1], floats(&[1.0]))])).unwrap();
    assert_says(&refused(&index), &["m-00002-of-", "it is not shard 2 of"]);
    fs::write(&files[1], [&*bytes[1], &[0]].concat()).unwrap();
    assert_says(&refused(&index), &["m-00002-of-"]);
    // A model of its own with the name of the first shard.
    fs::write(&files[1], &bytes[1]).unwrap();
    fs::copy(pack(&stories(), &dir.path().join("single.nw.safetensors"), &Recipe::default()), &files[0]).unwrap();
    assert_says(&refused(&index), &["m-00001-of-", "an index lists it as a shard, and it is a model of its own"]);
    let is_shard = format!("it is a model of its own, and `{}` is a shard", name_of(&files[1]));
    assert_says(&refused(&files[1]), &["m-00001-of-", &is_shard]);
    // A shard that was renamed alone does not find the others.
    let renamed = dir.write("x.nw.safetensors", &bytes[0]);
    assert_says(&refused(&renamed), &["x.nw.safetensors", "its name must be like `NAME-00001-of-"]);
}

#[test]
fn a_changed_byte_in_any_shard_is_found_and_named() {
    let dir = Dir::new();
    let (index, files) = lossless_set(&dir);
    let mut tensors = BTreeSet::new();
    for file in &files {
        let whole = fs::read(file).unwrap();
        let (header, start) = read_safetensors_header(&whole).unwrap();
        for (name, info) in header.tensors().into_iter().filter(|(_, info)| info.data_offsets.0 < info.data_offsets.1) {
            let mut changed = whole.clone();
            changed[start + info.data_offsets.0] ^= 1;
            fs::write(file, changed).unwrap();
            let faults = open(&index).verify(&NoProgress);
            assert_eq!(faults.len(), 1, "{name}: {faults:?}");
            let tensor = name.split('/').next().unwrap();
            let named = if tensor.starts_with("__") { String::new() } else { format!("tensor `{tensor}`") };
            assert_says(&faults[0], &[name_of(file), &format!("`{name}`"), &named]);
            tensors.insert(tensor.to_owned());
        }
        fs::write(file, whole).unwrap();
    }
    assert_eq!(tensors.len(), 48, "47 tensors and the header");
    assert!(open(&index).verify(&NoProgress).is_empty());
    let text = fs::read_to_string(&index).unwrap();
    fs::write(&index, text.replacen("m-00002-of", "m-00003-of", 1)).unwrap();
    let faults = open(&index).verify(&NoProgress);
    assert_eq!(faults.len(), 1);
    assert_says(&faults[0], &["index.json", "does not place section `"]);
}

#[test]
fn a_changed_byte_in_the_header_of_any_shard_is_found() {
    let dir = Dir::new();
    let (source, recipe) = progressive(&dir);
    let index = pack_set(&source, &dir.path().join("m.nw.safetensors"), &recipe, 14_000);
    for file in shards(&open(&index)) {
        let whole = fs::read(&file).unwrap();
        let (_, start) = read_safetensors_header(&whole).unwrap();
        let text = str::from_utf8(&whole[8..start]).unwrap().trim_end().len();
        for at in (0..8 + text).step_by(5) {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            fs::write(&file, bytes).unwrap();
            let found = Packed::open(&index, &registry());
            assert!(found.is_err() || !found.unwrap().verify(&NoProgress).is_empty(), "{}, byte {at}", file.display());
        }
        fs::write(&file, whole).unwrap();
    }
}

/// A model with three quality levels in one tensor.
fn progressive(dir: &Dir) -> (PathBuf, Recipe) {
    let tensors = [("a", "F32", &[128, 256][..], floats(&gaussian(128 * 256, 1))), ("ids", "I64", &[100], noise(800))];
    let mut recipe = Recipe::default();
    let int = |bits| format!("quant.int:bits={bits}:group=32");
    recipe.rules.push(Rule::of_names("a", &format!("residual({},residual({},{}))", int(2), int(3), int(4))));
    (dir.write("model.safetensors", model(&tensors)), recipe)
}

#[test]
fn the_first_shards_hold_the_levels_that_are_whole() {
    let dir = Dir::new();
    let (source, recipe) = progressive(&dir);
    let single = open(&pack(&source, &dir.path().join("s.nw.safetensors"), &recipe));
    let index = pack_set(&source, &dir.path().join("m.nw.safetensors"), &recipe, 14_000);
    let (whole, files) = (open(&index), shards(&open(&index)));
    let levels = whole.levels().to_vec();
    assert!(files.len() >= 3 && levels.len() == 3 && levels.iter().all(|level| level.whole), "{levels:?}");
    assert_eq!(levels[2].file_bytes, whole.file_bytes());
    let decoded = |packed: &Packed, level: usize| {
        packed.tensors().map(|tensor| tensor.at_level(level).unwrap().decode_bytes().unwrap()).collect::<Vec<_>>()
    };
    let values: Vec<_> = (0..3).map(|level| decoded(&single, level)).collect();
    for kept in (0..files.len()).rev() {
        fs::remove_file(&files[kept]).unwrap();
        let there: u64 = whole.packed_files().take(kept).map(|file| file.bytes).sum();
        let held = levels.iter().filter(|level| level.file_bytes <= there).count();
        if held == 0 {
            assert!(matches!(refused(&index), Error::Incomplete { .. } | Error::MissingShards { .. }));
            continue;
        }
        let found = open(&index);
        assert_eq!(found.levels().iter().filter(|level| level.whole).count(), held, "{kept} shards");
        for (level, values) in values.iter().enumerate().take(held) {
            assert_eq!(decoded(&found, level), *values, "{kept} shards, level {level}");
        }
        assert!(!found.verify(&NoProgress).is_empty(), "{kept} shards");
        let missing = format!("{} is missing", name_of(&files[kept]));
        let needs = format!("level {held} needs the first ");
        let error = found.tensor("a").unwrap().decode_bytes().unwrap_err();
        assert!(matches!(error, Error::Level { .. }), "{error}");
        assert_says(&error, &[&missing, &needs, "of the set", &format!("read level {}", held - 1)]);
        assert_says(&open(&index).at_level(held).unwrap_err(), &[&missing, &needs]);
    }
}

#[test]
fn an_older_packing_is_replaced_and_files_of_others_stay() {
    let dir = Dir::new();
    let (target, recipe) = (dir.path().join("m.nw.safetensors"), Recipe::default());
    // A shard of a dense model that was packed alone, and other files with similar names.
    let lonely = dir.write("a.safetensors", model(&[("a", "I64", &[100], noise(800))]));
    let others =
        ["m-00001-of-00002.nw.safetensors", "m-00009-of-00009.nw.safetensors", "m2-00001-of-00003.nw.safetensors"];
    pack(&lonely, &dir.path().join(others[0]), &recipe);
    dir.write(others[1], "not ours");
    dir.write(others[2], "not ours");
    let strange: Vec<_> = names(dir.path());
    let holds = |packed: &[PathBuf]| {
        let mut expected = strange.clone();
        expected.extend(packed.iter().map(|path| name_of(path).to_owned()));
        expected.sort();
        assert_eq!(names(dir.path()), expected);
    };
    let of_set = |limit: u64| {
        let packed = open(&pack_set(&stories(), &target, &recipe, limit));
        holds(&packed.paths());
        packed.packed_files().count()
    };
    holds(&[pack(&stories(), &target, &recipe)]);
    let many = of_set(LIMIT);
    let few = of_set(3 * LIMIT);
    assert!(few < many && few > 1);
    assert_eq!(of_set(3 * LIMIT), few);
    holds(&[pack(&stories(), &target, &recipe)]);
    // The limit is part of what a commit makes.
    let plan = Plan::new(stories(), &target, &recipe, 0, &registry()).unwrap();
    assert!(plan.is_committed(&registry()));
    assert!(!plan.with_max_shard_size(LIMIT).unwrap().is_committed(&registry()));
}

#[test]
fn files_of_source_and_base_are_never_replaced() {
    let dir = Dir::new();
    let (index, files) = lossless_set(&dir);
    let target = dir.path().join("m.nw.safetensors");
    for base in [&index, &files[0]] {
        let bases = [base.clone()];
        let error = Plan::relative(stories(), &target, &bases, &Recipe::default(), 0, &registry()).unwrap_err();
        assert_says(&error, &["m.nw.safetensors", "a file of the base; give another target"]);
    }
    let patch = dir.path().join("patch.nw.safetensors");
    let plan = Plan::relative(stories(), &patch, &[index], &Recipe::default(), 0, &registry()).unwrap();
    plan.run(&registry(), &NoProgress).unwrap();
    plan.commit(&registry(), Some(&NoProgress)).unwrap();
    let found = open(&patch).with_bases::<&Path>(&[], &registry()).unwrap();
    assert!(found.tensors().all(|tensor| tensor.equals_base()) && found.verify(&NoProgress).is_empty());
    let dense = model(&[("a", "F32", &[1], floats(&[1.0]))]);
    let source = dir.write("d/x-00001-of-00002.nw.safetensors", dense);
    let error = Plan::new(source, dir.path().join("d/x.nw.safetensors"), &Recipe::default(), 0, &registry());
    assert_says(&error.unwrap_err(), &["a file of the source"]);
}

#[test]
fn a_plan_keeps_the_limit() {
    let dir = Dir::new();
    let (file, target) = (dir.path().join("plan.json"), dir.path().join("m.nw.safetensors"));
    let plan = Plan::new(stories(), &target, &Recipe::default(), 0, &registry()).unwrap();
    plan.with_max_shard_size(LIMIT).unwrap().save(&file).unwrap();
    let plan = Plan::load(&file).unwrap();
    assert_eq!(plan.max_shard_size(), Some(LIMIT));
    let text = fs::read_to_string(&file).unwrap().replace("\"max_shard_size\":100000", "\"max_shard_size\":100");
    fs::write(&file, text).unwrap();
    assert_says(&Plan::load(&file).unwrap_err(), &["plan.json", "100 bytes are too small"]);
}
