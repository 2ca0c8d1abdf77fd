//! `cargo xtask patches`: the size of patches beside simpler forms, and how fast they apply.

mod series;
mod step;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Result, ensure};
use checkpoint::{Packed, Recipe};
use codec_api::NoProgress;
use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::lab::Lab;
use crate::made::Weights;
use crate::measure::{Table, paragraph, significant};
use crate::stamp::stamp;
use step::Change;

/// Threads of the measurement.
const THREADS: usize = 2;
/// Repetitions; the fastest counts.
const RUNS: usize = 3;
/// Level of Zstandard for what a program would send at every step.
const QUICK: i32 = 3;

const INTRODUCTION: &str = "\
A patch is a packed model whose tensors are stored relative to a base: `netweight compress NEW --base
OLD -o patch.nw.safetensors` makes it, `netweight apply OLD patch.nw.safetensors -o NEW` gives the
new model back, byte for byte. `apply` compares every tensor of the base and every new tensor with a
hash. The model here has made-up BF16 weights; one in a hundred has moved by one unit in the last
place, either anywhere or in runs of 64. *Lists* are an int32 position and a BF16 value for every
changed weight; *XOR* is the XOR of both models, compressed with Zstandard. Speeds are bytes of the
new model per second on two threads, the fastest of three runs: *decode* checks and decodes without
writing, *apply* also writes the file and waits until it is on the disk, *copy* copies a file of this
size and waits for the disk too.";

/// Arguments of the command.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Size of the made-up model in tensors of 16 MiB
    #[arg(long, default_value_t = 32)]
    tensors: usize,
    /// A model (one .safetensors file) and versions of it, for a second table
    models: Vec<PathBuf>,
}

/// Measures the page.
///
/// # Errors
/// If a model cannot be read, or a file cannot be written.
pub fn page(lab: &Lab, options: &Options) -> Result<String> {
    let directory = tempfile::tempdir()?;
    // The paths of models differ between machines.
    let models = options.models.iter().filter_map(|model| model.file_stem()?.to_str());
    let command = ["patches"].into_iter().chain(models).collect::<Vec<_>>().join(" ");
    let introduction = paragraph(&format!("{} {INTRODUCTION}", stamp(&lab.root, &command)));
    let mut table = Table::new(["Changes", "Model", "Patch", "Lists", "XOR, zstd -3", "Decode", "Apply", "Copy"]);
    for (name, change) in [("random", Change::Random), ("clustered", Change::Clustered)] {
        table.row([vec![name.to_owned()], steps(lab, directory.path(), options.tensors, change)?].concat());
    }
    let series = match options.models.split_first() {
        Some((base, versions)) => series::section(lab, directory.path(), base, versions)?,
        None => String::new(),
    };
    Ok(format!("# Patches\n\n{introduction}\n{}\n{series}", table.text()))
}

/// The cells of one kind of change.
fn steps(lab: &Lab, directory: &Path, tensors: usize, change: Change) -> Result<Vec<String>> {
    let [old, new, patch] = ["old", "new", "patch.nw"].map(|name| directory.join(format!("{name}.safetensors")));
    let weights = Weights::new(0);
    let before = |tensor: usize| weights.draw(0, &step::name(tensor), step::COUNT);
    let after = |tensor: usize| {
        let mut weights = before(tensor);
        let moved = step::move_some(&mut weights, tensor, change);
        (weights, moved)
    };
    step::write(&old, tensors, &before)?;
    step::write(&new, tensors, &|tensor| after(tensor).0)?;
    let (mut moved, mut xor) = (0, Vec::new());
    for tensor in 0..tensors {
        let (old, (new, count)) = (before(tensor), after(tensor));
        moved += count;
        xor.extend(old.iter().zip(&new).flat_map(|(old, new)| (old.to_bits() ^ new.to_bits()).to_le_bytes()));
    }
    let pool = ThreadPoolBuilder::new().num_threads(THREADS).build()?;
    pool.install(|| lab.pack(&new, &patch, std::slice::from_ref(&old), &Recipe::default()))?;
    let bytes = fs::metadata(&new)?.len();
    let speeds = speeds(lab, &pool, [&old, &new, &patch])?;
    let sizes = [bytes, fs::metadata(&patch)?.len(), 6 * moved as u64, compressed(&xor, QUICK)?];
    let speeds = speeds.map(|seconds| format!("{:.2} GB/s", bytes as f64 / seconds / 1e9));
    Ok(sizes.map(megabytes).into_iter().chain(speeds).collect())
}

/// Seconds to decode, to apply and to copy.
fn speeds(lab: &Lab, pool: &ThreadPool, [old, new, patch]: [&Path; 3]) -> Result<[f64; 3]> {
    let out = old.with_file_name("out.safetensors");
    let open = || anyhow::Ok(Packed::open(patch, &lab.registry)?.with_bases(&[old], &lab.registry)?);
    let decode = fastest(|| {
        ensure!(pool.install(|| anyhow::Ok(open()?.verify(&NoProgress)))?.is_empty(), "the patch is damaged");
        Ok(())
    })?;
    let apply = fastest(|| pool.install(|| Ok(open()?.unpack_single(&out, &NoProgress)?)))?;
    ensure!(fs::read(&out)? == fs::read(new)?, "the patch does not give the model back");
    let copy = fastest(|| {
        fs::copy(new, &out)?;
        Ok(fs::File::open(&out)?.sync_all()?)
    })?;
    fs::remove_file(out)?;
    Ok([decode, apply, copy])
}

/// Seconds of the fastest run.
fn fastest(mut work: impl FnMut() -> Result<()>) -> Result<f64> {
    let mut best = f64::INFINITY;
    for _ in 0..RUNS {
        let begin = Instant::now();
        work()?;
        best = best.min(begin.elapsed().as_secs_f64());
    }
    Ok(best)
}

/// Size of the bytes as a Zstandard frame.
fn compressed(bytes: &[u8], level: i32) -> Result<u64> {
    Ok(zstd::bulk::compress(bytes, level)?.len() as u64)
}

fn megabytes(bytes: u64) -> String {
    format!("{} MB", significant(bytes as f64 / 1e6))
}
