//! One part of the texts calibrates, the rest measures.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use checkpoint::Hash;
use clap::Parser;
use codec_api::Registry;

use crate::args::{self, Command};
use crate::profile::short;
use crate::running::read_text;
use crate::{calibrate, console};

/// One of so many parts of each text calibrates.
const PARTS: usize = 4;

/// Texts in files.
pub struct Parts {
    /// The files to calibrate with.
    calibration: Vec<PathBuf>,
    /// The files to measure with.
    pub evaluation: Vec<PathBuf>,
    /// Hash of the former.
    hash: Hash,
}

impl Parts {
    /// Divides each file, at the end of a line if there is one, into two files in a folder.
    ///
    /// # Errors
    /// For texts that cannot be read, and parts that cannot be written.
    pub fn write(files: &[PathBuf], folder: &Path) -> Result<Self> {
        let (mut calibration, mut evaluation, mut all) = (Vec::new(), Vec::new(), String::new());
        for (index, file) in files.iter().enumerate() {
            let text = read_text(file)?;
            let (first, rest) = text.split_at(cut(&text));
            all.push_str(first);
            let end = file.extension().map_or_else(|| "txt".into(), |end| end.to_string_lossy().into_owned());
            for (name, part, list) in [("calibration", first, &mut calibration), ("text", rest, &mut evaluation)] {
                let path = folder.join(format!("{name}-{index}.{end}"));
                fs::write(&path, part).with_context(|| format!("cannot write `{}`", path.display()))?;
                list.push(path);
            }
        }
        Ok(Self { calibration, evaluation, hash: Hash::of(all.as_bytes()) })
    }

    /// The statistics of a model on the parts for calibration, in a file in the folder; `None` if
    /// the model cannot be calibrated, or not with this text: a line on standard error says why.
    ///
    /// # Errors
    /// If the paths are no arguments of `calibrate`.
    pub fn statistics(
        &self,
        (model, hash): (&Path, &Hash),
        folder: &Path,
        threads: usize,
        registry: &Registry,
    ) -> Result<Option<PathBuf>> {
        let identity = format!("{} {hash} {}", self.hash, env!("CARGO_PKG_VERSION"));
        let file = folder.join(format!("statistics-{}.safetensors", short(Hash::of(identity.as_bytes()))));
        if file.exists() {
            return Ok(Some(file));
        }
        let words = ["netweight", "calibrate", "--quiet", "--jobs", &threads.to_string()].map(OsString::from);
        let paths = [model.into(), "-o".into(), file.clone().into(), "--text".into()];
        let texts = self.calibration.iter().map(|path| path.clone().into_os_string());
        let parsed = args::Args::try_parse_from(words.into_iter().chain(paths).chain(texts))?;
        let Command::Calibrate(args) = parsed.command else { bail!("these are no options of `calibrate`") };
        match calibrate::run(&args, registry, &mut std::io::sink()) {
            Ok(_) => Ok(Some(file)),
            Err(error) => {
                console::line(&format!("no candidates with calibration: {error}"));
                Ok(None)
            }
        }
    }
}

/// Where a text is cut: behind the line in which its first part ends, or the character if the rest
/// is one line.
fn cut(text: &str) -> usize {
    let at = (text.len() / PARTS..text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    let line = text[at..].find('\n').map(|end| at + end + 1);
    line.filter(|end| *end < text.len()).unwrap_or(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_cut_behind_a_line() {
        assert_eq!(cut("ab\ncd\nef\ngh\n"), 6);
        assert_eq!(cut("abcdefgh"), 2);
        assert_eq!(cut("ää"), 2);
        assert_eq!(cut("abcdefgh\n"), 2);
        assert_eq!(cut(""), 0);
    }
}
