//! `compress`, `decompress`, `verify` and `info` of packed models, end to end.

use std::fs;
use std::path::{Path, PathBuf};

use checkpoint::Recipe;
use codec_api::Registry;
use codecs as _;
use tempfile::TempDir;

use crate::program::run;

pub(crate) const STORIES: &str = "../assets/stories260k";

pub(crate) fn said(args: &[&str], code: i32) -> String {
    let (found, out, err) = run(args);
    assert_eq!(found, Some(code), "{args:?}: {out}{err}");
    out + &err
}

#[track_caller]
pub(crate) fn assert_says(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "no `{part}` in\n{text}");
    }
}

/// Paths below a temporary directory, as text.
pub(crate) struct Place(TempDir);

impl Place {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }
}

pub(crate) fn files(directory: &Path) -> Vec<(String, Vec<u8>)> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap());
    let mut files: Vec<_> =
        entries.map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap())).collect();
    files.sort();
    files
}

#[test]
fn a_model_directory_comes_back_without_loss() {
    let place = Place::new();
    let (packed, back) = (place.text("packed"), place.text("back"));
    let out = said(&["compress", STORIES, "-o", &packed, "-j", "2"], 0);
    assert_says(
        &out,
        &["47 tensors, 260032 weights: 1.04 MB in ", "every bit is restored", "`netweight verify ", "decompress"],
    );
    assert!(place.path("packed/model.nw.safetensors").exists() && place.path("packed/config.json").exists());
    assert!(!place.path("packed/model.nw.safetensors.parts").exists());
    assert!(fs::metadata(place.path("packed/model.nw.safetensors")).unwrap().len() < 1_044_992);
    assert_says(&said(&["verify", &packed], 0), &["47 tensors", "every checksum and hash is right"]);
    assert_says(&said(&["decompress", &packed, "-o", &back], 0), &["47 tensors, all bit for bit"]);
    assert_eq!(files(&place.path("back")), files(Path::new(STORIES)));
}

#[test]
fn a_lossy_model_states_its_error() {
    let place = Place::new();
    let (packed, dense) = (place.text("m.nw.safetensors"), place.text("dense.safetensors"));
    let args = ["compress", STORIES, "-o", &packed, "--recipe", "int8", "--rule", "embed=lossless.raw"];
    let out = said(&args, 0);
    assert_says(
        &out,
        &["quant.int:bits=8:group=row", "lossless.raw: 1 tensor, 131.07 kB", "lossless:", "largest error: "],
    );
    let info = said(&["info", &packed], 0);
    assert_says(
        &info,
        &["model.norm.weight", "exact", "47 tensors, 260032 weights", "recipe: {", "packed by netweight"],
    );
    let json: serde_json::Value = serde_json::from_str(&said(&["info", &packed, "--json"], 0)).unwrap();
    assert_eq!(json["kind"], "packed model");
    assert_eq!(json["tensors"][0]["codec"], "lossless.raw");
    assert_eq!(json["tensors"][0]["bits_per_weight"], 32.000_976_562_5);
    let error = json["tensors"][2]["relative_error"].as_f64().unwrap();
    assert!(error > 0.0 && error < 0.02, "{error}");
    assert_says(&said(&["decompress", &packed, "-o", &dense], 0), &["35 with a loss"]);
    assert_says(&said(&["info", &dense], 0), &["47 tensors, 260032 weights, 1.04 MB"]);
    // The certificate is that of the dense model.
    let model = checkpoint::Checkpoint::open(STORIES).unwrap();
    let lossy = checkpoint::Checkpoint::open(&dense).unwrap();
    let name = json["tensors"][2]["name"].as_str().unwrap();
    let (source, decoded) = (model.tensor(name).unwrap(), lossy.tensor(name).unwrap());
    let (source, decoded) = (source.to_f32().unwrap(), decoded.to_f32().unwrap());
    let worst = source.iter().zip(&*decoded).map(|(x, y)| (f64::from(*x) - f64::from(*y)).abs()).fold(0.0, f64::max);
    assert_eq!(json["tensors"][2]["certificate"]["max_abs"], worst);
}

#[test]
fn existing_targets_are_kept_unless_forced() {
    let place = Place::new();
    let (packed, back) = (place.text("packed"), place.text("back"));
    said(&["compress", STORIES, "-o", &packed], 0);
    assert_says(&said(&["compress", STORIES, "-o", &packed], 2), &["is not empty", "--force"]);
    said(&["compress", STORIES, "-o", &packed, "--force"], 0);
    let file = place.text("packed/model.nw.safetensors");
    assert_says(&said(&["compress", STORIES, "-o", &file], 2), &["model.nw.safetensors` exists", "--force"]);
    said(&["decompress", &packed, "-o", &back], 0);
    assert_says(&said(&["decompress", &packed, "-o", &back], 2), &["is not empty"]);
    said(&["decompress", &packed, "-o", &back, "--force"], 0);
    assert_eq!(files(&place.path("back")), files(Path::new(STORIES)));
    assert_says(&said(&["decompress", &packed, "-o", &place.text("packed/sub")], 2), &["inside each other"]);
}

#[test]
fn damage_is_named_with_exit_code_1() {
    let place = Place::new();
    let packed = place.text("m.nw.safetensors");
    said(&["compress", STORIES, "-o", &packed], 0);
    let mut bytes = fs::read(&packed).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 4;
    fs::write(&packed, bytes).unwrap();
    assert_says(&said(&["verify", &packed], 1), &["tensor `model.", "section `", "CRC-32C", "1 fault"]);
    let dense = place.text("dense.safetensors");
    assert_says(&said(&["decompress", &packed, "-o", &dense], 2), &["error: ", "tensor `model."]);
    assert!(!place.path("dense.safetensors").exists());
}

#[test]
fn every_built_in_recipe_is_of_linked_codecs() {
    let registry = Registry::linked().unwrap();
    for name in Recipe::names() {
        let recipe = Recipe::built_in(name).unwrap();
        for spec in recipe.rules.iter().map(|rule| &rule.codec).chain([&recipe.default]) {
            registry.parse_spec(spec).unwrap_or_else(|e| panic!("recipe {name}: {e}"));
        }
        assert_says(&said(&["compress", STORIES, "--recipe", name, "--dry-run"], 0), &["nothing was written"]);
    }
}
