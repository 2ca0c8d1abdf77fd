//! The sources of a recipe, with their parameters.

use std::collections::BTreeMap;
use std::ops::Range;

use super::settings::Settings;
use crate::error::{Error, Result};
use crate::recipe::{Known, ModelReference, Recipe};

/// A slice of the recipe, or all layers.
pub(super) struct Part {
    pub(super) sources: Vec<PartSource>,
    pub(super) settings: Settings,
}

/// A model in a slice.
pub(super) struct PartSource {
    pub(super) model: usize,
    /// `None` for all layers.
    pub(super) layers: Option<Range<usize>>,
    pub(super) settings: Settings,
}

/// The one part of a model that is not multimodal.
const DEFAULT: &str = "default";

/// Puts the models or slices of the only module where those of a recipe without modules are.
/// Returns the parameters of the module.
///
/// # Errors
/// [`Error::Key`] for several modules, and another name than that of mergekit.
pub(super) fn unwrap_module(recipe: &mut Recipe, known: &Known) -> Result<Option<Settings>> {
    let Some(modules) = recipe.modules.clone() else { return Ok(None) };
    let mut modules = modules.into_iter();
    let (Some((name, module)), None) = (modules.next(), modules.next()) else {
        return Err(Error::key("modules", "one module, `default`, is supported, not parts of multimodal models"));
    };
    if name != DEFAULT {
        let reason = "parts of multimodal models are not supported; the layers of other models are `modules.default`, \
                      `models` or `slices`";
        return Err(Error::key(format!("modules.{name}"), reason));
    }
    if recipe.models.is_some() || recipe.slices.is_some() {
        return Err(Error::key("modules", "`models` or `slices` is there too; a recipe has one of the three"));
    }
    (recipe.models, recipe.slices) = (module.models, module.slices);
    Settings::read("modules.default.parameters".to_owned(), &module.parameters, known, false).map(Some)
}

/// Refuses what has no place here.
pub(super) fn refuse(recipe: &Recipe) -> Result<()> {
    match (&recipe.models, &recipe.slices) {
        (Some(_), Some(_)) => Err(Error::key("slices", "`models` is there too; a recipe has one of the two")),
        (None, None) => Err(Error::key("models", "a recipe has `models` or `slices`")),
        (Some(models), _) if models.is_empty() => Err(Error::key("models", "the list is empty")),
        (_, Some(slices)) if slices.is_empty() => Err(Error::key("slices", "the list is empty")),
        _ if recipe.tokenizer.is_some() && recipe.tokenizer_source.is_some() => {
            Err(Error::key("tokenizer", "`tokenizer_source` is there too; a recipe has one of the two"))
        }
        _ => Ok(()),
    }
}

pub(super) fn parts(
    recipe: &Recipe,
    known: &Known,
    open: &mut dyn FnMut(&ModelReference) -> Result<usize>,
) -> Result<Vec<Part>> {
    let mut parts = Vec::new();
    let empty = BTreeMap::new();
    if let Some(models) = &recipe.models {
        let mut sources = Vec::new();
        for (i, entry) in models.iter().enumerate() {
            let settings = Settings::read(format!("models[{i}].parameters"), &entry.parameters, known, true)?;
            sources.push(PartSource { model: open(&entry.model)?, layers: None, settings });
        }
        let settings = Settings::read("parameters".to_owned(), &empty, known, false)?;
        parts.push(Part { sources, settings });
    }
    for (s, slice) in recipe.slices.iter().flatten().enumerate() {
        if slice.base_model.as_ref().is_some_and(|base| Some(base) != recipe.base_model.as_ref()) {
            let reason = "it is another base than that of the recipe; name it as `base_model` of the recipe";
            return Err(Error::key(format!("slices[{s}].base_model"), reason));
        }
        if slice.sources.is_empty() {
            return Err(Error::key(format!("slices[{s}].sources"), "the list is empty"));
        }
        let mut sources = Vec::new();
        for (i, source) in slice.sources.iter().enumerate() {
            let key = format!("slices[{s}].sources[{i}].parameters");
            let settings = Settings::read(key, &source.parameters, known, true)?;
            let [start, end] = source.layer_range;
            sources.push(PartSource { model: open(&source.model)?, layers: Some(start..end), settings });
        }
        let settings = Settings::read(format!("slices[{s}].parameters"), &slice.parameters, known, false)?;
        parts.push(Part { sources, settings });
    }
    Ok(parts)
}

/// A base that is not listed is the last source.
pub(super) fn append_base(known: &Known, base: Option<usize>, part: &mut Part) {
    let Some(base) = base.filter(|base| part.sources.iter().all(|source| source.model != *base)) else { return };
    if let Ok(settings) = Settings::read("base_model".to_owned(), &BTreeMap::new(), known, true) {
        part.sources.push(PartSource { model: base, layers: None, settings });
    }
}
