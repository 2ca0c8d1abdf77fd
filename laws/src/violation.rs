//! A violation: the law, the codec and the tensor.

use std::fmt;

use super::Subject;

/// One of the laws.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Law {
    /// The certificate states the errors of the decoded tensor; an exact codec restores every bit.
    Certificate,
    /// Payload and decoded values do not depend on threads, CPU or alignment.
    Determinism,
    /// The real size, scratch memory, work and error agree with the estimate.
    Cost,
    /// No payload makes a decoder panic or hang.
    Hostile,
    /// The configuration round-trips as text; unknown or invalid fields are refused.
    Header,
    /// Every accepted finite tensor is encoded; refusals have a reason; cancellation and progress
    /// work.
    Refusals,
    /// Each quality level decodes without the later ones and has no larger error than the level
    /// before.
    Progressive,
    /// The operator agrees with decode-then-multiply.
    Linear,
    /// The source file documents the format.
    Docs,
    /// Any range of rows has the bits of the whole tensor.
    Rows,
    /// Encoding column by column is the plain encode.
    Panels,
}

impl Law {
    /// All laws, in order.
    pub const ALL: [Self; 11] = [
        Self::Certificate,
        Self::Determinism,
        Self::Cost,
        Self::Hostile,
        Self::Header,
        Self::Refusals,
        Self::Progressive,
        Self::Linear,
        Self::Docs,
        Self::Rows,
        Self::Panels,
    ];

    /// Checks one configuration of one codec. A law about an optional trait holds if the codec
    /// lacks that trait.
    ///
    /// # Errors
    /// The first violation found.
    pub fn check(self, subject: &Subject) -> Result<(), Violation> {
        Self::check_all(&[self], subject)
    }

    /// Checks several laws. Certificate, cost and refusals share one encode per tensor, which cuts
    /// their time to a third.
    ///
    /// # Errors
    /// The first violation found.
    pub fn check_all(laws: &[Self], subject: &Subject) -> Result<(), Violation> {
        laws.iter().try_for_each(|law| match law {
            Self::Certificate => super::certificate::alone(subject),
            Self::Determinism => super::determinism(subject),
            Self::Cost => super::cost::alone(subject),
            Self::Hostile => super::hostile(subject),
            Self::Header => super::header(subject),
            Self::Refusals => super::refusals::alone(subject),
            Self::Progressive => super::progressive(subject),
            Self::Linear => super::linear(subject),
            Self::Docs => super::docs(subject),
            Self::Rows => super::rows(subject),
            Self::Panels => super::panels(subject),
        })?;
        super::encodes::everywhere(laws, subject)
    }
}

impl fmt::Display for Law {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({self:?})", *self as usize + 1)
    }
}

/// A law broken by a codec.
#[derive(Clone, Debug, thiserror::Error)]
#[error("law {law}, codec `{codec}` (preset `{preset}`), {subject}: {found}; wanted: {wanted}")]
#[non_exhaustive]
pub struct Violation {
    /// The law.
    pub law: Law,
    /// Full spec of the codec.
    pub codec: String,
    /// Name of the preset.
    pub preset: &'static str,
    /// The tensor, field or file that shows the violation.
    pub subject: String,
    /// What happened.
    pub found: String,
    /// The requirement of the law.
    pub wanted: String,
}
