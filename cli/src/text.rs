//! Text for people and for programs.

use std::env;
use std::io::{self, Write};
use std::path::Path;

use serde::Serialize;
use terminal_size::{Width, terminal_size_of};

pub use harness::text::{Align, printable, shape, shorten_all, table, wrap};

/// The width that text on standard output has to fit: `COLUMNS`, or the terminal's width. `None` if
/// `COLUMNS` is not set and the output goes to a file or another program.
pub fn width() -> Option<usize> {
    let columns = env::var("COLUMNS").ok().and_then(|columns| columns.trim().parse().ok());
    let terminal = || terminal_size_of(io::stdout()).map(|(Width(width), _)| usize::from(width));
    columns.or_else(terminal).filter(|width| *width > 0)
}

/// A path as [`printable`] text.
pub fn path(path: &Path) -> String {
    printable(&path.display().to_string())
}

/// Writes indented JSON and a line end.
///
/// # Errors
/// The error of `out`.
pub fn write_json(out: &mut dyn Write, value: &impl Serialize) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, value)?;
    writeln!(out)
}

/// A number of bytes with a suitable unit: `1.04 MB`.
pub fn size(bytes: u64) -> String {
    let units = [(1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")];
    match units.into_iter().find(|(unit, _)| bytes as f64 >= *unit) {
        Some((unit, name)) => format!("{:.2} {name}", bytes as f64 / unit),
        None => format!("{bytes} B"),
    }
}

/// A number and its noun: `1 tensor`, `47 tensors`.
pub fn count(n: usize, noun: &str) -> String {
    format!("{n} {noun}{}", if n == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_their_unit() {
        assert_eq!(
            [0, 999, 1000, 1_040_128, 7_000_000_000].map(size),
            ["0 B", "999 B", "1.00 kB", "1.04 MB", "7.00 GB"]
        );
    }
}
