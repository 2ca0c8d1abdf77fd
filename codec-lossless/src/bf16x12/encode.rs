//! Encodes stored bytes as sections.

use codec_api::{Cancel, Dtype, EncodeCx, Payload, Result, Section};

use super::palette::Palette;
use super::{BLOCK, ESCAPES, ESCAPES_BEFORE, INDEX, LOW, PALETTE, PART, escapes, packed_bytes};

/// Packs stored bytes; `None` if the result would not be smaller.
pub(super) fn pack(bytes: &[u8], cx: &EncodeCx<'_>) -> Result<Option<Payload>> {
    let elements = bytes.as_chunks::<2>().0;
    let counts = count(elements, cx.cancel)?;
    let palette = Palette::of(&counts);
    let found: u64 = palette.exponents().iter().map(|e| counts[usize::from(*e)]).sum();
    let missing = elements.len() - found as usize;
    let packed = packed_bytes(elements.len(), palette.exponents().len(), missing);
    if packed >= bytes.len() || u32::try_from(missing).is_err() {
        return Ok(None);
    }
    let mut low = vec![0; elements.len()];
    let mut index = vec![0; elements.len().div_ceil(2)];
    let (mut rest, mut before) = (Vec::with_capacity(missing), Vec::with_capacity(elements.len().div_ceil(BLOCK)));
    let indices = palette.indices();
    for ((elements, low), index) in elements.chunks(PART).zip(low.chunks_mut(PART)).zip(index.chunks_mut(PART / 2)) {
        cx.cancel.check()?;
        pack_elements(elements, &indices, low, index);
        for (elements, index) in elements.chunks(BLOCK).zip(index.chunks(BLOCK / 2)) {
            before.push(rest.len() as u32);
            rest.extend(escapes::places(index).map(|place| exponent(elements[place])));
        }
        cx.progress.tick(elements.len() as u64);
    }
    let payload = Payload::new()
        .with(LOW, Section::from_bytes(low)?)?
        .with(INDEX, Section::from_bytes(index)?)?
        .with(PALETTE, Section::from_bytes(palette.exponents().to_vec())?)?
        .with(ESCAPES, Section::from_bytes(rest)?)?
        .with(ESCAPES_BEFORE, Section::from_values(Dtype::U32, [before.len()], before)?)?;
    Ok(Some(payload))
}

fn exponent(element: [u8; 2]) -> u8 {
    (u16::from_le_bytes(element) >> 7) as u8
}

/// The frequency of each exponent.
fn count(elements: &[[u8; 2]], cancel: &Cancel) -> Result<[u64; 256]> {
    let mut counts = [0; 256];
    for part in elements.chunks(PART) {
        cancel.check()?;
        let exponents: Vec<u8> = part.iter().map(|element| exponent(*element)).collect();
        counts.iter_mut().zip(entropy::count(&exponents)).for_each(|(count, more)| *count += more);
    }
    Ok(counts)
}

fn pack_elements(elements: &[[u8; 2]], indices: &[u8; 256], low: &mut [u8], index: &mut [u8]) {
    for (low, element) in low.iter_mut().zip(elements) {
        let bits = u16::from_le_bytes(*element);
        *low = (bits >> 8 & 0x80 | bits & 0x7f) as u8;
    }
    for (byte, pair) in index.iter_mut().zip(elements.chunks(2)) {
        let nibbles = pair.iter().map(|element| indices[usize::from(exponent(*element))]);
        *byte = nibbles.rev().fold(0, |byte, nibble| byte << 4 | nibble);
    }
}
