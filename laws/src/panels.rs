//! Law 11, panels: encoding column by column is the plain encode, and returns what a decoder gives.

use std::ops::Range;

use codec_api::util::transpose;
use codec_api::{CodecError, Dtype, PanelCut, PanelEncoder, Payload};

use super::sample::unit;
use super::trial::{Trial, each_offer};
use super::{Law, Subject, Violation};

/// Without feedback, the panels of [`codec_api::Codec::as_panels`] give the payload of a plain
/// encode, byte for byte. With changes from outside, the payload decodes to the values that the
/// encoder returned. It does not matter whether rows or columns of blocks come first. Blocks out of
/// order, of the wrong length, or missing are errors.
///
/// # Errors
/// The first violation found.
pub fn panels(subject: &Subject) -> Result<(), Violation> {
    if subject.codec.as_panels().is_none() {
        return Ok(());
    }
    let shapes: [(Dtype, &[usize]); 7] = [
        (Dtype::F32, &[64, 512]),
        (Dtype::F32, &[33, 77]),
        (Dtype::BF16, &[65, 64]),
        (Dtype::F16, &[1, 130]),
        (Dtype::F32, &[131]),
        (Dtype::BF16, &[3, 4, 64]),
        (Dtype::F32, &[5, 3, 3, 3]),
    ];
    let mut cuts = 0;
    for (dtype, shape) in shapes {
        let Ok(sample) = subject.taken(dtype, shape) else { continue };
        each_offer(subject, Law::Panels, &sample, check)?;
        cuts += usize::from(cut(subject, &sample).is_some());
    }
    if cuts > 0 {
        return Ok(());
    }
    Err(subject.violation(Law::Panels, "all tensors", "`cut` refuses them", "panels of some tensor"))
}

fn cut(subject: &Subject, sample: &super::Sample) -> Option<PanelCut> {
    subject.codec.as_panels().and_then(|facet| facet.cut(sample.spec()).ok())
}

fn check(trial: &Trial<'_>) -> Result<(), Violation> {
    let Some(encoded) = trial.encode()? else { return Ok(()) };
    let Some(cut) = cut(trial.subject, trial.sample) else { return Ok(()) };
    let source = turned(trial.source()?, trial.sample.spec().matrix(), cut.transposed);
    let decoded = |encoded: &codec_api::EncodedTensor| {
        trial.decode(encoded).map(|values| turned(values, trial.sample.spec().matrix(), cut.transposed))
    };
    let (payload, returned) = run(trial, cut, First::Columns, source.clone(), |_, _| ())?;
    if payload.sections() != encoded.payload.sections() {
        let differs = |name: &&String| payload.sections().get(*name) != encoded.payload.sections().get(*name);
        let name = encoded.payload.sections().keys().find(differs).map_or("names of sections", String::as_str);
        return Err(trial.violation(format!("without feedback it differs: {name}"), "the payload of a plain encode"));
    }
    same(trial, "without feedback", &returned, &decoded(&encoded)?)?;
    let change = |i: usize, value: &mut f32| *value += 0.3 * unit(i as u64) * value.abs();
    let (payload, returned) = run(trial, cut, First::Rows, source.clone(), change)?;
    let mut changed = encoded.clone();
    changed.payload = payload;
    same(trial, "with feedback", &returned, &decoded(&changed)?)?;
    let (payload, _) = run(trial, cut, First::Columns, source, change)?;
    if payload.sections() != changed.payload.sections() {
        let found = "columns of blocks after each other give another payload than rows";
        return Err(trial.violation(found.to_owned(), "a payload that does not depend on the order"));
    }
    refuses(trial, cut)
}

/// What a caller goes through first.
#[derive(Clone, Copy, PartialEq)]
enum First {
    /// The blocks of some rows, then those of the next ones.
    Rows,
    /// The blocks of some columns, then those of the next ones.
    Columns,
}

/// Encodes in panels; `change` changes each value before its panel begins. Returns the payload and
/// the values that the encoder returned.
fn run(
    trial: &Trial<'_>,
    cut: PanelCut,
    first: First,
    mut values: Vec<f32>,
    change: impl Fn(usize, &mut f32),
) -> Result<(Payload, Vec<f32>), Violation> {
    let (rows, columns) = shape(trial, cut);
    let failed = |e: CodecError| trial.violation(format!("panels: {e}"), "a payload");
    let cx = trial.sample.encode_cx(trial.offer).map_err(failed)?;
    let view = trial.sample.view().map_err(failed)?;
    let Some(facet) = trial.subject.codec.as_panels() else { return Ok((Payload::new(), values)) };
    let mut encoder = trial.calmly("begin", || facet.begin(view, &cx))?.map_err(failed)?;
    for panel in steps(0..columns, cut.panel.get()) {
        for (row, column) in (0..rows).flat_map(|row| panel.clone().map(move |column| (row, column))) {
            change(row * columns + column, &mut values[row * columns + column]);
        }
        let whole = gather(&values, columns, 0..rows, &panel);
        trial.calmly("start", || encoder.start(&whole))?.map_err(failed)?;
        for (block, part) in blocks(cut, first, rows, &panel) {
            let mut block_values = gather(&values, columns, block.clone(), &part);
            let answer = trial.calmly("encode", || encoder.encode(block.clone(), part.clone(), &mut block_values))?;
            answer.map_err(failed)?;
            scatter(&mut values, columns, block, &part, &block_values);
        }
    }
    let payload = trial.calmly("finish", || encoder.finish())?.map_err(failed)?;
    Ok((payload, values))
}

/// The blocks of a panel: their rows and columns.
fn blocks(cut: PanelCut, first: First, rows: usize, panel: &Range<usize>) -> Vec<(Range<usize>, Range<usize>)> {
    let (blocks, parts) = (steps(0..rows, cut.rows.get()), steps(panel.clone(), cut.columns.get()));
    if first == First::Rows {
        blocks.flat_map(|block| parts.clone().map(move |part| (block.clone(), part))).collect()
    } else {
        parts.flat_map(|part| blocks.clone().map(move |block| (block, part.clone()))).collect()
    }
}

/// Rows and columns of the matrix that is cut.
fn shape(trial: &Trial<'_>, cut: PanelCut) -> (usize, usize) {
    let (rows, columns) = trial.sample.spec().matrix();
    if cut.transposed { (columns, rows) } else { (rows, columns) }
}

/// The values of a matrix, or of the transposed one.
fn turned(values: Vec<f32>, shape: (usize, usize), transposed: bool) -> Vec<f32> {
    if !transposed {
        return values;
    }
    let mut out = vec![0.0; values.len()];
    transpose(shape, &values, &mut out);
    out
}

/// `range` in steps of at most `step`.
fn steps(range: Range<usize>, step: usize) -> impl Iterator<Item = Range<usize>> + Clone {
    let end = range.end;
    range.step_by(step).map(move |first| first..(first + step).min(end))
}

fn gather(values: &[f32], width: usize, rows: Range<usize>, columns: &Range<usize>) -> Vec<f32> {
    rows.flat_map(|row| values[row * width..][columns.clone()].iter().copied()).collect()
}

fn scatter(values: &mut [f32], width: usize, rows: Range<usize>, columns: &Range<usize>, block: &[f32]) {
    for (row, block) in rows.zip(block.chunks(columns.len())) {
        values[row * width..][columns.clone()].copy_from_slice(block);
    }
}

fn same(trial: &Trial<'_>, when: &str, returned: &[f32], decoded: &[f32]) -> Result<(), Violation> {
    let Some(at) = returned.iter().zip(decoded).position(|(a, b)| a.to_bits() != b.to_bits()) else { return Ok(()) };
    let found = format!("{when} value {at} was returned as {:e}", returned[at]);
    Err(trial.violation(found, format!("{:e}, which is decoded", decoded[at])))
}

fn refuses(trial: &Trial<'_>, cut: PanelCut) -> Result<(), Violation> {
    let (rows, columns) = shape(trial, cut);
    let failed = |e: CodecError| trial.violation(format!("panels: {e}"), "an encoder");
    let cx = trial.sample.encode_cx(trial.offer).map_err(failed)?;
    let source = turned(trial.source()?, trial.sample.spec().matrix(), cut.transposed);
    let Some(facet) = trial.subject.codec.as_panels() else { return Ok(()) };
    let begin = || trial.calmly("begin", || facet.begin(trial.sample.view()?, &cx))?.map_err(failed);
    let panel = 0..cut.panel.get().min(columns);
    let (block, part) = (0..cut.rows.get().min(rows), 0..cut.columns.get().min(panel.end));
    let first = gather(&source, columns, 0..rows, &panel);
    let values = gather(&source, columns, block.clone(), &part);
    let started = |act: &dyn Fn(&mut dyn PanelEncoder) -> Result<(), CodecError>| {
        let mut encoder = begin()?;
        trial.calmly("encode", || encoder.start(&first).and_then(|()| act(&mut *encoder)))
    };
    let later = block.start + 1..block.end + 1;
    let beyond = part.start + 1..part.end + 1;
    let cases = [
        ("a panel that is too short", begin().and_then(|mut e| trial.calmly("start", || e.start(&first[1..])))?),
        (
            "a block before its panel",
            begin().and_then(|mut e| {
                trial.calmly("encode", || e.encode(block.clone(), part.clone(), &mut values.clone()))
            })?,
        ),
        ("rows out of order", started(&|e| e.encode(later.clone(), part.clone(), &mut values.clone()))?),
        ("columns out of order", started(&|e| e.encode(block.clone(), beyond.clone(), &mut values.clone()))?),
        ("a block that is too short", started(&|e| e.encode(block.clone(), part.clone(), &mut values.clone()[1..]))?),
        ("the end before the last block", {
            let encoder = begin()?;
            trial.calmly("finish", || encoder.finish().map(drop))?
        }),
    ];
    match cases.into_iter().find(|(_, answer)| answer.is_ok()) {
        Some((case, _)) => Err(trial.violation(format!("{case} is taken"), "an error")),
        None => Ok(()),
    }
}
