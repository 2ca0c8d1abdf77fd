//! Law 3, cost: the size that a codec foretells is the size it has.

use super::trial::{Trial, everywhere};
use super::{Law, Subject, Violation};

/// The real payload bytes lie in `cost().bytes`. If that is a range, its upper end is at most 1.25 times the dense
/// size and 4 KiB more: a variable-rate codec has a raw fallback.
///
/// # Errors
/// The first violation found.
pub fn cost(subject: &Subject) -> Result<(), Violation> {
    everywhere(subject, Law::Cost, |trial| match trial.encode()? {
        Some(encoded) => check(trial, encoded.payload.bytes()),
        None => Ok(()),
    })
}

fn check(trial: &Trial<'_>, bytes: u64) -> Result<(), Violation> {
    let spec = trial.sample.spec();
    let estimate = trial.calmly("cost", || trial.subject.codec.cost(spec))?;
    let (least, most) = (*estimate.bytes.start(), *estimate.bytes.end());
    if !estimate.bytes.contains(&bytes) {
        return Err(trial.violation(format!("{bytes} bytes"), format!("{least} to {most}, as `cost` says")));
    }
    let dense = spec.byte_len() as u64;
    let limit = dense + dense / 4 + 4096;
    if least != most && most > limit {
        let found = format!("`cost` allows for {most} bytes");
        return Err(trial.violation(found, format!("at most {limit}: 1.25 times the dense size and 4 KiB")));
    }
    let numbers = [Some(estimate.encode_ops), Some(estimate.decode_ops), estimate.expected_rel_rmse];
    if numbers.into_iter().flatten().any(|x| !x.is_finite() || x < 0.0) {
        return Err(trial.violation(format!("{estimate:?}"), "finite operations and error, not below zero"));
    }
    Ok(())
}
