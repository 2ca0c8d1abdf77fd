//! Errors of opening and reading a checkpoint.

use std::io;
use std::path::{Path, PathBuf};

use codec_api::CodecError;

/// Why a checkpoint, or a tensor of it, could not be read. Each message names the file and says
/// what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The path does not exist.
    #[error("`{path}` does not exist; give a .safetensors file or a model directory")]
    NotFound {
        /// The path as given.
        path: PathBuf,
    },
    /// The operating system reports an error.
    #[error("cannot read `{path}`: {error}; check the permissions of the file and the state of the disk")]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// The error of the operating system.
        error: io::Error,
    },
    /// The path is a device, a pipe, or a directory where a file should be.
    #[error("`{path}` is not a regular file, so it cannot be mapped; give a .safetensors file")]
    NotAFile {
        /// The path.
        path: PathBuf,
    },
    /// A directory without a model.
    #[error(
        "`{dir}` holds no model: neither `{index}`, nor `{model}`, nor another .safetensors file is in it; \
         give the directory that has them (other formats are not read: convert them to safetensors)",
        index = crate::layout::INDEX,
        model = crate::layout::MODEL
    )]
    NoModel {
        /// The directory.
        dir: PathBuf,
    },
    /// A directory with several `.safetensors` files, but without an index or `model.safetensors`.
    #[error(
        "`{dir}` holds {count} .safetensors files ({names}), but neither `{index}` nor `{model}`; \
         open one of the files by its own path, or add the index",
        index = crate::layout::INDEX,
        model = crate::layout::MODEL
    )]
    Ambiguous {
        /// The directory.
        dir: PathBuf,
        /// Number of `.safetensors` files.
        count: usize,
        /// Names of the first few.
        names: String,
    },
    /// A file in another format.
    #[error("`{path}` is {format}, and only safetensors is read; {remedy}")]
    Foreign {
        /// The file.
        path: PathBuf,
        /// The format, recognised by the first bytes.
        format: &'static str,
        /// What to do.
        remedy: &'static str,
    },
    /// A safetensors file with an invalid or inconsistent header.
    #[error("`{path}` is not a readable safetensors file: {reason}; fetch it or write it again")]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong, and the tensor concerned.
        reason: String,
    },
    /// A tensor whose dtype or shape this program does not support.
    #[error("`{path}`, tensor `{tensor}`: {error}")]
    Tensor {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// The reason.
        error: CodecError,
    },
    /// An index that cannot be read or used.
    #[error("the index `{path}` cannot be used: {reason}; fetch it again, or open a shard by its own path")]
    Index {
        /// The index.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A shard that the index lists does not exist.
    #[error("the index `{index}` names the shard `{shard}`, which does not exist; fetch that file too")]
    MissingShard {
        /// The index.
        index: PathBuf,
        /// The shard's path.
        shard: PathBuf,
    },
    /// A tensor that the index lists is not in its shard.
    #[error(
        "the index `{index}` places tensor `{tensor}` in `{shard}`, which has no such tensor; \
         fetch index and shards again, all of one version"
    )]
    MissingTensor {
        /// The index.
        index: PathBuf,
        /// The shard's path.
        shard: PathBuf,
        /// The tensor.
        tensor: String,
    },
    /// A tensor that the index does not list.
    #[error(
        "the shard `{shard}` has a tensor `{tensor}`, which the index `{index}` does not list; \
         fetch index and shards again, all of one version"
    )]
    UnlistedTensor {
        /// The index.
        index: PathBuf,
        /// The shard's path.
        shard: PathBuf,
        /// The tensor.
        tensor: String,
    },
    /// A tensor name that occurs in two shards.
    #[error("tensor `{tensor}` is both in `{first}` and in `{second}`; remove the shard that does not belong here")]
    DuplicateTensor {
        /// One shard.
        first: PathBuf,
        /// The other.
        second: PathBuf,
        /// The tensor.
        tensor: String,
    },
    /// The checkpoint has no tensor of the requested name.
    #[error("`{path}` has no tensor `{tensor}`; `netweight info` lists the {count} that it has")]
    UnknownTensor {
        /// The path as it was opened.
        path: PathBuf,
        /// The name as given.
        tensor: String,
        /// Number of tensors in the checkpoint.
        count: usize,
    },
}

impl Error {
    /// The error for `path` from an error of the operating system.
    pub(crate) fn io(path: &Path, error: io::Error) -> Self {
        let path = path.to_owned();
        if error.kind() == io::ErrorKind::NotFound { Self::NotFound { path } } else { Self::Io { path, error } }
    }
}
