//! Workloads: named lists of tensors that every codec is measured on.
//!
//! A suite is a real checkpoint (`model:PATH`) or is generated from a seed. A seeded tensor depends
//! only on the seed and its own name, and has the same bits on every machine: it uses integers,
//! IEEE arithmetic and the `libm` crate, not the mathematics library of the platform.

mod calibration;
mod cast;
mod delta;
mod init;
mod model;
mod random;
mod seed000;
mod seed001;
mod seed002;
mod synthetic;
mod tuned;

use std::path::PathBuf;

use bytes::Bytes;
use codec_api::{CodecError, Dtype, TensorSpec, TensorView};
use half::{bf16, f16};
use regex::Regex;

use crate::text::printable;

pub use calibration::MeanSquares;
pub(crate) use model::identity;
pub use random::Draw;

/// What comes before the dtype in the name of a suite.
const CAST: &str = " --cast ";

/// One tensor of a suite.
#[derive(Clone, Debug)]
pub struct Item {
    /// Unique in the suite.
    pub name: String,
    /// Dtype and shape of the tensor and of its base.
    pub spec: TensorSpec,
    /// Stored bytes, row-major, little-endian.
    pub data: Bytes,
    /// Stored bytes of the base tensor, if there is one: codecs may encode this tensor against it.
    pub base: Option<Bytes>,
    /// Statistics of the inputs of the tensor's layer, if they were collected.
    pub calibration: Option<MeanSquares>,
}

impl Item {
    /// A tensor without base and calibration.
    pub fn new(name: impl Into<String>, spec: TensorSpec, data: Bytes) -> Self {
        Self { name: name.into(), spec, data, base: None, calibration: None }
    }

    /// An F32 tensor of these values, without base and calibration.
    ///
    /// # Errors
    /// [`CodecError::Usage`] if `shape` does not have as many elements as `values`.
    pub fn from_f32(name: impl Into<String>, shape: &[usize], values: &[f32]) -> Result<Self, CodecError> {
        let view = TensorView::from_f32(shape, values)?;
        Ok(Self::new(name, view.spec().clone(), Bytes::copy_from_slice(view.bytes())))
    }

    /// The values as f32, row-major.
    ///
    /// # Errors
    /// As [`TensorView::to_f32`], and as [`Self::view`].
    pub fn to_f32(&self) -> Result<Vec<f32>, CodecError> {
        Ok(self.view()?.to_f32()?.into_owned())
    }

    /// The tensor.
    ///
    /// # Errors
    /// [`CodecError::Usage`] if the data length does not match the spec.
    pub fn view(&self) -> Result<TensorView<'_>, CodecError> {
        TensorView::new(self.spec.clone(), &self.data)
    }

    /// The base tensor, if there is one.
    ///
    /// # Errors
    /// [`CodecError::Usage`] if the length of its data does not match the spec.
    pub fn base_view(&self) -> Result<Option<TensorView<'_>>, CodecError> {
        self.base.as_deref().map(|data| TensorView::new(self.spec.clone(), data)).transpose()
    }
}

/// A named list of tensors.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Suite {
    /// The text of the suite and the options that change its data, as on a command line:
    /// `model:tuned --base plain --cast bf16`.
    pub name: String,
    /// Seed of the generated tensors, and of codecs that draw random numbers.
    pub seed: u64,
    /// The tensors as stored, in the order of the checkpoint or of the definition.
    pub items: Vec<Item>,
    /// The float dtype in which the tensors and their bases are measured, if it is not their own;
    /// see [`Self::prepared`].
    pub cast: Option<Dtype>,
    /// The files that the tensors, bases and calibration are read from; none for a seeded suite.
    pub files: Vec<PathBuf>,
    /// Notes for readers of the results: tensors without a base, calibration that fits no tensor,
    /// tensors that were not cast.
    pub notes: Vec<String>,
}

/// Options of a suite besides its name.
#[derive(Clone, Debug, Default)]
pub struct SuiteOptions {
    /// See [`Suite::seed`].
    pub seed: u64,
    /// Checkpoint with the base tensors: a tensor gets the base of the same name, dtype and shape.
    pub base: Option<PathBuf>,
    /// See [`Suite::cast`]: F32, F16 or BF16, rounded to nearest. F64 and 8-bit float tensors are
    /// cast too.
    pub cast: Option<Dtype>,
    /// Keeps only tensors with a name that matches.
    pub include: Option<Regex>,
}

impl SuiteOptions {
    fn includes(&self, name: &str) -> bool {
        self.include.as_ref().is_none_or(|pattern| pattern.is_match(name))
    }
}

/// Why a suite could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SuiteError {
    /// No suite has this name.
    #[error("unknown suite `{name}`; the suites are: {known}")]
    Unknown {
        /// The name as given.
        name: String,
        /// All patterns of suite names.
        known: String,
    },
    /// A parameter of a synthetic suite is wrong.
    #[error("suite `{name}`: {reason}")]
    Parameter {
        /// The name as given.
        name: String,
        /// What is wrong, and what is allowed.
        reason: String,
    },
    /// A base checkpoint was given for a seeded suite.
    #[error("suite `{0}` is made from a seed and takes no base: a base goes with `model:PATH`")]
    Base(String),
    /// The dtype to cast to is not one of the three float dtypes.
    #[error("cannot cast to {0}: F32, F16 and BF16 are the dtypes to cast to")]
    Cast(Dtype),
    /// No tensor has a name that matches.
    #[error("`{pattern}` matches none of the suite's {tensors}: {names}")]
    Include {
        /// The pattern.
        pattern: String,
        /// The number of tensors, with its noun.
        tensors: String,
        /// The first names.
        names: String,
    },
    /// The checkpoint cannot be read.
    #[error(transparent)]
    Checkpoint(#[from] checkpoint::Error),
    /// The calibration beside a model has an unknown axis, or a number that is no mean square.
    #[error("`{path}` is no calibration: {reason}; write it again, or remove it")]
    Calibration {
        /// The file.
        path: PathBuf,
        /// What is wrong, and the tensor concerned.
        reason: String,
    },
    /// A tensor is invalid, for example larger than the supported limit.
    #[error("tensor `{tensor}`: {source}")]
    Tensor {
        /// Its name.
        tensor: String,
        /// What is wrong.
        source: CodecError,
    },
}

impl Suite {
    /// A suite of these tensors.
    pub fn new(name: impl Into<String>, seed: u64, items: Vec<Item>) -> Self {
        Self { name: name.into(), seed, items, cast: None, files: Vec::new(), notes: Vec::new() }
    }

    /// Generates or opens the suite of this name; see [`catalogue`].
    ///
    /// # Errors
    /// [`SuiteError`]; for an unknown name the message lists all suites.
    pub fn parse(text: &str, options: &SuiteOptions) -> Result<Self, SuiteError> {
        if let Some(dtype) = options.cast.filter(|d| !matches!(d, Dtype::F32 | Dtype::F16 | Dtype::BF16)) {
            return Err(SuiteError::Cast(dtype));
        }
        let mut suite = match text.strip_prefix(model::PREFIX) {
            Some(path) => model::open(path.as_ref(), options)?,
            None if options.base.is_some() => return Err(SuiteError::Base(text.to_owned())),
            None => Self::seeded(text, options.seed)?.keep(options)?,
        };
        if let Some(dtype) = options.cast {
            suite.note_casts(dtype);
            suite.cast = Some(dtype);
            suite.name = format!("{}{CAST}{}", suite.name, dtype.to_string().to_lowercase());
        }
        Ok(suite)
    }

    /// Keeps the tensors that the options include.
    fn keep(mut self, options: &SuiteOptions) -> Result<Self, SuiteError> {
        const NAMED: usize = 5;
        let Some(pattern) = options.include.as_ref().filter(|_| !self.items.is_empty()) else { return Ok(self) };
        if self.items.iter().any(|item| options.includes(&item.name)) {
            self.items.retain(|item| options.includes(&item.name));
            return Ok(self);
        }
        let mut names: Vec<_> = self.items.iter().take(NAMED).map(|item| printable(&item.name)).collect();
        names.extend((self.items.len() > NAMED).then(|| "…".to_owned()));
        let tensors = format!("{} tensor{}", self.items.len(), if self.items.len() == 1 { "" } else { "s" });
        Err(SuiteError::Include { pattern: pattern.to_string(), tensors, names: names.join(", ") })
    }

    /// blake3 of a tensor of a checkpoint in hexadecimal: of its name, dtype, shape and stored
    /// bytes. `None` for a seeded suite. Reads the tensor.
    pub fn hash(&self, item: &Item) -> Option<String> {
        if self.files.is_empty() {
            return None;
        }
        // The lengths and the end of the text make different tensors different streams.
        let head = format!("{} {}{}\n", item.name.len(), item.name, item.spec);
        Some(blake3::Hasher::new().update(head.as_bytes()).update(&item.data).finalize().to_hex().to_string())
    }

    fn seeded(text: &str, seed: u64) -> Result<Self, SuiteError> {
        let items = match text.split_once('/') {
            Some(("delta", rest)) => delta::items(rest, seed),
            Some(("seed000", rest)) => seed000::items(rest, seed),
            Some(("seed001", rest)) => seed001::items(rest, seed),
            Some(("seed002", rest)) => seed002::items(rest, seed),
            _ => synthetic::items(text, seed),
        };
        let items = items.unwrap_or_else(|| Err(unknown(text)))?;
        Ok(Self::new(text, seed, items))
    }
}

/// All suites: pattern of the name, and content.
pub fn catalogue() -> &'static [(&'static str, &'static str)] {
    &[
        ("model:PATH", "the tensors of a safetensors file or a Hugging Face directory"),
        ("gaussian[:RxC[:DTYPE]]", "one N(0,1) matrix; 1024x1024, f32 (or f16, bf16)"),
        ("laplace[:RxC[:DTYPE]]", "one Laplace matrix of unit variance"),
        ("scale-mixed[:RxC[:DTYPE]]", "a Gaussian matrix with lognormal row and column scales (sd 0.4 of ln)"),
        ("delta/gaussian:r=0.001[:RxC[:DTYPE]]", "an N(0,1) matrix + r·N(0,1), and its base; 2048x2048, bf16"),
        ("delta/changed:p=0.01[:RxC[:DTYPE]]", "an N(0,1) matrix, this share of it one ulp up or down, and its base"),
        ("seed000/svd", "U·V + 0.01·N, 1000x1000 of rank 50"),
        ("seed000/sparse", "a 2000x2000 matrix, 5 % of it N(0,1), the rest zeros"),
        ("seed000/quant8", "a 1000x1000 N(0,1) matrix clipped to ±3"),
        ("seed000/delta", "a made-up fine-tune, + 0.01·N, of a 1000x1000 N(0,1) matrix, and its base"),
        ("seed000/checkpoints", "five 1000x1000 checkpoints, each + 0.001·N from the one before, its base"),
        ("seed000/ensemble", "five members of six layers, + 0.02·N from the first, the base; 377 MB"),
        ("seed001/gpt2-delta", "what a made-up fine-tune, 0.02·N, adds to a 768x3072 layer"),
        ("seed001/gpt2-fine-tune", "such a layer, N(0,1) + 0.02·N, and its base"),
        ("seed001/distilgpt2-workflow", "three such layers, N(0,1) + 0.01·N, and their bases"),
        ("seed002/layers", "six layers: linear, convolution and embedding, PyTorch's default initialisation"),
        ("seed002/models", "all five models below"),
        ("seed002/models/mlp", "784-512-256-128-10, initialised as PyTorch does"),
        ("seed002/models/cnn", "convolutions 3-64-128-256, linear 16384-1024-10"),
        ("seed002/models/transformer", "one encoder block: 256 wide, feed-forward 1024, 4 heads"),
        ("seed002/models/lstm", "embedding 10000x256, two LSTM layers 256-512"),
        ("seed002/models/linear", "one linear layer 2048-4096"),
    ]
}

fn unknown(name: &str) -> SuiteError {
    let known = catalogue().iter().map(|(pattern, _)| *pattern).collect::<Vec<_>>().join(", ");
    SuiteError::Unknown { name: name.to_owned(), known }
}

/// The bytes of `values` in F16 or BF16; in F32 for every other dtype.
fn narrow(values: &[f32], dtype: Dtype) -> Bytes {
    match dtype {
        Dtype::F16 => values.iter().flat_map(|v| f16::from_f32(*v).to_le_bytes()).collect(),
        Dtype::BF16 => values.iter().flat_map(|v| bf16::from_f32(*v).to_le_bytes()).collect(),
        _ => Bytes::copy_from_slice(bytemuck::cast_slice(values)),
    }
}
