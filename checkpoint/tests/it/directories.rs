//! Which files of a directory are the model.

use checkpoint::{Checkpoint, Error};

use crate::support::{Dir, assert_says, model, pair};

/// A directory with these indexes, of one shard each, and these files. Every file has one tensor,
/// with the name of the file.
fn directory(indexes: &[&str], files: &[&str]) -> Dir {
    let dir = Dir::new();
    for index in indexes {
        let shard = format!("shards/{index}");
        dir.write(&shard, model(&[pair(index, [0.0; 2])]));
        dir.write(index, format!(r#"{{"weight_map":{{"{index}":"{shard}"}}}}"#));
    }
    for file in files {
        dir.write(file, model(&[pair(file, [0.0; 2])]));
    }
    dir
}

/// Opens such a directory. Its only tensor must be that of `opened`, and its notes must contain
/// `notes`.
#[track_caller]
fn assert_opens(indexes: &[&str], files: &[&str], opened: &str, notes: &[&str]) {
    let dir = directory(indexes, files);
    let read = dir.open().unwrap();
    assert_eq!(read.names().collect::<Vec<_>>(), [opened]);
    assert_eq!(read.notes().len(), notes.len(), "{:?}", read.notes());
    for (note, part) in read.notes().iter().zip(notes) {
        assert!(note.contains(part), "`{part}` is not in: {note}");
    }
}

const MODEL: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";
const DIFFUSERS: &str = "diffusion_pytorch_model.safetensors";

#[test]
fn one_model_needs_no_usual_name() {
    assert_opens(&[], &["other.safetensors"], "other.safetensors", &[]);
    assert_opens(&[], &["other.safetensors", checkpoint::CALIBRATION], "other.safetensors", &[]);
    let variants = ["model.safetensors.index.fp16.json", "diffusion_pytorch_model.fp16.safetensors.index.json"];
    for index in [INDEX, "diffusion_pytorch_model.safetensors.index.json", "x.safetensors.index.json"] {
        assert_opens(&[index], &[], index, &[]);
    }
    for index in variants {
        assert_opens(&[index], &[], index, &[]);
    }
    // Neither of these is an index.
    let dir = directory(&[], &[MODEL]);
    dir.write("x.safetensors.index.bfjson", "");
    dir.write("safetensors.index.json", "");
    assert!(dir.open().unwrap().notes().is_empty());
}

#[test]
fn usual_names_go_before_others_which_are_noted() {
    let not = "not opened: other.safetensors in the same directory; open one by its own path";
    for usual in [MODEL, DIFFUSERS] {
        assert_opens(&[], &["other.safetensors", usual], usual, &[not]);
    }
    assert_opens(&[], &[DIFFUSERS, MODEL], MODEL, &[&format!("not opened: {DIFFUSERS} in")]);
    assert_opens(&[INDEX], &["other.safetensors"], INDEX, &[not]);
    // Diffusers: a model and its variant.
    let variant = "diffusion_pytorch_model.fp16.safetensors";
    assert_opens(&[], &[variant, DIFFUSERS], DIFFUSERS, &[&format!("not opened: {variant} in")]);
    // Mistral: the same model with other names of tensors.
    let other = "consolidated.safetensors.index.json";
    assert_opens(&[other, INDEX], &[], INDEX, &[&format!("not opened: {other} in the same directory")]);
    assert_opens(&["x.safetensors.index.json"], &["y.safetensors"], "x.safetensors.index.json", &["y.safetensors"]);
    let many = ["a.safetensors", "b.safetensors", "c.safetensors", "d.safetensors", "e.safetensors", MODEL];
    assert_opens(&[], &many, MODEL, &["a.safetensors, b.safetensors, c.safetensors, d.safetensors, … in"]);
}

#[test]
fn a_whole_model_goes_before_its_index() {
    let cases = [
        (MODEL, INDEX),
        (DIFFUSERS, "diffusion_pytorch_model.safetensors.index.json"),
        ("x.fp16.safetensors", "x.safetensors.index.fp16.json"),
    ];
    for (whole, index) in cases {
        let why = format!("opened {whole}, not the shards of {index}: a whole model goes before an index");
        assert_opens(&[index], &[whole], whole, &[&why]);
        let by_path = Checkpoint::open(directory(&[index], &[whole]).path().join(index)).unwrap();
        assert_eq!(by_path.names().collect::<Vec<_>>(), [index]);
    }
    // An index that cannot be used makes no difference.
    let dir = directory(&[], &[MODEL]);
    dir.write(INDEX, "Entry not found");
    assert_eq!(dir.open().unwrap().notes().len(), 1);
}

/// Such an index is not older than the file: it adds tensors to it, or replaces some.
#[test]
fn an_index_that_uses_the_whole_model_decides() {
    let dir = Dir::new();
    dir.write(MODEL, model(&[pair("a", [1.0, 2.0]), pair("b", [0.0; 2])]));
    dir.write("overlay.safetensors", model(&[pair("b", [3.0, 4.0])]));
    dir.write_index(&[("a", MODEL), ("b", "overlay.safetensors")]);
    let read = dir.open().unwrap();
    assert_eq!(*read.tensor("b").unwrap().to_f32().unwrap(), [3.0, 4.0]);
    assert_eq!(read.files().len(), 2);
}

#[test]
fn several_models_of_unusual_names() {
    let dir = directory(&["b.safetensors.index.json", "a.safetensors.index.json"], &["c.safetensors"]);
    let error = dir.open().unwrap_err();
    assert!(matches!(error, Error::Ambiguous { count: 2, .. }), "{error:?}");
    assert_says(
        &error,
        &["2 indexes (a.safetensors.index.json, b.safetensors.index.json)", "open one by its own path"],
    );
    assert!(!error.to_string().contains("add the index"), "{error}");

    let dir = directory(&[], &["c.safetensors", "a.safetensors", "b.safetensors"]);
    let error = dir.open().unwrap_err();
    assert!(matches!(error, Error::Ambiguous { count: 3, .. }), "{error:?}");
    let parts =
        ["3 .safetensors files (a.safetensors, b.safetensors, c.safetensors)", MODEL, "own path, or add the index"];
    assert_says(&error, &parts);
    for i in 0..9 {
        dir.write(&format!("n{i}.safetensors"), model(&[]));
    }
    assert_says(&dir.open().unwrap_err(), &["holds 12", "c.safetensors, n0.safetensors, …)"]);
}

#[test]
fn a_directory_without_model() {
    let dir = Dir::new();
    dir.write("config.json", "{}");
    dir.write("pytorch_model.bin", "PK\x03\x04");
    dir.write("directory.safetensors/file", "");
    let error = dir.open().unwrap_err();
    assert!(matches!(error, Error::NoModel { .. }));
    let name = dir.path().display().to_string();
    assert_says(&error, &[&name, "neither a .safetensors file nor the index", "convert them to safetensors"]);
}

#[test]
fn models_in_directories_below_are_named() {
    let dir = Dir::new();
    for name in ["unet", "vae"] {
        dir.write(&format!("{name}/{DIFFUSERS}"), model(&[]));
    }
    dir.write("tokenizer/vocab.json", "{}");
    dir.write("models--o--n/snapshots/c/config.json", "{}");
    let error = dir.open().unwrap_err();
    assert_says(&error, &["holds no model", "below it: models--o--n, unet, vae; give one of them"]);
    for name in ["w", "x"] {
        dir.write(&format!("{name}/{MODEL}"), model(&[]));
    }
    assert_says(&dir.open().unwrap_err(), &["models--o--n, unet, vae, w, …; give"]);
}

#[cfg(unix)]
#[test]
fn links_to_nothing_and_to_devices_are_named() {
    use std::os::unix::fs::symlink;
    let dir = Dir::new();
    let blob = "../../blobs/0123";
    symlink(blob, dir.path().join(MODEL)).unwrap();
    for error in [dir.open().unwrap_err(), Checkpoint::open(dir.path().join(MODEL)).unwrap_err()] {
        assert!(matches!(error, Error::DanglingLink { .. }), "{error:?}");
        assert_says(&error, &[MODEL, &format!("a link to `{blob}`, which does not exist"), "download the file again"]);
    }
    let dir = directory(&[INDEX], &[]);
    symlink(blob, dir.path().join("linked")).unwrap();
    dir.write_index(&[("a", "linked"), ("b", "absent")]);
    assert_says(&dir.open().unwrap_err(), &["2 of the 2", &format!("absent, linked (a link to the missing {blob});")]);
    std::fs::remove_file(dir.path().join(INDEX)).unwrap();
    symlink(blob, dir.path().join(INDEX)).unwrap();
    assert_says(&dir.open().unwrap_err(), &[INDEX, &format!("a link to `{blob}`")]);
    // Reading a device might not end.
    std::fs::remove_file(dir.path().join(INDEX)).unwrap();
    symlink("/dev/null", dir.path().join(INDEX)).unwrap();
    let error = dir.open().unwrap_err();
    assert!(matches!(error, Error::NotAFile { .. }), "{error:?}");
}
