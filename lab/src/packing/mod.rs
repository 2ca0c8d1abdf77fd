//! `cargo xtask packing`: time and memory of packing a large model.

mod synthetic;

use std::fs;
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use checkpoint::{Checkpoint, Recipe};
use codec_api::{EncodeCx, EncodedTensor};

use crate::lab::Lab;
use crate::measure::{Table, paragraph};
use crate::process::{Taken, run};
use crate::stamp::stamp;

/// A tensor of the synthetic model, of two chunks, which every thread encodes alone.
const CHUNK: &str = "model.layers.0.self_attn.q_proj.weight";

/// Times that the model is copied; the fastest counts.
const COPIES: usize = 3;

const INTRODUCTION: &str = "\
`netweight compress` and `decompress` on a model with the shapes of a Llama model and normally
distributed BF16 weights, written by this command from a seed. The speeds are bytes of the dense
model per second, and include the check of the packed file (for `compress`) and the wait until it is
on the disk. `of cp` compares them with `cp` and `sync` of the same file in the same run (the fastest
of three), `of codec` with the codec alone: encoding and measuring 4 Mi weights on as many threads,
without files. The memory is the peak resident set of the process.";

#[derive(Debug, clap::Args)]
pub struct Options {
    /// Size of the model in MiB
    #[arg(long, default_value_t = 2048)]
    mib: u64,
    /// Directory for the files, which are removed at the end
    #[arg(long, default_value = ".")]
    dir: PathBuf,
    /// Recipes
    #[arg(long, value_delimiter = ',', default_value = "int8,lossless,trellis-4bit")]
    recipes: Vec<String>,
    /// Seed of the weights
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Only write the model, as this file
    #[arg(long, value_name = "FILE")]
    write: Option<PathBuf>,
}

/// Measures, and returns the page.
pub fn page(lab: &Lab, options: &Options) -> Result<String> {
    if let Some(path) = &options.write {
        synthetic::write(path, options.mib << 20, options.seed)?;
        return Ok(String::new());
    }
    let directory = tempfile::tempdir_in(&options.dir).context("cannot make a directory for the files")?;
    let measure = Measure::new(lab, directory.path(), options)?;
    let mut table = Table::new([
        "Recipe",
        "Threads",
        "Packed",
        "Compress MB/s",
        "of cp",
        "of codec",
        "Peak MiB",
        "Decompress MB/s",
        "of cp",
        "Peak MiB",
    ]);
    for recipe in &options.recipes {
        for threads in [1, 2] {
            table.row(measure.row(recipe, threads)?);
        }
    }
    let command = format!("packing --mib {} --recipes {}", options.mib, options.recipes.join(","));
    let size =
        format!("{:.2} GiB; `cp` and `sync`: {:.0} MB/s.", measure.dense as f64 / f64::from(1 << 30), measure.copy);
    let introduction = paragraph(&format!("{} {INTRODUCTION}", stamp(&lab.root, &command)));
    Ok(format!("# Packing a large model\n\n{introduction}\n{size}\n\n{}", table.text()))
}

/// The model, and the programs.
struct Measure<'a> {
    lab: &'a Lab,
    program: PathBuf,
    directory: &'a Path,
    model: PathBuf,
    /// Its bytes.
    dense: u64,
    /// Speed of `cp`, in MB/s.
    copy: f64,
}

impl<'a> Measure<'a> {
    fn new(lab: &'a Lab, directory: &'a Path, options: &Options) -> Result<Self> {
        let program = std::env::current_exe()?.with_file_name("netweight");
        if !program.exists() {
            bail!("`{}` does not exist; `cargo build --release` builds it", program.display());
        }
        let model = directory.join("model.safetensors");
        synthetic::write(&model, options.mib << 20, options.seed)?;
        run(Command::new("sync").arg(&model))?;
        let dense = fs::metadata(&model)?.len();
        let (copy, mut fastest) = (directory.join("copy"), f64::INFINITY);
        // The speed of a disk varies more than that of a program.
        for _ in 0..COPIES {
            let begin = Instant::now();
            run(Command::new("cp").args([&model, &copy]))?;
            run(Command::new("sync").arg(&copy))?;
            fastest = fastest.min(begin.elapsed().as_secs_f64());
            fs::remove_file(&copy)?;
        }
        let copy_speed = speed(dense, fastest);
        Ok(Self { lab, program, directory, model, dense, copy: copy_speed })
    }

    fn row(&self, recipe: &str, threads: usize) -> Result<Vec<String>> {
        let (packed, dense) = (self.directory.join("packed.nw.safetensors"), self.directory.join("dense.safetensors"));
        let jobs = threads.to_string();
        let step = |command: &str, from: &Path, to: &Path, more: &[&str]| {
            let mut step = Command::new(&self.program);
            run(step.arg(command).arg(from).arg("-o").arg(to).args(["-j", &jobs]).args(more))
        };
        let compress = step("compress", &self.model, &packed, &["--recipe", recipe])?;
        let size = fs::metadata(&packed)?.len();
        let decompress = step("decompress", &packed, &dense, &[])?;
        fs::remove_file(packed)?;
        fs::remove_file(dense)?;
        let codec = self.codec(recipe, threads)?;
        let mut row = vec![format!("`{recipe}`"), jobs, format!("{:.3}", size as f64 / self.dense as f64)];
        row.extend(self.cells(&compress, Some(codec)));
        row.extend(self.cells(&decompress, None));
        Ok(row)
    }

    /// Speed, its ratios to `cp` and to the codec's, and memory.
    fn cells(&self, taken: &Taken, codec: Option<f64>) -> Vec<String> {
        let speed = speed(self.dense, taken.seconds);
        let mut cells = vec![format!("{speed:.0}"), format!("{:.2}", speed / self.copy)];
        cells.extend(codec.map(|codec| format!("{:.2}", speed / codec)));
        cells.push(taken.peak.map_or_else(|| "?".to_owned(), |peak| (peak >> 20).to_string()));
        cells
    }

    /// Speed of the recipe's codec for matrices without files, in MB/s of dense bytes.
    fn codec(&self, recipe: &str, threads: usize) -> Result<f64> {
        let rules = Recipe::load(recipe)?;
        let spec = rules.rules.first().map_or(&rules.default, |rule| &rule.codec);
        let codec = self.lab.registry.parse_spec(spec)?;
        let model = Checkpoint::open(&self.model)?;
        let view = model.tensor(CHUNK)?;
        let encode = || -> Result<()> {
            for _ in 0..3 {
                let cx = EncodeCx::for_tensor(0, CHUNK);
                black_box(EncodedTensor::encode(Arc::clone(&codec), view.clone(), &cx)?);
            }
            Ok(())
        };
        encode()?;
        let begin = Instant::now();
        std::thread::scope(|scope| {
            let runs: Vec<_> = (0..threads).map(|_| scope.spawn(encode)).collect();
            runs.into_iter().try_for_each(|run| run.join().unwrap_or_else(|_| bail!("a thread panicked")))
        })?;
        let bytes = 3 * threads as u64 * view.bytes().len() as u64;
        Ok(speed(bytes, begin.elapsed().as_secs_f64()))
    }
}

/// MB/s.
fn speed(bytes: u64, seconds: f64) -> f64 {
    bytes as f64 / 1e6 / seconds
}
