//! Matrices of known rank and spectrum, and a codec's answer to them.
#![allow(dead_code, clippy::unwrap_used, reason = "each test file uses some of it")]

use codec_api::{CodecError, DecodeCx, Dtype, EncodeCx, EncodedTensor, Registry, TensorView, rel_frobenius_error};
use faer::{Mat, MatRef};
use harness::testing::weights;
use {codec_lossless as _, codec_lowrank as _, codec_quant as _};

/// An encoded matrix and its relative Frobenius error.
pub struct Coded {
    pub encoded: EncodedTensor,
    pub decoded: Vec<f32>,
    pub error: f64,
}

impl Coded {
    pub fn s(&self) -> Vec<f32> {
        let rank = self.encoded.payload.sections()["s"].spec().elements();
        self.encoded.payload.view().values("s", Dtype::F32, &[rank]).unwrap()
    }

    pub fn rank(&self) -> usize {
        self.s().len()
    }

    pub fn bytes(&self) -> u64 {
        self.encoded.payload.bytes()
    }
}

pub fn encode(spec: &str, shape: &[usize], values: &[f32]) -> Result<Coded, CodecError> {
    let codec = Registry::linked().unwrap().parse_spec(spec).unwrap();
    let encoded = EncodedTensor::encode(codec, TensorView::from_f32(shape, values)?, &EncodeCx::new(0))?;
    let decoded = encoded.decode(&DecodeCx::new())?;
    assert!(encoded.payload.bound().holds(values, &decoded), "{spec}: the bound");
    let error = rel_frobenius_error(values, &decoded);
    Ok(Coded { encoded, decoded, error })
}

/// `U·V + noise·N` of three Gaussian matrices: `rows × rank`, `rank × columns`, `rows × columns`.
pub fn low_rank([rows, columns]: [usize; 2], rank: usize, noise: f32) -> Vec<f32> {
    let all = weights("gaussian:2048x1024", rank * (rows + columns) + rows * columns);
    let (u, rest) = all.split_at(rows * rank);
    let (v, n) = rest.split_at(rank * columns);
    let product = MatRef::from_row_major_slice(u, rows, rank) * MatRef::from_row_major_slice(v, rank, columns);
    n.iter().enumerate().map(|(i, n)| product[(i / columns, i % columns)] + noise * n).collect()
}

/// A matrix with the singular values 1, 1/2, 1/3, … and random singular vectors, at least as high as wide.
pub fn harmonic([rows, columns]: [usize; 2]) -> Vec<f32> {
    let all = weights("gaussian:4096x1024", (rows + columns) * columns);
    let (left, right) = all.split_at(rows * columns);
    let basis = |values, rows| MatRef::from_row_major_slice(values, rows, columns).qr().compute_thin_Q();
    let scale = |i, j| if i == j { 1.0 / (i + 1) as f32 } else { 0.0 };
    let matrix = basis(left, rows) * Mat::from_fn(columns, columns, scale) * basis(right, columns).transpose();
    (0..rows * columns).map(|i| matrix[(i / columns, i % columns)]).collect()
}

/// The least relative error that any matrix of this rank has to [`harmonic`].
pub fn best_of_harmonic(columns: usize, rank: usize) -> f64 {
    let squares = |from: usize| (from..=columns).map(|i| 1.0 / (i * i) as f64).sum::<f64>();
    (squares(rank + 1) / squares(1)).sqrt()
}
