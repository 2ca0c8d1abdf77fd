//! Where values come from.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use checkpoint::{Hash, Model};
use codec_api::util::widen;
use codec_api::{CodecError, DecodeCx, EncodeCx, EncodedTensor, LinearOp, Registry, RowReader, TensorSpec, TensorView};

use crate::error::{Error, Result};
use crate::operation::rows_and_columns;

/// Bytes of a dense model that are read before the memory of its pages is given back.
pub(crate) const RELEASED: u64 = 64 << 20;

/// A model whose tensors are leaves.
#[derive(Debug)]
pub struct Source {
    path: PathBuf,
    model: Model,
    read: AtomicU64,
}

impl Source {
    /// Opens a dense, packed or computed model ([`Model::open`]).
    ///
    /// # Errors
    /// Those of [`Model::open`].
    pub fn open(path: impl AsRef<Path>, registry: &Registry) -> Result<Arc<Self>> {
        let path = path.as_ref();
        Ok(Self::of(path, Model::open(path, &[], registry)?))
    }

    pub(crate) fn of(path: &Path, model: Model) -> Arc<Self> {
        Arc::new(Self { path: path.to_owned(), model, read: AtomicU64::new(0) })
    }

    /// Counts bytes of the map that were read, and gives memory back now and then.
    fn count(&self, bytes: u64) {
        let before = self.read.fetch_add(bytes, Ordering::Relaxed);
        if before / RELEASED != (before + bytes) / RELEASED {
            self.model.release();
        }
    }

    /// The path as it was given.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The model.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// blake3 of a tensor's stored bytes; for a packed tensor that of its manifest.
    ///
    /// # Errors
    /// Those of the checkpoint.
    pub fn hash(&self, tensor: &str) -> Result<Hash> {
        Ok(match &self.model {
            Model::Packed(packed) => packed.tensor(tensor)?.hash(),
            model => {
                let hash = model.hash(tensor)?;
                self.count(model.spec(tensor)?.byte_len() as u64);
                hash
            }
        })
    }
}

/// The values of a leaf.
pub(crate) enum Leaf {
    Dense(Arc<[f32]>),
    Random { seed: u64, deviation: f32 },
    Encoded(Box<Encoded>),
    Stored(Box<Stored>),
}

/// An encoded tensor in memory; opened on first use.
pub(crate) struct Encoded {
    pub(crate) tensor: Arc<EncodedTensor>,
    reader: OnceLock<Box<dyn RowReader>>,
    operator: OnceLock<Option<Box<dyn LinearOp>>>,
}

/// A tensor of a checkpoint.
pub(crate) struct Stored {
    pub(crate) source: Arc<Source>,
    pub(crate) name: String,
    /// The hash that a file states, and whether the tensor has it, once that was found out.
    stated: Option<Hash>,
    checked: OnceLock<()>,
    /// Held while the tensor is hashed, so that other threads wait.
    checking: Mutex<()>,
    operator: OnceLock<Option<Box<dyn LinearOp>>>,
}

impl Encoded {
    pub(crate) fn new(tensor: Arc<EncodedTensor>) -> Self {
        Self { tensor, reader: OnceLock::new(), operator: OnceLock::new() }
    }
}

impl Stored {
    pub(crate) fn new(source: Arc<Source>, name: &str, stated: Option<Hash>) -> Self {
        let (name, checked, checking) = (name.to_owned(), OnceLock::new(), Mutex::default());
        Self { source, name, stated, checked, checking, operator: OnceLock::new() }
    }

    /// Compares the tensor with the stated hash. The first call reads it whole, if it is dense.
    ///
    /// # Errors
    /// [`Error::Changed`]; those of the model.
    pub(crate) fn check(&self) -> Result<()> {
        let (Some(stated), None) = (self.stated, self.checked.get()) else { return Ok(()) };
        // A computed tensor takes rayon's threads, which may come here too: they do not wait.
        let waits = !matches!(self.source.model, Model::Computed(_));
        let _lock = waits.then(|| self.checking.lock().unwrap_or_else(PoisonError::into_inner));
        if self.checked.get().is_some() {
            return Ok(());
        }
        let found = self.source.hash(&self.name)?;
        if found != stated {
            return Err(Error::Changed {
                path: self.source.path.clone(),
                tensor: self.name.clone(),
                reason: format!("it has blake3 {found}, and the graph was built with {stated}"),
            });
        }
        self.checked.get_or_init(|| ());
        Ok(())
    }

    /// Reads the whole tensor, and compares it with the stated hash.
    ///
    /// # Errors
    /// As [`Self::check`].
    pub(crate) fn verify(&self) -> Result<()> {
        if let Model::Packed(packed) = &self.source.model {
            // Its bytes are compared with the hash of the manifest.
            packed.tensor(&self.name)?.decode_bytes()?;
        }
        self.check()
    }

    /// The hash for a file.
    ///
    /// # Errors
    /// Those of the model.
    pub(crate) fn hash(&self) -> Result<Hash> {
        self.stated.map_or_else(|| self.source.hash(&self.name), Ok)
    }

    /// The stored bytes of rows of the matrix view.
    ///
    /// # Errors
    /// As [`Self::check`].
    pub(crate) fn bytes(&self, rows: &Range<usize>) -> Result<codec_api::Bytes> {
        self.check()?;
        let bytes = self.source.model.rows(&self.name, rows)?;
        self.source.count(bytes.len() as u64);
        Ok(bytes)
    }
}

impl fmt::Debug for Leaf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dense(values) => write!(f, "dense array of {} values", values.len()),
            Self::Random { seed, deviation } => write!(f, "random, seed {seed}, deviation {deviation}"),
            Self::Encoded(encoded) => write!(f, "payload of `{}`", encoded.tensor.codec.typetag_name()),
            Self::Stored(stored) => write!(f, "`{}`, tensor `{}`", stored.source.path.display(), stored.name),
        }
    }
}

impl Leaf {
    /// All values, if they are in memory as they are used.
    pub(crate) fn values(&self) -> Option<&[f32]> {
        match self {
            Self::Dense(values) => Some(values),
            Self::Stored(stored) => match &stored.source.model {
                // Bytes that are aligned are read in place; others are copied by rows.
                // A tensor with another hash fails when it is read.
                Model::Dense(model) if stored.check().is_ok() => {
                    bytemuck::try_cast_slice(model.tensor(&stored.name).ok()?.f32_bytes()?).ok()
                }
                _ => None,
            },
            _ => None,
        }
    }

    /// Reads rows; returns the stored bytes that were read.
    pub(crate) fn read(&self, spec: &TensorSpec, rows: Range<usize>, out: &mut [f32]) -> Result<u64> {
        let columns = rows_and_columns(spec).1;
        self.elements(spec, rows.start * columns..rows.end * columns, out)
    }

    /// Reads elements; returns the stored bytes that were read.
    pub(crate) fn elements(&self, spec: &TensorSpec, range: Range<usize>, out: &mut [f32]) -> Result<u64> {
        let fail = |error| Error::Leaf { leaf: format!("{self:?}"), error };
        match self {
            Self::Dense(values) => out.copy_from_slice(&values[range]),
            Self::Random { seed, deviation } => random(*seed, *deviation, range, out),
            Self::Encoded(encoded) => {
                let reader = if let Some(reader) = encoded.reader.get() {
                    reader
                } else {
                    let opened = encoded.tensor.open_rows(&DecodeCx::new()).map_err(fail)?;
                    encoded.reader.get_or_init(|| opened)
                };
                by_matrix(spec, range, out, |rows, out| reader.read(rows, out).map_err(fail))?;
                return Ok(encoded.tensor.payload.bytes() * out.len() as u64 / spec.elements().max(1) as u64);
            }
            Self::Stored(stored) => {
                stored.check()?;
                match &stored.source.model {
                    Model::Dense(model) => {
                        let (spec, bytes) = model.bytes(&stored.name)?;
                        let width = spec.dtype().bitsize() / 8;
                        widen(spec.dtype(), &bytes[range.start * width..range.end * width], out).map_err(fail)?;
                        stored.source.count((out.len() * width) as u64);
                        return Ok((out.len() * width) as u64);
                    }
                    Model::Packed(packed) => {
                        let tensor = packed.tensor(&stored.name)?;
                        by_matrix(spec, range, out, |rows, out| Ok(tensor.rows(rows, out)?))?;
                        return Ok(tensor.bytes() * out.len() as u64 / spec.elements().max(1) as u64);
                    }
                    model @ Model::Computed(_) => by_matrix(spec, range, out, |rows, out| {
                        widen(spec.dtype(), &model.rows(&stored.name, &rows)?, out).map_err(fail)
                    })?,
                }
            }
        }
        Ok(size_of_val(out) as u64)
    }

    /// The linear operator of an encoded matrix that is stored as one payload without a base.
    pub(crate) fn operator(&self) -> Result<Option<&dyn LinearOp>> {
        let (cell, encoded) = match self {
            Self::Encoded(encoded) => (&encoded.operator, &*encoded.tensor),
            Self::Stored(stored) => match &stored.source.model {
                Model::Packed(packed) => {
                    stored.check()?;
                    let mut chunks = packed.tensor(&stored.name)?.chunks();
                    let (Some(chunk), None) = (chunks.next(), chunks.next()) else { return Ok(None) };
                    (&stored.operator, chunk.checked()?)
                }
                _ => return Ok(None),
            },
            _ => return Ok(None),
        };
        if let Some(operator) = cell.get() {
            return Ok(operator.as_deref());
        }
        let usable = encoded.payload.bases().is_empty() && encoded.spec.shape().len() == 2;
        let fail = |error| Error::Leaf { leaf: format!("{self:?}"), error };
        let made = usable.then(|| runtime::operator(encoded, &DecodeCx::new())).transpose().map_err(fail)?;
        Ok(cell.get_or_init(|| made).as_deref())
    }
}

/// Reads the elements of a range through rows of the matrix view, which may be longer.
fn by_matrix(
    spec: &TensorSpec,
    range: Range<usize>,
    out: &mut [f32],
    read: impl FnOnce(Range<usize>, &mut [f32]) -> Result<()>,
) -> Result<()> {
    let columns = spec.matrix().1.max(1);
    let rows = range.start / columns..range.end.div_ceil(columns);
    if rows.len() * columns == range.len() {
        return read(rows, out);
    }
    let mut all = vec![0.0; rows.len() * columns];
    read(rows.clone(), &mut all)?;
    out.copy_from_slice(&all[range.start - rows.start * columns..][..range.len()]);
    Ok(())
}

/// Random numbers that are drawn together.
const DRAWN: usize = 1024;

/// Normally distributed numbers: each piece of 1024 has a generator of its own, so that any range
/// can be drawn without the others.
fn random(seed: u64, deviation: f32, range: Range<usize>, out: &mut [f32]) {
    let cx = EncodeCx::new(seed);
    let mut piece = [0.0; DRAWN];
    let mut rest = out;
    for number in range.start / DRAWN..range.end.div_ceil(DRAWN) {
        let mut rng = cx.rng(number as u64);
        let mut uniform = || {
            use codec_api::rand_xoshiro::rand_core::Rng;
            ((rng.next_u64() >> 11) as f64 + 0.5) / (1u64 << 53) as f64
        };
        // Box and Muller's method gives two numbers at a time.
        for pair in piece.as_chunks_mut::<2>().0 {
            let (radius, angle) = ((-2.0 * libm::log(uniform())).sqrt(), std::f64::consts::TAU * uniform());
            *pair = [libm::cos(angle), libm::sin(angle)].map(|v| (radius * v) as f32 * deviation);
        }
        let first = number * DRAWN;
        let part = &piece[range.start.max(first) - first..range.end.min(first + DRAWN) - first];
        let (to, others) = rest.split_at_mut(part.len());
        to.copy_from_slice(part);
        rest = others;
    }
}

/// The bytes of F32 values.
trait F32Bytes<'a> {
    fn f32_bytes(&self) -> Option<&'a [u8]>;
}

impl<'a> F32Bytes<'a> for TensorView<'a> {
    fn f32_bytes(&self) -> Option<&'a [u8]> {
        (self.spec().dtype() == codec_api::Dtype::F32).then(|| self.bytes())
    }
}

/// Checks that a leaf holds floats.
pub(crate) fn require_float(leaf: &Leaf, spec: &TensorSpec) -> Result<()> {
    spec.require_float().map_err(|error: CodecError| Error::Leaf { leaf: format!("{leaf:?}"), error })
}
