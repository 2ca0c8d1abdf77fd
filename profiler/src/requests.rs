//! Times of requests.

use std::path::Path;
use std::time::Instant;

use checkpoint::Model;
use codec_api::Registry;
use harness::matrix::peak_rss;
use planner::{Latency, Lengths, quantile};
use runtime::{Decoder, Options, measure};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// Requests to a model, one after the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requests {
    /// Tokens of prompt and output of each kind of request.
    pub lengths: Vec<Lengths>,
    /// How many of each kind are timed.
    pub runs: u64,
}

/// What [`Requests::time`] found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Timing {
    /// Time to open the model, in ms.
    pub load_ms: f64,
    /// Bytes of the weights in memory.
    pub resident_bytes: u64,
    /// The most memory that this process had so far, in bytes.
    pub peak_rss_bytes: Option<u64>,
    /// Tokens of prompts per second: all of them, divided by the time of all.
    pub prefill_tokens_per_s: f64,
    /// Tokens of outputs per second, of one sequence.
    pub decode_tokens_per_s: f64,
    /// The latencies, in the order of the lengths.
    pub latencies: Vec<Latency>,
}

impl Requests {
    /// Requests of these lengths.
    ///
    /// # Errors
    /// [`Error::Input`] without lengths or runs, and for a request without prompt or output.
    pub fn new(lengths: Vec<Lengths>, runs: u64) -> Result<Self> {
        if lengths.is_empty() || runs == 0 {
            return Err(Error::Input("at least one request has to be timed".to_owned()));
        }
        if lengths.iter().any(|lengths| lengths.prompt == 0 || lengths.output == 0) {
            let reason = "a timed request has at least one token of prompt and one of output";
            return Err(Error::Input(reason.to_owned()));
        }
        Ok(Self { lengths, runs })
    }

    /// Loads a model, answers a request of each kind that is not timed, and then times the
    /// requests, one of each kind in turn. Prompts and outputs are arbitrary tokens, and nothing is
    /// sampled.
    ///
    /// # Errors
    /// For a model that cannot be read or run, and requests longer than its context.
    pub fn time(&self, path: &Path, options: Options, registry: &Registry) -> Result<Timing> {
        let begin = Instant::now();
        let decoder = Decoder::open(&Model::open(path, &[], registry)?, options)?;
        let load_ms = 1e3 * begin.elapsed().as_secs_f64();
        let mut times: Vec<Vec<f64>> = vec![Vec::new(); self.lengths.len()];
        let (mut prefill, mut decode) = ((0.0, 0.0), (0.0, 0.0));
        for run in 0..=self.runs {
            for (times, lengths) in times.iter_mut().zip(&self.lengths) {
                let [prompt, output] = seconds(&decoder, *lengths)?;
                // The first request reads the weights from the file.
                if run > 0 {
                    times.push(1e3 * (prompt + output));
                    prefill = (prefill.0 + lengths.prompt as f64, prefill.1 + prompt);
                    decode = (decode.0 + lengths.output as f64, decode.1 + output);
                }
            }
        }
        Ok(Timing {
            load_ms,
            resident_bytes: decoder.resident_bytes(),
            peak_rss_bytes: peak_rss("self"),
            prefill_tokens_per_s: prefill.0 / prefill.1,
            decode_tokens_per_s: decode.0 / decode.1,
            latencies: self.lengths.iter().zip(times).map(|(lengths, times)| latency(*lengths, times)).collect(),
        })
    }
}

/// The time of the prompt and that of the output of a request.
fn seconds(decoder: &Decoder, lengths: Lengths) -> Result<[f64; 2]> {
    let tokens = |count: u64| usize::try_from(count).unwrap_or(usize::MAX);
    let (prompt, output) = (tokens(lengths.prompt), tokens(lengths.output));
    let context = decoder.config().context;
    if prompt.saturating_add(output) > context {
        let Lengths { prompt, output } = lengths;
        let reason = format!("a request of {prompt} + {output} tokens does not fit the context of {context} tokens");
        return Err(Error::Input(format!("{reason}; time shorter ones")));
    }
    let speed = measure(decoder, runtime::Lengths { prompt, tokens: output })?;
    Ok([prompt as f64 / speed.prefill, output as f64 / speed.decode])
}

fn latency(lengths: Lengths, mut times: Vec<f64>) -> Latency {
    let [p50_ms, p95_ms, p99_ms] = [0.5, 0.95, 0.99].map(|share| quantile(&mut times, share));
    Latency { lengths, p50_ms, p95_ms, p99_ms }
}
