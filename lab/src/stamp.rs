//! The line at the top of a page: the command, the commit and the date of the measurement.

use std::path::Path;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

const SECONDS_PER_DAY: u64 = 86_400;

/// A sentence for the page that `cargo xtask COMMAND` prints.
pub fn stamp(root: &Path, command: &str) -> String {
    let days = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() / SECONDS_PER_DAY);
    format!("`cargo xtask {command}` printed this page on {}, at {}.", date(days), commit(root))
}

fn commit(root: &Path) -> String {
    let Some(hash) = git(root, &["rev-parse", "--short", "HEAD"]) else { return "an unknown commit".to_owned() };
    // The shell has emptied the page by now if the output goes to `docs/`.
    let changes = git(root, &["status", "--porcelain", "--untracked-files=no", "--", ".", ":!docs"]);
    let suffix = if changes.is_some_and(|list| list.is_empty()) { "" } else { " with local changes" };
    format!("commit {hash}{suffix}")
}

fn git(root: &Path, args: &[&str]) -> Option<String> {
    let output = Command::new("git").args(args).current_dir(root).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// ISO 8601 date in UTC, from the days since 1970-01-01.
///
/// Source: Hinnant, *chrono-compatible low-level date algorithms*, `civil_from_days`.
fn date(days: u64) -> String {
    // Days since 0000-03-01, in eras of 400 years. Years start in March, so leap days come last.
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = 400 * era + year_of_era + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_dates() {
        let dates = [0, 58, 59, 10_956, 11_016, 11_017, 20_783, 47_540, 47_541].map(date);
        let expected = ["1970-01-01", "1970-02-28", "1970-03-01", "1999-12-31", "2000-02-29", "2000-03-01"];
        assert_eq!(dates[..6], expected);
        assert_eq!(dates[6..], ["2026-11-26", "2100-02-28", "2100-03-01"]);
    }

    #[test]
    fn a_directory_outside_git_has_an_unknown_commit() {
        assert_eq!(commit(Path::new("/")), "an unknown commit");
    }
}
