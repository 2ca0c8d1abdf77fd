//! What can go wrong.

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of a measurement.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A model that cannot be read or run, or a text that does not fit it.
    #[error(transparent)]
    Runtime(#[from] runtime::Error),
    /// A file of a model.
    #[error(transparent)]
    Checkpoint(#[from] checkpoint::Error),
    /// Settings that cannot be, with what would be right.
    #[error("{0}")]
    Input(String),
}
