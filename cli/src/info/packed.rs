//! A packed model as text.

use std::fmt::Write;

use checkpoint::contents::{Level, PackedContents, PackedTensorContents, Shard};
use checkpoint::{Packed, Tried};
use codec_api::Registry;
use serde::Serialize;

use crate::text;
use crate::text::Align::{Left, Right};

/// Tensors that a summary names.
const NAMED: usize = 4;

/// The contents of a packed model.
#[derive(Debug, Serialize)]
pub struct Model(PackedContents);

/// A line of the table of levels.
fn row_of_level(level: &Level, number: usize) -> [String; 5] {
    let bits = level.bits_per_weight.map_or_else(|| "–".to_owned(), |bits| format!("{bits:.3}"));
    let cut = if level.whole { "" } else { " (cut off)" };
    let [error, largest] = [level.relative_error, level.largest_relative_error].map(|error| format!("{error:.2e}"));
    [number.to_string(), format!("{}{cut}", level.file_bytes), bits, error, largest]
}

/// A line of the table.
fn row_of(tensor: &PackedTensorContents) -> [String; 6] {
    let codec = match (&tensor.same_as, &tensor.base) {
        (Some(other), _) => format!("= {other}"),
        (None, Some(base)) if tensor.equals_base => format!("= {base} of the base"),
        _ => tensor.codec.clone(),
    };
    let bits = tensor.bits_per_weight.map_or_else(|| "–".to_owned(), |bits| format!("{bits:.3}"));
    let error = if tensor.certificate.exact { "exact".to_owned() } else { format!("{:.2e}", tensor.relative_error) };
    [tensor.name.clone(), tensor.dtype.clone(), text::shape(&tensor.shape), codec, bits, error]
}

/// What a candidate gave: `trellis:bits=3 1234 B, 9.1e-2`.
fn outcome(tried: &Tried) -> String {
    let sample = if tried.sample { " in a sample" } else { "" };
    match (tried.bytes, tried.error) {
        (Some(bytes), Some(error)) if error > 0.0 => format!("{} {bytes} B, {error:.2e}{sample}", tried.codec),
        (Some(bytes), _) => format!("{} {bytes} B, no error{sample}", tried.codec),
        _ => format!("{} refuses it", tried.codec),
    }
}

impl Model {
    /// # Errors
    /// If the recipe in the file is no JSON.
    pub fn read(packed: &Packed, registry: &Registry) -> Result<Self, checkpoint::Error> {
        Ok(Self(PackedContents::read(packed, registry)?))
    }

    /// Bytes of the tensors in their stored dtypes.
    pub fn dense_bytes(&self) -> u64 {
        self.0.dense_bytes
    }

    /// As text; the table fits into `width`.
    pub fn table(&self, width: Option<usize>) -> String {
        let columns =
            [("tensor", Left), ("dtype", Left), ("shape", Left), ("codec", Left), ("bits/w", Right), ("error", Right)];
        let table = text::table(&columns, self.0.tensors.iter().map(row_of), width);
        let recipe = text::printable(self.0.recipe.get());
        let program = text::printable(&self.0.program);
        let (totals, levels, trials) = (self.totals(), self.level_table(width), self.trials());
        format!("{table}\n{totals}\n{levels}{trials}recipe: {recipe}\npacked by {program}")
    }

    /// What was tried for each tensor whose codec was chosen by trial, as text.
    fn trials(&self) -> String {
        let tried = self.0.tensors.iter().filter(|tensor| tensor.same_as.is_none() && !tensor.tried.is_empty());
        let lines: Vec<_> = tried
            .map(|tensor| {
                let all = tensor.tried.iter().map(outcome).collect::<Vec<_>>().join("; ");
                format!("\n  `{}`: {}", text::printable(&tensor.name), text::printable(&all))
            })
            .collect();
        if lines.is_empty() { String::new() } else { format!("tried, the chosen codec first:{}\n", lines.concat()) }
    }

    /// The quality levels as text, if there are several.
    fn level_table(&self, width: Option<usize>) -> String {
        if self.0.levels.len() < 2 {
            return String::new();
        }
        let columns =
            [("level", Right), ("first bytes", Right), ("bits/w", Right), ("error", Right), ("largest", Right)];
        let rows = self.0.levels.iter().enumerate().map(|(number, level)| row_of_level(level, number));
        format!("\n{}\n", text::table(&columns, rows, width))
    }

    /// Sizes, codecs, the largest error and what was refused.
    pub fn totals(&self) -> String {
        let (tensors, ratio) = (text::count(self.0.tensors.len(), "tensor"), self.0.dense_bytes as f64);
        let ratio = ratio / self.0.file_bytes.max(1) as f64;
        let bits = self.0.bits_per_weight.map_or_else(String::new, |bits| format!(", {bits:.3} bits/weight"));
        let (dense, file) = (text::size(self.0.dense_bytes), text::size(self.0.file_bytes));
        let mut out = format!("{tensors}, {} weights: {dense} in {file}, ratio {ratio:.2}{bits}", self.0.weights);
        self.write_shards(&mut out);
        for (codec, share) in &self.0.codecs {
            let (tensors, codec) = (text::count(share.tensors, "tensor"), text::printable(codec));
            let (dense, bytes) = (text::size(share.dense_bytes), text::size(share.bytes));
            let _ = write!(out, "\n  {codec}: {tensors}, {dense} in {bytes}");
        }
        self.write_ties(&mut out);
        self.write_base(&mut out);
        self.write_refusals(&mut out);
        let worst = self.0.tensors.iter().max_by(|a, b| a.relative_error.total_cmp(&b.relative_error));
        let _ = match worst.filter(|_| self.0.tensors.iter().any(|tensor| !tensor.certificate.exact)) {
            None => write!(out, "\nerror: none, every bit is restored"),
            Some(tensor) => {
                let name = text::printable(&tensor.name);
                write!(out, "\nlargest error: ‖w − ŵ‖/‖w‖ = {:.3e}, `{name}`", tensor.relative_error)
            }
        };
        out
    }

    fn write_shards(&self, out: &mut String) {
        let Some(most) = self.0.max_shard_size else { return };
        let _ = write!(out, "\nin {} of at most {}", text::count(self.0.shards.len(), "file"), text::size(most));
        let count = |what: &str, is: &dyn Fn(&Shard) -> bool| match self.0.shards.iter().filter(|file| is(file)).count()
        {
            0 => String::new(),
            found => format!("; {found} {what}"),
        };
        *out += &count("larger, for a header or a single section", &|file| file.bytes > most);
        *out += &count("missing or cut off: sizes count what is there", &|file| file.found != Some(file.bytes));
    }

    fn write_ties(&self, out: &mut String) {
        let mut write = |what: &str, is: fn(&PackedTensorContents) -> bool| {
            let found: Vec<_> = self.0.tensors.iter().filter(|tensor| is(tensor)).collect();
            if !found.is_empty() {
                let bytes = text::size(found.iter().map(|tensor| tensor.dense_bytes).sum());
                let _ = write!(out, "\n  equal to {what}: {}, {bytes} in 0 B", text::count(found.len(), "tensor"));
            }
        };
        write("others", |tensor| tensor.same_as.is_some());
        write("those of the base", |tensor| tensor.equals_base);
    }

    fn write_base(&self, out: &mut String) {
        let Some(base) = &self.0.base else { return };
        let place = match (&base.found, &base.hint) {
            (Some(found), _) => format!("`{}`", text::path(found)),
            (None, Some(hint)) => format!("not found, it was `{}`; give it with --base", text::path(hint)),
            (None, None) => "give it with --base".to_owned(),
        };
        let tensors = self.0.tensors.iter().filter(|tensor| tensor.base.is_some()).count();
        let (name, tensors) = (text::printable(&base.name), text::count(tensors, "tensor"));
        let _ = write!(out, "\n{tensors} relative to the base `{name}`: {place}");
    }

    fn write_refusals(&self, out: &mut String) {
        let refused = || self.0.tensors.iter().filter_map(|tensor| Some((tensor, tensor.refused.as_ref()?)));
        let (count, bytes) = refused().fold((0, 0), |(n, bytes), (tensor, _)| (n + 1, bytes + tensor.bytes));
        if count == 0 {
            return;
        }
        let (count_text, size) = (text::count(count, "tensor"), text::size(bytes));
        let _ = write!(out, "\nstored exactly, since the codec refuses them: {count_text}, {size}");
        for (tensor, reason) in refused().take(NAMED) {
            let _ = write!(out, "\n  `{}`: {}", text::printable(&tensor.name), text::printable(reason));
        }
        if count > NAMED {
            let _ = write!(out, "\n  and {} more", count - NAMED);
        }
    }
}
