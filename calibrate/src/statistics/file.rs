//! Statistics as a safetensors file.
//!
//! A tensor `NAME` has the F32 tensors `NAME:inputs` and `NAME:outputs`, square, or of one axis
//! for a diagonal matrix. Equal ones are stored once. The U32 tensor `:tokens` has the tokens of
//! all sequences, those that are held out at the end, and `:lengths` their numbers. The metadata
//! string `netweight.calibration` is JSON.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;

use checkpoint::{AtomicFile, Checkpoint};
use codec_api::{FormatVersion, InputAxis};
use safetensors::tensor::{Dtype, Metadata, TensorInfo};
use serde::{Deserialize, Serialize};

use super::{About, Curve, Statistics, TensorStatistics};
use crate::error::{Error, Result};

/// The metadata key.
const KEY: &str = "netweight.calibration";

/// That of a part, whose string has the records of its tensors.
const PART: &str = "netweight.calibration.part";

/// The tensors of the sequences.
const TOKENS: &str = ":tokens";
const LENGTHS: &str = ":lengths";

/// What the file says about its tensors.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    version: FormatVersion<2>,
    about: About,
    /// How many sequences are held out.
    held_out: usize,
    tensors: Records,
}

/// What the file says about a tensor.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TensorRecord {
    /// Whether the rows of the matrix are inputs.
    pub(super) rows_are_inputs: bool,
    /// Names of the curvatures in the file.
    pub(super) inputs: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) outputs: Option<String>,
}

/// By the names of the tensors.
pub(super) type Records = BTreeMap<String, TensorRecord>;

/// A tensor of a safetensors file, whose bytes are made when they are written.
pub(super) struct Stored<'a> {
    pub(super) name: String,
    pub(super) dtype: Dtype,
    pub(super) shape: Vec<usize>,
    pub(super) bytes: Box<dyn Fn() -> Result<Cow<'a, [u8]>> + 'a>,
}

impl<'a> Stored<'a> {
    /// A vector whose bytes are there.
    pub(super) fn vector(name: &str, dtype: Dtype, bytes: &'a [u8]) -> Self {
        let shape = vec![bytes.len() * 8 / dtype.bitsize()];
        Self { name: name.to_owned(), dtype, shape, bytes: Box::new(move || Ok(Cow::Borrowed(bytes))) }
    }

    fn byte_len(&self) -> usize {
        self.shape.iter().product::<usize>() * self.dtype.bitsize() / 8
    }
}

/// Writes a safetensors file with a metadata string. One tensor is in memory at a time.
///
/// # Errors
/// If it cannot be written; those of the bytes.
pub(super) fn write(mut file: AtomicFile, (key, text): (&str, String), mut stored: Vec<Stored<'_>>) -> Result<()> {
    stored.sort_by(|a, b| b.dtype.cmp(&a.dtype).then(a.name.cmp(&b.name)));
    let mut end = 0;
    let infos = stored.iter().map(|stored| {
        let begin = end;
        end += stored.byte_len();
        let (dtype, shape) = (stored.dtype, stored.shape.clone());
        (stored.name.clone(), TensorInfo { dtype, shape, data_offsets: (begin, end) })
    });
    let header = Metadata::new(Some([(key.to_owned(), text)].into()), infos.collect());
    let header = header.map_err(|error| Error::Usage(error.to_string()))?;
    let mut header = serde_json::to_vec(&header).map_err(|error| no_json(&error))?;
    header.resize(header.len().next_multiple_of(8), b' ');
    file.write(&(header.len() as u64).to_le_bytes())?;
    file.write(&header)?;
    for stored in &stored {
        file.write(&(stored.bytes)()?)?;
    }
    Ok(file.commit()?)
}

/// The error of a description that JSON cannot express.
pub(super) fn no_json(error: &serde_json::Error) -> Error {
    Error::Usage(error.to_string())
}

/// Writes the file of all statistics, from those of parts of the model.
pub(super) fn assemble(
    file: AtomicFile,
    about: &About,
    [sequences, held_out]: [&[Vec<u32>]; 2],
    parts: &[Checkpoint],
) -> Result<()> {
    let all = || sequences.iter().chain(held_out);
    let tokens: Vec<u32> = all().flatten().copied().collect();
    let lengths: Vec<u32> = all().map(|ids| ids.len() as u32).collect();
    let mut tensors = Records::new();
    let mut stored = Vec::new();
    for part in parts {
        tensors.extend(records(part)?);
        for name in part.names() {
            let shape = part.spec(name)?.shape().to_vec();
            let bytes = move || {
                let bytes = part.bytes(name)?.1.to_vec();
                part.release();
                Ok(Cow::Owned(bytes))
            };
            stored.push(Stored { name: name.to_owned(), dtype: Dtype::F32, shape, bytes: Box::new(bytes) });
        }
    }
    let record = Record { version: FormatVersion, about: about.clone(), held_out: held_out.len(), tensors };
    let text = serde_json::to_string(&record).map_err(|error| no_json(&error))?;
    for (name, values) in [(TOKENS, &tokens), (LENGTHS, &lengths)] {
        stored.push(Stored::vector(name, Dtype::U32, bytemuck::cast_slice(values)));
    }
    write(file, (KEY, text), stored)
}

/// Writes the statistics of a part of the model.
pub(super) fn write_part(path: &Path, records: &Records, stored: Vec<Stored<'_>>) -> Result<()> {
    let text = serde_json::to_string(records).map_err(|error| no_json(&error))?;
    write(AtomicFile::create(path)?, (PART, text), stored)
}

fn records(part: &Checkpoint) -> Result<Records> {
    let text = part.metadata().get(PART).map_or("", String::as_str);
    serde_json::from_str(text).map_err(|error| {
        let path = part.files().first().cloned().unwrap_or_default();
        Error::File { path, reason: format!("it has no statistics: {error}; delete its folder") }
    })
}

impl Statistics {
    /// Reads the output of [`super::Collection::run`].
    ///
    /// # Errors
    /// [`Error::File`] if it is no such file.
    pub fn open(path: &Path) -> Result<Self> {
        let failed = |reason: String| Error::File { path: path.to_owned(), reason };
        let file = Checkpoint::open(path).map_err(|error| failed(error.to_string()))?;
        let text = file.metadata().get(KEY).ok_or_else(|| {
            failed("it has no statistics; `netweight calibrate` makes a file that has them".to_owned())
        })?;
        let record: Record = serde_json::from_str(text)
            .map_err(|error| failed(format!("{error}; `netweight calibrate` makes such a file anew")))?;
        let curve = |name: &str| -> Result<Curve> {
            let tensor = file.tensor(name).map_err(|error| failed(error.to_string()))?;
            let values = tensor.to_f32().map_err(|error| failed(error.to_string()))?.into_owned();
            match *tensor.spec().shape() {
                [order, other] if order == other => Ok(Curve::Matrix { order, values }),
                [_] => Ok(Curve::Diagonal(values)),
                _ => Err(failed(format!("`{name}` is {}, no curvature", tensor.spec()))),
            }
        };
        let mut tensors = BTreeMap::new();
        for (name, TensorRecord { rows_are_inputs, inputs, outputs }) in record.tensors {
            let axis = if rows_are_inputs { InputAxis::Rows } else { InputAxis::Columns };
            let (inputs, outputs) = (curve(&inputs)?, outputs.map(|outputs| curve(&outputs)).transpose()?);
            tensors.insert(name, TensorStatistics { axis, inputs, outputs });
        }
        let numbers = |name: &str| -> Result<Vec<u32>> {
            let (spec, bytes) = file.bytes(name).map_err(|error| failed(error.to_string()))?;
            if spec.dtype() != codec_api::Dtype::U32 {
                return Err(failed(format!("`{name}` is {spec}, no list of tokens")));
            }
            Ok(bytemuck::pod_collect_to_vec(&bytes))
        };
        let (tokens, lengths) = (numbers(TOKENS)?, numbers(LENGTHS)?);
        let mut sequences = cut(&tokens, &lengths).ok_or_else(|| failed("its sequences are damaged".to_owned()))?;
        let kept = sequences.len().checked_sub(record.held_out);
        let held_out = sequences.split_off(kept.ok_or_else(|| failed("its sequences are missing".to_owned()))?);
        Ok(Self { about: record.about, sequences, held_out, tensors })
    }
}

/// The sequences with these lengths; `None` if the tokens are more or fewer.
fn cut(tokens: &[u32], lengths: &[u32]) -> Option<Vec<Vec<u32>>> {
    let mut rest = tokens;
    let sequences = lengths.iter().map(|len| {
        let (ids, others) = rest.split_at_checked(*len as usize)?;
        rest = others;
        Some(ids.to_vec())
    });
    let sequences = sequences.collect::<Option<_>>()?;
    rest.is_empty().then_some(sequences)
}
