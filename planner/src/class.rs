//! Classes of requests, and the quality that each needs.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::error::share;
use crate::profile::Lengths;

/// How much a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Class {
    /// Fewer than 50 tokens.
    Simple,
    /// Fewer than 150 tokens.
    Moderate,
    /// Fewer than 1000 tokens.
    Complex,
    /// More.
    Extreme,
}

impl Class {
    /// All classes, in order.
    pub const ALL: [Self; 4] = [Self::Simple, Self::Moderate, Self::Complex, Self::Extreme];

    /// The class of a request with these predicted tokens.
    pub fn of(lengths: Lengths) -> Self {
        match lengths.total() {
            0..50 => Self::Simple,
            50..150 => Self::Moderate,
            150..1000 => Self::Complex,
            1000.. => Self::Extreme,
        }
    }

    /// The rule of an earlier system: words in place of tokens, and the most that the output may
    /// have in place of what it will have.
    pub fn by_words(prompt: &str, max_tokens: u64, context: u64) -> Self {
        let words = prompt.split_whitespace().count() as u64;
        let total = words.saturating_add(max_tokens).saturating_add(context);
        match total {
            _ if words <= 10 && max_tokens <= 20 => Self::Simple,
            0..50 if max_tokens < 30 => Self::Simple,
            0..150 => Self::Moderate,
            150..1000 => Self::Complex,
            1000.. => Self::Extreme,
        }
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Simple => "SIMPLE",
            Self::Moderate => "MODERATE",
            Self::Complex => "COMPLEX",
            Self::Extreme => "EXTREME",
        })
    }
}

/// The quality that each class needs: the table `[classes]` of a fleet file.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Classes {
    /// That of [`Class::Simple`].
    pub simple: f64,
    /// That of [`Class::Moderate`].
    pub moderate: f64,
    /// That of [`Class::Complex`].
    pub complex: f64,
    /// That of [`Class::Extreme`].
    pub extreme: f64,
}

impl Default for Classes {
    fn default() -> Self {
        Self { simple: 0.85, moderate: 0.85, complex: 0.90, extreme: 0.95 }
    }
}

impl Classes {
    /// The quality that a class needs.
    pub fn quality(&self, class: Class) -> f64 {
        match class {
            Class::Simple => self.simple,
            Class::Moderate => self.moderate,
            Class::Complex => self.complex,
            Class::Extreme => self.extreme,
        }
    }

    pub(crate) fn check(&self) -> Result<(), String> {
        Class::ALL.into_iter().try_for_each(|class| share(&class.to_string().to_lowercase(), self.quality(class)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boundaries_of_the_rule_by_words() {
        let ten = "a b c d e f g h i j";
        assert_eq!(Class::by_words(ten, 20, 5000), Class::Simple);
        assert_eq!(Class::by_words("a b c d e f g h i j k", 20, 18), Class::Simple);
        assert_eq!(Class::by_words("a b c d e f g h i j k", 20, 19), Class::Moderate);
        assert_eq!(Class::by_words(ten, 30, 0), Class::Moderate);
        assert_eq!(Class::by_words(ten, 139, 0), Class::Moderate);
        assert_eq!(Class::by_words(ten, 140, 0), Class::Complex);
        assert_eq!(Class::by_words(ten, 989, 0), Class::Complex);
        assert_eq!(Class::by_words(ten, 990, 0), Class::Extreme);
        assert_eq!(Class::by_words("", u64::MAX, u64::MAX), Class::Extreme);
    }

    #[test]
    fn boundaries_by_tokens() {
        let of = |prompt, output| Class::of(Lengths { prompt, output });
        assert_eq!(
            [of(0, 49), of(25, 25), of(49, 100), of(50, 100)],
            [Class::Simple, Class::Moderate, Class::Moderate, Class::Complex]
        );
        assert_eq!([of(499, 500), of(500, 500), of(u64::MAX, 1)], [Class::Complex, Class::Extreme, Class::Extreme]);
    }
}
