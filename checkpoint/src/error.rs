//! Why a checkpoint, or a tensor of it, could not be read.

use std::io;
use std::path::{Path, PathBuf};

use codec_api::CodecError;

/// Why a checkpoint, or a tensor of it, could not be read. Each message names the file and the remedy.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is nothing at the path.
    #[error("`{path}` does not exist; give a .safetensors file or a model directory")]
    NotFound {
        /// The path as given.
        path: PathBuf,
    },
    /// The operating system refused.
    #[error("cannot read `{path}`: {error}; check that the file may be read and that the disk is well")]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What the operating system says.
        error: io::Error,
    },
    /// The path is a device, a pipe, or a directory where a file should be.
    #[error("`{path}` is no regular file, so it cannot be mapped; give a .safetensors file")]
    NotAFile {
        /// What is no file.
        path: PathBuf,
    },
    /// A directory without a model.
    #[error(
        "`{dir}` holds no model: neither `{index}`, nor `{model}`, nor another .safetensors file is in it; \
         give the directory that has them (other formats are not read: convert them to safetensors)",
        index = crate::source::INDEX,
        model = crate::source::MODEL
    )]
    NoModel {
        /// The directory.
        dir: PathBuf,
    },
    /// A directory with several files and nothing that says which belong together.
    #[error(
        "`{dir}` holds {count} .safetensors files ({names}), but neither `{index}` nor `{model}`; \
         open one of the files by its own path, or add the index",
        index = crate::source::INDEX,
        model = crate::source::MODEL
    )]
    Ambiguous {
        /// The directory.
        dir: PathBuf,
        /// How many there are.
        count: usize,
        /// The first of them.
        names: String,
    },
    /// A file in another format.
    #[error("`{path}` is {format}, and only safetensors is read; {remedy}")]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What it is, by its first bytes.
        format: &'static str,
        /// What to do.
        remedy: &'static str,
    },
    /// A safetensors file that contradicts itself or the format.
    #[error("`{path}` is not a readable safetensors file: {reason}; fetch it or write it again")]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong, with which tensor.
        reason: String,
    },
    /// A tensor whose dtype and shape this program does not handle.
    #[error("`{path}`, tensor `{tensor}`: {error}")]
    Tensor {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// Why not.
        error: CodecError,
    },
    /// An index that cannot be read.
    #[error("the index `{path}` cannot be used: {reason}; fetch it again, or open a shard by its own path")]
    Index {
        /// The index.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A shard that the index names is not there.
    #[error("the index `{index}` names the shard `{shard}`, which does not exist; fetch that file too")]
    MissingShard {
        /// The index.
        index: PathBuf,
        /// The shard's path.
        shard: PathBuf,
    },
    /// A tensor that the index promises is not in its shard.
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
    /// A tensor that two shards have.
    #[error("tensor `{tensor}` is both in `{first}` and in `{second}`; remove the shard that does not belong here")]
    DuplicateTensor {
        /// One shard.
        first: PathBuf,
        /// The other.
        second: PathBuf,
        /// The tensor.
        tensor: String,
    },
    /// The checkpoint has no tensor of the name that was asked for.
    #[error("`{path}` has no tensor `{tensor}`; `netweight info` lists the {count} that it has")]
    UnknownTensor {
        /// The path as it was opened.
        path: PathBuf,
        /// The name as given.
        tensor: String,
        /// How many tensors there are.
        count: usize,
    },
}

impl Error {
    /// The error for `path` after a refusal by the operating system.
    pub(crate) fn io(path: &Path, error: io::Error) -> Self {
        let path = path.to_owned();
        if error.kind() == io::ErrorKind::NotFound { Self::NotFound { path } } else { Self::Io { path, error } }
    }
}
