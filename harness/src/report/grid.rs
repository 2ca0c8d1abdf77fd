//! Tables as text, the same for the terminal and for Markdown.

use std::fmt::Write;

use super::Summary;
use crate::matrix::Row;
use crate::text::Align::{self, Left, Right};
use crate::text::{self, printable, shape};

/// A table of text; a column is left- or right-aligned.
pub(super) struct Grid {
    columns: Vec<(&'static str, Align)>,
    rows: Vec<Vec<String>>,
}

/// A column's title, its alignment, and what it shows of a `T`.
type Column<T> = (&'static str, Align, fn(&T) -> String);

const SUMMARY: [Column<Summary>; 16] = [
    ("codec", Left, |s| codec(s.preset.as_deref(), &s.codec)),
    ("bits/w", Right, |s| fixed(s.bits_per_weight, 3)),
    ("ratio", Right, |s| fixed(s.ratio, 2)),
    ("rel. error", Right, |s| significant(s.relative_error)),
    ("error/bound", Right, |s| fixed(s.error_to_bound, 3)),
    ("NMSE", Right, |s| significant(s.nmse)),
    ("MSE", Right, |s| significant(s.mse)),
    ("SNR dB", Right, |s| fixed(s.snr_db, 2)),
    ("Shannon gap", Right, |s| fixed(s.shannon_gap_bits, 3)),
    ("bytes", Right, |s| s.bytes.to_string()),
    ("enc MB/s", Right, |s| speed(s.encode_mb_per_s)),
    ("dec MB/s", Right, |s| speed(s.decode_mb_per_s)),
    ("n", Right, |s| whole(s.timing_runs.map(u64::from))),
    ("scratch KiB", Right, |s| kibibytes(s.peak_scratch_bytes)),
    ("covered", Right, |s| percent(s.coverage)),
    ("ok/unsup./failed", Right, |s| format!("{}/{}/{}", s.ok, s.unsupported, s.failed)),
];

const CELLS: [Column<Row>; 19] = [
    ("tensor", Left, |r| r.tensor.clone()),
    ("stored as", Left, |r| format!("{} {}", r.dtype, shape(&r.shape))),
    ("codec", Left, |r| codec(r.preset.as_deref(), &r.codec)),
    ("bits/w", Right, |r| fixed(r.bits_per_weight, 3)),
    ("ratio", Right, |r| fixed(r.ratio, 2)),
    ("rel. error", Right, |r| significant(r.relative_error)),
    ("max |err|", Right, |r| significant(r.max_abs_error)),
    ("bound", Right, bound),
    ("NMSE", Right, |r| significant(r.nmse)),
    ("MSE", Right, |r| significant(r.mse)),
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

pub(super) fn cells(rows: &[Row]) -> Grid {
    Grid::new(&CELLS, rows)
}

impl Grid {
    fn new<T>(columns: &[Column<T>], items: &[T]) -> Self {
        let row = |item| columns.iter().map(|(.., show)| show(item)).collect();
        Self {
            columns: columns.iter().map(|(title, align, _)| (*title, *align)).collect(),
            rows: items.iter().map(row).collect(),
        }
    }

    pub(super) fn terminal(&self) -> String {
        text::table(&self.columns, &self.rows)
    }

    pub(super) fn markdown(&self) -> String {
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

fn fixed(value: Option<f64>, digits: usize) -> String {
    or_unknown(value, |v| format!("{v:.digits$}"))
}

/// Errors span many powers of ten: four significant digits.
fn significant(value: Option<f64>) -> String {
    or_unknown(value, |v| match v {
        0.0 => "0".to_owned(),
        // The logarithm of a number just below 10⁴ is rounded to 4.
        v if (1e-3..1e4).contains(&v) => format!("{v:.*}", (3 - v.log10().floor() as i32).max(0) as usize),
        v => format!("{v:.3e}"),
    })
}

fn speed(value: Option<f64>) -> String {
    or_unknown(value, |v| if v < 100.0 { format!("{v:.1}") } else { format!("{v:.0}") })
}

fn whole(value: Option<u64>) -> String {
    or_unknown(value, |v| v.to_string())
}

fn kibibytes(bytes: Option<u64>) -> String {
    fixed(bytes.map(|bytes| bytes as f64 / 1024.0), 1)
}

fn percent(part: f64) -> String {
    format!("{:.1} %", 100.0 * part)
}

fn codec(preset: Option<&str>, spec: &str) -> String {
    let id = spec.split([':', '(']).next().unwrap_or(spec);
    preset.map_or_else(|| spec.to_owned(), |preset| format!("{id}:preset={preset}"))
}

fn bound(row: &Row) -> String {
    match (row.bound_kind.as_deref(), row.bound_value) {
        (Some("max_abs"), Some(value)) => format!("max {}", significant(Some(value))),
        (Some("rel_frobenius"), Some(value)) => format!("rel {}", significant(Some(value))),
        (Some(kind), _) => kind.to_owned(),
        (None, _) => UNKNOWN.to_owned(),
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
        let wanted = ["0", "1.000e-9", "0.001000", "0.01235", "10.000", "123.5", "9999", "10000", "1.000e4", "NaN"];
        assert_eq!(shown.map(|v| significant(Some(v))), wanted);
        assert_eq!(significant(None), UNKNOWN);
    }
}
