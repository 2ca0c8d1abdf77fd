//! Text and tokens.

use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// The tokenizer of a model, from the file `tokenizer.json` beside its weights.
#[derive(Debug)]
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    path: PathBuf,
}

impl Tokenizer {
    /// Reads the tokenizer in a model's directory ([`crate::directory`]).
    ///
    /// # Errors
    /// [`Error::File`] if there is none, or it cannot be read.
    pub fn open(directory: &Path) -> Result<Self> {
        let path = directory.join("tokenizer.json");
        let text = std::fs::read(&path).map_err(|error| Error::beside(&path, &error))?;
        let fail = |error: tokenizers::Error| Error::file(&path, error.to_string());
        let mut inner = tokenizers::Tokenizer::from_bytes(text).map_err(fail)?;
        // Some files ask to cut texts off or to fill them up, which is meant for batches.
        inner.with_padding(None);
        inner.with_truncation(None).map_err(fail)?;
        Ok(Self { inner, path })
    }

    fn fail(&self, error: &dyn std::fmt::Display) -> Error {
        Error::file(&self.path, error.to_string())
    }

    /// The tokens of a text, with the special tokens that the tokenizer puts around it.
    ///
    /// # Errors
    /// [`Error::File`] if the tokenizer has no token for a part of the text.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        self.tokens(text, true)
    }

    /// The tokens of a text that has its special tokens as text already
    /// ([`crate::ChatTemplate::render`]).
    ///
    /// # Errors
    /// As [`Self::encode`].
    pub fn encode_whole(&self, text: &str) -> Result<Vec<u32>> {
        self.tokens(text, false)
    }

    fn tokens(&self, text: &str, special: bool) -> Result<Vec<u32>> {
        let encoding = self.inner.encode_fast(text, special).map_err(|error| self.fail(&error))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// The text of tokens, without special tokens.
    ///
    /// # Errors
    /// [`Error::File`] if the tokens do not form a text.
    pub fn decode(&self, ids: &[u32]) -> Result<String> {
        self.inner.decode(ids, true).map_err(|error| self.fail(&error))
    }

    /// Text from tokens one by one.
    pub fn stream(&self) -> Stream<'_> {
        Stream { tokenizer: self, ids: Vec::new(), shown: 0 }
    }
}

/// The text of tokens that come one by one.
#[derive(Debug)]
pub struct Stream<'a> {
    tokenizer: &'a Tokenizer,
    /// Tokens since the last place where the text can be cut, and those of the piece before, which
    /// decide whether a space comes between.
    ids: Vec<u32>,
    /// Of these, the ones whose text is known.
    shown: usize,
}

impl Stream<'_> {
    /// The text that a token adds: empty as long as a character is not complete.
    ///
    /// # Errors
    /// As [`Tokenizer::decode`].
    pub fn push(&mut self, id: u32) -> Result<String> {
        self.ids.push(id);
        let (before, now) = (self.tokenizer.decode(&self.ids[..self.shown])?, self.tokenizer.decode(&self.ids)?);
        if now.ends_with('\u{fffd}') || now.len() <= before.len() {
            return Ok(String::new());
        }
        let added = now.get(before.len()..).unwrap_or_default().to_owned();
        self.ids.drain(..self.shown);
        self.shown = self.ids.len();
        Ok(added)
    }
}
