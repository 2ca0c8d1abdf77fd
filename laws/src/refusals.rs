//! Law 6, refusals: a codec encodes the tensors it accepts, and refuses all others with a reason.

use codec_api::{CodecError, Dtype, EncodeCx, Need, Needs};

use super::encodes::Encode;
use super::trial::{Trial, each_offer};
use super::{FLOAT_DTYPES, Law, Sample, Subject, Violation, cancel};

/// A codec encodes every finite tensor that it accepts, or calls the values unsuitable and says
/// why. An exact codec keeps NaN and infinity; a lossy codec refuses them and names the index. A
/// missing base or calibration that the codec requires is named. A cancelled encode gives
/// `Cancelled`, and a successful encode ticks once per weight.
///
/// # Errors
/// The first violation found.
pub fn refusals(subject: &Subject) -> Result<(), Violation> {
    Law::Refusals.check(subject)
}

/// Checks of this law that need encodes of their own, in addition to the shared ones.
pub(super) fn alone(subject: &Subject) -> Result<(), Violation> {
    for dtype in FLOAT_DTYPES {
        for (value, places) in [(f32::NAN, [0, 230]), (f32::INFINITY, [77, 200]), (f32::NEG_INFINITY, [230, 230])] {
            let at = |i: usize| if places.contains(&i) { value } else { 1.0 + i as f32 };
            let Ok(sample) = Sample::from_fn(format!("{value} at {places:?}"), dtype, &[7, 33], at) else { continue };
            each_offer(subject, Law::Refusals, &sample, non_finite)?;
        }
    }
    names_what_is_missing(subject)?;
    cancel::heeds(subject)
}

pub(super) fn judge(trial: &Trial<'_>, encode: &Encode) -> Result<(), Violation> {
    let accepted = trial.calmly("accepts", || trial.subject.codec.accepts(trial.sample.spec()))?;
    match (accepted, &encode.answer) {
        (Ok(()), Ok(encoded)) => match encoded.values()?.iter().position(|v| !v.is_finite()) {
            Some(i) => Err(trial.violation(format!("the decoded value {i} is not finite"), "finite values")),
            None => Ok(()),
        },
        (Ok(()), Err(CodecError::Unsuitable { reason, number })) if !reason.is_empty() && !number.is_nan() => Ok(()),
        (Err(CodecError::Unsupported(reason)), Err(_)) if !reason.is_empty() => Ok(()),
        (Err(e), _) => Err(trial.violation(format!("`accepts` says: {e}"), "`Unsupported` with a reason")),
        (Ok(()), Err(e)) => {
            let wanted = "a payload, or `Unsuitable` with reason and number: `accepts` takes it";
            Err(trial.violation(format!("encode says: {e}"), wanted))
        }
    }
}

fn non_finite(trial: &Trial<'_>) -> Result<(), Violation> {
    let first = trial.source()?.iter().position(|v| !v.is_finite()).unwrap_or_default();
    let answer = trial.try_encode()?;
    let refused = trial.subject.codec.accepts(trial.sample.spec()).is_err();
    if refused && matches!(answer, Err(CodecError::Unsupported(_))) {
        return Ok(());
    }
    if trial.subject.codec.as_lossless().is_some() {
        let encoded = answer.map_err(|e| trial.violation(e.to_string(), "an exact codec keeps NaN and infinities"))?;
        let same = trial.decode_bytes(&encoded)? == trial.sample.bytes();
        return if same { Ok(()) } else { Err(trial.violation("it decodes to other bytes", "every bit comes back")) };
    }
    match answer {
        Err(CodecError::NonFinite { index }) if index == first => Ok(()),
        Err(e) => Err(trial.violation(e.to_string(), format!("`NonFinite` with index {first}"))),
        Ok(_) => Err(trial.violation("it is encoded", format!("`NonFinite` with index {first}"))),
    }
}

const BASE: &str = "base tensor";
const CALIBRATION: &str = "calibration";

fn names_what_is_missing(subject: &Subject) -> Result<(), Violation> {
    let needs = subject.codec.needs();
    let Ok(sample) = subject.taken(Dtype::F32, &[16, 64]) else { return Ok(()) };
    if subject.codec.accepts(sample.spec()).is_err() {
        return Ok(());
    }
    for (need, what, offer) in [
        (needs.base, BASE, Needs::default().calibration(needs.calibration)),
        (needs.calibration, CALIBRATION, Needs::default().base(needs.base)),
    ] {
        if need != Need::Requires {
            continue;
        }
        let trial = Trial { subject, law: Law::Refusals, sample: &sample, offer };
        // Calls the codec directly, past the check of `EncodedTensor`.
        let answer = trial.calmly("encode", || {
            let cx: EncodeCx<'_> = sample.encode_cx(offer)?;
            subject.codec.encode(sample.view()?, &cx)
        })?;
        let named = match answer {
            Err(CodecError::MissingBase { .. }) => what == BASE,
            Err(CodecError::MissingCalibration) => what == CALIBRATION,
            _ => false,
        };
        if !named {
            let found = answer.map_or_else(|e| e.to_string(), |_| "it is encoded".to_owned());
            return Err(trial.violation(format!("without its {what}: {found}"), "an error that says it is missing"));
        }
    }
    Ok(())
}
