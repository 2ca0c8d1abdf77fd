//! One safetensors file.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::Path;

use bytes::Bytes;
use codec_api::{FormatError, TensorSpec, read_safetensors_header};

use crate::error::Error;
use crate::foreign;
use crate::map::{Mapped, map};

/// One tensor and where it is stored.
pub(crate) struct Tensor {
    pub(crate) name: String,
    pub(crate) spec: TensorSpec,
    /// A slice of the file's map.
    pub(crate) data: Bytes,
    /// Index of its file in the list of the checkpoint.
    pub(crate) file: usize,
}

/// The contents of a file: its tensors in the order of their data, and its metadata strings.
pub(crate) struct Shard {
    pub(crate) mapped: Mapped,
    pub(crate) tensors: Vec<Tensor>,
    pub(crate) metadata: BTreeMap<String, String>,
}

impl Shard {
    /// Maps the file `path`, whose index in the checkpoint's list is `file`, and reads its header.
    pub(crate) fn read(path: &Path, file: usize) -> Result<Self, Error> {
        let (bytes, mapped) = open_mapped(path)?;
        let (header, start) = read_safetensors_header(&bytes).map_err(|e| refused(path, &bytes, e))?;
        let mut tensors = Vec::new();
        for name in header.offset_keys() {
            let Some(info) = header.info(&name) else { continue };
            let (begin, end) = info.data_offsets;
            let spec = TensorSpec::new(info.dtype, info.shape.as_slice()).map_err(|error| Error::Tensor {
                path: path.to_owned(),
                tensor: name.clone(),
                error,
            })?;
            tensors.push(Tensor { name, spec, data: bytes.slice(start + begin..start + end), file });
        }
        let metadata = header.metadata().iter().flatten().map(|(k, v)| (k.clone(), v.clone())).collect();
        Ok(Self { mapped, tensors, metadata })
    }
}

/// Opens a regular file. Another one is refused before, because opening a pipe would wait for its
/// writer.
pub(crate) fn open(path: &Path) -> Result<File, Error> {
    if !fs::metadata(path).map_err(|e| Error::io(path, e))?.is_file() {
        return Err(Error::NotAFile { path: path.to_owned() });
    }
    File::open(path).map_err(|e| Error::io(path, e))
}

/// Opens and maps a regular file.
pub(crate) fn open_mapped(path: &Path) -> Result<(Bytes, Mapped), Error> {
    map(&open(path)?, path).map_err(|e| Error::io(path, e))
}

/// The error for a file whose header was refused: another format, or what is wrong with the header.
pub(crate) fn refused(path: &Path, bytes: &[u8], error: FormatError) -> Error {
    foreign::recognise(path, bytes).unwrap_or_else(|| {
        let reason = match error {
            FormatError::Container(reason) => reason,
            other => other.to_string(),
        };
        Error::Invalid { path: path.to_owned(), reason }
    })
}
