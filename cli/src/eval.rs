//! `netweight eval MODEL`: perplexity of a text, and the difference from a reference model.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use codec_api::Registry;
use harness::matrix::{Machine, peak_rss};
use runtime::{Decoder, Evaluation, Text, Tokenizer, directory, evaluate};
use serde::Serialize;

use crate::running::{Memory, Running, WindowOptions, read_text, texts};
use crate::{Outcome, console, text};

/// Measure how well a language model predicts a text
///
/// Prints the perplexity, e to the power of the mean negative log-likelihood (NLL) of the predicted
/// tokens. With --reference, both models run side by side, and the difference between their
/// predictions is printed. The model may be dense or packed; config.json and tokenizer.json are
/// beside it, as in Hugging Face layout.
#[derive(Debug, clap::Args)]
#[command(after_long_help = HELP)]
pub struct Args {
    /// A model directory, a .safetensors file or a packed model
    pub model: PathBuf,
    /// Files with text; --help describes .jsonl files
    #[arg(long, value_name = "FILE", num_args = 1.., required_unless_present = "ids")]
    pub text: Vec<PathBuf>,
    /// A file with a JSON list of tokens, in place of --text
    #[arg(long, value_name = "FILE.json", conflicts_with = "text")]
    pub ids: Option<PathBuf>,
    #[command(flatten)]
    pub windows: WindowOptions,
    /// The model to compare with, usually the dense one; it has no adapter
    #[arg(long, value_name = "MODEL")]
    pub reference: Option<PathBuf>,
    #[command(flatten)]
    pub running: Running,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

const HELP: &str = "\
Texts:
  A text is encoded with the model's tokenizer, with the special tokens that it
  adds, such as one at the beginning. It is cut into windows of --context
  tokens, which begin every --stride tokens. Each token is predicted once, from
  the tokens before it in the first window that has it. A token that begins a
  window without overlap is not predicted.
  Every --text file is a text of its own. In a file *.jsonl, every line is a
  JSON object whose key `text` has a text; only its first window counts, because
  a window in the middle of a short text would lack the special tokens.

Figures:
  bits/byte is the NLL per token in bits, times tokens per byte of all texts.
  KL divergence is that of the model's distribution from the reference's, in
  nats per token. Top-1 agreement is the share of tokens for which both models
  have the same most likely token.

Examples:
  netweight eval my-model --text book.txt
  netweight eval packed --text book.txt --reference my-model
  netweight eval my-model --text book.txt --context 512 --stride 256";

/// The result as JSON.
#[derive(Debug, Serialize)]
struct Report {
    model: String,
    text: String,
    context: usize,
    stride: usize,
    tokens: u64,
    nll: f64,
    perplexity: f64,
    bits_per_byte: Option<f64>,
    kl: Option<f64>,
    top1: Option<f64>,
    tokens_per_s: f64,
    resident_bytes: u64,
    peak_rss_bytes: Option<u64>,
    threads: usize,
    simd: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    memory: Option<Memory>,
    #[serde(flatten)]
    reference: Option<Reference>,
}

/// What the comparison with a reference adds.
#[derive(Debug, Serialize)]
struct Reference {
    #[serde(rename = "reference")]
    path: String,
    #[serde(rename = "reference_perplexity")]
    perplexity: f64,
    perplexity_change: f64,
    perplexity_change_error: f64,
    kl_median: f64,
    kl_99: f64,
    kl_999: f64,
}

/// Evaluates the model.
///
/// # Errors
/// For models and texts that cannot be read or do not fit together.
pub fn run(args: &Args, registry: &Registry, out: &mut dyn Write) -> Result<Outcome> {
    let (model, decoder) = args.running.open(&args.model, registry)?;
    let reference = args.reference.as_deref().map(|path| args.running.open_other(path, registry)).transpose()?;
    let texts = match &args.ids {
        Some(file) => vec![Text { ids: read_ids(file)?, bytes: None, first_window: false }],
        None => texts(&args.text, &Tokenizer::open(directory(&model))?)?,
    };
    let protocol = args.windows.protocol();
    let bar = console::bar(protocol.work(&decoder, &texts)?);
    let found = evaluate(&decoder, reference.as_ref(), &texts, protocol, |tokens| {
        bar.inc(tokens);
        Ok(())
    });
    console::remove(&bar);
    let found = found?;
    let report = report(args, protocol.sizes(&decoder)?, &decoder, &found);
    if args.json {
        text::write_json(out, &report)?;
    } else {
        print(&report, out)?;
    }
    Ok(Outcome::Clean)
}

fn read_ids(file: &Path) -> Result<Vec<u32>> {
    let wanted = || format!("`{}` is not a JSON list of tokens", file.display());
    serde_json::from_str(&read_text(file)?).with_context(wanted)
}

fn report(args: &Args, (context, stride): (usize, usize), decoder: &Decoder, found: &Evaluation) -> Report {
    let shown = |path: &Path| path.display().to_string();
    let difference = found.difference.as_ref();
    let reference = difference.zip(args.reference.as_deref()).map(|(difference, path)| {
        let [kl_median, kl_99, kl_999] = difference.kl_quantiles;
        Reference {
            path: shown(path),
            perplexity: difference.reference_perplexity,
            perplexity_change: difference.perplexity_change,
            perplexity_change_error: difference.perplexity_change_error,
            kl_median,
            kl_99,
            kl_999,
        }
    });
    let files = args.text.iter().chain(&args.ids).map(|path| shown(path)).collect::<Vec<_>>();
    Report {
        model: shown(&args.model),
        text: files.join(", "),
        context,
        stride,
        tokens: found.tokens,
        nll: found.nll,
        perplexity: found.perplexity(),
        bits_per_byte: found.bits_per_byte,
        kl: difference.map(|difference| difference.kl),
        top1: difference.map(|difference| difference.top1),
        tokens_per_s: found.tokens_per_second(),
        resident_bytes: decoder.resident_bytes(),
        peak_rss_bytes: peak_rss("self"),
        threads: decoder.threads(),
        simd: Machine::this().simd,
        memory: Memory::of(decoder),
        reference,
    }
}

fn print(report: &Report, out: &mut dyn Write) -> Result<()> {
    let Report { context, stride, tokens, nll, perplexity, threads, simd, .. } = report;
    let (model, of) = (text::printable(&report.model), text::printable(&report.text));
    let bits = report.bits_per_byte.map_or_else(String::new, |bits| format!(", {bits:.4} bits/byte"));
    writeln!(out, "`{model}` on `{of}`: {tokens} tokens predicted, windows of {context}, stride {stride}")?;
    writeln!(out, "perplexity {perplexity:.4}: {:.5} nats/token{bits}", nll / *tokens as f64)?;
    if let (Some(reference), Some(kl), Some(top1)) = (&report.reference, report.kl, report.top1) {
        let Reference { kl_median, kl_99, kl_999, .. } = reference;
        let shown = text::printable(&reference.path);
        writeln!(
            out,
            "reference `{shown}`: perplexity {:.4}, change {:+.4} ± {:.4}",
            reference.perplexity, reference.perplexity_change, reference.perplexity_change_error
        )?;
        writeln!(out, "KL divergence: mean {kl:.3e}, median {kl_median:.3e}, 99 % {kl_99:.3e}, 99.9 % {kl_999:.3e}")?;
        writeln!(out, "top-1 agreement: {:.2} %", 100.0 * top1)?;
    }
    let peak = report.peak_rss_bytes.map_or_else(String::new, |bytes| format!(", peak memory {}", text::size(bytes)));
    let resident = text::size(report.resident_bytes);
    let speed = format!("{:.0} tokens/s, {}, {simd}", report.tokens_per_s, text::count(*threads, "thread"));
    writeln!(out, "{speed}; weights take {resident}{peak}")?;
    if let Some(memory) = &report.memory {
        writeln!(out, "{}", memory.line())?;
    }
    Ok(())
}
