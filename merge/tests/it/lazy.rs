//! Merges that are computed when they are read: the bits of the eager ones.

use std::fs;
use std::path::Path;

use checkpoint::{Checkpoint, Model};
use codec_api::{Dtype, NoProgress, Registry};
use graph::{Graph, Options, Source};
use merge::{Plan, PlanOptions, Recipe, has_graph, write_graph};
use tempfile::TempDir;

use crate::running::{METHODS, models, plan, recipe, run};
use crate::support::{config, llama, noise, write_model};

fn registry() -> Registry {
    Registry::linked().unwrap()
}

fn open(path: &Path) -> Model {
    let model = Model::open(path, &[], &registry()).unwrap();
    assert!(matches!(model, Model::Computed(_)), "{}", path.display());
    model
}

/// Compares a computed model with the dense one that the eager merge wrote.
fn assert_same(computed: &Path, dense: &Path) {
    let (computed, dense) = (open(computed), Checkpoint::open(dense).unwrap());
    assert_eq!(computed.names(), dense.names().collect::<Vec<_>>());
    for name in dense.names() {
        let (spec, bytes) = dense.bytes(name).unwrap();
        assert_eq!(computed.spec(name).unwrap(), &spec, "{name}");
        assert!(computed.bytes(name).unwrap() == bytes, "{name}");
        let (rows, row) = (spec.matrix().0, bytes.len() / spec.matrix().0);
        let some = rows / 3..rows - rows / 4;
        assert!(computed.rows(name, &some).unwrap() == bytes[some.start * row..some.end * row], "{name}, {some:?}");
    }
}

#[test]
fn every_method_has_the_bits_of_the_eager_merge() {
    let dir = TempDir::new().unwrap();
    for dtype in [Dtype::BF16, Dtype::F32] {
        models(dir.path(), dtype);
        let own = METHODS.map(|(method, parameters)| recipe(dir.path(), method, parameters));
        let two = [
            ("linear", "parameters: {weight: 0.3}"),
            ("slerp", "base_model: AT/B\nparameters: {t: [0.2, 0.8]}"),
            ("linear", "dtype: float16\nparameters: {weight: 0.3, normalize: false}"),
        ];
        let others = two.map(|(method, rest)| {
            let text = format!("models: [{{model: AT/B}}, {{model: AT/C}}]\nmerge_method: {method}\n{rest}\n");
            Recipe::from_yaml(&text.replace("AT", &dir.path().display().to_string())).unwrap()
        });
        for (i, recipe) in own.into_iter().chain(others).enumerate() {
            let plan = plan(recipe, 7);
            let [dense, lazy] = ["dense", "lazy"].map(|name| dir.path().join(format!("{name}-{dtype}-{i}")));
            run(&plan, &dense, 2, u64::MAX);
            write_graph(&plan, &lazy, &registry()).unwrap();
            assert!(has_graph(&plan, &lazy) && !has_graph(&plan, &dense));
            assert_same(&lazy, &dense);
            for name in ["config.json", "tokenizer.json"] {
                assert_eq!(fs::read(lazy.join(name)).unwrap(), fs::read(dense.join(name)).unwrap(), "{name}");
            }
        }
    }
}

/// Tensors of several blocks and of odd shapes, the thresholds of which belong to the whole tensor.
#[test]
fn large_and_odd_tensors_have_the_same_bits() {
    let dir = TempDir::new().unwrap();
    let shapes: [&[usize]; 4] = [&[611, 1030], &[7, 3, 5], &[300_001], &[2, 70, 130]];
    for (seed, model) in [(1, "A"), (2, "B"), (3, "C")] {
        let tensors: Vec<_> = shapes
            .iter()
            .enumerate()
            .map(|(i, shape)| {
                let values = noise(10 * seed + i as u64, shape.iter().product());
                (format!("w{i}"), Dtype::BF16, shape.to_vec(), values)
            })
            .collect();
        write_model(&dir.path().join(model), &tensors, &config(1, true));
    }
    for (i, (method, parameters)) in [
        ("ties", "weight: 0.5, density: 0.3"),
        ("model_stock", "filter_wise: true"),
        ("sce", "select_topk: 0.3"),
        ("dare_ties", "weight: 0.5, density: 0.5, rescale: true"),
        ("della", "weight: 0.5, density: 0.5"),
        ("nuslerp", "weight: 0.5, nuslerp_flatten: false"),
    ]
    .into_iter()
    .enumerate()
    {
        let plan = plan(recipe(dir.path(), method, parameters), 1);
        let [dense, lazy] = ["dense", "lazy"].map(|name| dir.path().join(format!("{name}{i}")));
        run(&plan, &dense, 2, u64::MAX);
        write_graph(&plan, &lazy, &registry()).unwrap();
        assert_same(&lazy, &dense);
    }
}

#[test]
fn packed_models_and_graphs_are_leaves() {
    let dir = TempDir::new().unwrap();
    models(dir.path(), Dtype::BF16);
    let packed = dir.path().join("packed");
    let packing = checkpoint::Plan::new(
        dir.path().join("B"),
        &packed,
        &checkpoint::Recipe::load("int8").unwrap(),
        0,
        &registry(),
    )
    .unwrap();
    packing.run(&registry(), &NoProgress).unwrap();
    packing.commit(&registry(), None).unwrap();
    fs::rename(dir.path().join("B"), dir.path().join("dense B")).unwrap();
    fs::rename(&packed, dir.path().join("B")).unwrap();
    let first = plan(recipe(dir.path(), "ties", "weight: 0.5, density: 0.3"), 0);
    let [dense, lazy] = ["dense", "lazy"].map(|name| dir.path().join(name));
    run(&first, &dense, 2, u64::MAX);
    write_graph(&first, &lazy, &registry()).unwrap();
    assert_same(&lazy, &dense);

    // A merge of the two, of which one is computed, has the bits of the other.
    let text = serde_json::to_string(&recipe(dir.path(), "task_arithmetic", "weight: 0.5")).unwrap();
    let at = |model: &str| format!("{}/{model}\"", dir.path().display());
    let of = |model: &str| {
        let text = text.replace(&at("C"), &at(model));
        plan(Recipe::from_yaml(&text).unwrap(), 0)
    };
    let [again, above] = ["again", "above"].map(|name| dir.path().join(name));
    run(&of("dense"), &again, 2, u64::MAX);
    write_graph(&of("lazy"), &above, &registry()).unwrap();
    assert_same(&above, &again);
    run(&of("lazy"), &dir.path().join("eager"), 2, u64::MAX);
    assert_same(&above, &dir.path().join("eager"));
}

#[test]
fn adapters_are_nodes() {
    for (case, module) in crate::lora::modules() {
        let dir = TempDir::new().unwrap();
        let [base, lora, dense, lazy] = ["base", "lora", "dense", "lazy"].map(|name| dir.path().join(name));
        crate::lora::adapter(&lora, &case, &module);
        crate::lora::write_base(&base, &module);
        let plan = Plan::new(Recipe::of_adapter(&base, &lora), PlanOptions::default(), &registry()).unwrap();
        run(&plan, &dense, 2, u64::MAX);
        write_graph(&plan, &lazy, &registry()).unwrap();
        assert_same(&lazy, &dense);
    }
}

#[test]
fn what_a_merge_is_computed_of_is_checked() {
    let dir = TempDir::new().unwrap();
    models(dir.path(), Dtype::F32);
    let plan = plan(recipe(dir.path(), "ties", "weight: 0.5, density: 0.3"), 0);
    let lazy = dir.path().join("lazy");
    write_graph(&plan, &lazy, &registry()).unwrap();

    // The directory of models and merge is moved as a whole.
    let elsewhere = TempDir::new().unwrap();
    let place = elsewhere.path().join("all");
    copy(dir.path(), &place);
    fs::remove_dir_all(dir.path().join("A")).unwrap();
    let moved = open(&place.join("lazy"));
    assert!(moved.hash("model.norm.weight").is_ok());
    let Model::Computed(computed) = &moved else { return };
    assert_eq!(computed.inner().verify(&NoProgress).len(), 0);
    assert!(computed.inner().files().iter().all(|file| file.starts_with(&place)));

    // Here a model is missing, there a tensor has changed.
    let says = |error: String, parts: &[&str]| {
        for part in parts {
            assert!(error.contains(part), "`{part}` is not in: {error}");
        }
    };
    let error = Model::open(&lazy, &[], &registry()).unwrap_err().to_string();
    says(error, &["lazy/model.safetensors", "../A", "does not exist", "tensor `", "put that model there"]);
    let mut tensors = llama(2, 3, Dtype::F32, true);
    tensors[3].3[5] += 1.0;
    write_model(&place.join("B"), &tensors, &config(3, true));
    let changed = open(&place.join("lazy"));
    assert!(changed.bytes(&tensors[4].0).is_ok(), "another tensor is as it was");
    let error = changed.bytes(&tensors[3].0).unwrap_err().to_string();
    says(error, &["lazy/model.safetensors", "../B", &tensors[3].0, "blake3", "give the file"]);
    let Model::Computed(computed) = &changed else { return };
    let faults = computed.inner().verify(&NoProgress);
    assert_eq!(faults.len(), 1);
    says(faults[0].to_string(), &[&tensors[3].0, "blake3"]);

    // An operation that this program does not have, and a file that is computed of itself.
    let file = place.join("lazy/model.safetensors");
    let bytes = fs::read(&file).unwrap();
    fs::write(&file, replaced(&bytes, "\\\"operation\\\":\\\"merge\\\"", "\\\"operation\\\":\\\"smelt\\\"")).unwrap();
    let error = Model::open(place.join("lazy"), &[], &registry()).unwrap_err().to_string();
    says(error, &["lazy/model.safetensors", "smelt", "node "]);
    fs::write(&file, replaced(&bytes, "../B", "../lazy")).unwrap();
    let error = Model::open(place.join("lazy"), &[], &registry()).unwrap_err().to_string();
    says(error, &["lazy", "computed of its own"]);
}

/// A safetensors file with another text in its header.
fn replaced(bytes: &[u8], from: &str, to: &str) -> Vec<u8> {
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header = std::str::from_utf8(&bytes[8..8 + length]).unwrap();
    assert!(header.contains(from), "`{from}` is not in {header:.600}");
    let mut header = header.replace(from, to);
    while !header.len().is_multiple_of(8) {
        header.push(' ');
    }
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &bytes[8 + length..]].concat()
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

#[test]
fn a_lazy_merge_packs_as_the_dense_one_does() {
    let dir = TempDir::new().unwrap();
    models(dir.path(), Dtype::BF16);
    let plan = plan(recipe(dir.path(), "ties", "weight: 0.5, density: 0.3"), 0);
    let [dense, lazy] = ["dense", "lazy"].map(|name| dir.path().join(name));
    run(&plan, &dense, 2, u64::MAX);
    write_graph(&plan, &lazy, &registry()).unwrap();
    for name in ["lossless", "int8"] {
        let recipe = checkpoint::Recipe::load(name).unwrap();
        let [one, two] = [&dense, &lazy].map(|model| {
            let target = dir.path().join(format!("{}.nw.safetensors", model.file_name().unwrap().display()));
            let packing = checkpoint::Plan::new(model, &target, &recipe, 0, &registry()).unwrap();
            packing.run(&registry(), &NoProgress).unwrap();
            packing.commit(&registry(), Some(&NoProgress)).unwrap();
            let packed = checkpoint::Packed::open(&target, &registry()).unwrap();
            assert_eq!(packed.verify_against(model, &registry(), &NoProgress).unwrap().len(), 0);
            packed
        });
        for (one, two) in one.tensors().zip(two.tensors()) {
            assert_eq!((one.name(), one.hash(), one.bytes()), (two.name(), two.hash(), two.bytes()));
        }
        // What was packed exactly comes back as the file that the expressions stand for.
        let back = dir.path().join("back.safetensors");
        let computed = dir.path().join("computed.safetensors");
        two.unpack_single(&back, &NoProgress).unwrap();
        let Model::Computed(model) = open(&lazy) else { return };
        model.write(&computed, &NoProgress).unwrap();
        let [back, computed] = [back, computed].map(|path| fs::read(path).unwrap());
        assert_eq!(back.len(), computed.len());
        assert!(back == computed || name == "int8");
    }
}

/// The chunks of a packed fine-tune that a read needs: those whose damage breaks it.
#[test]
fn a_fine_tune_reads_the_chunks_of_its_rows_only() {
    let dir = TempDir::new().unwrap();
    let (rows, columns) = (1536, 4096);
    let values = noise(1, rows * columns);
    let moved = values.iter().enumerate().map(|(i, v)| if i % 9 == 0 { v + 0.01 } else { *v }).collect::<Vec<_>>();
    for (name, values) in [("base", values), ("tuned", moved)] {
        let tensors = [("w".to_owned(), Dtype::BF16, vec![rows, columns], values)];
        write_model(&dir.path().join(name), &tensors, &config(1, true));
    }
    let [base, tuned] = ["base", "tuned"].map(|name| dir.path().join(name).join("model.safetensors"));
    let target = dir.path().join("patch.nw.safetensors");
    let lossless = checkpoint::Recipe::load("lossless").unwrap();
    let packing = checkpoint::Plan::relative(&tuned, &target, &[base], &lossless, 0, &registry()).unwrap();
    packing.run(&registry(), &NoProgress).unwrap();
    packing.commit(&registry(), None).unwrap();
    let whole = fs::read(&target).unwrap();
    let dense = Checkpoint::open(&tuned).unwrap().bytes("w").unwrap().1;
    let chunks = {
        let packed = checkpoint::Packed::open(&target, &registry()).unwrap();
        let tensor = packed.tensor("w").unwrap();
        assert!(tensor.chunks().all(|chunk| chunk.codec().typetag_name() == "delta.exact"));
        tensor.chunks().map(|chunk| chunk.rows()).collect::<Vec<_>>()
    };
    assert!(chunks.len() >= 3, "{chunks:?}");
    let read = |range: std::ops::Range<usize>| {
        let graph = Graph::new();
        let source = Source::open(&target, &registry())?;
        let node = graph.tensor(&source, "w")?;
        Ok::<_, graph::Error>(graph.rows(node, range, &Options::default())?.0)
    };
    let boundary = chunks[1].start;
    let ranges = [0..1, 5..boundary, boundary - 1..boundary + 1, boundary..boundary + 3, rows - 1..rows, 0..rows];
    for range in ranges.clone() {
        let bytes = codec_api::util::narrowed(Dtype::BF16, &read(range.clone()).unwrap()).unwrap();
        assert!(bytes == dense[range.start * columns * 2..range.end * columns * 2], "{range:?}");
    }
    let mut needed = vec![0; ranges.len()];
    for number in 0..chunks.len() {
        let mut damaged = whole.clone();
        for at in sections(&whole, number) {
            damaged[at] ^= 0x55;
        }
        fs::write(&target, damaged).unwrap();
        for (needed, range) in needed.iter_mut().zip(&ranges) {
            *needed += usize::from(read(range.clone()).is_err());
        }
    }
    let held = |range: &std::ops::Range<usize>| {
        chunks.iter().filter(|chunk| chunk.start < range.end && range.start < chunk.end).count()
    };
    assert_eq!(needed, ranges.iter().map(held).collect::<Vec<_>>());
}

/// A place in every section of a chunk of the only tensor.
fn sections(file: &[u8], chunk: usize) -> Vec<usize> {
    let length = u64::from_le_bytes(file[..8].try_into().unwrap()) as usize;
    let header: serde_json::Value = serde_json::from_slice(&file[8..8 + length]).unwrap();
    let of_chunk = |name: &str| name.starts_with(&format!("w/{chunk}/")) || name.starts_with(&format!("w:{chunk}:"));
    let places: Vec<usize> = header
        .as_object()
        .unwrap()
        .iter()
        .filter(|(name, _)| of_chunk(name))
        .map(|(_, entry)| {
            entry["data_offsets"].as_array().unwrap().iter().map(|n| n.as_u64().unwrap() as usize).collect::<Vec<_>>()
        })
        .filter(|offsets| offsets[0] < offsets[1])
        .map(|offsets| 8 + length + usize::midpoint(offsets[0], offsets[1]))
        .collect();
    assert!(!places.is_empty(), "{header:.600}");
    places
}
