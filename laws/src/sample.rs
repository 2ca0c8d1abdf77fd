//! A tensor to try a codec on, with a base tensor and calibration for the codecs that use them.

use std::fmt;

use codec_api::{
    BaseTensor, Calibration, CodecError, DecodeCx, Dtype, EncodeCx, InputAxis, Need, Needs, TensorSpec, TensorView,
};
use half::{bf16, f16};

/// Seed of every encode whose seed does not matter.
const SEED: u64 = 20;

/// A named tensor, with the base and the calibration that a codec may use.
#[derive(Clone)]
pub struct Sample {
    name: String,
    spec: TensorSpec,
    bytes: Vec<u8>,
    base: Vec<u8>,
    activations: Activations,
}

/// Mean squares of invented inputs, one per index of an axis.
#[derive(Clone, Debug)]
pub struct Activations {
    axis: InputAxis,
    mean_squares: Vec<f32>,
}

impl Activations {
    /// Calibration for this many inputs: all values are positive, and neighbours differ.
    pub fn new(axis: InputAxis, inputs: usize) -> Self {
        Self { axis, mean_squares: (0..inputs as u64).map(|i| 0.1 + unit(i).abs()).collect() }
    }

    /// The calibration of an encode.
    pub fn calibration(&self) -> Calibration<'_> {
        Calibration::new(self.axis, &self.mean_squares)
    }
}

impl Sample {
    /// A tensor with these stored bytes. The base differs from it in the lowest bits of some
    /// elements.
    ///
    /// # Errors
    /// [`CodecError::Limit`] if the length of `bytes` does not match `spec`.
    pub fn new(name: impl Into<String>, spec: TensorSpec, bytes: Vec<u8>) -> Result<Self, CodecError> {
        TensorView::new(spec.clone(), &bytes)?;
        let width = (spec.dtype().bitsize() / 8).max(1);
        let mut base = bytes.clone();
        // Every third element changes by a few units in its last place, so that the base stays
        // finite where the tensor is.
        base.iter_mut().step_by(3 * width).for_each(|b| *b ^= 5);
        let activations = Activations::new(InputAxis::Columns, spec.matrix().1);
        Ok(Self { name: name.into(), spec, bytes, base, activations })
    }

    /// A float tensor with elements computed from their flat index, rounded to `dtype` and clamped
    /// to finite values; NaN and infinities stay unchanged.
    ///
    /// # Errors
    /// [`CodecError`] if `shape` is invalid, or `dtype` is not F32, F16 or BF16.
    pub fn from_fn(
        name: impl Into<String>,
        dtype: Dtype,
        shape: &[usize],
        value: impl Fn(usize) -> f32,
    ) -> Result<Self, CodecError> {
        let spec = TensorSpec::new(dtype, shape)?;
        spec.require_float()?;
        let mut bytes = Vec::with_capacity(spec.byte_len());
        for i in 0..spec.elements() {
            narrow(dtype, value(i), &mut bytes);
        }
        Self::new(name, spec, bytes)
    }

    /// The same number of rows and the same rank, with `columns` elements per row; a longer row
    /// repeats its elements.
    pub(crate) fn with_columns(&self, columns: usize) -> Result<Self, CodecError> {
        let (rows, _) = self.spec.matrix();
        let mut shape = vec![1; self.spec.shape().len().max(1)];
        shape[0] = rows;
        let last = shape.len() - 1;
        shape[last] *= columns;
        let spec = TensorSpec::new(self.spec.dtype(), shape)?;
        let mut bytes = Vec::with_capacity(spec.byte_len());
        for row in self.bytes.chunks((self.bytes.len() / rows.max(1)).max(1)) {
            bytes.extend(row.iter().cycle().take(spec.byte_len() / rows));
        }
        Self::new(format!("{}, longer rows", self.name), spec, bytes)
    }

    /// Bell-shaped values of unit variance, the same on every call.
    ///
    /// # Errors
    /// As [`Self::from_fn`].
    pub fn bell(dtype: Dtype, shape: &[usize]) -> Result<Self, CodecError> {
        Self::from_fn("bell-shaped", dtype, shape, |i| bell(i as u64))
    }

    /// A tensor whose matrix view has rank one, with values of about unit size, the same on every
    /// call.
    ///
    /// # Errors
    /// As [`Self::from_fn`].
    pub fn rank_one(dtype: Dtype, shape: &[usize]) -> Result<Self, CodecError> {
        let (_, columns) = TensorSpec::new(dtype, shape)?.matrix();
        let columns = columns.max(1);
        Self::from_fn("of rank one", dtype, shape, |i| unit((i / columns) as u64) * bell((i % columns) as u64))
    }

    /// A tensor of any dtype with arbitrary bits, the same on every call.
    ///
    /// # Errors
    /// [`CodecError`] if the dtype and the shape do not form a valid tensor.
    pub fn bits(dtype: Dtype, shape: &[usize]) -> Result<Self, CodecError> {
        let spec = TensorSpec::new(dtype, shape)?;
        let bytes = (0..spec.byte_len() as u64).map(|i| noise(i) as u8).collect();
        Self::new("arbitrary bits", spec, bytes)
    }

    /// Dtype and shape.
    pub fn spec(&self) -> &TensorSpec {
        &self.spec
    }

    /// The stored bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The tensor.
    ///
    /// # Errors
    /// Never: the constructor has checked the length.
    pub fn view(&self) -> Result<TensorView<'_>, CodecError> {
        TensorView::new(self.spec.clone(), &self.bytes)
    }

    /// The base tensor.
    ///
    /// # Errors
    /// Never, as [`Self::view`].
    pub fn base(&self) -> Result<BaseTensor<'_>, CodecError> {
        Ok(BaseTensor::new(TensorView::new(self.spec.clone(), &self.base)?))
    }

    /// The same tensor with inputs along another axis.
    #[must_use]
    pub fn with_inputs_along(mut self, axis: InputAxis) -> Self {
        let (rows, columns) = self.spec.matrix();
        self.activations = Activations::new(axis, if axis == InputAxis::Rows { rows } else { columns });
        self
    }

    /// The encode context, with the base and the calibration that `needs` asks for.
    ///
    /// # Errors
    /// Never, as [`Self::view`].
    pub fn encode_cx(&self, needs: Needs) -> Result<EncodeCx<'_>, CodecError> {
        let mut cx = EncodeCx::new(SEED);
        if needs.base != Need::No {
            cx = cx.with_base(self.base()?);
        }
        if needs.calibration != Need::No {
            cx = cx.with_calibration(self.activations.calibration());
        }
        Ok(cx)
    }

    /// The decode context, with the base if `needs` asks for it.
    ///
    /// # Errors
    /// Never, as [`Self::view`].
    pub fn decode_cx(&self, needs: Needs) -> Result<DecodeCx<'_>, CodecError> {
        let cx = DecodeCx::new();
        Ok(if needs.base == Need::No { cx } else { cx.with_base(self.base()?) })
    }
}

impl fmt::Display for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "tensor `{}` {}", self.name, self.spec)
    }
}

impl fmt::Debug for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}: {:02x?}", &self.bytes[..self.bytes.len().min(64)])
    }
}

/// Appends `value` as little-endian `dtype`, which is F32, F16 or BF16.
pub(crate) fn narrow(dtype: Dtype, value: f32, bytes: &mut Vec<u8>) {
    match dtype {
        Dtype::F16 => {
            let rounded = f16::from_f32(value);
            let kept = if value.is_finite() && rounded.is_infinite() { f16::MAX.copysign(rounded) } else { rounded };
            bytes.extend(kept.to_le_bytes());
        }
        Dtype::BF16 => {
            let rounded = bf16::from_f32(value);
            let kept = if value.is_finite() && rounded.is_infinite() { bf16::MAX.copysign(rounded) } else { rounded };
            bytes.extend(kept.to_le_bytes());
        }
        _ => bytes.extend(value.to_le_bytes()),
    }
}

/// A hash of an index (splitmix64): random access to a fixed stream of noise.
pub(crate) fn noise(index: u64) -> u64 {
    let mut z = index.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Uniform from −1 to 1.
pub(crate) fn unit(index: u64) -> f32 {
    (noise(index) >> 40) as f32 / (1u64 << 23) as f32 - 1.0
}

/// Approximately normal with unit variance: the sum of three uniform numbers.
pub(crate) fn bell(index: u64) -> f32 {
    (0..3).map(|k| unit(3 * index + k)).sum()
}
