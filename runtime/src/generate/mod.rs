//! Continues a text token by token.

mod sampler;
mod stops;

use std::time::{Duration, Instant};

pub use sampler::{Sampler, Sampling};
pub use stops::Stops;

use crate::decoder::Session;
use crate::error::{Error, Result};
use crate::tokenizer::Tokenizer;

/// The result of [`generate`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Generation {
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// Time until the first token.
    pub prompt_time: Duration,
    /// New tokens.
    pub tokens: usize,
    /// Time of the tokens after the first.
    pub time: Duration,
    /// Why it ended: `end of text`, `number of tokens`, `stop string`, `context` or `the caller`.
    pub ended_by: &'static str,
}

/// Continues the text of `prompt` by at most `most` tokens. `write` gets the new text piece by
/// piece, and says whether to go on; text that may be the beginning of a stop string waits until it
/// is clear.
///
/// # Errors
/// [`Error::Usage`] for a prompt without tokens, or one that leaves no room in the context; those
/// of [`Session::feed`] and of the tokenizer.
pub fn generate(
    session: &mut Session<'_>,
    tokenizer: &Tokenizer,
    prompt: &[u32],
    most: usize,
    (sampler, mut stops): (&mut Sampler, Stops),
    mut write: impl FnMut(&str) -> bool,
) -> Result<Generation> {
    let config = session.config();
    let (context, ends) = (config.context, config.end.clone());
    if prompt.len() >= context {
        let reason = format!("the prompt has {} tokens, and the model's context is {context}", prompt.len());
        return Err(Error::Usage(format!("{reason} tokens; a shorter prompt is needed")));
    }
    let mut stream = tokenizer.stream();
    for id in prompt {
        sampler.note(*id);
        stream.push(*id)?;
    }
    let begin = Instant::now();
    let mut next = session.feed(prompt, |logits| sampler.choose(logits))?;
    let (prompt_time, begin, mut tokens) = (begin.elapsed(), Instant::now(), 0);
    let ended_by = loop {
        if ends.contains(&next) {
            break "end of text";
        }
        if tokens == most {
            break "number of tokens";
        }
        tokens += 1;
        sampler.note(next);
        let (text, stopped) = stops.push(&stream.push(next)?);
        if !write(&text) {
            break "the caller";
        }
        if stopped {
            break "stop string";
        }
        if session.position() == context {
            break "context";
        }
        if tokens < most {
            next = session.feed(&[next], |logits| sampler.choose(logits))?;
        }
    };
    write(&stops.rest());
    Ok(Generation { prompt_tokens: prompt.len(), prompt_time, tokens, time: begin.elapsed(), ended_by })
}
