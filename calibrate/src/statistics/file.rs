//! Statistics as a safetensors file.
//!
//! A tensor `NAME` has the F32 tensors `NAME:inputs` and `NAME:outputs`, square, or of one axis
//! for a diagonal matrix. Equal ones are stored once. The U32 tensor `:tokens` has the tokens of
//! all sequences, those that are held out at the end, and `:lengths` their numbers. The metadata
//! string `netweight.calibration` is JSON.

use std::collections::BTreeMap;
use std::path::Path;

use checkpoint::Checkpoint;
use codec_api::{FormatVersion, InputAxis};
use safetensors::tensor::{Dtype, TensorView};
use serde::{Deserialize, Serialize};

use super::{About, Curve, Statistics, TensorStatistics};
use crate::error::{Error, Result};

/// The metadata key.
const KEY: &str = "netweight.calibration";

/// The tensors of the sequences.
const TOKENS: &str = ":tokens";
const LENGTHS: &str = ":lengths";

/// What the file says about its tensors.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    version: FormatVersion<2>,
    about: About,
    /// How many sequences are held out.
    held_out: usize,
    tensors: BTreeMap<String, TensorRecord>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TensorRecord {
    /// Whether the rows of the matrix are inputs.
    rows_are_inputs: bool,
    /// Names of the curvatures in the file.
    inputs: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    outputs: Option<String>,
}

impl Statistics {
    /// Writes the file, whole or not at all.
    ///
    /// # Errors
    /// [`Error::File`] if it cannot be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        let failed = |reason: String| Error::File { path: path.to_owned(), reason };
        let mut stored: Vec<(String, &Curve)> = Vec::new();
        let mut place = |name: String, curve| {
            if let Some((known, _)) = stored.iter().find(|(_, known)| *known == curve) {
                return known.clone();
            }
            stored.push((name.clone(), curve));
            name
        };
        let mut tensors = BTreeMap::new();
        for (name, found) in &self.tensors {
            let inputs = place(format!("{name}:inputs"), &found.inputs);
            let outputs = found.outputs.as_ref().map(|outputs| place(format!("{name}:outputs"), outputs));
            let rows_are_inputs = found.axis == InputAxis::Rows;
            tensors.insert(name.clone(), TensorRecord { rows_are_inputs, inputs, outputs });
        }
        let held_out = self.held_out.len();
        let record = Record { version: FormatVersion, about: self.about.clone(), held_out, tensors };
        let text = serde_json::to_string(&record).map_err(|error| failed(error.to_string()))?;
        let views = stored.iter().map(|(name, curve)| {
            let (shape, values) = match curve {
                Curve::Matrix { order, values } => (vec![*order, *order], values),
                Curve::Diagonal(values) => (vec![values.len()], values),
            };
            Ok((name.clone(), TensorView::new(Dtype::F32, shape, bytemuck::cast_slice(values))?))
        });
        let sequences = || self.sequences.iter().chain(&self.held_out);
        let tokens: Vec<u32> = sequences().flatten().copied().collect();
        let lengths: Vec<u32> = sequences().map(|ids| ids.len() as u32).collect();
        let ids = [(TOKENS, &tokens), (LENGTHS, &lengths)].map(|(name, values)| {
            Ok((name.to_owned(), TensorView::new(Dtype::U32, vec![values.len()], bytemuck::cast_slice(values))?))
        });
        let views = views.chain(ids).collect::<Result<Vec<_>, safetensors::SafeTensorError>>();
        let views = views.map_err(|error| failed(error.to_string()))?;
        let metadata = [(KEY.to_owned(), text)].into();
        let bytes = safetensors::serialize(views, Some(metadata)).map_err(|error| failed(error.to_string()))?;
        let mut temporary = path.as_os_str().to_owned();
        temporary.push(".tmp");
        let written = std::fs::write(&temporary, bytes).and_then(|()| std::fs::rename(&temporary, path));
        written.map_err(|error| failed(format!("it cannot be written: {error}")))
    }

    /// Reads the output of [`Self::save`].
    ///
    /// # Errors
    /// [`Error::File`] if it is no such file.
    pub fn open(path: &Path) -> Result<Self> {
        let failed = |reason: String| Error::File { path: path.to_owned(), reason };
        let file = Checkpoint::open(path).map_err(|error| failed(error.to_string()))?;
        let text = file.metadata().get(KEY).ok_or_else(|| {
            failed("it has no statistics; `netweight calibrate` makes a file that has them".to_owned())
        })?;
        let record: Record = serde_json::from_str(text)
            .map_err(|error| failed(format!("{error}; `netweight calibrate` makes such a file anew")))?;
        let curve = |name: &str| -> Result<Curve> {
            let tensor = file.tensor(name).map_err(|error| failed(error.to_string()))?;
            let values = tensor.to_f32().map_err(|error| failed(error.to_string()))?.into_owned();
            match *tensor.spec().shape() {
                [order, other] if order == other => Ok(Curve::Matrix { order, values }),
                [_] => Ok(Curve::Diagonal(values)),
                _ => Err(failed(format!("`{name}` is {}, no curvature", tensor.spec()))),
            }
        };
        let mut tensors = BTreeMap::new();
        for (name, TensorRecord { rows_are_inputs, inputs, outputs }) in record.tensors {
            let axis = if rows_are_inputs { InputAxis::Rows } else { InputAxis::Columns };
            let (inputs, outputs) = (curve(&inputs)?, outputs.map(|outputs| curve(&outputs)).transpose()?);
            tensors.insert(name, TensorStatistics { axis, inputs, outputs });
        }
        let numbers = |name: &str| -> Result<Vec<u32>> {
            let (spec, bytes) = file.bytes(name).map_err(|error| failed(error.to_string()))?;
            if spec.dtype() != codec_api::Dtype::U32 {
                return Err(failed(format!("`{name}` is {spec}, no list of tokens")));
            }
            Ok(bytemuck::pod_collect_to_vec(&bytes))
        };
        let (tokens, lengths) = (numbers(TOKENS)?, numbers(LENGTHS)?);
        let mut sequences = cut(&tokens, &lengths).ok_or_else(|| failed("its sequences are damaged".to_owned()))?;
        let kept = sequences.len().checked_sub(record.held_out);
        let held_out = sequences.split_off(kept.ok_or_else(|| failed("its sequences are missing".to_owned()))?);
        Ok(Self { about: record.about, sequences, held_out, tensors })
    }
}

/// The sequences with these lengths; `None` if the tokens are more or fewer.
fn cut(tokens: &[u32], lengths: &[u32]) -> Option<Vec<Vec<u32>>> {
    let mut rest = tokens;
    let sequences = lengths.iter().map(|len| {
        let (ids, others) = rest.split_at_checked(*len as usize)?;
        rest = others;
        Some(ids.to_vec())
    });
    let sequences = sequences.collect::<Option<_>>()?;
    rest.is_empty().then_some(sequences)
}
