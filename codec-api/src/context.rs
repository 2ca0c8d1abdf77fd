//! What a codec may use besides the tensor: seed, base tensor, calibration, cancellation, progress.

use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};

use bytemuck::Zeroable;
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::SeedableRng;

use crate::calibration::Calibration;
use crate::error::{CodecError, Result};
use crate::linear::Product;
use crate::survey::Shared;
use crate::tensor::{TensorSpec, TensorView};
use crate::util::zeros;

/// The base tensor that a payload is encoded against. It has the same dtype and shape as the
/// encoded tensor.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct BaseTensor<'a> {
    /// blake3 of the stored bytes of the whole base tensor. A payload that depends on a base stores
    /// this id ([`crate::Payload::with_base`]), and so does the payload of each chunk.
    pub id: [u8; 32],
    /// The base tensor itself, or the rows of it that belong to a chunk.
    pub view: TensorView<'a>,
}

impl<'a> BaseTensor<'a> {
    /// Computes the id of the base from its bytes. A caller that uses the base several times calls
    /// this once and [`Self::with_id`] from then on.
    pub fn new(view: TensorView<'a>) -> Self {
        Self::with_id(blake3::hash(view.bytes()).into(), view)
    }

    /// A base whose id is known.
    pub fn with_id(id: [u8; 32], view: TensorView<'a>) -> Self {
        Self { id, view }
    }

    /// Rows of the base, for a chunk; the id is the id of the whole base.
    ///
    /// # Errors
    /// As [`TensorView::rows`].
    pub fn rows(&self, rows: Range<usize>) -> Result<Self> {
        Ok(Self { id: self.id, view: self.view.rows(rows.start, rows.end)? })
    }

    /// The base, if it is a tensor of `spec`.
    ///
    /// # Errors
    /// [`CodecError::Unsupported`] with both specs if it is not.
    pub fn of_spec(&self, spec: &TensorSpec) -> Result<&Self> {
        let found = self.view.spec();
        if found == spec {
            return Ok(self);
        }
        Err(CodecError::Unsupported(format!(
            "the base is {found}, the tensor {spec}: dtype and shape must be the same"
        )))
    }
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

/// Receives the progress of a piece of work, and may end it early.
pub trait Progress: fmt::Debug + Send + Sync {
    /// Reports that `weights` more weights are done.
    fn tick(&self, weights: u64);

    /// The flag that ends the work. Work on whole models checks it before each piece.
    fn cancel(&self) -> &Cancel {
        &NEVER
    }
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
    /// Seed of this tensor or chunk; see [`EncodeCx::for_tensor`] and [`EncodeCx::for_rows`].
    pub seed: u64,
    /// The base tensor, if any.
    pub base: Option<BaseTensor<'a>>,
    /// Calibration, if any.
    pub calibration: Option<Calibration<'a>>,
    /// Statistics of the whole tensor, if this is a chunk of it ([`crate::Surveyed`]).
    pub shared: Option<Shared<'a>>,
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
        Self { seed, base: None, calibration: None, shared: None, cancel: &NEVER, progress: &NoProgress }
    }

    /// The context of a tensor of a model. Its seed is the first 8 bytes (little-endian) of the
    /// blake3 of the model's seed and the tensor's name.
    pub fn for_tensor(model_seed: u64, tensor: &str) -> Self {
        Self::new(derived(model_seed, tensor.as_bytes()))
    }

    /// The context of a chunk, which consists of `rows` of this context's tensor; `spec` is the
    /// spec of the whole tensor. The chunk's seed is the first 8 bytes (little-endian) of the
    /// blake3 of the tensor's seed and the number of the first row, so that it depends neither on
    /// other chunks nor on threads. The new context has the base, calibration and statistics of
    /// these rows.
    ///
    /// # Errors
    /// [`CodecError::Usage`] if the rows, the base or the calibration do not belong to the tensor.
    pub fn for_rows(&self, spec: &TensorSpec, rows: Range<usize>) -> Result<Self> {
        let (all, _) = spec.matrix();
        if rows.start > rows.end || rows.end > all {
            return Err(CodecError::Usage(format!("rows {}..{} of a tensor with {all} rows", rows.start, rows.end)));
        }
        let mut chunk = self.clone();
        chunk.seed = derived(self.seed, &(rows.start as u64).to_le_bytes());
        chunk.base = self.base.as_ref().map(|base| base.of_spec(spec)?.rows(rows.clone())).transpose()?;
        let calibration = self.calibration_of(spec)?;
        chunk.calibration = calibration.map(|calibration| calibration.rows(rows.clone())).transpose()?;
        chunk.shared = self.shared_of(spec)?.map(|shared| shared.part(rows)).transpose()?;
        Ok(chunk)
    }

    /// The context for the child codec of a composite. It has its own seed for each `scope` and the
    /// same cancellation. Base, calibration and progress are left out, because they belong to the
    /// tensor of the composite; the composite adds what fits the child's tensor.
    #[must_use]
    pub fn for_child(&self, scope: &str) -> Self {
        let mut child = Self::for_tensor(self.seed, scope);
        child.cancel = self.cancel;
        child
    }

    /// The context for decoding what was just encoded: the same base and cancellation, and no limit
    /// for the output.
    #[must_use]
    pub fn decoding(&self) -> DecodeCx<'a> {
        DecodeCx {
            base: self.base.clone(),
            cancel: self.cancel,
            max_output: Some(u64::MAX),
            product: Product::default(),
        }
    }

    /// Sets the base tensor.
    #[must_use]
    pub fn with_base(mut self, base: BaseTensor<'a>) -> Self {
        self.base = Some(base);
        self
    }

    /// Sets the calibration.
    #[must_use]
    pub fn with_calibration(mut self, calibration: Calibration<'a>) -> Self {
        self.calibration = Some(calibration);
        self
    }

    /// Sets the statistics of the whole tensor.
    #[must_use]
    pub fn with_shared(mut self, shared: Shared<'a>) -> Self {
        self.shared = Some(shared);
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

    /// The calibration for a tensor of `spec`; `None` without calibration, and for a tensor without
    /// elements.
    ///
    /// # Errors
    /// [`CodecError::Usage`] if the calibration does not have one input per index of its axis.
    pub fn calibration_of(&self, spec: &TensorSpec) -> Result<Option<Calibration<'a>>> {
        let calibration = self.calibration.filter(|_| spec.elements() > 0);
        calibration.map(|calibration| calibration.check(spec).map(|()| calibration)).transpose()
    }

    /// The base tensor, for a codec that encodes a tensor of `spec` against it.
    ///
    /// # Errors
    /// [`CodecError::MissingBase`] without a base, [`CodecError::Unsupported`] if the base is not a
    /// tensor of `spec`.
    pub fn base_of(&self, spec: &TensorSpec) -> Result<&BaseTensor<'a>> {
        self.base.as_ref().ok_or(CodecError::MissingBase { wanted: None, given: None })?.of_spec(spec)
    }

    /// The shared statistics for a chunk of `spec`; `None` if the context has none.
    ///
    /// # Errors
    /// [`CodecError::Usage`] if they have numbers for other rows than those of the chunk.
    pub fn shared_of(&self, spec: &TensorSpec) -> Result<Option<Shared<'a>>> {
        let (rows, _) = spec.matrix();
        match self.shared {
            Some(shared) if !shared.rows.is_empty() && shared.rows.len() != rows => {
                Err(CodecError::Usage(format!("statistics of {} rows for a chunk of {rows}", shared.rows.len())))
            }
            shared => Ok(shared),
        }
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
    /// Codecs check it once per block of weights.
    pub cancel: &'a Cancel,
    /// Most bytes of an output that [`crate::EncodedTensor`] allocates. `None`: as many as the size
    /// of the payload justifies ([`Self::output_limit`]).
    pub max_output: Option<u64>,
    /// The product that operators are prepared for; they also compute the other one, more slowly.
    pub product: Product,
}

impl Default for DecodeCx<'_> {
    fn default() -> Self {
        Self { base: None, cancel: &NEVER, max_output: None, product: Product::default() }
    }
}

/// Bytes of output that any payload may have.
const FREE_OUTPUT: u64 = 24 << 20;

/// Bytes of output for each byte of the payload and of the base tensor. A codec of 2 bits per
/// weight needs 16, and zeros of a sparse tensor some hundred.
const EXPANSION: u64 = 384;

impl<'a> DecodeCx<'a> {
    /// A context without base tensor.
    pub fn new() -> Self {
        Self::default()
    }

    /// Most bytes of output for a payload of `payload` bytes: [`Self::max_output`], by default
    /// 24 MiB or 384 times the bytes of payload and base, whichever is more. So a small file cannot
    /// make a reader allocate gigabytes.
    pub fn output_limit(&self, payload: u64) -> u64 {
        let base = self.base.as_ref().map_or(0, |base| base.view.bytes().len() as u64);
        self.max_output.unwrap_or(payload.saturating_add(base).saturating_mul(EXPANSION).max(FREE_OUTPUT))
    }

    /// `len` zeros to decode into, after the check that a payload of `payload` bytes justifies so
    /// many ([`Self::output_limit`]).
    ///
    /// # Errors
    /// [`CodecError::Limit`] if they take more bytes than that, or cannot be allocated.
    pub fn zeros<T: Zeroable>(&self, len: usize, payload: u64) -> Result<Vec<T>> {
        let (bytes, most) = ((len as u64).saturating_mul(size_of::<T>() as u64), self.output_limit(payload));
        if bytes <= most {
            return zeros(len);
        }
        Err(CodecError::Limit(format!(
            "a payload of {payload} bytes decodes to {bytes} bytes, and at most {most} are allowed; \
             allow more with `DecodeCx::with_max_output`, if you trust it"
        )))
    }

    /// Sets the most bytes of output, for payloads that expand more than the default allows.
    #[must_use]
    pub fn with_max_output(mut self, bytes: u64) -> Self {
        self.max_output = Some(bytes);
        self
    }

    /// Sets the product that operators are prepared for.
    #[must_use]
    pub fn for_product(mut self, product: Product) -> Self {
        self.product = product;
        self
    }

    /// The context for the child codec of a composite: the same cancellation, limit and product.
    /// The base is left out, because it belongs to the composite.
    #[must_use]
    pub fn for_child(&self) -> Self {
        Self { base: None, ..self.clone() }
    }

    /// Sets the base tensor.
    #[must_use]
    pub fn with_base(mut self, base: BaseTensor<'a>) -> Self {
        self.base = Some(base);
        self
    }

    /// Lets `cancel` stop the work.
    #[must_use]
    pub fn with_cancel(mut self, cancel: &'a Cancel) -> Self {
        self.cancel = cancel;
        self
    }
}

/// The first 8 bytes (little-endian) of the blake3 of a seed, the length of `name` and `name`.
fn derived(seed: u64, name: &[u8]) -> u64 {
    let mut hash = blake3::Hasher::new();
    hash.update(&seed.to_le_bytes());
    hash.update(&(name.len() as u64).to_le_bytes());
    hash.update(name);
    let mut first = [0; 8];
    first.copy_from_slice(&hash.finalize().as_bytes()[..8]);
    u64::from_le_bytes(first)
}
