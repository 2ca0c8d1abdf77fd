//! Calibration of a model: the file `calibration.safetensors` beside it.
//!
//! The file has an F32 vector for each calibrated tensor, under the tensor's name: the mean of x²
//! of each input of its layer. The metadata key `axis` says whether inputs are `columns` (the
//! default, Linear) or `rows` (GPT-2 `Conv1D`) of the tensors' matrix views.

use std::collections::BTreeSet;
use std::path::Path;

use checkpoint::{CALIBRATION, Checkpoint};
use codec_api::{Calibration, Dtype, InputAxis, TensorSpec, TensorView};

use super::{Suite, SuiteError, SuiteOptions};

/// A [`Calibration`] that owns its numbers.
#[derive(Clone, Debug)]
pub struct MeanSquares {
    /// The axis of the matrix view along which the inputs run.
    pub axis: InputAxis,
    /// Mean of x² of each input.
    pub squares: Vec<f32>,
}

impl MeanSquares {
    /// A view for the context of an encode.
    pub fn calibration(&self) -> Calibration<'_> {
        Calibration::new(self.axis, &self.squares)
    }
}

/// Gives the tensors of the model at `model` their calibration, if there is a file of it. Notes
/// every name that the model does not have, and every vector that does not fit its tensor: the file
/// may belong to another model in the same directory.
pub(super) fn attach(suite: &mut Suite, model: &Path, options: &SuiteOptions) -> Result<(), SuiteError> {
    let directory = if model.is_dir() { Some(model) } else { model.parent() };
    let path = directory.unwrap_or(Path::new("")).join(CALIBRATION);
    if !path.is_file() || path == model {
        return Ok(());
    }
    let wrong = |reason| SuiteError::Calibration { path: path.clone(), reason };
    let file = Checkpoint::open(&path)?;
    suite.files.push(path.clone());
    let axis = match file.metadata().get("axis").map(String::as_str) {
        None | Some("columns") => InputAxis::Columns,
        Some("rows") => InputAxis::Rows,
        Some(other) => return Err(wrong(format!("its `axis` is `{other}`, not `columns` or `rows`"))),
    };
    let mut unused: BTreeSet<&str> = file.names().filter(|name| options.includes(name)).collect();
    for item in suite.items.iter_mut().filter(|item| item.spec.elements() > 0) {
        if !unused.remove(item.name.as_str()) {
            continue;
        }
        let vector = file.tensor(&item.name)?;
        if let Some(misfit) = misfit(vector.spec(), axis, &item.spec) {
            suite.notes.push(format!("{}: `{}` has {misfit}; it gets no calibration", item.name, path.display()));
            continue;
        }
        let squares = squares(&vector).map_err(|reason| wrong(format!("tensor `{}`: {reason}", item.name)))?;
        item.calibration = Some(MeanSquares { axis, squares });
    }
    suite.notes.extend(unused.into_iter().map(|name| format!("{name}: only the calibration has it")));
    Ok(())
}

/// Why a vector of spec `vector` does not fit a tensor of `spec`.
fn misfit(vector: &TensorSpec, axis: InputAxis, spec: &TensorSpec) -> Option<String> {
    let (inputs, along) = match axis {
        InputAxis::Columns => (spec.matrix().1, "columns"),
        InputAxis::Rows => (spec.matrix().0, "rows"),
    };
    let fits = vector.dtype() == Dtype::F32 && vector.shape() == [inputs];
    (!fits).then(|| format!("{vector}, but F32 [{inputs}] fits the {along} of {spec}"))
}

/// The values of a vector, or the reason why they are no mean squares.
fn squares(vector: &TensorView<'_>) -> Result<Vec<f32>, String> {
    let squares = vector.to_f32().map_err(|e| e.to_string())?;
    match squares.iter().find(|square| !(square.is_finite() && **square >= 0.0)) {
        Some(square) => Err(format!("{square} is no mean square")),
        None => Ok(squares.into_owned()),
    }
}
