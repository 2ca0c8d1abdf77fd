//! Compares everything of a packed model but values with a plan: names, dtypes, shapes, codecs,
//! ties, source files, headers and index.

use std::collections::HashMap;

use codec_api::header;

use crate::error::Error;
use crate::packed::{Hash, Packed, PackedTensor};
use crate::plan::{Plan, PlannedTensor};
use crate::recipe::exact_codec;

impl Plan {
    /// What a packed model has otherwise than this plan makes it.
    ///
    /// # Errors
    /// [`Error::Changed`] if the source is not as it was.
    pub(crate) fn differences(&self, packed: &Packed) -> Result<Vec<Error>, Error> {
        let differs = |part: String, reason: String| Error::Differs { path: packed.path.clone(), part, reason };
        let mut faults = Vec::new();
        let mut fault = |name: &str, reason: String| faults.push(differs(format!("tensor `{name}`"), reason));
        let mut planned: HashMap<&str, &PlannedTensor> =
            self.tensors.iter().map(|tensor| (tensor.name.as_str(), tensor)).collect();
        for tensor in packed.tensors() {
            match planned.remove(tensor.name()) {
                None => fault(tensor.name(), "the source has no tensor of this name".to_owned()),
                Some(planned) => {
                    self.compare(planned, &tensor, packed).into_iter().for_each(|reason| fault(tensor.name(), reason));
                }
            }
        }
        for tensor in self.tensors.iter().filter(|tensor| planned.contains_key(tensor.name.as_str())) {
            let file = self.source.path(&self.source.files[tensor.file]);
            fault(&tensor.name, format!("it is missing; the source has it in `{}`", file.display()));
        }
        if faults.is_empty() {
            let others = packed.tensors().zip(&self.tensors).find(|(found, planned)| found.name() != planned.name);
            let reason = "it stands where the source has another tensor; their order is another one";
            faults.extend(others.map(|(found, _)| differs(format!("tensor `{}`", found.name()), reason.to_owned())));
        }
        faults.extend(self.compare_files(packed)?.into_iter().map(|(part, reason)| differs(part, reason)));
        Ok(faults)
    }

    /// How a tensor is another one than planned.
    fn compare(&self, planned: &PlannedTensor, found: &PackedTensor<'_>, packed: &Packed) -> Vec<String> {
        if *found.spec() != planned.spec {
            return vec![format!("it is {}, and {} in the source", found.spec(), planned.spec)];
        }
        let mut faults = Vec::new();
        if found.file() != planned.file {
            faults.push(format!(
                "it is in source file {}, and the source has it in `{}`",
                found.file(),
                self.source.files[planned.file].name
            ));
        }
        // Another version may choose and tie otherwise.
        if packed.program() != self.program {
            return faults;
        }
        let planned_tie = planned.same_as.map(|other| self.tensors[other].name.as_str());
        match (found.same_as(), planned_tie) {
            (found, planned) if found == planned => {}
            (None, Some(other)) => {
                faults.push(format!("it is stored on its own, and the source has the same bytes for `{other}`"));
            }
            (Some(other), _) => {
                faults.push(format!("it is stored as equal to `{other}`, and the source has other bytes for it"));
            }
            (None, None) => {}
        }
        if found.same_as().is_none() && planned_tie.is_none() {
            faults.extend(self.other_base(planned, found));
            faults.extend(self.other_codec(planned, found));
        }
        faults
    }

    /// Another base tensor, or another statement on whether the tensor equals it.
    fn other_base(&self, planned: &PlannedTensor, found: &PackedTensor<'_>) -> Option<String> {
        let told = |base: Option<(&str, Hash)>, equal: bool| match base {
            None => "it has no base".to_owned(),
            Some((name, hash)) if equal => format!("it equals the base tensor `{name}` (blake3 {hash})"),
            Some((name, hash)) => format!("its base is `{name}` (blake3 {hash})"),
        };
        let expected = told(self.base_of(planned), planned.equals_base);
        let found = told(found.base(), found.equals_base());
        (found != expected).then(|| format!("{found}, and by the source {expected}"))
    }

    /// A codec that is neither that of the recipe nor the one that stands in for it.
    fn other_codec(&self, planned: &PlannedTensor, found: &PackedTensor<'_>) -> Option<String> {
        let expected = self.codecs[planned.codec].get();
        found.chunks().find_map(|chunk| {
            let codec = header(&*chunk.encoded().codec).unwrap_or_default();
            let exact = &self.codecs[exact_codec(found.base().is_some())];
            let stands_in = codec == exact.get() && chunk.refused().is_some();
            (codec != expected && !stands_in)
                .then(|| format!("its codec is {codec}, and the recipe of the file chooses {expected}"))
        })
    }

    /// Part and reason of every difference in source files, headers and index.
    fn compare_files(&self, packed: &Packed) -> Result<Vec<(String, String)>, Error> {
        let mut faults = Vec::new();
        let mut fault = |file: &str, reason: &str| faults.push((format!("source file `{file}`"), reason.to_owned()));
        let missing = "it is missing in the packed model";
        let headers = self.headers()?;
        for (i, (file, header)) in self.source.files.iter().zip(&headers).enumerate() {
            match packed.files.get(i) {
                None => fault(&file.name, missing),
                Some(found) if found.record.name != file.name => fault(
                    &found.record.name,
                    &format!("the source has `{}` in its place: it was renamed, or swapped with another", file.name),
                ),
                Some(found) => match packed.verbatim(found) {
                    Ok(bytes) if bytes == *header => {}
                    Ok(_) => fault(&file.name, "its header is another one: metadata, order, names or padding"),
                    Err(error) => fault(&file.name, &error.to_string()),
                },
            }
        }
        for strange in packed.files.iter().skip(headers.len()) {
            fault(&strange.record.name, "the source has no such file");
        }
        match (self.source.read_index()?, &packed.index) {
            (Some(index), Some(found)) => match packed.verbatim(found) {
                Ok(bytes) if bytes == index => {}
                Ok(_) => fault(&found.record.name, "the index is another one"),
                Err(error) => fault(&found.record.name, &error.to_string()),
            },
            (None, None) => {}
            (Some(_), None) => fault(self.source.index.as_ref().map_or("index", |index| &index.name), missing),
            (None, Some(found)) => fault(&found.record.name, "the source has no index"),
        }
        Ok(faults)
    }
}
