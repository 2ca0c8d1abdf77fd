//! Decoding ranges of rows.

use std::ops::Range;

use codec_api::{
    Bytes, Codec, CodecError, DecodeCx, Dtype, PayloadView, Result, RowReader, Rows, TensorSpec, check_rows,
};
use simd::{LANES, Simd, kernel, lanes, load, store, stream};

use super::{Format, Fp8, PIECE};
use crate::Scope;
use crate::minifloat::{E4m3, E5m2, Minifloat};

impl Rows for Fp8 {
    fn open(&self, spec: &TensorSpec, payload: PayloadView<'_>, _: &DecodeCx<'_>) -> Result<Box<dyn RowReader>> {
        self.accepts(spec)?;
        let shape = spec.matrix();
        let codes = payload.bytes("values", self.format.dtype(), spec.shape())?.clone();
        let scales = payload.bytes("scale", Dtype::F32, &[self.scope.scales(shape.0)])?.clone();
        let beyond = |scale: &f32| !(scale * self.format.most()).is_finite();
        if let Some(scale) = scales.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).find(beyond) {
            return Err(payload.corrupt("scale", format!("{scale} makes weights beyond f32")));
        }
        Ok(Box::new(Fp8Rows { codec: self.clone(), shape, codes, scales }))
    }
}

/// The rows of a payload.
#[derive(Debug)]
struct Fp8Rows {
    codec: Fp8,
    shape: (usize, usize),
    codes: Bytes,
    scales: Bytes,
}

impl RowReader for Fp8Rows {
    fn shape(&self) -> (usize, usize) {
        self.shape
    }

    fn read(&self, rows: Range<usize>, out: &mut [f32]) -> Result<()> {
        check_rows(self.shape, &rows, out)?;
        let (format, scope, columns) = (self.codec.format, self.codec.scope, self.shape.1);
        let codes = &self.codes[rows.start * columns..][..out.len()];
        let first = if scope == Scope::Row { rows.start } else { 0 };
        let largest = dequantise(format, codes, &self.scales[4 * first..], scope.weights(columns, out.len()), out);
        if largest > format.largest() {
            return Err(CodecError::corrupt("values", "a value is not finite"));
        }
        Ok(())
    }

    fn resident_bytes(&self) -> u64 {
        (self.codes.len() + self.scales.len()) as u64
    }
}

kernel! {
    /// Decodes weights; returns the largest code without its sign bit. Each run of `together`
    /// weights shares a scale.
    fn dequantise<'a>(
        simd,
        format: Format,
        codes: &'a [u8],
        scales: &'a [u8],
        together: usize,
        out: &'a mut [f32],
    ) -> u8 {
        match format {
            Format::E4m3 => dequantise_from::<E4m3, _>(simd, codes, scales, together, out),
            Format::E5m2 => dequantise_from::<E5m2, _>(simd, codes, scales, together, out),
        }
    }
}

#[inline(always)]
fn dequantise_from<F: Minifloat, S: Simd>(
    simd: S,
    codes: &[u8],
    scales: &[u8],
    together: usize,
    out: &mut [f32],
) -> u8 {
    let mut largest = [0; LANES];
    stream(out, |writer| {
        for (codes, scale) in codes.chunks(together).zip(scales.as_chunks().0) {
            let scale = f32::from_le_bytes(*scale);
            for codes in codes.chunks(PIECE) {
                let (blocks, rest) = writer.next(codes.len()).as_chunks_mut::<LANES>();
                let (full, last) = codes.as_chunks::<LANES>();
                for (codes, out) in full.iter().zip(blocks) {
                    let values = F::widen(simd, codes);
                    *out = lanes!(i => values[i] * scale);
                    largest = lanes!(i => largest[i].max(codes[i] & !F::SIGN));
                }
                if !rest.is_empty() {
                    let codes = load(last);
                    let values = F::widen(simd, &codes);
                    store(lanes!(i => values[i] * scale), rest);
                    largest = lanes!(i => largest[i].max(codes[i] & !F::SIGN));
                }
            }
        }
    });
    largest.into_iter().fold(0, u8::max)
}
