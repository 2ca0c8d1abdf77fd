//! Packing relative to a base, and patches, end to end.

use std::fs;
use std::process::Stdio;
use std::thread;
use std::time::Duration;

use crate::packing::{Place, STORIES, assert_says, files, said};
use crate::program::netweight;

/// A directory with the small model, and one with a fine-tune of it: every tenth weight of each
/// tensor has moved by a unit in the last place, the norms have not.
fn models(place: &Place) -> (String, String) {
    for folder in ["old", "new"] {
        fs::create_dir(place.path(folder)).unwrap();
        for (name, bytes) in files(STORIES.as_ref()) {
            fs::write(place.path(folder).join(name), bytes).unwrap();
        }
    }
    let path = place.path("new/model.safetensors");
    let mut bytes = fs::read(&path).unwrap();
    let model = checkpoint::Checkpoint::open(STORIES).unwrap();
    let start = bytes.len() - 4 * 260_032;
    let mut at = start;
    for name in model.names() {
        let len = model.tensor(name).unwrap().bytes().len();
        if !name.contains("norm") {
            for weight in bytes[at..at + len].chunks_exact_mut(4).step_by(10) {
                weight[0] = weight[0].wrapping_add(1);
            }
        }
        at += len;
    }
    fs::write(path, bytes).unwrap();
    (place.text("old"), place.text("new"))
}

#[test]
fn a_fine_tune_comes_back_from_its_base() {
    let place = Place::new();
    let (old, new) = models(&place);
    let (packed, back) = (place.text("packed"), place.text("back"));
    let out = said(&["compress", &new, "-o", &packed, "--base", &old, "-j", "2"], 0);
    let relative = format!("47 tensors relative to the base `old`: `{old}`");
    assert_says(&out, &["delta.exact: 36 tensors", "equal to those of the base: 11 tensors", &relative, "--base "]);
    let size = |path: &str| fs::metadata(place.path(path)).unwrap().len();
    assert!(size("packed/model.nw.safetensors") * 4 < size("new/model.safetensors"));

    assert_says(&said(&["verify", &packed], 0), &["47 tensors", "every checksum and hash is right"]);
    said(&["verify", &packed, "--base", &old], 0);
    said(&["decompress", &packed, "-o", &back], 0);
    assert_eq!(files(&place.path("back")), files(&place.path("new")));
    let json: serde_json::Value = serde_json::from_str(&said(&["info", &packed, "--json"], 0)).unwrap();
    assert_eq!(json["base"]["name"], "old");
    let norm = json["tensors"].as_array().unwrap().iter().find(|tensor| tensor["name"] == "model.norm.weight").unwrap();
    assert_eq!((norm["equals_base"].as_bool(), norm["base"].as_str()), (Some(true), Some("model.norm.weight")));

    fs::rename(place.path("old"), place.path("moved")).unwrap();
    let missing = said(&["info", &packed], 0);
    assert_says(&missing, &["= model.norm.weight of the base", "not found", "give it with --base"]);
    for command in [vec!["verify", &*packed], vec!["decompress", &*packed, "-o", &place.text("out")]] {
        assert_says(&said(&command, 2), &["relative to `old`", "blake3 ", "none was given", "--base"]);
    }
    let moved = place.text("moved");
    assert_says(&said(&["diff", &packed, &moved], 2), &["relative to `old`", "--base"]);
    assert_says(&said(&["diff", &packed, &moved, "--base", &moved], 1), &["changed", "identical"]);
    said(&["verify", &packed, "--base", &moved], 0);
    assert_says(&said(&["info", &packed, "--base", &moved], 0), &["relative to the base `old`: `"]);
    assert_says(&said(&["info", &moved, "--base", &moved], 2), &["not a packed model"]);
    let wrong = place.text("wrong.safetensors");
    let mut bytes = fs::read(place.path("moved/model.safetensors")).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(&wrong, bytes).unwrap();
    assert_says(&said(&["verify", &packed, "--base", &wrong], 1), &["wrong.safetensors", "blake3 ", "1 fault"]);
    assert_says(&said(&["info", &packed, "--base", &wrong], 2), &["wrong.safetensors", "blake3 "]);
    assert!(!place.path("out").exists());
}

#[test]
fn a_patch_is_applied() {
    let place = Place::new();
    let (old, new) = models(&place);
    let (patch, out) = (place.text("patch.nw.safetensors"), place.text("out"));
    said(&["compress", &new, "-o", &patch, "--base", &old], 0);
    assert_says(&said(&["apply", &old, &patch, "-o", &out], 0), &["47 tensors, all bit for bit"]);
    assert_eq!(files(&place.path("out")), files(&place.path("new")), "the other files are those of the base");
    assert_says(&said(&["apply", &old, &patch, "-o", &out], 2), &["is not empty", "--force"]);
    let file = place.text("new.safetensors");
    said(&["apply", &old, &patch, "-o", &file], 0);
    assert_eq!(fs::read(&file).unwrap(), fs::read(place.path("new/model.safetensors")).unwrap());
    assert_says(&said(&["apply", &new, &patch, "-o", &place.text("x")], 2), &["new", "blake3 ", "--base"]);
    assert_says(&said(&["apply", &old, &patch], 2), &["--output"]);
    assert_says(&said(&["apply", &old, &old, "-o", &place.text("y")], 2), &["no file in it is named"]);

    said(&["apply", &old, &patch, "--in-place"], 0);
    assert_eq!(files(&place.path("old")), files(&place.path("new")));
}

#[test]
fn a_killed_apply_leaves_the_old_model_or_the_new_one() {
    let place = Place::new();
    let (old, new) = models(&place);
    let patch = place.text("patch.nw.safetensors");
    said(&["compress", &new, "-o", &patch, "--base", &old], 0);
    let target = place.path("old/model.safetensors");
    let (before, after) = (fs::read(&target).unwrap(), fs::read(place.path("new/model.safetensors")).unwrap());
    let args = ["apply", &old, &patch, "--in-place"];
    for moment in [0, 1, 2, 4, 6, 8, 10, 14, 20, 40] {
        let mut child = netweight(&args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        thread::sleep(Duration::from_millis(moment));
        child.kill().unwrap();
        child.wait().unwrap();
        let found = fs::read(&target).unwrap();
        assert!(found == before || found == after, "killed after {moment} ms");
        fs::write(&target, &before).unwrap();
    }
    said(&args, 0);
    assert_eq!(fs::read(&target).unwrap(), after);
}
