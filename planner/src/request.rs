//! Requests: their text, their lengths, and what they ask for.

use std::path::Path;

use serde::Deserialize;

use crate::class::{Class, Classes};
use crate::error::{Error, Result, not_negative, positive, share};
use crate::profile::Lengths;
use crate::route::Need;

/// The number of tokens of a text, or why there is none.
pub type TokenCount<'a> = dyn Fn(&str) -> Result<u64, String> + 'a;

/// A request: a line of a file of JSON lines, with these keys. Either `prompt` or `prompt_tokens`
/// is needed.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// The text.
    pub prompt: Option<String>,
    /// The number of its tokens, if the text is not at hand.
    pub prompt_tokens: Option<u64>,
    /// The most tokens that the output may have.
    pub max_tokens: u64,
    /// Tokens before the prompt, such as those of a conversation.
    #[serde(default)]
    pub context: u64,
    /// Tokens that the output had, for a request of the past.
    pub output_tokens: Option<u64>,
    /// The quality that it needs, in place of that of its class.
    pub quality: Option<f64>,
    /// The most p99 in ms.
    pub max_p99_ms: Option<f64>,
    /// When it arrived, in seconds.
    pub arrival_s: Option<f64>,
}

impl Request {
    /// Reads a file.
    ///
    /// # Errors
    /// [`Error::File`] if it cannot be read or has no request, [`Error::Line`] for a line that is
    /// no request.
    pub fn read(path: &Path) -> Result<Vec<Self>> {
        let text = std::fs::read_to_string(path).map_err(|error| Error::io(path, &error))?;
        let mut requests = Vec::new();
        for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            let fail = |reason: String| Error::line(path, index + 1, reason);
            let request: Self = serde_json::from_str(line).map_err(|error| fail(error.to_string()))?;
            request.check().map_err(fail)?;
            requests.push(request);
        }
        if requests.is_empty() {
            return Err(Error::File { path: path.to_owned(), reason: "it has no request".to_owned() });
        }
        Ok(requests)
    }

    /// Whether the values can be right.
    ///
    /// # Errors
    /// The key, and what it has to be.
    pub fn check(&self) -> Result<(), String> {
        if self.prompt.is_some() == self.prompt_tokens.is_some() {
            return Err("either `prompt` or `prompt_tokens` is needed".to_owned());
        }
        self.quality.map_or(Ok(()), |quality| share("quality", quality))?;
        self.max_p99_ms.map_or(Ok(()), |limit| positive("max_p99_ms", limit))?;
        self.arrival_s.map_or(Ok(()), |time| not_negative("arrival_s", time))
    }

    /// Its predicted lengths: the tokens of context and prompt as the tokenizer counts them, and
    /// those of the output as earlier requests suggest.
    ///
    /// # Errors
    /// [`Error::Input`] if the tokenizer refuses the prompt.
    pub fn lengths(&self, count: &TokenCount<'_>, history: &History) -> Result<Lengths> {
        let prompt = match (&self.prompt, self.prompt_tokens) {
            (Some(text), _) => count(text).map_err(Error::Input)?,
            (None, tokens) => tokens.unwrap_or(0),
        };
        Ok(Lengths { prompt: prompt.saturating_add(self.context), output: history.predict(self.max_tokens) })
    }

    /// What it needs: its own quality, or that of the class of its predicted lengths.
    pub fn need(&self, lengths: Lengths, classes: &Classes) -> Need {
        let quality = self.quality.unwrap_or_else(|| classes.quality(Class::of(lengths)));
        Need { lengths, quality, p99_ms: self.max_p99_ms }
    }

    /// The class by the rule of words; `None` without the text.
    pub fn class_by_words(&self) -> Option<Class> {
        self.prompt.as_deref().map(|prompt| Class::by_words(prompt, self.max_tokens, self.context))
    }
}

/// What the outputs of earlier requests say about later ones: for each range of `max_tokens`
/// between powers of two, the share of it that nine of ten outputs kept.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// By the number of bits of `max_tokens`.
    shares: Vec<Option<f64>>,
}

/// The share of earlier outputs that are no longer than predicted.
const KEPT: f64 = 0.9;

/// Fewer outputs in a range say nothing.
const FEWEST: usize = 10;

impl History {
    /// Learns from the requests that say how long their output was.
    pub fn of(requests: &[Request]) -> Self {
        let mut ranges = vec![Vec::new(); 65];
        for request in requests {
            if let Some(tokens) = request.output_tokens.filter(|_| request.max_tokens > 0) {
                ranges[bits(request.max_tokens)].push(tokens as f64 / request.max_tokens as f64);
            }
        }
        let share = |mut shares: Vec<f64>| {
            let enough = shares.len() >= FEWEST;
            enough.then(|| crate::simulate::quantile(&mut shares, KEPT).min(1.0))
        };
        Self { shares: ranges.into_iter().map(share).collect() }
    }

    /// The predicted tokens of an output; without earlier requests of the range, `max_tokens`.
    pub fn predict(&self, max_tokens: u64) -> u64 {
        let share = self.shares.get(bits(max_tokens)).copied().flatten();
        share.map_or(max_tokens, |share| ((max_tokens as f64 * share).ceil() as u64).min(max_tokens))
    }
}

fn bits(n: u64) -> usize {
    (u64::BITS - n.leading_zeros()) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outputs_are_predicted_from_earlier_ones() {
        let past = |max_tokens, output_tokens| Request {
            max_tokens,
            output_tokens: Some(output_tokens),
            ..Request::default()
        };
        // Between 64 and 127, outputs of 10 %, 20 %, …, 100 %; above, too few to tell.
        let requests: Vec<_> = (1..=10).map(|tenth| past(100, 10 * tenth)).chain([past(200, 3)]).collect();
        let history = History::of(&requests);
        assert_eq!([64, 100, 127].map(|n| history.predict(n)), [58, 90, 115]);
        assert_eq!([0, 63, 128, 200, u64::MAX].map(|n| history.predict(n)), [0, 63, 128, 200, u64::MAX]);
        assert_eq!(History::default().predict(100), 100);
    }

    #[test]
    fn files_and_their_errors() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("requests.jsonl");
        let good = r#"{"prompt": "What is 2+2?", "max_tokens": 10, "context": 7}"#;
        std::fs::write(&path, format!("{good}\n")).unwrap();
        let request = &Request::read(&path).unwrap()[0];
        let count = |text: &str| Ok(text.len() as u64);
        let lengths = request.lengths(&count, &History::default()).unwrap();
        assert_eq!(lengths, Lengths { prompt: 19, output: 10 });
        assert_eq!(request.need(lengths, &Classes::default()).quality, 0.85);
        assert_eq!(request.class_by_words(), Some(Class::Simple));
        let refuse = |_: &str| Err("no token".to_owned());
        assert!(request.lengths(&refuse, &History::default()).unwrap_err().to_string().contains("no token"));
        for (bad, says) in [
            (r#"{"max_tokens": 10}"#, "either `prompt` or `prompt_tokens`"),
            (r#"{"prompt": "a"}"#, "missing field `max_tokens`"),
            (r#"{"prompt": "a", "max_tokens": -1}"#, "invalid value"),
            (r#"{"prompt": "a", "max_tokens": 1, "quality": 1.5}"#, "`quality` is 1.5"),
            (r#"{"prompt": "a", "max_tokens": 1, "max_p99_ms": 0}"#, "`max_p99_ms` is 0"),
            (r#"{"prompt": "a", "max_tokens": 1, "max_p99": 1}"#, "unknown field `max_p99`"),
        ] {
            std::fs::write(&path, format!("{good}\n{bad}\n")).unwrap();
            let text = Request::read(&path).unwrap_err().to_string();
            assert!(text.contains("requests.jsonl`, line 2: ") && text.contains(says), "{text}");
        }
        std::fs::write(&path, "\n").unwrap();
        assert!(Request::read(&path).unwrap_err().to_string().contains("no request"));
    }
}
