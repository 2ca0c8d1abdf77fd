//! A packed model.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::PathBuf;

use anyhow::Result;
use checkpoint::{Packed, PackedTensor};
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
    weights: u64,
    /// Bytes of the tensors in their stored dtypes.
    dense_bytes: u64,
    /// Bytes of the sections.
    bytes: u64,
    file_bytes: u64,
    /// `bytes` in bits, per weight.
    bits_per_weight: Option<f64>,
    codecs: BTreeMap<String, Share>,
    tensors: Vec<Tensor>,
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
    /// Why the recipe's codec was not used.
    refused: Option<String>,
}

impl Tensor {
    fn read(tensor: &PackedTensor<'_>, registry: &Registry) -> Self {
        let mut codecs: Vec<String> = Vec::new();
        for chunk in tensor.chunks() {
            let codec = registry.spec_of(&*chunk.encoded().codec);
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
            refused: tensor.chunks().find_map(|chunk| chunk.refused()).map(str::to_owned),
        }
    }

    /// A line of the table.
    fn row(&self) -> [String; 6] {
        let codec = self.same_as.as_ref().map_or_else(|| self.codec.clone(), |other| format!("= {other}"));
        let bits = self.bits_per_weight.map_or_else(|| "–".to_owned(), |bits| format!("{bits:.3}"));
        let error = if self.certificate.exact { "exact".to_owned() } else { format!("{:.2e}", self.relative_error) };
        [self.name.clone(), self.dtype.clone(), text::shape(&self.shape), codec, bits, error]
    }
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
        for tensor in tensors.iter().filter(|tensor| tensor.same_as.is_none()) {
            let share = codecs.entry(tensor.codec.clone()).or_default();
            share.tensors += 1;
            share.dense_bytes += tensor.dense_bytes;
            share.bytes += tensor.bytes;
        }
        let weights = packed.tensors().map(|tensor| tensor.spec().elements() as u64).sum();
        let bytes = tensors.iter().map(|tensor| tensor.bytes).sum();
        Ok(Self {
            kind: "packed model",
            file: packed.path().to_owned(),
            program: packed.program().to_owned(),
            recipe: RawValue::from_string(packed.recipe().to_owned())?,
            source_files: packed.source_files().map(str::to_owned).collect(),
            weights,
            dense_bytes: tensors.iter().map(|tensor| tensor.dense_bytes).sum(),
            bytes,
            file_bytes: packed.file_bytes(),
            bits_per_weight: per_weight(bytes, weights),
            codecs,
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
        format!("{table}\n{}\nrecipe: {recipe}\npacked by {program}", self.totals())
    }

    /// Sizes, codecs, the largest error and what was refused.
    pub fn totals(&self) -> String {
        let (tensors, ratio) = (text::count(self.tensors.len(), "tensor"), self.dense_bytes as f64);
        let ratio = ratio / self.file_bytes.max(1) as f64;
        let bits = self.bits_per_weight.map_or_else(String::new, |bits| format!(", {bits:.3} bits/weight"));
        let (dense, file) = (text::size(self.dense_bytes), text::size(self.file_bytes));
        let mut out = format!("{tensors}, {} weights: {dense} in {file}, ratio {ratio:.2}{bits}", self.weights);
        for (codec, share) in &self.codecs {
            let (tensors, codec) = (text::count(share.tensors, "tensor"), text::printable(codec));
            let (dense, bytes) = (text::size(share.dense_bytes), text::size(share.bytes));
            let _ = write!(out, "\n  {codec}: {tensors}, {dense} in {bytes}");
        }
        self.write_ties(&mut out);
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

    fn write_ties(&self, out: &mut String) {
        let tied: Vec<_> = self.tensors.iter().filter(|tensor| tensor.same_as.is_some()).collect();
        if !tied.is_empty() {
            let bytes = text::size(tied.iter().map(|tensor| tensor.dense_bytes).sum());
            let _ = write!(out, "\n  equal to others: {}, {bytes} in 0 B", text::count(tied.len(), "tensor"));
        }
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
