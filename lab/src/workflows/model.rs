//! Made-up models, in memory and as files.

use std::path::Path;

use anyhow::{Context, Result};
use codec_api::{DecodeCx, EncodeCx, EncodedTensor, Registry, TensorView};
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{Rng, SeedableRng};
use safetensors::serialize_to_file;
use safetensors::tensor::{Dtype, TensorView as Stored};

/// F32 tensors in the order of a model.
#[derive(Clone, Debug)]
pub struct Model(Vec<Tensor>);

#[derive(Clone, Debug)]
struct Tensor {
    name: String,
    shape: Vec<usize>,
    values: Vec<f32>,
}

impl Model {
    /// N(0, 1) everywhere.
    pub fn normal(shapes: &[(String, Vec<usize>)], seed: u64) -> Self {
        let mut random = Normal(Xoshiro256PlusPlus::seed_from_u64(seed));
        let tensor = |(name, shape): &(String, Vec<usize>)| Tensor {
            name: name.clone(),
            shape: shape.clone(),
            values: (0..shape.iter().product()).map(|_| random.next()).collect(),
        };
        Self(shapes.iter().map(tensor).collect())
    }

    /// A fine-tune: `deviation`·N(0, 1) more in the tensors with one of these beginnings.
    pub fn tuned(&self, beginnings: &[&str], deviation: f32, seed: u64) -> Self {
        let (mut model, mut random) = (self.clone(), Normal(Xoshiro256PlusPlus::seed_from_u64(seed)));
        for tensor in &mut model.0 {
            if beginnings.iter().any(|beginning| tensor.name.starts_with(beginning)) {
                tensor.values.iter_mut().for_each(|value| *value += deviation * random.next());
            }
        }
        model
    }

    /// The matrices rounded to 4 bits with a scale per row.
    ///
    /// # Errors
    /// If the codec fails.
    pub fn rounded(&self, registry: &Registry) -> Result<Self> {
        let codec = registry.parse_spec("quant.int:bits=4:group=row")?;
        let mut model = self.clone();
        for tensor in model.0.iter_mut().filter(|tensor| tensor.shape.len() == 2) {
            let view = TensorView::from_f32(tensor.shape.as_slice(), &tensor.values)?;
            let encoded = EncodedTensor::encode(codec.clone(), view, &EncodeCx::for_tensor(0, &tensor.name))?;
            tensor.values = encoded.decode(&DecodeCx::new())?;
        }
        Ok(model)
    }

    /// The largest tenth of every matrix; the rest are zeros.
    pub fn pruned(&self) -> Self {
        let mut model = self.clone();
        for tensor in model.0.iter_mut().filter(|tensor| tensor.shape.len() == 2) {
            let mut sizes: Vec<f32> = tensor.values.iter().map(|value| value.abs()).collect();
            let place = sizes.len() * 9 / 10;
            let (_, least, _) = sizes.select_nth_unstable_by(place, f32::total_cmp);
            tensor.values.iter_mut().filter(|value| value.abs() < *least).for_each(|value| *value = 0.0);
        }
        model
    }

    /// Number of tensors.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Writes a safetensors file.
    ///
    /// # Errors
    /// If that fails.
    pub fn write(&self, path: &Path) -> Result<()> {
        let stored = |tensor: &Tensor| -> Result<(String, Vec<u8>, Vec<usize>)> {
            let bytes = tensor.values.iter().flat_map(|value| value.to_le_bytes()).collect();
            Ok((tensor.name.clone(), bytes, tensor.shape.clone()))
        };
        let tensors = self.0.iter().map(stored).collect::<Result<Vec<_>>>()?;
        let views =
            tensors.iter().map(|(name, bytes, shape)| Ok((name, Stored::new(Dtype::F32, shape.clone(), bytes)?)));
        let views = views.collect::<Result<Vec<_>>>()?;
        serialize_to_file(views, None, path).with_context(|| format!("cannot write `{}`", path.display()))
    }
}

/// Normally distributed numbers: Box and Muller, *A note on the generation of random normal
/// deviates*.
struct Normal(Xoshiro256PlusPlus);

impl Normal {
    fn next(&mut self) -> f32 {
        let mut uniform = || (self.0.next_u64() >> 11) as f64 / (1u64 << 53) as f64;
        let radius = (-2.0 * (1.0 - uniform()).ln()).sqrt();
        (radius * (std::f64::consts::TAU * uniform()).cos()) as f32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shapes() -> Vec<(String, Vec<usize>)> {
        vec![("a.weight".to_owned(), vec![40, 50]), ("a.bias".to_owned(), vec![40]), ("b".to_owned(), vec![10, 30])]
    }

    #[test]
    fn versions_are_what_they_are_called() {
        let model = Model::normal(&shapes(), 1);
        let square: f32 = model.0[0].values.iter().map(|v| v * v).sum::<f32>() / 2000.0;
        assert!((square - 1.0).abs() < 0.1, "{square}");
        let tuned = model.tuned(&["a."], 0.01, 2);
        assert_eq!(tuned.0[2].values, model.0[2].values);
        let moved: f32 = tuned.0[0].values.iter().zip(&model.0[0].values).map(|(a, b)| (a - b).powi(2)).sum();
        assert!(((moved / 2000.0).sqrt() / 0.01 - 1.0).abs() < 0.1, "{moved}");
        let pruned = model.pruned();
        assert_eq!(pruned.0[0].values.iter().filter(|v| **v != 0.0).count(), 200);
        assert_eq!(pruned.0[1].values, model.0[1].values);
        let rounded = model.rounded(&Registry::linked().unwrap()).unwrap();
        let mut row = rounded.0[0].values[..50].to_vec();
        row.sort_by(f32::total_cmp);
        row.dedup();
        assert!(row.len() <= 16, "{row:?}");
    }
}
