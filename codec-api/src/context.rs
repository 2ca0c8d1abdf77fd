//! What a codec may use besides the tensor: seed, base tensor, calibration, cancellation, progress.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};

use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::SeedableRng;

use crate::error::{CodecError, Result};
use crate::tensor::{TensorSpec, TensorView};

/// The base tensor that a payload is encoded against. It has the same dtype and shape as the
/// encoded tensor.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct BaseTensor<'a> {
    /// blake3 of the stored bytes of the base. A payload that depends on a base stores this id.
    pub id: [u8; 32],
    /// The base tensor itself.
    pub view: TensorView<'a>,
}

impl<'a> BaseTensor<'a> {
    /// Computes the id of the base from its bytes.
    pub fn new(view: TensorView<'a>) -> Self {
        Self { id: blake3::hash(view.bytes()).into(), view }
    }
}

/// Statistics of a layer's inputs, for codecs that weight their errors by them.
pub trait Calibration: fmt::Debug + Send + Sync {
    /// The axis of the weight matrix along which the inputs run: 1 (columns) for a Linear layer, 0
    /// (rows) for a GPT-2 `Conv1D`.
    fn input_axis(&self) -> usize;
    /// Mean of x² of each input `x`: one value per index of that axis.
    fn mean_squares(&self) -> &[f32];
}

/// Lets a caller stop an encode or decode from another thread.
#[derive(Debug, Default)]
pub struct Cancel(AtomicBool);

impl Cancel {
    /// A new flag, not cancelled.
    pub const fn new() -> Self {
        Self(AtomicBool::new(false))
    }

    /// Requests that the work stop at its next [`Self::check`].
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Codecs call this once per block of weights.
    ///
    /// # Errors
    /// [`CodecError::Cancelled`] after [`Cancel::cancel`].
    pub fn check(&self) -> Result<()> {
        if self.0.load(Ordering::Relaxed) { Err(CodecError::Cancelled) } else { Ok(()) }
    }
}

/// Receives the progress of an encode.
pub trait Progress: fmt::Debug + Send + Sync {
    /// Reports that `weights` more weights are encoded.
    fn tick(&self, weights: u64);
}

/// Ignores all progress.
#[derive(Clone, Copy, Debug)]
pub struct NoProgress;

impl Progress for NoProgress {
    fn tick(&self, _: u64) {}
}

static NEVER: Cancel = Cancel::new();

/// Everything an encode gets besides the tensor.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct EncodeCx<'a> {
    /// Seed of this chunk; see [`EncodeCx::for_chunk`].
    pub seed: u64,
    /// The base tensor, if any.
    pub base: Option<BaseTensor<'a>>,
    /// Calibration, if any.
    pub calibration: Option<&'a dyn Calibration>,
    /// Codecs check it once per block of weights.
    pub cancel: &'a Cancel,
    /// Receives the number of finished weights.
    pub progress: &'a dyn Progress,
}

impl Default for EncodeCx<'_> {
    fn default() -> Self {
        Self::new(0)
    }
}

impl<'a> EncodeCx<'a> {
    /// A context with a seed, without base tensor and calibration.
    pub fn new(seed: u64) -> Self {
        Self { seed, base: None, calibration: None, cancel: &NEVER, progress: &NoProgress }
    }

    /// The context of one chunk of a tensor. The chunk seed is the first 8 bytes (little-endian) of
    /// the blake3 of model seed, length of the tensor name, tensor name and first row. It depends
    /// neither on the order of the chunks nor on threads.
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

    /// The context for the child codec of a composite. It has its own seed for each `scope` and the
    /// same cancellation. Base, calibration and progress are left out, because they belong to the
    /// tensor of the composite; the composite adds what fits the child's tensor.
    #[must_use]
    pub fn for_child(&self, scope: &str) -> Self {
        let mut child = Self::for_chunk(self.seed, scope, 0);
        child.cancel = self.cancel;
        child
    }

    /// The context for decoding what was just encoded: the same base and cancellation.
    #[must_use]
    pub fn decoding(&self) -> DecodeCx<'a> {
        DecodeCx { base: self.base.clone(), level: None, cancel: self.cancel }
    }

    /// Sets the base tensor.
    #[must_use]
    pub fn with_base(mut self, base: BaseTensor<'a>) -> Self {
        self.base = Some(base);
        self
    }

    /// Sets the calibration.
    #[must_use]
    pub fn with_calibration(mut self, calibration: &'a dyn Calibration) -> Self {
        self.calibration = Some(calibration);
        self
    }

    /// Lets `cancel` stop the work.
    #[must_use]
    pub fn with_cancel(mut self, cancel: &'a Cancel) -> Self {
        self.cancel = cancel;
        self
    }

    /// Sends progress to `progress`.
    #[must_use]
    pub fn with_progress(mut self, progress: &'a dyn Progress) -> Self {
        self.progress = progress;
        self
    }

    /// The axis of the tensor's matrix view along which the inputs run, and the mean squares of the
    /// inputs. `None` without calibration, and for a tensor without elements.
    ///
    /// # Errors
    /// [`CodecError::Limit`] if the calibration does not have one value per index of its axis.
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

    /// The random generator of one block. Its numbers do not depend on what was drawn for other
    /// blocks.
    pub fn rng(&self, block: u64) -> Xoshiro256PlusPlus {
        Xoshiro256PlusPlus::seed_from_u64(self.seed ^ block.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }
}

/// Everything a decode gets besides the payload.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct DecodeCx<'a> {
    /// The base tensor, if the payload needs one.
    pub base: Option<BaseTensor<'a>>,
    /// Last quality level to decode of a progressive payload: `Some(n)` decodes levels `0..=n`,
    /// `None` all levels.
    pub level: Option<usize>,
    /// Codecs check it once per block of weights.
    pub cancel: &'a Cancel,
}

impl Default for DecodeCx<'_> {
    fn default() -> Self {
        Self { base: None, level: None, cancel: &NEVER }
    }
}

impl<'a> DecodeCx<'a> {
    /// A context without base tensor that decodes all quality levels.
    pub fn new() -> Self {
        Self::default()
    }

    /// The context for the child codec of a composite: the same cancellation. Base and level are
    /// left out, because they belong to the composite.
    #[must_use]
    pub fn for_child(&self) -> Self {
        Self { cancel: self.cancel, ..Self::default() }
    }

    /// Sets the base tensor.
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

    /// Lets `cancel` stop the work.
    #[must_use]
    pub fn with_cancel(mut self, cancel: &'a Cancel) -> Self {
        self.cancel = cancel;
        self
    }
}
