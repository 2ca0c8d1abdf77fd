//! Made-up models, in memory and as files.

use std::path::Path;

use anyhow::Result;
use codec_api::{DecodeCx, Dtype, EncodeCx, EncodedTensor, Registry, TensorView};
use harness::suite::{Draw, Suite};

use crate::made::{self, Made};

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
        let tensor = |(name, shape): &(String, Vec<usize>)| {
            let mut draw = Draw::new(seed, name);
            let values = (0..shape.iter().product()).map(|_| draw.normal() as f32).collect();
            Tensor { name: name.clone(), shape: shape.clone(), values }
        };
        Self(shapes.iter().map(tensor).collect())
    }

    /// The tensors of a suite whose names begin so, under the rest of their names.
    ///
    /// # Errors
    /// If a tensor is not of floats.
    pub fn of(suite: &Suite, beginning: &str) -> Result<Self> {
        let mut tensors = Vec::new();
        for item in &suite.items {
            if let Some(name) = item.name.strip_prefix(beginning) {
                tensors.push(Tensor {
                    name: name.to_owned(),
                    shape: item.spec.shape().to_vec(),
                    values: item.to_f32()?,
                });
            }
        }
        Ok(Self(tensors))
    }

    /// A fine-tune: `deviation`·N(0, 1) more in the tensors with one of these beginnings.
    pub fn tuned(&self, beginnings: &[&str], deviation: f32, seed: u64) -> Self {
        let mut model = self.clone();
        for tensor in &mut model.0 {
            if beginnings.iter().any(|beginning| tensor.name.starts_with(beginning)) {
                let mut draw = Draw::new(seed, &tensor.name);
                tensor.values.iter_mut().for_each(|value| *value += deviation * draw.normal() as f32);
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
        made::write(path, self.0.iter().map(|tensor| (tensor.name.clone(), tensor.made())))
    }
}

impl Tensor {
    fn made(&self) -> Made<impl Fn() -> Vec<u8> + use<'_>> {
        let bytes = || self.values.iter().flat_map(|value| value.to_le_bytes()).collect();
        Made { dtype: Dtype::F32, shape: self.shape.clone(), bytes }
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
