//! A Zstandard frame of the stored bytes, tried only where it can win.
//!
//! A frame finds repeated strings, which planes do not. Otherwise it codes bytes one by one, with
//! one table for all of them: only for few bytes this can be better than planes, each of which has
//! the states of a stream.

use codec_api::{CodecError, Result};
use entropy::{count, information};
use simd::kernel;

/// The level of Zstandard frames.
const LEVEL: i32 = 3;
/// Repetitions are sought in all of a tensor up to this size, and in the middle of a larger one.
const SOUGHT: usize = 1 << 20;
/// A part of a tensor of more than [`SOUGHT`] bytes is compressed first.
const PART: usize = 1 << 18;
/// Tensors for which the bytes are also counted.
const FEW: usize = 1 << 14;

/// A frame of less than `limit` bytes, if one is likely, of elements of `width` bytes.
pub(super) fn smaller(bytes: &[u8], width: usize, limit: u64) -> Result<Option<Vec<u8>>> {
    let compress = |bytes: &[u8]| zstd::bulk::compress(bytes, LEVEL).map_err(CodecError::codec);
    let middle = if bytes.len() > SOUGHT { &bytes[bytes.len() / 2 / width * width..][..PART] } else { bytes };
    if !repeats(middle, width) && least(bytes) >= limit as f64 {
        return Ok(None);
    }
    // Extrapolated, the part must be within a twentieth of `limit`.
    if bytes.len() > SOUGHT && compress(middle)?.len() as f64 * bytes.len() as f64 > 1.05 * limit as f64 * PART as f64 {
        return Ok(None);
    }
    Ok(Some(compress(bytes)?).filter(|frame| (frame.len() as u64) < limit))
}

/// Bytes of an ideal code of single bytes, if there are few of them; infinite for others.
pub(super) fn least(bytes: &[u8]) -> f64 {
    if bytes.len() <= FEW { information(&count(bytes)) / 8.0 } else { f64::INFINITY }
}

/// Bytes that are compared.
const WINDOW: usize = 8;
/// Windows that are remembered, about.
const REMEMBERED: usize = 1 << 11;
/// A repetition in so many windows is worth a frame.
const RARE: usize = 64;

/// Whether more than one window in 64 repeats: in eight parts of the bytes, one of the latest
/// windows of its part; or anywhere, among the windows with a small hash. A window begins with an
/// element.
pub(super) fn repeats(bytes: &[u8], width: usize) -> bool {
    near_repeats(bytes, width) || far_repeats(bytes, width)
}

/// Windows that begin with an element.
fn windows(bytes: &[u8], width: usize) -> usize {
    bytes.len().saturating_sub(WINDOW - 1).div_ceil(width)
}

fn window(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |window| u64::from_le_bytes(*window))
}

/// Looks for runs and short periods in eight parts of the bytes.
fn near_repeats(bytes: &[u8], width: usize) -> bool {
    const PARTS: usize = 8;
    const PART: usize = 512;
    let all = windows(bytes, width);
    let step = all.div_ceil(PARTS).max(PART);
    let (mut close, mut seen) = (0, 0);
    for first in (0..all).step_by(step) {
        let mut latest = [None; 256];
        for i in first..(first + PART).min(all) {
            let window = window(bytes, i * width);
            let place = (window ^ window >> 29).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56;
            close += usize::from(latest[place as usize].replace(window) == Some(window));
            seen += 1;
        }
    }
    RARE * close > seen
}

/// Looks for windows with a small hash at any distance.
fn far_repeats(bytes: &[u8], width: usize) -> bool {
    let most = u32::MAX / windows(bytes, width).div_ceil(REMEMBERED).max(1) as u32;
    let mut chosen = Vec::with_capacity(2 * REMEMBERED);
    match width {
        1 => choose::<1>(bytes, most, &mut chosen),
        2 => choose::<2>(bytes, most, &mut chosen),
        4 => choose::<4>(bytes, most, &mut chosen),
        _ => choose::<8>(bytes, most, &mut chosen),
    }
    let mut found: Vec<u64> = chosen.iter().map(|at| window(bytes, *at)).collect();
    found.sort_unstable();
    let earlier = found.windows(2).filter(|pair| pair[0] == pair[1]).count();
    RARE * earlier > found.len()
}

/// Elements hashed at a time.
const PIECE: usize = 512;

/// Appends the offsets of the windows whose hash is at most `most`: the same windows, wherever they
/// are.
fn choose<const WIDTH: usize>(bytes: &[u8], most: u32, chosen: &mut Vec<usize>) {
    let in_window = WINDOW / WIDTH;
    let all = windows(bytes, WIDTH);
    let mut elements = [0; PIECE + WINDOW];
    for first in (0..all).step_by(PIECE) {
        let part = bytes[first * WIDTH..].as_chunks::<WIDTH>().0;
        let part = &part[..part.len().min(PIECE + in_window - 1)];
        for (element, bytes) in elements.iter_mut().zip(part) {
            let mut wide = [0; WINDOW];
            wide[..WIDTH].copy_from_slice(bytes);
            let wide = u64::from_le_bytes(wide);
            *element = wide as u32 ^ (wide >> 32) as u32;
        }
        let here = (all - first).min(PIECE);
        let mut hashes = [0; PIECE];
        hash(&elements, in_window, &mut hashes);
        let small = hashes[..here].iter().enumerate().filter(|(_, hash)| **hash <= most);
        chosen.extend(small.map(|(i, _)| (first + i) * WIDTH));
    }
}

kernel! {
    /// A hash of the elements of each window.
    fn hash<'a>(_simd, elements: &'a [u32; PIECE + WINDOW], in_window: usize, hashes: &'a mut [u32; PIECE]) {
        hashes.fill(0);
        for j in 0..in_window.min(WINDOW) {
            for (hash, element) in hashes.iter_mut().zip(&elements[j..]) {
                *hash = (*hash ^ element).wrapping_mul(0x9e37_79b1);
            }
        }
        for hash in hashes {
            *hash = (*hash ^ *hash >> 15).wrapping_mul(0x85eb_ca77);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(n: usize) -> Vec<u8> {
        let mut state = 1u64;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 56) as u8
        };
        (0..n).map(|_| next()).collect()
    }

    #[test]
    fn repetitions_are_found_and_noise_has_none() {
        for width in [1, 2, 4, 8] {
            for n in [0, 3, 8, 256, 5000, 1 << 18, SOUGHT] {
                let bytes = noise(n);
                assert!(!repeats(&bytes, width), "{n} bytes, width {width}");
            }
            let row = noise(6000);
            for part in [&[][..], &[1, 2], &[0; 4000]] {
                // Rows that are repeated at any distance, which is a multiple of the width.
                let bytes = [&row[..], &part.repeat(width * 2), &row].concat();
                assert!(repeats(&bytes, width), "{} bytes between, width {width}", part.len());
            }
            assert!(repeats(&[7; 1000], width) && repeats(&[&[7; 5000], &row[..]].concat(), width));
        }
    }

    #[test]
    fn a_frame_is_made_only_where_it_is_smaller() {
        let text = b"to be or not to be, ".repeat(3000);
        assert!(smaller(&text, 1, 1000).is_ok_and(|frame| frame.is_some_and(|frame| frame.len() < 1000)));
        assert!(smaller(&text, 1, 10).is_ok_and(|frame| frame.is_none()));
        assert!(smaller(&noise(60_000), 1, 60_000).is_ok_and(|frame| frame.is_none()));
        let long = b"to be or not to be, ".repeat(100_000);
        assert!(smaller(&long, 1, 10_000).is_ok_and(|frame| frame.is_some()));
    }
}
