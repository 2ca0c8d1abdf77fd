//! Compares the values of tensors, tile by tile.

use codec_api::util::widen;
use codec_api::{Certificate, CodecError, Dtype, TensorView};

/// Elements that are compared at once: a cache of the first level holds both sides.
pub(super) const TILE: usize = 1 << 12;

/// The certificate of `decoded`, the stored bytes of a float tensor, against its source. It is
/// never exact.
///
/// # Errors
/// [`CodecError::Unsupported`] for a dtype other than F32, F16 and BF16; [`CodecError::Usage`] for
/// another length.
pub(crate) fn certificate(source: &TensorView<'_>, decoded: &[u8]) -> Result<Certificate, CodecError> {
    let dtype = source.spec().dtype();
    source.spec().require_float()?;
    source.spec().check_output_bytes(decoded.len())?;
    let bytes = TILE * dtype.bitsize() / 8;
    let mut sum = Certificate::EMPTY;
    sum.exact = false;
    let mut tiles = [vec![0.0; TILE], vec![0.0; TILE]];
    for (source, decoded) in source.bytes().chunks(bytes).zip(decoded.chunks(bytes)) {
        let [source, decoded] = floats(dtype, [source, decoded], &mut tiles)?;
        sum.add(&Certificate::measure(source, decoded));
    }
    Ok(sum)
}

/// Two tiles of stored floats of equal length as f32.
fn floats<'a>(dtype: Dtype, bytes: [&[u8]; 2], tiles: &'a mut [Vec<f32>; 2]) -> Result<[&'a [f32]; 2], CodecError> {
    let [first, second] = tiles;
    let len = bytes[0].len() * 8 / dtype.bitsize();
    widen(dtype, bytes[0], &mut first[..len])?;
    widen(dtype, bytes[1], &mut second[..len])?;
    Ok([&first[..len], &second[..len]])
}

/// How much stored elements differ.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sum {
    /// Elements with other bits.
    pub(super) changed: u64,
    /// `Σ (a − b)²`, `max |a − b|` and `Σ a²`.
    squared: f64,
    max_abs: f64,
    energy: f64,
}

impl Sum {
    pub(super) fn add(&mut self, other: &Self) {
        self.changed += other.changed;
        self.squared += other.squared;
        self.max_abs = self.max_abs.max(other.max_abs);
        self.energy += other.energy;
    }

    /// `‖a − b‖ / ‖a‖`; 0 if nothing differs, infinite if only `a` is zero.
    pub(super) fn relative(&self) -> f64 {
        if self.squared == 0.0 { 0.0 } else { (self.squared / self.energy).sqrt() }
    }

    pub(super) fn max_abs(&self) -> f64 {
        self.max_abs
    }

    /// Compares elements of these dtypes. Elements of another dtype have changed if their values
    /// are others.
    pub(super) fn of(dtypes: [Dtype; 2], bytes: [&[u8]; 2]) -> Self {
        let [first, second] = dtypes;
        let mut sum = Self::default();
        if first != second || !is_short_float(first) {
            sum.add_elements(dtypes, bytes);
            return sum;
        }
        let mut tiles = [vec![0.0; TILE], vec![0.0; TILE]];
        let tile = TILE * first.bitsize() / 8;
        for (a, b) in bytes[0].chunks(tile).zip(bytes[1].chunks(tile)) {
            sum.add_tile(first, [a, b], &mut tiles);
        }
        sum
    }

    /// A tile of F32, F16 or BF16.
    fn add_tile(&mut self, dtype: Dtype, bytes: [&[u8]; 2], tiles: &mut [Vec<f32>; 2]) {
        let measured = floats(dtype, bytes, tiles).map(|[a, b]| Certificate::measure(a, b));
        match measured {
            Ok(found) if found.is_valid() => {
                let width = dtype.bitsize() / 8;
                let others = |(a, b): &(&[u8], &[u8])| a != b;
                if bytes[0] != bytes[1] {
                    let pairs = bytes[0].chunks(width).zip(bytes[1].chunks(width));
                    self.changed += pairs.filter(others).count() as u64;
                }
                self.squared += found.squared_error;
                self.max_abs = self.max_abs.max(found.max_abs);
                self.energy += found.energy;
            }
            // Not all values are finite: equal ones have no difference.
            _ => self.add_elements([dtype; 2], bytes),
        }
    }

    fn add_elements(&mut self, [first, second]: [Dtype; 2], bytes: [&[u8]; 2]) {
        let one = first == second;
        for i in 0..bytes[0].len() * 8 / first.bitsize() {
            let (a, b) = (bits(bytes[0], first.bitsize(), i), bits(bytes[1], second.bitsize(), i));
            let numbers = (number(first, a), number(second, b));
            if one && a == b || !one && (numbers.0 == numbers.1 || numbers.0.is_nan() && numbers.1.is_nan()) {
                self.energy += if numbers.0.is_finite() { numbers.0 * numbers.0 } else { 0.0 };
                continue;
            }
            let error = (numbers.0 - numbers.1).abs();
            self.changed += 1;
            self.squared += error * error;
            // Unlike `f64::max`, this keeps a NaN.
            self.max_abs = if error > self.max_abs || error.is_nan() { error } else { self.max_abs };
            self.energy += numbers.0 * numbers.0;
        }
    }
}

fn is_short_float(dtype: Dtype) -> bool {
    matches!(dtype, Dtype::F32 | Dtype::F16 | Dtype::BF16)
}

/// Whether elements of this dtype are numbers here.
pub(super) fn is_number(dtype: Dtype) -> bool {
    use Dtype::{BF16, BOOL, F16, F32, F64, I8, I16, I32, I64, U8, U16, U32, U64};
    matches!(dtype, F64 | F32 | F16 | BF16 | I8 | I16 | I32 | I64 | U8 | U16 | U32 | U64 | BOOL)
}

/// The bits of element `i`.
fn bits(bytes: &[u8], width: usize, i: usize) -> u64 {
    if width >= 8 {
        let element = &bytes[i * width / 8..][..width / 8];
        return element.iter().rev().fold(0, |bits, byte| bits << 8 | u64::from(*byte));
    }
    let first = i * width;
    let bit = |place: usize| u64::from(bytes[place / 8] >> (place % 8) & 1);
    (first..first + width).rev().fold(0, |bits, place| bits << 1 | bit(place))
}

/// The value of an element; NaN for a dtype that is no number here.
fn number(dtype: Dtype, bits: u64) -> f64 {
    match dtype {
        Dtype::F64 => f64::from_bits(bits),
        Dtype::F32 | Dtype::F16 | Dtype::BF16 => {
            let (mut value, bytes) = ([0.0], bits.to_le_bytes());
            let widened = widen(dtype, &bytes[..dtype.bitsize() / 8], &mut value);
            widened.map_or(f64::NAN, |()| f64::from(value[0]))
        }
        Dtype::I8 => f64::from(bits as i8),
        Dtype::I16 => f64::from(bits as i16),
        Dtype::I32 => f64::from(bits as i32),
        Dtype::I64 => bits as i64 as f64,
        Dtype::U8 | Dtype::U16 | Dtype::U32 | Dtype::U64 | Dtype::BOOL => bits as f64,
        _ => f64::NAN,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(dtype: Dtype, bytes: [&[u8]; 2]) -> (u64, f64, f64) {
        let sum = Sum::of([dtype; 2], bytes);
        (sum.changed, sum.relative(), sum.max_abs())
    }

    #[test]
    fn numbers_of_every_kind_are_compared() {
        let floats = |values: [f32; 2]| values.map(f32::to_le_bytes).concat();
        assert_eq!(of(Dtype::F32, [&floats([3.0, 4.0]), &floats([3.0, 4.5])]), (1, 0.1, 0.5));
        let doubles = |values: [f64; 2]| values.map(f64::to_le_bytes).concat();
        assert_eq!(of(Dtype::F64, [&doubles([3.0, 4.0]), &doubles([3.0, 4.5])]), (1, 0.1, 0.5));
        assert_eq!(of(Dtype::I8, [&[253, 4], &[253, 5]]), (1, 0.2, 1.0));
        assert_eq!(of(Dtype::U8, [&[3, 4], &[3, 4]]), (0, 0.0, 0.0));
        // Two elements a byte; no numbers.
        assert_eq!(Sum::of([Dtype::F4; 2], [&[0x21, 0x43], &[0x22, 0x43]]).changed, 1);
    }

    #[test]
    fn equal_nans_do_not_differ_and_others_do() {
        let floats = |values: [f32; 3]| values.map(f32::to_le_bytes).concat();
        let (a, b) = (floats([f32::NAN, 3.0, 4.0]), floats([f32::NAN, 3.0, 4.5]));
        assert_eq!(of(Dtype::F32, [&a, &b]), (1, 0.1, 0.5));
        let found = of(Dtype::F32, [&b, &floats([1.0, 3.0, 4.5])]);
        assert!(found.0 == 1 && found.1.is_nan() && found.2.is_nan(), "{found:?}");
    }

    #[test]
    fn other_dtypes_are_compared_by_value() {
        let single = [1.0f32, 1.001].map(f32::to_le_bytes).concat();
        let brain = [0x3f80u16, 0x3f80].map(u16::to_le_bytes).concat();
        let sum = Sum::of([Dtype::F32, Dtype::BF16], [&single, &brain]);
        assert_eq!(sum.changed, 1);
        assert!((sum.max_abs() - 0.001).abs() < 1e-6);
    }
}
