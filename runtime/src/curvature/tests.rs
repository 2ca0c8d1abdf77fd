//! Gradients against differences of the loss, for every family.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use checkpoint::Model;
use codec_api::util::transpose;
use codec_api::{InputAxis, Registry};
use codecs as _;

use super::backward::norm;
use super::dense::Dense;
use super::head::label;
use super::{Batch, Differentiable, Layered, Observer, SideBySide, embed};
use crate::error::Error;
use crate::kernels::softmax;

const MODELS: [&str; 11] = [
    "gpt2",
    "llama",
    "llama-linear-rope",
    "llama-tied-bias",
    "llama-yarn",
    "llama3-rope",
    "mistral-window",
    "mixtral",
    "qwen2",
    "qwen3",
    "qwen3-moe",
];

fn with<T>(name: &str, of: impl FnOnce(&Model) -> T) -> T {
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/models");
    let place = tempfile::tempdir().expect("a folder");
    let weights = models.join(name).join("model.safetensors");
    let weights = if weights.exists() { weights } else { models.join("llama/model.safetensors") };
    fs::copy(weights, place.path().join("model.safetensors")).expect("a copy");
    fs::copy(models.join(name).join("config.json"), place.path().join("config.json")).expect("a copy");
    let registry = Registry::linked().expect("a registry");
    of(&Model::open(place.path(), &[], &registry).expect("a model"))
}

fn open(name: &str) -> Result<Differentiable, Error> {
    with(name, Differentiable::open)
}

/// Takes a batch through all layers, forward and backward.
fn observe(model: &Layered<'_>, batch: &Batch<'_>, seed: u64, recorder: &mut Recorder) -> Result<(), Error> {
    let mut x = vec![model.embedding()?.run(batch)?];
    for number in 0..model.config().layers {
        x.push(model.layer(number)?.forward(batch, &x[number], None)?);
    }
    let mut g = model.head()?.run(batch, &x[model.config().layers], Some(seed), recorder)?;
    for number in (0..model.config().layers).rev() {
        g = model.layer(number)?.backward(batch, &x[number], g, recorder)?;
    }
    recorder.embedded = g;
    Ok(())
}

/// The vectors of each tensor, and their width.
type Vectors = BTreeMap<String, (Vec<f32>, usize)>;

#[derive(Default)]
struct Recorder {
    inputs: Vectors,
    gradients: Vectors,
    embedded: Vec<f32>,
    variance: f64,
}

impl Observer for Recorder {
    fn inputs(&mut self, tensors: &[&str], x: &[f32], width: usize) {
        for tensor in tensors {
            self.inputs.insert((*tensor).to_owned(), (x.to_vec(), width));
        }
    }

    fn gradients(&mut self, tensor: &str, g: &[f32], width: usize) {
        self.gradients.insert(tensor.to_owned(), (g.to_vec(), width));
    }

    fn predicted(&mut self, variances: &[f64]) {
        self.variance = variances.iter().sum();
    }
}

/// The probabilities of each token's successors.
fn predictions(model: &Differentiable, batch: &Batch<'_>) -> Vec<Vec<f32>> {
    let mut x = embed(batch, model.config.width, model.values());
    for layer in &model.layers {
        x = layer.forward(&model.config, batch, &x).out;
    }
    let mut logits = model.head.linear.forward(&norm(&model.head.norm, &x));
    let rows = logits.chunks_exact_mut(model.config.vocabulary);
    rows.map(|row| {
        softmax(row);
        row.to_vec()
    })
    .collect()
}

fn loss(model: &Differentiable, batch: &Batch<'_>, labels: &[usize]) -> f64 {
    predictions(model, batch).iter().zip(labels).map(|(p, label)| -f64::from(p[*label]).ln()).sum()
}

/// `Σ g·xᵀ`, the gradient of a weight matrix.
fn gradient((g, outputs): &(Vec<f32>, usize), (x, inputs): &(Vec<f32>, usize)) -> Vec<f64> {
    let mut sum = vec![0.0; outputs * inputs];
    for (g, x) in g.chunks_exact(*outputs).zip(x.chunks_exact(*inputs)) {
        for (row, g) in sum.chunks_exact_mut(*inputs).zip(g) {
            row.iter_mut().zip(x).for_each(|(sum, x)| *sum += f64::from(*g) * f64::from(*x));
        }
    }
    sum
}

/// The slope of the loss along a gradient, by a central difference, and its length.
fn slope(
    model: &mut Differentiable,
    gradient: &[f64],
    loss: impl Fn(&Differentiable) -> f64,
    weights: impl Fn(&mut Differentiable) -> &mut Vec<f32>,
) -> (f64, f64) {
    let length = gradient.iter().map(|g| g * g).sum::<f64>().sqrt();
    let (mixture, before) = (model.config.experts.is_some(), weights(model).clone());
    let mut at = |step: f64| {
        let moved = before.iter().zip(gradient).map(|(w, g)| (f64::from(*w) + step * g / length) as f32);
        *weights(model) = moved.collect();
        loss(model)
    };
    // Where a token goes to other experts, the loss jumps: a shorter step is needed.
    let steps: &[f64] = if mixture { &[1e-3, 3e-4] } else { &[2e-2] };
    let slope = steps.iter().find_map(|step| {
        let [less, here, more] = [-step, 0.0, *step].map(&mut at);
        let jumps = (less + more - 2.0 * here).abs() > 0.05 * (more - less).abs();
        (!mixture || !jumps).then_some((more - less) / (2.0 * step))
    });
    let slope = slope.unwrap_or(f64::NAN);
    *weights(model) = before;
    (slope, length)
}

#[test]
fn gradients_are_slopes_of_the_loss() {
    for name in MODELS {
        let mut model = open(name).expect("a model");
        let vocabulary = model.config.vocabulary as u32;
        let ids: Vec<u32> = (0..26).map(|i| (i * i * 7 + 3 * i + 1) % vocabulary).collect();
        // The fewer tokens, the fewer nearly change their experts.
        let ids = if model.config.experts.is_some() { &ids[16..] } else { &ids };
        let sequences = [&ids[..ids.len() - 4], &ids[ids.len() - 4..]];
        let batch = Batch { sequences: &sequences, first: 4 };
        let mut found = Recorder::default();
        with(name, |model| observe(&Layered::open(model)?, &batch, 5, &mut found)).expect("a pass");
        let predicted = predictions(&model, &batch);
        let variance: f64 = predicted.iter().flatten().map(|p| f64::from(p * (1.0 - p))).sum();
        assert!((found.variance / variance - 1.0).abs() < 1e-4, "{name}");
        let labels: Vec<usize> = predicted.iter().zip(batch.draws(5)).map(|(p, draw)| label(p, draw)).collect();
        let loss = |model: &Differentiable| loss(model, &batch, &labels);
        for layer in 0..model.layers.len() {
            let tensors: Vec<String> =
                model.layers[layer].linears().iter().map(|linear| linear.tensor.clone()).collect();
            for tensor in tensors {
                if found.inputs[&tensor].0.is_empty() {
                    assert!(model.config.experts.is_some(), "{name}, {tensor}: no token");
                    continue;
                }
                let gradient = gradient(&found.gradients[&tensor], &found.inputs[&tensor]);
                let (slope, length) = slope(&mut model, &gradient, loss, |model| {
                    &mut model.layers[layer].linear(&tensor).expect("a linear layer").weight
                });
                assert!((slope / length - 1.0).abs() < 0.02, "{name}, {tensor}: {slope}, {length} expected");
            }
        }
        let width = model.config.width;
        let mut gradient = vec![0.0; model.embedding.1.len()];
        for ((id, _), g) in batch.ids().zip(found.embedded.chunks_exact(width)) {
            let row = &mut gradient[id as usize * width..][..width];
            row.iter_mut().zip(g).for_each(|(sum, g)| *sum += f64::from(*g));
        }
        let (slope, length) = slope(&mut model, &gradient, loss, |model| &mut model.embedding.1);
        assert!((slope / length - 1.0).abs() < 0.02, "{name}, embedding: {slope}, {length} expected");
    }
}

/// The divergence from a model with other weights in one matrix, along each vector.
#[test]
fn gradients_of_vectors_are_slopes_of_the_divergence() {
    for name in ["gpt2", "llama", "llama-tied-bias", "mixtral"] {
        let teacher = open(name).expect("a model");
        let output = &teacher.layers[0].output;
        let changed: Vec<f32> = output.weight.iter().map(|w| w * 0.5).collect();
        let mut by_tensor = changed.clone();
        if output.axis == InputAxis::Rows {
            transpose((output.outputs, output.inputs), &changed, &mut by_tensor);
        }
        let mut student = teacher.with_matrices([(&*output.tensor, &*by_tensor)]).expect("a copy");
        assert_eq!(student.layers[0].output.weight, changed, "{name}");
        let ids: Vec<u32> = (0..10).map(|i| (i * i * 7 + 3 * i + 1) % teacher.config.vocabulary as u32).collect();
        let sequences = [&ids[..6], &ids[6..]];
        let lesson = teacher.lesson(Batch { sequences: &sequences, first: 0 }).expect("a lesson");
        assert_eq!(lesson.tokens(), 10);
        let own = teacher.divergence(&teacher, &lesson).expect("a divergence");
        assert!(own.abs() < 1e-9, "{name}: {own}");
        let (divergence, gradients) = student.learn(&teacher, &lesson).expect("gradients");
        let same = student.divergence(&teacher, &lesson).expect("a divergence");
        assert!(divergence > 0.0 && (same / divergence - 1.0).abs() < 1e-9, "{name}: {divergence}, {same}");
        let loss = |student: &Differentiable| student.divergence(&teacher, &lesson).expect("a divergence");
        let names: Vec<String> = student.vectors().into_iter().map(|(name, _)| name).collect();
        assert_eq!(names.len() > 2 * teacher.layers.len() + 1, teacher.config.biases.inputs, "{name}");
        for tensor in names {
            let (slope, length) = slope(&mut student, &gradients[&tensor], loss, |student| {
                student.vectors().into_iter().find(|(name, _)| *name == tensor).expect("a vector").1
            });
            assert!((slope / length - 1.0).abs() < 0.05, "{name}, {tensor}: {slope}, {length} expected");
        }
    }
}

#[test]
fn what_cannot_run_is_refused() {
    let model = open("llama").expect("a model");
    for (name, values) in [("model.layers.0.self_attn.q_proj.weight", 3), ("lm_head.bias", 3)] {
        let error = model.with_matrices([(name, &*vec![0.0; values])]).unwrap_err().to_string();
        assert!(error.contains(name) && error.contains("3 values"), "{error}");
    }
    with("llama", |model| {
        let model = Layered::open(model).expect("a model");
        let (embedding, layer) = (model.embedding().expect("a table"), model.layer(0).expect("a layer"));
        let run = |ids: &[u32]| {
            let batch = Batch { sequences: &[ids], first: 0 };
            embedding.run(&batch).map_err(|error| error.to_string())
        };
        assert!(run(&[model.config().vocabulary as u32]).unwrap_err().contains("is it the right tokenizer?"));
        assert!(run(&vec![0; model.config().context + 1]).unwrap_err().contains("the model allows"));
        let batch = Batch { sequences: &[&[1, 2, 3]], first: 0 };
        let error = layer.forward(&batch, &[0.0; 5], None).unwrap_err().to_string();
        assert!(error.contains("5 values for 3 tokens"), "{error}");
    });
    with("gpt2", |model| {
        let model = Layered::open(model).expect("a model");
        let batch = Batch { sequences: &[&[1, 2, 3]], first: 0 };
        let x = model.embedding().and_then(|embedding| embedding.run(&batch)).expect("vectors");
        let mut broken = model.layer(1).expect("a layer");
        broken.layer.output.weight[0] = f32::NAN;
        let error = broken.forward(&batch, &x, None).unwrap_err().to_string();
        assert!(error.contains("an output of layer 1 is not finite"), "{error}");
    });
}

#[test]
fn sizes_are_those_of_the_weights() {
    for name in MODELS {
        let expected: usize = with(name, |model| {
            let model = Layered::open(model).expect("a model");
            model.sizes(0).iter().map(|sizes| sizes.inputs * sizes.outputs.iter().sum::<usize>()).sum()
        });
        let model = open(name).expect("a model");
        let found: usize = model.layers[0].linears().iter().map(|linear| linear.weight.len()).sum();
        assert_eq!(found, expected, "{name}");
    }
}

/// A copy whose weights are replaced group by group predicts as a model with these weights.
#[test]
fn a_replaced_copy_is_the_model_with_these_weights() {
    for name in MODELS {
        let dense = open(name).expect(name);
        let mut other = open(name).expect(name);
        let ids: Vec<u32> = (0..12).map(|i| (7 * i + 3) % dense.config.vocabulary as u32).collect();
        let sequences: [&[u32]; 2] = [&ids, &ids[4..]];
        let batches = [Batch { sequences: &sequences[..1], first: 0 }, Batch { sequences: &sequences[1..], first: 1 }];
        let embedding: Vec<f32> = other.embedding.1.iter().map(|w| 1.01 * w).collect();
        other.embedding.1.clone_from(&embedding);
        if other.config.tied {
            other.head.linear.weight.clone_from(&embedding);
        }
        let mut pair = SideBySide::new(&dense, &batches, Some(&embedding), None).expect(name);
        let mut groups = 0;
        while !pair.group().is_empty() {
            for place in pair.group() {
                let linear = other.layers.iter_mut().find_map(|layer| layer.linear(&place.tensor));
                let linear = linear.unwrap_or(&mut other.head.linear);
                let stored = |linear: &Dense| match linear.axis {
                    InputAxis::Columns => linear.weight.clone(),
                    InputAxis::Rows => {
                        let mut stored = vec![0.0; linear.weight.len()];
                        transpose((linear.outputs, linear.inputs), &linear.weight, &mut stored);
                        stored
                    }
                };
                linear.weight.iter_mut().for_each(|w| *w += 0.01 * w.abs().sqrt());
                pair.replace(&place.tensor, &stored(linear)).expect("a linear layer");
            }
            pair.advance().expect("finite");
            groups += 1;
        }
        let each = if dense.config.experts.is_some() { 3 } else { 4 };
        assert_eq!(groups, each * dense.layers.len() + usize::from(!dense.config.tied), "{name}");
        for (number, batch) in batches.iter().enumerate() {
            let [p, q] = [&dense, &other].map(|model| predictions(model, batch));
            let terms = p.iter().flatten().zip(q.iter().flatten());
            let expected: f64 = terms.map(|(p, q)| f64::from(*p) * (f64::from(*p) / f64::from(*q)).ln()).sum();
            let found = pair.divergence(number);
            assert!(expected > 1e-4 && (found / expected - 1.0).abs() < 0.01, "{name}: {found}, {expected} expected");
        }
        assert!(pair.replace("none", &[]).is_err());
    }
}
