//! `model:PATH`: the tensors of a checkpoint, with the tensors of another one as bases, and the
//! calibration that is beside it.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Component, Path, PathBuf};

use checkpoint::Checkpoint;

use super::{CAST, Item, Suite, SuiteError, SuiteOptions, calibration};

/// What the name of a suite with a model begins with, and what comes before the base's path.
pub(super) const PREFIX: &str = "model:";
const BASE: &str = " --base ";

pub(super) fn open(path: &Path, options: &SuiteOptions) -> Result<Suite, SuiteError> {
    let model = Checkpoint::open(path)?;
    model.require_stored()?;
    let mut items = Vec::new();
    for name in model.names() {
        let (spec, data) = model.bytes(name)?;
        items.push(Item::new(name, spec, data));
    }
    let name = format!("{PREFIX}{}", plain(path).display());
    let mut suite = Suite::new(name, options.seed, items).keep(options)?;
    suite.files.extend(files(&model));
    suite.notes.extend_from_slice(model.notes());
    if let Some(path) = &options.base {
        let base = Checkpoint::open(path)?;
        base.require_stored()?;
        attach(&mut suite, &base, options)?;
        suite.files.extend(files(&base));
        suite.name = format!("{}{BASE}{}", suite.name, plain(path).display());
    }
    calibration::attach(&mut suite, path, options)?;
    Ok(suite)
}

/// The path without parts that lead nowhere, so that one model has one name.
fn plain(path: &Path) -> PathBuf {
    let parts: PathBuf = path.components().filter(|part| *part != Component::CurDir).collect();
    if parts.as_os_str().is_empty() { ".".into() } else { parts }
}

/// The name of a suite with real paths, which is the same however a model was typed: `./m`, `m`, or
/// the absolute path. A path that leads nowhere stays as it is, without parts that lead nowhere.
pub(crate) fn identity(name: &str) -> String {
    let Some(rest) = name.strip_prefix(PREFIX) else { return name.to_owned() };
    let (rest, cast) = rest.split_at(rest.rfind(CAST).unwrap_or(rest.len()));
    let real = |path: &str| fs::canonicalize(path).unwrap_or_else(|_| plain(path.as_ref())).display().to_string();
    let paths: Vec<_> = rest.split(BASE).map(real).collect();
    format!("{PREFIX}{}{cast}", paths.join(BASE))
}

/// The files of a checkpoint: those with the tensors, and the index.
fn files(checkpoint: &Checkpoint) -> impl Iterator<Item = PathBuf> {
    checkpoint.files().iter().cloned().chain(checkpoint.index().map(Path::to_owned))
}

/// Gives each tensor its base, and notes every tensor that only one of the checkpoints has.
fn attach(suite: &mut Suite, base: &Checkpoint, options: &SuiteOptions) -> Result<(), SuiteError> {
    let Suite { items, notes, .. } = suite;
    let mut unused: BTreeSet<&str> = base.names().filter(|name| options.includes(name)).collect();
    for item in items {
        if !unused.remove(item.name.as_str()) {
            notes.push(format!("{}: the base has no such tensor", item.name));
            continue;
        }
        let (spec, data) = base.bytes(&item.name)?;
        if spec == item.spec {
            item.base = Some(data);
        } else {
            notes.push(format!("{}: it is {}, the base's is {spec}; it gets no base", item.name, item.spec));
        }
    }
    notes.extend(unused.into_iter().map(|name| format!("{name}: only the base has it")));
    Ok(())
}
