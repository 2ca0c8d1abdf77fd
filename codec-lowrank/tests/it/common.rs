//! Matrices of known rank and spectrum, and encoded forms of them.

use codec_api::{CodecError, DecodeCx, Dtype, EncodeCx, EncodedTensor, Registry, TensorView};
use faer::MatRef;
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
    let error = encoded.certificate.rel_frobenius();
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
