//! Errors of reading and packing a checkpoint.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use codec_api::{CodecError, Progress};

/// Why a checkpoint, or a tensor of it, could not be read, packed or unpacked. Each message names
/// the file and says what to do.
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
    #[error("`{path}` is not a regular file; give a .safetensors file or a model directory")]
    NotAFile {
        /// The path.
        path: PathBuf,
    },
    /// The path is a link to a file that does not exist.
    #[error(
        "`{path}` is a link to `{target}`, which does not exist: the download was not finished, or the cache was \
         cleaned; download the file again"
    )]
    DanglingLink {
        /// The link.
        path: PathBuf,
        /// What the link says.
        target: PathBuf,
    },
    /// A directory without a model.
    #[error("`{dir}` holds no model: neither a .safetensors file nor the index of a sharded model is in it; {remedy}")]
    NoModel {
        /// The directory.
        dir: PathBuf,
        /// What to do.
        remedy: String,
    },
    /// A directory with several `.safetensors` files or indexes, none of which has a usual name.
    #[error(
        "`{dir}` holds {count} {what} ({names}), and none of them is the usual `{model}` or its index; \
         {remedy}",
        model = crate::layout::MODELS[0]
    )]
    Ambiguous {
        /// The directory.
        dir: PathBuf,
        /// What it holds: files or indexes.
        what: &'static str,
        /// Their number.
        count: usize,
        /// Names of the first few.
        names: String,
        /// What to do.
        remedy: &'static str,
    },
    /// A cache folder of the Hugging Face Hub without any snapshot.
    #[error("`{dir}` is a cache folder without a snapshot, so its files have no names; run `{remedy}`")]
    NoSnapshot {
        /// The folder of the repository.
        dir: PathBuf,
        /// The command that downloads it.
        remedy: String,
    },
    /// A cache folder of the Hugging Face Hub with several snapshots, none of which is that of
    /// `refs/main`.
    #[error("`{dir}` has {count} snapshots ({names}), and refs/main names none of them; open one by its own path")]
    Snapshots {
        /// The directory of the snapshots.
        dir: PathBuf,
        /// Their number.
        count: usize,
        /// Names of the first few.
        names: String,
    },
    /// A file became shorter while it was in use.
    #[error(
        "`{path}` has {now} bytes, but {before} when it was opened: another program has cut it off; \
         open it again when it is complete, and write a new file instead of changing one that is in use"
    )]
    Shortened {
        /// The file.
        path: PathBuf,
        /// Its length in bytes when it was opened.
        before: u64,
        /// Its length in bytes now.
        now: u64,
    },
    /// A file in another format.
    #[error("`{path}` is {format}, which this program does not read; {remedy}")]
    Foreign {
        /// The file.
        path: PathBuf,
        /// The format, recognised by the first bytes, and the first line of a text.
        format: String,
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
    /// Shards that the index lists do not exist.
    #[error(
        "{count} of the {total} shards that the index `{index}` names cannot be found: {names}; \
         download what is missing"
    )]
    MissingShards {
        /// The index.
        index: PathBuf,
        /// Number of shards.
        total: usize,
        /// Number of missing ones.
        count: usize,
        /// Names of the first missing ones.
        names: String,
    },
    /// A packed model in several files, of which some are missing or cut off.
    #[error(
        "{count} of the {total} shards of the packed model `{path}` are not whole: {names}; fetch them again, \
         or pack the model again"
    )]
    Incomplete {
        /// The index, or the first shard if there is none.
        path: PathBuf,
        /// Number of shards.
        total: usize,
        /// Number of those that are not whole.
        count: usize,
        /// Names of the first of them, and what they lack.
        names: String,
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
    /// A file or directory that cannot be written.
    #[error("cannot write `{path}`: {error}; check the folder, its permissions and the space on the disk")]
    Write {
        /// The file or directory.
        path: PathBuf,
        /// The error of the operating system.
        error: io::Error,
    },
    /// A packed model whose manifest cannot be read or contradicts the file.
    #[error("`{path}` is not a readable packed model: {reason}; fetch it or write it again")]
    Manifest {
        /// The packed file.
        path: PathBuf,
        /// What is wrong, and the tensor concerned.
        reason: String,
    },
    /// A part of a packed model that does not have the stored checksum.
    #[error("`{path}`, {part}: {reason}; the file is damaged: fetch it again, or pack the model again")]
    Damaged {
        /// The packed file.
        path: PathBuf,
        /// Tensor, chunk and section.
        part: String,
        /// The checksums, or the error of the codec.
        reason: String,
    },
    /// A quality level that a packed model does not have, or not in the bytes that are there.
    #[error("`{path}`: {reason}")]
    Level {
        /// The packed file.
        path: PathBuf,
        /// The tensor concerned, the level and the bytes.
        reason: String,
    },
    /// Rows of a tensor that cannot be encoded or decoded.
    #[error("`{path}`, {part}: {error}")]
    Chunk {
        /// The file.
        path: PathBuf,
        /// Tensor and rows.
        part: String,
        /// The reason.
        error: Box<CodecError>,
    },
    /// The base of a packed model is missing, or another one was given.
    #[error(
        "`{path}` is packed relative to {base}, in which tensor {tensor}; {reason}; \
         give that base with `--base`"
    )]
    Base {
        /// The packed file.
        path: PathBuf,
        /// Name of the base and where it was.
        base: String,
        /// The tensor of the base, and its hash.
        tensor: String,
        /// What was found instead.
        reason: String,
    },
    /// A tensor that cannot be computed of what the file of its expression names.
    #[error("`{path}`, {part}: {reason}")]
    Computed {
        /// The file with the expressions.
        path: PathBuf,
        /// The tensor.
        part: String,
        /// The reason, the file and the tensor that it concerns, and what to do.
        reason: String,
    },
    /// A file of expressions that cannot be opened; the message of the crate that opens it names
    /// the file and what to do.
    #[error("{0}")]
    Unopened(String),
    /// A packed model that is not what its source makes it.
    #[error("`{path}`, {part}: {reason}")]
    Differs {
        /// The packed file, or a file beside it.
        path: PathBuf,
        /// Tensor, chunk or file.
        part: String,
        /// How it differs from the source.
        reason: String,
    },
    /// The configuration of an adapter that cannot be read.
    #[error("cannot read `{path}`: {reason}")]
    AdapterFile {
        /// The file.
        path: PathBuf,
        /// The reason and the remedy.
        reason: String,
    },
    /// A key of an adapter's configuration that is missing, wrong or not supported.
    #[error("`{path}`, key `{key}`: {reason}")]
    Adapter {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
        /// The reason.
        reason: String,
    },
    /// A recipe that cannot be read or applied.
    #[error("recipe `{name}`: {reason}")]
    Recipe {
        /// The file or the built-in name, or the codec or the pattern concerned.
        name: String,
        /// What is wrong.
        reason: String,
    },
    /// A source or a target that cannot be used.
    #[error("cannot pack or unpack `{path}`: {reason}")]
    Unfit {
        /// The source or the target.
        path: PathBuf,
        /// The reason and the remedy.
        reason: String,
    },
    /// The caller cancelled the work ([`codec_api::Progress::cancel`]).
    #[error("cancelled")]
    Cancelled,
    /// A plan that cannot be read or run.
    #[error("the plan `{path}` cannot be used: {reason}")]
    Plan {
        /// The file of the plan.
        path: PathBuf,
        /// The reason and the remedy.
        reason: String,
    },
    /// A source file that is not as it was when it was planned.
    #[error(
        "`{path}` is not the file that the plan was made for: its {what}; make the plan again, and do not change a \
         model while it is packed"
    )]
    Changed {
        /// The source file.
        path: PathBuf,
        /// What has changed.
        what: String,
    },
}

impl Error {
    /// The error for `path` from an error of the operating system.
    pub(crate) fn io(path: &Path, error: io::Error) -> Self {
        let path = path.to_owned();
        if error.kind() != io::ErrorKind::NotFound {
            return Self::Io { path, error };
        }
        match fs::read_link(&path) {
            Ok(target) => Self::DanglingLink { path, target },
            Err(_) => Self::NotFound { path },
        }
    }

    pub(crate) fn write(path: &Path, error: io::Error) -> Self {
        Self::Write { path: path.to_owned(), error }
    }

    /// `base` was given as the base of `path`, which has none.
    pub(crate) fn no_base(base: &Path, path: &Path) -> Self {
        Self::unfit(base, format!("`{}` is not packed relative to a base, so it needs none", path.display()))
    }

    /// The recipe for `path` has a method, but no statistics.
    pub(crate) fn uncalibrated(path: &Path) -> Self {
        let model = path.display();
        Self::unfit(
            path,
            format!(
                "the recipe needs statistics of the model; `netweight calibrate {model} --text TEXT -o \
                 statistics.safetensors` makes them, for `netweight compress {model} --calibration \
                 statistics.safetensors`"
            ),
        )
    }

    /// An error if the work is cancelled.
    pub(crate) fn check(progress: &dyn Progress) -> Result<(), Self> {
        progress.cancel().check().map_err(|_| Self::Cancelled)
    }

    pub(crate) fn recipe(name: &str, reason: String) -> Self {
        Self::Recipe { name: name.to_owned(), reason }
    }

    pub(crate) fn unfit(path: &Path, reason: impl Into<String>) -> Self {
        Self::Unfit { path: path.to_owned(), reason: reason.into() }
    }
}
