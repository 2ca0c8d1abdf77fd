//! An adapter out of the difference of two models.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use checkpoint::{AtomicFile, Model, safetensors_header};
use codec_api::{Cancel, Dtype, Progress, Registry, TensorSpec};
use faer::Mat;
use serde_json::{Value, json};

use super::PREFIX;
use crate::error::{Error, Result};
use crate::plan::source;

/// How an adapter is extracted.
#[derive(Clone, Debug)]
pub struct Extract {
    /// Most components of a matrix.
    pub max_rank: usize,
    /// Only components with a larger singular value; 0 for all.
    pub epsilon: f64,
    /// Whether both matrices get the root of the singular values, or `A` all of them.
    pub distribute: bool,
    /// Embeddings and heads as low-rank differences too, not as whole tensors.
    pub embeddings: bool,
}

impl Default for Extract {
    fn default() -> Self {
        Self { max_rank: 128, epsilon: 0.0, distribute: true, embeddings: false }
    }
}

/// What an extraction has found.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Extracted {
    /// Modules with a low-rank difference.
    pub modules: usize,
    /// The largest rank.
    pub rank: usize,
    /// Tensors that are stored as wholes.
    pub whole: usize,
    /// `‖Δ − B·A‖/‖Δ‖` over all modules.
    pub error: f64,
}

/// `B·A` of a matrix.
#[derive(Clone, Debug)]
pub struct Decomposed {
    /// Number of components.
    pub rank: usize,
    /// `rank × columns`.
    pub a: Vec<f32>,
    /// `rows × rank`.
    pub b: Vec<f32>,
    /// Squared norms of the matrix and of what is left out.
    pub energies: [f64; 2],
}

/// The largest components of a matrix, row-major, by a full decomposition in f64.
///
/// # Errors
/// If the decomposition does not converge, as with values that are not finite.
pub fn decompose((rows, columns): (usize, usize), values: &[f32], options: &Extract) -> Result<Decomposed> {
    if rows.checked_mul(columns) != Some(values.len()) || values.is_empty() {
        return Err(Error::Method(format!("{} values are no matrix of {rows} × {columns}", values.len())));
    }
    let matrix = Mat::from_fn(rows, columns, |i, j| f64::from(values[i * columns + j]));
    let found = matrix.thin_svd().map_err(|e| Error::Method(format!("no singular values: {e:?}")))?;
    let (left, right) = (found.U(), found.V());
    let singular: Vec<f64> = found.S().column_vector().iter().copied().collect();
    let kept = singular.iter().take(options.max_rank).filter(|s| options.epsilon <= 0.0 || **s > options.epsilon);
    let rank = kept.count();
    let of_b = |s: f64| if options.distribute { s.sqrt() } else { 1.0 };
    let of_a = |s: f64| if options.distribute { s.sqrt() } else { s };
    let cell = |of: &dyn Fn(f64) -> f64, k: usize, value: f64| (of(singular[k]) * value) as f32;
    let a = (0..rank).flat_map(|k| (0..columns).map(move |j| (k, j)));
    let b = (0..rows).flat_map(|i| (0..rank).map(move |k| (i, k)));
    let energy = |all: &[f64]| all.iter().map(|s| s * s).sum::<f64>();
    Ok(Decomposed {
        rank,
        a: a.map(|(k, j)| cell(&of_a, k, right[(j, k)])).collect(),
        b: b.map(|(i, k)| cell(&of_b, k, left[(i, k)])).collect(),
        energies: [energy(&singular), energy(&singular[rank..])],
    })
}

/// What is written.
#[derive(Default)]
struct Parts {
    tensors: BTreeMap<String, (TensorSpec, Vec<u8>)>,
    ranks: BTreeMap<String, usize>,
    whole: BTreeSet<String>,
    biases: bool,
    energies: [f64; 2],
    /// Whether weights of linear layers are `inputs × outputs`.
    conv1d: bool,
}

/// Writes the difference of `fine` from `base` as an adapter into the directory `out`. Matrices
/// that are equal in both are left out; other tensors that differ are stored as wholes
/// (`modules_to_save`).
///
/// # Errors
/// [`Error::Tensor`] for tensors that only one model has, or with another shape (a grown vocabulary
/// is stored as a whole); those of files; cancellation.
pub fn extract(
    [base, fine]: [&Path; 2],
    out: &Path,
    options: &Extract,
    (cancel, progress): (&Cancel, &dyn Progress),
    registry: &Registry,
) -> Result<Extracted> {
    let open = |path: &Path| Model::open(path, &[], registry).map(std::sync::Arc::new);
    let (models, names) = ([open(base)?, open(fine)?], base.display().to_string());
    let missing: Vec<&str> = models[0].names().into_iter().filter(|name| models[1].spec(name).is_err()).collect();
    if let Some(name) = missing.iter().find(|name| **name != "lm_head.weight") {
        return Err(Error::tensor(fine.display().to_string(), *name, format!("it is missing, and `{names}` has it")));
    }
    let conv1d = models[1].names().into_iter().any(|name| is_conv1d(name, &models[1]));
    let mut parts = Parts { conv1d, ..Parts::default() };
    for name in models[1].names() {
        cancel.check()?;
        let spec = models[1].spec(name)?.clone();
        progress.tick(spec.elements() as u64);
        let known = models[0].spec(name).ok().cloned();
        if known.is_none() && name != "lm_head.weight" {
            return Err(Error::tensor(names, name, "it is missing; an adapter cannot add it"));
        }
        if !spec.is_float() {
            continue;
        }
        let read = |model| -> Result<Vec<f32>> {
            let tensor = source(model, name, u64::MAX)?;
            let mut values = codec_api::util::zeros(tensor.spec().elements())?;
            tensor.read(0, &mut values)?;
            tensor.release(0..values.len());
            Ok(values)
        };
        let values = read(&models[1])?;
        let same_shape = known.as_ref().is_some_and(|known| known.shape() == spec.shape());
        let before = if same_shape { Some(read(&models[0])?) } else { None };
        if before.as_ref() == Some(&values) {
            continue;
        }
        parts.add(name, &spec, values, before.as_deref(), options)?;
    }
    parts.write(base, out)
}

/// Whether the tensor shows that the model has the `Conv1D` layers of GPT-2, wider than high.
fn is_conv1d(name: &str, model: &Model) -> bool {
    let wide = |shape: &[usize]| shape.len() == 2 && shape[1] > shape[0];
    name.ends_with(".c_fc.weight") && model.spec(name).is_ok_and(|spec| wide(spec.shape()))
}

fn is_embedding(name: &str) -> bool {
    ["embed_tokens.weight", "wte.weight", "wpe.weight", "lm_head.weight"].iter().any(|end| name.ends_with(end))
}

impl Parts {
    fn add(
        &mut self,
        name: &str,
        spec: &TensorSpec,
        mut values: Vec<f32>,
        before: Option<&[f32]>,
        options: &Extract,
    ) -> Result<()> {
        let module = name.strip_suffix(".weight");
        let (head, embedding) = (name == "lm_head.weight", is_embedding(name));
        let (Some(module), &[rows, columns], Some(before)) = (module, spec.shape(), before) else {
            return self.add_whole(name, spec, &values, before);
        };
        if embedding && !options.embeddings {
            return self.add_whole(name, spec, &values, Some(before));
        }
        values.iter_mut().zip(before).for_each(|(x, before)| *x -= before);
        // `B·A` is outputs × inputs: the transpose of an embedding and of a `Conv1D`.
        let turned = (embedding && !head) || (self.conv1d && CONV1D.iter().any(|end| module.ends_with(end)));
        let shape = if turned { (columns, rows) } else { (rows, columns) };
        if turned {
            let mut other = vec![0.0; values.len()];
            codec_api::util::transpose((rows, columns), &values, &mut other);
            values = other;
        }
        let Decomposed { rank, a, b, energies } = decompose(shape, &values, options)?;
        if rank == 0 {
            return Ok(());
        }
        let ends = if embedding && !head {
            ["lora_embedding_A", "lora_embedding_B"]
        } else {
            ["lora_A.weight", "lora_B.weight"]
        };
        self.store(format!("{PREFIX}{module}.{}", ends[0]), spec.dtype(), vec![rank, shape.1], &a)?;
        self.store(format!("{PREFIX}{module}.{}", ends[1]), spec.dtype(), vec![shape.0, rank], &b)?;
        self.ranks.insert(module.to_owned(), rank);
        self.energies.iter_mut().zip(energies).for_each(|(sum, energy)| *sum += energy);
        Ok(())
    }

    /// A tensor as it is, or the bias of a linear layer as a difference.
    fn add_whole(&mut self, name: &str, spec: &TensorSpec, values: &[f32], before: Option<&[f32]>) -> Result<()> {
        let bias = name.strip_suffix(".bias").filter(|module| self.ranks.contains_key(*module));
        if let (Some(module), Some(before)) = (bias, before) {
            let difference: Vec<f32> = values.iter().zip(before).map(|(x, before)| x - before).collect();
            self.biases = true;
            return self.store(format!("{PREFIX}{module}.lora_B.bias"), Dtype::F32, spec.shape().to_vec(), &difference);
        }
        let module = name.rsplit_once('.').map_or(name, |(module, _)| module);
        self.whole.insert(module.rsplit('.').next().unwrap_or(module).to_owned());
        self.store(format!("{PREFIX}{name}"), spec.dtype(), spec.shape().to_vec(), values)
    }

    fn store(&mut self, name: String, dtype: Dtype, shape: Vec<usize>, values: &[f32]) -> Result<()> {
        let bytes = codec_api::util::narrowed(dtype, values)?;
        self.tensors.insert(name, (TensorSpec::new(dtype, shape)?, bytes));
        Ok(())
    }

    fn write(self, base: &Path, out: &Path) -> Result<Extracted> {
        if self.tensors.is_empty() {
            return Err(Error::Method("the two models are equal: there is nothing to extract".to_owned()));
        }
        let rank = self.ranks.values().copied().max().unwrap_or(1);
        let lower: BTreeMap<&String, &usize> = self.ranks.iter().filter(|(_, own)| **own != rank).collect();
        let targets: BTreeSet<&str> = self.ranks.keys().map(|m| m.rsplit('.').next().unwrap_or(m)).collect();
        let whole: Value = if self.whole.is_empty() { Value::Null } else { json!(self.whole) };
        let config = json!({
            "peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": base.display().to_string(),
            "r": rank, "lora_alpha": rank, "rank_pattern": lower, "alpha_pattern": lower,
            "target_modules": targets, "modules_to_save": whole, "bias": "none", "lora_bias": self.biases,
            "fan_in_fan_out": self.conv1d,
            "use_rslora": false, "use_dora": false, "inference_mode": true, "lora_dropout": 0.0,
            "init_lora_weights": true,
        });
        std::fs::create_dir_all(out).map_err(|e| Error::file(out, e.to_string()))?;
        let path = out.join("adapter_model.safetensors");
        let metadata = BTreeMap::from([("format", "pt")]);
        let specs = self.tensors.iter().map(|(name, (spec, _))| (name.as_str(), spec));
        let head = safetensors_header(specs, &metadata).map_err(|reason| Error::file(&path, reason))?;
        let mut file = AtomicFile::create(&path)?;
        file.write(&head)?;
        self.tensors.values().try_for_each(|(_, bytes)| file.write(bytes))?;
        file.commit()?;
        let text = serde_json::to_string_pretty(&config).map_err(|e| Error::file(out, e.to_string()))?;
        let mut file = AtomicFile::create(&out.join("adapter_config.json"))?;
        file.write(text.as_bytes())?;
        file.commit()?;
        let [all, left] = self.energies;
        let error = if all > 0.0 { (left / all).sqrt() } else { 0.0 };
        let whole = self.tensors.keys().filter(|name| !name.contains(".lora_")).count();
        Ok(Extracted { modules: self.ranks.len(), rank, whole, error })
    }
}

/// Modules of GPT-2 whose weights are `inputs × outputs`.
const CONV1D: [&str; 3] = ["c_attn", "c_proj", "c_fc"];
