//! The methods by name, and the parameters that they have.

use crate::method::Sparsify;

/// A method of a recipe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    Linear,
    Slerp,
    NuSlerp,
    Task(Sparsify, Defaults),
    ModelStock,
    Passthrough,
    Sce,
    Karcher,
    NearSwap,
    MultiSlerp,
}

/// What a method of the task arithmetic family does without parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Defaults {
    pub(crate) consensus: bool,
    pub(crate) normalize: bool,
    pub(crate) rescale: bool,
}

/// A method and its parameters.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Known {
    pub(crate) name: &'static str,
    pub(crate) family: Family,
    /// Parameters of each model.
    pub(crate) of_models: &'static [&'static str],
    /// Parameters of the merge.
    pub(crate) shared: &'static [&'static str],
}

const fn task(sparsify: Sparsify, consensus: bool, normalize: bool, rescale: bool) -> Family {
    Family::Task(sparsify, Defaults { consensus, normalize, rescale })
}

const TASK: &[&str] = &["normalize", "rescale", "lambda", "int8_mask"];
const SPARSE: &[&str] = &["weight", "density"];

const fn known(
    name: &'static str,
    family: Family,
    of_models: &'static [&'static str],
    shared: &'static [&'static str],
) -> Known {
    Known { name, family, of_models, shared }
}

const METHODS: [Known; 17] = [
    known("linear", Family::Linear, &["weight"], &["normalize"]),
    known("slerp", Family::Slerp, &[], &["t"]),
    known("nuslerp", Family::NuSlerp, &["weight"], &["nuslerp_flatten", "nuslerp_row_wise"]),
    known("task_arithmetic", task(Sparsify::Dense, false, false, false), &["weight"], TASK),
    known("ties", task(Sparsify::Magnitude, true, true, false), SPARSE, TASK),
    known("dare_ties", task(Sparsify::Random, true, false, true), SPARSE, TASK),
    known("dare_linear", task(Sparsify::Random, false, false, true), SPARSE, TASK),
    known("breadcrumbs", task(Sparsify::Outliers, false, false, false), &["weight", "density", "gamma"], TASK),
    known("breadcrumbs_ties", task(Sparsify::Outliers, true, false, false), &["weight", "density", "gamma"], TASK),
    known("della", task(Sparsify::Ranked, true, true, true), &["weight", "density", "epsilon"], TASK),
    known("della_linear", task(Sparsify::Ranked, false, false, true), &["weight", "density", "epsilon"], TASK),
    known("model_stock", Family::ModelStock, &[], &["filter_wise"]),
    known("passthrough", Family::Passthrough, &["scale"], &[]),
    known("sce", Family::Sce, &[], &["select_topk", "int8_mask"]),
    known("karcher", Family::Karcher, &[], &["max_iter", "tol"]),
    known("nearswap", Family::NearSwap, &[], &["t"]),
    known("multislerp", Family::MultiSlerp, &["weight"], &["normalize_weights"]),
];

impl Known {
    /// # Errors
    /// The methods, and the one that was perhaps meant.
    pub(crate) fn find(name: &str) -> Result<Self, String> {
        METHODS.into_iter().find(|known| known.name == name).ok_or_else(|| {
            let all: Vec<_> = METHODS.iter().map(|known| known.name).collect();
            format!("`{name}` is no method{}; there are {}", meant(name, &all), all.join(", "))
        })
    }

    /// Checks the name of a parameter; `of_model`: where a model's parameters are.
    ///
    /// # Errors
    /// The parameters, and the one that was perhaps meant.
    pub(crate) fn check(&self, parameter: &str, of_model: bool) -> Result<(), String> {
        if self.of_models.contains(&parameter) || (self.shared.contains(&parameter) && !of_model) {
            return Ok(());
        }
        if self.shared.contains(&parameter) {
            return Err("it is a parameter of the whole merge; move it to `parameters` of the recipe".to_owned());
        }
        let all = [self.of_models, self.shared].concat();
        let known = if all.is_empty() { "it has none".to_owned() } else { format!("it has {}", all.join(", ")) };
        Err(format!("`{}` has no such parameter{}; {known}", self.name, meant(parameter, &all)))
    }
}

fn meant(text: &str, all: &[&str]) -> String {
    let nearest = all.iter().max_by(|a, b| strsim::jaro(text, a).total_cmp(&strsim::jaro(text, b)));
    nearest.filter(|near| strsim::jaro(text, near) > 0.8).map_or_else(String::new, |near| format!(" (`{near}`?)"))
}
