//! What a codec may use beside the tensor: seed, base tensor, calibration, cancellation, progress.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};

use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::SeedableRng;

use crate::error::{CodecError, Result};
use crate::tensor::{TensorSpec, TensorView};

/// A tensor that an encoded one is told relative to. It has the same spec.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct BaseTensor<'a> {
    /// blake3 of the base's stored bytes: a payload that depends on a base names it by this.
    pub id: [u8; 32],
    /// The base's values.
    pub view: TensorView<'a>,
}

impl<'a> BaseTensor<'a> {
    /// Names the base by its content.
    pub fn new(view: TensorView<'a>) -> Self {
        Self { id: blake3::hash(view.bytes()).into(), view }
    }
}

/// Statistics of the inputs that a layer sees, for codecs that weigh their errors by them.
pub trait Calibration: fmt::Debug + Send + Sync {
    /// The axis of the weight tensor that the inputs run along: 1 (columns) for a Linear layer,
    /// 0 (rows) for a GPT-2 `Conv1D`.
    fn input_axis(&self) -> usize;
    /// Mean of x² for each input, one value per index of that axis.
    fn mean_squares(&self) -> &[f32];
}

/// Lets a caller stop an encode or decode from another thread.
#[derive(Debug, Default)]
pub struct Cancel(AtomicBool);

impl Cancel {
    /// Not cancelled yet.
    pub const fn new() -> Self {
        Self(AtomicBool::new(false))
    }

    /// Asks the work to stop at its next check.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Codecs call this once per block.
    ///
    /// # Errors
    /// [`CodecError::Cancelled`] after [`Cancel::cancel`].
    pub fn check(&self) -> Result<()> {
        if self.0.load(Ordering::Relaxed) { Err(CodecError::Cancelled) } else { Ok(()) }
    }
}

/// Hears how far an encode has come.
pub trait Progress: fmt::Debug + Send + Sync {
    /// `weights` more weights are encoded.
    fn tick(&self, weights: u64);
}

/// Hears nothing.
#[derive(Clone, Copy, Debug)]
pub struct NoProgress;

impl Progress for NoProgress {
    fn tick(&self, _: u64) {}
}

static NEVER: Cancel = Cancel::new();

/// The surroundings of an encode.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct EncodeCx<'a> {
    /// Seed of this chunk; see [`EncodeCx::for_chunk`].
    pub seed: u64,
    /// The base tensor, if there is one.
    pub base: Option<BaseTensor<'a>>,
    /// Calibration, if there is any.
    pub calibration: Option<&'a dyn Calibration>,
    /// Checked once per block.
    pub cancel: &'a Cancel,
    /// Told about finished weights.
    pub progress: &'a dyn Progress,
}

impl Default for EncodeCx<'_> {
    fn default() -> Self {
        Self::new(0)
    }
}

impl<'a> EncodeCx<'a> {
    /// A context with a seed and nothing else.
    pub fn new(seed: u64) -> Self {
        Self { seed, base: None, calibration: None, cancel: &NEVER, progress: &NoProgress }
    }

    /// The context of one chunk: its seed is the first 8 bytes of blake3 over model seed, tensor name
    /// and first row, so that it depends neither on order nor on threads.
    pub fn for_chunk(model_seed: u64, tensor: &str, first_row: u64) -> Self {
        let mut hash = blake3::Hasher::new();
        hash.update(&model_seed.to_le_bytes());
        hash.update(&(tensor.len() as u64).to_le_bytes());
        hash.update(tensor.as_bytes());
        hash.update(&first_row.to_le_bytes());
        let mut seed = [0; 8];
        seed.copy_from_slice(&hash.finalize().as_bytes()[..8]);
        Self::new(u64::from_le_bytes(seed))
    }

    /// The surroundings of a composite's child: a seed of its own for each `scope`, and the same cancellation. Base and calibration are
    /// of the composite's tensor, and progress is the composite's to report: they are left out, and it may hand on what fits.
    #[must_use]
    pub fn for_child(&self, scope: &str) -> Self {
        let mut child = Self::for_chunk(self.seed, scope, 0);
        child.cancel = self.cancel;
        child
    }

    /// The surroundings for decoding what was just encoded: the same base and cancellation.
    #[must_use]
    pub fn decoding(&self) -> DecodeCx<'a> {
        DecodeCx { base: self.base.clone(), level: None, cancel: self.cancel }
    }

    /// Adds a base tensor.
    #[must_use]
    pub fn with_base(mut self, base: BaseTensor<'a>) -> Self {
        self.base = Some(base);
        self
    }

    /// Adds calibration.
    #[must_use]
    pub fn with_calibration(mut self, calibration: &'a dyn Calibration) -> Self {
        self.calibration = Some(calibration);
        self
    }

    /// Makes the work stoppable.
    #[must_use]
    pub fn with_cancel(mut self, cancel: &'a Cancel) -> Self {
        self.cancel = cancel;
        self
    }

    /// Makes the work report its progress.
    #[must_use]
    pub fn with_progress(mut self, progress: &'a dyn Progress) -> Self {
        self.progress = progress;
        self
    }

    /// The axis of the tensor's matrix view that inputs run along, and their mean squares; `None` without calibration, and for
    /// a tensor without elements.
    ///
    /// # Errors
    /// [`CodecError::Limit`] if calibration does not have a value for each index of its axis.
    pub fn input_squares(&self, spec: &TensorSpec) -> Result<Option<(usize, &'a [f32])>> {
        let Some(calibration) = self.calibration.filter(|_| spec.elements() > 0) else { return Ok(None) };
        let (axis, squares) = (calibration.input_axis(), calibration.mean_squares());
        let (rows, columns) = spec.matrix();
        if [rows, columns].get(axis) != Some(&squares.len()) {
            let found = format!("calibration has {} inputs along axis {axis}", squares.len());
            return Err(CodecError::Limit(format!("{found}, the matrix is {rows} × {columns}")));
        }
        Ok(Some((axis, squares)))
    }

    /// The random generator of one block: the same whatever was drawn for other blocks.
    pub fn rng(&self, block: u64) -> Xoshiro256PlusPlus {
        Xoshiro256PlusPlus::seed_from_u64(self.seed ^ block.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }
}

/// The surroundings of a decode.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct DecodeCx<'a> {
    /// The base tensor, if the payload needs one.
    pub base: Option<BaseTensor<'a>>,
    /// How many quality levels of a progressive payload to use, counted from 0; `None` means all.
    pub level: Option<usize>,
    /// Checked once per block.
    pub cancel: &'a Cancel,
}

impl Default for DecodeCx<'_> {
    fn default() -> Self {
        Self { base: None, level: None, cancel: &NEVER }
    }
}

impl<'a> DecodeCx<'a> {
    /// Nothing but the payload.
    pub fn new() -> Self {
        Self::default()
    }

    /// The surroundings of a composite's child: the same cancellation, without base and level, which are the composite's.
    #[must_use]
    pub fn for_child(&self) -> Self {
        Self { cancel: self.cancel, ..Self::default() }
    }

    /// Adds a base tensor.
    #[must_use]
    pub fn with_base(mut self, base: BaseTensor<'a>) -> Self {
        self.base = Some(base);
        self
    }

    /// Decodes levels `0..=level` of a progressive payload.
    #[must_use]
    pub fn with_level(mut self, level: usize) -> Self {
        self.level = Some(level);
        self
    }

    /// Makes the work stoppable.
    #[must_use]
    pub fn with_cancel(mut self, cancel: &'a Cancel) -> Self {
        self.cancel = cancel;
        self
    }
}
