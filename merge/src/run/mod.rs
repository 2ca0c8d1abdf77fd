//! Runs a plan: writes the tensors of the output one after another, block by block.

pub(crate) mod companions;
mod compare;
mod tensor;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use checkpoint::{AtomicFile, Checkpoint, safetensors_header};
use codec_api::{Cancel, Progress};
use serde_json::{Value, json};

use crate::error::{Error, Result};
use crate::plan::{OutputTensor, Plan};

pub use compare::{Differing, differing};

/// The metadata key of a file that a merge has written.
pub(crate) const KEY: &str = "netweight.merge";
/// The folder of an unfinished merge has this file, with the hash of its plan.
const MARKER: &str = ".netweight-merge";

/// How a plan runs.
#[derive(Clone, Copy, Debug)]
pub struct RunOptions<'a> {
    /// About how much memory to use, in bytes.
    pub memory: u64,
    /// Most bytes of a file.
    pub max_shard_size: u64,
    /// Ends the work early.
    pub cancel: &'a Cancel,
    /// Gets the number of weights that are written.
    pub progress: &'a dyn Progress,
}

impl<'a> RunOptions<'a> {
    /// 512 MiB of memory, and files of 5 GB.
    pub fn new(cancel: &'a Cancel, progress: &'a dyn Progress) -> Self {
        Self { memory: 512 << 20, max_shard_size: 5_000_000_000, cancel, progress }
    }
}

/// What a run has written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Ran {
    /// Files of tensors.
    pub files: usize,
    /// Those among them that an earlier run had finished.
    pub kept: usize,
    /// Bytes of all tensors.
    pub bytes: u64,
}

/// Whether `out` has an unfinished merge by this plan, which [`run`] continues.
pub fn is_unfinished(plan: &Plan, out: &Path) -> bool {
    std::fs::read_to_string(out.join(MARKER)).is_ok_and(|hash| hash == plan.hash())
}

/// Writes the model into a directory, on rayon's current pool: its tensors, the configuration, and
/// the donor's other files. Files appear under their names when they are whole, and those that an
/// interrupted run of the same plan has finished are kept.
///
/// # Errors
/// Those of the inputs; [`Error::Tensor`] for values that are not finite; those of the files;
/// cancellation.
#[tracing::instrument(level = "debug", skip_all, fields(out = %out.display()))]
pub fn run(plan: &Plan, out: &Path, options: &RunOptions<'_>) -> Result<Ran> {
    let hash = plan.hash();
    std::fs::create_dir_all(out).map_err(|e| Error::file(out, e.to_string()))?;
    companions::check(plan, out)?;
    remove_temporary(out)?;
    write_whole(&out.join(MARKER), hash.as_bytes())?;
    let shards = shards(&plan.tensors, options.max_shard_size);
    let mut ran = Ran { files: shards.len(), kept: 0, bytes: plan.size().1 };
    let mut index = serde_json::Map::new();
    for (number, tensors) in shards.iter().enumerate() {
        let name = shard_name(number, shards.len());
        let path = out.join(&name);
        let hash = format!("{hash}:{number}/{}", shards.len());
        if is_finished(&path, &hash) {
            ran.kept += 1;
            options.progress.tick(tensors.iter().map(|tensor| tensor.spec.elements() as u64).sum());
        } else {
            write_shard(plan, tensors, &path, &hash, options)?;
        }
        index.extend(tensors.iter().map(|tensor| (tensor.name.clone(), Value::from(&*name))));
    }
    if shards.len() > 1 {
        let index = json!({"metadata": {"total_size": ran.bytes}, "weight_map": index});
        write_json(&out.join("model.safetensors.index.json"), &index)?;
    }
    companions::write(plan, out)?;
    let marker = out.join(MARKER);
    std::fs::remove_file(&marker).map_err(|e| Error::file(&marker, e.to_string()))?;
    Ok(ran)
}

/// Removes what an interrupted run has left of an unfinished file.
fn remove_temporary(out: &Path) -> Result<()> {
    let fail = |e: std::io::Error| Error::file(out, e.to_string());
    for entry in std::fs::read_dir(out).map_err(fail)? {
        let name = entry.map_err(fail)?.file_name().to_string_lossy().into_owned();
        if checkpoint::is_temporary(&name) && name.starts_with(".model") {
            std::fs::remove_file(out.join(name)).map_err(fail)?;
        }
    }
    Ok(())
}

/// The tensors of each file.
fn shards(tensors: &[OutputTensor], limit: u64) -> Vec<&[OutputTensor]> {
    let (mut shards, mut first, mut bytes) = (Vec::new(), 0, 0);
    for (i, tensor) in tensors.iter().enumerate() {
        let own = tensor.spec.byte_len() as u64;
        if i > first && bytes + own > limit {
            shards.push(&tensors[first..i]);
            (first, bytes) = (i, 0);
        }
        bytes += own;
    }
    shards.push(&tensors[first..]);
    shards
}

fn shard_name(number: usize, count: usize) -> String {
    if count == 1 {
        "model.safetensors".to_owned()
    } else {
        format!("model-{:05}-of-{count:05}.safetensors", number + 1)
    }
}

/// Whether a merge with this hash has written the file.
pub(crate) fn is_finished(path: &Path, hash: &str) -> bool {
    path.is_file() && Checkpoint::open(path).is_ok_and(|file| file.metadata().get(KEY).is_some_and(|own| own == hash))
}

pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut file = AtomicFile::create(path)?;
    file.write(bytes)?;
    Ok(file.commit()?)
}

fn write_json(path: &Path, value: &Value) -> Result<()> {
    let text = serde_json::to_string_pretty(value).map_err(|e| Error::file(path, e.to_string()))?;
    write_whole(path, (text + "\n").as_bytes())
}

/// Computes the tensors of a file on this thread and rayon's; another thread writes them.
fn write_shard(plan: &Plan, tensors: &[OutputTensor], path: &Path, hash: &str, options: &RunOptions<'_>) -> Result<()> {
    let metadata = BTreeMap::from([("format", "pt"), (KEY, hash)]);
    let head = safetensors_header(tensors.iter().map(|tensor| (&*tensor.name, &tensor.spec)), &metadata);
    let mut file = AtomicFile::create(path)?;
    file.write(&head.map_err(|reason| Error::file(path, reason))?)?;
    let (sender, receiver) = sync_channel(1);
    let (back, empty) = sync_channel(4);
    thread::scope(|scope| {
        let writer = scope.spawn(move || write_pieces(file, &receiver, &back));
        let pieces = Pieces { sender, empty };
        let computed = tensors.iter().try_for_each(|tensor| tensor::compute(plan, tensor, options, &pieces));
        let complete = computed.is_ok();
        // The writer ends when there is no sender any more.
        drop(pieces);
        let file = writer.join().unwrap_or_else(|_| Err(Error::file(PathBuf::from(path), "the writing thread ended")));
        match (computed, file) {
            (Ok(()), Ok(file)) if complete => Ok(file.commit()?),
            (Ok(()), Ok(_)) => Ok(()),
            (_, Err(error)) | (Err(error), Ok(_)) => Err(error),
        }
    })
}

/// Bytes on their way to the file, and buffers that come back.
pub(crate) struct Pieces {
    sender: SyncSender<Vec<u8>>,
    empty: Receiver<Vec<u8>>,
}

impl Pieces {
    /// A buffer of this length; its bytes are those of an earlier use.
    pub(crate) fn buffer(&self, len: usize) -> Vec<u8> {
        let mut buffer = self.empty.try_recv().unwrap_or_default();
        buffer.resize(len, 0);
        buffer
    }

    /// Hands bytes to the writer.
    ///
    /// # Errors
    /// If the writer has failed; its own error says why.
    pub(crate) fn send(&self, bytes: Vec<u8>) -> Result<()> {
        self.sender.send(bytes).map_err(|_| Error::Method("the output cannot be written".to_owned()))
    }
}

fn write_pieces(mut file: AtomicFile, pieces: &Receiver<Vec<u8>>, back: &SyncSender<Vec<u8>>) -> Result<AtomicFile> {
    for bytes in pieces {
        file.write(&bytes)?;
        // Without room for it the buffer is dropped.
        drop(back.try_send(bytes));
    }
    Ok(file)
}
