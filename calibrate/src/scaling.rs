//! Scales of input channels that make rounding errors of important inputs smaller.

use std::collections::BTreeMap;
use std::sync::Arc;

use codec_api::util::{narrowed, round};
use codec_api::{Calibration, Codec, EncodeCx, InputAxis, TensorSpec, TensorView};
use rayon::prelude::*;
use runtime::Fold;

use crate::error::{Error, Result};
use crate::feedback::Fed;
use crate::proxy::proxy;
use crate::sequential::{Choice, Subject};
use crate::statistics::Curve;

/// Exponents that are tried, from 0 on, at equal distances below 1.
const TRIED: usize = 20;

/// The least mean square of an input, relative to the mean one.
const FAINT: f64 = 1e-6;

/// The tensors that scaling has changed, and what it is worth.
#[derive(Debug, Default)]
pub struct Scaled {
    /// By name, in the layout of the tensor.
    pub tensors: BTreeMap<String, Vec<f32>>,
    /// `E[x²]` of the inputs of the scaled linear layers, by the name of the matrix.
    pub mean_squares: BTreeMap<String, Vec<f32>>,
    /// For each group of linear layers with the same inputs: the exponent, and the error with the
    /// scales relative to that without.
    pub groups: Vec<(f64, f64)>,
}

/// Finds scales for the inputs of the model's linear layers, and folds them into the tensors that
/// the inputs come from: the scaled model computes the same function, but for rounding to dtypes.
///
/// An input with the mean square `a` has the scale `a^(α/2)`, relative to the geometric mean of the
/// largest and the smallest scale of its group. The exponent `α` is the one of 20 with the least
/// `tr(E A Eᵀ)`, summed over the linear layers with these inputs, where `E = W − Ŵ` is the error
/// that the codec leaves in the unscaled weights when it is told the mean squares. Matrices without
/// a codec stay as they are. Runs on rayon's current pool; the result is the same with any number of
/// threads.
///
/// # Source
/// Lin et al., AWQ, arXiv 2306.00978, section 3.2. There the scale follows from mean magnitudes.
///
/// # Errors
/// [`Error::Tensor`] with a tensor that cannot be read or that its codec refuses.
pub fn scaled(subject: Subject<'_>, codec: &Choice<'_>) -> Result<Scaled> {
    let mut all = Scaled::default();
    for fold in subject.model.folds() {
        let codecs =
            fold.readers.iter().map(|reader| codec(&reader.tensor, reader.axis)).collect::<Result<Vec<_>>>()?;
        let Some(codecs) = codecs.into_iter().collect::<Option<Vec<_>>>() else { continue };
        let matrices = fold.writers.iter().filter(|writer| subject.statistics.tensors.contains_key(&writer.tensor));
        let kept = matrices.map(|writer| Ok(codec(&writer.tensor, InputAxis::Columns)?.is_none()));
        if kept.collect::<Result<Vec<_>>>()?.contains(&true) {
            continue;
        }
        let group = Group::read(subject, &fold, codecs, &all)?;
        let losses = (0..TRIED).into_par_iter().map(|k| group.loss(&group.scales(exponent(k))));
        let losses = losses.collect::<Result<Vec<f64>>>()?;
        let best = (0..TRIED).fold(0, |best, k| if losses[k] < losses[best] { k } else { best });
        all.groups.push((exponent(best), losses[best] / losses[0].max(f64::MIN_POSITIVE)));
        if best > 0 {
            let scales = group.scales(exponent(best));
            group.apply(subject, scales, &mut all)?;
        }
    }
    Ok(all)
}

fn exponent(number: usize) -> f64 {
    number as f64 / TRIED as f64
}

/// Linear layers with the same inputs.
struct Group<'a> {
    fold: &'a Fold,
    readers: Vec<Reader>,
    /// `A`, row-major.
    curvature: &'a [f32],
    /// Mean square of the inputs of each channel.
    channels: Vec<f64>,
    seed: u64,
}

struct Reader {
    name: String,
    axis: InputAxis,
    spec: TensorSpec,
    weights: Vec<f32>,
    codec: Arc<dyn Codec>,
}

impl<'a> Group<'a> {
    fn read(subject: Subject<'a>, fold: &'a Fold, codecs: Vec<Arc<dyn Codec>>, changed: &Scaled) -> Result<Self> {
        let mut readers = Vec::new();
        for (reader, codec) in fold.readers.iter().zip(codecs) {
            let (spec, weights) = values(subject, &reader.tensor, changed)?;
            readers.push(Reader { name: reader.tensor.clone(), axis: reader.axis, spec, weights, codec });
        }
        let first = &fold.readers[0].tensor;
        let found = subject.statistics.tensors.get(first).map(|found| &found.inputs);
        let Some(Curve::Matrix { order, values }) = found.filter(|curve| curve.order() == fold.channels.len()) else {
            return Err(Error::Usage(format!("no curvature of the inputs of `{first}`")));
        };
        let (mut sums, mut counts) = (vec![0.0; fold.width()], vec![0.0; fold.width()]);
        for (input, channel) in fold.channels.iter().enumerate() {
            sums[*channel] += f64::from(values[input * order + input]);
            counts[*channel] += 1.0;
        }
        let channels = sums.iter().zip(counts).map(|(sum, count)| sum / f64::max(count, 1.0)).collect();
        Ok(Self { fold, readers, curvature: values, channels, seed: subject.seed })
    }

    /// The scales of the channels.
    fn scales(&self, exponent: f64) -> Vec<f32> {
        let least = FAINT * self.channels.iter().sum::<f64>() / self.channels.len().max(1) as f64;
        let scale = |mean: &f64| libm::pow(mean.max(least).max(1e-30), 0.5 * exponent);
        let scales: Vec<f64> = self.channels.iter().map(scale).collect();
        let (low, high) =
            scales.iter().fold((f64::INFINITY, 0.0), |(low, high): (f64, f64), s| (low.min(*s), high.max(*s)));
        let middle = f64::sqrt(low * high);
        scales.iter().map(|scale| (scale / middle) as f32).collect()
    }

    /// The mean squares of the inputs with these scales.
    fn mean_squares(&self, scales: &[f32]) -> Vec<f32> {
        let (inputs, order) = (self.fold.channels.iter().enumerate(), self.fold.channels.len());
        let square = |(input, channel): (usize, &usize)| {
            self.curvature[input * order + input] / (scales[*channel] * scales[*channel])
        };
        inputs.map(square).collect()
    }

    /// What the codecs' errors cost with these scales.
    fn loss(&self, scales: &[f32]) -> Result<f64> {
        let squares = self.mean_squares(scales);
        let losses = self.readers.iter().map(|reader| {
            let (rows, columns) = reader.spec.matrix();
            let mut scaled = reader.weights.clone();
            self.fold.multiply(reader.axis, columns, &mut scaled, scales);
            let calibration = Calibration::new(reader.axis, &squares);
            let mut decoded =
                round_trip(reader, &scaled, calibration, self.seed).map_err(|error| error.of(&reader.name))?;
            let inverse: Vec<f32> = scales.iter().map(|scale| 1.0 / scale).collect();
            self.fold.multiply(reader.axis, columns, &mut decoded, &inverse);
            let error: Vec<f32> = reader.weights.iter().zip(&decoded).map(|(w, decoded)| w - decoded).collect();
            Ok(match reader.axis {
                InputAxis::Rows => proxy(&error, (rows, columns), Some(self.curvature), None),
                InputAxis::Columns => proxy(&error, (rows, columns), None, Some(self.curvature)),
            })
        });
        losses.sum()
    }

    /// Scales the tensors.
    fn apply(self, subject: Subject<'_>, mut scales: Vec<f32>, all: &mut Scaled) -> Result<()> {
        for writer in &self.fold.writers {
            let (spec, mut values) = values(subject, &writer.tensor, all)?;
            let before = values.clone();
            writer.divide(spec.shape(), &mut values, &scales);
            if spec.shape().len() == 1 && writer.tensor == self.fold.writers[0].tensor {
                // The weights make up for the rounding of a norm.
                round(spec.dtype(), &mut values)?;
                for ((scale, before), after) in scales.iter_mut().zip(&before).zip(&values) {
                    let exact = before / after;
                    *scale = if exact.is_finite() && exact > 0.0 { exact } else { *scale };
                }
            }
            all.tensors.insert(writer.tensor.clone(), values);
        }
        let squares = self.mean_squares(&scales);
        for Reader { name, axis, spec, mut weights, .. } in self.readers {
            self.fold.multiply(axis, spec.matrix().1, &mut weights, &scales);
            all.mean_squares.insert(name.clone(), squares.clone());
            all.tensors.insert(name, weights);
        }
        Ok(())
    }
}

/// A tensor as it is now.
fn values(subject: Subject<'_>, name: &str, changed: &Scaled) -> Result<(TensorSpec, Vec<f32>)> {
    let tensor = subject.source.tensor(name)?;
    let values = match changed.tensors.get(name) {
        Some(values) => values.clone(),
        None => tensor.to_finite_f32().map_err(|error| Error::from(error).of(name))?.into_owned(),
    };
    Ok((tensor.spec().clone(), values))
}

/// What the codec makes of the scaled weights.
fn round_trip(reader: &Reader, scaled: &[f32], calibration: Calibration<'_>, seed: u64) -> Result<Vec<f32>> {
    let Reader { name, spec, codec, .. } = reader;
    let bytes = narrowed(spec.dtype(), scaled)?;
    let mut cx = EncodeCx::for_tensor(seed, name);
    cx.calibration = Some(calibration);
    Ok(Fed::plain(codec, &TensorView::new(spec.clone(), &bytes)?, &cx)?.decoded)
}
