//! `compress`, `decompress`, `verify` and `info` of packed models, end to end.

use std::fs;
use std::path::{Path, PathBuf};

use checkpoint::Recipe;
use codec_api::Registry;
use codecs as _;
use tempfile::TempDir;

use crate::disturbed::write_large_model;
use crate::program::{netweight, run};

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
    }
}

/// The number of bytes in a text such as `264.12 kB`.
fn bytes(text: &str) -> f64 {
    let (number, unit) = text.split_once(' ').unwrap();
    let factor = [("B", 1.0), ("kB", 1e3), ("MB", 1e6)].into_iter().find(|(name, _)| *name == unit).unwrap().1;
    number.parse::<f64>().unwrap() * factor
}

#[test]
fn dry_runs_estimate_the_size_of_every_recipe_without_calibration() {
    for name in Recipe::names().filter(|name| Recipe::built_in(name).unwrap().method.is_none()) {
        let place = Place::new();
        let packed = place.text("m.nw.safetensors");
        let out = said(&["compress", STORIES, "--recipe", name, "--dry-run"], 0);
        assert_says(&out, &["nothing was written", " s and ", " of memory, with "]);
        let total = out.lines().find_map(|line| line.strip_prefix("all: ")).unwrap();
        let estimate = bytes(total.split(" to ").nth(1).unwrap().split(',').next().unwrap());
        said(&["compress", STORIES, "-o", &packed, "--recipe", name, "-q", "--no-verify"], 0);
        let written = fs::metadata(packed).unwrap().len() as f64;
        assert!((estimate / written - 1.0).abs() < 0.05, "{name}: {estimate} estimated, {written} written");
    }
}

#[test]
fn three_processes_give_the_bytes_of_one() {
    let place = Place::new();
    let (once, parts, plan) = (place.text("once"), place.text("parts"), place.text("plan.json"));
    let (model, options) = (place.text("model.safetensors"), ["--recipe", "int8", "--seed", "3"]);
    write_large_model(Path::new(&model));
    said(&[&["compress", &model, "-o", &once], &options[..]].concat(), 0);
    said(&[&["plan", &model, "-o", &parts, "--plan", &plan], &options[..]].concat(), 0);
    let run = |shard: &str| netweight(&["run", &plan, "--shard", shard, "-j", "1"]).spawn().unwrap();
    for mut child in ["1/3", "2/3", "3/3"].map(run) {
        assert!(child.wait().unwrap().success());
    }
    assert_says(&said(&["run", &plan], 0), &["0 units encoded, 6 units had run before", "all units have run"]);
    assert_says(&said(&["commit", &plan], 0), &["6 tensors, 6291456 weights", "largest error", "checked"]);
    assert_eq!(files(&place.path("parts")), files(&place.path("once")));
    assert_says(&said(&["commit", &plan], 0), &["a commit has ended before"]);
    // A changed source, and another program.
    let (parts, other) = (place.text("other"), place.text("other.json"));
    said(&["plan", &model, "-o", &parts, "--plan", &other], 0);
    fs::write(&model, [fs::read(&model).unwrap(), vec![0]].concat()).unwrap();
    assert_says(
        &said(&["run", &other], 2),
        &["model.safetensors` is not the file that the plan was made for: its length"],
    );
    let text = fs::read_to_string(&other).unwrap().replace("\"netweight 0", "\"netweight 9");
    fs::write(&other, text).unwrap();
    assert_says(&said(&["run", &other], 2), &["other.json", "`netweight 9.1.0` made it", "plan again"]);
}

#[test]
fn sets_of_files_work_with_every_command() {
    let place = Place::new();
    let [once, out, plan, back] = ["once", "out", "plan.json", "back"].map(|name| place.text(name));
    let options = ["--max-shard-size", "100kB"];
    let said_by = said(&[&["compress", STORIES, "-o", &once], &options[..]].concat(), 0);
    assert_says(&said_by, &["every bit is restored", "files of at most 100.00 kB"]);
    said(&[&["plan", STORIES, "-o", &out, "--plan", &plan], &options[..]].concat(), 0);
    for shard in ["1/3", "2/3", "3/3"] {
        said(&["run", &plan, "--shard", shard], 0);
    }
    said(&["commit", &plan], 0);
    assert_eq!(files(&place.path("out")), files(&place.path("once")));
    assert_says(&said(&["commit", &plan], 0), &["model.nw.safetensors.index.json` is there, as this plan makes it"]);
    said(&["verify", &out, "--against", STORIES], 0);
    assert_says(&said(&["diff", STORIES, &out], 0), &["47 tensors: 47 identical"]);
    said(&["decompress", &out, "-o", &back], 0);
    assert_eq!(files(&place.path("back")), files(Path::new(STORIES)));
    // A patch of several files, and a base of several files.
    let [patch, again] = [place.text("patch.nw.safetensors"), place.text("again")];
    said(&["compress", STORIES, "-o", &patch, "--base", &out, "--max-shard-size", "10kB"], 0);
    said(&["apply", &out, &patch, "-o", &again], 0);
    assert_eq!(files(&place.path("again")), files(Path::new(STORIES)));

    let file = place.text("out/model.nw.safetensors");
    let again = [&["compress", STORIES, "-o", &file], &options[..]].concat();
    assert_says(&said(&again, 2), &["model.nw.safetensors.index.json` exists; --force"]);
    fs::remove_file(place.path("out/model.nw.safetensors.index.json")).unwrap();
    assert_says(&said(&again, 2), &["model-00001-of-", "exists; --force"]);
    said(&[&again[..], &["--force"]].concat(), 0);
    assert_eq!(files(&place.path("out")), files(&place.path("once")));
    said(&["compress", STORIES, "-o", &out, "--force"], 0);
    assert!(files(&place.path("out")).iter().all(|(name, _)| !name.contains("-of-") && !name.contains("index")));
    assert_says(&said(&["info", &out], 0), &["every bit is restored"]);
}

#[test]
fn every_command_has_a_manual_page() {
    let place = Place::new();
    said(&["man", "--dir", &place.text("man")], 0);
    let names: Vec<_> = files(&place.path("man")).into_iter().map(|(name, _)| name).collect();
    for name in ["netweight.1", "netweight-compress.1", "netweight-commit.1", "netweight-bench.1"] {
        assert!(names.iter().any(|found| found == name), "{names:?}");
    }
    let page = fs::read_to_string(place.path("man/netweight-compress.1")).unwrap();
    assert_says(&page, &["netweight\\-compress", "trellis\\-4bit", "dry\\-run"]);
}

#[test]
fn the_log_is_json_on_demand() {
    let place = Place::new();
    let args = ["--log-json", "compress", STORIES, "-o", &place.text("packed"), "-q"];
    let (code, out, err) = run(&args);
    assert_eq!((code, out.as_str()), (Some(0), ""), "{err}");
    let events: Vec<serde_json::Value> = err.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let messages: Vec<_> = events.iter().map(|event| event["fields"]["message"].as_str().unwrap()).collect();
    assert!(messages.contains(&"encoded") && messages.contains(&"committed"), "{messages:?}");
    let (code, _, err) = run(&["info", "absent", "--log-json"]);
    let event: serde_json::Value = serde_json::from_str(&err).unwrap();
    assert_eq!((code, event["level"].as_str()), (Some(2), Some("ERROR")));
    assert_says(event["fields"]["message"].as_str().unwrap(), &["`absent` does not exist"]);
}

#[test]
fn the_first_bytes_of_a_file_with_levels_are_a_coarse_model() {
    let place = Place::new();
    let (packed, cut, dense) =
        (place.text("m.nw.safetensors"), place.text("cut.nw.safetensors"), place.text("d.safetensors"));
    let codec = "residual(quant.int:bits=3:group=32,quant.int:bits=4:group=32)";
    said(&["compress", STORIES, "-o", &packed, "--codec", codec], 0);
    assert_says(&said(&["info", &packed], 0), &["first bytes", "47 tensors", "recipe: {"]);
    let json: serde_json::Value = serde_json::from_str(&said(&["info", &packed, "--json"], 0)).unwrap();
    let number = |level: usize, key: &str| json["levels"][level][key].as_f64().unwrap();
    let file = fs::read(&packed).unwrap();
    assert_eq!(number(1, "file_bytes") as usize, file.len());
    assert!(number(0, "relative_error") > 10.0 * number(1, "relative_error"));
    assert_eq!(json["bits_per_weight"], json["levels"][1]["bits_per_weight"]);

    fs::write(&cut, &file[..number(0, "file_bytes") as usize + 100]).unwrap();
    assert_says(&said(&["info", &cut], 0), &[&format!("{} (cut off)", file.len()), "47 tensors"]);
    let needed = format!("level 1 needs the first {} bytes", file.len());
    assert_says(&said(&["verify", &cut], 1), &["quality level 0 is its last whole one", &needed, "1 fault"]);
    assert_says(&said(&["decompress", &cut, "-o", &dense], 2), &["error: ", &needed, "read level 0"]);
    assert_says(&said(&["decompress", &cut, "-o", &dense, "--level", "1"], 2), &[&needed]);
    assert_says(&said(&["decompress", &cut, "-o", &dense, "--level", "0"], 0), &["36 with a loss"]);
    let coarse = fs::read(&dense).unwrap();
    said(&["decompress", &packed, "-o", &dense, "--level", "0", "--force"], 0);
    assert!(fs::read(&dense).unwrap() == coarse, "the prefix gives the level of the whole file");
    assert_says(&said(&["decompress", &packed, "-o", &dense, "--level", "2", "--force"], 2), &["no quality level 2"]);
    fs::write(&cut, &file[..number(0, "file_bytes") as usize - 1]).unwrap();
    for args in [&["info", &cut][..], &["verify", &cut], &["decompress", &cut, "-o", &dense, "--force"]] {
        assert_says(&said(args, 2), &["cut.nw.safetensors", "cut off or damaged"]);
    }
}

#[test]
fn codecs_chosen_by_trial_keep_their_goal() {
    let place = Place::new();
    let (packed, other) = (place.text("m.nw.safetensors"), place.text("n.nw.safetensors"));
    said(&["compress", STORIES, "-o", &packed, "--max-rel-error", "0.03", "-j", "2"], 0);
    assert_says(
        &said(&["info", &packed], 0),
        &["tried, the chosen codec first:\n  `", "quant.int:bits=8 ", " B, no error"],
    );
    let json: serde_json::Value = serde_json::from_str(&said(&["info", &packed, "--json"], 0)).unwrap();
    let tensors = json["tensors"].as_array().unwrap();
    let tried = tensors.iter().filter(|tensor| !tensor["tried"].is_null());
    assert_eq!(tried.clone().count(), 36);
    assert!(tried.clone().all(|tensor| tensor["relative_error"].as_f64().unwrap() <= 0.03));
    assert!(tried.clone().all(|tensor| tensor["bytes"] == tensor["tried"][0]["bytes"]));
    // The same by a spec, on another number of threads.
    said(&["compress", STORIES, "-o", &other, "--codec", "best:error=0.03", "-j", "1"], 0);
    assert!(fs::read(&packed).unwrap() == fs::read(&other).unwrap());
    let out = said(&["compress", STORIES, "--target-bpw", "3", "--dry-run"], 0);
    assert_says(&out, &["trellis:states=64:bits=3", "nothing was written"]);
    assert_says(&said(&["compress", STORIES, "-o", &other, "--target-bpw", "99"], 2), &["best:bits=99"]);
    assert_says(
        &said(&["compress", STORIES, "-o", &other, "--target-bpw", "3", "--codec", "lossless"], 2),
        &["--codec"],
    );
}
