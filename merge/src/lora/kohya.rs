//! LoRA files of kohya's scripts: one file without a configuration, whose names are those of the
//! model's modules with underscores in place of dots.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use checkpoint::Checkpoint;

use super::Role;
use crate::error::{Error, Result};
use crate::plan::values;

/// Parts of a diffusion model: what precedes the names in the file, and what may precede the
/// modules of the model, as in files of the first Stable Diffusion.
const PARTS: [(&str, &[&str]); 5] = [
    ("lora_unet_", &["", "model.diffusion_model."]),
    ("lora_te1_", &["", "conditioner.embedders.0.transformer."]),
    ("lora_te2_", &[""]),
    ("lora_te3_", &[""]),
    ("lora_te_", &["", "cond_stage_model.transformer."]),
];
/// Ends of names.
const ENDS: [(Role, &str); 2] = [(Role::A, ".lora_down.weight"), (Role::B, ".lora_up.weight")];
const ALPHA: &str = ".alpha";
/// Parts of names that tell of other formats.
const OTHERS: [(&str, &str); 6] = [
    (".hada_", "LoHa"),
    (".lokr_", "LoKr"),
    (".lora_mid.", "LoCon with a tensor between the two"),
    (".dora_scale", "DoRA in the layout of LyCORIS"),
    (".oft_", "OFT"),
    (".diff", "whole differences of LyCORIS"),
];

/// The tensors of a file for a model.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) modules: BTreeMap<String, BTreeMap<Role, String>>,
    pub(super) alphas: BTreeMap<String, f64>,
    /// Parts whose modules another model has, with their number.
    pub(super) skipped: BTreeMap<&'static str, usize>,
}

/// Whether the tensors are named like kohya's.
pub(super) fn is_kohya(tensors: &Checkpoint) -> bool {
    tensors.names().any(|name| part(name).is_some())
}

fn part(name: &str) -> Option<(&'static str, &'static [&'static str])> {
    PARTS.into_iter().find(|(prefix, _)| name.starts_with(prefix))
}

/// Finds the modules of the model.
///
/// # Errors
/// [`Error::File`] for other formats, and modules that the model does not have.
pub(super) fn find(path: &Path, tensors: &Checkpoint, model: &BTreeSet<&str>) -> Result<Found> {
    let fail = |reason: String| Error::file(path, reason);
    let (mut by_part, alphas) = read(path, tensors)?;
    let mut found = Found::default();
    for (prefix, before) in PARTS {
        let Some(modules) = by_part.remove(prefix) else { continue };
        let known = by_key(model, before);
        let place = |module: &str| known.get(&module[prefix.len()..]);
        let missing: Vec<&String> = modules.keys().filter(|module| place(module).is_none()).collect();
        if missing.len() == modules.len() {
            found.skipped.insert(prefix, modules.len());
            continue;
        }
        if let Some(module) = missing.first() {
            let (count, all) = (missing.len(), modules.len());
            return Err(fail(format!(
                "the model does not have {count} of the {all} modules of `{prefix}`: `{module}`"
            )));
        }
        for (module, roles) in &modules {
            match place(module).map(Vec::as_slice) {
                Some([one]) => {
                    if let Some(alpha) = alphas.get(module) {
                        found.alphas.insert((*one).to_owned(), *alpha);
                    }
                    found.modules.insert((*one).to_owned(), roles.clone());
                }
                _ => return Err(fail(format!("`{module}` may stand for several modules of the model"))),
            }
        }
    }
    if found.modules.is_empty() {
        let first = tensors.names().next().unwrap_or_default();
        return Err(fail(format!(
            "the model has no module of this LoRA of kohya's, such as `{first}`: its names are those of the model's \
             modules with underscores in place of dots, and models of diffusers have other names than those of Stable \
             Diffusion's own files"
        )));
    }
    Ok(found)
}

/// The tensors of the modules by part, and the alphas, both by the names of the file.
type Read = (BTreeMap<&'static str, BTreeMap<String, BTreeMap<Role, String>>>, BTreeMap<String, f64>);

fn read(path: &Path, tensors: &Checkpoint) -> Result<Read> {
    let fail = |reason: String| Error::file(path, reason);
    let (mut by_part, mut alphas) = Read::default();
    for name in tensors.names() {
        if let Some((_, format)) = OTHERS.iter().find(|(part, _)| name.contains(part)) {
            return Err(fail(format!("`{name}` belongs to {format}, which is not merged")));
        }
        let (prefix, _) = part(name).ok_or_else(|| fail(format!("`{name}` is no tensor of a LoRA of kohya's")))?;
        if let Some(module) = name.strip_suffix(ALPHA) {
            let (spec, bytes) = tensors.bytes(name)?;
            if spec.elements() != 1 || !spec.is_float() {
                return Err(fail(format!("`{name}` is {spec}; one number is wanted")));
            }
            alphas.insert(module.to_owned(), f64::from(values(&spec, &bytes)?[0]));
            continue;
        }
        let role = ENDS.iter().find_map(|(role, end)| Some((*role, name.strip_suffix(end)?)));
        let (role, module) =
            role.ok_or_else(|| fail(format!("`{name}` belongs to a kind of LoRA that is not merged")))?;
        by_part.entry(prefix).or_default().entry(module.to_owned()).or_default().insert(role, name.to_owned());
    }
    Ok((by_part, alphas))
}

/// The modules of the model by their names with underscores.
fn by_key<'m>(model: &BTreeSet<&'m str>, before: &[&str]) -> BTreeMap<String, Vec<&'m str>> {
    let mut all: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for module in model.iter().filter_map(|name| name.strip_suffix(".weight")) {
        for rest in before.iter().filter_map(|prefix| module.strip_prefix(prefix)) {
            all.entry(rest.replace('.', "_")).or_default().push(module);
        }
    }
    all
}
