//! Recognises other formats by their first bytes, so that the error message for a wrong file helps.

use std::path::Path;

use crate::error::Error;

const CONVERT: &str = "take the model's .safetensors files, or convert it with `safetensors.torch.save_file`";

/// First bytes, name of the format, what to do.
const BINARY: [(&[u8], &str, &str); 4] = [
    (b"GGUF", "a GGUF file", "take the .safetensors files of the model it was made from"),
    (b"PK\x03\x04", "a zip archive, as PyTorch (.bin, .pt) writes them", CONVERT),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file", CONVERT),
    (b"\x93NUMPY", "a NumPy file", CONVERT),
];

/// Beginning of a text, name of its format, what to do. Every text begins with the last.
const TEXT: [(&str, &str, &str); 4] = [
    (
        "version https://git-lfs",
        "a Git LFS pointer, not the file itself",
        "run `git lfs pull` in its repository, or download the file again",
    ),
    ("<", "HTML or XML text", "download the file again: this is the page that a failed download left"),
    (
        "{",
        "JSON text",
        "give the model's directory, its index or a .safetensors file; download a file of this name again",
    ),
    ("", "plain text", "download the file again: a failed download leaves such a text"),
];

/// Bytes that decide whether a file is text, and characters of it that a message quotes.
const READ: usize = 512;
const QUOTED: usize = 60;

/// The error for a file that is not valid safetensors; `None` if no other format is recognised.
pub(crate) fn recognise(path: &Path, bytes: &[u8]) -> Option<Error> {
    // A plausible header length and the first character of a header: damaged safetensors.
    if bytes.get(4..9) == Some(b"\0\0\0\0{") {
        return None;
    }
    let (format, remedy) = match bytes {
        [0x80, 2..=5, ..] => ("a Python pickle, as older PyTorch (.bin, .pt) writes them".to_owned(), CONVERT),
        _ => match BINARY.iter().find(|(magic, ..)| bytes.starts_with(magic)) {
            Some(&(_, format, remedy)) => (format.to_owned(), remedy),
            None => text_format(bytes)?,
        },
    };
    Some(Error::Foreign { path: path.to_owned(), format, remedy })
}

/// The format of a text with its first line, and what to do. A text is never damaged safetensors:
/// as a header length, its first eight characters would be more than the format allows.
fn text_format(bytes: &[u8]) -> Option<(String, &'static str)> {
    let text = beginning(bytes)?;
    let &(_, format, remedy) = TEXT.iter().find(|(start, ..)| text.starts_with(start))?;
    let line = text.lines().next()?;
    let quote: String = line.chars().take(QUOTED).collect();
    let more = if quote.len() < line.len() { "…" } else { "" };
    Some((format!("{format} (`{quote}{more}`)"), remedy))
}

/// The first bytes as text, without white space around; `None` if they are no text.
fn beginning(bytes: &[u8]) -> Option<&str> {
    let bytes = &bytes[..bytes.len().min(READ)];
    // One or two bytes may also be the rest of a header length.
    if bytes.len() < 3 {
        return None;
    }
    let text = match str::from_utf8(bytes) {
        Ok(text) => text,
        // The last character is cut off.
        Err(error) if error.error_len().is_none() => str::from_utf8(&bytes[..error.valid_up_to()]).ok()?,
        Err(_) => return None,
    };
    let is_text = text.chars().all(|c| !c.is_control() || matches!(c, '\t' | '\n' | '\r'));
    let text = text.trim_start_matches('\u{feff}').trim();
    (is_text && !text.is_empty()).then_some(text)
}
