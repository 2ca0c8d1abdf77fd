//! Law 4, hostile payloads: decoding returns for any bytes.

use std::time::Duration;

use codec_api::{BaseTensor, Bytes, DecodeCx, Dtype, EncodedTensor, Inputs, Need, Product, TensorView};

use super::guard::{Stuck, Watch, catch, watched};
use super::mutations::{files, sections, specs};
use super::trial::Trial;
use super::{Law, Sample, Subject, Violation};

/// Longest time for one payload before it counts as a hang.
const PATIENCE: Duration = Duration::from_secs(30);

/// A payload of more elements must be refused; none of this law's payloads is large enough to
/// justify so many.
const ENORMOUS: usize = 1 << 30;

/// Elements of the largest output that this law allocates for a decoder that is called directly.
const DIRECT: usize = 1 << 22;

/// Most bytes of heap for a payload below [`SMALL_PAYLOAD`] bytes, the output included.
pub const MAX_HEAP: u64 = 64 << 20;

/// Bytes from which on a payload may take more heap than [`MAX_HEAP`].
pub const SMALL_PAYLOAD: u64 = 64 << 10;

/// Damaged, swapped and invented payloads, specs and files give an error or values. They never
/// cause a panic, a hang, or an allocation that their size does not justify: with the default
/// limits of [`DecodeCx`], a payload below 64 KiB takes at most 64 MiB of heap.
///
/// # Errors
/// The first violation found.
pub fn hostile(subject: &Subject) -> Result<(), Violation> {
    hostile_within(subject, PATIENCE)
}

/// Like [`hostile`], with a different time limit for one payload.
///
/// # Errors
/// The first violation found.
pub fn hostile_within(subject: &Subject, limit: Duration) -> Result<(), Violation> {
    let inside = subject.clone();
    watched(limit, move |watch| attack(&inside, watch)).unwrap_or_else(|stuck| {
        let (case, found) = match stuck {
            Stuck::Hangs(case) => (case, format!("no answer after {} s", limit.as_secs_f64())),
            Stuck::Panicked(case) => (case, "a panic".to_owned()),
        };
        Err(subject.violation(Law::Hostile, case, found, "an error or values"))
    })
}

fn attack(subject: &Subject, watch: &Watch<'_>) -> Result<(), Violation> {
    let tensors: [(Dtype, &[usize]); 4] =
        [(Dtype::F32, &[3, 70]), (Dtype::BF16, &[4, 64]), (Dtype::F16, &[16, 64]), (Dtype::I16, &[5, 7])];
    for (dtype, shape) in tensors {
        let Ok(sample) = subject.taken(dtype, shape).or_else(|_| Sample::bits(dtype, shape)) else { continue };
        attack_with(&Trial { subject, law: Law::Hostile, sample: &sample, offer: subject.codec.needs() }, watch)?;
    }
    Ok(())
}

fn attack_with(trial: &Trial<'_>, watch: &Watch<'_>) -> Result<(), Violation> {
    let Some(encoded) = trial.encode()? else { return Ok(()) };
    for (case, changed) in sections(&encoded).into_iter().chain(specs(&encoded)) {
        watch.case(case.as_str());
        probe(trial, &case, &changed)?;
    }
    other_bases(trial, &encoded, watch)?;
    let file = encoded.to_bytes().map_err(|e| trial.violation(e.to_string(), "the payload serialises"))?;
    for (case, file) in files(&file) {
        watch.case(case.as_str());
        let read = calmly(trial, &case, || EncodedTensor::from_bytes(&Bytes::from(file), &trial.subject.registry))?;
        if let Ok(changed) = read {
            probe(trial, &case, &changed)?;
        }
    }
    Ok(())
}

/// Decodes in every available way; the results do not matter.
fn probe(trial: &Trial<'_>, case: &str, encoded: &EncodedTensor) -> Result<(), Violation> {
    let (codec, spec, payload) = (&encoded.codec, &encoded.spec, encoded.payload.view());
    let small = spec.elements() <= DIRECT;
    if spec.elements() >= ENORMOUS {
        justified(trial, case, encoded)?;
    }
    let cx = trial.sample.decode_cx(trial.offer).map_err(|e| trial.violation(e.to_string(), "a base tensor"))?;
    let frugally = |decode: &mut dyn FnMut()| frugally(trial, case, encoded, decode);
    frugally(&mut || drop(encoded.decode(&cx)))?;
    frugally(&mut || drop(encoded.decode_bytes(&cx)))?;
    frugally(&mut || drop(encoded.open_rows(&cx)))?;
    frugally(&mut || drop(encoded.own_operator(&cx)))?;
    // Calls the codec directly, past the checks of `EncodedTensor`.
    let mut out = vec![0.0; if small { spec.elements() } else { 16 }];
    frugally(&mut || drop(codec.decode(spec, payload.clone(), &cx, &mut out)))?;
    if let Some(lossless) = codec.as_lossless() {
        let mut out = vec![0; if small { spec.byte_len() } else { 16 }];
        frugally(&mut || drop(lossless.decode_bytes(spec, payload.clone(), &cx, &mut out)))?;
    }
    if let Some(progressive) = codec.as_progressive() {
        let levels = calmly(trial, case, || progressive.levels(spec).len())?;
        for level in (0..=levels.min(16)).chain([usize::MAX]) {
            frugally(&mut || drop(encoded.decode_level(level, &cx)))?;
            frugally(&mut || drop(progressive.decode_level(level, spec, payload.clone(), &cx, &mut out)))?;
        }
    }
    opened(trial, case, encoded, &cx)
}

/// Reads rows and multiplies; the results do not matter.
fn opened(trial: &Trial<'_>, case: &str, encoded: &EncodedTensor, cx: &DecodeCx<'_>) -> Result<(), Violation> {
    let (codec, spec, payload) = (&encoded.codec, &encoded.spec, encoded.payload.view());
    let ((rows, columns), small) = (spec.matrix(), spec.elements() <= DIRECT);
    if let Some(facet) = codec.as_rows() {
        calmly(trial, case, || {
            if let Ok(reader) = facet.open(spec, payload.clone(), cx)
                && small
            {
                drop(reader.read(rows / 2..rows, &mut vec![0.0; (rows - rows / 2) * columns]));
            }
        })?;
    }
    if let Some(kernel) = codec.as_linear() {
        calmly(trial, case, || {
            if let Ok(operator) = kernel.prepare(spec, payload.clone(), cx)
                && small
            {
                for (product, x, y) in [(Product::Forward, columns, rows), (Product::Transposed, rows, columns)] {
                    let x = vec![1.0; x];
                    let inputs = Inputs::new(&x, usize::from(!x.is_empty()));
                    drop(inputs.and_then(|x| operator.apply(product, 0..rows, &x, &mut vec![0.0; y])));
                }
            }
        })?;
    }
    Ok(())
}

/// A few bytes must not be a valid payload of an enormous tensor: decoding would allocate terabytes
/// for them.
fn justified(trial: &Trial<'_>, case: &str, encoded: &EncodedTensor) -> Result<(), Violation> {
    let (codec, spec) = (&encoded.codec, &encoded.spec);
    if calmly(trial, case, || codec.accepts(spec).is_err())? {
        return Ok(());
    }
    calmly(trial, case, || codec.chunking(spec))?;
    let (allowed, bytes) = (calmly(trial, case, || codec.cost(spec).bytes)?, encoded.payload.bytes());
    if allowed.contains(&bytes) {
        let (least, most) = (allowed.start(), allowed.end());
        let found = format!("`cost` says {least} to {most} bytes, so the {bytes} bytes there would be decoded");
        return Err(case_violation(trial, case, found, "a lower end of the cost that grows with the tensor"));
    }
    justified_levels(trial, case, encoded)
}

/// The same for every prefix of the quality levels: a decoder accepts a prefix if its size lies in
/// the range that `levels` predicts.
fn justified_levels(trial: &Trial<'_>, case: &str, encoded: &EncodedTensor) -> Result<(), Violation> {
    let Some(progressive) = encoded.codec.as_progressive() else { return Ok(()) };
    let levels = calmly(trial, case, || progressive.levels(&encoded.spec))?;
    let (mut bytes, mut least, mut most) = (0u64, 0u64, 0u64);
    for (level, part) in levels.iter().enumerate() {
        let sections = encoded.payload.sections().iter().filter(|(name, _)| part.has(name));
        bytes += sections.map(|(_, section)| section.data().len() as u64).sum::<u64>();
        least = least.saturating_add(*part.bytes.start());
        most = most.saturating_add(*part.bytes.end());
        if (least..=most).contains(&bytes) {
            let found =
                format!("`levels` says {least} to {most} bytes up to level {level}, so {bytes} would be decoded");
            return Err(case_violation(trial, case, found, "bytes that grow with the tensor, from the first level on"));
        }
    }
    if levels.is_empty() { Err(case_violation(trial, case, "there is no level", "at least one")) } else { Ok(()) }
}

/// Without its base, or with a different one, a payload is refused or decodes to some values.
fn other_bases(trial: &Trial<'_>, encoded: &EncodedTensor, watch: &Watch<'_>) -> Result<(), Violation> {
    let needs = trial.subject.codec.needs();
    if needs.base == Need::No {
        return Ok(());
    }
    let case = "no base tensor";
    watch.case(case);
    let answer = calmly(trial, case, || encoded.decode(&DecodeCx::new()))?;
    if needs.base == Need::Requires && answer.is_ok() {
        return Err(case_violation(trial, case, "it decodes", "an error, since the codec requires a base"));
    }
    let values = [1.0; 6];
    for shape in [vec![6], vec![2, 3], vec![6, 1]] {
        let case = format!("a base of shape {shape:?}");
        watch.case(case.as_str());
        let Ok(view) = TensorView::from_f32(shape, &values) else { continue };
        let cx = DecodeCx::new().with_base(BaseTensor::new(view));
        calmly(trial, &case, || (drop(encoded.decode(&cx)), drop(encoded.decode_bytes(&cx))))?;
    }
    Ok(())
}

/// Runs a decode and compares its peak of heap memory with what a small payload may take.
fn frugally(trial: &Trial<'_>, case: &str, encoded: &EncodedTensor, decode: &mut dyn FnMut()) -> Result<(), Violation> {
    let ((), peak) = calmly(trial, case, || heap::peak(decode))?;
    match peak {
        Some(peak) if peak > MAX_HEAP && encoded.payload.bytes() < SMALL_PAYLOAD => {
            let found = format!("{peak} bytes of heap for a payload of {} bytes", encoded.payload.bytes());
            Err(case_violation(trial, case, found, &format!("at most {MAX_HEAP}")))
        }
        _ => Ok(()),
    }
}

fn calmly<T>(trial: &Trial<'_>, case: &str, f: impl FnOnce() -> T) -> Result<T, Violation> {
    catch(f).map_err(|message| case_violation(trial, case, message, "an error or values"))
}

fn case_violation(trial: &Trial<'_>, case: &str, found: impl Into<String>, wanted: &str) -> Violation {
    trial.subject.violation(Law::Hostile, format!("{}, {case}", trial.sample), found, wanted)
}
