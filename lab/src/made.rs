//! Made-up models. Their tensors are drawn when they are written, so that the memory holds one of
//! them at a time.

use std::borrow::Cow;
use std::path::Path;

use anyhow::{Context, Result};
use codec_api::Dtype;
use half::bf16;
use harness::suite::Draw;
use safetensors::{View, serialize_to_file};

/// Standard deviation of [`Weights`].
const DEVIATION: f64 = 0.02;

/// A tensor of a made-up model; `bytes` makes its stored bytes.
#[derive(Debug)]
pub struct Made<F> {
    pub dtype: Dtype,
    pub shape: Vec<usize>,
    pub bytes: F,
}

impl<F: Fn() -> Vec<u8>> View for Made<F> {
    fn dtype(&self) -> Dtype {
        self.dtype
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        (self.bytes)().into()
    }

    fn data_len(&self) -> usize {
        self.shape.iter().product::<usize>() * self.dtype.bitsize() / 8
    }
}

/// Writes a safetensors file.
///
/// # Errors
/// If that fails.
pub fn write<F: Fn() -> Vec<u8>>(path: &Path, tensors: impl IntoIterator<Item = (String, Made<F>)>) -> Result<()> {
    serialize_to_file(tensors, None, path).with_context(|| format!("cannot write `{}`", path.display()))
}

/// Normally distributed BF16 weights, of which tensors of any size are drawn fast.
#[derive(Debug)]
pub struct Weights(Vec<bf16>);

impl Weights {
    /// 65,536 weights with the standard deviation 0.02.
    pub fn new(seed: u64) -> Self {
        let mut draw = Draw::new(seed, "weights");
        Self((0..1 << 16).map(|_| bf16::from_f64(DEVIATION * draw.normal())).collect())
    }

    /// The weights of the tensor of this name, one by one from the table.
    pub fn draw(&self, seed: u64, name: &str, count: usize) -> Vec<bf16> {
        let mut draw = Draw::new(seed, name);
        let four = || {
            let word = draw.word();
            [0, 16, 32, 48].map(|shift| self.0[usize::from((word >> shift) as u16)])
        };
        std::iter::repeat_with(four).flatten().take(count).collect()
    }
}

/// The stored bytes of BF16 weights.
pub fn bytes(weights: &[bf16]) -> Vec<u8> {
    weights.iter().flat_map(|weight| weight.to_le_bytes()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_have_their_deviation_and_tensors_their_names() {
        let weights = Weights::new(1);
        let square = weights.0.iter().map(|w| w.to_f64().powi(2)).sum::<f64>() / weights.0.len() as f64;
        assert!((square.sqrt() / DEVIATION - 1.0).abs() < 0.01, "{square}");
        assert_eq!(weights.draw(2, "a", 4097), weights.draw(2, "a", 4097));
        assert_ne!(weights.draw(2, "a", 64), weights.draw(2, "b", 64));
        assert_ne!(weights.draw(2, "a", 64), weights.draw(3, "a", 64));
    }

    #[test]
    fn a_file_has_the_tensors() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("model.safetensors");
        let drawn = || bytes(&Weights::new(1).draw(2, "a", 3));
        write(&path, [("a".to_owned(), Made { dtype: Dtype::BF16, shape: vec![3, 1], bytes: drawn })]).unwrap();
        let model = checkpoint::Checkpoint::open(&path).unwrap();
        assert_eq!(model.tensor("a").unwrap().bytes(), drawn());
    }
}
