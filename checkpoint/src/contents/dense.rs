//! What is in a model, dense or of expressions.

use std::collections::BTreeMap;
use std::path::PathBuf;

use codec_api::TensorSpec;
use serde::Serialize;

use crate::checkpoint::Checkpoint;
use crate::computed::Computed;
use crate::error::Error;
use crate::packed::Hash;

/// The contents of a dense model.
#[derive(Debug, Serialize)]
pub struct DenseContents {
    /// The kind of the model, in words.
    pub kind: &'static str,
    /// The files with tensors.
    pub files: Vec<PathBuf>,
    /// Number of weights.
    pub weights: u64,
    /// Bytes in the stored dtypes.
    pub bytes: u64,
    /// The tensors of each dtype.
    pub dtypes: BTreeMap<String, DtypeShare>,
    /// [`Checkpoint::hash`], if the bytes were read for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub blake3: Option<String>,
    /// The metadata of the files.
    pub metadata: BTreeMap<String, String>,
    /// What was not opened, and why.
    pub notes: Vec<String>,
    /// The tensors, in the order of the file.
    pub tensors: Vec<TensorContents>,
}

/// The tensors of one dtype.
#[derive(Debug, Default, Serialize)]
pub struct DtypeShare {
    /// Number of tensors.
    pub tensors: usize,
    /// Bytes in the stored dtypes.
    pub bytes: u64,
}

/// A tensor of a model.
#[derive(Debug, Serialize)]
pub struct TensorContents {
    /// The name.
    pub name: String,
    /// The dtype, as in safetensors files.
    pub dtype: String,
    /// The shape.
    pub shape: Vec<usize>,
    /// Bytes in the stored dtypes.
    pub bytes: u64,
}

impl TensorContents {
    fn new(name: &str, spec: &TensorSpec) -> Self {
        let (dtype, bytes) = (spec.dtype().to_string(), spec.byte_len() as u64);
        Self { name: name.to_owned(), dtype, shape: spec.shape().to_vec(), bytes }
    }
}

impl DenseContents {
    /// Those of a model; no weights are read.
    ///
    /// # Errors
    /// Those of [`Checkpoint::spec`].
    pub fn read(model: &Checkpoint) -> Result<Self, Error> {
        let (mut tensors, mut dtypes) = (Vec::new(), BTreeMap::<String, DtypeShare>::new());
        for name in model.names() {
            let tensor = TensorContents::new(name, model.spec(name)?);
            let share = dtypes.entry(tensor.dtype.clone()).or_default();
            share.tensors += 1;
            share.bytes += tensor.bytes;
            tensors.push(tensor);
        }
        Ok(Self {
            kind: "model",
            files: model.files().to_vec(),
            weights: model.weights(),
            bytes: tensors.iter().map(|tensor| tensor.bytes).sum(),
            dtypes,
            blake3: None,
            metadata: model.metadata().clone(),
            notes: model.notes().to_vec(),
            tensors,
        })
    }

    /// With the hash of the model; all bytes are read.
    ///
    /// # Errors
    /// Those of [`Checkpoint::hash`].
    pub fn with_hash(self, model: &Checkpoint) -> Result<Self, Error> {
        Ok(Self { blake3: Some(Hash(model.hash()?).to_string()), ..self })
    }
}

/// The contents of a model of expressions.
#[derive(Debug, Serialize)]
pub struct ComputedContents {
    /// The kind of the model, in words.
    pub kind: &'static str,
    /// The file, or the index of several.
    pub file: PathBuf,
    /// Bytes of the files.
    pub file_bytes: u64,
    /// Number of weights.
    pub weights: u64,
    /// Bytes in the stored dtypes.
    pub bytes: u64,
    /// The files that the tensors are computed of.
    pub sources: Vec<PathBuf>,
    /// The tensors, in the order of the file.
    pub tensors: Vec<TensorContents>,
}

impl ComputedContents {
    /// Those of a model; nothing is computed.
    ///
    /// # Errors
    /// [`Error::Io`] if its file has gone.
    pub fn read(model: &Computed) -> Result<Self, Error> {
        let specs = model.inner().tensors();
        let mut sources = model.inner().files();
        sources.sort();
        sources.dedup();
        let metadata = std::fs::metadata(model.path()).map_err(|error| Error::io(model.path(), error))?;
        Ok(Self {
            kind: "expressions",
            file: model.path().to_owned(),
            file_bytes: metadata.len(),
            weights: specs.iter().map(|(_, spec)| spec.elements() as u64).sum(),
            bytes: specs.iter().map(|(_, spec)| spec.byte_len() as u64).sum(),
            sources,
            tensors: specs.iter().map(|(name, spec)| TensorContents::new(name, spec)).collect(),
        })
    }
}
