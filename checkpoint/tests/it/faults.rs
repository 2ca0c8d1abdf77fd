//! Faults in packed files and directories are found against the source, and named.

use std::fs;
use std::path::{Path, PathBuf};

use checkpoint::{Error, Packed, Recipe};
use codec_api::NoProgress;
use half::bf16;
use serde_json::{Value, json};

use crate::support::packed::{edit_manifest, noise, pack, registry};
use crate::support::{Dir, file, floats, parts};

#[derive(Clone)]
struct Tensor {
    shard: usize,
    name: &'static str,
    dtype: &'static str,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

/// A model in two shards. `head` is tied to `embed`; `q` and `k` have the same shape.
#[derive(Clone)]
struct Model {
    tensors: Vec<Tensor>,
    metadata: &'static str,
    total_size: u64,
}

const SHARDS: [&str; 2] = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"];

fn values(first: usize, n: usize) -> Vec<f32> {
    (first..first + n).map(|i| ((i * 7919) % 1009) as f32 / 331.0 - 1.5).collect()
}

impl Model {
    fn new() -> Self {
        let float = |shard, name, shape: &[usize], first| Tensor {
            shard,
            name,
            dtype: "F32",
            shape: shape.to_vec(),
            bytes: floats(&values(first, shape.iter().product())),
        };
        let halves = values(9, 16 * 64).iter().flat_map(|v| bf16::from_f32(*v).to_le_bytes()).collect();
        let tensors = vec![
            float(0, "embed", &[32, 64], 0),
            float(0, "q", &[64, 64], 3),
            float(0, "k", &[64, 64], 500),
            float(0, "norm", &[64], 7),
            float(1, "w", &[8, 64], 11),
            Tensor { shard: 1, name: "half", dtype: "BF16", shape: vec![16, 64], bytes: halves },
            Tensor { shard: 1, name: "ids", dtype: "I64", shape: vec![16], bytes: noise(128) },
            float(1, "head", &[32, 64], 0),
        ];
        Self { tensors, metadata: "pt", total_size: 1 }
    }

    fn tensor(&mut self, name: &str) -> &mut Tensor {
        self.tensors.iter_mut().find(|tensor| tensor.name == name).unwrap()
    }

    fn edit_values(&mut self, name: &str, edit: impl FnOnce(&mut Vec<f32>)) {
        let tensor = self.tensor(name);
        let mut values: Vec<f32> = tensor.bytes.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
        edit(&mut values);
        tensor.bytes = floats(&values);
    }

    fn write(&self, dir: &Dir, folder: &str) -> PathBuf {
        let mut places = Vec::new();
        for (shard, name) in SHARDS.iter().enumerate() {
            let tensors: Vec<_> = self.tensors.iter().filter(|tensor| tensor.shard == shard).collect();
            let raw: Vec<_> = tensors.iter().map(|t| (t.name, t.dtype, t.shape.as_slice(), t.bytes.clone())).collect();
            let (header, data) = parts(&raw);
            let header = format!(r#"{{"__metadata__":{{"format":"{}"}},{}"#, self.metadata, &header[1..]);
            dir.write(&format!("{folder}/{name}"), file(&header, &data));
            places.extend(tensors.iter().map(|tensor| format!(r#""{}":"{name}""#, tensor.name)));
        }
        let index =
            format!(r#"{{"metadata":{{"total_size":{}}},"weight_map":{{{}}}}}"#, self.total_size, places.join(","));
        dir.write(&format!("{folder}/model.safetensors.index.json"), index);
        dir.write(&format!("{folder}/config.json"), r#"{"hidden_size":64}"#);
        dir.write(&format!("{folder}/tokenizer/vocab.txt"), "a b c");
        dir.path().join(folder)
    }
}

/// The faults of the packed directory, one a line.
fn faults(packed: &Path, source: &Path) -> String {
    let find = || -> Result<Vec<Error>, Error> {
        let packed = Packed::open(packed, &registry())?;
        let mut faults = packed.verify_against(source, &registry(), &NoProgress)?;
        faults.extend(packed.verify_companions(source)?);
        Ok(faults)
    };
    let faults = find().unwrap_or_else(|error| vec![error]);
    faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

/// Packs the edited model and expects these words in the faults against the model as it was, and
/// that many faults.
#[track_caller]
fn expect(edit: impl FnOnce(&mut Model), count: usize, words: &[&str]) {
    let dir = Dir::new();
    let source = Model::new().write(&dir, "source");
    let mut model = Model::new();
    edit(&mut model);
    pack(&model.write(&dir, "edited"), &dir.path().join("packed"), &Recipe::built_in("int8").unwrap());
    assert_found(&faults(&dir.path().join("packed"), &source), count, words);
}

#[track_caller]
fn assert_found(found: &str, count: usize, words: &[&str]) {
    for word in words {
        assert!(found.contains(word), "no `{word}` in\n{found}");
    }
    assert_eq!(found.lines().count(), count, "{found}");
}

/// Packs the model, and changes the packed directory afterwards.
#[track_caller]
fn expect_after(edit: impl FnOnce(&Path), count: usize, words: &[&str]) {
    let dir = Dir::new();
    let (source, packed) = (Model::new().write(&dir, "source"), dir.path().join("packed"));
    pack(&source, &packed, &Recipe::built_in("int8").unwrap());
    edit(&packed);
    assert_found(&faults(&packed, &source), count, words);
}

fn tensor<'a>(manifest: &'a mut Value, name: &str) -> &'a mut Value {
    manifest["tensors"].as_array_mut().unwrap().iter_mut().find(|tensor| tensor["name"] == name).unwrap()
}

#[test]
fn a_whole_directory_has_no_fault() {
    expect_after(|_| {}, 0, &[]);
}

#[test]
fn other_names_dtypes_and_shapes_are_named() {
    let header = "its header is another one";
    expect(|model| model.tensor("q").name = "p", 4, &["tensor `p`: the source has no", "tensor `q`: it is missing"]);
    expect(
        |model| model.tensor("w").shape = vec![64, 8],
        2,
        &["tensor `w`: it is F32 [64, 8], and F32 [8, 64] in the source", header],
    );
    expect(|model| model.tensor("half").dtype = "F16", 2, &["tensor `half`: it is F16", "BF16 [16, 64] in", header]);
    let extra = Tensor { name: "extra", ..Model::new().tensor("ids").clone() };
    expect(|model| model.tensors.push(extra), 3, &["tensor `extra`: the source has no tensor of this name", header]);
    expect(
        |model| model.tensors.retain(|tensor| tensor.name != "ids"),
        3,
        &["tensor `ids`: it is missing; the source has it in `", SHARDS[1], header],
    );
    expect(|model| model.tensors.swap(1, 2), 3, &["tensor `k`: it stands where", header]);
    expect(|model| model.tensor("norm").shard = 1, 4, &["tensor `norm`: it is in source file 1", "index is another"]);
}

#[test]
fn other_values_are_named_with_what_happened() {
    expect(
        |model| model.edit_values("q", |q| *q = (0..64 * 64).map(|i| q[i % 64 * 64 + i / 64]).collect()),
        1,
        &["tensor `q`: rows 0..64: the ", "; it is transposed"],
    );
    let scale = |by: f32| move |w: &mut Vec<f32>| w.iter_mut().for_each(|w| *w *= by);
    expect(|model| model.edit_values("w", scale(2.0)), 1, &["tensor `w`", "it is about 2.00 times the source"]);
    expect(|model| model.edit_values("q", scale(-1.0)), 1, &["tensor `q`", "it is about -1.00 times the source"]);
    expect(
        |model| {
            let (q, k) = (model.tensor("q").bytes.clone(), model.tensor("k").bytes.clone());
            (model.tensor("q").bytes, model.tensor("k").bytes) = (k, q);
        },
        2,
        &["tensor `q`", "it has the values of `k` in the source", "tensor `k`", "it has the values of `q`"],
    );
    expect(
        |model| model.edit_values("norm", |norm| norm[5] = norm[5].next_up()),
        1,
        &["tensor `norm`: it is stated to be exact, but row 0, column 5 differs"],
    );
    expect(|model| model.tensor("ids").bytes[17] ^= 1, 1, &["tensor `ids`: it is stated to be exact", "column 2"]);
    expect(|model| model.edit_values("k", |k| k[128..192].fill(0.0)), 1, &["tensor `k`: rows 0..64", "certificate"]);
    expect(
        |model| model.edit_values("head", |head| head[0] += 0.5),
        2,
        &["tensor `head`: it is stored on its own, and the source has the same bytes for `embed`", "error"],
    );
}

#[test]
fn other_headers_indexes_and_files_are_named() {
    expect(|model| model.metadata = "tf", 2, &[SHARDS[0], SHARDS[1], "metadata, order, names or padding"]);
    expect(|model| model.total_size = 2, 1, &["`model.safetensors.index.json`: the index is another one"]);
    let config = |packed: &Path| fs::write(packed.join("config.json"), r#"{"hidden_size":32}"#).unwrap();
    expect_after(config, 1, &["packed`, file `config.json`: it is not the file of the source"]);
    let missing = |packed: &Path| fs::remove_file(packed.join("tokenizer/vocab.txt")).unwrap();
    expect_after(missing, 1, &["vocab.txt`: it is missing; the source has it"]);
    let stale = |packed: &Path| fs::write(packed.join("model.safetensors.index.json"), "{}").unwrap();
    expect_after(stale, 1, &["file `model.safetensors.index.json`: the source has no such file"]);
}

#[test]
fn manifests_that_lie_are_found_out() {
    let edited = |edit: fn(&mut Value), count, words: &[&str]| {
        expect_after(|packed| edit_manifest(&packed.join("model.nw.safetensors"), edit), count, words);
    };
    edited(
        |manifest| manifest["recipe"]["rule"][0]["codec"] = "quant.int:bits=4".into(),
        5,
        &["tensor `q`: its codec is {", "\"bits\":8", "the recipe of the file chooses {", "\"bits\":4"],
    );
    edited(
        |manifest| tensor(manifest, "half")["chunks"][0]["certificate"]["max_abs"] = json!(0.5),
        1,
        &["tensor `half`: rows 0..16: the largest error against the source is ", "states 5.000000e-1"],
    );
    edited(
        |manifest| {
            let files = manifest["files"].as_array_mut().unwrap();
            let first = files[0]["name"].take();
            files[0]["name"] = files[1]["name"].take();
            files[1]["name"] = first;
        },
        2,
        &["it was renamed, or swapped with another"],
    );
    edited(
        |manifest| tensor(manifest, "w")["file"] = json!(0),
        1,
        &["tensor `w`: it is in source file 0, and the source has it in `model-00002"],
    );
    edited(
        |manifest| drop(manifest.as_object_mut().unwrap().remove("index")),
        1,
        &["the manifest does not know the section `__netweight__/index`"],
    );
    expect_after(
        |packed| {
            let file = fs::File::options().write(true).open(packed.join("model.nw.safetensors")).unwrap();
            file.set_len(file.metadata().unwrap().len() - 1).unwrap();
        },
        1,
        &["model.nw.safetensors` is not a readable safetensors file"],
    );
}

/// `head` refers to a tensor of its dtype and shape that has other bytes.
#[test]
fn a_wrong_tie_is_found() {
    let dir = Dir::new();
    let mut model = Model::new();
    model.tensor("k").shape = vec![64, 64];
    let twin = Tensor { name: "twin", ..model.tensor("q").clone() };
    model.tensors.push(twin);
    let source = model.write(&dir, "source");
    let packed = pack(&source, &dir.path().join("packed"), &Recipe::built_in("int8").unwrap());
    edit_manifest(&packed, |manifest| tensor(manifest, "twin")["same_as"] = "k".into());
    let found = faults(&dir.path().join("packed"), &source);
    let words =
        ["tensor `twin`: it is stored as equal to `k`, and the source has other bytes", "it has the values of `k`"];
    assert_found(&found, 2, &words);
}
