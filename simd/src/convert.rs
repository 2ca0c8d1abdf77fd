//! Bulk conversions between f32 and the 16-bit floats.
//!
//! The last, shorter block has code of its own: in one loop for all blocks, the compiler copies
//! each with a call of `memcpy`.

use crate::{kernel, load, store};

kernel! {
    /// Rounds `values` to F16 bits: nearest, ties to even, infinity beyond F16's range. `values`
    /// and `bits` have equal lengths.
    pub fn f32_to_f16<'a>(simd, values: &'a [f32], bits: &'a mut [u16]) {
        let ((blocks, rest), (outs, tail)) = (values.as_chunks(), bits.as_chunks_mut());
        for (block, out) in blocks.iter().zip(outs) {
            *out = simd.f32_to_f16(block);
        }
        store(simd.f32_to_f16(&load(rest)), tail);
    }
}

kernel! {
    /// Widens F16 `bits`. `bits` and `values` have equal lengths.
    pub fn f16_to_f32<'a>(simd, bits: &'a [u16], values: &'a mut [f32]) {
        let ((blocks, rest), (outs, tail)) = (bits.as_chunks(), values.as_chunks_mut());
        for (block, out) in blocks.iter().zip(outs) {
            *out = simd.f16_to_f32(block);
        }
        store(simd.f16_to_f32(&load(rest)), tail);
    }
}

kernel! {
    /// Rounds finite `values` to BF16 bits: nearest, ties to even, infinity beyond BF16's range.
    /// `values` and `bits` have equal lengths.
    pub fn f32_to_bf16<'a>(simd, values: &'a [f32], bits: &'a mut [u16]) {
        let ((blocks, rest), (outs, tail)) = (values.as_chunks(), bits.as_chunks_mut());
        for (block, out) in blocks.iter().zip(outs) {
            *out = simd.f32_to_bf16(block);
        }
        store(simd.f32_to_bf16(&load(rest)), tail);
    }
}

kernel! {
    /// Widens BF16 `bits`. `bits` and `values` have equal lengths.
    pub fn bf16_to_f32<'a>(simd, bits: &'a [u16], values: &'a mut [f32]) {
        let ((blocks, rest), (outs, tail)) = (bits.as_chunks(), values.as_chunks_mut());
        for (block, out) in blocks.iter().zip(outs) {
            *out = simd.bf16_to_f32(block);
        }
        store(simd.bf16_to_f32(&load(rest)), tail);
    }
}

#[cfg(test)]
mod tests {
    use half::{bf16, f16};

    use super::*;
    use crate::{Level, with_level};

    #[test]
    fn widening_agrees_with_half_on_every_pattern_and_level() {
        let bits: Vec<u16> = (0..=u16::MAX).collect();
        for level in Level::available() {
            let (mut wide, mut brain) = (vec![0.0; bits.len()], vec![0.0; bits.len()]);
            with_level(level, || (f16_to_f32(&bits, &mut wide), bf16_to_f32(&bits, &mut brain)));
            for (&b, (w, r)) in bits.iter().zip(wide.iter().zip(&brain)) {
                assert_eq!(w.to_bits(), f16::from_bits(b).to_f32().to_bits(), "{level} f16 {b:04x}");
                assert_eq!(r.to_bits(), u32::from(b) << 16, "{level} bf16 {b:04x}");
            }
        }
    }

    #[test]
    fn narrowing_agrees_with_half_on_every_level() {
        // Every exponent, with mantissas at, just below and just above the rounding ties.
        let values: Vec<f32> = (0..0x7f80u32)
            .flat_map(|top| [0, 1, 0xfff, 0x1000, 0x1001, 0x7fff, 0x8000, 0x8001, 0xffff].map(|low| top << 16 | low))
            .flat_map(|bits| [f32::from_bits(bits), -f32::from_bits(bits)])
            .collect();
        for level in Level::available() {
            let (mut small, mut brain) = (vec![0; values.len()], vec![0; values.len()]);
            with_level(level, || (f32_to_f16(&values, &mut small), f32_to_bf16(&values, &mut brain)));
            for (v, (s, r)) in values.iter().zip(small.iter().zip(&brain)) {
                assert_eq!(*s, f16::from_f32_const(*v).to_bits(), "{level} f16 of {v:e}");
                assert_eq!(*r, bf16::from_f32_const(*v).to_bits(), "{level} bf16 of {v:e}");
            }
        }
    }
}
