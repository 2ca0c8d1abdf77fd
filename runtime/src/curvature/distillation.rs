//! Gradients of the KL divergence of a model's predictions from those of another one, for the
//! vectors of the model: weights and biases of norms, and biases of linear layers.

use std::collections::BTreeMap;

use super::dense::Dense;
use super::head::Predictions;
use super::layer::{FeedForward, Layer};
use super::{Batch, Differentiable, Observer, embed, finite};
use crate::error::{Error, Result};

/// The gradients with vectors, by the names of their tensors.
pub type Gradients = BTreeMap<String, Vec<f64>>;

/// A batch, and what the last layer of the model to learn from puts out for it.
#[derive(Debug)]
pub struct Lesson<'a> {
    batch: Batch<'a>,
    outputs: Vec<f32>,
}

impl Lesson<'_> {
    /// Number of tokens.
    pub fn tokens(&self) -> usize {
        self.batch.tokens()
    }
}

impl Differentiable {
    /// A copy with other values of some matrices, in the layout of their tensors. A tied head has
    /// those of the embedding.
    ///
    /// # Errors
    /// [`Error::Usage`] for a matrix that the model does not have, or of another size.
    pub fn with_matrices<'v>(&self, values: impl IntoIterator<Item = (&'v str, &'v [f32])>) -> Result<Self> {
        let mut copy = self.clone();
        for (name, values) in values {
            copy.replace(name, values)?;
        }
        Ok(copy)
    }

    fn replace(&mut self, name: &str, values: &[f32]) -> Result<()> {
        let wrong = || Error::Usage(format!("the model has no matrix `{name}` of {} values", values.len()));
        let tied = self.config.tied;
        let table = [Some(&mut self.embedding), self.positions.as_mut()].into_iter().flatten();
        for (of, table) in table {
            if of == name {
                *table = Some(values.to_vec()).filter(|new| new.len() == table.len()).ok_or_else(wrong)?;
                if tied && name == self.head.linear.tensor {
                    self.head.linear.replace(values);
                }
                return Ok(());
            }
        }
        let head = Some(&mut self.head.linear).filter(|head| !tied && head.tensor == name);
        let linear = self.layers.iter_mut().find_map(|layer| layer.linear(name)).or(head);
        linear.filter(|linear| linear.weight.len() == values.len()).ok_or_else(wrong)?.replace(values);
        Ok(())
    }

    /// The vectors that [`Self::learn`] has gradients for, with the names of their tensors. Norms
    /// of heads are not among them.
    pub fn vectors(&mut self) -> Vec<(String, &mut Vec<f32>)> {
        let layers = self.layers.iter_mut().flat_map(Layer::vectors);
        layers.chain(self.head.norm.vectors()).collect()
    }

    /// What this model teaches about a batch.
    ///
    /// # Errors
    /// [`Error::Usage`] if a token or the number of tokens is beyond the model, or an activation is
    /// not finite.
    pub fn lesson<'b>(&self, batch: Batch<'b>) -> Result<Lesson<'b>> {
        let outputs = self.inputs(&batch)?.pop().unwrap_or_default();
        Ok(Lesson { batch, outputs })
    }

    /// The KL divergence of this model's predictions from those of `teacher`, summed over the
    /// tokens of one of its lessons, in nats, and the gradients of this sum.
    ///
    /// # Errors
    /// As [`Self::lesson`].
    pub fn learn(&self, teacher: &Self, lesson: &Lesson<'_>) -> Result<(f64, Gradients)> {
        let (config, batch) = (&self.config, &lesson.batch);
        let x = self.inputs(batch)?;
        let mut sums = Sums(Gradients::new());
        let (divergence, g) = self.divergence_of(teacher, lesson, &x[self.layers.len()], Some(&mut sums));
        let mut g = g.unwrap_or_default();
        for (layer, x) in self.layers.iter().zip(&x).rev() {
            let tape = layer.forward(config, batch, x);
            g = layer.backward(config, batch, x, &tape, g, &mut sums);
        }
        Ok((divergence, sums.0))
    }

    /// The KL divergence of [`Self::learn`] alone.
    ///
    /// # Errors
    /// As there.
    pub fn divergence(&self, teacher: &Self, lesson: &Lesson<'_>) -> Result<f64> {
        let x = self.inputs(&lesson.batch)?.pop().unwrap_or_default();
        Ok(self.divergence_of(teacher, lesson, &x, None).0)
    }

    fn divergence_of(
        &self,
        teacher: &Self,
        lesson: &Lesson<'_>,
        x: &[f32],
        observer: Option<&mut dyn Observer>,
    ) -> (f64, Option<Vec<f32>>) {
        let wanted = Predictions { head: &teacher.head, x: &lesson.outputs };
        Predictions { head: &self.head, x }.divergence(wanted, observer)
    }

    /// The inputs of all layers, and of the head.
    fn inputs(&self, batch: &Batch<'_>) -> Result<Vec<Vec<f32>>> {
        batch.check(&self.config)?;
        let mut x = vec![embed(batch, self.config.width, self.values())];
        for (number, layer) in self.layers.iter().enumerate() {
            let out = layer.forward(&self.config, batch, &x[number]).out;
            finite(&out, number)?;
            x.push(out);
        }
        Ok(x)
    }
}

impl Layer {
    fn vectors(&mut self) -> Vec<(String, &mut Vec<f32>)> {
        let attention = self.inputs.iter_mut().chain([&mut self.output]);
        let linears: Vec<&mut Dense> = match &mut self.feed_forward {
            FeedForward::One(network) => attention.chain(network.linears_mut()).collect(),
            FeedForward::Experts(mixture) => attention.chain(mixture.linears_mut()).collect(),
        };
        let biases = linears.into_iter().filter_map(|linear| Some((bias(&linear.tensor), linear.bias.as_mut()?)));
        let norms = self.attention_norm.vectors().chain(self.feed_forward_norm.vectors());
        norms.chain(biases).collect()
    }
}

/// The name of the bias of the linear layer with this weight.
fn bias(weight: &str) -> String {
    format!("{}bias", weight.trim_end_matches("weight"))
}

/// Sums gradients over tokens.
struct Sums(Gradients);

impl Sums {
    fn add(&mut self, name: String, sums: &[f64]) {
        let into = self.0.entry(name).or_insert_with(|| vec![0.0; sums.len()]);
        into.iter_mut().zip(sums).for_each(|(into, sum)| *into += sum);
    }
}

impl Observer for Sums {
    fn inputs(&mut self, _: &[&str], _: &[f32], _: usize) {}

    fn gradients(&mut self, tensor: &str, g: &[f32], width: usize) {
        let mut sums = vec![0.0; width];
        for g in g.chunks_exact(width) {
            sums.iter_mut().zip(g).for_each(|(sum, g)| *sum += f64::from(*g));
        }
        self.add(bias(tensor), &sums);
    }

    fn norm(&mut self, name: &str, gradients: &dyn Fn() -> [Vec<f64>; 2]) {
        let [weight, bias] = gradients();
        self.add(format!("{name}.weight"), &weight);
        self.add(format!("{name}.bias"), &bias);
    }

    fn predicted(&mut self, _: &[f64]) {}
}
