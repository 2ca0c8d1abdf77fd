//! Law 10, rows: any range of rows has the bits that the whole tensor decodes to.

use std::ops::Range;

use codec_api::{Dtype, RowReader};

use super::sample::noise;
use super::trial::{Trial, each_offer};
use super::{Law, Subject, Violation};

/// Ranges tried per tensor, beside the whole.
const RANGES: u64 = 24;
/// Threads that read them at once.
const THREADS: usize = 4;

/// The reader of [`codec_api::Codec::as_rows`] gives the bits of `decode` for any range of rows,
/// also to several threads at once, and does not allocate while it reads. It refuses ranges outside
/// the matrix and buffers of other lengths. It keeps less memory than the dense matrix, or no more
/// than its payload and a fixed part.
///
/// # Errors
/// The first violation found.
pub fn rows(subject: &Subject) -> Result<(), Violation> {
    if subject.codec.as_rows().is_none() {
        return Ok(());
    }
    let shapes: [(Dtype, &[usize]); 9] = [
        (Dtype::F32, &[64, 96]),
        (Dtype::F32, &[33, 77]),
        (Dtype::BF16, &[65, 64]),
        (Dtype::F16, &[1, 130]),
        (Dtype::F32, &[131]),
        (Dtype::F32, &[]),
        (Dtype::F32, &[0, 5]),
        (Dtype::BF16, &[3, 4, 64]),
        (Dtype::F32, &[5, 3, 3, 3]),
    ];
    for (dtype, shape) in shapes {
        let Ok(sample) = subject.taken(dtype, shape) else { continue };
        each_offer(subject, Law::Rows, &sample, check)?;
    }
    Ok(())
}

fn check(trial: &Trial<'_>) -> Result<(), Violation> {
    let (Some(encoded), Some(facet)) = (trial.encode()?, trial.subject.codec.as_rows()) else { return Ok(()) };
    let cx = trial.sample.decode_cx(trial.offer).map_err(|e| trial.violation(e.to_string(), "a base tensor"))?;
    let opened = trial.calmly("open", || facet.open(&encoded.spec, encoded.payload.view(), &cx))?;
    let reader = opened.map_err(|e| trial.violation(format!("open failed: {e}"), "its own payload opens"))?;
    let (rows, columns) = encoded.spec.matrix();
    if reader.shape() != (rows, columns) {
        return Err(trial.violation(format!("a reader of {:?}", reader.shape()), format!("{:?}", (rows, columns))));
    }
    let whole = trial.decode(&encoded)?;
    let part = |range: &Range<usize>| &whole[range.start * columns..range.end * columns];
    let ranges: Vec<_> = ranges(rows).collect();
    for range in &ranges {
        same(trial, range, &read(trial, &*reader, range)?, part(range))?;
    }
    std::thread::scope(|scope| {
        let reads = |thread: usize| {
            // Each thread begins elsewhere.
            let mut ranges = ranges.iter().cycle().skip(thread * ranges.len() / THREADS).take(ranges.len());
            ranges.try_for_each(|range| same(trial, range, &read(trial, &*reader, range)?, part(range)))
        };
        let threads: Vec<_> = (0..THREADS).map(|thread| scope.spawn(move || reads(thread))).collect();
        threads.into_iter().try_for_each(|thread| {
            thread.join().unwrap_or_else(|_| Err(trial.violation("a thread panicked", "no panic")))
        })
    })?;
    refuses(trial, &*reader)?;
    small(trial, &*reader, encoded.payload.bytes())
}

/// The whole, single rows, and ranges anywhere.
fn ranges(rows: usize) -> impl Iterator<Item = Range<usize>> {
    let ends = move |i: u64| {
        let [a, b] = [noise(2 * i), noise(2 * i + 1)].map(|n| (n % (rows as u64 + 1)) as usize);
        a.min(b)..a.max(b)
    };
    [0..rows, 0..rows.min(1), rows.saturating_sub(1)..rows].into_iter().chain((0..RANGES).map(ends))
}

fn read(trial: &Trial<'_>, reader: &dyn RowReader, rows: &Range<usize>) -> Result<Vec<f32>, Violation> {
    let mut values = vec![f32::NAN; rows.len() * reader.shape().1];
    let read = |values: &mut [f32]| {
        let answer = trial.calmly("read", || reader.read(rows.clone(), values))?;
        answer.map_err(|e| trial.violation(format!("read of rows {rows:?} failed: {e}"), "values"))
    };
    // A thread may allocate in its first read.
    read(&mut values)?;
    let (answer, held) = heap::peak(|| read(&mut values));
    answer?;
    match held {
        Some(held) if held > 0 => Err(trial.violation(format!("a read allocates {held} bytes"), "none")),
        _ => Ok(values),
    }
}

fn same(trial: &Trial<'_>, range: &Range<usize>, values: &[f32], whole: &[f32]) -> Result<(), Violation> {
    let Some(at) = values.iter().zip(whole).position(|(a, b)| a.to_bits() != b.to_bits()) else { return Ok(()) };
    let found = format!("value {at} of rows {range:?} is {:e}", values[at]);
    Err(trial.violation(found, format!("{:e}, as in the whole tensor", whole[at])))
}

fn refuses(trial: &Trial<'_>, reader: &dyn RowReader) -> Result<(), Violation> {
    let (rows, columns) = reader.shape();
    let backwards = Range { start: rows, end: rows.saturating_sub(1) };
    let cases = [(0..rows + 1, (rows + 1) * columns), (0..rows, rows * columns + 1), (rows + 1..rows + 1, 0)];
    let backwards = (rows > 0).then_some((backwards, 0));
    for (range, len) in cases.into_iter().chain(backwards) {
        let answer = trial.calmly("read", || reader.read(range.clone(), &mut vec![0.0; len]))?;
        if answer.is_ok() {
            let found = format!("rows {range:?} of {rows} x {columns} are read into {len} values");
            return Err(trial.violation(found, "an error"));
        }
    }
    Ok(())
}

fn small(trial: &Trial<'_>, reader: &dyn RowReader, payload: u64) -> Result<(), Violation> {
    /// Tables of a codec, which do not depend on the tensor.
    const FIXED: u64 = 1 << 20;
    let spec = trial.sample.spec();
    let (resident, dense) = (reader.resident_bytes(), 4 * spec.elements() as u64);
    let most = dense.max(payload) + FIXED;
    if spec.elements() == 0 || (1..=most).contains(&resident) {
        return Ok(());
    }
    Err(trial.violation(format!("{resident} resident bytes"), format!("1 to {most}")))
}
