//! Text for people: tables, shapes, and strings out of files made safe to print.

use comfy_table::{CellAlignment, ContentArrangement, LineStyle, Table, TableStyle};

/// A line under the titles, and nothing else between the figures.
const STYLE: TableStyle = TableStyle::new().header_separator(LineStyle::none().fill('─'));

/// Where a column's text stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Align {
    /// Names.
    Left,
    /// Numbers.
    Right,
}

/// A table of [`printable`] cells below their columns' titles. It is as wide as its content: a terminal or a pager
/// may cut lines, but no number is broken in two.
pub fn table<R>(columns: &[(&str, Align)], rows: impl IntoIterator<Item = R>) -> String
where
    R: IntoIterator,
    R::Item: AsRef<str>,
{
    let mut table = Table::new();
    table.load_style(STYLE).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(columns.iter().map(|(title, _)| *title));
    for row in rows {
        table.add_row(row.into_iter().map(|cell| printable(cell.as_ref())));
    }
    for (column, (_, align)) in table.column_iter_mut().zip(columns) {
        column.set_cell_alignment(match align {
            Align::Left => CellAlignment::Left,
            Align::Right => CellAlignment::Right,
        });
    }
    table.trim_fmt()
}

/// A string out of a file, made safe to print on one line: what would move the cursor, recolour the terminal or turn
/// the direction of writing is shown as `\u{1b}`.
pub fn printable(text: &str) -> String {
    // Line separators and bidirectional controls are no control characters to Unicode.
    let acts = |c: char| {
        c.is_control()
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{61c}')
    };
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if acts(c) { shown.extend(c.escape_unicode()) } else { shown.push(c) }
    }
    shown
}

/// A tensor's shape: `64x128`, or `scalar`.
pub fn shape(shape: &[usize]) -> String {
    if shape.is_empty() {
        return "scalar".to_owned();
    }
    shape.iter().map(usize::to_string).collect::<Vec<_>>().join("x")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_acts_on_a_terminal_is_shown_and_not_done() {
        assert_eq!(printable("a\u{1b}[2Jb\nc – d\u{9b}"), "a\\u{1b}[2Jb\\u{a}c – d\\u{9b}");
        assert_eq!(printable("gpj.\u{202e}exe\u{2028}"), "gpj.\\u{202e}exe\\u{2028}");
        assert_eq!(printable("layers.0.größe – 重み"), "layers.0.größe – 重み");
    }

    #[test]
    fn cells_cannot_leave_their_table() {
        let text = table(&[("name", Align::Left), ("n", Align::Right)], [["a\n\u{1b}[31m", "1"], ["b", "100"]]);
        let lines: Vec<_> = text.lines().map(str::trim_end).collect();
        assert_eq!(lines.len(), 4, "{text}");
        assert_eq!(lines[2], " a\\u{a}\\u{1b}[31m    1");
        assert_eq!(lines[3], " b                 100");
    }
}
