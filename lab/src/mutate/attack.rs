//! Decodes mutants, and measures what each decode takes.

use std::fmt;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;
use codec_api::{BaseTensor, Bytes, DecodeCx, EncodedTensor, Inputs, Product, Registry};
use serde::{Deserialize, Serialize};

use super::source::Source;

/// Longest time for one way to decode a mutant.
const SLOW: Duration = Duration::from_secs(1);

/// Most bytes of heap for a file below [`SMALL`] bytes.
const PEAK: u64 = 64 << 20;
const SMALL: usize = 64 << 10;

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
    decoded: bool,
    slowest: Duration,
    peak: u64,
    panic: Option<String>,
}

impl Taken {
    /// Why the mutant of `len` bytes failed.
    fn failure(&self, len: usize) -> Option<String> {
        let slow = (self.slowest > SLOW).then(|| format!("a decode took {:?}", self.slowest));
        let large = self.peak > PEAK && len < SMALL;
        let large = large.then(|| format!("a decode of {len} bytes held {} bytes of heap", self.peak));
        self.panic.clone().or(slow).or(large)
    }

    /// Runs one way to decode.
    fn run<E: fmt::Display>(&mut self, decode: impl FnOnce() -> Result<(), E>) {
        let begin = Instant::now();
        let (answer, peak) = heap::peak(|| catch_unwind(AssertUnwindSafe(|| decode().is_ok())));
        self.slowest = self.slowest.max(begin.elapsed());
        self.peak = self.peak.max(peak.unwrap_or(0));
        match answer {
            Ok(decoded) => self.decoded |= decoded,
            Err(panic) => {
                let text = panic.downcast_ref::<String>().cloned();
                let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
                self.panic = Some(format!("panicked: {}", text.unwrap_or_default()));
            }
        }
    }
}

/// Decodes mutants for some time, or up to the first failure. The number of each is in `journal`
/// before it is decoded.
pub fn attack(source: &Source<'_>, seed: u64, time: Duration, journal: &Path) -> Result<Report> {
    set_hook(Box::new(|_| ()));
    let (begin, journal, mut report) = (Instant::now(), File::create(journal)?, Report::default());
    while begin.elapsed() < time && report.failure.is_none() {
        journal.write_all_at(&report.mutants.to_le_bytes(), 0)?;
        let file = source.mutant(seed, report.mutants);
        let len = file.len();
        let taken = probe(&Bytes::from(file), source.registry, source.base(report.mutants));
        report.mutants += 1;
        report.decoded += u64::from(taken.decoded);
        report.slowest_ms = report.slowest_ms.max(1e3 * taken.slowest.as_secs_f64());
        report.peak = report.peak.max(taken.peak);
        report.failure = taken.failure(len);
    }
    Ok(report)
}

/// Reads a file and decodes it in every way, with the default limits.
pub fn probe(file: &Bytes, registry: &Registry, base: Option<BaseTensor<'_>>) -> Taken {
    let mut taken = Taken::default();
    let mut read = None;
    taken.run(|| EncodedTensor::from_bytes(file, registry).map(|encoded| read = Some(encoded)));
    // Reading alone is not decoding.
    taken.decoded = false;
    let Some(encoded) = read else { return taken };
    let cx = base.map_or_else(DecodeCx::new, |base| DecodeCx::new().with_base(base));
    taken.run(|| encoded.decode(&cx).map(drop));
    taken.run(|| encoded.decode_bytes(&cx).map(drop));
    taken.run(|| rows(&encoded, &cx));
    taken.run(|| product(&encoded, &cx));
    if encoded.codec.as_progressive().is_some() {
        taken.run(|| encoded.decode_level(0, &cx).map(drop));
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
    let Some(kernel) = encoded.codec.as_linear() else { return Ok(()) };
    let operator = kernel.prepare(&encoded.spec, encoded.payload.view(), cx)?;
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
        let directory = tempfile::tempdir().unwrap();
        for id in ["lossless", "sparse", "quant.int", "delta.exact", "hadamard"] {
            let source = Source::new(&registry, id).unwrap();
            assert_eq!(source.mutant(1, 77), source.mutant(1, 77));
            let report = attack(&source, 1, Duration::from_millis(300), &directory.path().join("mutant")).unwrap();
            assert_eq!(report.failure, None, "{id}: mutant {}", report.mutants - 1);
            assert!(report.decoded > 0 && report.decoded < report.mutants, "{id}: {report:?}");
        }
    }

    #[test]
    fn a_panic_a_slow_and_a_large_decode_are_failures() {
        let mut taken = Taken::default();
        taken.run(|| Ok::<(), fmt::Error>(()));
        assert!(taken.decoded && taken.failure(100).is_none());
        let slow = Taken { slowest: Duration::from_secs(2), ..Taken::default() };
        assert!(slow.failure(100).is_some_and(|text| text.contains("took 2s")));
        let large = Taken { peak: PEAK + 1, ..Taken::default() };
        assert!(large.failure(100).is_some() && large.failure(SMALL).is_none());
        let mut panics = Taken::default();
        let index = [1usize][0];
        panics
            .run(|| if [0; 1].get(index).is_none() { std::panic::panic_any("out of range") } else { Err(fmt::Error) });
        assert_eq!(panics.failure(100).unwrap(), "panicked: out of range");
    }
}
