//! What was measured of one variant of a model on one machine.

use serde::{Deserialize, Serialize};

use crate::error::{not_negative, positive, share};

/// A measured variant: one line of a file of profiles, as a JSON object with these keys. Values
/// that were not measured are null.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// The model's path or name, for people.
    pub model: String,
    /// What was measured, where and how: a profile holds only for an equal key.
    pub key: Key,
    /// Bytes of the model's files.
    pub bytes_on_disk: u64,
    /// Bytes of the weights in memory.
    pub resident_bytes: Option<u64>,
    /// The most memory that the process had, in bytes.
    pub peak_rss_bytes: Option<u64>,
    /// Perplexity on the text of the key.
    pub perplexity: Option<Estimate>,
    /// Rise of the perplexity over that of the dense model, as a share of the latter.
    pub perplexity_change: Option<Estimate>,
    /// Mean KL divergence of the next token from the dense model, in nats.
    pub kl: Option<Estimate>,
    /// Share of tokens for which this variant and the dense model have the same most likely token.
    pub top1: Option<Estimate>,
    /// Tokens of a prompt per second.
    pub prefill_tokens_per_s: Option<f64>,
    /// Tokens of an output per second, of one sequence.
    pub decode_tokens_per_s: Option<f64>,
    /// Latencies of requests.
    pub latencies: Vec<Latency>,
    /// Time to load the model, in ms.
    pub load_ms: Option<f64>,
}

/// What decides whether a profile holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Key {
    /// Hash of the dense model's content.
    pub model_hash: String,
    /// The recipe or codec spec; `dense` for the model itself.
    pub recipe: String,
    /// The machine.
    pub machine: Machine,
    /// How it was measured.
    pub settings: Settings,
}

/// A machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Machine {
    /// The model of the CPU.
    pub cpu: String,
    /// Vector instructions that the kernels use.
    pub simd: String,
    /// Number of cores.
    pub cores: u32,
}

impl std::fmt::Display for Machine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}, {}, {} cores", self.cpu, self.simd, self.cores)
    }
}

/// How a profile was measured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Version of the program.
    pub version: String,
    /// Hash of the text; null without measures of quality.
    pub text_hash: Option<String>,
    /// Tokens of a window of the text.
    pub context: Option<u64>,
    /// Tokens between the beginnings of two windows.
    pub stride: Option<u64>,
    /// Only so many windows; null for all.
    pub windows: Option<u64>,
    /// Threads of the runtime.
    pub threads: u32,
    /// How weights are in memory: `packed` or `dense`.
    pub resident: String,
    /// Lengths of the timed requests.
    pub lengths: Vec<Lengths>,
    /// How many requests of each length were timed.
    pub runs: u64,
}

/// Tokens of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lengths {
    /// Tokens of the prompt.
    pub prompt: u64,
    /// Tokens of the output.
    pub output: u64,
}

impl Lengths {
    /// All tokens.
    pub fn total(self) -> u64 {
        self.prompt.saturating_add(self.output)
    }
}

/// A measured mean with its confidence interval of 95 % over windows.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Estimate {
    /// The mean.
    pub value: f64,
    /// The lower end of the interval.
    pub low: f64,
    /// The upper end of the interval.
    pub high: f64,
}

/// Latencies of requests of one length, in ms.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Latency {
    /// The lengths.
    pub lengths: Lengths,
    /// Half of the requests took at most so long.
    pub p50_ms: f64,
    /// 95 % of them.
    pub p95_ms: f64,
    /// 99 % of them.
    pub p99_ms: f64,
}

/// The requests of each length that decide p99, unless they take longer than so many ms.
const DECIDING: u64 = 300;
const DECIDING_MS: f64 = 60e3;

impl Profile {
    /// Whether all values can be right: numbers are finite, quantiles and intervals in order.
    ///
    /// # Errors
    /// The key with the value, and what it has to be.
    pub fn check(&self) -> Result<(), String> {
        let named =
            [("model", &self.model), ("key.model_hash", &self.key.model_hash), ("key.recipe", &self.key.recipe)];
        if let Some((key, _)) = named.iter().find(|(_, text)| text.is_empty()) {
            return Err(format!("`{key}` is empty"));
        }
        let estimates = [
            ("perplexity", self.perplexity),
            ("perplexity_change", self.perplexity_change),
            ("kl", self.kl),
            ("top1", self.top1),
        ];
        for (key, estimate) in estimates {
            estimate.map_or(Ok(()), |estimate| estimate.check(key))?;
        }
        self.perplexity.map_or(Ok(()), |estimate| positive("perplexity.value", estimate.value))?;
        self.top1.map_or(Ok(()), |estimate| share("top1.value", estimate.value))?;
        for (key, speed) in
            [("prefill_tokens_per_s", self.prefill_tokens_per_s), ("decode_tokens_per_s", self.decode_tokens_per_s)]
        {
            speed.map_or(Ok(()), |speed| positive(key, speed))?;
        }
        self.load_ms.map_or(Ok(()), |time| not_negative("load_ms", time))?;
        self.latencies.iter().try_for_each(Latency::check)
    }

    /// The time that a request of these lengths takes at the measured speeds of prompt and output,
    /// in ms; `None` without both speeds.
    pub fn mean_ms(&self, lengths: Lengths) -> Option<f64> {
        let (prefill, decode) = (self.prefill_tokens_per_s?, self.decode_tokens_per_s?);
        Some(1e3 * (lengths.prompt as f64 / prefill + lengths.output as f64 / decode))
    }

    /// The latency that 99 % of requests of these lengths keep, in ms; `None` if no latency or no
    /// speed was measured.
    ///
    /// Each measured length bounds it: its p99, and the time of the further tokens at the measured
    /// speeds, times the largest ratio of p99 to p50. The least of these bounds counts, but no less
    /// than the p99 of any measured length that is not longer. So the result never falls when a
    /// request gets longer.
    pub fn p99_ms(&self, lengths: Lengths) -> Option<f64> {
        let tail = self.latencies.iter().map(|latency| latency.p99_ms / latency.p50_ms).fold(1.0, f64::max);
        let (mut least, mut floor) = (None::<f64>, 0.0f64);
        for Latency { lengths: measured, p99_ms, .. } in &self.latencies {
            let further = Lengths {
                prompt: lengths.prompt.saturating_sub(measured.prompt),
                output: lengths.output.saturating_sub(measured.output),
            };
            let bound = p99_ms + tail * self.mean_ms(further)?;
            least = Some(least.map_or(bound, |least| least.min(bound)));
            if measured.prompt <= lengths.prompt && measured.output <= lengths.output {
                floor = floor.max(*p99_ms);
            }
        }
        Some(least?.max(floor))
    }

    /// This profile, with the values of an earlier one where it has none.
    pub(crate) fn or(&self, earlier: &Self) -> Self {
        let latencies = if self.latencies.is_empty() { &earlier.latencies } else { &self.latencies };
        Self {
            model: self.model.clone(),
            key: self.key.clone(),
            bytes_on_disk: self.bytes_on_disk,
            resident_bytes: self.resident_bytes.or(earlier.resident_bytes),
            peak_rss_bytes: self.peak_rss_bytes.or(earlier.peak_rss_bytes),
            perplexity: self.perplexity.or(earlier.perplexity),
            perplexity_change: self.perplexity_change.or(earlier.perplexity_change),
            kl: self.kl.or(earlier.kl),
            top1: self.top1.or(earlier.top1),
            prefill_tokens_per_s: self.prefill_tokens_per_s.or(earlier.prefill_tokens_per_s),
            decode_tokens_per_s: self.decode_tokens_per_s.or(earlier.decode_tokens_per_s),
            latencies: latencies.clone(),
            load_ms: self.load_ms.or(earlier.load_ms),
        }
    }

    /// How many requests of each length decide p99: as many as take a minute, at most 300, and no
    /// fewer than were timed.
    pub fn deciding_requests(&self) -> u64 {
        let of_each: f64 = self.latencies.iter().map(|latency| latency.p50_ms).sum();
        ((DECIDING_MS / of_each) as u64).min(DECIDING).max(self.key.settings.runs)
    }

    /// This profile, with times and memory of another one of the same variant that has more
    /// requests.
    #[must_use]
    pub fn with_requests_of(self, other: &Self) -> Self {
        let mut profile = other.or(&self);
        (profile.key, profile.peak_rss_bytes) = (self.key, self.peak_rss_bytes.max(other.peak_rss_bytes));
        profile.key.settings.runs = other.key.settings.runs;
        profile
    }

    /// The memory that it needs, in bytes: the measured peak, or the weights alone.
    pub fn memory(&self) -> Option<u64> {
        self.peak_rss_bytes.or(self.resident_bytes)
    }
}

impl Estimate {
    fn check(&self, key: &str) -> Result<(), String> {
        let Self { value, low, high } = *self;
        let finite = [value, low, high].iter().all(|number| number.is_finite());
        if finite && low <= value && value <= high {
            return Ok(());
        }
        Err(format!("`{key}` is {low} ≤ {value} ≤ {high}, which is no interval of finite numbers"))
    }
}

impl Latency {
    fn check(&self) -> Result<(), String> {
        let Self { lengths: Lengths { prompt, output }, p50_ms, p95_ms, p99_ms } = *self;
        positive("latencies.p50_ms", p50_ms)?;
        if p99_ms.is_finite() && p50_ms <= p95_ms && p95_ms <= p99_ms {
            return Ok(());
        }
        Err(format!(
            "`latencies` of {prompt} + {output} tokens: {p50_ms} ≤ {p95_ms} ≤ {p99_ms} ms has to hold for p50, p95, p99"
        ))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A profile with every value.
    pub(crate) fn profile(recipe: &str) -> Profile {
        let [short, long] = [(16, 16), (256, 64)].map(|(prompt, output)| Lengths { prompt, output });
        let estimate = |value| Some(Estimate { value, low: value * 0.9, high: value * 1.1 });
        Profile {
            model: "stories260k".to_owned(),
            key: Key {
                model_hash: "a1b2".to_owned(),
                recipe: recipe.to_owned(),
                machine: Machine { cpu: "Some CPU".to_owned(), simd: "avx2".to_owned(), cores: 4 },
                settings: Settings {
                    version: "0.1.0".to_owned(),
                    text_hash: Some("c3d4".to_owned()),
                    context: Some(512),
                    stride: Some(512),
                    windows: None,
                    threads: 2,
                    resident: "packed".to_owned(),
                    lengths: vec![short, long],
                    runs: 100,
                },
            },
            bytes_on_disk: 300_000,
            resident_bytes: Some(280_000),
            peak_rss_bytes: Some(9_000_000),
            perplexity: estimate(4.0),
            perplexity_change: estimate(0.01),
            kl: estimate(0.002),
            top1: Some(Estimate { value: 0.97, low: 0.96, high: 0.98 }),
            prefill_tokens_per_s: Some(8000.0),
            decode_tokens_per_s: Some(2000.0),
            latencies: vec![
                Latency { lengths: short, p50_ms: 11.0, p95_ms: 12.0, p99_ms: 22.0 },
                Latency { lengths: long, p50_ms: 65.0, p95_ms: 70.0, p99_ms: 90.0 },
            ],
            load_ms: Some(5.0),
        }
    }

    #[test]
    fn latency_of_other_lengths() {
        let profile = profile("int8");
        let p99 = |prompt, output| profile.p99_ms(Lengths { prompt, output }).unwrap();
        assert_eq!((p99(16, 16), p99(256, 64)), (22.0, 90.0));
        // 8 more outputs of 0.5 ms, with the tail of the short requests, which is 2.
        assert_eq!(p99(16, 24), 22.0 + 2.0 * 4.0);
        // Shorter than all measured ones: the least that is known.
        assert_eq!(p99(1, 1), 22.0);
        for (a, b) in [(0, 0), (16, 16), (100, 30), (256, 64), (300, 500)].windows(2).map(|w| (w[0], w[1])) {
            assert!(p99(a.0, a.1) <= p99(b.0, b.1));
        }
    }

    #[test]
    fn more_requests_are_those_of_a_minute() {
        let mut profile = profile("int8");
        // 76 ms for one of each length.
        assert_eq!((profile.key.settings.runs, profile.deciding_requests()), (100, 300));
        profile.latencies[1].p50_ms = 289.0;
        assert_eq!(profile.deciding_requests(), 200);
        profile.latencies[1].p50_ms = 5000.0;
        assert_eq!(profile.deciding_requests(), 100);
    }

    #[test]
    fn more_requests_replace_times_and_nothing_else() {
        let (full, mut more) = (profile("int8"), profile("int8"));
        (more.perplexity, more.perplexity_change, more.kl, more.top1) = (None, None, None, None);
        (more.key.settings.runs, more.key.settings.windows) = (300, Some(0));
        (more.decode_tokens_per_s, more.peak_rss_bytes) = (Some(1900.0), Some(8_000_000));
        more.latencies[0].p99_ms = 15.0;
        let both = full.clone().with_requests_of(&more);
        assert_eq!((&both.latencies, both.decode_tokens_per_s), (&more.latencies, Some(1900.0)));
        assert_eq!((both.kl, both.peak_rss_bytes), (full.kl, full.peak_rss_bytes));
        assert_eq!((both.key.settings.runs, both.key.settings.windows), (300, None));
    }

    #[test]
    fn wrong_values_are_named() {
        type Damage = fn(&mut Profile);
        let cases: [(&str, Damage); 7] = [
            ("`key.recipe` is empty", |p| p.key.recipe.clear()),
            ("`kl` is", |p| p.kl = Some(Estimate { value: 1.0, low: 2.0, high: 3.0 })),
            ("`top1` is", |p| p.top1 = Some(Estimate { value: f64::NAN, low: 0.0, high: 1.0 })),
            ("`top1.value` is 1.5", |p| p.top1 = Some(Estimate { value: 1.5, low: 1.0, high: 2.0 })),
            ("`decode_tokens_per_s` is 0", |p| p.decode_tokens_per_s = Some(0.0)),
            ("`load_ms` is -1", |p| p.load_ms = Some(-1.0)),
            ("`latencies` of 16 + 16 tokens", |p| p.latencies[0].p99_ms = 1.0),
        ];
        assert_eq!(profile("int8").check(), Ok(()));
        for (says, damage) in cases {
            let mut profile = profile("int8");
            damage(&mut profile);
            let reason = profile.check().unwrap_err();
            assert!(reason.contains(says), "{reason}");
        }
    }
}
