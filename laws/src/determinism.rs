//! Law 2, determinism: payload and decoded values depend only on codec, tensor and seed.

use codec_api::{Bytes, Chunking, CodecError, Dtype, EncodedTensor, InputAxis, Need, Payload, Section, TensorView};
use rayon::ThreadPoolBuilder;
use rayon::prelude::*;
use simd::{Level, with_level};

use super::nasty::with_tails;
use super::trial::{Trial, each_offer};
use super::{Law, Subject, Violation, chunks};

/// Sizes of the thread pools.
const THREADS: [usize; 3] = [1, 2, 7];

/// Number of chunks of the tensor, if the codec supports chunks.
const CHUNKS: usize = 7;

/// The longest chunk to try, in rows.
const LONGEST_CHUNK: usize = 64;

/// The payload bytes and the decoded bits are the same in repeated runs, at every SIMD level of
/// this CPU (also for the nasty tensors, in shapes whose ends do not fill a vector), for tensors
/// and sections at odd addresses, and for row chunks in thread pools of 1, 2 and 7 threads,
/// whichever axis the calibrated inputs run along. Chunks that share the tensor's statistics
/// ([`codec_api::Surveyed`]) decode to the bits of the whole.
///
/// # Errors
/// The first violation found.
pub fn determinism(subject: &Subject) -> Result<(), Violation> {
    for dtype in [Dtype::F32, Dtype::BF16] {
        let rows =
            |shape: &[usize]| codec_api::TensorSpec::new(dtype, shape).map_or(1, |spec| chunk_rows(subject, &spec));
        let shape = [CHUNKS * rows(&[CHUNKS * LONGEST_CHUNK, 256]), 256];
        let Ok(sample) = subject.taken(dtype, &shape) else { continue };
        each_offer(subject, Law::Determinism, &sample, check)?;
        each_offer(subject, Law::Determinism, &sample, chunks::share_statistics)?;
        let offer = subject.codec.needs();
        if offer.calibration != Need::No {
            let sample = &sample.with_inputs_along(InputAxis::Rows);
            let trial = Trial { subject, law: Law::Determinism, sample, offer };
            trial.encode()?.map_or(Ok(()), |_| in_pools(&trial))?;
        }
    }
    with_tails()
        .try_for_each(|sample| each_offer(subject, Law::Determinism, &sample, |trial| at_levels(trial).map(drop)))
}

/// Rows per chunk, or 1 if the codec does not support chunks.
fn chunk_rows(subject: &Subject, spec: &codec_api::TensorSpec) -> usize {
    match subject.codec.chunking(spec) {
        Chunking::Rows(n) => n.get().min(LONGEST_CHUNK),
        Chunking::Whole => 1,
    }
}

fn check(trial: &Trial<'_>) -> Result<(), Violation> {
    let Some(Outcome { encoded, file, values }) = at_levels(trial)? else { return Ok(()) };
    at_odd_addresses(trial, &encoded, &file, &values)?;
    in_pools(trial)
}

/// The result of encoding and decoding a sample.
struct Outcome {
    encoded: EncodedTensor,
    /// Its serialised form.
    file: Vec<u8>,
    /// The decoded bits.
    values: Vec<u32>,
}

/// `None` if the codec refuses the sample.
fn outcome(trial: &Trial<'_>) -> Result<Option<Outcome>, Violation> {
    let Some(encoded) = trial.encode()? else { return Ok(None) };
    let (file, values) = (serialise(trial, &encoded)?, bits(&trial.decode(&encoded)?));
    Ok(Some(Outcome { encoded, file, values }))
}

/// The outcome (`None` for a refusal), which must be the same at every SIMD level.
fn at_levels(trial: &Trial<'_>) -> Result<Option<Outcome>, Violation> {
    let first = outcome(trial)?;
    for level in Level::available() {
        let (when, again) = (format!("at SIMD level {level}"), with_level(level, || outcome(trial))?);
        let [file, other_file] = [&first, &again].map(|o| o.as_ref().map(|o| &o.file));
        let [values, other_values] = [&first, &again].map(|o| o.as_ref().map(|o| &o.values));
        same(trial, "payload", &when, &other_file, &file)?;
        same(trial, "decoded values", &when, &other_values, &values)?;
    }
    Ok(first)
}

fn at_odd_addresses(trial: &Trial<'_>, encoded: &EncodedTensor, file: &[u8], values: &[u32]) -> Result<(), Violation> {
    let tensor = at_odd_address(trial.sample.bytes());
    let again = trial.calmly("encode", || {
        let view = TensorView::new(trial.sample.spec().clone(), &tensor)?;
        EncodedTensor::encode(encoded.codec.clone(), view, &trial.sample.encode_cx(trial.offer)?)
    })?;
    let again = again.map_err(|e| trial.violation(format!("encode failed: {e}"), "any alignment"))?;
    same(trial, "payload", "with the tensor at an odd address", &serialise(trial, &again)?.as_slice(), &file)?;

    let mut moved = encoded.clone();
    let sections = encoded.payload.sections().iter().map(|(name, section)| {
        let data = at_odd_address(section.data());
        Ok((name.clone(), Section::new(section.spec().dtype(), section.spec().shape(), data)?))
    });
    let payload = sections.collect::<Result<Vec<_>, CodecError>>().and_then(Payload::from_sections);
    moved.payload = payload.map_err(|e| trial.violation(e.to_string(), "the same sections"))?;
    same(trial, "decoded values", "with sections at odd addresses", &bits(&trial.decode(&moved)?).as_slice(), &values)
}

/// A copy of `data` at an odd address.
fn at_odd_address(data: &[u8]) -> Bytes {
    let mut copy = vec![0; data.len() + 1];
    let start = 1 - copy.as_ptr().addr() % 2;
    copy[start..start + data.len()].copy_from_slice(data);
    Bytes::from(copy).slice(start..start + data.len())
}

/// Payloads and decoded bits of all chunks.
type Chunks = (Vec<Vec<u8>>, Vec<u32>);

fn in_pools(trial: &Trial<'_>) -> Result<(), Violation> {
    let mut first: Option<Chunks> = None;
    for threads in THREADS {
        let pool = ThreadPoolBuilder::new().num_threads(threads).build();
        let pool = pool.map_err(|e| trial.violation(e.to_string(), "a thread pool"))?;
        let chunks = pool.install(|| chunked(trial))?;
        if let Some(first) = &first {
            same(trial, "chunk payloads", &format!("with {threads} threads"), &chunks.0, &first.0)?;
            same(trial, "decoded chunks", &format!("with {threads} threads"), &chunks.1, &first.1)?;
        }
        first.get_or_insert(chunks);
    }
    Ok(())
}

/// Encodes and decodes the sample's chunks on the current pool.
fn chunked(trial: &Trial<'_>) -> Result<Chunks, Violation> {
    let (spec, codec) = (trial.sample.spec(), &trial.subject.codec);
    let (rows, _) = spec.matrix();
    let step = match codec.chunking(spec) {
        Chunking::Rows(n) => n.get().min(rows),
        Chunking::Whole => rows,
    };
    let starts = (0..rows).step_by(step.max(1)).collect::<Vec<_>>();
    let chunk = |first: usize| -> Result<(Vec<u8>, Vec<f32>), CodecError> {
        let last = (first + step).min(rows);
        let cx = trial.sample.encode_cx(trial.offer)?.for_rows(spec, first..last)?;
        let encoded = EncodedTensor::encode(codec.clone(), trial.sample.view()?.rows(first, last)?, &cx)?;
        Ok((encoded.to_bytes().map_err(CodecError::codec)?, encoded.decode(&cx.decoding())?))
    };
    let done = starts.into_par_iter().map(|first| {
        let result = trial.calmly("a chunk's encode or decode", || chunk(first))?;
        result.map_err(|e| trial.violation(format!("the chunk at row {first}: {e}"), "every chunk encodes and decodes"))
    });
    let (payloads, values): (Vec<_>, Vec<_>) = done.collect::<Result<Vec<_>, _>>()?.into_iter().unzip();
    Ok((payloads, bits(&values.concat())))
}

fn serialise(trial: &Trial<'_>, encoded: &EncodedTensor) -> Result<Vec<u8>, Violation> {
    encoded.to_bytes().map_err(|e| trial.violation(e.to_string(), "the payload serialises"))
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|v| v.to_bits()).collect()
}

fn same<A: PartialEq<B>, B>(trial: &Trial<'_>, what: &str, when: &str, a: &A, b: &B) -> Result<(), Violation> {
    if a == b {
        return Ok(());
    }
    Err(trial.violation(format!("other {what} {when}"), format!("the same {what} always")))
}
