//! Stores versions of a model as packed files, and measures what that takes.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Result, ensure};
use checkpoint::{Packed, Recipe};
use codec_api::NoProgress;

use crate::lab::Lab;

/// A way to store several versions.
#[derive(Clone, Copy, Debug)]
pub struct Way {
    pub what: &'static str,
    /// Codec of every matrix; `None` stores all tensors exactly.
    pub codec: Option<&'static str>,
    /// Codec of the matrices of later versions, relative to the first; `None` stores every version
    /// alone.
    pub relative: Option<&'static str>,
}

/// What it took.
#[derive(Debug, Default)]
pub struct Stored {
    pub bytes: u64,
    /// Tensors that have a payload.
    pub tensors: usize,
    /// The largest relative error of a tensor.
    pub error: f64,
    pub seconds: f64,
}

/// Stores the files.
///
/// # Errors
/// If packing fails, or an exact way does not restore the files.
pub fn store(files: &[PathBuf], directory: &Path, way: Way, lab: &Lab) -> Result<Stored> {
    let mut stored = Stored::default();
    let mut first: Option<PathBuf> = None;
    for (number, file) in files.iter().enumerate() {
        let packed = directory.join(format!("{number}.nw.safetensors"));
        let base = first.as_slice();
        let (codec, bases) = match way.relative {
            Some(codec) if number > 0 => (Some(codec), base),
            _ => (way.codec, &[][..]),
        };
        let begin = Instant::now();
        lab.pack(file, &packed, bases, &recipe(codec, lab)?)?;
        stored.seconds += begin.elapsed().as_secs_f64();
        stored.add(&Packed::open(&packed, &lab.registry)?.with_bases(bases, &lab.registry)?, file)?;
        first.get_or_insert(packed);
    }
    for number in 0..files.len() {
        fs::remove_file(directory.join(format!("{number}.nw.safetensors")))?;
    }
    Ok(stored)
}

/// An exact codec for all tensors, or another one for the matrices.
fn recipe(codec: Option<&str>, lab: &Lab) -> Result<Recipe> {
    let mut recipe = Recipe::default();
    if let Some(codec) = codec {
        if lab.registry.parse_spec(codec)?.as_lossless().is_none() {
            return Ok(Recipe::for_matrices(codec));
        }
        codec.clone_into(&mut recipe.default);
    }
    Ok(recipe)
}

impl Stored {
    fn add(&mut self, packed: &Packed, file: &Path) -> Result<()> {
        self.bytes += packed.file_bytes();
        let own = packed.stored_tensors().filter(|tensor| !tensor.equals_base());
        self.tensors += own.count();
        let error = packed.tensors().map(|tensor| tensor.certificate().rel_frobenius()).fold(0.0, f64::max);
        self.error = self.error.max(error);
        if error == 0.0 {
            let back = packed.path().with_extension("back.safetensors");
            packed.unpack_single(&back, &NoProgress)?;
            ensure!(fs::read(&back)? == fs::read(file)?, "`{}` does not come back", file.display());
            fs::remove_file(back)?;
        }
        Ok(())
    }
}
