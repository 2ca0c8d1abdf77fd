//! Whole models, layer by layer.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use calibrate::{Calibrated, Choice, Compressed, Fit, Sequential, Statistics, Subject};
use checkpoint::{Checkpoint, Model};
use codec_api::util::narrow;
use codec_api::{Certificate, Codec, CodecError, DecodeCx, EncodeCx, EncodedTensor, InputAxis, Registry};
use runtime::{Batch, Differentiable, SideBySide};
use safetensors::tensor::Dtype;

use super::statistics::{collected, model, protocol};

const DAMPING: f64 = 0.02;

pub struct Opened {
    pub source: Checkpoint,
    model: Differentiable,
    pub statistics: Statistics,
    registry: Registry,
}

pub fn opened() -> Opened {
    opened_at(&model())
}

fn opened_at(path: &Path) -> Opened {
    let registry = Registry::linked().expect("a registry");
    let dense = Model::open(path, &[], &registry).expect("a model");
    let model = Differentiable::open(&dense).expect("a model");
    let source = Checkpoint::open(path).expect("a model");
    Opened { source, model, statistics: collected(protocol(3000, false), 2).expect("statistics"), registry }
}

impl Opened {
    pub fn subject(&self) -> Subject<'_> {
        let Self { source, model, statistics, .. } = self;
        Subject { source, model, statistics, seed: 0 }
    }

    pub fn codec(&self, spec: &str) -> calibrate::Result<Arc<dyn Codec>> {
        self.registry.parse_spec(spec).map_err(|error| calibrate::Error::Codec(CodecError::codec(error)))
    }

    pub fn run(&self, threads: usize, choice: &Choice<'_>) -> Compressed {
        let calibrated = Calibrated::new(&self.statistics, DAMPING).expect("factors");
        let sequential = Sequential { subject: self.subject(), calibrated: &calibrated };
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
        pool.install(|| sequential.run(choice)).expect("a compression")
    }

    fn decoded(&self, compressed: &Compressed, name: &str, spec: &str) -> Vec<f32> {
        let (tensor, codec) = (self.source.spec(name).expect("a tensor"), self.codec(spec).expect("a codec"));
        let payload = compressed.payloads[name].clone();
        let encoded = EncodedTensor::from_parts(tensor.clone(), codec, payload, Certificate::EMPTY).expect("a payload");
        encoded.decode(&DecodeCx::default()).expect("weights")
    }
}

/// With coarse weights in attention and an exact codec behind it, the weights of the exact codec
/// solve the normal equations of the least squares that they are to solve.
#[test]
fn targets_solve_the_least_squares_problem() {
    let of = opened();
    let (coarse, down) = ("quant.int:bits=3:group=32", "model.layers.0.mlp.down_proj.weight");
    let choice = |name: &str, _: InputAxis| match name {
        _ if name == down => of.codec("lossless").map(Some),
        _ if name.contains("layers.0.self_attn") => of.codec(coarse).map(Some),
        _ => Ok(None),
    };
    let compressed = of.run(2, &choice);
    assert_eq!(compressed.payloads.len(), 5);

    let views: Vec<&[u32]> = of.statistics.sequences.iter().map(|ids| &**ids).collect();
    let batches = [Batch { sequences: &views, first: 0 }];
    let mut pair = SideBySide::new(&of.model, &batches, None, None).expect("a model");
    while pair.group()[0].tensor != down {
        for place in pair.group().iter().filter(|place| compressed.payloads.contains_key(&place.tensor)) {
            pair.replace(&place.tensor, &of.decoded(&compressed, &place.tensor, coarse)).expect("a linear layer");
        }
        pair.advance().expect("finite");
    }
    let weights = of.source.tensor(down).expect("a tensor").to_f32().expect("weights").into_owned();
    let corrected = of.decoded(&compressed, down, "lossless");
    let (outputs, inputs) = of.source.spec(down).expect("a tensor").matrix();
    let (mut sums, mut scale, mut diagonal, mut tokens) = (vec![0.0; inputs * outputs], 0.0, 0.0, 0.0);
    pair.inputs(0..1, |found| {
        let [r, other] = found.residuals.expect("residuals");
        let pairs = found.dense.chunks_exact(inputs).zip(found.replaced.chunks_exact(inputs));
        for ((x, y), (r, other)) in pairs.zip(r.chunks_exact(outputs).zip(other.chunks_exact(outputs))) {
            tokens += 1.0;
            diagonal += y.iter().map(|y| f64::from(y * y)).sum::<f64>() / inputs as f64;
            for output in 0..outputs {
                let dot = |w: &[f32], x: &[f32]| {
                    let row = &w[output * inputs..][..inputs];
                    row.iter().zip(x).map(|(w, x)| f64::from(*w) * f64::from(*x)).sum::<f64>()
                };
                let miss = dot(&corrected, y) + f64::from(other[output]) - dot(&weights, x) - f64::from(r[output]);
                let before = dot(&weights, y) + f64::from(other[output]) - dot(&weights, x) - f64::from(r[output]);
                scale += before * before * f64::from(y[0] * y[0]);
                sums[output * inputs..][..inputs].iter_mut().zip(y).for_each(|(sum, y)| *sum += miss * f64::from(*y));
            }
        }
    });
    let lambda = DAMPING * diagonal;
    assert!(tokens > 2000.0);
    for ((sum, w), corrected) in sums.iter().zip(&weights).zip(&corrected) {
        let left = sum + lambda * f64::from(corrected - w);
        assert!(left.abs() < 1e-3 * f64::sqrt(scale), "{left}, scale {}", f64::sqrt(scale));
    }
}

/// The divergence is smaller than with the same codec and neither feedback nor corrected targets,
/// and one thread and three give the same bytes.
#[test]
fn feedback_and_corrected_targets_lower_the_divergence() {
    let of = opened();
    let coarse = "quant.int:bits=4:group=64";
    let choice = |name: &str, _: InputAxis| Ok(Some(of.codec(coarse)?).filter(|_| name.contains("layers")));
    let (compressed, again) = (of.run(1, &choice), of.run(3, &choice));
    assert!(compressed.payloads == again.payloads && compressed.divergence == again.divergence);
    let views: Vec<&[u32]> = of.statistics.held_out.iter().map(|ids| &**ids).collect();
    let batches = [Batch { sequences: &views, first: 0 }];
    let mut pair = SideBySide::new(&of.model, &batches, None, None).expect("a model");
    while !pair.group().is_empty() {
        for place in pair.group() {
            let tensor = of.source.tensor(&place.tensor).expect("a tensor");
            let encoded = EncodedTensor::encode(of.codec(coarse).expect("a codec"), tensor, &EncodeCx::default());
            let plain = encoded.expect("weights").decode(&DecodeCx::default()).expect("weights");
            pair.replace(&place.tensor, &plain).expect("a linear layer");
        }
        pair.advance().expect("finite");
    }
    let plain = pair.divergence(0) / batches[0].tokens() as f64;
    let found = compressed.divergence.expect("held-out sequences");
    assert!(found < 0.6 * plain, "{found} with feedback, {plain} without");
}

/// Several dampings are tried, and the best is taken.
#[test]
fn damping_is_chosen_by_the_held_out_sequences() {
    let of = opened();
    let names: Vec<&str> = of.statistics.tensors.keys().map(|name| &**name).collect();
    let fit = Fit { subject: of.subject(), names: &names };
    let tried = std::sync::Mutex::new(BTreeMap::new());
    let choice = |_: &str, _: InputAxis| of.codec("quant.int:bits=4:group=64").map(Some);
    let each = |fitted: &calibrate::Fitted| {
        let found = fitted.compressed.divergence.expect("held-out sequences");
        tried.lock().expect("no panic").insert(fitted.damping.to_bits(), found);
    };
    let fitted = fit.fixed(4.5, None, &choice, &each).expect("a compression");
    let tried = tried.into_inner().expect("no panic");
    assert!((3..=5).contains(&tried.len()), "{tried:?}");
    let least = tried.values().copied().fold(f64::INFINITY, f64::min);
    assert_eq!(fitted.compressed.divergence, Some(least));
    let given = fit.fixed(4.5, Some(fitted.damping), &choice, &|_| ()).expect("a compression");
    assert_eq!(given.compressed.payloads, fitted.compressed.payloads);
}

/// Rows of 172 weights are not whole blocks of `quant.nf4`, whose blocks may run across rows.
#[test]
fn a_tensor_that_cannot_be_fed_column_by_column_is_encoded_by_importance() {
    let of = opened();
    let down = "model.layers.0.mlp.down_proj.weight";
    let choice = |name: &str, _: InputAxis| Ok(Some(of.codec("quant.nf4")?).filter(|_| name == down));
    let compressed = of.run(2, &choice);
    assert!(of.decoded(&compressed, down, "quant.nf4").iter().any(|w| *w != 0.0));
}

/// The payloads of a model in BF16 are those of BF16 tensors.
#[test]
fn payloads_belong_to_the_dtype_of_the_tensor() {
    let (place, f32) = (tempfile::tempdir().expect("a folder"), Checkpoint::open(model()).expect("a model"));
    for file in ["config.json", "tokenizer.json"] {
        fs::copy(model().join(file), place.path().join(file)).expect("a copy");
    }
    let narrowed: Vec<(&str, Vec<usize>, Vec<u8>)> = f32
        .names()
        .map(|name| {
            let tensor = f32.tensor(name).expect("a tensor");
            let mut bytes = vec![0; 2 * tensor.spec().elements()];
            narrow(codec_api::Dtype::BF16, &tensor.to_f32().expect("weights"), &mut bytes).expect("numbers");
            (name, tensor.spec().shape().to_vec(), bytes)
        })
        .collect();
    let views = narrowed.iter().map(|(name, shape, bytes)| {
        (*name, safetensors::tensor::TensorView::new(Dtype::BF16, shape.clone(), bytes).expect("a tensor"))
    });
    safetensors::serialize_to_file(views, None, &place.path().join("model.safetensors")).expect("a file");
    let of = opened_at(place.path());
    for spec in ["trellis.columns:states=8:step=0.002", "quant.int:bits=4:group=64", "quant.cast:to=bf16"] {
        let choice = |name: &str, _: InputAxis| Ok(Some(of.codec(spec)?).filter(|_| name.contains("layers.0")));
        let compressed = of.run(2, &choice);
        assert!(compressed.payloads.len() == 7 && compressed.divergence < Some(1.0), "{spec}: {compressed:?}");
        for name in compressed.payloads.keys() {
            let values = of.source.tensor(name).expect("a tensor").to_f32().expect("weights").into_owned();
            let decoded = of.decoded(&compressed, name, spec);
            let [error, power] = [true, false].map(|less| {
                let term = |(w, d): (&f32, &f32)| f64::from(if less { w - d } else { *w }).powi(2);
                values.iter().zip(&decoded).map(term).sum::<f64>()
            });
            assert!(error < 0.5 * power, "{spec}, {name}");
        }
    }
}
