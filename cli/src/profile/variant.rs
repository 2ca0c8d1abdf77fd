//! Variants of a model: how each is packed.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use checkpoint::{Checkpoint, Companions, Hash, Model, PACKED_EXTENSION, Plan, Recipe};
use clap::Parser;
use codec_api::Registry;

use crate::args::{self, Command};
use crate::bench::recipes::choose;
use crate::compress;
use crate::running::copy_beside;

/// More than the header and the manifest have for a tensor, in bytes.
const ENTRY: u64 = 1000;

/// A variant of a dense model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variant {
    /// What people call it.
    pub name: String,
    /// Options of `compress`; without any it is the dense model itself.
    options: Vec<OsString>,
    /// What else decides its bytes: the content of statistics or of a recipe file, the seed.
    of: Vec<String>,
}

/// Statistics for the recipes that need them.
#[derive(Debug)]
pub struct Statistics {
    file: PathBuf,
    /// The begin of the hash of its content.
    hash: String,
}

impl Statistics {
    /// Reads the hash of a file of `calibrate`.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn open(file: &Path) -> Result<Self> {
        Ok(Self { file: file.to_owned(), hash: short(Hash(Checkpoint::open(file)?.hash()?)) })
    }
}

impl Variant {
    /// The dense model itself.
    pub fn dense() -> Self {
        Self { name: profiler::DENSE.to_owned(), options: Vec::new(), of: Vec::new() }
    }

    /// With these options of `compress`, and statistics if they need them.
    pub fn new(name: &str, options: &[&str], statistics: Option<&Statistics>) -> Self {
        let mut options: Vec<OsString> = options.iter().map(Into::into).collect();
        let mut of = Vec::new();
        if let Some(Statistics { file, hash }) = statistics {
            options.extend(["--calibration".into(), file.into()]);
            of.push(format!("calibration {hash}"));
        }
        Self { name: name.to_owned(), options, of }
    }

    /// `dense`, a built-in recipe, a recipe file, or a codec spec for the matrices. A recipe that
    /// needs statistics has these.
    ///
    /// # Errors
    /// If it is none of them, or needs statistics and there are none.
    pub fn parse(text: &str, statistics: Option<&Statistics>, registry: &Registry) -> Result<Self> {
        if text == profiler::DENSE {
            return Ok(Self::dense());
        }
        let calibrated = choose::recipe(text, registry)?.method.is_some();
        if calibrated && statistics.is_none() {
            bail!("recipe `{text}` needs --calibration, a file that `netweight calibrate` writes");
        }
        let is_built_in = Recipe::built_in(text).is_some();
        let is_file = !is_built_in && Path::new(text).is_file();
        let option = if is_built_in || is_file { "--recipe" } else { "--codec" };
        let mut variant = Self::new(text, &[option, text], statistics.filter(|_| calibrated));
        if is_file {
            let content = fs::read(text).with_context(|| format!("cannot read `{text}`"))?;
            variant.of.insert(0, format!("content {}", short(Hash::of(&content))));
        }
        Ok(variant)
    }

    /// With a seed of codecs that use random numbers. The usual seed, 0, is no part of the recipe.
    #[must_use]
    pub fn with_seed(mut self, seed: u64) -> Self {
        if seed != 0 && !self.is_dense() {
            self.options.extend(["--seed".into(), seed.to_string().into()]);
            self.of.push(format!("seed {seed}"));
        }
        self
    }

    /// Whether it is the dense model itself.
    pub fn is_dense(&self) -> bool {
        self.options.is_empty()
    }

    /// The recipe of its profiles: two variants of a model with the same recipe are the same.
    pub fn recipe(&self) -> String {
        [std::slice::from_ref(&self.name), &self.of].concat().join(", ")
    }

    /// The least and the most that its files of weights take; `None` if the options name a target.
    ///
    /// # Errors
    /// If the model cannot be read, or the recipe does not fit it.
    pub fn bytes(&self, model: &Path, registry: &Registry) -> Result<Option<RangeInclusive<u64>>> {
        if self.is_dense() {
            let bytes = profiler::bytes_on_disk(&Model::open(model, &[], registry)?)?;
            return Ok(Some(bytes..=bytes));
        }
        let nowhere = PathBuf::from(format!("model{PACKED_EXTENSION}"));
        let options = &self.compress(model, &nowhere, 1)?.options;
        if options.target_bpw.is_some() {
            return Ok(None);
        }
        let mut recipe = options.recipe()?;
        // Sizes do not depend on what statistics do.
        recipe.method = None;
        let (plan, source) = (Plan::new(model, nowhere, &recipe, 0, registry)?, Checkpoint::open(model)?);
        let (mut least, mut most) = (0, 0);
        for (name, codec) in plan.codecs(registry)? {
            let cost = codec.cost(source.spec(name)?);
            least += cost.bytes.start();
            most += cost.bytes.end() + ENTRY;
        }
        // Scales of inputs, which awq adds, are few.
        Ok(Some(least..=most + most / 20))
    }

    /// Packs the model, or copies it if this is the dense model, into a new directory, which
    /// appears when it is complete.
    ///
    /// # Errors
    /// Those of `compress`, and if the directory cannot be written.
    pub fn write(&self, model: &Path, folder: &Path, threads: usize, registry: &Registry) -> Result<()> {
        let part = folder.with_extension("part");
        let failed = || format!("cannot write `{}`", folder.display());
        if self.is_dense() {
            copy(model, &part, registry).with_context(failed)?;
        } else {
            self.pack(model, &part, threads, registry)?;
        }
        fs::rename(&part, folder).with_context(failed)
    }

    fn pack(&self, model: &Path, folder: &Path, threads: usize, registry: &Registry) -> Result<()> {
        let args = self.compress(model, folder, threads)?;
        fs::create_dir_all(folder).with_context(|| format!("cannot make `{}`", folder.display()))?;
        compress::run(&args, registry, &mut std::io::sink())?;
        copy_beside(&Model::open(model, &[], registry)?, folder)
    }

    /// The arguments of `compress`.
    fn compress(&self, model: &Path, target: &Path, threads: usize) -> Result<Box<compress::Args>> {
        let threads = threads.to_string();
        let begin = ["netweight", "compress", "--quiet", "--force", "--jobs", &threads];
        let end = [OsStr::new("-o"), target.as_os_str(), OsStr::new("--"), model.as_os_str()];
        let own = self.options.iter().map(OsString::as_os_str);
        match args::Args::try_parse_from(begin.map(OsStr::new).into_iter().chain(own).chain(end))?.command {
            Command::Compress(args) => Ok(args),
            _ => bail!("these are no options of `compress`"),
        }
    }
}

/// Where the packed form of a variant is, in a folder of such.
pub fn place(folder: &Path, variant: &Variant, model_hash: &str) -> PathBuf {
    let identity = format!("{} {model_hash} {}", variant.recipe(), env!("CARGO_PKG_VERSION"));
    let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
    let name: String = variant.name.chars().take(32).map(plain).collect();
    folder.join(format!("{name}-{}", short(Hash::of(identity.as_bytes()))))
}

/// The begin of a hash, which tells things apart that people made.
pub fn short(hash: Hash) -> String {
    hash.to_string().chars().take(12).collect()
}

fn copy(model: &Path, folder: &Path, registry: &Registry) -> Result<()> {
    if model.is_dir() {
        return Ok(Companions::find(model, folder, &[])?.copy()?);
    }
    fs::create_dir_all(folder)?;
    let opened = Model::open(model, &[], registry)?;
    for file in opened.own_files() {
        fs::copy(&file, folder.join(file.file_name().unwrap_or_default()))?;
    }
    copy_beside(&opened, folder)
}
