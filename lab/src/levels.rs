//! `cargo xtask levels`: files with quality levels beside files of one level and the same bytes.

use std::fs::canonicalize;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use checkpoint::{Packed, Recipe};
use codec_api::Certificate;
use tempfile::TempDir;

use crate::lab::{LAYERS, Lab};
use crate::measure::{Table, paragraph, significant};
use crate::stamp::stamp;

/// The recipe that is measured.
const RECIPE: &str = "progressive";

/// SeedLM in levels, as seed 002 built it: each level spends 2 bits on the error of the others.
const SEEDLM: &str = "seedlm:preset=2bit:layers=4";

/// The codec of files of one level; with a rate.
const ONE_LEVEL: &str = "trellis:states=64";

/// Largest difference between the lengths of two files of the same bytes.
const SAME: f64 = 0.002;

/// Most files of one level that are written for one length.
const TRIALS: usize = 6;

const TEXT: &str = "\
The first bytes of a packed file are a coarse model (`checkpoint::Packed::levels`). A line below is
one level of a file with all matrices of the model: the bytes of the file up to its end, and the
NMSE of the model that these bytes give. Beside it is the NMSE of a whole file of as many bytes
(within .2 %) with `trellis:states=64` in one level, and the ratio of the two: what it costs to have
levels. A bit per weight divides the NMSE by four, so that a ratio of 1.15 is a tenth of a bit.";

const SEED: &str = "\
Seed 002 states relative errors of 1.234, 0.923, 0.756 and 0.645 for a base and one to three
enhancement layers in up to 2.34 times the bytes of the base. Its code gave noise: the error rose
from 1.21 to 7.86 with the layers, and the size to 7.55 times the base. The lines of `seedlm` are
the same design with a decoder that works (`docs/seed002.md`).";

/// Measures a model, by default the trained layers in the tree, and prints the page.
///
/// # Errors
/// If the model cannot be read or packed.
pub fn page(lab: &Lab, model: Option<&Path>) -> Result<String> {
    let model = model.map_or_else(|| lab.root.join(LAYERS), Path::to_owned);
    let model = canonicalize(&model).with_context(|| format!("cannot find `{}`", model.display()))?;
    let name = model.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let recipe = Recipe::load(RECIPE)?;
    let mut table = Table::new(["Codec", "Level", "Bytes", "Bits per weight", "NMSE", "NMSE in one level", "Ratio"]);
    for (title, recipe) in
        [(format!("recipe `{RECIPE}`"), recipe), (format!("`{SEEDLM}`"), Recipe::for_matrices(SEEDLM))]
    {
        let folder = TempDir::new()?;
        let packed = pack(lab, &model, &recipe, folder.path())?;
        for (number, level) in packed.levels().iter().enumerate() {
            let nmse = nmse(&packed, number)?;
            let one = one_level(lab, &model, level.file_bytes)?;
            table.row([
                title.clone(),
                number.to_string(),
                level.file_bytes.to_string(),
                format!("{:.3}", 8.0 * level.bytes as f64 / weights(&packed) as f64),
                significant(nmse),
                significant(one),
                format!("{:.3}", nmse / one),
            ]);
        }
    }
    let title = format!("# Quality levels\n\n{}", paragraph(&stamp(&lab.root, "levels MODEL")));
    Ok(format!("{title}\n{}\n{}", paragraph(SEED), table.under(&format!("`{name}`"), TEXT)))
}

/// Packs a model into a folder.
fn pack(lab: &Lab, model: &Path, recipe: &Recipe, folder: &Path) -> Result<Packed> {
    let target = folder.join("model.nw.safetensors");
    lab.pack(model, &target, &[], recipe)?;
    Ok(Packed::open(&target, &lab.registry)?)
}

/// Weights that are stored.
fn weights(packed: &Packed) -> u64 {
    let stored = packed.stored_tensors();
    stored.map(|tensor| tensor.spec().elements() as u64).sum()
}

/// The error of a level, over all tensors that are stored.
fn nmse(packed: &Packed, level: usize) -> Result<f64> {
    let mut sum = Certificate::EMPTY;
    for tensor in packed.stored_tensors() {
        sum.add(&tensor.at_level(level)?.certificate());
    }
    Ok(sum.nmse())
}

/// The NMSE of a file of this length with one level.
fn one_level(lab: &Lab, model: &Path, bytes: u64) -> Result<f64> {
    let folder = TempDir::new()?;
    let mut bits: Option<f64> = None;
    for _ in 0..TRIALS {
        let codec = bits.map_or_else(|| format!("{ONE_LEVEL}:bits=2"), |bits| format!("{ONE_LEVEL}:bits={bits:.4}"));
        let packed = pack(lab, model, &Recipe::for_matrices(&codec), folder.path())?;
        let (found, weights) = (packed.file_bytes() as f64, weights(&packed) as f64);
        if (found / bytes as f64 - 1.0).abs() <= SAME {
            return nmse(&packed, 0);
        }
        // What is stored exactly keeps its size.
        bits = Some(bits.unwrap_or(2.0) + 8.0 * (bytes as f64 - found) / weights);
        ensure!(bits.is_some_and(|bits| bits >= 0.25), "a file of {bytes} bytes is too small for the model");
    }
    anyhow::bail!("`{ONE_LEVEL}` gives no file of {bytes} bytes")
}

#[cfg(test)]
mod tests {
    use codec_api::Registry;

    use super::*;

    #[test]
    fn levels_cost_little_beside_files_of_one_level() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned();
        let lab = Lab { root, registry: Registry::linked().unwrap() };
        let model = lab.root.join(LAYERS);
        let folder = TempDir::new().unwrap();
        let packed = pack(&lab, &model, &Recipe::load(RECIPE).unwrap(), folder.path()).unwrap();
        assert_eq!(packed.levels().len(), 3);
        for (number, level) in packed.levels().iter().enumerate() {
            let ratio = nmse(&packed, number).unwrap() / one_level(&lab, &model, level.file_bytes).unwrap();
            // In this small model the names of sections take some hundredths of a bit, too.
            assert!((0.9..1.3).contains(&ratio), "level {number}: {ratio}");
        }
    }
}
