//! Tables as text, the same for the terminal and for Markdown.

use std::fmt::Write;

use comfy_table::{CellAlignment, ContentArrangement, LineStyle, Table, TableStyle};

use super::Summary;
use crate::matrix::Row;

/// A line under the titles, and nothing else between the figures.
const STYLE: TableStyle = TableStyle::new().header_separator(LineStyle::none().fill('─'));

/// A table of text; a column is left- or right-aligned.
pub(super) struct Grid {
    columns: Vec<(&'static str, CellAlignment)>,
    rows: Vec<Vec<String>>,
}

/// A column's title, its alignment, and what it shows of a `T`.
type Column<T> = (&'static str, CellAlignment, fn(&T) -> String);

use CellAlignment::{Left, Right};

const SUMMARY: [Column<Summary>; 14] = [
    ("codec", Left, |s| codec(s.preset.as_deref(), &s.codec)),
    ("bits/w", Right, |s| fixed(s.bits_per_weight, 3)),
    ("ratio", Right, |s| fixed(s.ratio, 2)),
    ("rel. error", Right, |s| significant(s.relative_error)),
    ("error/bound", Right, |s| fixed(s.error_to_bound, 3)),
    ("NMSE", Right, |s| significant(s.nmse)),
    ("SNR dB", Right, |s| fixed(s.snr_db, 2)),
    ("Shannon gap", Right, |s| fixed(s.shannon_gap_bits, 3)),
    ("bytes", Right, |s| s.bytes.to_string()),
    ("enc MB/s", Right, |s| speed(s.encode_mb_per_s)),
    ("dec MB/s", Right, |s| speed(s.decode_mb_per_s)),
    ("n", Right, |s| whole(s.timing_runs.map(u64::from))),
    ("covered", Right, |s| percent(s.coverage)),
    ("ok/unsup./failed", Right, |s| format!("{}/{}/{}", s.ok, s.unsupported, s.failed)),
];

const CELLS: [Column<Row>; 17] = [
    ("tensor", Left, |r| r.tensor.clone()),
    ("stored as", Left, |r| format!("{} {}", r.dtype, shape(&r.shape))),
    ("codec", Left, |r| codec(r.preset.as_deref(), &r.codec)),
    ("bits/w", Right, |r| fixed(r.bits_per_weight, 3)),
    ("ratio", Right, |r| fixed(r.ratio, 2)),
    ("rel. error", Right, |r| significant(r.relative_error)),
    ("max |err|", Right, |r| significant(r.max_abs_error)),
    ("bound", Right, bound),
    ("NMSE", Right, |r| significant(r.nmse)),
    ("SNR dB", Right, |r| fixed(r.snr_db, 2)),
    ("Shannon gap", Right, |r| fixed(r.shannon_gap_bits, 3)),
    ("bytes", Right, |r| whole(r.bytes)),
    ("+ header", Right, |r| whole(r.header_bytes)),
    ("enc MB/s", Right, |r| speed(r.encode_mb_per_s)),
    ("dec MB/s", Right, |r| speed(r.decode_mb_per_s)),
    ("n", Right, |r| whole(r.timing_runs.map(u64::from))),
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
        let row = |item| columns.iter().map(|(.., show)| plain(&show(item))).collect();
        Self {
            columns: columns.iter().map(|(title, align, _)| (*title, *align)).collect(),
            rows: items.iter().map(row).collect(),
        }
    }

    /// As wide as its content: a terminal or a pager may cut lines, but no number is broken in two.
    pub(super) fn terminal(&self) -> String {
        let mut table = Table::new();
        table.load_style(STYLE).set_content_arrangement(ContentArrangement::Disabled);
        table.set_header(self.columns.iter().map(|(title, _)| *title)).add_rows(&self.rows);
        for (column, (_, align)) in table.column_iter_mut().zip(&self.columns) {
            column.set_cell_alignment(*align);
        }
        table.trim_fmt()
    }

    pub(super) fn markdown(&self) -> String {
        let mut text = line(self.columns.iter().map(|(title, _)| *title));
        text += &line(self.columns.iter().map(|(_, align)| if *align == Right { "---:" } else { "---" }));
        text.extend(self.rows.iter().map(|row| line(row.iter().map(String::as_str))));
        text
    }
}

/// Names come from files: what would move a terminal's cursor is replaced.
fn plain(text: &str) -> String {
    text.replace(char::is_control, "\u{fffd}")
}

fn line<'a>(cells: impl Iterator<Item = &'a str>) -> String {
    let mut line = String::from("|");
    for cell in cells {
        let cell = cell.replace('\\', "\\\\").replace('|', "\\|");
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
        v if (1e-3..1e4).contains(&v) => format!("{v:.*}", (3 - v.log10().floor() as i32) as usize),
        v => format!("{v:.3e}"),
    })
}

fn speed(value: Option<f64>) -> String {
    or_unknown(value, |v| if v < 100.0 { format!("{v:.1}") } else { format!("{v:.0}") })
}

fn whole(value: Option<u64>) -> String {
    or_unknown(value, |v| v.to_string())
}

fn percent(part: f64) -> String {
    format!("{:.1} %", 100.0 * part)
}

fn shape(shape: &[usize]) -> String {
    let axes: Vec<_> = shape.iter().map(usize::to_string).collect();
    if axes.is_empty() { "scalar".to_owned() } else { axes.join("x") }
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
