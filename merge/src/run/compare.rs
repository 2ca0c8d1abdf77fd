//! A plan against a model that exists: whether it would give the same bits.

use std::path::Path;

use checkpoint::Model;
use codec_api::util::narrow;
use codec_api::{Cancel, Progress, Registry};

use crate::blocks::BLOCK;
use crate::error::Result;
use crate::plan::{Input, Operation, Plan};

/// A tensor that differs.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Differing {
    /// The tensor.
    pub name: String,
    /// In what.
    pub how: String,
}

/// The tensors of the model that are not what the plan makes, rounded to the dtype that the model
/// has. Names are in the order of the plan; those that only the model has at the end.
///
/// # Errors
/// Those of the inputs and the model; cancellation.
pub fn differing(
    plan: &Plan,
    model: &Path,
    memory: u64,
    (cancel, progress): (&Cancel, &dyn Progress),
    registry: &Registry,
) -> Result<Vec<Differing>> {
    let model = Model::open(model, &[], registry)?;
    let mut all = Vec::new();
    for tensor in plan.tensors() {
        let name = &tensor.name;
        let mut add = |how: String| all.push(Differing { name: name.clone(), how });
        let Ok(spec) = model.spec(name) else {
            add("the model does not have it".to_owned());
            continue;
        };
        if spec.shape() != tensor.spec.shape() {
            add(format!("its shape is {:?}, and {:?} is expected", spec.shape(), tensor.spec.shape()));
        } else if let Operation::Copy(input) = &tensor.operation {
            if plan.models[input.model].bytes(&input.tensor)? != model.bytes(name)? {
                add("its bytes are others".to_owned());
            }
        } else if let Some(count) = unequal(plan, name, &tensor.operation, &model, memory, cancel)? {
            add(format!("{count} of {} values are others", spec.elements()));
        }
        progress.tick(tensor.spec.elements() as u64);
    }
    for name in model.names() {
        if plan.tensors().iter().all(|tensor| tensor.name != name) {
            all.push(Differing { name: name.to_owned(), how: "only the model has it".to_owned() });
        }
    }
    Ok(all)
}

/// The number of values that differ, unless it is 0.
fn unequal(
    plan: &Plan,
    name: &str,
    operation: &Operation,
    model: &Model,
    memory: u64,
    cancel: &Cancel,
) -> Result<Option<usize>> {
    let Operation::Merge { method, models, base } = operation else { return Ok(None) };
    let inputs: Vec<&Input> = models.iter().chain(base).collect();
    let mut opened = plan.sources(name, &inputs, memory / (2 * (inputs.len() + 1) as u64))?;
    let base = if base.is_some() { opened.pop() } else { None };
    let sources: Vec<&dyn crate::Source> = opened.iter().map(|source| &**source).collect();
    let inputs = crate::Inputs { models: &sources, base: base.as_deref(), cancel };
    let prepared = method.prepare(&inputs)?;
    let (spec, own) = (model.spec(name)?, model.bytes(name)?);
    let (dtype, width) = (spec.dtype(), spec.dtype().bitsize() / 8);
    if !spec.is_float() {
        return Ok(Some(spec.elements()));
    }
    let mut count = 0;
    let mut values = vec![0.0f32; BLOCK.min(spec.elements())];
    let mut rounded = vec![0u8; values.len() * width];
    for start in (0..spec.elements()).step_by(BLOCK) {
        cancel.check()?;
        let end = spec.elements().min(start + BLOCK);
        let (values, rounded) = (&mut values[..end - start], &mut rounded[..(end - start) * width]);
        prepared.apply(&inputs, start, values)?;
        narrow(dtype, values, rounded)?;
        let own = &own[start * width..end * width];
        count += rounded.chunks_exact(width).zip(own.chunks_exact(width)).filter(|(a, b)| a != b).count();
    }
    Ok(Some(count).filter(|count| *count > 0))
}
