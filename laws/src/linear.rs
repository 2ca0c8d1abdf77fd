//! Law 8, linear: the operator agrees with the decoded matrix within its stated tolerance.

use codec_api::{Dtype, LinearOp};

use super::sample::unit;
use super::trial::Trial;
use super::{Law, Subject, Violation};

/// Largest tolerance that a codec may state; the check would mean little above it.
const LARGEST_TOLERANCE: f32 = 0.1;

/// `as_linear`'s operator agrees with decode-then-multiply within its tolerance, for one vector and
/// for three. It keeps less memory than the dense matrix, or no more than its payload. It refuses
/// vectors of the wrong length.
///
/// # Errors
/// The first violation found.
pub fn linear(subject: &Subject) -> Result<(), Violation> {
    if subject.codec.as_linear().is_none() {
        return Ok(());
    }
    let shapes: [(Dtype, &[usize]); 6] = [
        (Dtype::F32, &[64, 96]),
        (Dtype::F32, &[5, 333]),
        (Dtype::BF16, &[65, 64]),
        (Dtype::F16, &[1, 130]),
        (Dtype::F32, &[77]),
        (Dtype::F32, &[3, 4, 32]),
    ];
    for (dtype, shape) in shapes {
        let Ok(sample) = subject.taken(dtype, shape) else { continue };
        check(&Trial { subject, law: Law::Linear, sample: &sample, offer: subject.codec.needs() })?;
    }
    Ok(())
}

fn check(trial: &Trial<'_>) -> Result<(), Violation> {
    let (Some(encoded), Some(kernel)) = (trial.encode()?, trial.subject.codec.as_linear()) else { return Ok(()) };
    let prepared = trial.calmly("prepare", || kernel.prepare(&encoded.spec, encoded.payload.view()))?;
    let operator = prepared.map_err(|e| trial.violation(format!("prepare failed: {e}"), "an operator"))?;
    let tolerance = operator.tolerance();
    if !(0.0..=LARGEST_TOLERANCE).contains(&tolerance) {
        let wanted = format!("a tolerance from 0 to {LARGEST_TOLERANCE}");
        return Err(trial.violation(format!("tolerance {tolerance}"), wanted));
    }
    let weights = trial.decode(&encoded)?;
    for batch in [1, 3] {
        agrees(trial, &*operator, &weights, batch)?;
    }
    refuses_lengths(trial, &*operator)?;
    small(trial, &*operator, encoded.payload.bytes())
}

fn agrees(trial: &Trial<'_>, operator: &dyn LinearOp, weights: &[f32], batch: usize) -> Result<(), Violation> {
    let (outputs, inputs) = trial.sample.spec().matrix();
    let x: Vec<f32> = (0..(batch * inputs) as u64).map(unit).collect();
    let mut y = vec![f32::NAN; batch * outputs];
    trial
        .calmly("apply", || operator.apply(&x, &mut y))?
        .map_err(|e| trial.violation(format!("apply failed: {e}"), "a product"))?;
    for (x, y) in x.chunks_exact(inputs).zip(y.chunks_exact(outputs)) {
        let sums: Vec<_> = weights.chunks_exact(inputs).map(|row| sums(row, x)).collect();
        let mean = sums.iter().map(|(_, magnitude)| magnitude).sum::<f64>() / outputs as f64;
        for ((i, &(sum, magnitude)), y) in sums.iter().enumerate().zip(y) {
            let (off, allowed) = ((f64::from(*y) - sum).abs(), f64::from(operator.tolerance()) * magnitude.max(mean));
            if off.is_nan() || off > allowed + f64::from(f32::MIN_POSITIVE) {
                let found = format!("output {i} of a batch of {batch} is {y:e}, {off:e} off");
                return Err(trial.violation(found, format!("{sum:e}, within {allowed:e}")));
            }
        }
    }
    Ok(())
}

/// The sum of the products and the sum of their magnitudes.
fn sums(row: &[f32], x: &[f32]) -> (f64, f64) {
    let products = row.iter().zip(x).map(|(w, x)| f64::from(*w) * f64::from(*x));
    products.fold((0.0, 0.0), |(sum, magnitude), p: f64| (sum + p, magnitude + p.abs()))
}

fn refuses_lengths(trial: &Trial<'_>, operator: &dyn LinearOp) -> Result<(), Violation> {
    let (outputs, inputs) = trial.sample.spec().matrix();
    let lengths = [
        (inputs - 1, outputs),
        (inputs + 1, outputs),
        (inputs, outputs + 1),
        (inputs, outputs - 1),
        (inputs, 2 * outputs),
        (2 * inputs, outputs),
        (0, outputs),
        (inputs, 0),
    ];
    for (x, y) in lengths {
        let answer = trial.calmly("apply", || operator.apply(&vec![1.0; x], &mut vec![0.0; y]))?;
        if answer.is_ok() {
            let found = format!("{x} inputs and {y} outputs are taken by an operator of {inputs} to {outputs}");
            return Err(trial.violation(found, "an error"));
        }
    }
    Ok(())
}

fn small(trial: &Trial<'_>, operator: &dyn LinearOp, payload: u64) -> Result<(), Violation> {
    let spec = trial.sample.spec();
    let (outputs, inputs) = spec.matrix();
    let (resident, dense) = (operator.resident_bytes(), 4 * spec.elements() as u64);
    if outputs.min(inputs) < 64 || (1..dense.max(payload + 1)).contains(&resident) {
        return Ok(());
    }
    let wanted = format!("fewer than {dense}, the dense matrix, or no more than {payload}, the payload");
    Err(trial.violation(format!("{resident} resident bytes"), wanted))
}
