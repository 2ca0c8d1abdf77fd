//! LoRA: products of two small matrices beside those of linear layers.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytemuck::cast_slice_mut;
use checkpoint::{AdapterConfig, Checkpoint};
use codec_api::util::{first_non_finite, transpose};
use codec_api::{Dtype, Inputs, LinearOp, Product, RowReader};

use super::dense::{Dense, DenseMatrix};
use crate::error::{Error, Result};

/// What precedes the names of layers in an adapter.
const PREFIX: &str = "base_model.model.";
/// What follows them.
const ENDS: [&str; 2] = [".lora_A.weight", ".lora_B.weight"];

/// A LoRA adapter in the layout of PEFT, `adapter_config.json` and `adapter_model.safetensors`:
/// matrices `A` (`rank × inputs`) and `B` (`outputs × rank`) for some linear layers of a model,
/// which add `scale·B·(A·x)` to the outputs. The scale is `lora_alpha/rank`, or with `use_rslora`
/// `lora_alpha/√rank`.
#[derive(Debug)]
pub struct Adapter {
    path: PathBuf,
    config: AdapterConfig,
    tensors: Checkpoint,
    /// The names of `A` and `B` of each layer.
    layers: BTreeMap<String, [Option<String>; 2]>,
}

impl Adapter {
    /// Opens the adapter in this directory.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] for a configuration that is not supported, with the key;
    /// [`Error::Tensor`] for tensors that do not belong to a LoRA of linear layers; those of files.
    pub fn open(directory: &Path) -> Result<Self> {
        let config = AdapterConfig::read(&directory.join("adapter_config.json"))?;
        config.require_products()?;
        let path = directory.join("adapter_model.safetensors");
        let tensors = Checkpoint::open(&path)?;
        let mut layers = BTreeMap::<String, [Option<String>; 2]>::new();
        for name in tensors.names() {
            let inner = name.strip_prefix(PREFIX).unwrap_or(name);
            let Some((end, layer)) = ENDS.iter().enumerate().find_map(|(i, end)| Some((i, inner.strip_suffix(end)?)))
            else {
                let reason = "it is no matrix of a LoRA of linear layers, `….lora_A.weight` or `….lora_B.weight`";
                return Err(Error::tensor(&path, name, reason));
            };
            layers.entry(layer.to_owned()).or_default()[end] = Some(name.to_owned());
        }
        let adapter = Self { path, config, tensors, layers };
        for target in &adapter.config.targets {
            if !adapter.layers.keys().any(|layer| is_end(layer, target)) {
                let reason = format!("no tensor belongs to `{target}`, a target module of the configuration");
                return Err(Error::tensor(&adapter.path, target, reason));
            }
        }
        Ok(adapter)
    }

    /// The matrix `tensor`, and its rows and columns.
    fn matrix(&self, tensor: &str) -> Result<Dense> {
        let fail = |reason: String| Error::tensor(&self.path, tensor, reason);
        let spec = self.tensors.spec(tensor)?;
        let &[rows, columns] = spec.shape() else {
            return Err(fail(format!("its shape is {:?}, but a matrix is wanted", spec.shape())));
        };
        if !spec.is_float() {
            return Err(fail(format!("its dtype is {}; F32, F16 and BF16 are read", spec.dtype())));
        }
        let view = self.tensors.tensor(tensor)?;
        let values = view.to_f32()?;
        if let Some(index) = first_non_finite(&values) {
            return Err(fail(format!("element {index} is a NaN or an infinity")));
        }
        let mut dense = Dense::zeros(Dtype::F32, rows, columns)?;
        cast_slice_mut(dense.bytes_mut()).copy_from_slice(&values);
        Ok(dense)
    }
}

/// The adapter of a model that is loaded, and the layers that have asked for their part.
#[derive(Debug)]
pub(crate) struct Adapting<'a> {
    adapter: &'a Adapter,
    /// What may precede the names of the model's tensors.
    prefixes: &'static [&'static str],
    /// By name without prefix: the layer, and whether it was asked for.
    layers: RefCell<BTreeMap<&'a str, (&'a str, bool)>>,
}

impl<'a> Adapting<'a> {
    pub(crate) fn new(adapter: &'a Adapter, prefixes: &'static [&'static str]) -> Self {
        let layer = |layer: &'a String| (without(prefixes, layer), (&**layer, false));
        Self { adapter, prefixes, layers: RefCell::new(adapter.layers.keys().map(layer).collect()) }
    }

    /// The part for a linear layer, if it has one.
    ///
    /// # Errors
    /// [`Error::Tensor`] if the matrices do not fit, or one is missing.
    pub(crate) fn part(&self, name: &str, outputs: usize, inputs: usize) -> Result<Option<LowRank>> {
        let layer = match self.layers.borrow_mut().get_mut(without(self.prefixes, name)) {
            Some((layer, asked)) => {
                *asked = true;
                *layer
            }
            None => return Ok(None),
        };
        let adapter = self.adapter;
        let [Some(a_name), Some(b_name)] = &adapter.layers[layer] else {
            return Err(Error::tensor(&adapter.path, layer, "it has one of `lora_A` and `lora_B` only"));
        };
        let (a, b) = (adapter.matrix(a_name)?, adapter.matrix(b_name)?);
        let (rank, fail) = (a.shape().0, |name: &str, found: (usize, usize), wanted: &str| {
            let reason = format!("its shape is {found:?}, but the layer asks for {wanted}");
            Error::tensor(&adapter.path, name, reason)
        });
        if rank == 0 || a.shape().1 != inputs {
            return Err(fail(a_name, a.shape(), &format!("(rank, {inputs})")));
        }
        if b.shape() != (outputs, rank) {
            return Err(fail(b_name, b.shape(), &format!("({outputs}, {rank})")));
        }
        let [a, b] = [a, b].map(|dense| DenseMatrix::new(Arc::new(dense)));
        Ok(Some(LowRank { a, b, scale: adapter.config.scale(layer, rank) as f32 }))
    }

    /// # Errors
    /// [`Error::Tensor`] for a layer that the model does not have.
    pub(crate) fn check_all_used(&self) -> Result<()> {
        match self.layers.borrow().values().find(|(_, asked)| !asked) {
            None => Ok(()),
            Some((layer, _)) => {
                let reason = "the model has no linear layer of this name; tied heads, embeddings and stacked experts \
                              have no adapter here";
                Err(Error::tensor(&self.adapter.path, layer, reason))
            }
        }
    }
}

/// Whether a name is `end`, or ends with it behind a dot.
fn is_end(name: &str, end: &str) -> bool {
    name.strip_suffix(end).is_some_and(|before| before.is_empty() || before.ends_with('.'))
}

/// A name without the first prefix that it has.
fn without<'n>(prefixes: &[&str], name: &'n str) -> &'n str {
    prefixes.iter().find_map(|prefix| name.strip_prefix(prefix)).unwrap_or(name)
}

/// `scale·B·A`, beside a linear layer.
#[derive(Debug)]
pub(crate) struct LowRank {
    a: DenseMatrix,
    b: DenseMatrix,
    scale: f32,
}

impl LowRank {
    /// Bytes that the matrices keep in memory.
    pub(crate) fn resident_bytes(&self) -> u64 {
        self.a.resident_bytes() + self.b.resident_bytes()
    }

    /// Adds some outputs, `outputs × batch`, to `y`.
    ///
    /// # Errors
    /// Those of the operators.
    pub(crate) fn add(&self, outputs: Range<usize>, x: &Inputs<'_>, y: &mut [f32]) -> codec_api::Result<()> {
        low_rank_product([&self.a, &self.b], self.scale, outputs, x, y)
    }
}

/// Adds some outputs of `scale·B·(A·x)` to `y`, `outputs × batch`: what LoRA adds to those of a
/// linear layer. `A` is `rank × inputs`, `B` is `outputs × rank`.
///
/// # Errors
/// Those of the operators.
pub fn low_rank_product(
    [a, b]: [&dyn LinearOp; 2],
    scale: f32,
    outputs: Range<usize>,
    x: &Inputs<'_>,
    y: &mut [f32],
) -> codec_api::Result<()> {
    let (rank, batch) = (a.shape().0, x.batch());
    let (mut inner, mut turned) = (vec![0.0; rank * batch], vec![0.0; rank * batch]);
    a.apply(Product::Forward, 0..rank, x, &mut inner)?;
    transpose((rank, batch), &inner, &mut turned);
    let mut added = vec![0.0; y.len()];
    b.apply(Product::Forward, outputs, &Inputs::new(&turned, batch)?, &mut added)?;
    y.iter_mut().zip(&added).for_each(|(y, added)| *y += scale * added);
    Ok(())
}
