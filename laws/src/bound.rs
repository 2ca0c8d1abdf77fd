//! Law 1, bound: the decoded tensor keeps the certified bound, and the bound is not loose.

use codec_api::{Bound, EncodedTensor, max_abs_error, rel_frobenius_error};

use super::encodes::Encode;
use super::trial::Trial;
use super::{ALL_DTYPES, FLOAT_DTYPES, Law, Sample, Subject, Violation, exact};

/// A measured bound may exceed the real error by this factor, because the bound is rounded and
/// decoding may be simulated.
const MEASURED: f64 = 1.01;

/// The same factor for an analytic bound ([`codec_api::CodecEntry::analytic_bound`]).
const ANALYTIC: f64 = 4.0;

/// The bound of a lossy codec holds and is at most 1.01 times the real error, or 4 times if the
/// bound is analytic. A lossy codec refuses all dtypes except F32, F16 and BF16. An exact codec
/// restores every bit of every dtype, or only of the dtypes it is registered for
/// ([`codec_api::CodecEntry::only`]). It notices every flipped bit of its payload that changes a
/// value.
///
/// # Errors
/// The first violation found.
pub fn bound(subject: &Subject) -> Result<(), Violation> {
    Law::Bound.check(subject)
}

/// Checks of this law that need encodes of their own, in addition to the shared ones.
pub(super) fn alone(subject: &Subject) -> Result<(), Violation> {
    if subject.codec.as_lossless().is_some() {
        exact::exact(subject)?;
    } else {
        refuses_other_dtypes(subject)?;
    }
    encodes_something(subject)
}

pub(super) fn judge(trial: &Trial<'_>, encode: &Encode) -> Result<(), Violation> {
    encode.encoded(trial)?.map_or(Ok(()), |encoded| check(trial, &encoded.tensor, encoded.values()?))
}

/// Checks the bound of one encoded float tensor.
fn check(trial: &Trial<'_>, encoded: &EncodedTensor, decoded: &[f32]) -> Result<(), Violation> {
    let source = trial.source()?;
    let bound = encoded.payload.bound();
    let lossless = trial.subject.codec.as_lossless().is_some();
    if lossless != (bound == Bound::Exact) {
        let found = format!("bound `{bound}` with{} `as_lossless`", if lossless { "" } else { "out" });
        return Err(trial.violation(found, "the bound is `exact` if and only if the codec is lossless"));
    }
    if !bound.holds(&source, decoded) {
        let found = format!("bound `{bound}`, but {}", errors(&source, decoded));
        return Err(trial.violation(found, "the decoded tensor keeps its bound"));
    }
    tight(trial, bound, &source, decoded)
}

fn tight(trial: &Trial<'_>, bound: Bound, source: &[f32], decoded: &[f32]) -> Result<(), Violation> {
    let largest = source.iter().fold(0.0, |m: f64, v| m.max(f64::from(v.abs())));
    // Rounding adds at most one unit in the last place of the largest number.
    let (limit, error, rounding) = match bound {
        Bound::MaxAbs(limit) => (limit, max_abs_error(source, decoded), f64::from(f32::EPSILON) * largest),
        Bound::RelFrobenius(limit) => (limit, rel_frobenius_error(source, decoded), f64::from(f32::EPSILON)),
        Bound::None if trial.subject.entry.experimental => return Ok(()),
        Bound::None => return Err(trial.violation("no bound", "only an experimental codec certifies none")),
        _ => return Ok(()),
    };
    let loosest = if trial.subject.entry.analytic_bound { ANALYTIC } else { MEASURED };
    // The bound is infinite when the error is finite but larger than the largest f32.
    let beyond = error.is_finite() && error > f64::from(f32::MAX);
    if beyond || error.is_finite() && f64::from(limit) <= loosest * error + rounding + f64::from(f32::MIN_POSITIVE) {
        return Ok(());
    }
    let found = format!("bound `{bound}`, but {}", errors(source, decoded));
    Err(trial.violation(found, format!("a bound at most {loosest} times the real error")))
}

fn errors(source: &[f32], decoded: &[f32]) -> String {
    let (largest, relative) = (max_abs_error(source, decoded), rel_frobenius_error(source, decoded));
    format!("the largest error is {largest:e} and the relative Frobenius error {relative:e}")
}

fn refuses_other_dtypes(subject: &Subject) -> Result<(), Violation> {
    for dtype in ALL_DTYPES.into_iter().filter(|dtype| !FLOAT_DTYPES.contains(dtype)) {
        // A row of 64 elements fills whole bytes in every dtype.
        let Ok(sample) = Sample::bits(dtype, &[4, 64]) else { continue };
        if let Err(codec_api::CodecError::Unsupported(reason)) = subject.codec.accepts(sample.spec())
            && !reason.is_empty()
        {
            continue;
        }
        let wanted = "`accepts` of a lossy codec refuses it as unsupported";
        return Err(subject.violation(Law::Bound, sample.to_string(), "it is accepted", wanted));
    }
    Ok(())
}

/// The codec must encode something: a codec that refuses everything would keep every law.
fn encodes_something(subject: &Subject) -> Result<(), Violation> {
    for (dtype, shape) in FLOAT_DTYPES.into_iter().flat_map(|dtype| [(dtype, [16, 64]), (dtype, [256, 256])]) {
        let Ok(sample) = subject.taken(dtype, &shape) else { continue };
        let trial = Trial { subject, law: Law::Bound, sample: &sample, offer: subject.codec.needs() };
        if let Some(encoded) = trial.encode()? {
            return check(&trial, &encoded, &trial.decode(&encoded)?);
        }
    }
    let wanted = "it encodes a bell-shaped matrix, or one of rank one, in some float dtype";
    Err(subject.violation(Law::Bound, "bell-shaped matrices and those of rank one", "it refuses them all", wanted))
}
