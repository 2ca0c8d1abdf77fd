//! A part of law 2: chunks that share the tensor's statistics are the tensor.

use std::ops::Range;

use codec_api::{Chunking, CodecError, EncodedTensor, Statistics, Surveyed, survey};

use super::Violation;
use super::trial::Trial;

/// Numbers of chunks.
const COUNTS: [usize; 3] = [1, 3, 8];

/// A codec with statistics of the whole tensor can be cut into chunks. The statistics do not depend
/// on the cuts, and chunks that share them decode to the bits of the tensor encoded as a whole,
/// unless the codec says that they do not ([`Surveyed::chunks_equal_whole`]).
pub(super) fn share_statistics(trial: &Trial<'_>) -> Result<(), Violation> {
    let Some(facet) = trial.subject.codec.as_surveyed() else { return Ok(()) };
    let Some(whole) = trial.encode()? else { return Ok(()) };
    let (rows, _) = whole.spec.matrix();
    let Chunking::Rows(step) = trial.subject.codec.chunking(&whole.spec) else {
        return Err(trial.violation("`chunking` says that it cannot be cut", "chunks that share statistics"));
    };
    let values = trial.decode(&whole)?;
    let mut first: Option<Statistics> = None;
    for count in COUNTS {
        let ranges = cut(rows, count, step.get());
        let failed = |e: CodecError| trial.violation(format!("{count} chunks: {e}"), "every chunk encodes");
        let found = trial.calmly("survey", || surveyed(trial, facet, &ranges))?.map_err(failed)?;
        if first.get_or_insert_with(|| found.clone()) != &found {
            return Err(trial.violation(format!("{count} chunks give other statistics"), "those of the whole"));
        }
        let decoded = trial.calmly("encode", || chunked(trial, &found, &ranges))?.map_err(failed)?;
        let same = decoded.iter().map(|v| v.to_bits()).eq(values.iter().map(|v| v.to_bits()));
        if !same && facet.chunks_equal_whole() {
            return Err(trial.violation(format!("{count} chunks decode to other values"), "those of the whole"));
        }
    }
    Ok(())
}

/// Up to `count` ranges of about as many rows, which begin at multiples of `step`.
fn cut(rows: usize, count: usize, step: usize) -> Vec<Range<usize>> {
    let at = |i: usize| if i == count { rows } else { i * rows / count / step * step };
    (0..count).map(|i| at(i)..at(i + 1)).filter(|range| !range.is_empty()).collect()
}

fn surveyed(trial: &Trial<'_>, facet: &dyn Surveyed, ranges: &[Range<usize>]) -> Result<Statistics, CodecError> {
    let (view, cx) = (trial.sample.view()?, trial.sample.encode_cx(trial.offer)?);
    survey(facet, |found| {
        let mut cx = cx.clone();
        cx.shared = found.map(Statistics::shared);
        let observe = |rows: &Range<usize>| {
            facet.observe(view.rows(rows.start, rows.end)?, &cx.for_rows(view.spec(), rows.clone())?)
        };
        ranges.iter().map(observe).collect()
    })
}

/// The decoded values of all chunks.
fn chunked(trial: &Trial<'_>, found: &Statistics, ranges: &[Range<usize>]) -> Result<Vec<f32>, CodecError> {
    let (view, cx) = (trial.sample.view()?, trial.sample.encode_cx(trial.offer)?.with_shared(found.shared()));
    let mut decoded = Vec::with_capacity(view.spec().elements());
    for rows in ranges {
        let cx = cx.for_rows(view.spec(), rows.clone())?;
        let chunk = view.rows(rows.start, rows.end)?;
        let payload = EncodedTensor::encode_payload(&*trial.subject.codec, chunk.clone(), &cx)?;
        let mut values = vec![0.0; chunk.spec().elements()];
        trial.subject.codec.decode(chunk.spec(), payload.view(), &cx.decoding(), &mut values)?;
        decoded.extend(values);
    }
    Ok(decoded)
}
