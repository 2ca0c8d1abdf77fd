//! `cargo xtask calibrated`: packed language models with and without calibration.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use checkpoint::{Checkpoint, PACKED_EXTENSION};
use harness::models::{ModelRow, svg};
use serde_json::{Value, json};

use crate::lab::Lab;
use crate::measure::{Table, paragraph};
use crate::process::{Taken, run};
use crate::stamp::stamp;

/// The model and texts that are measured by default, below the root.
const MODEL: &str = "assets/stories260k";
const STORIES: &str = "assets/tinystories/eval.jsonl";

/// A file with more bits per weight has most matrices exactly: their rows are not whole blocks.
const REFUSED: f64 = 8.0;

/// Stories of [`STORIES`] to measure with; the others are for the calibration.
const MEASURED: usize = 60;

const INTRODUCTION: &str = "\
Each row is a file that `netweight compress` has written, and what `netweight eval --reference` says
about it. `bits/w` counts all bytes of the file for each weight of the model. `plain` rounds to the
weights; `calibrated` feeds errors forward, makes up for those of earlier layers, and chooses the
damping on held-out calibration text, and so do the recipes `gptq_…`; `imatrix` and the recipes
`awq_…` have no feedback. KL is the divergence of the predictions from those of the
dense model, in nats per token, on text that is not the calibration's. The formats `q4_k` and `q3_k`
are coded by our own encoder. `s` and `MiB` are time and peak memory of `compress`.";

/// Name, arguments of `compress`, and whether they need calibration.
const METHODS: [(&str, &[&str], bool); 26] = [
    ("int4 g128, nearest", &["--codec", "quant.int:bits=4:group=128"], false),
    ("int4 g128, clipped", &["--codec", "quant.int:preset=int4-clip"], false),
    ("int4 g128, calibrated", &["--codec", "quant.int:bits=4:group=128"], true),
    ("int3 g128, nearest", &["--codec", "quant.int:bits=3:group=128"], false),
    ("int3 g128, calibrated", &["--codec", "quant.int:bits=3:group=128"], true),
    ("q4_k", &["--codec", "quant.q4_k"], false),
    ("q4_k, calibrated", &["--codec", "quant.q4_k"], true),
    ("q3_k", &["--codec", "quant.q3_k"], false),
    ("q3_k, calibrated", &["--codec", "quant.q3_k"], true),
    ("nf4", &["--codec", "quant.nf4"], false),
    ("nf4, calibrated", &["--codec", "quant.nf4"], true),
    ("gptq_quality", &["--recipe", "gptq_quality"], true),
    ("gptq_balanced", &["--recipe", "gptq_balanced"], true),
    ("gptq_size", &["--recipe", "gptq_size"], true),
    ("q4_k, imatrix", &["--recipe", "imatrix:q4_k"], true),
    ("q4_0", &["--codec", "quant.q4_0"], false),
    ("q4_0, imatrix", &["--recipe", "imatrix:q4_0"], true),
    ("awq_quality", &["--recipe", "awq_quality"], true),
    ("awq_balanced", &["--recipe", "awq_balanced"], true),
    ("trellis 5, calibrated", &["--target-bpw", "5"], true),
    ("trellis 4, plain", &["--recipe", "trellis-4bit"], false),
    ("trellis 4, calibrated", &["--target-bpw", "4"], true),
    ("trellis 3, plain", &["--recipe", "trellis-3bit"], false),
    ("trellis 3, calibrated", &["--target-bpw", "3"], true),
    ("trellis 2, plain", &["--recipe", "trellis-2bit"], false),
    ("trellis 2, calibrated", &["--target-bpw", "2"], true),
];

#[derive(Debug, clap::Args)]
pub struct Options {
    /// A model directory; the one in `assets/` if left out
    #[arg(long, requires_all = ["calibrate", "evaluate"])]
    model: Option<PathBuf>,
    /// Text to calibrate with
    #[arg(long, value_name = "FILE", requires = "model")]
    calibrate: Option<PathBuf>,
    /// Text to measure with
    #[arg(long, value_name = "FILE", requires = "model")]
    evaluate: Option<PathBuf>,
    /// Only the first N windows of it
    #[arg(long, value_name = "N")]
    windows: Option<usize>,
    /// Most tokens of the calibration
    #[arg(long, value_name = "N", default_value_t = 65_536)]
    tokens: usize,
    /// Only methods whose name contains this
    #[arg(long, value_name = "PART", default_value = "")]
    only: String,
    /// A picture of KL divergence by bits per weight
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
}

/// Measures, and returns the page.
pub fn page(lab: &Lab, options: &Options) -> Result<String> {
    let directory = tempfile::tempdir().context("cannot make a directory for the files")?;
    let measure = Measure::new(lab, directory.path(), options)?;
    let statistics = measure.calibrate(options.tokens)?;
    let mut table = Table::new(["Method", "bits/w", "Bytes", "Perplexity", "KL", "top-1", "s", "MiB"]);
    let (mut rows, mut refused) = (Vec::new(), Vec::new());
    for (name, arguments, calibrated) in METHODS.iter().filter(|(name, ..)| name.contains(&options.only)) {
        let (row, taken) = measure.row(name, arguments, *calibrated)?;
        if row.bits_per_weight > REFUSED {
            refused.push(*name);
            continue;
        }
        table.row([
            row.recipe.clone(),
            format!("{:.3}", row.bits_per_weight),
            row.file_bytes.to_string(),
            format!("{:.3}", row.perplexity),
            row.kl.map_or_else(String::new, |kl| format!("{kl:.5}")),
            row.top1.map_or_else(String::new, |top1| format!("{:.2} %", 100.0 * top1)),
            format!("{:.1}", taken.seconds),
            taken.peak.map_or_else(|| "?".to_owned(), |bytes| (bytes >> 20).to_string()),
        ]);
        rows.push(row);
    }
    if let Some(path) = &options.svg {
        fs::write(path, svg(&rows)).with_context(|| format!("cannot write `{}`", path.display()))?;
    }
    let introduction = paragraph(&format!("{} {INTRODUCTION}", stamp(&lab.root, &options.command())));
    let dense = rows.first().map_or(f64::NAN, |row| row.perplexity - row.perplexity_change.unwrap_or(0.0));
    let model = format!(
        "`{}`: {} weights, dense perplexity {dense:.4}. The calibration ({} tokens at most, forward and \
         backward) took {:.1} s.",
        measure.name(),
        measure.weights,
        options.tokens,
        statistics.seconds
    );
    let mut page = format!("# Calibrated compression, measured\n\n{introduction}\n{}\n", paragraph(&model));
    page += table.text();
    if !refused.is_empty() {
        page.push('\n');
        page += &paragraph(&format!("Most rows are not whole blocks of: {}.", refused.join("; ")));
    }
    Ok(page)
}

impl Options {
    /// The command of these options.
    fn command(&self) -> String {
        let mut command = "calibrated".to_owned();
        let paths = [("model", &self.model), ("calibrate", &self.calibrate), ("evaluate", &self.evaluate)];
        for (option, path) in paths {
            command += &path.as_ref().map_or_else(String::new, |path| format!(" --{option} {}", path.display()));
        }
        command += &self.windows.map_or_else(String::new, |windows| format!(" --windows {windows}"));
        command + &format!(" --tokens {}", self.tokens)
    }
}

/// The model, the texts and the program.
struct Measure<'a> {
    program: PathBuf,
    directory: &'a Path,
    model: PathBuf,
    weights: u64,
    /// Text to calibrate with.
    calibration: PathBuf,
    /// Text to measure with.
    text: PathBuf,
    windows: Option<usize>,
}

impl<'a> Measure<'a> {
    fn new(lab: &Lab, directory: &'a Path, options: &Options) -> Result<Self> {
        let program = std::env::current_exe()?.with_file_name("netweight");
        if !program.exists() {
            bail!("`{}` does not exist; `cargo build --release` builds it", program.display());
        }
        let model = options.model.clone().unwrap_or_else(|| lab.root.join(MODEL));
        let (calibration, text) = match options.calibrate.clone().zip(options.evaluate.clone()) {
            Some(given) => given,
            None => stories(lab, directory)?,
        };
        let checkpoint = Checkpoint::open(&model)?;
        let sizes = checkpoint.names().map(|name| Ok(checkpoint.spec(name)?.elements() as u64));
        let weights = sizes.sum::<Result<u64>>()?;
        Ok(Self { program, directory, model, weights, calibration, text, windows: options.windows })
    }

    fn statistics(&self) -> PathBuf {
        self.directory.join("statistics.safetensors")
    }

    fn calibrate(&self, tokens: usize) -> Result<Taken> {
        let mut command = Command::new(&self.program);
        command.arg("calibrate").arg(&self.model).arg("--text").arg(&self.calibration);
        run(command.arg("-o").arg(self.statistics()).arg("--tokens").arg(tokens.to_string()))
    }

    /// Packs and evaluates the model.
    fn row(&self, name: &str, arguments: &[&str], calibrated: bool) -> Result<(ModelRow, Taken)> {
        let packed = self.directory.join("packed");
        let mut command = Command::new(&self.program);
        command.arg("compress").arg(&self.model).arg("-o").arg(&packed).arg("--force").args(arguments);
        if calibrated {
            command.arg("--calibration").arg(self.statistics());
        }
        let taken = run(&mut command)?;
        let bytes = fs::metadata(packed.join(format!("model{PACKED_EXTENSION}")))?.len();
        let Value::Object(mut row) = self.evaluate(&packed)? else {
            bail!("`netweight eval --json` prints something else than an object");
        };
        let more = json!({
            "model": self.name(), "recipe": name, "weights": self.weights, "bytes": bytes, "file_bytes": bytes,
            "bits_per_weight": 8.0 * bytes as f64 / self.weights as f64, "pack_seconds": taken.seconds, "seed": 0,
        });
        row.extend(more.as_object().cloned().unwrap_or_default());
        Ok((serde_json::from_value(row.into())?, taken))
    }

    /// The output of `netweight eval --json`.
    fn evaluate(&self, packed: &Path) -> Result<Value> {
        let mut command = Command::new(&self.program);
        command.arg("eval").arg(packed).arg("--text").arg(&self.text);
        command.arg("--reference").arg(&self.model).arg("--json");
        if let Some(windows) = self.windows {
            command.arg("--windows").arg(windows.to_string());
        }
        let output = command.output().with_context(|| format!("cannot start {command:?}"))?;
        if !output.status.success() {
            bail!("{command:?} failed: {}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(serde_json::from_slice(&output.stdout)?)
    }

    /// The name of the model's directory.
    fn name(&self) -> String {
        self.model.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
    }
}

/// Writes the stories for the calibration and those to measure with.
fn stories(lab: &Lab, directory: &Path) -> Result<(PathBuf, PathBuf)> {
    let text = fs::read_to_string(lab.root.join(STORIES)).with_context(|| format!("cannot read `{STORIES}`"))?;
    let lines: Vec<&str> = text.lines().collect();
    let (measured, others) = lines.split_at_checked(MEASURED).context("too few stories")?;
    let (calibrate, evaluate) = (directory.join("calibrate.jsonl"), directory.join("evaluate.jsonl"));
    fs::write(&calibrate, others.join("\n"))?;
    fs::write(&evaluate, measured.join("\n"))?;
    Ok((calibrate, evaluate))
}
