//! Law 3, cost: size, scratch memory, work and error agree with the codec's estimate.

use std::ops::RangeInclusive;

use codec_api::{Certificate, CostEstimate, Dtype, TensorSpec};

use super::encodes::{Encode, Encoded};
use super::trial::Trial;
use super::{Law, Subject, Violation};

/// Heap bytes that the estimate may leave out: maps and names of sections, boxed children.
const SMALL: u64 = 16 << 10;

/// The estimate of the scratch memory of a large tensor may be too high by this factor.
const LOOSE_SCRATCH: u64 = 4;

/// Scratch memory that does not depend on the tensor's size; the estimate may exceed the real value
/// by this much.
const FIXED_SCRATCH: u64 = 16 << 20;

/// The expected error on bell-shaped weights may differ from the real error by this factor.
const LOOSE_ERROR: f64 = 1.25;

/// Allowed growth of the operations when the number of rows grows by 4: from half the growth of
/// linear work to twice the growth of work that is cubic in the smaller dimension.
const GROWTH: RangeInclusive<f64> = 2.0..=32.0;

/// Shape of the tensor whose estimate is compared with the measured scratch memory.
const LARGE: [usize; 2] = [256, 512];

/// The real payload bytes lie in `cost().bytes`. If that is a range, its upper end is at most 1.25
/// times the dense size plus 4 KiB, since a variable-rate codec has a raw fallback. Encode and
/// decode hold no more scratch memory than stated; on a matrix of 128 Ki weights the stated memory
/// is at most 4 times the real one plus 16 MiB. The expected error holds for bell-shaped weights
/// within a factor of 1.25, and the operations grow with the tensor.
///
/// # Errors
/// The first violation found.
pub fn cost(subject: &Subject) -> Result<(), Violation> {
    Law::Cost.check(subject)
}

/// Checks of this law that need encodes of their own, in addition to the shared ones.
pub(super) fn alone(subject: &Subject) -> Result<(), Violation> {
    let Ok(sample) = subject.taken(Dtype::F32, &LARGE) else { return Ok(()) };
    let Some(offer) = subject.offers().pop() else { return Ok(()) };
    let trial = Trial { subject, law: Law::Cost, sample: &sample, offer };
    // The first encode builds the tables that a process builds once.
    if Encode::new(&trial)?.answer.is_err() {
        return Ok(());
    }
    let encode = Encode::new(&trial)?;
    let Some(encoded) = encode.encoded(&trial)? else { return Ok(()) };
    let estimate = trial.calmly("cost", || subject.codec.cost(sample.spec()))?;
    size(&trial, encoded.tensor.payload.bytes(), &estimate)?;
    scratch(&trial, encoded, &estimate)?;
    if let Some(held) = encoded.scratch
        && estimate.scratch_bytes > LOOSE_SCRATCH * held + FIXED_SCRATCH
    {
        let found = format!("`cost` says {} bytes of scratch memory, and {held} were held", estimate.scratch_bytes);
        return Err(trial.violation(found, format!("at most {LOOSE_SCRATCH} times what is held")));
    }
    expected_error(&trial, encoded, &estimate)?;
    growing_work(&trial, &estimate)
}

pub(super) fn judge(trial: &Trial<'_>, encode: &Encode) -> Result<(), Violation> {
    let Some(encoded) = encode.encoded(trial)? else { return Ok(()) };
    let estimate = trial.calmly("cost", || trial.subject.codec.cost(trial.sample.spec()))?;
    size(trial, encoded.tensor.payload.bytes(), &estimate)?;
    scratch(trial, encoded, &estimate)?;
    let numbers = [Some(estimate.encode_ops), Some(estimate.decode_ops), estimate.expected_rel_rmse];
    if numbers.into_iter().flatten().any(|x| !x.is_finite() || x < 0.0) {
        return Err(trial.violation(format!("{estimate:?}"), "finite operations and error, not below zero"));
    }
    Ok(())
}

fn size(trial: &Trial<'_>, bytes: u64, estimate: &CostEstimate) -> Result<(), Violation> {
    let (least, most) = (*estimate.bytes.start(), *estimate.bytes.end());
    if !estimate.bytes.contains(&bytes) {
        return Err(trial.violation(format!("{bytes} bytes"), format!("{least} to {most}, as `cost` says")));
    }
    let dense = trial.sample.spec().byte_len() as u64;
    let limit = dense + dense / 4 + 4096;
    if least != most && most > limit {
        let found = format!("`cost` allows for {most} bytes");
        return Err(trial.violation(found, format!("at most {limit}: 1.25 times the dense size and 4 KiB")));
    }
    Ok(())
}

fn scratch(trial: &Trial<'_>, encoded: &Encoded, estimate: &CostEstimate) -> Result<(), Violation> {
    let Some(mut held) = encoded.scratch else { return Ok(()) };
    let most = estimate.scratch_bytes.saturating_add(SMALL);
    if held > most
        && let Ok(again) = Encode::new(trial)?.answer
    {
        // The first encode of a process may have built tables that stay in memory.
        held = again.scratch.unwrap_or(held);
    }
    if held <= most {
        return Ok(());
    }
    let wanted = format!("at most {most}: what `cost` says and {SMALL} more");
    Err(trial.violation(format!("{held} bytes of scratch memory are held"), wanted))
}

fn expected_error(trial: &Trial<'_>, encoded: &Encoded, estimate: &CostEstimate) -> Result<(), Violation> {
    let Some(expected) = estimate.expected_rel_rmse else { return Ok(()) };
    let error = Certificate::measure(&trial.source()?, encoded.values()?).rel_frobenius();
    if error <= expected * LOOSE_ERROR && expected <= error * LOOSE_ERROR {
        return Ok(());
    }
    let found = format!("`cost` expects a relative error of {expected:e}, and it is {error:e}");
    Err(trial.violation(found, format!("the same within a factor of {LOOSE_ERROR}")))
}

/// The estimated operations must grow with the tensor; otherwise estimates cannot be compared.
fn growing_work(trial: &Trial<'_>, estimate: &CostEstimate) -> Result<(), Violation> {
    let spec = trial.sample.spec();
    let shape = [4 * spec.matrix().0, spec.matrix().1];
    let Ok(larger) = TensorSpec::new(spec.dtype(), shape) else { return Ok(()) };
    let larger = trial.calmly("cost", || trial.subject.codec.cost(&larger))?;
    for (what, small, large) in
        [("encode", estimate.encode_ops, larger.encode_ops), ("decode", estimate.decode_ops, larger.decode_ops)]
    {
        if !(GROWTH.start() * small..=GROWTH.end() * small).contains(&large) {
            let found = format!("`cost` says {small} operations to {what} it, and {large} for four times the rows");
            return Err(trial.violation(found, format!("{} to {} times as many", GROWTH.start(), GROWTH.end())));
        }
    }
    Ok(())
}
