//! One line per codec: its results on a whole suite.

use serde::Serialize;

use crate::matrix::errors::{finite, shannon_gap_bits, snr_db};
use crate::matrix::{Row, Status};

/// The results of a codec over all tensors of a run. Sizes, errors and speeds cover the `ok` cells;
/// `coverage` is their share of the suite. Unknown values are `None`.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Summary {
    /// The codec as spec text with all its keys.
    pub codec: String,
    /// The preset of this configuration.
    pub preset: Option<String>,
    /// Payload bytes.
    pub bytes: u64,
    /// All other bytes of the encoded files.
    pub header_bytes: u64,
    /// `8·bytes/weights`.
    pub bits_per_weight: Option<f64>,
    /// Stored dense bytes / `bytes`.
    pub ratio: Option<f64>,
    /// Σ‖w − ŵ‖²/Σ‖w‖², pooled over all weights. `None` also for rows read from a file: they do not
    /// contain ‖w‖².
    pub nmse: Option<f64>,
    /// Σ‖w − ŵ‖² per weight.
    pub mse: Option<f64>,
    /// `√nmse`.
    pub relative_error: Option<f64>,
    /// The largest error of a weight.
    pub max_abs_error: Option<f64>,
    /// `10·log₁₀(1/nmse)`.
    pub snr_db: Option<f64>,
    /// `bits_per_weight − ½·log₂(1/nmse)`: the distance to one Gaussian source with the pooled
    /// error.
    pub shannon_gap_bits: Option<f64>,
    /// Dense megabytes of all timed cells divided by the sum of their times.
    pub encode_mb_per_s: Option<f64>,
    /// The same for decoding.
    pub decode_mb_per_s: Option<f64>,
    /// Number of timed runs of the cell with the fewest.
    pub timing_runs: Option<u32>,
    /// Largest scratch memory of a cell.
    pub peak_scratch_bytes: Option<u64>,
    /// Weights of the `ok` cells.
    pub weights: u64,
    /// `weights` divided by all weights of the suite.
    pub coverage: f64,
    /// Number of `ok` cells.
    pub ok: usize,
    /// Number of `ok` cells whose codec got calibration.
    pub calibrated: usize,
    /// Number of cells whose tensor the codec does not support.
    pub unsupported: usize,
    /// Number of failed cells.
    pub failed: usize,
}

/// Summarises the rows of each codec, in the order of the codecs' first appearance.
pub fn summarise(rows: &[Row]) -> Vec<Summary> {
    let mut codecs: Vec<(&str, Option<&str>)> = Vec::new();
    for row in rows {
        let codec = (row.codec.as_str(), row.preset.as_deref());
        if !codecs.contains(&codec) {
            codecs.push(codec);
        }
    }
    let of = |(codec, preset)| {
        let cells = rows.iter().filter(|row| row.codec == codec && row.preset.as_deref() == preset);
        Summary::of(codec, preset, &cells.collect::<Vec<_>>())
    };
    codecs.into_iter().map(of).collect()
}

impl Summary {
    /// The headers in bits per weight. `bits_per_weight` does not include them.
    pub fn header_bits_per_weight(&self) -> Option<f64> {
        finite(8.0 * self.header_bytes as f64 / self.weights as f64)
    }

    fn of(codec: &str, preset: Option<&str>, cells: &[&Row]) -> Self {
        let with = |status| cells.iter().copied().filter(move |row| row.status == status);
        let ok: Vec<&Row> = with(Status::Ok).collect();
        let weights: u64 = ok.iter().map(|row| row.weights).sum();
        let total: u64 = cells.iter().map(|row| row.weights).sum();
        let dense: u64 = ok.iter().map(|row| row.dense_bytes()).sum();
        let bytes: u64 = ok.iter().filter_map(|row| row.bytes).sum();
        let bits_per_weight = finite(8.0 * bytes as f64 / weights as f64);
        let squared = pooled_squared_error(&ok);
        let nmse = squared.and_then(|squared| pooled_nmse(squared, &ok));
        Self {
            codec: codec.to_owned(),
            preset: preset.map(str::to_owned),
            bytes,
            header_bytes: ok.iter().filter_map(|row| row.header_bytes).sum(),
            bits_per_weight,
            ratio: finite(dense as f64 / bytes as f64).filter(|ratio| *ratio > 0.0),
            nmse,
            mse: squared.and_then(|squared| finite(squared / weights.max(1) as f64)),
            relative_error: nmse.map(f64::sqrt),
            max_abs_error: ok.iter().filter_map(|row| row.max_abs_error).reduce(f64::max),
            snr_db: nmse.and_then(snr_db),
            shannon_gap_bits: bits_per_weight
                .filter(|bits| *bits > 0.0)
                .zip(nmse)
                .and_then(|(bits, nmse)| shannon_gap_bits(bits, nmse)),
            encode_mb_per_s: pooled_speed(&ok, |row| row.encode_mb_per_s),
            decode_mb_per_s: pooled_speed(&ok, |row| row.decode_mb_per_s),
            timing_runs: ok.iter().filter_map(|row| row.timing_runs).min(),
            peak_scratch_bytes: ok.iter().filter_map(|row| row.peak_scratch_bytes).max(),
            weights,
            coverage: if total == 0 { 1.0 } else { weights as f64 / total as f64 },
            ok: ok.len(),
            calibrated: ok.iter().filter(|row| row.calibrated).count(),
            unsupported: with(Status::Unsupported).count(),
            failed: with(Status::Failed).count(),
        }
    }
}

/// Σ‖w − ŵ‖²; `None` without rows.
fn pooled_squared_error(rows: &[&Row]) -> Option<f64> {
    let squared = rows.iter().map(|row| squared_error(row)).sum::<Option<f64>>();
    squared.filter(|_| !rows.is_empty())
}

/// The NMSE over all rows. Without any error it does not need ‖w‖².
fn pooled_nmse(squared: f64, rows: &[&Row]) -> Option<f64> {
    if squared == 0.0 {
        return Some(0.0);
    }
    let energy = rows.iter().map(|row| row.energy).sum::<Option<f64>>()?;
    finite(squared / energy)
}

/// ‖w − ŵ‖², computed from the NMSE where it is known: an NMSE of 1 then pools to exactly 1.
fn squared_error(row: &Row) -> Option<f64> {
    let relative = row.nmse.zip(row.energy).map(|(nmse, energy)| nmse * energy);
    relative.filter(|squared| squared.is_finite()).or_else(|| Some(row.mse? * row.weights as f64))
}

fn pooled_speed(rows: &[&Row], speed: impl Fn(&Row) -> Option<f64>) -> Option<f64> {
    let timed = rows.iter().filter_map(|row| Some((row.dense_bytes() as f64 / 1e6, speed(row)?)));
    let (megabytes, seconds) = timed.fold((0.0, 0.0), |(mb, s), (size, speed)| (mb + size, s + size / speed));
    finite(megabytes / seconds)
}
