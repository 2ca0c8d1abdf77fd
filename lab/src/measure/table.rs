//! Tables and numbers as Markdown.

use std::fmt::Write;

/// Longest line of a paragraph, in characters.
const WIDTH: usize = 100;

/// A table that grows row by row.
#[derive(Debug)]
pub struct Table(String);

impl Table {
    /// A table with these column titles and no rows.
    pub fn new<T: AsRef<str>>(titles: impl IntoIterator<Item = T>) -> Self {
        let head = line(titles);
        let rule = "|---".repeat(head.matches('|').count() - 1);
        Self(format!("{head}{rule}|\n"))
    }

    /// Adds a row.
    pub fn row<T: AsRef<str>>(&mut self, cells: impl IntoIterator<Item = T>) {
        self.0 += &line(cells);
    }

    /// Its Markdown.
    pub fn text(&self) -> &str {
        &self.0
    }

    /// Its Markdown, below a title and a paragraph.
    pub fn under(&self, title: &str, text: &str) -> String {
        format!("## {title}\n\n{}\n{}", paragraph(text), self.0)
    }
}

/// The words of a text on lines of at most [`WIDTH`] characters, with a line break at the end.
pub fn paragraph(text: &str) -> String {
    /// At the start of a line these would begin a list.
    const MARKERS: [&str; 4] = ["+", "-", "*", "1."];
    let mut lines: Vec<String> = Vec::new();
    let length = |text: &str| text.chars().count();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if MARKERS.contains(&word) || length(line) + 1 + length(word) <= WIDTH => {
                *line += " ";
                *line += word;
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines.join("\n") + "\n"
}

fn line<T: AsRef<str>>(cells: impl IntoIterator<Item = T>) -> String {
    let mut line = String::from("|");
    for cell in cells {
        // Writing to a string does not fail.
        let _ = write!(line, " {} |", cell.as_ref());
    }
    line + "\n"
}

/// A measured value with the seed's claim; says so if the value is worse.
pub fn beside(measured: &str, claim: &str, worse: bool) -> String {
    let verdict = if worse { "**worse** than the claim" } else { "claim" };
    format!("{measured} ({verdict} {claim})")
}

/// A compression ratio with the claimed one; it is worse if the rounded figures show it.
pub fn ratio_beside(measured: f64, claim: f64) -> String {
    beside(&ratio(measured), &format!("{claim:?}x"), measured + 0.005 < claim)
}

/// An error with the claimed one.
pub fn error_beside(measured: f64, claim: f64) -> String {
    beside(&significant(measured), &claim.to_string(), measured > claim)
}

/// A compression ratio.
pub fn ratio(value: f64) -> String {
    format!("{value:.2}x")
}

/// Three significant digits, or all digits before the point if there are more.
pub fn significant(value: f64) -> String {
    // Round first: 9.996 has as many digits before the point as 10.0.
    let scientific = format!("{value:.2e}");
    let exponent = scientific.split_once('e').and_then(|(_, exponent)| exponent.parse::<i32>().ok());
    match exponent {
        _ if value == 0.0 => "0".to_owned(),
        Some(exponent @ -3..) => format!("{value:.*}", (2 - exponent).max(0) as usize),
        _ => scientific,
    }
}

/// Three significant digits with K, M or G for the thousands.
pub fn thousands(value: f64) -> String {
    // Round first: 999,600 is 1.00M.
    let rounded = format!("{value:.2e}").parse().unwrap_or(value);
    let steps = [(1e9, "G"), (1e6, "M"), (1e3, "K")];
    let step = steps.into_iter().find(|(step, _)| rounded >= *step);
    step.map_or_else(|| significant(value), |(step, letter)| significant(rounded / step) + letter)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_markdown() {
        let mut table = Table::new(["Layer", "Ratio"]);
        table.row(["a".to_owned(), ratio(4.0)]);
        assert_eq!(table.under("T", "text"), "## T\n\ntext\n\n| Layer | Ratio |\n|---|---|\n| a | 4.00x |\n");
    }

    #[test]
    fn paragraphs_are_wrapped_without_making_lists() {
        let word = "é".repeat(49);
        assert_eq!(paragraph(&format!("{word}\n  {word} + b")), format!("{word} {word} +\nb\n"));
        assert_eq!(paragraph(&format!("{word} {word} {word}")), format!("{word} {word}\n{word}\n"));
    }

    #[test]
    fn a_worse_value_is_marked() {
        assert_eq!(ratio_beside(19.98, 8.0), "19.98x (claim 8.0x)");
        assert_eq!(ratio_beside(3.99999, 4.0), "4.00x (claim 4.0x)");
        assert_eq!(ratio_beside(7.5, 8.0), "7.50x (**worse** than the claim 8.0x)");
        assert_eq!(error_beside(0.5131, 0.234), "0.513 (**worse** than the claim 0.234)");
        assert_eq!(error_beside(0.113, 0.845), "0.113 (claim 0.845)");
    }

    #[test]
    fn numbers_have_three_digits() {
        let shown = [0.0, 0.000_269, 0.0164, 0.5, 1.234, 18.06, 567_434.0].map(significant);
        assert_eq!(shown, ["0", "2.69e-4", "0.0164", "0.500", "1.23", "18.1", "567434"]);
        assert_eq!([12.0, 4200.0, 1_050_000.0, 1.7e9].map(thousands), ["12.0", "4.20K", "1.05M", "1.70G"]);
    }

    #[test]
    fn numbers_that_round_to_a_power_of_ten_have_three_digits_too() {
        let shown = [0.000_999_6, 0.009_996, 9.996, 99.96, 999.6].map(significant);
        assert_eq!(shown, ["0.00100", "0.0100", "10.0", "100", "1000"]);
        assert_eq!([999.6, 9996.0, 999_600.0, 999_600_000.0].map(thousands), ["1.00K", "10.0K", "1.00M", "1.00G"]);
    }
}
