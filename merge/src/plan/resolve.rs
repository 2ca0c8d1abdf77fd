//! From a recipe to a plan.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use codec_api::{Dtype, Registry, TensorSpec};

use super::models::{Opened, layer};
use super::parts::{Part, append_base, parts, refuse, unwrap_module};
use super::settings::{Lookup, Of, Settings};
use super::{EMBEDDINGS, HEAD, Input, Operation, OutputTensor, Plan, PlanOptions, chat, config, dtype, in_key};
use crate::error::{Error, Result};
use crate::recipe::{Family, Known, ModelReference, Recipe};
use crate::vocabulary::{Aligned, Vocabulary, has_tokens};

/// Ends of the names of buffers that a model computes anew.
const BUFFERS: [&str; 4] = [".rotary_emb.inv_freq", ".attn.bias", ".attn.masked_bias", ".position_ids"];

/// What the steps share.
struct Resolver {
    recipe: Recipe,
    known: Known,
    options: PlanOptions,
    models: Vec<Opened>,
    base: Option<usize>,
    /// Parameters of the module, and those of the recipe.
    shared: Vec<Settings>,
    parts: Vec<Part>,
    dtype: Option<Dtype>,
    vocabulary: Option<Vocabulary>,
    aligned: BTreeMap<String, Aligned>,
    notes: Vec<String>,
}

/// `taken_away`: whether adapters are subtracted.
pub(super) fn plan(recipe: Recipe, options: PlanOptions, taken_away: bool, registry: &Registry) -> Result<Plan> {
    let mut resolver = Resolver::new(recipe, options, taken_away, registry)?;
    let mut tensors = Vec::new();
    if resolver.recipe.slices.is_some() {
        resolver.sliced(&mut tensors)?;
    } else {
        resolver.whole(&mut tensors)?;
    }
    if tensors.is_empty() {
        return Err(Error::Method("the models have no tensors to merge".to_owned()));
    }
    let donor = resolver.base.unwrap_or(0);
    let layers = resolver.parts.iter().map(|part| part.sources.first().and_then(|source| source.layers.clone()));
    let layers: Option<Vec<Range<usize>>> = layers.collect();
    let vocabulary = resolver.vocabulary.take();
    let edited = config::edited(&resolver.models[donor], &tensors, layers.as_deref(), &mut resolver.notes)?;
    let config = config::renumbered(edited, vocabulary.as_ref(), &mut resolver.notes);
    let own_tokenizer = vocabulary.is_some();
    let mut files = config::files(&resolver.models[donor], vocabulary, &mut resolver.notes)?;
    chat::set(&resolver.recipe, &resolver.models, donor, &mut files, &mut resolver.notes)?;
    for model in resolver.models.iter().filter(|model| model.untied) {
        let note = format!(
            "the adapter of `{}` changes the embedding or the head, which are tied: both are written",
            model.name()
        );
        resolver.notes.push(note);
    }
    resolver.notes.extend(resolver.models.iter().filter_map(Opened::note));
    let from = resolver.models[donor].name();
    resolver.notes.push(format!("configuration, tokenizer and other files come from `{from}`"));
    let Resolver { recipe, models, aligned, notes, .. } = resolver;
    Ok(Plan { recipe, options, models, donor, tensors, config, aligned, files, own_tokenizer, taken_away, notes })
}

impl Resolver {
    fn new(mut recipe: Recipe, options: PlanOptions, taken_away: bool, registry: &Registry) -> Result<Self> {
        let known = in_key("merge_method", Known::find(&recipe.merge_method))?;
        let module = unwrap_module(&mut recipe, &known)?;
        refuse(&recipe)?;
        let own = Settings::read("parameters".to_owned(), &recipe.parameters, &known, false)?;
        let shared = module.into_iter().chain([own]).collect();
        let mut models: Vec<Opened> = Vec::new();
        let mut open = |reference: &ModelReference| -> Result<usize> {
            if let Some(at) = models.iter().position(|model| model.reference == *reference) {
                return Ok(at);
            }
            models.push(Opened::open(reference, taken_away, registry)?);
            Ok(models.len() - 1)
        };
        let mut parts = parts(&recipe, &known, &mut open)?;
        let base = recipe.base_model.as_ref().map(&mut open).transpose()?;
        if recipe.slices.is_none() {
            append_base(&known, base, &mut parts[0]);
        }
        let name = recipe.out_dtype.as_ref().map(|name| ("out_dtype", name));
        let name = name.or(recipe.dtype.as_ref().map(|name| ("dtype", name)));
        let named = name.map(|(key, name)| in_key(key, dtype(name))).transpose()?;
        let dtype = options.dtype.or(named);
        let mut notes = Vec::new();
        let vocabulary = Vocabulary::new(&recipe, &models, base, &mut notes)?;
        let aligned = BTreeMap::new();
        Ok(Self { recipe, known, options, models, base, shared, parts, dtype, vocabulary, aligned, notes })
    }

    /// All models as wholes.
    fn whole(&mut self, tensors: &mut Vec<OutputTensor>) -> Result<()> {
        let used: Vec<usize> = self.parts[0].sources.iter().map(|source| source.model).collect();
        let counts = self.models[used[0]].layers();
        if let Some(other) = used.iter().find(|at| self.models[**at].layers() != counts) {
            let (one, two) = (&self.models[used[0]], &self.models[*other]);
            let count = |model: &Opened| model.layers().values().map(usize::to_string).collect::<Vec<_>>().join(", ");
            let reason = format!(
                "`{}` has {} layers and `{}` has {}; take slices with equal numbers of layers",
                one.name(),
                count(one),
                two.name(),
                count(two)
            );
            return Err(Error::key("models", reason));
        }
        for name in self.names(&used) {
            let t = layer(&name).and_then(|(prefix, number, _)| Some(position(number, *counts.get(prefix)?)));
            self.tensor(tensors, &name, 0, t.unwrap_or(0.0), &|_| name.clone())?;
        }
        Ok(())
    }

    /// Slices: the tensors before the layers come from the first one, those behind from the last.
    fn sliced(&mut self, tensors: &mut Vec<OutputTensor>) -> Result<()> {
        let donor = self.parts[0].sources[0].model;
        let Some(prefix) = self.models[donor].layers().into_iter().max_by_key(|(_, count)| *count) else {
            return Err(Error::key("slices", format!("`{}` has no layers", self.models[donor].name())));
        };
        let prefix = prefix.0;
        let inner = |name: &str| layer(name).is_some_and(|(found, ..)| found == prefix);
        let first: Vec<usize> = self.parts[0].sources.iter().map(|source| source.model).collect();
        let last_part = self.parts.len() - 1;
        let last: Vec<usize> = self.parts[last_part].sources.iter().map(|source| source.model).collect();
        for name in self.names(&first).into_iter().filter(|name| !inner(name) && is_before(name)) {
            self.tensor(tensors, &name, 0, 0.0, &|_| name.clone())?;
        }
        let mut output = 0;
        for part in 0..self.parts.len() {
            let ranges = self.ranges(part, &prefix)?;
            for i in 0..ranges[0].len() {
                let name = |source: usize, rest: &str| format!("{prefix}.{}.{rest}", ranges[source].start + i);
                for rest in self.of_layer(part, &prefix, &ranges, i) {
                    let t = position(i, ranges[0].len());
                    let target = format!("{prefix}.{output}.{rest}");
                    self.tensor(tensors, &target, part, t, &|source| name(source, &rest))?;
                }
                output += 1;
            }
        }
        for name in self.names(&last).into_iter().filter(|name| !inner(name) && !is_before(name)) {
            self.tensor(tensors, &name, last_part, 0.0, &|_| name.clone())?;
        }
        Ok(())
    }

    /// The layers of each source of a slice: equal numbers, and all are there.
    fn ranges(&self, part: usize, prefix: &str) -> Result<Vec<Range<usize>>> {
        let ranges: Vec<Range<usize>> = self.parts[part].sources.iter().filter_map(|s| s.layers.clone()).collect();
        for (i, (source, range)) in self.parts[part].sources.iter().zip(&ranges).enumerate() {
            let key = format!("slices[{part}].sources[{i}].layer_range");
            let count = self.models[source.model].layers().get(prefix).copied().unwrap_or(0);
            if range.is_empty() || range.end > count {
                let name = self.models[source.model].name();
                return Err(Error::key(key, format!("`{name}` has the layers 0 to {count}, the end not included")));
            }
            if range.len() != ranges[0].len() {
                let reason =
                    format!("{} layers, but the first source of the slice has {}", range.len(), ranges[0].len());
                return Err(Error::key(key, reason));
            }
        }
        Ok(ranges)
    }

    /// The names of layer `i` of a slice behind the number, in the order of the first source.
    fn of_layer(&self, part: usize, prefix: &str, ranges: &[Range<usize>], i: usize) -> Vec<String> {
        let mut found = Vec::new();
        for (source, range) in self.parts[part].sources.iter().zip(ranges) {
            for (before, number, rest) in self.models[source.model].ordered().into_iter().filter_map(layer) {
                if before == prefix && number == range.start + i && !found.iter().any(|known| known == rest) {
                    found.push(rest.to_owned());
                }
            }
        }
        found
    }

    /// The names of the tensors of these models, in the order of the first one.
    fn names(&self, models: &[usize]) -> Vec<String> {
        let (mut names, mut known) = (Vec::new(), BTreeSet::new());
        for name in models.iter().flat_map(|at| self.models[*at].ordered()) {
            if known.insert(name) {
                names.push(name.to_owned());
            }
        }
        names
    }

    /// Adds a tensor of the output. `input` names the tensor of each source of the slice.
    fn tensor(
        &mut self,
        tensors: &mut Vec<OutputTensor>,
        name: &str,
        part: usize,
        t: f64,
        input: &dyn Fn(usize) -> String,
    ) -> Result<()> {
        let Some(inputs) = self.inputs(name, part, input)? else { return Ok(()) };
        let specs: Vec<TensorSpec> =
            inputs.iter().map(|input| self.models[input.model].spec(&input.tensor)).collect::<Result<_>>()?;
        let specs = self.align(name, &inputs, specs)?;
        self.check_shapes(name, &inputs, &specs)?;
        if specs.iter().any(|spec| !spec.is_float()) {
            tensors.push(self.copied(name, &inputs, &specs)?);
            return Ok(());
        }
        let spec = TensorSpec::new(self.dtype.unwrap_or_else(|| promoted(&specs)), specs[0].shape())?;
        let operation = self.operation(name, part, t, &inputs)?;
        tensors.push(OutputTensor { name: name.to_owned(), spec, operation });
        Ok(())
    }

    /// The inputs, one for each source; `None` if the tensor is a buffer that not all models have.
    fn inputs(&mut self, name: &str, part: usize, input: &dyn Fn(usize) -> String) -> Result<Option<Vec<Input>>> {
        let (mut inputs, mut missing) = (Vec::new(), Vec::new());
        for (i, source) in self.parts[part].sources.iter().enumerate() {
            let (model, wanted) = (&self.models[source.model], input(i));
            let tied = || EMBEDDINGS.iter().find(|e| wanted == HEAD && model.names.contains(**e));
            match model.names.get(&wanted).map(String::as_str).or_else(|| tied().copied()) {
                Some(tensor) => inputs.push(Input { model: source.model, tensor: tensor.to_owned() }),
                None => missing.push((model.name(), wanted)),
            }
        }
        for input in inputs.iter().filter(|input| name == HEAD && input.tensor != HEAD) {
            let model = self.models[input.model].name();
            let note = format!("`{model}` has no `{HEAD}`: its `{}` stands for it", input.tensor);
            self.notes.push(note);
        }
        let Some((model, tensor)) = missing.pop() else { return Ok(Some(inputs)) };
        if BUFFERS.iter().any(|end| name.ends_with(end)) {
            self.notes.push(format!("`{name}`, a buffer that models compute, is left out: `{model}` has none"));
            return Ok(None);
        }
        let others: Vec<String> = inputs.iter().map(|input| format!("`{}`", self.models[input.model].name())).collect();
        let reason = format!(
            "it is missing, and {} has it as a part of `{name}`; only models of one architecture can be merged",
            others.join(", ")
        );
        Err(Error::tensor(model, tensor, reason))
    }

    /// The shapes with the rows of the output's vocabulary.
    fn align(&mut self, name: &str, inputs: &[Input], specs: Vec<TensorSpec>) -> Result<Vec<TensorSpec>> {
        let Some(vocabulary) = self.vocabulary.as_ref().filter(|_| layer(name).is_none()) else { return Ok(specs) };
        if has_tokens(name) {
            let (aligned, specs) = vocabulary.align(name, inputs, &specs, &self.models, &mut self.notes)?;
            self.aligned.insert(name.to_owned(), aligned);
            return Ok(specs);
        }
        for (input, spec) in inputs.iter().zip(&specs) {
            let rows = vocabulary.rows_of(input.model);
            if vocabulary.changes() && spec.shape().len() == 2 && spec.shape()[0] as u64 == u64::from(rows) {
                let reason = format!(
                    "it has {rows} rows, as many as the vocabulary, and is no embedding or head by its name: whether \
                     its rows belong to tokens is not known; give all models one vocabulary first"
                );
                return Err(Error::tensor(self.models[input.model].name(), &input.tensor, reason));
            }
        }
        Ok(specs)
    }

    fn check_shapes(&self, name: &str, inputs: &[Input], specs: &[TensorSpec]) -> Result<()> {
        let Some(other) = specs.iter().position(|spec| spec.shape() != specs[0].shape()) else { return Ok(()) };
        let (one, two) = (self.models[inputs[0].model].name(), self.models[inputs[other].model].name());
        let vocabulary = name == HEAD || EMBEDDINGS.contains(&name);
        let remedy = if vocabulary {
            "the vocabularies differ; `tokenizer_source: union` or `base` merges them"
        } else {
            "only models of one architecture can be merged"
        };
        let reason =
            format!("its shape is {:?}, but `{one}` has {:?}; {remedy}", specs[other].shape(), specs[0].shape());
        Err(Error::tensor(two, &inputs[other].tensor, reason))
    }

    /// A tensor of integers, which is the same in all models.
    fn copied(&self, name: &str, inputs: &[Input], specs: &[TensorSpec]) -> Result<OutputTensor> {
        let first = &inputs[0];
        let bytes = self.models[first.model].bytes(&first.tensor)?;
        for (input, spec) in inputs.iter().zip(specs).skip(1) {
            let model = &self.models[input.model];
            if spec != &specs[0] || model.bytes(&input.tensor)? != bytes {
                let reason = format!("{spec} values are copied, so they must be those of all models, and they are not");
                return Err(Error::tensor(model.name(), &input.tensor, reason));
            }
        }
        let unread = [Dtype::F64, Dtype::F8_E4M3, Dtype::F8_E5M2];
        if self.known.family != Family::Passthrough && unread.contains(&specs[0].dtype()) {
            let reason = format!("{} is not merged; convert the model to F32, F16 or BF16", specs[0].dtype());
            return Err(Error::tensor(self.models[first.model].name(), &first.tensor, reason));
        }
        Ok(OutputTensor {
            name: name.to_owned(),
            spec: specs[0].clone(),
            operation: Operation::Copy(inputs[0].clone()),
        })
    }

    /// Divides the inputs into models and base, and finds the parameters.
    fn operation(&self, name: &str, part: usize, t: f64, inputs: &[Input]) -> Result<Operation> {
        let part = &self.parts[part];
        let is_base = |at: usize| Some(part.sources[at].model) == self.base;
        let apart = match self.known.family {
            Family::Task(..) | Family::ModelStock | Family::Sce | Family::NearSwap => true,
            Family::NuSlerp => inputs.len() == 3,
            Family::MultiSlerp => self.base.is_some(),
            _ => false,
        };
        let base = if apart { (0..inputs.len()).find(|at| is_base(*at)) } else { None };
        let mut order: Vec<usize> = (0..inputs.len()).filter(|at| Some(*at) != base).collect();
        if self.known.family == Family::Slerp {
            // 0 is the base, wherever it is in the list.
            order.sort_by_key(|at| !is_base(*at));
        }
        self.check_count(order.len(), base.is_some(), inputs)?;
        let models: Vec<Of<'_>> = order
            .iter()
            .map(|at| Of {
                settings: &part.sources[*at].settings,
                name: self.models[inputs[*at].model].name(),
                tensor: &inputs[*at].tensor,
                number: *at,
            })
            .collect();
        let shared = std::iter::once(&part.settings).chain(&self.shared).collect();
        let lookup = Lookup { known: self.known, shared, t, tensor: name, seed: self.options.seed };
        let method = lookup.method(&models)?;
        let models = order.iter().map(|at| inputs[*at].clone()).collect();
        Ok(Operation::Merge { method, models, base: base.map(|at| inputs[at].clone()) })
    }

    fn check_count(&self, models: usize, base: bool, inputs: &[Input]) -> Result<()> {
        let name = self.known.name;
        let fail = |key: &str, reason: String| Err(Error::key(key, reason));
        let has_base = inputs.iter().any(|input| Some(input.model) == self.base);
        match self.known.family {
            Family::Task(..) | Family::ModelStock | Family::Sce | Family::NearSwap if !base => fail(
                "base_model",
                format!("`{name}` takes differences from a base model; name it here, and in slices list it"),
            ),
            Family::Slerp if !has_base => {
                fail("base_model", "`slerp` begins at the base model; name one of the two here".to_owned())
            }
            Family::Slerp | Family::NuSlerp if models != 2 => {
                fail("models", format!("`{name}` takes two models, and here are {models}"))
            }
            Family::Passthrough | Family::NearSwap if models != 1 => fail(
                "models",
                format!(
                    "`{name}` takes one model, and here are {models}; a `base_model` that is not listed counts too"
                ),
            ),
            Family::ModelStock if models < 2 => {
                fail("models", format!("`{name}` takes two models or more beside the base, and here is {models}"))
            }
            _ if models == 0 => fail("models", format!("`{name}` takes one model or more beside the base")),
            _ => Ok(()),
        }
    }
}

/// Position of a layer in its slice, from 0 to 1; 1 for the only layer.
fn position(layer: usize, count: usize) -> f64 {
    if count <= 1 { 1.0 } else { layer as f64 / (count - 1) as f64 }
}

/// Whether a tensor outside the layers comes before them.
fn is_before(name: &str) -> bool {
    name.contains("embed") || name.ends_with("wte.weight") || name.ends_with("wpe.weight")
}

/// The narrowest dtype with all values of these.
fn promoted(specs: &[TensorSpec]) -> Dtype {
    let first = specs[0].dtype();
    if specs.iter().all(|spec| spec.dtype() == first) { first } else { Dtype::F32 }
}
