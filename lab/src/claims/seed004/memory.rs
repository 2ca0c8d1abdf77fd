//! Bytes by kind of tensor.

use std::path::Path;

use anyhow::Result;
use checkpoint::{Checkpoint, Packed};

use super::forms::Kind;
use crate::lab::Lab;
use crate::measure::{Table, beside};

const MIB: f64 = (1 << 20) as f64;

/// Rows of the table: what it is, and the report's MB for gpt2-large, dense and packed.
const ROWS: [(&str, Option<[f64; 2]>); 7] = [
    ("linear layers", Some([2200.0, 550.0])),
    ("embedding", None),
    ("positions", None),
    ("both embeddings", Some([600.0, 150.0])),
    ("head: the embedding", Some([150.0, 0.0])),
    ("scales, norms and biases", Some([0.0, 65.0])),
    ("all", Some([2950.0, 765.0])),
];

/// Bytes of a model, dense and packed.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Memory {
    /// Linear layers, embedding, positions; norms and biases.
    parts: [[u64; 2]; 4],
    /// Scales of the packed matrices.
    scales: u64,
    /// Packed linear layers, and those that are exact.
    pub(super) layers: [usize; 2],
}

impl Memory {
    /// Reads the headers of both files.
    ///
    /// # Errors
    /// If they cannot be read.
    pub(super) fn of(lab: &Lab, dense: &Path, packed: &Path) -> Result<Self> {
        let mut memory = Self::default();
        let model = Checkpoint::open(dense)?;
        for name in model.names() {
            let spec = model.spec(name)?;
            memory.parts[Kind::of(name, spec) as usize][0] += spec.byte_len() as u64;
        }
        for tensor in Packed::open(packed, &lab.registry)?.tensors() {
            let kind = Kind::of(tensor.name(), tensor.spec());
            let mut exact = false;
            for chunk in tensor.chunks() {
                exact |= chunk.encoded().codec.as_lossless().is_some();
                for (name, section) in chunk.encoded().payload.sections() {
                    let bytes = section.data().len() as u64;
                    if kind == Kind::Vector || name == "codes" {
                        memory.parts[kind as usize][1] += bytes;
                    } else {
                        memory.scales += bytes;
                    }
                }
            }
            if kind == Kind::Linear {
                memory.layers[usize::from(exact)] += 1;
            }
        }
        Ok(memory)
    }

    /// All bytes, dense and packed.
    pub(super) fn total(&self) -> [f64; 2] {
        let all = self.parts.iter().fold([0, self.scales], |sum, part| [sum[0] + part[0], sum[1] + part[1]]);
        all.map(|bytes| bytes as f64 / MIB)
    }

    /// The rows of [`ROWS`] in MiB.
    fn rows(&self) -> [[f64; 2]; 7] {
        let [linear, embedding, positions, vectors] = self.parts.map(|part| part.map(|bytes| bytes as f64 / MIB));
        let both = [embedding[0] + positions[0], embedding[1] + positions[1]];
        let rest = [vectors[0], vectors[1] + self.scales as f64 / MIB];
        [linear, embedding, positions, both, [0.0, 0.0], rest, self.total()]
    }
}

/// The table of all shapes; the report has figures for the last one.
pub(super) fn table(shapes: &[(&str, Memory)]) -> String {
    let titles = shapes.iter().flat_map(|(name, _)| [format!("{name} F32"), "int8".to_owned()]);
    let mut table = Table::new(["MiB".to_owned()].into_iter().chain(titles));
    for (row, (name, claims)) in ROWS.iter().enumerate() {
        let mut cells = vec![(*name).to_owned()];
        for (i, (_, memory)) in shapes.iter().enumerate() {
            let claims = claims.filter(|_| i + 1 == shapes.len());
            for (form, mib) in memory.rows()[row].into_iter().enumerate() {
                let shown = format!("{mib:.1}");
                cells.push(claims.map_or(shown.clone(), |claims| {
                    beside(&shown, &format!("{}", claims[form]), form == 1 && mib > claims[1])
                }));
            }
        }
        table.row(cells);
    }
    table.under("Memory Breakdown", TEXT)
}

const TEXT: &str = "\
Bytes of the tensors in the files. The report's split of gpt2-large does not fit the model: its
embedding and positions have 250 MiB, not 600 MB, and the head is the embedding in both forms. The
scales are F16 numbers, one for each row of a matrix (GPT-2 stores linear layers transposed, so that
it is one for each input), and an exponent for each chunk of a tensor.";
