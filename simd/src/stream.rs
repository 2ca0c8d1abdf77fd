//! Writing large outputs past the caches, and prefetching.
//!
//! A non-temporal store spares reading a cache line before it is overwritten. Such stores need a
//! fence at the end; a [`StreamWriter`] exists only inside the closure given to [`stream`], so that
//! the fence cannot be left out.
#![allow(unsafe_code)]

/// Floats that the writer collects before it writes them: 4 KiB, a small part of the first-level
/// cache.
const TILE: usize = 1024;
/// Floats in a cache line.
const LINE: usize = 16;
/// Outputs of at least this many floats (16 MiB) are streamed: they would not stay in the caches
/// anyway.
const STREAM_FROM: usize = 1 << 22;

/// Fills an output from front to back in pieces; made by [`stream`]. A large output is written with
/// non-temporal stores, which spares reading each cache line before it is overwritten.
#[derive(Debug)]
pub struct StreamWriter<'a> {
    out: &'a mut [f32],
    written: usize,
    tile: [f32; TILE],
    /// Floats that wait in the tile; unused when the writer writes directly.
    filled: usize,
    streams: bool,
}

/// Calls `fill` to write all of `out`. Other threads see the output as after ordinary stores,
/// whatever `fill` does.
#[inline(always)]
pub fn stream<R>(out: &mut [f32], fill: impl FnOnce(&mut StreamWriter<'_>) -> R) -> R {
    let mut writer = StreamWriter::new(out);
    let result = fill(&mut writer);
    // `drop` issues the fence, so the caller cannot forget it.
    writer.finish();
    result
}

impl Drop for StreamWriter<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        if self.streams {
            fence();
        }
    }
}

impl<'a> StreamWriter<'a> {
    /// Longest piece that [`Self::next`] accepts.
    pub const MAX_PIECE: usize = TILE - LINE;

    #[inline(always)]
    fn new(out: &'a mut [f32]) -> Self {
        let streams = cfg!(target_arch = "x86_64") && out.len() >= STREAM_FROM;
        Self { out, written: 0, tile: [0.0; TILE], filled: 0, streams }
    }

    /// The next `len` places, at most [`Self::MAX_PIECE`]; the caller must overwrite all of them.
    /// Places beyond the end of the output are discarded.
    #[inline(always)]
    pub fn next(&mut self, len: usize) -> &mut [f32] {
        debug_assert!(len <= Self::MAX_PIECE, "a piece is too long");
        if !self.streams {
            let (start, end) = (self.written, (self.written + len).min(self.out.len()));
            self.written = end;
            return &mut self.out[start..end];
        }
        if self.filled + len > TILE {
            self.flush_lines();
        }
        let start = self.filled;
        self.filled = (start + len).min(TILE);
        &mut self.tile[start..self.filled]
    }

    /// Writes the rest of the tile.
    #[inline(always)]
    fn finish(mut self) {
        if self.streams {
            self.write(self.filled);
        }
    }

    /// Writes the whole cache lines of the tile; less than one line stays in it.
    #[inline(always)]
    fn flush_lines(&mut self) {
        let start = self.out[self.written..].as_ptr().addr() / size_of::<f32>();
        let whole = self.filled - (start + self.filled) % LINE;
        self.write(whole);
        self.tile.copy_within(whole..self.filled, 0);
        self.filled -= whole;
    }

    #[inline(always)]
    fn write(&mut self, len: usize) {
        let end = (self.written + len).min(self.out.len());
        let to = &mut self.out[self.written..end];
        stream_copy(&self.tile[..to.len()], to);
        self.written = end;
    }
}

/// Copies with non-temporal stores, where the alignment of `to` allows.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn stream_copy(from: &[f32], to: &mut [f32]) {
    use std::arch::x86_64::{_mm_loadu_ps, _mm_stream_ps};
    let head = to.as_ptr().align_offset(16).min(to.len());
    to[..head].copy_from_slice(&from[..head]);
    let quads = (to.len() - head) / 4;
    for i in 0..quads {
        let at = head + 4 * i;
        // SAFETY: `at + 4 <= to.len() == from.len()`; SSE is part of x86-64; `to[head..]` begins at
        // a multiple of 16 bytes, as the store requires; `fence` runs before the borrow of the
        // output ends.
        unsafe { _mm_stream_ps(to.as_mut_ptr().add(at), _mm_loadu_ps(from.as_ptr().add(at))) };
    }
    let tail = head + 4 * quads;
    to[tail..].copy_from_slice(&from[tail..]);
}

#[cfg(not(target_arch = "x86_64"))]
#[inline(always)]
fn stream_copy(from: &[f32], to: &mut [f32]) {
    to.copy_from_slice(from);
}

/// Orders the non-temporal stores before all later memory operations.
#[inline(always)]
fn fence() {
    // SAFETY: SSE is part of x86-64.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        std::arch::x86_64::_mm_sfence();
    }
}

/// Prefetches the cache line of `values[at]`, if that element exists.
#[inline(always)]
pub fn prefetch<T>(values: &[T], at: usize) {
    #[cfg(target_arch = "x86_64")]
    if let Some(value) = values.get(at) {
        use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        // SAFETY: SSE is part of x86-64; a prefetch has no effect that a program can see.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(std::ptr::from_ref(value).cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (values, at);
}

/// Begins to read the value that is `count` values behind this one into the second-level cache, if
/// memory has one there.
#[inline(always)]
pub fn prefetch_behind<T>(value: &T, count: usize) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        // SAFETY: SSE is part of x86-64; a prefetch of any address has no effect that a program can
        // see.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(std::ptr::from_ref(value).wrapping_add(count).cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (value, count);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(out: &mut [f32], piece: usize) {
        let total = out.len();
        let mut next = 0;
        stream(out, |writer| {
            while next < total {
                for place in writer.next(piece.min(total - next)) {
                    *place = next as f32;
                    next += 1;
                }
            }
        });
    }

    #[test]
    fn every_place_is_written_once_in_order() {
        for (len, offset) in [(0, 0), (5, 0), (1000, 1), (STREAM_FROM, 0), (STREAM_FROM + 37, 3)] {
            for piece in [1, 48, 130, StreamWriter::MAX_PIECE] {
                let mut buffer = vec![-1.0; len + offset];
                fill(&mut buffer[offset..], piece);
                assert!(buffer[offset..].iter().enumerate().all(|(i, v)| *v == i as f32), "{len} floats by {piece}");
            }
        }
    }
}
