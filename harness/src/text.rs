//! Text for people: tables, shapes, and strings out of files made safe to print.

use std::collections::{BTreeMap, BTreeSet};

use comfy_table::{CellAlignment, ContentArrangement, LineStyle, Table, TableStyle};
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// A line under the titles, and nothing else between the figures.
const STYLE: TableStyle = TableStyle::new().header_separator(LineStyle::none().fill('─'));

/// Spaces between two columns.
const GAP: u16 = 2;

/// A column of names is not shortened below this many characters.
const SHORTEST: usize = 10;

/// Where a column's text stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Align {
    /// Names. [`table`] may shorten them.
    Left,
    /// Numbers.
    Right,
}

/// A table of [`printable`] cells below their columns' titles. A title may have several lines.
///
/// Without a `width` the table is as wide as its content. With one, the names in the widest
/// left-aligned columns are shortened in the middle until every line fits, but not below ten
/// characters. Numbers are never shortened.
pub fn table<R>(columns: &[(&str, Align)], rows: impl IntoIterator<Item = R>, width: Option<usize>) -> String
where
    R: IntoIterator,
    R::Item: AsRef<str>,
{
    let cells = |row: R| row.into_iter().map(|cell| printable(cell.as_ref())).collect();
    let mut rows: Vec<Vec<String>> = rows.into_iter().map(cells).collect();
    if let Some(width) = width {
        fit(columns, &mut rows, width);
    }
    let mut table = Table::new();
    table.load_style(STYLE).set_content_arrangement(ContentArrangement::Disabled);
    let height = columns.iter().map(|(title, _)| title.lines().count()).max().unwrap_or(0);
    table.set_header(columns.iter().map(|(title, _)| "\n".repeat(height - title.lines().count()) + title));
    table.add_rows(rows);
    for (i, (column, (_, align))) in table.column_iter_mut().zip(columns).enumerate() {
        column.set_padding((0, if i + 1 < columns.len() { GAP } else { 0 }));
        column.set_cell_alignment(match align {
            Align::Left => CellAlignment::Left,
            Align::Right => CellAlignment::Right,
        });
    }
    table.trim_fmt()
}

/// Shortens left-aligned cells until the table is at most `width` wide, the widest column first.
fn fit(columns: &[(&str, Align)], rows: &mut [Vec<String>], width: usize) {
    let titles = || columns.iter().map(|(title, _)| title.lines().map(UnicodeWidthStr::width).max().unwrap_or(0));
    let mut widths: Vec<usize> = titles().collect();
    for row in rows.iter() {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.width());
        }
    }
    let floors: Vec<usize> = titles().map(|title| title.max(SHORTEST)).collect();
    let gaps = usize::from(GAP) * columns.len().saturating_sub(1);
    for _ in width..widths.iter().sum::<usize>() + gaps {
        let can_shrink = |i: &usize| columns[*i].1 == Align::Left && widths[*i] > floors[*i];
        let Some(widest) = (0..columns.len()).filter(can_shrink).max_by_key(|i| widths[*i]) else { break };
        widths[widest] -= 1;
    }
    for (i, (_, align)) in columns.iter().enumerate() {
        if *align == Align::Left {
            let cells: Vec<&str> = rows.iter().map(|row| row.get(i).map_or("", String::as_str)).collect();
            let short = shorten_all(&cells, widths[i]);
            for (cell, short) in rows.iter_mut().filter_map(|row| row.get_mut(i)).zip(short) {
                *cell = short;
            }
        }
    }
}

/// Shortens each text to at most `width` terminal columns. Different texts stay different where
/// some cut shows the difference.
pub fn shorten_all(texts: &[&str], width: usize) -> Vec<String> {
    // Texts that look the same after the usual cut.
    let mut groups: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
    for text in texts {
        groups.entry(shorten(text, width)).or_default().insert(text);
    }
    let mut short: BTreeMap<&str, String> = BTreeMap::new();
    for (usual, group) in groups {
        let group: Vec<&str> = group.into_iter().collect();
        let cuts = if group.len() == 1 { vec![usual] } else { tell_apart(&group, width) };
        short.extend(group.into_iter().zip(cuts));
    }
    texts.iter().map(|text| short.get(text).cloned().unwrap_or_default()).collect()
}

/// Shortens a text to at most `width` terminal columns: `…` replaces its middle. The id of a codec
/// spec stays if there is room for it.
fn shorten(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    cut(text, usual_head(text, width), width)
}

/// How much of the text's start [`shorten`] keeps: a codec's id and the character behind it, or
/// half.
fn usual_head(text: &str, width: usize) -> usize {
    let id = text.find([':', '(']).map_or(width / 2, |end| text[..=end].width());
    id.min(width * 2 / 3)
}

/// The first `head` columns, `…`, and as much of the end as fits into `width`.
fn cut(text: &str, head: usize, width: usize) -> String {
    let head = start(text, head.min(width.saturating_sub(1)));
    format!("{head}…{}", end(text, width.saturating_sub(head.width() + 1)))
}

/// Cuts of one group of texts that share the usual cut: all at the same place, which is the one
/// nearest to the usual place among those that tell most of the texts apart.
fn tell_apart(group: &[&str], width: usize) -> Vec<String> {
    let usual = group.first().map_or(0, |text| usual_head(text, width));
    let mut heads: Vec<usize> = (0..width).collect();
    heads.sort_by_key(|head| head.abs_diff(usual));
    let same_place = heads.into_iter().map(|head| group.iter().map(|text| cut(text, head, width)).collect());
    // The difference may be too deep inside for both ends: then show the id and the difference.
    let common = group.iter().map(|text| common_start(group[0], text)).min().unwrap_or(0);
    let id = usual.min(width / 2);
    let window = |text: &&str| {
        let rest = end(text, text.width() - common);
        let shown = start(rest, width.saturating_sub(id + 2));
        let more = if shown.len() < rest.len() { "…" } else { "" };
        format!("{}…{shown}{more}", start(text, id))
    };
    let windows = std::iter::once(group.iter().map(window).collect());
    let distinct = |cuts: &Vec<String>| cuts.iter().collect::<BTreeSet<_>>().len();
    // `max_by_key` returns the last of equals: the usual place has to come last.
    let candidates: Vec<Vec<String>> = same_place.chain(windows).collect();
    candidates.into_iter().rev().max_by_key(distinct).unwrap_or_default()
}

/// The width of the longest common start of two texts.
fn common_start(a: &str, b: &str) -> usize {
    a.chars().zip(b.chars()).take_while(|(a, b)| a == b).map(|(c, _)| c.width().unwrap_or(0)).sum()
}

/// The longest start of a text that is at most `width` wide.
fn start(text: &str, width: usize) -> &str {
    let mut used = 0;
    let mut fits = |c: char| {
        used += c.width().unwrap_or(0);
        used <= width
    };
    let end = text.char_indices().find(|(_, c)| !fits(*c)).map_or(text.len(), |(at, _)| at);
    &text[..end]
}

/// The longest end of a text that is at most `width` wide.
fn end(text: &str, width: usize) -> &str {
    let mut used = 0;
    let mut fits = |c: char| {
        used += c.width().unwrap_or(0);
        used <= width
    };
    let start = text.char_indices().rev().take_while(|(_, c)| fits(*c)).last().map_or(text.len(), |(at, _)| at);
    &text[start..]
}

/// Breaks a line behind `separator`s into lines of at most `width` columns; all but the first are
/// indented. A part that is wider than that stays whole.
pub fn wrap(line: &str, separator: &str, width: usize) -> String {
    const INDENT: &str = "  ";
    let (mut lines, mut used) = (String::new(), 0);
    for (i, part) in line.split_inclusive(separator).enumerate() {
        // The space at the end of a line does not count.
        if i > 0 && used + part.trim_end().width() > width {
            lines.truncate(lines.trim_end().len());
            lines += "\n";
            lines += INDENT;
            used = INDENT.len();
        }
        lines += part;
        used += part.width();
    }
    lines
}

/// Makes a string out of a file safe to print on one line: characters that would move the cursor,
/// recolour the terminal or turn the direction of writing are shown as `\u{1b}`.
pub fn printable(text: &str) -> String {
    // Unicode does not count line separators and bidirectional controls as control characters.
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
    use super::Align::{Left, Right};
    use super::*;

    #[test]
    fn control_characters_are_shown_as_escapes() {
        assert_eq!(printable("a\u{1b}[2Jb\nc – d\u{9b}"), "a\\u{1b}[2Jb\\u{a}c – d\\u{9b}");
        assert_eq!(printable("gpj.\u{202e}exe\u{2028}"), "gpj.\\u{202e}exe\\u{2028}");
        assert_eq!(printable("layers.0.größe – 重み"), "layers.0.größe – 重み");
    }

    #[test]
    fn cells_cannot_leave_their_table() {
        let text = table(&[("name", Left), ("n", Right)], [["a\n\u{1b}[31m", "1"], ["b", "100"]], None);
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 4, "{text}");
        assert_eq!(lines[2], "a\\u{a}\\u{1b}[31m    1");
        assert_eq!(lines[3], "b                 100");
    }

    #[test]
    fn the_middle_of_a_long_name_is_left_out() {
        for (text, width, expected) in [
            ("quant.int:preset=int4", 21, "quant.int:preset=int4"),
            ("quant.int:preset=int4", 20, "quant.int:…eset=int4"),
            ("quant.int:bits=4:group=128:symmetric=false:clip=false", 24, "quant.int:…se:clip=false"),
            ("residual(lowrank.svd:rank=32,quant.int:bits=4)", 24, "residual(…nt.int:bits=4)"),
            ("model.layers.0.input_layernorm.weight", 20, "model.laye…rm.weight"),
            ("an.id.of.many.characters:a=1", 12, "an.id.of…a=1"),
            ("重み重み重み", 7, "重…重み"),
        ] {
            let short = shorten(text, width);
            assert_eq!(short, expected);
            assert!(short.width() <= width);
        }
    }

    #[test]
    fn different_names_stay_different() {
        let shortened = |names: &[&str], width| {
            let names = shorten_all(names, width);
            assert!(names.iter().all(|name| name.width() <= width), "{names:?}");
            names
        };
        // The end is the same, and the difference is at the start.
        let ends = shortened(&["quant.int:bits=4:group=128:clip=false", "quant.int:bits=3:group=128:clip=false"], 24);
        assert_eq!(ends, ["quant.int:bits=4…p=false", "quant.int:bits=3…p=false"]);
        // The difference is too far from both ends.
        let deep = ["a", "b"].map(|x| format!("chain(first.codec:key=value,{x}second.codec:key=value:other=value)"));
        let deep = shortened(&[&deep[0], &deep[1]], 20);
        assert_eq!(deep, ["chain(…asecond.code…", "chain(…bsecond.code…"]);
        // Equal names stay equal, short ones as they are.
        let equal = shortened(&["one.codec:with=a_long_value", "one.codec:with=a_long_value", "short"], 16);
        assert_eq!(equal, ["one.codec:…value", "one.codec:…value", "short"]);
    }

    #[test]
    fn a_table_fits_its_width() {
        let columns = [("tensor", Left), ("codec", Left), ("SNR\ndB", Right)];
        let rows = [["model.layers.0.weight", "quant.int:preset=int8-g32", "45.03"], ["b", "lossless.raw", "–"]];
        for width in 29..60 {
            let text = table(&columns, rows, Some(width));
            assert!(text.lines().all(|line| line.width() <= width), "{width}:\n{text}");
            assert!(text.contains("45.03"), "{text}");
        }
        assert_eq!(table(&columns, rows, Some(55)), table(&columns, rows, None));
        let lines = table(&columns, rows, Some(40));
        let lines: Vec<_> = lines.lines().collect();
        assert_eq!(
            lines[..2],
            ["                                     SNR", "tensor            codec               dB"]
        );
        assert_eq!(lines[3], "model.la….weight  quant.int:…-g32  45.03");
    }

    #[test]
    fn a_line_breaks_at_commas() {
        assert_eq!(wrap("suite gaussian, seed 0, load 0.5", ", ", 40), "suite gaussian, seed 0, load 0.5");
        assert_eq!(wrap("suite gaussian, seed 0, load 0.5", ", ", 23), "suite gaussian, seed 0,\n  load 0.5");
        assert_eq!(wrap("suite gaussian, seed 0", ", ", 5), "suite gaussian,\n  seed 0");
    }
}
