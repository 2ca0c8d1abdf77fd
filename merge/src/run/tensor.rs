//! One tensor of the output.

use codec_api::TensorSpec;
use codec_api::util::{first_non_finite, narrow};
use rayon::prelude::*;

use super::{Pieces, RunOptions};
use crate::blocks::{BLOCK, Inputs, Scratch};
use crate::error::{Error, Result};
use crate::method::{Method, Prepared};
use crate::plan::{Input, Operation, OutputTensor, Plan};
use crate::source::Source;

/// Elements that are computed at once: long rows, so that methods by rows seldom cut them.
const STEP: usize = 1 << 15;

/// Computes a tensor and sends its bytes.
///
/// # Errors
/// Those of the inputs and the writer; cancellation.
pub(super) fn compute(plan: &Plan, tensor: &OutputTensor, options: &RunOptions<'_>, pieces: &Pieces) -> Result<()> {
    let named = |error: Error| match error {
        Error::Method(reason) => Error::tensor("output", &tensor.name, reason),
        other => other,
    };
    match &tensor.operation {
        Operation::Copy(input) => copy(plan, input, options, pieces),
        Operation::Merge { method, models, base } => {
            merge(plan, tensor, (method, models, base.as_ref()), options, pieces).map_err(named)
        }
    }
}

fn copy(plan: &Plan, input: &Input, options: &RunOptions<'_>, pieces: &Pieces) -> Result<()> {
    let bytes = plan.models[input.model].bytes(&input.tensor)?;
    for part in bytes.chunks(BLOCK) {
        options.cancel.check()?;
        let mut buffer = pieces.buffer(part.len());
        buffer.copy_from_slice(part);
        pieces.send(buffer)?;
    }
    options.progress.tick(plan.models[input.model].spec(&input.tensor)?.elements() as u64);
    Ok(())
}

fn merge(
    plan: &Plan,
    tensor: &OutputTensor,
    (method, models, base): (&Method, &[Input], Option<&Input>),
    options: &RunOptions<'_>,
    pieces: &Pieces,
) -> Result<()> {
    let memory = options.memory / (2 * (models.len() + 2) as u64);
    let inputs: Vec<&Input> = models.iter().chain(base).collect();
    let mut opened = plan.sources(&tensor.name, &inputs, memory)?;
    let base = if base.is_some() { opened.pop() } else { None };
    let sources: Vec<&dyn Source> = opened.iter().map(|source| &**source).collect();
    let inputs = Inputs { models: &sources, base: base.as_deref(), cancel: options.cancel };
    let prepared = method.prepare(&inputs)?;
    let window = window(options.memory);
    let (elements, width) = (tensor.spec.elements(), tensor.spec.dtype().bitsize() / 8);
    for start in (0..elements).step_by(window) {
        let end = elements.min(start + window);
        let mut bytes = pieces.buffer((end - start) * width);
        bytes.par_chunks_mut(BLOCK * width).enumerate().try_for_each_init(
            || (Scratch::default(), vec![0.0f32; STEP]),
            |(scratch, values), (i, bytes)| {
                options.cancel.check()?;
                let first = start + i * BLOCK;
                block(&prepared, &inputs, tensor, first, bytes, (scratch, values))
            },
        )?;
        pieces.send(bytes)?;
        options.progress.tick((end - start) as u64);
    }
    Ok(())
}

/// Elements that are computed before they are written: two such pieces are in memory, each of at
/// most 4 bytes an element.
fn window(memory: u64) -> usize {
    ((memory / 64 / BLOCK as u64) as usize).clamp(2, 32) * BLOCK
}

/// Computes and rounds a block.
fn block(
    prepared: &Prepared,
    inputs: &Inputs<'_>,
    tensor: &OutputTensor,
    first: usize,
    bytes: &mut [u8],
    (scratch, values): (&mut Scratch, &mut [f32]),
) -> Result<()> {
    let spec: &TensorSpec = &tensor.spec;
    let width = spec.dtype().bitsize() / 8;
    let count = bytes.len() / width;
    for (i, bytes) in bytes.chunks_mut(STEP * width).enumerate() {
        let (start, values) = (first + i * STEP, &mut values[..bytes.len() / width]);
        prepared.apply_in(inputs, start, values, scratch)?;
        if let Some(at) = first_non_finite(values) {
            let reason = format!(
                "element {} becomes a NaN or an infinity: an input has one there, or the parameters divide by zero",
                start + at
            );
            return Err(Error::tensor("output", &tensor.name, reason));
        }
        narrow(spec.dtype(), values, bytes)?;
    }
    inputs.release(&(first..first + count));
    Ok(())
}
