//! Recognises other formats by their first bytes, so that the error message for a wrong file helps.

use std::path::Path;

use crate::error::Error;

const CONVERT: &str = "take the model's .safetensors files, or convert it with `safetensors.torch.save_file`";

/// First bytes, name of the format, what to do.
const FORMATS: [(&[u8], &str, &str); 7] = [
    (b"GGUF", "a GGUF file", "take the .safetensors files of the model it was made from"),
    (b"PK\x03\x04", "a zip archive, as PyTorch (.bin, .pt) writes them", CONVERT),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file", CONVERT),
    (b"\x93NUMPY", "a NumPy file", CONVERT),
    (b"version https://git-lfs", "a Git LFS pointer, not the model itself", "run `git lfs pull` in its repository"),
    (b"{", "JSON text", "give the model's directory, or one of its .safetensors files"),
    (b"<", "HTML or XML text", "give the model itself, not the page that a failed download left"),
];

/// The error for a file that is not valid safetensors; `None` if no other format is recognised.
pub(crate) fn recognise(path: &Path, bytes: &[u8]) -> Option<Error> {
    // A plausible header length and the first character of a header: damaged safetensors.
    if bytes.get(4..9) == Some(b"\0\0\0\0{") {
        return None;
    }
    let (format, remedy) = match bytes {
        [0x80, 2..=5, ..] => ("a Python pickle, as older PyTorch (.bin, .pt) writes them", CONVERT),
        _ => {
            FORMATS.iter().find(|(magic, ..)| bytes.starts_with(magic)).map(|&(_, format, remedy)| (format, remedy))?
        }
    };
    Some(Error::Foreign { path: path.to_owned(), format, remedy })
}
