//! Casts: a tensor in another float dtype, made when its turn comes.

use std::borrow::Cow;

use bytes::Bytes;
use codec_api::{CodecError, Dtype, TensorSpec};
use half::{bf16, f16};

use super::{Item, Suite};

impl Suite {
    /// The tensor as the suite measures it: cast to [`Suite::cast`] if it is a float tensor.
    ///
    /// # Errors
    /// [`CodecError::Unsupported`] if finite weights of the tensor or its base are beyond the
    /// dtype: the cast would make infinities of them.
    pub fn prepared<'a>(&self, item: &'a Item) -> Result<Cow<'a, Item>, CodecError> {
        match self.cast {
            Some(dtype) if dtype != item.spec.dtype() && is_castable(item.spec.dtype()) => {
                item.cast(dtype).map(Cow::Owned)
            }
            _ => Ok(Cow::Borrowed(item)),
        }
    }

    /// Notes the tensors that cannot be cast, and those that lose digits before any codec runs.
    pub(super) fn note_casts(&mut self, dtype: Dtype) {
        let mut doubles = 0;
        for item in &self.items {
            match item.spec.dtype() {
                Dtype::F64 => doubles += 1,
                other if is_castable(other) => {}
                _ => self.notes.push(format!("{}: {} is not cast", item.name, item.spec)),
            }
        }
        if doubles > 0 {
            let s = if doubles == 1 { "" } else { "s" };
            self.notes.push(format!("{doubles} F64 tensor{s} rounded to {dtype}; errors do not include the rounding"));
        }
    }
}

/// Whether each value of the dtype is exactly an f64 that can be cast.
fn is_castable(dtype: Dtype) -> bool {
    matches!(dtype, Dtype::F64 | Dtype::F32 | Dtype::F16 | Dtype::BF16 | Dtype::F8_E4M3 | Dtype::F8_E5M2)
}

impl Item {
    fn cast(&self, dtype: Dtype) -> Result<Self, CodecError> {
        let from = self.spec.dtype();
        let base = self.base.as_ref().map(|base| recode(from, base, dtype, &format!("the base of `{}`", self.name)));
        Ok(Self {
            name: self.name.clone(),
            spec: TensorSpec::new(dtype, self.spec.shape())?,
            data: recode(from, &self.data, dtype, &format!("`{}`", self.name))?,
            base: base.transpose()?,
            calibration: self.calibration.clone(),
        })
    }
}

/// Converts stored floats to F32, F16 or BF16, rounded to nearest even.
fn recode(from: Dtype, data: &[u8], dtype: Dtype, tensor: &str) -> Result<Bytes, CodecError> {
    let mut beyond = Beyond::default();
    let bytes = match from {
        Dtype::F64 => convert(data, f64::from_le_bytes, dtype, &mut beyond),
        Dtype::F32 => convert(data, |b| f32::from_le_bytes(b).into(), dtype, &mut beyond),
        Dtype::F16 => convert(data, |b| f16::from_le_bytes(b).into(), dtype, &mut beyond),
        Dtype::BF16 => convert(data, |b| bf16::from_le_bytes(b).into(), dtype, &mut beyond),
        Dtype::F8_E5M2 => convert(data, |[b]| f16::from_le_bytes([0, b]).into(), dtype, &mut beyond),
        Dtype::F8_E4M3 => convert(data, |[b]| e4m3(b), dtype, &mut beyond),
        other => return Err(CodecError::Unsupported(format!("{other} is not cast"))),
    };
    if beyond.count == 0 {
        return Ok(bytes);
    }
    let largest = if beyond.largest < 1e9 { beyond.largest.to_string() } else { format!("{:e}", beyond.largest) };
    let what = if beyond.count == 1 { format!("weight of {tensor} is") } else { format!("weights of {tensor} are") };
    Err(CodecError::Unsupported(format!("{} {what} beyond {dtype} (largest {largest})", beyond.count)))
}

/// The finite weights that a dtype cannot hold.
#[derive(Default)]
struct Beyond {
    count: usize,
    largest: f64,
}

fn convert<const N: usize>(data: &[u8], read: impl Fn([u8; N]) -> f64, dtype: Dtype, beyond: &mut Beyond) -> Bytes {
    let mut note = |value: f64, is_infinite: bool| {
        if is_infinite && value.is_finite() {
            beyond.count += 1;
            beyond.largest = beyond.largest.max(value.abs());
        }
    };
    let mut bytes = Vec::with_capacity(data.len() / N * (dtype.bitsize() / 8));
    for value in data.as_chunks().0.iter().map(|chunk| read(*chunk)) {
        match dtype {
            Dtype::F16 => {
                let half = f16::from_f32(sticky(value));
                note(value, half.is_infinite());
                bytes.extend_from_slice(&half.to_le_bytes());
            }
            Dtype::BF16 => {
                let half = bf16::from_f32(sticky(value));
                note(value, half.is_infinite());
                bytes.extend_from_slice(&half.to_le_bytes());
            }
            _ => {
                let single = value as f32;
                note(value, single.is_infinite());
                bytes.extend_from_slice(&single.to_le_bytes());
            }
        }
    }
    bytes.into()
}

/// `value` rounded to odd: to the neighbour in f32 whose last bit is set, unless it is an f32.
/// Rounding the result to fewer bits is the same as rounding `value` once.
fn sticky(value: f64) -> f32 {
    let near = value as f32;
    let bits = near.to_bits();
    if !near.is_finite() || f64::from(near) == value || bits & 1 == 1 {
        return near;
    }
    let larger = f64::from(near).abs() < value.abs();
    f32::from_bits(if larger { bits + 1 } else { bits - 1 })
}

/// An 8-bit float with 4 bits of exponent; it has no infinities, and NaN is all ones.
fn e4m3(byte: u8) -> f64 {
    let sign = if byte & 0x80 == 0 { 1.0 } else { -1.0 };
    let (exponent, mantissa) = (i32::from(byte >> 3 & 15), f64::from(byte & 7));
    sign * match (exponent, byte & 7) {
        (15, 7) => f64::NAN,
        (0, _) => mantissa * f64::from(2f32.powi(-9)),
        _ => (8.0 + mantissa) * f64::from(2f32.powi(exponent - 10)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cast(from: Dtype, data: &[u8], dtype: Dtype) -> Result<Vec<u8>, String> {
        recode(from, data, dtype, "`w`").map(|bytes| bytes.to_vec()).map_err(|error| error.to_string())
    }

    #[test]
    fn eight_bits_widen_exactly() {
        // The largest, the smallest, the smallest normal number, and one.
        assert_eq!([0x7e, 0x01, 0x08, 0xb8].map(e4m3), [448.0, 0.001_953_125, 0.015_625, -1.0]);
        assert!(e4m3(0x7f).is_nan() && e4m3(0xff).is_nan());
        let wide = cast(Dtype::F8_E5M2, &[0x7b, 0x01, 0xbc], Dtype::F32).unwrap();
        let expected = [57344f32, 2f32.powi(-16), -1.0].map(f32::to_le_bytes).concat();
        assert_eq!(wide, expected);
    }

    #[test]
    fn doubles_are_rounded_once() {
        // Half a step of F16 above 1 and a little more, which f32 cannot hold: not a tie.
        let value = 1.0 + 2f64.powi(-11) + 2f64.powi(-40);
        let half = |value: f64| cast(Dtype::F64, &value.to_le_bytes(), Dtype::F16).unwrap();
        assert_eq!(half(value), 0x3c01u16.to_le_bytes());
        assert_eq!(half(-1.0 - 2f64.powi(-11)), 0xbc00u16.to_le_bytes());
        assert_eq!(half(1.0 + 3.0 * 2f64.powi(-11) - 2f64.powi(-40)), 0x3c01u16.to_le_bytes());
    }

    #[test]
    fn finite_weights_never_become_infinite() {
        let data = [99840.0f32, 1.0, -70000.0, f32::INFINITY].map(f32::to_le_bytes).concat();
        let error = cast(Dtype::F32, &data, Dtype::F16).unwrap_err();
        assert!(error.contains("2 weights of `w` are beyond F16 (largest 99840)"), "{error}");
        assert!(cast(Dtype::F32, &data, Dtype::BF16).is_ok());
        let error = cast(Dtype::F64, &1e300f64.to_le_bytes(), Dtype::F32).unwrap_err();
        assert!(error.contains("1 weight of `w` is beyond F32 (largest 1e300)"), "{error}");
        // Rounded, it is the largest number of the dtype.
        assert!(cast(Dtype::F32, &65519f32.to_le_bytes(), Dtype::F16).is_ok());
    }
}
