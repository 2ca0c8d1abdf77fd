//! The rule that selects the kept weights, as in the configuration.

use serde::{Deserialize, Serialize};

/// The weights to keep: a share of them, those above a threshold, or some of each group.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Rule {
    /// The `⌈density · n⌉` largest of the `n` weights in each scope.
    Density {
        /// Share of the weights to keep, above 0 and at most 1.
        density: f64,
        /// The set of weights that the share refers to.
        scope: Scope,
    },
    /// The weights with a magnitude above a threshold.
    Threshold {
        /// At least 0, finite.
        threshold: f64,
    },
    /// The largest of each group of neighbours in a row.
    Pattern {
        /// How many to keep of how many.
        pattern: Pattern,
    },
}

/// The set of weights that a density refers to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// The whole tensor, also if it is encoded in chunks.
    #[default]
    Tensor,
    /// Each row of the matrix view.
    Row,
}

/// The serialised keys of a rule, before they are checked.
#[derive(Debug, Default)]
pub(super) struct Keys {
    pub(super) density: Option<f64>,
    pub(super) scope: Option<Scope>,
    pub(super) threshold: Option<f64>,
    pub(super) pattern: Option<Pattern>,
}

impl TryFrom<Keys> for Rule {
    type Error = String;

    fn try_from(keys: Keys) -> Result<Self, String> {
        let rule = match (keys.density, keys.threshold, keys.pattern) {
            (Some(density), None, None) => {
                if !(density > 0.0 && density <= 1.0) {
                    return Err(format!("`density` is {density}: above 0 and at most 1 is wanted"));
                }
                return Ok(Self::Density { density, scope: keys.scope.unwrap_or_default() });
            }
            (None, Some(threshold), None) if threshold.is_finite() && threshold >= 0.0 => Self::Threshold { threshold },
            (None, Some(threshold), None) => {
                return Err(format!("`threshold` is {threshold}: a finite number from 0 up is wanted"));
            }
            (None, None, Some(pattern)) => Self::Pattern { pattern },
            _ => return Err("exactly one of `density`, `threshold` and `pattern` is wanted".to_owned()),
        };
        if keys.scope.is_some() {
            return Err("`scope` goes with `density` only".to_owned());
        }
        Ok(rule)
    }
}

/// At most `n` weights of each `m` neighbours, written `2of4`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Pattern {
    n: usize,
    m: usize,
}

impl Pattern {
    /// `n` of each `m`. `None` unless `n` is from 1 to `m`, and `m` from 2 to 16.
    pub const fn new(n: usize, m: usize) -> Option<Self> {
        if 1 <= n && n <= m && 2 <= m && m <= 16 { Some(Self { n, m }) } else { None }
    }

    /// Number of weights kept in a group.
    pub fn kept(self) -> usize {
        self.n
    }

    /// Number of weights in a group.
    pub fn group(self) -> usize {
        self.m
    }
}

impl TryFrom<String> for Pattern {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let numbers = text.split_once("of").and_then(|(n, m)| Some((n.parse().ok()?, m.parse().ok()?)));
        let pattern = numbers.and_then(|(n, m)| Self::new(n, m)).filter(|pattern| String::from(*pattern) == text);
        pattern.ok_or_else(|| format!("`pattern` is `{text}`: `NofM` is wanted, with M from 2 to 16 and N from 1 to M"))
    }
}

impl From<Pattern> for String {
    fn from(Pattern { n, m }: Pattern) -> Self {
        format!("{n}of{m}")
    }
}
