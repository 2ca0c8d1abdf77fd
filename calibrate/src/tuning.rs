//! Vectors of a compressed model, tuned towards the predictions of the dense one.

use std::collections::BTreeMap;
use std::sync::Arc;

use codec_api::util::narrowed;
use codec_api::{Certificate, Codec, EncodeCx, EncodedTensor, Payload, TensorView};
use runtime::{Batch, Differentiable, Gradients, Lesson};

use crate::error::{Error, Result};
use crate::feedback::Fed;
use crate::sequential::{BATCHES, Compressed, Subject};
use crate::statistics::batches;

/// Steps of the optimiser.
const STEPS: usize = 40;

/// Steps between comparisons on the held-out sequences.
const COMPARED: usize = 10;

/// The first step of a value, relative to the root mean square of its vector; steps fall linearly.
const RATE: f64 = 1e-3;

/// Least root mean square that a step is relative to.
const LEAST: f64 = 1e-2;

/// Decays of the means of gradients and of their squares.
const DECAYS: [f64; 2] = [0.9, 0.95];

/// Values by the names of tensors.
type Vectors = BTreeMap<String, Vec<f32>>;

/// Tunes the vectors of a compressed model: weights and biases of norms, and biases of linear
/// layers.
#[derive(Clone, Copy, Debug)]
pub struct Tuning<'a> {
    /// What was compressed.
    pub subject: Subject<'a>,
    /// The codecs of its tensors; vectors without one stay as they are.
    pub codecs: &'a BTreeMap<String, Arc<dyn Codec>>,
}

impl Tuning<'_> {
    /// Some steps of Adam lower the KL divergence of the predictions from those of the dense model
    /// on the sequences of the calibration. The vectors that do best on the held-out sequences are
    /// added as payloads; without a gain there, everything stays as it is. `each` is told the
    /// divergence on the held-out sequences, in nats per token, after some numbers of steps. The
    /// result is the same with any number of threads.
    ///
    /// # Source
    /// Adam: Kingma and Ba, arXiv 1412.6980.
    ///
    /// # Errors
    /// [`Error::Usage`] if no sequences are held out, or all; those of the model and of the codecs.
    pub fn run(&self, compressed: &mut Compressed, each: &dyn Fn(usize, f64)) -> Result<()> {
        let statistics = self.subject.statistics;
        if statistics.held_out.is_empty() || statistics.sequences.is_empty() {
            let reason = "no sequences are held out, or none are left; give `netweight calibrate` more text";
            return Err(Error::Usage(reason.to_owned()));
        }
        let [sequences, held_out] = [&statistics.sequences, &statistics.held_out].map(|of| borrowed(of));
        let lessons = self.lessons(&sequences[..sequences.len().min(BATCHES)])?;
        let held_out = self.lessons(&held_out)?;

        let mut student = self.student(compressed)?;
        let values = |student: &mut Differentiable| -> Vectors {
            let known = student.vectors().into_iter().filter(|(name, _)| self.codecs.contains_key(name));
            known.map(|(name, values)| (name, values.clone())).collect()
        };
        let (mut now, mut adam) = (values(&mut student), Adam::default());
        let mut best = (f64::INFINITY, BTreeMap::new());
        for step in 0..=STEPS {
            if step % COMPARED == 0 {
                let payloads = self.store(&mut student, &now)?;
                let divergence = self.divergence(&student, &held_out)?;
                each(step, divergence);
                if divergence < best.0 {
                    // Before the first step the vectors are the model's own.
                    best = (divergence, if step == 0 { BTreeMap::new() } else { payloads });
                }
            }
            if step == STEPS {
                break;
            }
            let lesson = &lessons[step % lessons.len()];
            put(&mut student, &now);
            let (_, gradients) = student.learn(self.subject.model, lesson)?;
            adam.step(&mut now, &gradients, RATE * (1.0 - step as f64 / STEPS as f64));
        }
        compressed.divergence = Some(best.0);
        compressed.payloads.extend(best.1);
        Ok(())
    }

    /// The compressed model.
    fn student(&self, compressed: &Compressed) -> Result<Differentiable> {
        let decode = |(name, payload): (&String, &Payload)| -> Result<(String, Vec<f32>)> {
            let spec = self.subject.source.spec(name)?.clone();
            let encoded = EncodedTensor::from_parts(spec, self.codec(name)?, payload.clone(), Certificate::EMPTY)?;
            let decoded = encoded.decode(&EncodeCx::for_tensor(self.subject.seed, name).decoding())?;
            Ok((name.clone(), decoded))
        };
        let matrices = compressed.payloads.iter().map(decode).collect::<Result<Vec<_>>>()?;
        let matrices = matrices.iter().map(|(name, values)| (name.as_str(), values.as_slice()));
        Ok(self.subject.model.with_matrices(matrices)?)
    }

    fn codec(&self, name: &str) -> Result<Arc<dyn Codec>> {
        self.codecs.get(name).cloned().ok_or_else(|| Error::Usage(format!("no codec for `{name}`")))
    }

    /// Encodes these vectors, and gives the model what they decode to.
    fn store(&self, student: &mut Differentiable, vectors: &Vectors) -> Result<BTreeMap<String, Payload>> {
        let (mut payloads, mut decoded) = (BTreeMap::new(), Vectors::new());
        for (name, values) in vectors {
            let spec = self.subject.source.spec(name)?.clone();
            let bytes = narrowed(spec.dtype(), values)?;
            let cx = EncodeCx::for_tensor(self.subject.seed, name);
            let fed = Fed::plain(&self.codec(name)?, &TensorView::new(spec, &bytes)?, &cx);
            let fed = fed.map_err(|error| error.of(name))?;
            payloads.insert(name.clone(), fed.payload);
            decoded.insert(name.clone(), fed.decoded);
        }
        put(student, &decoded);
        Ok(payloads)
    }

    fn lessons<'s>(&self, batches: &'s [Vec<&'s [u32]>]) -> Result<Vec<Lesson<'s>>> {
        let lesson = |sequences: &'s Vec<&'s [u32]>| self.subject.model.lesson(Batch { sequences, first: 0 });
        Ok(batches.iter().map(lesson).collect::<Result<_, _>>()?)
    }

    /// In nats per token.
    fn divergence(&self, student: &Differentiable, lessons: &[Lesson<'_>]) -> Result<f64> {
        let (mut sum, mut tokens) = (0.0, 0);
        for lesson in lessons {
            sum += student.divergence(self.subject.model, lesson)?;
            tokens += lesson.tokens();
        }
        Ok(sum / tokens.max(1) as f64)
    }
}

/// Batches of sequences.
fn borrowed(sequences: &[Vec<u32>]) -> Vec<Vec<&[u32]>> {
    batches(sequences).into_iter().map(|batch| batch.iter().map(|ids| &**ids).collect()).collect()
}

/// Gives a model these vectors.
fn put(model: &mut Differentiable, vectors: &Vectors) {
    for (name, values) in model.vectors() {
        if let Some(new) = vectors.get(&name) {
            values.copy_from_slice(new);
        }
    }
}

/// Adam's means of gradients and of their squares.
#[derive(Default)]
struct Adam {
    means: BTreeMap<String, Vec<[f64; 2]>>,
    steps: i32,
}

impl Adam {
    fn step(&mut self, vectors: &mut Vectors, gradients: &Gradients, rate: f64) {
        self.steps += 1;
        let grown = DECAYS.map(|decay| 1.0 - decay.powi(self.steps));
        for (name, values) in vectors {
            let Some(gradients) = gradients.get(name) else { continue };
            let power = values.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>();
            let rate = rate * (power / values.len() as f64).sqrt().max(LEAST);
            let means = self.means.entry(name.clone()).or_insert_with(|| vec![[0.0; 2]; gradients.len()]);
            for (value, (mean, g)) in values.iter_mut().zip(means.iter_mut().zip(gradients)) {
                for (mean, (new, decay)) in mean.iter_mut().zip([*g, g * g].into_iter().zip(DECAYS)) {
                    *mean = decay * *mean + (1.0 - decay) * new;
                }
                let change = (mean[0] / grown[0]) / ((mean[1] / grown[1]).sqrt() + 1e-12);
                *value = (f64::from(*value) - rate * change) as f32;
            }
        }
    }
}
