//! A Zstandard frame of the stored bytes, tried only where it can win.
//!
//! A frame finds repeated strings, which planes do not. Otherwise it codes bytes one by one, with
//! one table for all of them: only for few bytes this can be better than planes, each of which has
//! the states of a stream.

use std::cell::RefCell;

use codec_api::{CodecError, Result};
use entropy::{count, information};
use simd::{LANES, kernel, lanes, load};
use zstd::bulk::Compressor;

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

thread_local! {
    /// The compressor of small tensors: a new one takes longer than their frames.
    static SMALL: RefCell<Option<Compressor<'static>>> = const { RefCell::new(None) };
}

fn compress(bytes: &[u8]) -> Result<Vec<u8>> {
    if bytes.len() > FEW {
        return zstd::bulk::compress(bytes, LEVEL).map_err(CodecError::codec);
    }
    SMALL.with_borrow_mut(|small| {
        let compressor = match small {
            Some(compressor) => compressor,
            None => small.insert(Compressor::new(LEVEL).map_err(CodecError::codec)?),
        };
        compressor.compress(bytes).map_err(CodecError::codec)
    })
}

/// Bytes of an ideal code of single bytes, if there are few of them; infinite for others.
pub(super) fn least(bytes: &[u8]) -> f64 {
    if bytes.len() <= FEW { information(&count(bytes)) / 8.0 } else { f64::INFINITY }
}

/// Bytes that are compared.
const WINDOW: usize = 8;
/// Windows looked at for repetitions at any distance, about.
const CHOSEN: usize = 1 << 9;
/// A repetition in so many windows is worth a frame.
const RARE: usize = 64;

/// Whether more than one window in 64 repeats: in eight parts of the bytes, one of the latest
/// windows; or anywhere, among the windows with a small hash. A window begins with an element.
pub(super) fn repeats(bytes: &[u8], width: usize) -> bool {
    near_repeats(bytes, width) || far_repeats(bytes, width)
}

/// Windows seen lately.
struct Latest(Vec<u64>);

impl Latest {
    /// Binary logarithm of the number of windows.
    const BITS: u32 = 11;

    fn new() -> Self {
        let mut windows = vec![0; 1 << Self::BITS];
        // The place of window 0 holds a window that belongs to another place.
        windows[0] = 1;
        Self(windows)
    }

    /// Whether the window was seen lately.
    fn has_seen(&mut self, window: u64) -> bool {
        let place = (window ^ window >> 29).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (64 - Self::BITS);
        std::mem::replace(&mut self.0[place as usize], window) == window
    }
}

fn window(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |window| u64::from_le_bytes(*window))
}

/// Looks for runs and short periods in eight parts of the bytes.
fn near_repeats(bytes: &[u8], width: usize) -> bool {
    const PARTS: usize = 8;
    const PART: usize = 256;
    let all = bytes.len().saturating_sub(WINDOW - 1).div_ceil(width);
    let step = all.div_ceil(PARTS).max(PART);
    let (mut latest, mut repeated, mut seen) = (Latest::new(), 0, 0);
    for first in (0..all).step_by(step) {
        for i in first..(first + PART).min(all) {
            repeated += usize::from(latest.has_seen(window(bytes, i * width)));
            seen += 1;
        }
    }
    RARE * repeated > seen
}

/// Bytes at which windows of a block begin.
const BLOCK: usize = 4 * LANES;
/// Bytes that the windows of a block cover.
const COVERED: usize = BLOCK + WINDOW - 1;

/// Looks for windows with a small hash at any distance.
fn far_repeats(bytes: &[u8], width: usize) -> bool {
    let most = u32::MAX / (bytes.len() / width).div_ceil(CHOSEN).max(1) as u32;
    let [chosen, repeated] = find(bytes, width, most);
    RARE * repeated > chosen
}

kernel! {
    /// Number of windows with a hash below `most`, and of those among them that were seen lately.
    fn find<'a>(simd, bytes: &'a [u8], width: usize, most: u32) -> [usize; 2] {
        let (mut latest, mut chosen, mut repeated) = (Latest::new(), 0, 0);
        // Windows of elements of eight bytes begin in every other lane.
        let lanes = if width > 4 { 0x5555 } else { 0xffff };
        let mut padded = [0; 2 * BLOCK];
        for start in (0..bytes.len().saturating_sub(WINDOW - 1)).step_by(BLOCK) {
            let rest = &bytes[start..];
            let (block, end) = if let Some(block) = rest.first_chunk::<COVERED>() {
                (block, BLOCK)
            } else {
                padded[..rest.len()].copy_from_slice(rest);
                let Some(block) = padded.first_chunk::<COVERED>() else { break };
                (block, rest.len() - (WINDOW - 1))
            };
            for first in (0..4).step_by(width.min(4)) {
                let mut small = simd.below(&hashes(&block[first..]), &[most; LANES]) & lanes;
                while small != 0 {
                    let at = first + 4 * small.trailing_zeros() as usize;
                    small &= small - 1;
                    if at < end {
                        chosen += 1;
                        repeated += usize::from(latest.has_seen(window(block, at)));
                    }
                }
            }
        }
        [chosen, repeated]
    }
}

/// Hashes of the windows that begin at every fourth byte.
#[inline(always)]
fn hashes(bytes: &[u8]) -> [u32; LANES] {
    let (low, high) = (bytes.as_chunks::<4>().0, bytes[4..].as_chunks::<4>().0);
    let (low, high): ([[u8; 4]; LANES], [[u8; 4]; LANES]) = (load(low), load(high));
    lanes!(i => {
        let high = u32::from_le_bytes(high[i]).rotate_left(15);
        (u32::from_le_bytes(low[i]) ^ high).wrapping_mul(0x9e37_79b1)
    })
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
