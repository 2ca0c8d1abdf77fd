//! The multiples of a tensor, kept in few bytes.

/// The multiples of each segment.
#[derive(Debug, Default)]
pub(super) struct Multiples(Vec<Narrow>);

/// The multiples of a segment, in integers that suit the largest magnitude.
#[derive(Debug)]
enum Narrow {
    I8(Vec<i8>),
    I16(Vec<i16>),
    I32(Vec<i32>),
}

impl Multiples {
    /// Adds a segment.
    pub(super) fn push(&mut self, multiples: &[i32]) {
        let largest = multiples.iter().fold(0, |largest, j| largest.max(j.unsigned_abs()));
        self.0.push(match largest {
            0..=0x7f => Narrow::I8(multiples.iter().map(|j| *j as i8).collect()),
            0x80..=0x7fff => Narrow::I16(multiples.iter().map(|j| *j as i16).collect()),
            _ => Narrow::I32(multiples.to_vec()),
        });
    }

    /// Puts a segment into `out`, in place of what is there.
    pub(super) fn read(&self, segment: usize, out: &mut Vec<i32>) {
        out.clear();
        match &self.0[segment] {
            Narrow::I8(multiples) => out.extend(multiples.iter().map(|j| i32::from(*j))),
            Narrow::I16(multiples) => out.extend(multiples.iter().map(|j| i32::from(*j))),
            Narrow::I32(multiples) => out.extend_from_slice(multiples),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_segment_is_read_as_it_was() {
        let segments: [&[i32]; 5] =
            [&[], &[-127, 0, 127], &[128, -1], &[-32_767, 32_767, 5], &[-32_768, 2_097_151, i32::MIN]];
        let mut multiples = Multiples::default();
        for segment in segments {
            multiples.push(segment);
        }
        let widths = multiples.0.iter().map(|segment| match segment {
            Narrow::I8(_) => 1,
            Narrow::I16(_) => 2,
            Narrow::I32(_) => 4,
        });
        assert_eq!(widths.collect::<Vec<_>>(), [1, 1, 2, 2, 4]);
        let mut out = vec![7];
        for (index, segment) in segments.iter().enumerate() {
            multiples.read(index, &mut out);
            assert_eq!(out, *segment);
        }
    }
}
