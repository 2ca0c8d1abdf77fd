//! The parameters of a tensor: the first of source, slice and recipe that has a value.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::in_key;
use crate::error::{Error, Result};
use crate::method::{Method, Sparsify, Task, TaskModel, Vectors};
use crate::recipe::{Family, Known, Parameters, Scalar, Setting};
use crate::rng::Draws;

/// The parameters of one place of the recipe.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    /// The key of the recipe.
    key: String,
    values: BTreeMap<String, Setting>,
}

impl Settings {
    /// Reads and checks parameters.
    ///
    /// # Errors
    /// [`Error::Key`].
    pub(super) fn read(key: String, parameters: &Parameters, known: &Known, of_model: bool) -> Result<Self> {
        let mut values = BTreeMap::new();
        for (name, value) in parameters.iter().filter(|(_, value)| !value.is_null()) {
            let place = format!("{key}.{name}");
            in_key(&place, known.check(name, of_model))?;
            values.insert(name.clone(), in_key(&place, Setting::parse(value))?);
        }
        Ok(Self { key, values })
    }
}

/// Where the parameters of a tensor come from.
pub(super) struct Lookup<'a> {
    pub(super) known: Known,
    /// Those of the recipe, and of the slice before.
    pub(super) shared: Vec<&'a Settings>,
    /// Position in the slice, from 0 to 1.
    pub(super) t: f64,
    /// The tensor of the output.
    pub(super) tensor: &'a str,
    pub(super) seed: u64,
}

/// A model of a tensor, without the base.
pub(super) struct Of<'a> {
    /// Its parameters.
    pub(super) settings: &'a Settings,
    /// Its name for messages.
    pub(super) name: String,
    /// Its tensor, which filters see.
    pub(super) tensor: &'a str,
    /// Its number in the recipe, which decides its random draws.
    pub(super) number: usize,
}

impl Lookup<'_> {
    fn find(&self, name: &str, of: Option<&Of<'_>>) -> Option<(String, Scalar)> {
        let tensor = of.map_or(self.tensor, |of| of.tensor);
        let places = of.map(|of| of.settings).into_iter().chain(self.shared.iter().copied());
        places
            .into_iter()
            .find_map(|place| Some((format!("{}.{name}", place.key), place.values.get(name)?.of(tensor, self.t)?)))
    }

    fn number(&self, name: &str, of: Option<&Of<'_>>) -> Result<Option<f64>> {
        match self.find(name, of) {
            None => Ok(None),
            Some((_, Scalar::Number(number))) => Ok(Some(number)),
            Some((key, Scalar::Bool(_))) => Err(Error::key(key, "a number is wanted")),
        }
    }

    fn flag(&self, name: &str, default: bool) -> Result<bool> {
        match self.find(name, None) {
            None => Ok(default),
            Some((_, Scalar::Bool(flag))) => Ok(flag),
            Some((_, Scalar::Number(number))) if number == 0.0 || number == 1.0 => Ok(number == 1.0),
            Some((key, Scalar::Number(_))) => Err(Error::key(key, "true or false is wanted")),
        }
    }

    /// The weight of a model, which has no default.
    fn weight(&self, of: &Of<'_>) -> Result<f64> {
        self.number("weight", Some(of))?.ok_or_else(|| {
            let reason = format!(
                "`{}` needs a weight of `{}` for tensor `{}`; add it there or to `parameters` of the recipe",
                self.known.name, of.name, self.tensor
            );
            Error::key(format!("{}.weight", of.settings.key), reason)
        })
    }

    fn required(&self, name: &str) -> Result<f64> {
        self.number(name, None)?.ok_or_else(|| {
            let reason = format!("`{}` needs it for tensor `{}`", self.known.name, self.tensor);
            Error::key(format!("parameters.{name}"), reason)
        })
    }

    /// The method for these models.
    ///
    /// # Errors
    /// [`Error::Key`] for a missing or wrong parameter.
    pub(super) fn method(&self, models: &[Of<'_>]) -> Result<Method> {
        let weights = || models.iter().map(|of| self.weight(of)).collect::<Result<Vec<f64>>>();
        Ok(match self.known.family {
            Family::Linear => {
                let (weights, normalize) = (weights()?, self.flag("normalize", true)?);
                if normalize && weights.iter().sum::<f64>() == 0.0 {
                    let reason =
                        format!("the weights for `{}` add up to 0, and `normalize` divides by it", self.tensor);
                    return Err(Error::key("weight", reason));
                }
                Method::Linear { weights, normalize }
            }
            Family::Slerp => Method::Slerp { t: self.required("t")? },
            Family::NuSlerp => {
                let flat = self.flag("nuslerp_flatten", true)?;
                let vectors = match (flat, self.flag("nuslerp_row_wise", false)?) {
                    (true, _) => Vectors::Whole,
                    (false, false) => Vectors::Rows,
                    (false, true) => Vectors::Columns,
                };
                let weights = weights()?.try_into().map_err(|_| Error::Method("two models are wanted".to_owned()))?;
                Method::NuSlerp { weights, vectors }
            }
            Family::Task(..) => Method::Task(self.task(models)?),
            Family::ModelStock => Method::ModelStock { filter_wise: self.flag("filter_wise", false)? },
            Family::Passthrough => Method::Passthrough { scale: self.number("scale", models.first())? },
            Family::Sce => Method::Sce { select_topk: self.number("select_topk", None)?.unwrap_or(1.0) },
            Family::Karcher => Method::Karcher {
                max_iter: self.number("max_iter", None)?.unwrap_or(10.0).clamp(0.0, 1e6) as usize,
                tol: self.number("tol", None)?.unwrap_or(1e-5),
            },
            Family::NearSwap => Method::NearSwap { t: self.required("t")? },
            Family::MultiSlerp => {
                Method::MultiSlerp { weights: weights()?, normalize: self.flag("normalize_weights", true)? }
            }
        })
    }

    fn task(&self, models: &[Of<'_>]) -> Result<Task> {
        let Family::Task(sparsify, defaults) = self.known.family else {
            return Err(Error::Method("no method of this family".to_owned()));
        };
        let model = |of: &Of<'_>| -> Result<TaskModel> {
            let number = |name, default| self.number(name, Some(of)).map(|found| found.unwrap_or(default));
            let share = |name, default| -> Result<f64> {
                let found = number(name, default)?;
                if (0.0..=1.0).contains(&found) {
                    return Ok(found);
                }
                let reason = format!("{found} for `{}` is not from 0 to 1", self.tensor);
                Err(Error::key(format!("{}.{name}", of.settings.key), reason))
            };
            let (density, epsilon) = (share("density", 1.0)?, share("epsilon", 0.15)?);
            if sparsify == Sparsify::Ranked && (density - epsilon <= 0.0 || density + epsilon >= 1.0) {
                let reason = format!("density {density} ± epsilon {epsilon} must be above 0 and below 1");
                return Err(Error::key(format!("{}.density", of.settings.key), reason));
            }
            Ok(TaskModel {
                weight: self.weight(of)?,
                density,
                gamma: share("gamma", 0.01)?,
                epsilon,
                draws: Draws::new(self.seed, of.number, self.tensor),
                mask: None::<Arc<[bool]>>,
            })
        };
        Ok(Task {
            models: models.iter().map(model).collect::<Result<_>>()?,
            sparsify,
            consensus: defaults.consensus,
            normalize: self.flag("normalize", defaults.normalize)?,
            rescale: self.flag("rescale", defaults.rescale)?,
            lambda: self.number("lambda", None)?.unwrap_or(1.0),
        })
    }
}
