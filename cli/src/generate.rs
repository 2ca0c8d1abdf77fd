//! `netweight generate MODEL --prompt TEXT`: continues a text.

use std::io::Write;
use std::path::PathBuf;

use anyhow::Result;
use codec_api::Registry;
use runtime::{CacheType, ChatTemplate, Generation, Sampler, Sampling, Stops, Tokenizer, directory, generate};

use crate::running::{Memory, Running, read_text};
use crate::{Outcome, console, text};

/// Continue a text with a language model
///
/// Prints the new text as it is written. Without --temperature, every token is the most likely one.
/// The model may be dense or packed; config.json and tokenizer.json are beside it, as in Hugging
/// Face layout.
#[derive(Debug, clap::Args)]
#[command(after_long_help = HELP)]
pub struct Args {
    /// A model directory, a .safetensors file or a packed model
    pub model: PathBuf,
    /// The text to continue
    #[arg(short, long, value_name = "TEXT", required_unless_present = "prompt_file")]
    pub prompt: Option<String>,
    /// A file with the text to continue
    #[arg(long, value_name = "FILE", conflicts_with = "prompt")]
    pub prompt_file: Option<PathBuf>,
    /// Answer the prompt as a message of a user, in the chat template of the model
    #[arg(long)]
    pub chat: bool,
    /// Most tokens to write
    #[arg(short = 'n', long, value_name = "N", default_value_t = 128)]
    pub tokens: usize,
    /// Divides the logits: higher values make unlikely tokens more likely; 0 for the most likely
    /// one
    #[arg(short, long, value_name = "T", default_value_t = 0.0, value_parser = not_negative)]
    pub temperature: f32,
    /// Choose among the K most likely tokens
    #[arg(long, value_name = "K", value_parser = clap::value_parser!(u32).range(1..))]
    pub top_k: Option<u32>,
    /// Choose among the most likely tokens that together have this probability
    #[arg(long, value_name = "P", value_parser = share)]
    pub top_p: Option<f32>,
    /// Choose among tokens with at least this probability, relative to the most likely one
    #[arg(long, value_name = "P", value_parser = share)]
    pub min_p: Option<f32>,
    /// Divides the logits of tokens that the text has already; 1 for no penalty
    #[arg(long, value_name = "X", default_value_t = 1.0, value_parser = positive)]
    pub repetition_penalty: f32,
    /// Seed of the random choice
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
    /// End the text before this string; may be given several times
    #[arg(long, value_name = "TEXT")]
    pub stop: Vec<String>,
    #[command(flatten)]
    pub running: Running,
    /// Print the text only, no speed
    #[arg(short, long)]
    pub quiet: bool,
}

const HELP: &str = "\
Examples:
  netweight generate my-model --prompt 'Once upon a time' --tokens 200
  netweight generate packed -p 'Dear Sir,' -t 0.8 --top-p 0.9 --seed 7
  netweight generate my-model -p $'Q: Why?\\nA:' --stop 'Q:'

Chat:
  --chat needs a model with a chat template, a file chat_template.jinja or the
  key `chat_template` in tokenizer_config.json beside the weights.

The same seed gives the same text on the same CPU with the same number of threads.";

fn number(text: &str, fits: fn(f32) -> bool, wanted: &str) -> Result<f32, String> {
    text.parse().ok().filter(|n: &f32| n.is_finite() && fits(*n)).ok_or_else(|| format!("{wanted} is wanted"))
}

fn not_negative(text: &str) -> Result<f32, String> {
    number(text, |n| n >= 0.0, "a number from 0")
}

fn positive(text: &str) -> Result<f32, String> {
    number(text, |n| n > 0.0, "a number above 0")
}

fn share(text: &str) -> Result<f32, String> {
    number(text, |n| (0.0..=1.0).contains(&n), "a number from 0 to 1")
}

/// Writes the text.
///
/// # Errors
/// For a model that cannot run, and a prompt that is too long.
pub fn run(args: &Args, registry: &Registry, out: &mut dyn Write) -> Result<Outcome> {
    let (model, decoder) = args.running.open(&args.model, registry)?;
    let tokenizer = Tokenizer::open(directory(&model))?;
    let prompt = match (&args.prompt, &args.prompt_file) {
        (Some(prompt), _) => prompt.clone(),
        (None, Some(file)) => read_text(file)?,
        (None, None) => String::new(),
    };
    let mut prompt = if args.chat {
        tokenizer.encode_whole(&ChatTemplate::open(directory(&model))?.render(&prompt)?)?
    } else {
        tokenizer.encode(&prompt)?
    };
    // A tokenizer without special tokens has none for an empty text; the model may.
    if prompt.is_empty() {
        prompt.extend(decoder.config().begin);
    }
    let sampling = Sampling {
        temperature: args.temperature,
        top_k: args.top_k.map(|k| k as usize),
        top_p: args.top_p,
        min_p: args.min_p,
        repetition_penalty: args.repetition_penalty,
        seed: args.seed,
    };
    let mut sampler = Sampler::new(sampling);
    let mut session = decoder.session(CacheType::F32);
    let stops = Stops::new(args.stop.iter().cloned());
    let mut written = Ok(());
    let done = generate(&mut session, &tokenizer, &prompt, args.tokens, (&mut sampler, stops), |text| {
        if written.is_ok() && !text.is_empty() {
            written = write!(out, "{text}").and_then(|()| out.flush());
        }
        written.is_ok()
    })?;
    written?;
    writeln!(out)?;
    if !args.quiet {
        console::line(&summary(&done, decoder.resident_bytes()));
        if let Some(memory) = Memory::of(&decoder) {
            console::line(&memory.line());
        }
    }
    Ok(Outcome::Clean)
}

fn summary(done: &Generation, resident: u64) -> String {
    let prompt = done.prompt_time.as_secs_f64();
    let speed = done.tokens.saturating_sub(1) as f64 / done.time.as_secs_f64().max(1e-9);
    format!(
        "{} of prompt in {:.0} ms; {} at {speed:.0} tokens/s, ended by {}; weights take {}",
        text::count(done.prompt_tokens, "token"),
        1e3 * prompt,
        text::count(done.tokens, "token"),
        done.ended_by,
        text::size(resident)
    )
}
