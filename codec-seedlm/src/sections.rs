//! Names of sections.

pub(crate) const CODES: &str = "codes";
pub(crate) const BIAS: &str = "bias";

/// Name of a level's section.
pub(crate) fn name(what: &str, level: usize) -> String {
    if level == 0 { what.to_owned() } else { format!("{what}_{level}") }
}
