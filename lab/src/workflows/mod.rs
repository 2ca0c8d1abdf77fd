//! `cargo xtask workflows`: whole stores of model versions, end to end on disk, beside the claims
//! of seeds 000 and 001.

mod model;
mod store;

use std::path::{Path, PathBuf};

use anyhow::Result;
use harness::suite::{Suite, SuiteOptions};

use self::model::Model;
use self::store::{Way, store};
use crate::lab::Lab;
use crate::measure::{Table, paragraph, significant};
use crate::stamp::stamp;

const INTRODUCTION: &str = "\
Whole models are written as F32 safetensors files, packed by the library behind `netweight compress`
(plan, units and commit, with the check of every packed file), and opened again. All values are N(0,
1) from a seed unless the text says otherwise. *MB* are all packed files together, *of the files*
their share of the source files, *tensors* those that have a payload of those that the versions have
together, *error* the largest ‖w − ŵ‖/‖w‖ of a tensor, and *seconds* the time to store all versions.
Ways with an error of 0 gave every source file back byte for byte. In lossy ways, biases and
other vectors are exact. Versions that are stored relative to the first need only its packed file.";

const WAYS: [Way; 7] = [
    Way { what: "exact: Zstandard, level 3", codec: Some("lossless.zstd:level=3"), relative: None },
    Way { what: "exact: `lossless`", codec: None, relative: None },
    Way { what: "exact: relative to the first", codec: None, relative: Some("delta.exact") },
    Way { what: "8 bits", codec: Some("quant.int:preset=int8"), relative: None },
    Way { what: "4 bits", codec: Some("quant.int:preset=int4-clip"), relative: None },
    Way {
        what: "8 bits, 4-bit differences",
        codec: Some("quant.int:preset=int8"),
        relative: Some("delta(quant.int:bits=4:group=128)"),
    },
    Way {
        what: "4 bits, 4-bit differences",
        codec: Some("quant.int:preset=int4-clip"),
        relative: Some("delta(quant.int:bits=4:group=128)"),
    },
];

/// Measures the page.
///
/// # Errors
/// If a file cannot be written, or a way fails.
pub fn page(lab: &Lab) -> Result<String> {
    let directory = tempfile::tempdir()?;
    let place = directory.path();
    let sections = [
        storage(lab, place)?,
        repository(lab, place)?,
        ensemble(lab, place)?,
        fine_tune(lab, place)?,
        distilgpt2(lab, place)?,
    ];
    let introduction = paragraph(&format!("{} {INTRODUCTION}", stamp(&lab.root, "workflows")));
    Ok(format!("# Stores of model versions\n\n{introduction}\n{}", sections.join("\n")))
}

fn storage(lab: &Lab, place: &Path) -> Result<String> {
    let shapes: [(&str, &[usize]); 6] = [
        ("layer1.weight", &[1000, 1000]),
        ("layer1.bias", &[1000]),
        ("layer2.weight", &[1000, 500]),
        ("layer2.bias", &[500]),
        ("layer3.weight", &[500, 250]),
        ("layer3.bias", &[250]),
    ];
    let shapes = shapes.map(|(name, shape)| (name.to_owned(), shape.to_vec()));
    let versions = four(lab, &shapes, &["layer3"])?;
    let text = "\
Seed 000 claims 16.7 → 5.4 MB (67.5 %), 6 → 13 unique weights and 4.0x → 1.8x deduplication for four
versions of a small model: base, a fine-tune of the third layer (0.01·N(0, 1) more), the base rounded
to 4 bits, and the base pruned to its largest tenth. Its two sides had different inputs, its base was
lossy, and storing took 6 to 28 s.";
    section(lab, place, "seed000/storage", text, &versions, &WAYS)
}

fn repository(lab: &Lab, place: &Path) -> Result<String> {
    let layer: [(&str, [usize; 2]); 6] = [
        ("query", [768, 768]),
        ("key", [768, 768]),
        ("value", [768, 768]),
        ("output", [768, 768]),
        ("up", [3072, 768]),
        ("down", [768, 3072]),
    ];
    let versions = four(lab, &layers(12, &layer), &["layers.9.", "layers.10.", "layers.11."])?;
    let text = "\
Seed 000 claims 60 to 80 % for a repository; its benchmark crashed before it measured anything. Twelve
transformer layers of width 768 in the same four versions; the fine-tune changes the last three
layers.";
    section(lab, place, "seed000/repository", text, &versions, &WAYS)
}

fn ensemble(lab: &Lab, place: &Path) -> Result<String> {
    let suite = Suite::parse("seed000/ensemble", &SuiteOptions::default())?;
    let versions = (0..5).map(|member| Model::of(&suite, &format!("member{member}."))).collect::<Result<Vec<_>>>()?;
    let text = "\
Seed 000 claims 70 to 90 % for an ensemble of five members; a rerun of its benchmark stored 18.7 %
more than the files have. The members are the first one plus 0.02·N(0, 1).";
    section(lab, place, "seed000/ensemble", text, &versions, &WAYS)
}

fn fine_tune(lab: &Lab, place: &Path) -> Result<String> {
    let base = Model::normal(&layers(3, &[("mlp", [768, 3072])]), 0);
    let versions = [base.clone(), base.tuned(&[""], 0.01, 1)];
    let text = "\
Seed 001 stored the second of two models of three layers of 768 × 3072, the first plus 0.01·N(0, 1),
as its difference: 27.00 → 49.71 MB, which it printed as 1.00x.";
    section(lab, place, "seed001/distilgpt2-workflow", text, &versions, &WAYS)
}

fn distilgpt2(lab: &Lab, place: &Path) -> Result<String> {
    const WIDTH: usize = 768;
    let layer: [(&str, &[usize]); 12] = [
        ("ln_1.weight", &[WIDTH]),
        ("ln_1.bias", &[WIDTH]),
        ("attn.c_attn.weight", &[WIDTH, 3 * WIDTH]),
        ("attn.c_attn.bias", &[3 * WIDTH]),
        ("attn.c_proj.weight", &[WIDTH, WIDTH]),
        ("attn.c_proj.bias", &[WIDTH]),
        ("ln_2.weight", &[WIDTH]),
        ("ln_2.bias", &[WIDTH]),
        ("mlp.c_fc.weight", &[WIDTH, 4 * WIDTH]),
        ("mlp.c_fc.bias", &[4 * WIDTH]),
        ("mlp.c_proj.weight", &[4 * WIDTH, WIDTH]),
        ("mlp.c_proj.bias", &[WIDTH]),
    ];
    let mut shapes = vec![("wte.weight".to_owned(), vec![50_257, WIDTH]), ("wpe.weight".to_owned(), vec![1024, WIDTH])];
    for number in 0..6 {
        shapes.extend(layer.map(|(name, shape)| (format!("h.{number}.{name}"), shape.to_vec())));
    }
    shapes.extend(["ln_f.weight", "ln_f.bias"].map(|name| (name.to_owned(), vec![WIDTH])));
    let text = "\
The shapes of distilgpt2, 81,912,576 weights, alone. Seed 004 claims 312 → 87 MB (MiB here: 327.7 → 91
MB) with 8 bits for all but two layers.";
    section(lab, place, "distilgpt2", text, &[Model::normal(&shapes, 0)], &WAYS[1..5])
}

/// Base, fine-tune, rounded and pruned.
fn four(lab: &Lab, shapes: &[(String, Vec<usize>)], tuned: &[&str]) -> Result<[Model; 4]> {
    let base = Model::normal(shapes, 0);
    Ok([base.clone(), base.tuned(tuned, 0.01, 1), base.rounded(&lab.registry)?, base.pruned()])
}

/// Names and shapes of so many equal layers.
fn layers(count: usize, layer: &[(&str, [usize; 2])]) -> Vec<(String, Vec<usize>)> {
    let tensor =
        |number: usize| move |(name, shape): &(&str, [usize; 2])| (format!("layers.{number}.{name}"), shape.to_vec());
    (0..count).flat_map(|number| layer.iter().map(tensor(number))).collect()
}

/// A table of the ways to store these versions.
fn section(lab: &Lab, place: &Path, title: &str, text: &str, versions: &[Model], ways: &[Way]) -> Result<String> {
    let files: Vec<PathBuf> = (0..versions.len()).map(|number| place.join(format!("{number}.safetensors"))).collect();
    for (version, file) in versions.iter().zip(&files) {
        version.write(file)?;
    }
    let dense = files.iter().map(|file| Ok(std::fs::metadata(file)?.len())).sum::<Result<u64>>()?;
    let tensors: usize = versions.iter().map(Model::len).sum();
    let megabytes = |bytes: u64| format!("{:.2}", bytes as f64 / 1e6);
    let mut table = Table::new(["Way", "MB", "of the files", "tensors", "error", "seconds"]);
    table.row([
        "the files".to_owned(),
        megabytes(dense),
        "100 %".to_owned(),
        tensors.to_string(),
        "0".to_owned(),
        String::new(),
    ]);
    for way in ways.iter().filter(|way| versions.len() > 1 || way.relative.is_none()) {
        let stored = store(&files, place, *way, lab)?;
        table.row([
            way.what.to_owned(),
            megabytes(stored.bytes),
            format!("{:.1} %", 100.0 * stored.bytes as f64 / dense as f64),
            format!("{} of {tensors}", stored.tensors),
            significant(stored.error),
            format!("{:.1}", stored.seconds),
        ]);
    }
    Ok(table.under(title, text))
}
