//! Cuts elements into planes of bytes, and joins planes.

use codec_api::Dtype;
use entropy::plane;
use simd::kernel;

/// How to cut the elements of a dtype.
#[derive(Clone, Copy, Debug)]
pub(super) struct Split {
    /// Bytes of an element, and number of planes.
    width: usize,
    /// Whether the sign moves from the highest bit to the lowest.
    rotate: bool,
}

impl Split {
    pub(super) fn of(dtype: Dtype) -> Self {
        let width = if dtype.bitsize().is_multiple_of(8) { dtype.bitsize() / 8 } else { 1 };
        Self { width, rotate: matches!(dtype, Dtype::F32 | Dtype::BF16) }
    }

    pub(super) fn width(self) -> usize {
        self.width
    }

    /// The planes from the highest bytes to the lowest, each in the raw layout
    /// (`entropy::plane::raw`).
    pub(super) fn planes(self, bytes: &[u8]) -> Vec<Vec<u8>> {
        split(self.width, self.rotate, bytes)
    }

    /// Joins planes of equal length; `out` must have room for all their bytes.
    pub(super) fn join(self, planes: &[Vec<u8>], out: &mut [u8]) {
        join(self.rotate, planes, out);
    }
}

kernel! {
    fn join<'a>(_simd, rotate: bool, planes: &'a [Vec<u8>], out: &'a mut [u8]) {
        match (planes, rotate) {
            ([a, b], true) => join_two(a, b, out, |wide| wide.rotate_right(1)),
            ([a, b], false) => join_two(a, b, out, |wide| wide),
            ([a, b, c, d], true) => join_four([a, b, c, d], out, |wide| wide.rotate_right(1)),
            ([a, b, c, d], false) => join_four([a, b, c, d], out, |wide| wide),
            ([only], _) => out.copy_from_slice(only),
            _ => {
                for (i, out) in out.chunks_exact_mut(planes.len().max(1)).enumerate() {
                    for (out, plane) in out.iter_mut().rev().zip(planes) {
                        *out = plane[i];
                    }
                }
            }
        }
    }
}

#[inline(always)]
fn join_two(a: &[u8], b: &[u8], out: &mut [u8], turn: impl Fn(u16) -> u16) {
    for ((out, a), b) in out.as_chunks_mut().0.iter_mut().zip(a).zip(b) {
        *out = turn(u16::from_be_bytes([*a, *b])).to_le_bytes();
    }
}

#[inline(always)]
fn join_four([a, b, c, d]: [&[u8]; 4], out: &mut [u8], turn: impl Fn(u32) -> u32) {
    for ((((out, a), b), c), d) in out.as_chunks_mut().0.iter_mut().zip(a).zip(b).zip(c).zip(d) {
        *out = turn(u32::from_be_bytes([*a, *b, *c, *d])).to_le_bytes();
    }
}

kernel! {
    fn split<'a>(_simd, width: usize, rotate: bool, bytes: &'a [u8]) -> Vec<Vec<u8>> {
        match (width, rotate) {
            (2, true) => cut(bytes, |b, shift| (u16::from_le_bytes(b).rotate_left(1) >> shift) as u8),
            (4, true) => cut(bytes, |b, shift| (u32::from_le_bytes(b).rotate_left(1) >> shift) as u8),
            (2, _) => cut(bytes, |b, shift| (u16::from_le_bytes(b) >> shift) as u8),
            (4, _) => cut(bytes, |b, shift| (u32::from_le_bytes(b) >> shift) as u8),
            (8, _) => cut(bytes, |b, shift| (u64::from_le_bytes(b) >> shift) as u8),
            _ => vec![plane::raw(bytes)],
        }
    }
}

/// Elements in a block; a block stays in the cache while all planes are cut.
const BLOCK: usize = 1 << 10;

/// Cuts elements into planes; `byte` returns the byte of an element at a bit offset.
#[inline(always)]
fn cut<const WIDTH: usize>(bytes: &[u8], byte: impl Fn([u8; WIDTH], u32) -> u8) -> Vec<Vec<u8>> {
    let elements = bytes.as_chunks::<WIDTH>().0;
    let mut planes: Vec<Vec<u8>> = Vec::with_capacity(WIDTH);
    for _ in 0..WIDTH {
        let mut plane = Vec::with_capacity(elements.len() + 1);
        plane.extend(elements.first().map(|_| plane::RAW));
        planes.push(plane);
    }
    let mut part = [plane::RAW; BLOCK];
    for elements in elements.chunks(BLOCK) {
        for (shift, plane) in (0..).step_by(8).zip(planes.iter_mut().rev()) {
            for (place, element) in part.iter_mut().zip(elements) {
                *place = byte(*element, shift);
            }
            plane.extend_from_slice(&part[..elements.len()]);
        }
    }
    planes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exponents_are_the_first_plane_and_everything_comes_back() {
        for (dtype, first) in
            [(Dtype::F32, 127), (Dtype::BF16, 127), (Dtype::F16, 0xbc), (Dtype::I64, 0xbf), (Dtype::U8, 0x80)]
        {
            let width = dtype.bitsize() / 8;
            // −1.0 as F64, of which narrower elements take the upper bytes.
            let one = [0, 0, 0, 0, 0, 0, 0x80, 0xbf];
            let f16 = [0x00, 0xbc];
            let element = if dtype == Dtype::F16 { &f16[..] } else { &one[8 - width..] };
            let bytes = [element, &(1..=width as u8).collect::<Vec<_>>()].concat();
            let split = Split::of(dtype);
            let planes = split.planes(&bytes);
            assert_eq!((planes.len(), split.width()), (width, width));
            assert_eq!(planes[0][1], if dtype == Dtype::U8 { 0xbf } else { first }, "{dtype}");
            let mut out = vec![0; bytes.len()];
            let planes: Vec<_> = planes.iter().map(|plane| plane[1..].to_vec()).collect();
            split.join(&planes, &mut out);
            assert_eq!(out, bytes, "{dtype}");
        }
    }
}
