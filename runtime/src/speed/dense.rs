//! Dense models in files, written a few values at a time.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;

use checkpoint::Checkpoint;
use codec_api::Dtype;
use codec_api::util::{narrow, widen};
use serde_json::{Map, json};

use crate::error::{Error, Result};

/// Values that are converted at once.
const AT_ONCE: usize = 1 << 20;

/// The names of the two files of a model.
pub(super) const WEIGHTS: &str = "model.safetensors";
pub(super) const CONFIG: &str = "config.json";

/// Name and shape of a tensor.
pub(super) type Named = (String, Vec<usize>);

/// Writes a model in Hugging Face layout into a directory: all tensors of `model` in `dtype`
/// (F32, BF16 or F16), and `config.json`.
///
/// # Errors
/// Those of reading the model, also for tensors that are not floats; [`Error::Unwritten`] if a file
/// cannot be written.
pub fn write_as(model: &Checkpoint, dtype: Dtype, folder: &Path) -> Result<()> {
    let tensors = model.names().map(|name| Ok((name.to_owned(), model.spec(name)?.shape().to_vec())));
    let tensors = tensors.collect::<Result<Vec<Named>>>()?;
    let config = model.files().first().and_then(|file| file.parent()).unwrap_or(Path::new("")).join(CONFIG);
    let config = fs::read_to_string(&config).map_err(|error| Error::beside(&config, &error))?;
    write(folder, &config, dtype, &tensors, |tensor, first, out| {
        let stored = model.tensor(&tensors[tensor].0)?;
        let of = |values: usize| values * stored.spec().dtype().bitsize() / 8;
        widen(stored.spec().dtype(), &stored.bytes()[of(first)..of(first + out.len())], out)?;
        model.release();
        Ok(())
    })
}

/// Writes a model; `fill` gets the number of a tensor and the index of the first value wanted.
pub(super) fn write(
    folder: &Path,
    config: &str,
    dtype: Dtype,
    tensors: &[Named],
    mut fill: impl FnMut(usize, usize, &mut [f32]) -> Result<()>,
) -> Result<()> {
    let path = folder.join(WEIGHTS);
    let failed = |error: std::io::Error| Error::unwritten(&path, &error);
    fs::create_dir_all(folder).and_then(|()| fs::write(folder.join(CONFIG), config)).map_err(failed)?;
    let mut file = BufWriter::new(File::create(&path).map_err(failed)?);
    let header = header(dtype, tensors);
    file.write_all(&(header.len() as u64).to_le_bytes()).map_err(failed)?;
    file.write_all(header.as_bytes()).map_err(failed)?;
    let mut values = vec![0.0; AT_ONCE];
    let mut bytes = vec![0; AT_ONCE * dtype.bitsize() / 8];
    for (number, (_, shape)) in tensors.iter().enumerate() {
        let len: usize = shape.iter().product();
        for first in (0..len).step_by(AT_ONCE) {
            let values = &mut values[..(len - first).min(AT_ONCE)];
            fill(number, first, values)?;
            let bytes = &mut bytes[..values.len() * dtype.bitsize() / 8];
            narrow(dtype, values, bytes)?;
            file.write_all(bytes).map_err(failed)?;
        }
    }
    file.flush().map_err(failed)
}

/// The header of a safetensors file, padded to a multiple of eight bytes.
fn header(dtype: Dtype, tensors: &[Named]) -> String {
    let (mut header, mut begin) = (Map::new(), 0);
    for (name, shape) in tensors {
        let end = begin + shape.iter().product::<usize>() * dtype.bitsize() / 8;
        header.insert(name.clone(), json!({"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}));
        begin = end;
    }
    let mut text = json!(header).to_string();
    text.push_str(&" ".repeat(text.len().next_multiple_of(8) - text.len()));
    text
}
