//! A model and versions of it, for example fine-tunes, all together.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;
use checkpoint::{Checkpoint, Recipe};

use super::{compressed, megabytes};
use crate::lab::Lab;
use crate::measure::Table;

/// Level of Zstandard for what is kept.
const THOROUGH: i32 = 19;

const TEXT: &str = "\
Bytes of each file: as it is, with Zstandard, XORed with the base and compressed with Zstandard, and
packed without loss: the base alone, each version relative to the base, and relative to the version
above it.";

/// The table of a base and its versions, and its sums.
pub(super) fn section(lab: &Lab, directory: &Path, base: &Path, versions: &[PathBuf]) -> Result<String> {
    let titles = ["Model", "File", "zstd -19", "XOR, zstd -19", "Packed, from the base", "Packed, from the one above"];
    let mut table = Table::new(titles);
    let old = tensors(base)?;
    let mut sums = [0; 5];
    let mut above = base;
    for model in std::iter::once(base).chain(versions.iter().map(PathBuf::as_path)) {
        let target = directory.join("version.nw.safetensors");
        let packed = |from: Option<&Path>| {
            let bases: Vec<PathBuf> = from.into_iter().map(Path::to_owned).collect();
            lab.pack(model, &target, &bases, &Recipe::default())?;
            anyhow::Ok(fs::metadata(&target)?.len())
        };
        let whole = fs::read(model)?;
        let alone = compressed(&whole, THOROUGH)?;
        let sizes = if model == base {
            let packed = packed(None)?;
            [whole.len() as u64, alone, alone, packed, packed]
        } else {
            let xor: Vec<u8> = tensors(model)?.iter().zip(&old).map(|(new, old)| new ^ old).collect();
            [whole.len() as u64, alone, compressed(&xor, THOROUGH)?, packed(Some(base))?, packed(Some(above))?]
        };
        let name = model.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        table.row([vec![name], sizes.map(megabytes).to_vec()].concat());
        (0..sums.len()).for_each(|i| sums[i] += sizes[i]);
        above = model;
    }
    table.row([vec!["all".to_owned()], sums.map(megabytes).to_vec()].concat());
    Ok(table.under("A series of versions", TEXT))
}

/// The bytes of all tensors, in the order of their names.
fn tensors(model: &Path) -> Result<Vec<u8>> {
    let model = Checkpoint::open(model)?;
    let mut names: Vec<&str> = model.names().collect();
    names.sort_unstable();
    let mut all = Vec::new();
    for name in names {
        all.extend_from_slice(model.tensor(name)?.bytes());
    }
    Ok(all)
}
