//! What `speed` prints.

use std::io::Write;

use anyhow::Result;
use harness::matrix::Machine;
use runtime::Speed;
use serde::Serialize;

use super::{Args, Form};
use crate::text::{self, Align, count, size};

/// What was measured.
pub(super) struct Subject<'a> {
    /// The shape or the model.
    pub(super) name: &'a str,
    /// Whether the weights are random.
    pub(super) random: bool,
    pub(super) args: &'a Args,
    /// Bytes per second of reading memory.
    pub(super) bandwidth: f64,
}

/// The figures of a form, as a line of JSON.
#[derive(Debug, Serialize)]
struct Figures<'a> {
    shape: &'a str,
    random_weights: bool,
    recipe: &'a str,
    tokens_per_s: f64,
    prefill_tokens_per_s: f64,
    /// Share of the speed of reading memory that reading the weights reaches.
    bandwidth_share: f64,
    resident_bytes: u64,
    /// Bytes of weights that a token reads.
    token_bytes: u64,
    rss_bytes: Option<u64>,
    read_bytes_per_s: f64,
    prompt: usize,
    tokens: usize,
    rounds: u64,
    threads: usize,
    simd: String,
}

impl Subject<'_> {
    /// Prints a table, or lines of JSON.
    pub(super) fn print(&self, forms: &[Form], out: &mut dyn Write) -> Result<()> {
        let figures: Vec<_> = forms.iter().map(|form| self.figures(form)).collect();
        if self.args.json {
            for figures in &figures {
                writeln!(out, "{}", serde_json::to_string(figures)?)?;
            }
            return Ok(());
        }
        let Args { prompt, tokens, rounds, running, .. } = self.args;
        let (shown, random) = (text::printable(self.name), if self.random { ", random weights" } else { "" });
        let threads = count(running.threads(), "thread");
        let read = self.bandwidth / 1e9;
        writeln!(out, "`{shown}`{random}: {threads}, {}; memory is read at {read:.1} GB/s", Machine::this().simd)?;
        let rounds = count(usize::try_from(*rounds)?, "round");
        writeln!(out, "a prompt of {prompt} tokens, then {tokens} one by one; medians of {rounds}")?;
        write!(out, "{}", table(&figures))?;
        Ok(writeln!(out)?)
    }

    fn figures<'a>(&'a self, form: &'a Form) -> Figures<'a> {
        let of = |part: fn(&Speed) -> f64| median(form.speeds.iter().map(part).collect());
        let (decode, token_bytes) = (of(|speed| speed.decode), form.decoder.token_bytes());
        Figures {
            shape: self.name,
            random_weights: self.random,
            recipe: &form.recipe,
            tokens_per_s: decode,
            prefill_tokens_per_s: of(|speed| speed.prefill),
            bandwidth_share: token_bytes as f64 * decode / self.bandwidth,
            resident_bytes: form.decoder.resident_bytes(),
            token_bytes,
            rss_bytes: form.rss,
            read_bytes_per_s: self.bandwidth,
            prompt: self.args.prompt,
            tokens: self.args.tokens,
            rounds: self.args.rounds,
            threads: form.decoder.threads(),
            simd: Machine::this().simd,
        }
    }
}

/// Speeds and bytes, also relative to the first form.
fn table(figures: &[Figures<'_>]) -> String {
    let columns = [
        ("recipe", Align::Left),
        ("weights", Align::Right),
        ("%", Align::Right),
        ("memory", Align::Right),
        ("tokens/s", Align::Right),
        ("×", Align::Right),
        ("of read", Align::Right),
        ("prefill\ntokens/s", Align::Right),
        ("×", Align::Right),
    ];
    let times = |value: f64, first: f64| format!("{:.2}", value / first);
    let rows = figures.iter().map(|form| {
        let first = &figures[0];
        [
            form.recipe.to_owned(),
            size(form.resident_bytes),
            format!("{:.1}", 100.0 * form.resident_bytes as f64 / first.resident_bytes as f64),
            form.rss_bytes.map_or_else(String::new, size),
            format!("{:.1}", form.tokens_per_s),
            times(form.tokens_per_s, first.tokens_per_s),
            format!("{:.0} %", 100.0 * form.bandwidth_share),
            format!("{:.0}", form.prefill_tokens_per_s),
            times(form.prefill_tokens_per_s, first.prefill_tokens_per_s),
        ]
    });
    text::table(&columns, rows, text::width())
}

/// The median; of two values, the mean.
pub(super) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => f64::NAN,
        len if len.is_multiple_of(2) => f64::midpoint(values[middle - 1], values[middle]),
        _ => values[middle],
    }
}
