//! `model:PATH`: the tensors of a checkpoint, with the tensors of another one as bases, and the
//! calibration that is beside it.

use std::collections::BTreeSet;
use std::path::Path;

use checkpoint::Checkpoint;

use super::{Item, Suite, SuiteError, SuiteOptions, calibration};

pub(super) fn open(text: &str, path: &Path, options: &SuiteOptions) -> Result<Suite, SuiteError> {
    let model = Checkpoint::open(path)?;
    let mut items = Vec::new();
    for name in model.names() {
        let (spec, data) = model.bytes(name)?;
        items.push(Item::new(name, spec, data));
    }
    let model_hash = Some(blake3::Hash::from(model.hash()).to_hex().to_string());
    let mut suite = Suite { name: text.to_owned(), seed: options.seed, items, model_hash, notes: Vec::new() };
    if let Some(path) = &options.base {
        attach(&mut suite, &Checkpoint::open(path)?)?;
        suite.name = format!("{text} --base {}", path.display());
    }
    calibration::attach(&mut suite, path)?;
    Ok(suite)
}

/// Gives each tensor its base, and notes every tensor that only one of the checkpoints has.
fn attach(suite: &mut Suite, base: &Checkpoint) -> Result<(), SuiteError> {
    let Suite { items, notes, .. } = suite;
    let mut unused: BTreeSet<&str> = base.names().collect();
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
