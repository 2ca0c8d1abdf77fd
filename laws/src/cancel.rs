//! Part of law 6: cancellation and progress.

use std::sync::atomic::{AtomicU64, Ordering};

use codec_api::{Cancel, CodecError, Dtype, EncodeCx, Payload, Progress};

use super::trial::{Trial, each_offer};
use super::{FLOAT_DTYPES, Law, Sample, Subject, Violation};

/// The sum of the progress that an encode reports.
#[derive(Debug, Default)]
struct Count(AtomicU64);

impl Progress for Count {
    fn tick(&self, weights: u64) {
        self.0.fetch_add(weights, Ordering::Relaxed);
    }
}

/// An encode that is cancelled before it begins returns `Cancelled`. The ticks of a successful
/// encode add up to the number of elements, even if the encode makes several passes over the
/// tensor.
pub(super) fn heeds(subject: &Subject) -> Result<(), Violation> {
    let shapes: [&[usize]; 3] = [&[16, 64], &[7, 33], &[1]];
    for (dtype, shape) in FLOAT_DTYPES.into_iter().flat_map(|dtype| shapes.map(|shape| (dtype, shape))) {
        let Ok(sample) = subject.taken(dtype, shape) else { continue };
        each_offer(subject, Law::Refusals, &sample, check)?;
    }
    let Ok(integers) = Sample::bits(Dtype::I16, &[5, 7]) else { return Ok(()) };
    each_offer(subject, Law::Refusals, &integers, check)
}

fn check(trial: &Trial<'_>) -> Result<(), Violation> {
    let spec = trial.sample.spec();
    let count = Count::default();
    // A codec may refuse the tensor before it looks at the cancel flag.
    if trial.subject.codec.accepts(spec).is_err() || encode(trial, |cx| cx.with_progress(&count))?.is_err() {
        return Ok(());
    }
    let (ticked, elements) = (count.0.into_inner(), spec.elements() as u64);
    if ticked != elements {
        let found = format!("its progress adds up to {ticked} weights");
        return Err(trial.violation(found, format!("{elements}, the tensor's elements")));
    }
    let cancel = Cancel::new();
    cancel.cancel();
    match encode(trial, |cx| cx.with_cancel(&cancel))? {
        Err(CodecError::Cancelled) => Ok(()),
        Err(e) => Err(trial.violation(format!("cancelled before it begins, encode says: {e}"), "`Cancelled`")),
        Ok(_) => Err(trial.violation("cancelled before it begins, it encodes all the same", "`Cancelled`")),
    }
}

/// Calls the codec directly, so that the codec itself must check for cancellation.
fn encode<'a>(
    trial: &Trial<'a>,
    surround: impl FnOnce(EncodeCx<'a>) -> EncodeCx<'a>,
) -> Result<Result<Payload, CodecError>, Violation> {
    let sample = trial.sample;
    trial.calmly("encode", || trial.subject.codec.encode(sample.view()?, &surround(sample.encode_cx(trial.offer)?)))
}
