//! Statistics as a safetensors file.
//!
//! A tensor `NAME` has the F32 tensors `NAME:inputs` and `NAME:outputs`, square, or of one axis
//! for a diagonal matrix. Equal ones are stored once. The metadata string
//! `netweight.calibration` is JSON.

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

/// What the file says about its tensors.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    version: FormatVersion<1>,
    about: About,
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
        let record = Record { version: FormatVersion, about: self.about.clone(), tensors };
        let text = serde_json::to_string(&record).map_err(|error| failed(error.to_string()))?;
        let views = stored.iter().map(|(name, curve)| {
            let (shape, values) = match curve {
                Curve::Matrix { order, values } => (vec![*order, *order], values),
                Curve::Diagonal(values) => (vec![values.len()], values),
            };
            Ok((name, TensorView::new(Dtype::F32, shape, bytemuck::cast_slice(values))?))
        });
        let views = views.collect::<Result<Vec<_>, safetensors::SafeTensorError>>();
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
        let record: Record = serde_json::from_str(text).map_err(|error| failed(error.to_string()))?;
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
        Ok(Self { about: record.about, tensors })
    }
}
