//! Tensors of few values, each stored once: weights that were quantised and widened again.

use std::collections::{HashMap, HashSet};

use codec_api::{CodecError, DecodeCx, Payload, PayloadView, Result, Section};
use entropy::STATE_BYTES;
use entropy::plane::{self, Known, Reader};

/// Maximum number of values in a palette.
const MOST: usize = 4096;
/// The maximum for elements of two bytes. With more values, their planes predict each other just as
/// well.
const MOST_NARROW: usize = 256;

/// Elements in a sample. There is no palette if more than 15 of 16 differ: a sample of 1024 from
/// 4096 values has about 906 different ones.
const SAMPLE: usize = 1024;

const PALETTE: &str = "palette";
const INDICES: [&str; 2] = ["indices", "low_indices"];

/// A palette and its indices, if elements of `width` bytes have few values and the values, with the
/// least that indices take, leave something of `limit` bytes.
pub(super) fn encode(bytes: &[u8], width: usize, limit: u64) -> Result<Option<Payload>> {
    // Indices are raw, or have the states of a stream.
    let indices = STATE_BYTES.min(bytes.len() / width);
    let fit = usize::try_from(limit).unwrap_or(usize::MAX).saturating_sub(indices) / width;
    match width {
        2 => encode_elements::<2>(bytes, MOST_NARROW.min(fit)),
        4 => encode_elements::<4>(bytes, MOST.min(fit)),
        8 => encode_elements::<8>(bytes, MOST.min(fit)),
        _ => Ok(None),
    }
}

/// Whether a palette may be worth while: at most half of the elements' values differ.
pub(super) fn is_likely(bytes: &[u8], width: usize) -> bool {
    let half = bytes.len() / width / 2;
    match width {
        2 => has_few_values(bytes.as_chunks::<2>().0, MOST_NARROW.min(half)),
        4 => has_few_values(bytes.as_chunks::<4>().0, MOST.min(half)),
        8 => has_few_values(bytes.as_chunks::<8>().0, MOST.min(half)),
        _ => false,
    }
}

/// Whether the elements may have 2 to `most` different values, as far as a sample shows.
fn has_few_values<const WIDTH: usize>(elements: &[[u8; WIDTH]], most: usize) -> bool {
    let sample = elements.iter().step_by(elements.len().div_ceil(SAMPLE).max(1));
    let most = most.min((15 * sample.len()).div_ceil(16));
    let mut seen = Seen::new();
    for element in sample {
        let mut wide = [0; 8];
        wide[..WIDTH].copy_from_slice(element);
        seen.insert(u64::from_le_bytes(wide));
        if seen.values > most {
            return false;
        }
    }
    seen.values >= 2
}

/// A set of at most [`SAMPLE`] integers.
struct Seen {
    /// Open addressing in twice as many places; an empty place holds 0.
    places: Vec<u64>,
    zero: bool,
    /// Number of integers.
    values: usize,
}

impl Seen {
    fn new() -> Self {
        Self { places: vec![0; 2 * SAMPLE], zero: false, values: 0 }
    }

    fn insert(&mut self, value: u64) {
        if value == 0 {
            self.values += usize::from(!std::mem::replace(&mut self.zero, true));
            return;
        }
        let mut place = (value.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as usize;
        loop {
            let found = &mut self.places[place % (2 * SAMPLE)];
            if *found == value {
                return;
            }
            if *found == 0 {
                *found = value;
                self.values += 1;
                return;
            }
            place += 1;
        }
    }
}

fn encode_elements<const WIDTH: usize>(bytes: &[u8], most: usize) -> Result<Option<Payload>> {
    let elements = bytes.as_chunks::<WIDTH>().0;
    if !has_few_values(elements, most) {
        return Ok(None);
    }
    let Some(palette) = values(elements, most) else { return Ok(None) };
    let index: HashMap<&[u8; WIDTH], u16> = palette.iter().zip(0..).collect();
    let indices: Vec<u16> = elements.iter().map(|element| index.get(element).copied().unwrap_or_default()).collect();
    let low: Vec<u8> = indices.iter().map(|index| *index as u8).collect();
    let mut payload = Payload::new().with(PALETTE, Section::from_bytes(palette.concat())?)?;
    let coded =
        |bytes: &[u8], known: Known<'_>| Section::from_bytes(plane::encode(bytes, known).map_err(CodecError::codec)?);
    if palette.len() <= 256 {
        payload = payload.with(INDICES[0], coded(&low, Known::default())?)?;
    } else {
        let high: Vec<u8> = indices.iter().map(|index| (index >> 8) as u8).collect();
        payload = payload.with(INDICES[0], coded(&high, Known::default())?)?;
        payload = payload.with(INDICES[1], coded(&low, Known::after(&high))?)?;
    }
    Ok(Some(payload))
}

/// All values of the elements, in numerical order; `None` if there are more than `most`.
fn values<const WIDTH: usize>(elements: &[[u8; WIDTH]], most: usize) -> Option<Vec<[u8; WIDTH]>> {
    let mut seen = HashSet::new();
    for element in elements {
        if seen.insert(*element) && seen.len() > most {
            return None;
        }
    }
    let mut palette: Vec<_> = seen.into_iter().collect();
    palette.sort_unstable_by(|a, b| a.iter().rev().cmp(b.iter().rev()));
    Some(palette)
}

/// Whether [`encode`] made this payload.
pub(super) fn is(payload: &PayloadView<'_>) -> bool {
    payload.has(PALETTE)
}

/// Decodes elements of `width` bytes.
pub(super) fn decode(payload: &PayloadView<'_>, width: usize, cx: &DecodeCx<'_>, out: &mut [u8]) -> Result<()> {
    let palette = payload.byte_section(PALETTE)?;
    let values = palette.len() / width;
    if width < 2 || !palette.len().is_multiple_of(width) || !(2..=MOST).contains(&values) {
        return Err(payload.corrupt(PALETTE, format!("{} bytes are no palette of {width}-byte values", palette.len())));
    }
    let elements = out.len() / width;
    let damaged = |name| move |e: entropy::Error| payload.corrupt(name, e.to_string());
    let reader = |name| Reader::new(payload.byte_section(name)?, elements).map_err(damaged(name));
    let mut first = reader(INDICES[0])?;
    let mut second = if values > 256 { Some(reader(INDICES[1])?) } else { None };
    let (mut high, mut low) = (vec![0; super::BLOCK], vec![0; super::BLOCK]);
    for out in out.chunks_mut(super::BLOCK * width) {
        cx.cancel.check()?;
        let (high, low) = (&mut high[..out.len() / width], &mut low[..out.len() / width]);
        if let Some(second) = &mut second {
            first.read(Known::default(), high).map_err(damaged(INDICES[0]))?;
            second.read(Known::after(high), low).map_err(damaged(INDICES[1]))?;
        } else {
            first.read(Known::default(), low).map_err(damaged(INDICES[0]))?;
        }
        for (out, (high, low)) in out.chunks_exact_mut(width).zip(high.iter().zip(low)) {
            let at = usize::from(u16::from_be_bytes([*high, *low])) * width;
            let value = palette.get(at..at + width).ok_or_else(|| payload.corrupt(INDICES[0], "no such value"))?;
            out.copy_from_slice(value);
        }
    }
    first.finish().map_err(damaged(INDICES[0]))?;
    second.map_or(Ok(()), |second| second.finish().map_err(damaged(INDICES[1])))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Exact, Level};
    use codec_api::{Codec, EncodeCx, Lossless, TensorView};

    /// Sums of four numbers below `n`, times a factor that yields uncommon floats: near Gaussian,
    /// with about `4·n` values.
    fn quantised(n: u32) -> Vec<u8> {
        let mut state = 1u64;
        let mut random = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            ((state >> 33) % u64::from(n)) as f32
        };
        let value = |_| ((0..4).map(|_| random()).sum::<f32>() - 2.0 * n as f32) * 0.012_345_67;
        (0..1 << 16).map(value).flat_map(f32::to_le_bytes).collect()
    }

    #[test]
    fn few_values_take_the_bits_of_their_places() {
        let codec = Exact::new(Level::Max);
        for (n, bits) in [(16, 6.0), (60, 8.1), (600, 11.6)] {
            let bytes = quantised(n);
            let tensor = TensorView::new(
                codec_api::TensorSpec::new(codec_api::Dtype::F32, [256, 256]).expect("a shape"),
                &bytes,
            );
            let tensor = tensor.expect("the shape fits");
            let payload = codec.encode(tensor.clone(), &EncodeCx::new(0)).expect("it encodes");
            let found = payload.bytes() as f64 * 8.0 / 65536.0;
            assert!(is(&payload.view()) && found < bits, "{found} bits");
            let mut out = vec![0; bytes.len()];
            codec.decode_bytes(tensor.spec(), payload.view(), &DecodeCx::new(), &mut out).expect("it decodes");
            assert!(out == bytes);
        }
        // As many values as weights, and a single value.
        assert!(encode(&quantised(1 << 20), 4, u64::MAX).expect("no error").is_none());
        assert!(encode(&[7; 4096], 4, u64::MAX).expect("no error").is_none());
    }
}
