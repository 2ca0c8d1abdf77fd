//! Decodes mutants, and measures what each decode takes.

use std::fmt;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;
use codec_api::{Bytes, DecodeCx, EncodedTensor, Inputs, Product, Registry};
use laws::{MAX_HEAP, SMALL_PAYLOAD};
use serde::{Deserialize, Serialize};

use super::source::Source;

/// Longest time for one way to decode a mutant.
const SLOW: Duration = Duration::from_secs(1);

/// Weights of the largest matrix that is multiplied with.
const MULTIPLIED: usize = 1 << 20;

/// What the mutants of one codec did.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Report {
    mutants: u64,
    /// Files that were read, and decoded to something.
    decoded: u64,
    slowest_ms: f64,
    peak: u64,
    /// Why the last mutant failed.
    pub failure: Option<String>,
}

impl Report {
    pub const HEADINGS: &str = "| codec | mutants | decoded | slowest, ms | peak heap, MiB |\n|---|---|---|---|---|\n";

    /// The row of a table.
    pub fn row(&self, id: &str) -> String {
        let (mutants, decoded, peak) = (self.mutants, self.decoded, self.peak as f64 / f64::from(1 << 20));
        format!("| `{id}` | {mutants} | {decoded} | {:.1} | {peak:.1} |\n", self.slowest_ms)
    }
}

/// What one mutant took.
#[derive(Debug, Default)]
pub struct Taken {
    /// Bytes of the file.
    len: usize,
    decoded: bool,
    slowest: Duration,
    peak: u64,
    panic: Option<String>,
}

impl Taken {
    /// Why the mutant failed.
    pub fn failure(&self) -> Option<String> {
        let slow = (self.slowest > SLOW).then(|| format!("a decode took {:?}", self.slowest));
        let large = self.peak > MAX_HEAP && (self.len as u64) < SMALL_PAYLOAD;
        let large = large.then(|| format!("a decode of {} bytes held {} bytes of heap", self.len, self.peak));
        self.panic.clone().or(slow).or(large)
    }

    /// Runs one way to decode.
    fn run<E: fmt::Display>(&mut self, decode: impl FnOnce() -> Result<(), E>) {
        let begin = Instant::now();
        let (answer, peak) = heap::peak(|| laws::catch(|| decode().is_ok()));
        self.slowest = self.slowest.max(begin.elapsed());
        self.peak = self.peak.max(peak.unwrap_or(0));
        match answer {
            Ok(decoded) => self.decoded |= decoded,
            Err(panic) => self.panic = Some(panic),
        }
    }
}

/// Decodes mutants for some time, or up to the first failure. The number of each is in `journal`
/// before it is decoded.
pub fn attack(source: &Source<'_>, seed: u64, time: Duration, journal: &Path) -> Result<Report> {
    let (begin, journal, mut report) = (Instant::now(), File::create(journal)?, Report::default());
    while begin.elapsed() < time && report.failure.is_none() {
        journal.write_all_at(&report.mutants.to_le_bytes(), 0)?;
        let taken = probe(source, seed, report.mutants)?;
        report.mutants += 1;
        report.decoded += u64::from(taken.decoded);
        report.slowest_ms = report.slowest_ms.max(1e3 * taken.slowest.as_secs_f64());
        report.peak = report.peak.max(taken.peak);
        report.failure = taken.failure();
    }
    Ok(report)
}

/// Decodes one mutant.
pub fn probe(source: &Source<'_>, seed: u64, index: u64) -> Result<Taken> {
    let (file, cx) = (Bytes::from(source.mutant(seed, index)), source.decode_cx(index)?);
    Ok(decode(&file, source.registry, &cx))
}

/// Reads a file and decodes it in every way.
fn decode(file: &Bytes, registry: &Registry, cx: &DecodeCx<'_>) -> Taken {
    let mut taken = Taken { len: file.len(), ..Taken::default() };
    let mut read = None;
    taken.run(|| EncodedTensor::from_bytes(file, registry).map(|encoded| read = Some(encoded)));
    // Reading alone is not decoding.
    taken.decoded = false;
    let Some(encoded) = read else { return taken };
    taken.run(|| encoded.decode(cx).map(drop));
    taken.run(|| encoded.decode_bytes(cx).map(drop));
    taken.run(|| rows(&encoded, cx));
    taken.run(|| product(&encoded, cx));
    if encoded.codec.as_progressive().is_some() {
        taken.run(|| encoded.decode_level(0, cx).map(drop));
    }
    taken
}

/// Reads the last rows.
fn rows(encoded: &EncodedTensor, cx: &DecodeCx<'_>) -> codec_api::Result<()> {
    let reader = encoded.open_rows(cx)?;
    let (rows, columns) = reader.shape();
    let first = rows.saturating_sub((MULTIPLIED / columns.max(1)).min(3));
    let mut out = codec_api::util::zeros((rows - first) * columns)?;
    reader.read(first..rows, &mut out)
}

/// Multiplies a small matrix with a vector, with the codec's own operator.
fn product(encoded: &EncodedTensor, cx: &DecodeCx<'_>) -> codec_api::Result<()> {
    let Some(operator) = encoded.own_operator(cx)? else { return Ok(()) };
    let (rows, columns) = operator.shape();
    if rows.saturating_mul(columns) > MULTIPLIED {
        return Ok(());
    }
    let x = vec![1.0; columns];
    operator.apply(Product::Forward, 0..rows, &Inputs::new(&x, 1)?, &mut vec![0.0; rows])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mutants_of_some_codecs_do_no_harm() {
        let registry = Registry::linked().unwrap();
        for id in ["lossless", "sparse", "quant.int", "delta.exact", "hadamard"] {
            let source = Source::new(&registry, id).unwrap();
            assert_eq!(source.mutant(1, 77), source.mutant(1, 77));
            let mut decoded = 0;
            for index in 0..400 {
                let taken = probe(&source, 1, index).unwrap();
                assert_eq!(taken.panic, None, "{id}: mutant {index}");
                assert!(taken.peak <= MAX_HEAP, "{id}: mutant {index} held {} bytes", taken.peak);
                decoded += u32::from(taken.decoded);
            }
            assert!((1..400).contains(&decoded), "{id}: {decoded} of 400 were decoded");
        }
    }

    #[test]
    fn an_attack_stops_at_its_end_and_writes_numbers() {
        let registry = Registry::linked().unwrap();
        let directory = tempfile::tempdir().unwrap();
        let journal = directory.path().join("mutant");
        let source = Source::new(&registry, "lossless.raw").unwrap();
        let report = attack(&source, 1, Duration::from_millis(20), &journal).unwrap();
        assert!(report.mutants > 0);
        let number = std::fs::read(&journal).unwrap();
        assert_eq!(number, (report.mutants - 1).to_le_bytes());
    }

    #[test]
    fn a_panic_a_slow_and_a_large_decode_are_failures() {
        let mut taken = Taken { len: 100, ..Taken::default() };
        taken.run(|| Ok::<(), fmt::Error>(()));
        assert!(taken.decoded && taken.failure().is_none());
        let slow = Taken { slowest: Duration::from_secs(2), ..Taken::default() };
        assert!(slow.failure().is_some_and(|text| text.contains("took 2s")));
        let large = |len| Taken { len, peak: MAX_HEAP + 1, ..Taken::default() };
        assert!(large(100).failure().is_some() && large(SMALL_PAYLOAD as usize).failure().is_none());
        let mut panics = Taken::default();
        panics.run(|| -> Result<(), fmt::Error> { std::panic::panic_any("out of range") });
        assert!(panics.failure().is_some_and(|text| text.starts_with("panicked: out of range")));
    }
}
