//! Verifies a packed model against its source.

use std::collections::HashMap;
use std::path::Path;

use codec_api::{Certificate, CodecError, Progress, Registry, TensorView};

use super::hint::Hints;
use super::values::certificate;
use crate::checkpoint::Checkpoint;
use crate::error::Error;
use crate::layout::directory;
use crate::map::Meter;
use crate::packed::{Packed, Piece};
use crate::plan::{Plan, PlannedTensor, Source};
use crate::recipe::Recipe;

/// A target that no plan of a comparison writes.
const NOWHERE: &str = "compared.nw.safetensors";

/// A piece's tensor in the source; `None` if there is none of its name, dtype and shape. Its values
/// are read piece by piece.
type Place<'a> = Option<&'a PlannedTensor>;

impl Packed {
    /// Verifies the model ([`Self::verify`]) and compares it with its source, on rayon's current
    /// pool: names, dtypes and shapes of the tensors, tensors with the same bytes, source files
    /// with their headers, the index, codecs of the recipe in the file, and all values. Tensors of
    /// exact codecs must have the bits of the source; the error of others must be what their
    /// certificates state. `progress` gets the number of decoded weights.
    ///
    /// Returns all faults.
    ///
    /// # Errors
    /// Those of [`Plan::relative`] if the source cannot be read.
    pub fn verify_against(
        &self,
        source: &Path,
        registry: &Registry,
        progress: &dyn Progress,
    ) -> Result<Vec<Error>, Error> {
        let recipe = Recipe::from_json("in the packed file", self.recipe())?;
        let plan = Plan::relative(source, Path::new(NOWHERE), &self.base_paths(), &recipe, self.seed, registry)?;
        let mut faults = plan.differences(self)?;
        faults.extend(self.compare_values(&plan, registry, progress)?);
        faults.extend(self.wrong_paddings());
        Ok(faults)
    }

    /// Compares the files beside the packed file with those beside the source, its configuration
    /// and tokenizer for instance: missing ones, others, and those that the source does not have.
    ///
    /// # Errors
    /// If one of the directories cannot be read.
    pub fn verify_companions(&self, source: &Path) -> Result<Vec<Error>, Error> {
        let files = Source::of(&Checkpoint::open(source)?)?.companions(directory(&self.path))?;
        let mut faults = files.faults()?;
        faults.extend(files.strangers(&self.paths())?);
        Ok(faults)
    }

    /// Decodes all pieces and compares them with the source of the plan. Of a tensor with other
    /// values, only the first piece is a fault.
    fn compare_values(&self, plan: &Plan, registry: &Registry, progress: &dyn Progress) -> Result<Vec<Error>, Error> {
        let models = plan.models(registry)?;
        let planned: HashMap<&str, &PlannedTensor> =
            plan.tensors.iter().map(|tensor| (tensor.name.as_str(), tensor)).collect();
        let mut pieces = Vec::new();
        for tensor in self.tensors() {
            let source = planned.get(tensor.name()).filter(|planned| planned.spec == *tensor.spec());
            let planned_tie = source.and_then(|planned| planned.same_as).map(|other| plan.tensors[other].name.as_str());
            // The bytes of the source are equal too, or there are none to compare with.
            if tensor.same_as().is_some() && (source.is_none() || tensor.same_as() == planned_tie) {
                continue;
            }
            let place: Place<'_> = source.copied();
            pieces.extend(tensor.pieces().into_iter().map(|piece| (place, piece)));
        }
        let meter = Meter::default();
        let compare = |place: &Place<'_>, piece: &Piece<'_>| match Error::check(progress).and_then(|()| piece.decode())
        {
            Err(error) => Some((None, error)),
            Ok(decoded) => {
                let planned = (*place)?;
                let bytes = match models[planned.file].rows(&planned.name, &piece.rows()) {
                    Ok(bytes) => bytes,
                    Err(error) => return Some((None, error)),
                };
                let compared = compare_piece(planned, &bytes, piece, &decoded);
                meter.add(piece.byte_len(), || models.iter().for_each(|model| model.release()));
                let reason = compared.err()?;
                let hint = Hints { plan, models: &models }.of(planned, piece, &decoded).unwrap_or_default();
                let (path, part) = (self.path.clone(), format!("tensor `{}`", planned.name));
                Some((Some(planned.name.clone()), Error::Differs { path, part, reason: format!("{reason}{hint}") }))
            }
        };
        let found: Vec<Option<(Option<String>, Error)>> = self.for_all(&pieces, progress, compare);
        let mut faults: Vec<(Option<String>, Error)> = found.into_iter().flatten().collect();
        faults.dedup_by(|next, first| next.0.is_some() && next.0 == first.0);
        Ok(faults.into_iter().map(|(_, error)| error).collect())
    }
}

/// Compares a decoded piece with its bytes in the source.
fn compare_piece(planned: &PlannedTensor, bytes: &[u8], piece: &Piece<'_>, decoded: &[u8]) -> Result<(), String> {
    let wrong = |e: CodecError| e.to_string();
    let rows = piece.rows();
    let source = planned.spec.with_rows(rows.len()).and_then(|spec| TensorView::new(spec, bytes));
    let source = source.map_err(wrong)?;
    let stated = piece.certificate();
    if !stated.exact {
        return compare_certificates(&stated, &certificate(&source, decoded).map_err(wrong)?)
            .map_err(|reason| format!("rows {}..{}: {reason}", rows.start, rows.end));
    }
    match source.bytes().iter().zip(decoded).position(|(a, b)| a != b) {
        None => Ok(()),
        Some(byte) => {
            let (columns, bits) = (planned.spec.matrix().1, planned.spec.dtype().bitsize());
            let element = byte * 8 / bits;
            let (row, column) = (rows.start + element / columns.max(1), element % columns.max(1));
            Err(format!("it is stated to be exact, but row {row}, column {column} differs from the source"))
        }
    }
}

fn compare_certificates(stated: &Certificate, found: &Certificate) -> Result<(), String> {
    let numbers = |of: &Certificate| [of.max_abs, of.squared_error, of.energy];
    for (what, (stated, found)) in
        ["largest error", "squared error", "sum of squares"].iter().zip(numbers(stated).into_iter().zip(numbers(found)))
    {
        // A NaN is not within the rounding.
        let within = (stated - found).abs() <= Certificate::TOLERANCE * stated.abs();
        if !within {
            return Err(format!("the {what} against the source is {found:.6e}, its certificate states {stated:.6e}"));
        }
    }
    Ok(())
}
