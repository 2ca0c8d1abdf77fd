//! Law 1, certificate: it states the error of the tensor that a user gets back.

use codec_api::{Certificate, EncodedTensor};

use super::encodes::Encode;
use super::sample::narrow;
use super::trial::Trial;
use super::{ALL_DTYPES, FLOAT_DTYPES, Law, Sample, Subject, Violation, exact};

/// The certificate of a lossy codec states the errors of the decoded weights, rounded to the stored
/// dtype ([`Certificate::agrees_with`]). A lossy codec refuses all dtypes except F32, F16 and BF16.
/// An exact codec restores every bit of every dtype, or only of the dtypes it is registered for
/// ([`codec_api::CodecEntry::only`]). It notices every flipped bit of its payload that changes a
/// value.
///
/// # Errors
/// The first violation found.
pub fn certificate(subject: &Subject) -> Result<(), Violation> {
    Law::Certificate.check(subject)
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

/// Checks the certificate of one encoded float tensor.
fn check(trial: &Trial<'_>, encoded: &EncodedTensor, decoded: &[f32]) -> Result<(), Violation> {
    let lossless = trial.subject.codec.as_lossless().is_some();
    let stated = encoded.certificate;
    if lossless != stated.exact {
        let found = format!("{stated:?} with{} `as_lossless`", if lossless { "" } else { "out" });
        return Err(trial.violation(found, "the certificate is exact if and only if the codec is lossless"));
    }
    let mut found = measured(trial, &stored(trial, decoded)?)?;
    found.exact = stated.exact;
    if lossless {
        // The energy of an exact tensor covers only its finite values.
        found.energy = stated.energy;
    }
    if stated.agrees_with(&found) {
        return Ok(());
    }
    Err(trial.violation(format!("{stated:?}, but it is {found:?}"), "the errors of the decoded tensor"))
}

/// The decoded values, rounded to the stored dtype, as f32.
fn stored(trial: &Trial<'_>, decoded: &[f32]) -> Result<Vec<f32>, Violation> {
    let dtype = trial.sample.spec().dtype();
    let mut bytes = Vec::with_capacity(trial.sample.spec().byte_len());
    for value in decoded {
        narrow(dtype, *value, &mut bytes);
    }
    let mut values = vec![0.0; decoded.len()];
    let widened = codec_api::util::widen(dtype, &bytes, &mut values);
    widened.map(|()| values).map_err(|e| trial.violation(e.to_string(), "a float tensor"))
}

/// The errors of decoded values, by plain sums.
fn measured(trial: &Trial<'_>, decoded: &[f32]) -> Result<Certificate, Violation> {
    let mut found = Certificate::EMPTY;
    for (source, decoded) in trial.source()?.iter().zip(decoded) {
        let (source, error) = (f64::from(*source), f64::from(*source) - f64::from(*decoded));
        // A NaN must not get lost in the maximum.
        found.max_abs = if error.is_nan() { f64::NAN } else { found.max_abs.max(error.abs()) };
        found.squared_error += error * error;
        found.energy += source * source;
    }
    Ok(found)
}

/// `decode_stored` gives the bytes of the decoded values, rounded to the stored dtype.
fn decodes_to_stored(trial: &Trial<'_>, encoded: &EncodedTensor) -> Result<(), Violation> {
    let (dtype, mut bytes) = (trial.sample.spec().dtype(), Vec::new());
    for value in trial.decode(encoded)? {
        narrow(dtype, value, &mut bytes);
    }
    if trial.decode_bytes(encoded)? == bytes {
        return Ok(());
    }
    Err(trial.violation("`decode_stored` gives other bytes than `decode`", "the same values, rounded"))
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
        return Err(subject.violation(Law::Certificate, sample.to_string(), "it is accepted", wanted));
    }
    Ok(())
}

/// The codec must encode something: a codec that refuses everything would keep every law.
fn encodes_something(subject: &Subject) -> Result<(), Violation> {
    let mut encodes = false;
    for (dtype, shape) in FLOAT_DTYPES.into_iter().flat_map(|dtype| [(dtype, [16, 64]), (dtype, [256, 256])]) {
        let Ok(sample) = subject.taken(dtype, &shape) else { continue };
        let trial = Trial { subject, law: Law::Certificate, sample: &sample, offer: subject.codec.needs() };
        if let Some(encoded) = trial.encode()? {
            check(&trial, &encoded, &trial.decode(&encoded)?)?;
            decodes_to_stored(&trial, &encoded)?;
            encodes = true;
        }
    }
    if encodes {
        return Ok(());
    }
    let wanted = "it encodes a bell-shaped matrix, or one of rank one, in some float dtype";
    Err(subject.violation(
        Law::Certificate,
        "bell-shaped matrices and those of rank one",
        "it refuses them all",
        wanted,
    ))
}
