//! Law 7, progressive: every prefix of the levels decodes, and no level increases the error.

use codec_api::{Dtype, EncodedTensor, QualityLevel};

use super::trial::{Trial, each_offer};
use super::{Law, Sample, Subject, Violation};

/// The levels name each section once, and only sections that are there. Level `n` decodes from only
/// the sections of levels `0..=n`, whose bytes are within the prediction. Its Frobenius error is
/// not above the error of level `n − 1`. The last level is the whole payload.
///
/// # Errors
/// The first violation found.
pub fn progressive(subject: &Subject) -> Result<(), Violation> {
    if subject.codec.as_progressive().is_none() {
        return Ok(());
    }
    for (dtype, shape) in [(Dtype::F32, [16, 64]), (Dtype::F32, [7, 33]), (Dtype::BF16, [4, 256]), (Dtype::F16, [1, 1])]
    {
        if let Ok(sample) = Sample::bell(dtype, &shape) {
            each_offer(subject, Law::Progressive, &sample, check)?;
        }
    }
    Ok(())
}

fn check(trial: &Trial<'_>) -> Result<(), Violation> {
    let (Some(encoded), Some(facet)) = (trial.encode()?, trial.subject.codec.as_progressive()) else { return Ok(()) };
    let levels = trial.calmly("levels", || facet.levels(trial.sample.spec()))?;
    complete(trial, &encoded, &levels)?;
    let source = trial.source()?;
    let mut prefix = encoded.clone();
    let mut named = Vec::new();
    let mut before = f64::INFINITY;
    let mut values = Vec::new();
    for (level, part) in levels.iter().enumerate() {
        named.extend(encoded.payload.sections().keys().filter(|name| part.has(name)).cloned());
        prefix.payload = encoded.payload.restricted_to(&named);
        values = decode_level(trial, &prefix, level)?;
        let error = distance(&source, &values);
        // The margin covers rounding in the sums of this law.
        if error.is_nan() || error > before * (1.0 + 1e-9) {
            let found = format!("level {level} has error {error:e}, the level before {before:e}");
            return Err(trial.violation(found, "an error that does not rise"));
        }
        before = error;
    }
    if values.iter().map(|v| v.to_bits()).eq(trial.decode(&encoded)?.iter().map(|v| v.to_bits())) {
        return Ok(());
    }
    Err(trial.violation("the last level decodes to other values than the whole payload", "the same values"))
}

fn complete(trial: &Trial<'_>, encoded: &EncodedTensor, levels: &[QualityLevel]) -> Result<(), Violation> {
    let named: Vec<_> = levels.iter().flat_map(|level| &level.sections).collect();
    let sections: Vec<_> = encoded.payload.sections().keys().collect();
    let one = |name: &str| QualityLevel::new(vec![name.to_owned()], 0..=0);
    let once = |section: &str| named.iter().filter(|name| one(name).has(section)).count() == 1;
    let stands_for_many = |name: &str| name.is_empty() || name.ends_with('/');
    let is_there = |name: &str| stands_for_many(name) || sections.iter().any(|section| *section == name);
    if sections.iter().all(|section| once(section)) && named.iter().all(|name| is_there(name)) {
        return Ok(());
    }
    Err(trial.violation(format!("the levels name {named:?}"), format!("each section once: {sections:?}")))
}

fn decode_level(trial: &Trial<'_>, prefix: &EncodedTensor, level: usize) -> Result<Vec<f32>, Violation> {
    let answer = trial.calmly(&format!("decode at level {level}"), || {
        prefix.decode_level(level, &trial.sample.decode_cx(trial.offer)?)
    })?;
    answer.map_err(|e| trial.violation(format!("level {level}: {e}"), "it decodes without the later sections"))
}

/// `‖a − b‖₂`.
fn distance(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(x, y)| (f64::from(*x) - f64::from(*y)).powi(2)).sum::<f64>().sqrt()
}
