//! Tables as text for the terminal and for Markdown.

use std::fmt::Write;

use super::Summary;
use crate::matrix::{Row, Status};
use crate::text::Align::{self, Left, Right};
use crate::text::{self, printable, shape};

/// A table of text.
pub(crate) struct Grid {
    columns: Vec<(&'static str, Align)>,
    rows: Vec<Vec<String>>,
}

/// A column's title, its alignment, and what it shows of a `T`.
pub(crate) type Column<T> = (&'static str, Align, fn(&T) -> String);

/// The columns that fit a terminal of 80 columns.
const SHORT_SUMMARY: [Column<Summary>; 8] = [
    ("codec", Left, |s| short_codec(s.preset.as_deref(), &s.codec) + &calibrated(s.calibrated, s.ok)),
    ("bits/w", Right, |s| digits(s.bits_per_weight, 4)),
    ("ratio", Right, |s| digits(s.ratio, 3)),
    ("rel.\nerror", Right, |s| significant(s.relative_error, 3)),
    ("SNR\ndB", Right, |s| fixed(s.snr_db, 2)),
    ("enc\nMB/s", Right, |s| digits(s.encode_mb_per_s, 3)),
    ("dec\nMB/s", Right, |s| digits(s.decode_mb_per_s, 3)),
    ("covered", Right, |s| percent(s.coverage)),
];

/// The columns that fit a terminal of 80 columns.
const SHORT_CELLS: [Column<Row>; 7] = [
    ("tensor", Left, |r| r.tensor.clone()),
    ("codec", Left, |r| short_codec(r.preset.as_deref(), &r.codec) + &calibrated(r.calibrated.into(), 1)),
    ("bits/w", Right, |r| digits(r.bits_per_weight, 4)),
    ("rel.\nerror", Right, |r| significant(r.relative_error, 3)),
    ("enc\nMB/s", Right, |r| digits(r.encode_mb_per_s, 3)),
    ("dec\nMB/s", Right, |r| digits(r.decode_mb_per_s, 3)),
    ("status", Left, |r| if r.status == Status::Unsupported { "unsup.".to_owned() } else { r.status.to_string() }),
];

const SUMMARY: [Column<Summary>; 17] = [
    ("codec", Left, |s| codec(s.preset.as_deref(), &s.codec) + &calibrated(s.calibrated, s.ok)),
    ("bits/w", Right, |s| fixed(s.bits_per_weight, 3)),
    ("ratio", Right, |s| fixed(s.ratio, 2)),
    ("rel. error", Right, |s| significant(s.relative_error, 4)),
    ("max |err|", Right, |s| significant(s.max_abs_error, 4)),
    ("NMSE", Right, |s| significant(s.nmse, 4)),
    ("MSE", Right, |s| significant(s.mse, 4)),
    ("SNR dB", Right, |s| fixed(s.snr_db, 2)),
    ("Shannon gap", Right, |s| fixed(s.shannon_gap_bits, 3)),
    ("bytes", Right, |s| s.bytes.to_string()),
    ("+ header", Right, |s| s.header_bytes.to_string()),
    ("enc MB/s", Right, |s| speed(s.encode_mb_per_s)),
    ("dec MB/s", Right, |s| speed(s.decode_mb_per_s)),
    ("n", Right, |s| whole(s.timing_runs.map(u64::from))),
    ("scratch KiB", Right, |s| kibibytes(s.peak_scratch_bytes)),
    ("covered", Right, |s| percent(s.coverage)),
    ("ok/unsup./failed", Right, |s| format!("{}/{}/{}", s.ok, s.unsupported, s.failed)),
];

const CELLS: [Column<Row>; 18] = [
    ("tensor", Left, |r| r.tensor.clone()),
    ("stored as", Left, |r| format!("{} {}", r.dtype, shape(&r.shape))),
    ("codec", Left, |r| codec(r.preset.as_deref(), &r.codec) + &calibrated(r.calibrated.into(), 1)),
    ("bits/w", Right, |r| fixed(r.bits_per_weight, 3)),
    ("ratio", Right, |r| fixed(r.ratio, 2)),
    ("rel. error", Right, |r| significant(r.relative_error, 4)),
    ("max |err|", Right, |r| if r.exact == Some(true) { "exact".to_owned() } else { significant(r.max_abs_error, 4) }),
    ("NMSE", Right, |r| significant(r.nmse, 4)),
    ("MSE", Right, |r| significant(r.mse, 4)),
    ("SNR dB", Right, |r| fixed(r.snr_db, 2)),
    ("Shannon gap", Right, |r| fixed(r.shannon_gap_bits, 3)),
    ("bytes", Right, |r| whole(r.bytes)),
    ("+ header", Right, |r| whole(r.header_bytes)),
    ("enc MB/s", Right, |r| speed(r.encode_mb_per_s)),
    ("dec MB/s", Right, |r| speed(r.decode_mb_per_s)),
    ("n", Right, |r| whole(r.timing_runs.map(u64::from))),
    ("scratch KiB", Right, |r| kibibytes(r.peak_scratch_bytes)),
    ("status", Left, status),
];

pub(super) fn summary(summaries: &[Summary]) -> Grid {
    Grid::new(&SUMMARY, summaries)
}

pub(super) fn short_summary(summaries: &[Summary]) -> Grid {
    Grid::new(&SHORT_SUMMARY, summaries)
}

pub(super) fn cells(rows: &[Row]) -> Grid {
    Grid::new(&CELLS, rows)
}

pub(super) fn short_cells(rows: &[Row]) -> Grid {
    Grid::new(&SHORT_CELLS, rows)
}

impl Grid {
    pub(crate) fn new<T>(columns: &[Column<T>], items: &[T]) -> Self {
        let row = |item| columns.iter().map(|(.., show)| show(item)).collect();
        Self {
            columns: columns.iter().map(|(title, align, _)| (*title, *align)).collect(),
            rows: items.iter().map(row).collect(),
        }
    }

    /// Shortens names to fit into `width`, if there is one.
    pub(crate) fn terminal(&self, width: Option<usize>) -> String {
        text::table(&self.columns, &self.rows, width)
    }

    pub(crate) fn markdown(&self) -> String {
        let mut text = line(self.columns.iter().map(|(title, _)| *title));
        text += &line(self.columns.iter().map(|(_, align)| if *align == Right { "---:" } else { "---" }));
        text.extend(self.rows.iter().map(|row| line(row.iter().map(String::as_str))));
        text
    }
}

fn line<'a>(cells: impl Iterator<Item = &'a str>) -> String {
    let mut line = String::from("|");
    for cell in cells {
        let cell = printable(cell).replace('\\', "\\\\").replace('|', "\\|");
        let _ = write!(line, " {cell} |");
    }
    line + "\n"
}

const UNKNOWN: &str = "–";

fn or_unknown<T>(value: Option<T>, show: impl FnOnce(T) -> String) -> String {
    value.map_or_else(|| UNKNOWN.to_owned(), show)
}

pub(crate) fn fixed(value: Option<f64>, digits: usize) -> String {
    or_unknown(value, |v| format!("{v:.digits$}"))
}

/// So many significant digits, with an exponent where that is shorter: errors span many powers of
/// ten.
pub(crate) fn significant(value: Option<f64>, count: usize) -> String {
    or_unknown(value, |v| match v {
        0.0 => "0".to_owned(),
        v if (1e-3..1e4).contains(&v) => format!("{v:.*}", decimals(v, count)),
        v => format!("{v:.*e}", count - 1),
    })
}

/// So many digits, at least those before the point.
pub(crate) fn digits(value: Option<f64>, count: usize) -> String {
    or_unknown(value, |v| format!("{v:.*}", decimals(v.max(1.0), count)))
}

/// How many digits after the point make `count` significant ones.
fn decimals(value: f64, count: usize) -> usize {
    // The logarithm of a number just below a power of ten is rounded up to a whole number.
    (count as i32 - 1 - value.log10().floor() as i32).max(0) as usize
}

fn speed(value: Option<f64>) -> String {
    or_unknown(value, |v| if v < 100.0 { format!("{v:.1}") } else { format!("{v:.0}") })
}

pub(crate) fn whole(value: Option<u64>) -> String {
    or_unknown(value, |v| v.to_string())
}

fn kibibytes(bytes: Option<u64>) -> String {
    fixed(bytes.map(|bytes| bytes as f64 / 1024.0), 1)
}

pub(crate) fn percent(part: f64) -> String {
    format!("{:.1} %", 100.0 * part)
}

fn codec(preset: Option<&str>, spec: &str) -> String {
    let id = spec.split([':', '(']).next().unwrap_or(spec);
    preset.map_or_else(|| spec.to_owned(), |preset| format!("{id}:preset={preset}"))
}

/// Like [`codec`], but only the id for a codec without keys.
fn short_codec(preset: Option<&str>, spec: &str) -> String {
    codec(preset.filter(|_| spec.contains([':', '('])), spec)
}

/// Says behind a codec how many of its `ok` cells are calibrated; nothing if none is.
fn calibrated(cells: usize, ok: usize) -> String {
    match cells {
        0 => String::new(),
        _ if cells == ok => " (calibrated)".to_owned(),
        _ => format!(" ({cells} of {ok} calibrated)"),
    }
}

fn status(row: &Row) -> String {
    row.reason.as_ref().map_or_else(|| row.status.to_string(), |reason| format!("{}: {reason}", row.status))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_have_four_digits() {
        let shown = [0.0, 1e-9, 1e-3, 0.012_345_6, 9.9996, 123.456, 9_999.0, 9_999.999_999_999_998, 1e4, f64::NAN];
        let expected = ["0", "1.000e-9", "0.001000", "0.01235", "10.000", "123.5", "9999", "10000", "1.000e4", "NaN"];
        assert_eq!(shown.map(|v| significant(Some(v), 4)), expected);
        assert_eq!(significant(None, 4), UNKNOWN);
    }

    #[test]
    fn figures_have_three_digits() {
        let shown = [0.0, 0.004, 0.3333, 1.0, 7.699, 45.678, 999.4, 1234.5, 48_507.0];
        let expected = ["0.00", "0.00", "0.33", "1.00", "7.70", "45.7", "999", "1234", "48507"];
        assert_eq!(shown.map(|v| digits(Some(v), 3)), expected);
    }
}
