//! All tensors of a model, ready for an encode.

use std::collections::BTreeMap;
use std::sync::Arc;

use codec_api::{Calibration, Codec, EncodeCx, InputAxis, TensorView};
use rayon::prelude::*;

use crate::error::{Error, Result};
use crate::factor::Factor;
use crate::feedback::{Curvature, Fed, feedback};
use crate::statistics::{Curve, Statistics};

/// The damping for a rate in bits per weight: a tenth of the mean curvature at 2 bits, and in
/// proportion to the squared step at others. Feedback then leaves as much error as it would make by
/// following small curvatures, which are the least certain ones.
pub fn damping(bits: f64) -> f64 {
    (0.1 * libm::exp2(-2.0 * (bits - 2.0))).clamp(1e-3, 0.3)
}

/// The factors of all curvatures.
#[derive(Debug)]
pub struct Calibrated {
    damping: f64,
    tensors: BTreeMap<String, Ready>,
}

#[derive(Debug)]
struct Ready {
    axis: InputAxis,
    inputs: Factor,
    /// `None` without a pass backward.
    outputs: Option<Factor>,
}

impl Calibrated {
    /// Factorises all curvatures with this damping, on rayon's current pool.
    ///
    /// # Errors
    /// [`Error::Tensor`] with the first tensor whose curvature cannot be factorised.
    pub fn new(statistics: &Statistics, damping: f64) -> Result<Self> {
        let factor = |curve: &Curve| match curve {
            Curve::Matrix { order, values } => Factor::new(values, *order, damping),
            Curve::Diagonal(values) => Factor::diagonal(values),
        };
        let ready = statistics.tensors.par_iter().map(|(name, found)| {
            let failed = |error: Error| error.of(name);
            let inputs = factor(&found.inputs).map_err(failed)?;
            let outputs = found.outputs.as_ref().map(factor).transpose().map_err(failed)?;
            Ok((name.clone(), Ready { axis: found.axis, inputs, outputs }))
        });
        Ok(Self { damping, tensors: ready.collect::<Result<_>>()? })
    }

    /// The tensors, and the axes of their inputs.
    pub fn tensors(&self) -> impl Iterator<Item = (&str, InputAxis)> {
        self.tensors.iter().map(|(name, ready)| (name.as_str(), ready.axis))
    }

    /// The axis of a tensor's inputs.
    pub fn axis(&self, name: &str) -> Option<InputAxis> {
        self.tensors.get(name).map(|ready| ready.axis)
    }

    /// Half the mean logarithm of the pivots of inputs and outputs, to base 2.
    pub(crate) fn log_scale(&self, name: &str) -> f64 {
        let mean = |factor: &Factor| {
            let logs = factor.pivots().iter().map(|pivot| 0.5 * libm::log2(*pivot));
            logs.sum::<f64>() / factor.order().max(1) as f64
        };
        let Some(Ready { inputs, outputs, .. }) = self.tensors.get(name) else { return 0.0 };
        mean(inputs) + outputs.as_ref().map_or(0.0, mean)
    }

    /// The damping.
    pub fn damping(&self) -> f64 {
        self.damping
    }

    /// Encodes a tensor with [`feedback`]. A codec that does not encode the tensor column by column
    /// is told the importance of inputs and outputs instead.
    ///
    /// # Errors
    /// [`Error::Usage`] if there are no statistics of it; those of [`feedback`] and of the codec.
    pub fn encode(
        &self,
        name: &str,
        codec: &Arc<dyn Codec>,
        tensor: &TensorView<'_>,
        cx: &EncodeCx<'_>,
    ) -> Result<Fed> {
        let ready = self.tensors.get(name).ok_or_else(|| Error::Usage(format!("no statistics of `{name}`")))?;
        let Ready { axis, inputs, outputs } = ready;
        let (rows, columns) = tensor.spec().matrix();
        let unknown = Factor::identity(if *axis == InputAxis::Columns { rows } else { columns });
        let outputs = outputs.as_ref().unwrap_or(&unknown);
        if codec.as_panels().is_some_and(|panels| panels.cut(tensor.spec()).is_ok()) {
            return feedback(&**codec, tensor, Curvature { axis: *axis, inputs, outputs }, cx);
        }
        let importance = [inputs, outputs].map(Factor::diagonal_entries);
        let mut cx = cx.clone();
        cx.calibration = Some(Calibration::new(*axis, &importance[0]).with_outputs(&importance[1]));
        Fed::plain(codec, tensor, &cx)
    }
}
