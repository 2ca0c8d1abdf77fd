//! Encoding with the errors of earlier columns and rows fed forward.

mod pass;
mod tile;
mod work;

use std::sync::Arc;

use codec_api::{Calibration, Certificate, Codec, CodecError, EncodeCx, EncodedTensor, InputAxis, Payload, TensorView};

use crate::blocks::Blocks;
use crate::error::{Error, Result};
use crate::factor::Factor;
use pass::Pass;
use work::Work;

/// The curvature of a linear layer.
#[derive(Clone, Copy, Debug)]
pub struct Curvature<'a> {
    /// The axis of the matrix view that the inputs run along.
    pub axis: InputAxis,
    /// That of the inputs.
    pub inputs: &'a Factor,
    /// That of the outputs; [`Factor::identity`] if it is not known.
    pub outputs: &'a Factor,
}

/// A matrix encoded with feedback.
#[derive(Debug)]
pub struct Fed {
    /// The payload of the codec.
    pub payload: Payload,
    /// What it decodes to, row-major.
    pub decoded: Vec<f32>,
}

impl Fed {
    /// Encodes a tensor without feedback.
    ///
    /// # Errors
    /// Those of the codec.
    pub(crate) fn plain(codec: &Arc<dyn Codec>, tensor: &TensorView<'_>, cx: &EncodeCx<'_>) -> Result<Self> {
        let payload = EncodedTensor::encode_payload(&**codec, tensor.clone(), cx)?;
        let (spec, codec) = (tensor.spec().clone(), Arc::clone(codec));
        let encoded = EncodedTensor::from_parts(spec, codec, payload, Certificate::EMPTY)?;
        let decoded = encoded.decode(&cx.decoding())?;
        Ok(Self { payload: encoded.payload, decoded })
    }
}

/// Encodes a matrix block by block, each after what the errors of earlier columns and rows say about
/// it.
///
/// With the columns' factor `M·D·Mᵀ` and the rows' factor `N·Dg·Nᵀ`, the target of weight `(i, j)`
/// is `T + Σₖ N[k, i]·zₖ` over the earlier rows `k`, where `T = W[i, j] + Σₗ M[l, j]·E[i, l]` over
/// the earlier columns `l`, `E = W − Ŵ`, and `zₖ` is the `T` of row `k` less its decoded value.
/// The codec is told `d[j]` and `dg[i]` as the importance of columns and rows: they are the cost of
/// an error that later weights make up for. A codec that encodes several columns or rows together
/// gets the block form of the factors.
///
/// The matrix is halved again and again, and the errors of one half act on the other one by a matrix
/// product; only within tiles of about 32 × 32 weights are they added one by one. The products run
/// on rayon's current pool; the result does not depend on the number of threads. Besides `tensor`
/// and the curvature, three matrices of its size are in memory.
///
/// # Sources
/// LDLQ: Chee et al., arXiv 2307.13304; both curvatures: Tseng et al., arXiv 2505.22988.
///
/// # Errors
/// [`Error::Usage`] if the curvature has another shape than the matrix; those of the codec.
pub fn feedback(codec: &dyn Codec, tensor: &TensorView<'_>, of: Curvature<'_>, cx: &EncodeCx<'_>) -> Result<Fed> {
    let spec = tensor.spec();
    codec.accepts(spec)?;
    let facet = codec.as_panels().ok_or_else(|| {
        CodecError::Unsupported(format!("`{}` does not encode column by column", codec.typetag_name()))
    })?;
    let (rows, columns) = spec.matrix();
    let shape = if of.axis == InputAxis::Columns { (columns, rows) } else { (rows, columns) };
    let given = (of.inputs.order(), of.outputs.order());
    if given != shape {
        return Err(Error::Usage(format!("curvature of {given:?} inputs and outputs for a layer of {shape:?}")));
    }
    let cut = facet.cut(spec)?;
    // From here on, columns and rows are those of the codec: perhaps of the transposed matrix.
    let inputs_first = (of.axis == InputAxis::Columns) != cut.transposed;
    let (of_columns, of_rows) = if inputs_first { (of.inputs, of.outputs) } else { (of.outputs, of.inputs) };
    let of_columns = Blocks::new(of_columns, cut.columns.get());
    let of_rows = Blocks::new(of_rows, cut.rows.get()).turned();
    let values = tensor.to_finite_f32()?;
    let work = Work::new(&values, (rows, columns), cut.transposed);
    drop(values);
    let (inputs, outputs) = if inputs_first { (&of_columns, &of_rows) } else { (&of_rows, &of_columns) };
    let mut cx = cx.clone();
    cx.calibration = importance(of.axis, inputs, outputs);
    let encoder = facet.begin(tensor.clone(), &cx)?;
    Pass::new(encoder, cut, &of_columns, &of_rows, work, cx.cancel).run()
}

/// What the codec is told; nothing if all inputs and all outputs are equally important.
fn importance<'a>(axis: InputAxis, inputs: &'a Blocks, outputs: &'a Blocks) -> Option<Calibration<'a>> {
    let equal = |costs: &[f32]| costs.iter().all(|cost| *cost == costs[0]);
    let calibration = Calibration::new(axis, &inputs.costs);
    match (equal(&inputs.costs), equal(&outputs.costs)) {
        (true, true) if inputs.costs.first() == Some(&1.0) && outputs.costs.first() == Some(&1.0) => None,
        _ => Some(calibration.with_outputs(&outputs.costs)),
    }
}
