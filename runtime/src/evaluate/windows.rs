//! Texts are predicted in windows of the model's context.

use crate::decoder::Decoder;
use crate::error::{Error, Result};

/// A text to predict.
#[derive(Clone, Debug)]
pub struct Text {
    /// Its tokens, special ones included.
    pub ids: Vec<u32>,
    /// Its length in bytes, if it is known.
    pub bytes: Option<u64>,
    /// Whether only its first window counts.
    pub first_window: bool,
}

/// How texts are cut into windows.
#[derive(Clone, Copy, Debug, Default)]
pub struct Protocol {
    /// Tokens of a window; by default the model's context.
    pub context: Option<usize>,
    /// Tokens from one window to the next; by default those of a window. With less, windows
    /// overlap, and each token is predicted once, in the first window that has it. A token that
    /// begins a window without overlap is not predicted, because nothing precedes it.
    pub stride: Option<usize>,
    /// Number of windows; by default all.
    pub windows: Option<usize>,
    /// Windows to leave out before them, which other processes evaluate.
    pub skip: usize,
}

/// Tokens that run together.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window<'a> {
    pub(super) ids: &'a [u32],
    /// The first token that is predicted.
    pub(super) first: usize,
}

impl Protocol {
    /// Tokens of a window, and from one window to the next, for this model.
    ///
    /// # Errors
    /// [`Error::Usage`] if they do not fit the model.
    pub fn sizes(&self, decoder: &Decoder) -> Result<(usize, usize)> {
        let most = decoder.config().context;
        let context = self.context.unwrap_or(most);
        let stride = self.stride.unwrap_or(context);
        if !(2..=most).contains(&context) {
            return Err(Error::Usage(format!("a window of {context} tokens; the model allows 2 to {most}")));
        }
        if !(1..=context).contains(&stride) {
            let reason = format!("a stride of {stride} tokens with windows of {context}");
            return Err(Error::Usage(format!("{reason}; it must be from 1 to the length of a window")));
        }
        Ok((context, stride))
    }

    /// The windows of the texts.
    ///
    /// # Errors
    /// As [`Self::sizes`]; [`Error::Usage`] if no text has two tokens.
    pub(super) fn windows<'a>(&self, decoder: &Decoder, texts: &'a [Text]) -> Result<Vec<Window<'a>>> {
        let (context, stride) = self.sizes(decoder)?;
        let most = self.windows.map_or(usize::MAX, |windows| windows.saturating_add(self.skip));
        let mut windows = Vec::new();
        for text in texts {
            let mut done = 0;
            for start in (0..text.ids.len()).step_by(stride) {
                let end = (start + context).min(text.ids.len());
                let first = (done - start.min(done)).max(1);
                if start + first < end && windows.len() < most {
                    windows.push(Window { ids: &text.ids[start..end], first });
                }
                done = end;
                if text.first_window || end == text.ids.len() {
                    break;
                }
            }
        }
        if windows.is_empty() {
            let longest = texts.iter().map(|text| text.ids.len()).max().unwrap_or(0);
            let reason = format!("the longest text has {longest} tokens");
            return Err(Error::Usage(format!("{reason}; at least two are needed to predict one from the other")));
        }
        if self.skip >= windows.len() {
            let (skip, count) = (self.skip, windows.len());
            return Err(Error::Usage(format!("{skip} windows are to be left out, and the texts have {count}")));
        }
        Ok(windows.split_off(self.skip))
    }

    /// Number of windows.
    ///
    /// # Errors
    /// As for [`super::evaluate`].
    pub fn count(&self, decoder: &Decoder, texts: &[Text]) -> Result<usize> {
        Ok(self.windows(decoder, texts)?.len())
    }

    /// Number of tokens that the windows have.
    ///
    /// # Errors
    /// As for [`super::evaluate`].
    pub fn work(&self, decoder: &Decoder, texts: &[Text]) -> Result<u64> {
        Ok(self.windows(decoder, texts)?.iter().map(|window| window.ids.len() as u64).sum())
    }
}

/// Tokens per byte, if the lengths of all texts are known.
pub(super) fn tokens_per_byte(texts: &[Text]) -> Option<f64> {
    let bytes = texts.iter().map(|text| text.bytes).sum::<Option<u64>>().filter(|bytes| *bytes > 0)?;
    let tokens: usize = texts.iter().map(|text| text.ids.len()).sum();
    Some(tokens as f64 / bytes as f64)
}
