//! A packed model.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::PathBuf;

use anyhow::Result;
use checkpoint::{Packed, PackedTensor, Tried};
use codec_api::{Certificate, Registry};
use serde::Serialize;
use serde_json::value::RawValue;

use crate::text;
use crate::text::Align::{Left, Right};

/// Tensors that a summary names.
const NAMED: usize = 4;

/// The properties of a packed model.
#[derive(Debug, Serialize)]
pub struct Model {
    kind: &'static str,
    file: PathBuf,
    program: String,
    recipe: Box<RawValue>,
    source_files: Vec<String>,
    base: Option<Base>,
    weights: u64,
    /// Bytes of the tensors in their stored dtypes.
    dense_bytes: u64,
    /// Bytes of the sections.
    bytes: u64,
    file_bytes: u64,
    /// The files of a set.
    shards: Vec<Shard>,
    /// The most bytes that each should have.
    max_shard_size: Option<u64>,
    /// `bytes` in bits, per weight.
    bits_per_weight: Option<f64>,
    codecs: BTreeMap<String, Share>,
    /// The quality levels; one for a model without levels.
    levels: Vec<Level>,
    tensors: Vec<Tensor>,
}

/// The model that tensors are stored relative to.
#[derive(Debug, Serialize)]
struct Base {
    name: String,
    /// Where it was.
    hint: Option<PathBuf>,
    /// Where it was found.
    found: Option<PathBuf>,
}

/// A file of a set.
#[derive(Debug, Serialize)]
struct Shard {
    file: PathBuf,
    bytes: u64,
    /// The length that it has; null if it is missing.
    found: Option<u64>,
}

/// A quality level with those before it.
#[derive(Debug, Serialize)]
struct Level {
    /// Bytes of the beginning of the file.
    file_bytes: u64,
    /// Bits of the sections, per weight.
    bits_per_weight: Option<f64>,
    /// Of all tensors together, and of the tensor with the largest.
    relative_error: f64,
    largest_relative_error: f64,
    /// Whether the file holds it.
    whole: bool,
}

impl Level {
    fn read(packed: &Packed, number: usize, weights: u64) -> Result<Self> {
        let level = &packed.levels()[number];
        let (mut sum, mut largest) = (Certificate::EMPTY, 0.0f64);
        for tensor in packed.stored_tensors() {
            let certificate = tensor.at_level(number)?.certificate();
            sum.add(&certificate);
            largest = largest.max(certificate.rel_frobenius());
        }
        Ok(Self {
            file_bytes: level.file_bytes,
            bits_per_weight: per_weight(level.bytes, weights),
            relative_error: sum.rel_frobenius(),
            largest_relative_error: largest,
            whole: level.whole,
        })
    }

    /// A line of the table.
    fn row(&self, number: usize) -> [String; 5] {
        let bits = self.bits_per_weight.map_or_else(|| "–".to_owned(), |bits| format!("{bits:.3}"));
        let cut = if self.whole { "" } else { " (cut off)" };
        let [error, largest] = [self.relative_error, self.largest_relative_error].map(|error| format!("{error:.2e}"));
        [number.to_string(), format!("{}{cut}", self.file_bytes), bits, error, largest]
    }
}

/// The tensors of one codec.
#[derive(Debug, Default, Serialize)]
struct Share {
    tensors: usize,
    dense_bytes: u64,
    bytes: u64,
}

#[derive(Debug, Serialize)]
struct Tensor {
    name: String,
    dtype: String,
    shape: Vec<usize>,
    dense_bytes: u64,
    /// As spec text; several if the codec refused some chunks.
    codec: String,
    bytes: u64,
    bits_per_weight: Option<f64>,
    certificate: Certificate,
    relative_error: f64,
    /// blake3 of the decoded bytes; of the hashes of several chunks.
    blake3: String,
    chunks: usize,
    /// The tensor with the same bytes that is stored.
    same_as: Option<String>,
    /// The tensor of the base.
    base: Option<String>,
    equals_base: bool,
    /// Why the recipe's codec was not used.
    refused: Option<String>,
    /// What was tried if the codec was chosen by trial; the chosen one first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tried: Vec<Tried>,
}

impl Tensor {
    fn read(tensor: &PackedTensor<'_>, registry: &Registry) -> Self {
        let mut codecs: Vec<String> = Vec::new();
        for chunk in tensor.chunks() {
            let codec = registry.spec_of(chunk.codec());
            if !codecs.contains(&codec) {
                codecs.push(codec);
            }
        }
        let certificate = tensor.certificate();
        let (spec, bytes) = (tensor.spec(), tensor.bytes());
        Self {
            name: tensor.name().to_owned(),
            dtype: spec.dtype().to_string(),
            shape: spec.shape().to_vec(),
            dense_bytes: spec.byte_len() as u64,
            codec: codecs.join(" and "),
            bytes,
            bits_per_weight: per_weight(bytes, spec.elements() as u64),
            relative_error: certificate.rel_frobenius(),
            certificate,
            blake3: tensor.hash().to_string(),
            chunks: tensor.chunks().count(),
            same_as: tensor.same_as().map(str::to_owned),
            base: tensor.base().map(|(name, _)| name.to_owned()),
            equals_base: tensor.equals_base(),
            refused: tensor.chunks().find_map(|chunk| chunk.refused()).map(str::to_owned),
            tried: tensor.tried().to_vec(),
        }
    }

    /// A line of the table.
    fn row(&self) -> [String; 6] {
        let codec = match (&self.same_as, &self.base) {
            (Some(other), _) => format!("= {other}"),
            (None, Some(base)) if self.equals_base => format!("= {base} of the base"),
            _ => self.codec.clone(),
        };
        let bits = self.bits_per_weight.map_or_else(|| "–".to_owned(), |bits| format!("{bits:.3}"));
        let error = if self.certificate.exact { "exact".to_owned() } else { format!("{:.2e}", self.relative_error) };
        [self.name.clone(), self.dtype.clone(), text::shape(&self.shape), codec, bits, error]
    }
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

/// The files of a set; none for a model in one file.
fn shards(packed: &Packed) -> Vec<Shard> {
    if packed.max_shard_size().is_none() {
        return Vec::new();
    }
    packed.packed_files().map(|file| Shard { file: file.path, bytes: file.bytes, found: file.found }).collect()
}

fn per_weight(bytes: u64, weights: u64) -> Option<f64> {
    (weights > 0).then(|| 8.0 * bytes as f64 / weights as f64)
}

impl Model {
    /// # Errors
    /// If the recipe in the file is no JSON.
    pub fn read(packed: &Packed, registry: &Registry) -> Result<Self> {
        let tensors: Vec<_> = packed.tensors().map(|tensor| Tensor::read(&tensor, registry)).collect();
        let mut codecs = BTreeMap::<String, Share>::new();
        for tensor in tensors.iter().filter(|tensor| tensor.same_as.is_none() && !tensor.equals_base) {
            let share = codecs.entry(tensor.codec.clone()).or_default();
            share.tensors += 1;
            share.dense_bytes += tensor.dense_bytes;
            share.bytes += tensor.bytes;
        }
        let weights = packed.tensors().map(|tensor| tensor.spec().elements() as u64).sum();
        let levels = (0..packed.levels().len()).map(|level| Level::read(packed, level, weights));
        let bytes = tensors.iter().map(|tensor| tensor.bytes).sum();
        Ok(Self {
            kind: "packed model",
            file: packed.path().to_owned(),
            program: packed.program().to_owned(),
            recipe: RawValue::from_string(packed.recipe().to_owned())?,
            source_files: packed.source_files().map(str::to_owned).collect(),
            base: packed.base_name().map(|name| Base {
                name: name.to_owned(),
                hint: packed.base_hint(),
                found: packed.base_path().map(Into::into),
            }),
            weights,
            dense_bytes: tensors.iter().map(|tensor| tensor.dense_bytes).sum(),
            bytes,
            file_bytes: packed.file_bytes(),
            shards: shards(packed),
            max_shard_size: packed.max_shard_size(),
            bits_per_weight: per_weight(bytes, weights),
            codecs,
            levels: levels.collect::<Result<_>>()?,
            tensors,
        })
    }

    /// Bytes of the tensors in their stored dtypes.
    pub fn dense_bytes(&self) -> u64 {
        self.dense_bytes
    }

    /// As text; the table fits into `width`.
    pub fn table(&self, width: Option<usize>) -> String {
        let columns =
            [("tensor", Left), ("dtype", Left), ("shape", Left), ("codec", Left), ("bits/w", Right), ("error", Right)];
        let table = text::table(&columns, self.tensors.iter().map(Tensor::row), width);
        let recipe = text::printable(self.recipe.get());
        let program = text::printable(&self.program);
        let (totals, levels, trials) = (self.totals(), self.level_table(width), self.trials());
        format!("{table}\n{totals}\n{levels}{trials}recipe: {recipe}\npacked by {program}")
    }

    /// What was tried for each tensor whose codec was chosen by trial, as text.
    fn trials(&self) -> String {
        let tried = self.tensors.iter().filter(|tensor| tensor.same_as.is_none() && !tensor.tried.is_empty());
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
        if self.levels.len() < 2 {
            return String::new();
        }
        let columns =
            [("level", Right), ("first bytes", Right), ("bits/w", Right), ("error", Right), ("largest", Right)];
        let rows = self.levels.iter().enumerate().map(|(number, level)| level.row(number));
        format!("\n{}\n", text::table(&columns, rows, width))
    }

    /// Sizes, codecs, the largest error and what was refused.
    pub fn totals(&self) -> String {
        let (tensors, ratio) = (text::count(self.tensors.len(), "tensor"), self.dense_bytes as f64);
        let ratio = ratio / self.file_bytes.max(1) as f64;
        let bits = self.bits_per_weight.map_or_else(String::new, |bits| format!(", {bits:.3} bits/weight"));
        let (dense, file) = (text::size(self.dense_bytes), text::size(self.file_bytes));
        let mut out = format!("{tensors}, {} weights: {dense} in {file}, ratio {ratio:.2}{bits}", self.weights);
        self.write_shards(&mut out);
        for (codec, share) in &self.codecs {
            let (tensors, codec) = (text::count(share.tensors, "tensor"), text::printable(codec));
            let (dense, bytes) = (text::size(share.dense_bytes), text::size(share.bytes));
            let _ = write!(out, "\n  {codec}: {tensors}, {dense} in {bytes}");
        }
        self.write_ties(&mut out);
        self.write_base(&mut out);
        self.write_refusals(&mut out);
        let worst = self.tensors.iter().max_by(|a, b| a.relative_error.total_cmp(&b.relative_error));
        let _ = match worst.filter(|_| self.tensors.iter().any(|tensor| !tensor.certificate.exact)) {
            None => write!(out, "\nerror: none, every bit is restored"),
            Some(tensor) => {
                let name = text::printable(&tensor.name);
                write!(out, "\nlargest error: ‖w − ŵ‖/‖w‖ = {:.3e}, `{name}`", tensor.relative_error)
            }
        };
        out
    }

    fn write_shards(&self, out: &mut String) {
        let Some(most) = self.max_shard_size else { return };
        let _ = write!(out, "\nin {} of at most {}", text::count(self.shards.len(), "file"), text::size(most));
        let count = |what: &str, is: &dyn Fn(&Shard) -> bool| match self.shards.iter().filter(|file| is(file)).count() {
            0 => String::new(),
            found => format!("; {found} {what}"),
        };
        *out += &count("larger, for a header or a single section", &|file| file.bytes > most);
        *out += &count("missing or cut off: sizes count what is there", &|file| file.found != Some(file.bytes));
    }

    fn write_ties(&self, out: &mut String) {
        let mut write = |what: &str, is: fn(&Tensor) -> bool| {
            let found: Vec<_> = self.tensors.iter().filter(|tensor| is(tensor)).collect();
            if !found.is_empty() {
                let bytes = text::size(found.iter().map(|tensor| tensor.dense_bytes).sum());
                let _ = write!(out, "\n  equal to {what}: {}, {bytes} in 0 B", text::count(found.len(), "tensor"));
            }
        };
        write("others", |tensor| tensor.same_as.is_some());
        write("those of the base", |tensor| tensor.equals_base);
    }

    fn write_base(&self, out: &mut String) {
        let Some(base) = &self.base else { return };
        let place = match (&base.found, &base.hint) {
            (Some(found), _) => format!("`{}`", text::path(found)),
            (None, Some(hint)) => format!("not found, it was `{}`; give it with --base", text::path(hint)),
            (None, None) => "give it with --base".to_owned(),
        };
        let tensors = self.tensors.iter().filter(|tensor| tensor.base.is_some()).count();
        let (name, tensors) = (text::printable(&base.name), text::count(tensors, "tensor"));
        let _ = write!(out, "\n{tensors} relative to the base `{name}`: {place}");
    }

    fn write_refusals(&self, out: &mut String) {
        let refused = || self.tensors.iter().filter_map(|tensor| Some((tensor, tensor.refused.as_ref()?)));
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
