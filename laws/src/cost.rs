//! Law 3, cost: size, scratch memory, work and error are what the codec's estimate says.

use std::ops::RangeInclusive;

use codec_api::{CostEstimate, Dtype, TensorSpec, rel_frobenius_error};

use super::encodes::{Encode, Encoded};
use super::trial::Trial;
use super::{Law, Subject, Violation};

/// Heap bytes that the estimate need not know: maps and names of sections, boxed children.
const SMALL: u64 = 16 << 10;

/// The scratch memory of a large tensor may be stated this many times too high.
const LOOSE_SCRATCH: u64 = 4;

/// What a codec may hold whatever the tensor's size, and state for one that does not need it.
const FIXED_SCRATCH: u64 = 16 << 20;

/// The expected error on bell-shaped weights may be wrong by this factor.
const LOOSE_ERROR: f64 = 1.25;

/// Operations for four times the rows, relative to those for one time: from half of what linear
/// work needs to twice of what cubic work on the smaller side needs.
const GROWTH: RangeInclusive<f64> = 2.0..=32.0;

/// Shape of the tensor whose estimate is compared with what it took.
const LARGE: [usize; 2] = [256, 512];

/// The real payload bytes lie in `cost().bytes`. If that is a range, its upper end is at most 1.25
/// times the dense size and 4 KiB more: a variable-rate codec has a raw fallback. Encode and decode
/// hold no more scratch memory than stated, and on a matrix of 128 Ki weights a quarter of it at
/// least. The expected error holds for bell-shaped weights within a factor of 1.25, and operations
/// grow with the tensor.
///
/// # Errors
/// The first violation found.
pub fn cost(subject: &Subject) -> Result<(), Violation> {
    Law::Cost.check(subject)
}

/// What the law checks beside the encodes that it shares.
pub(super) fn alone(subject: &Subject) -> Result<(), Violation> {
    let Ok(sample) = subject.taken(Dtype::F32, &LARGE) else { return Ok(()) };
    let Some(offer) = subject.offers().pop() else { return Ok(()) };
    let trial = Trial { subject, law: Law::Cost, sample: &sample, offer };
    // A first encode makes the tables that a process has once.
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
        // The first encode of a process may have made tables that stay.
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
    let error = rel_frobenius_error(&trial.source()?, encoded.values()?);
    if error <= expected * LOOSE_ERROR && expected <= error * LOOSE_ERROR {
        return Ok(());
    }
    let found = format!("`cost` expects a relative error of {expected:e}, and it is {error:e}");
    Err(trial.violation(found, format!("the same within a factor of {LOOSE_ERROR}")))
}

/// An estimate that does not follow the size of the tensor cannot be compared with another one.
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
