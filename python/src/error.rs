//! Errors of the crates as Python exceptions, with their messages.

use std::io::{self, ErrorKind};

use codec_api::{CodecError, FormatError, RegistryError, SpecError};
use pyo3::PyErr;
use pyo3::exceptions::{
    PyException, PyFileExistsError, PyFileNotFoundError, PyKeyError, PyMemoryError, PyOSError, PyPermissionError,
    PyValueError,
};

pyo3::create_exception!(
    netweight,
    NetweightError,
    PyException,
    "A file that is damaged or does not fit, or work that failed. The message names the file, the tensor and what to \
     do."
);

/// What is wrong with a call or its files.
#[derive(Debug)]
pub struct Error(PyErr);

/// The result of the work of a call.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// An argument with a wrong value.
    pub fn value(message: impl Into<String>) -> Self {
        Self(PyValueError::new_err(message.into()))
    }

    /// A target that is in the way.
    pub fn exists(message: impl Into<String>) -> Self {
        Self(PyFileExistsError::new_err(message.into()))
    }

    /// Every other failure.
    pub fn failed(message: impl Into<String>) -> Self {
        Self(NetweightError::new_err(message.into()))
    }

    /// An error of the operating system, with a message of ours.
    pub fn system(kind: ErrorKind, message: String) -> Self {
        Self(match kind {
            ErrorKind::NotFound => PyFileNotFoundError::new_err(message),
            ErrorKind::AlreadyExists => PyFileExistsError::new_err(message),
            ErrorKind::PermissionDenied => PyPermissionError::new_err(message),
            ErrorKind::OutOfMemory => PyMemoryError::new_err(message),
            _ => PyOSError::new_err(message),
        })
    }
}

impl From<Error> for PyErr {
    fn from(error: Error) -> Self {
        error.0
    }
}

impl From<PyErr> for Error {
    fn from(error: PyErr) -> Self {
        Self(error)
    }
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        Self::system(error.kind(), error.to_string())
    }
}

impl From<checkpoint::Error> for Error {
    fn from(error: checkpoint::Error) -> Self {
        use checkpoint::Error as E;
        let message = error.to_string();
        match error {
            E::NotFound { .. } | E::DanglingLink { .. } | E::NoModel { .. } | E::MissingShards { .. } => {
                Self::system(ErrorKind::NotFound, message)
            }
            E::Io { error, .. } | E::Write { error, .. } => Self::system(error.kind(), message),
            E::UnknownTensor { .. } => Self(PyKeyError::new_err(message)),
            E::Recipe { .. } | E::Level { .. } => Self::value(message),
            E::Chunk { error, .. } => match *error {
                CodecError::Usage(_) | CodecError::Unsupported(_) => Self::value(message),
                // An exception of a codec in Python keeps its type.
                CodecError::Codec(source) if source.is::<PyErr>() => CodecError::Codec(source).into(),
                _ => Self::failed(message),
            },
            _ => Self::failed(message),
        }
    }
}

impl From<CodecError> for Error {
    fn from(error: CodecError) -> Self {
        let message = error.to_string();
        match error {
            CodecError::Codec(source) => match source.downcast::<PyErr>() {
                Ok(exception) => Self(*exception),
                Err(_) => Self::failed(message),
            },
            CodecError::Corrupt { .. } | CodecError::MissingSection(_) | CodecError::Cancelled => Self::failed(message),
            _ => Self::value(message),
        }
    }
}

impl From<SpecError> for Error {
    fn from(error: SpecError) -> Self {
        Self::value(error.to_string())
    }
}

impl From<FormatError> for Error {
    fn from(error: FormatError) -> Self {
        Self::failed(error.to_string())
    }
}

impl From<RegistryError> for Error {
    fn from(error: RegistryError) -> Self {
        Self::failed(error.to_string())
    }
}

impl From<serde_json::Error> for Error {
    fn from(error: serde_json::Error) -> Self {
        Self::failed(error.to_string())
    }
}

impl From<harness::suite::SuiteError> for Error {
    fn from(error: harness::suite::SuiteError) -> Self {
        use harness::suite::SuiteError as E;
        match error {
            E::Checkpoint(error) => error.into(),
            E::Tensor { .. } | E::Calibration { .. } => Self::failed(error.to_string()),
            _ => Self::value(error.to_string()),
        }
    }
}

impl From<runtime::Error> for Error {
    fn from(error: runtime::Error) -> Self {
        match error {
            runtime::Error::Checkpoint(error) => error.into(),
            runtime::Error::Codec(error) => error.into(),
            runtime::Error::Usage(message) => Self::value(message),
            _ => Self::failed(error.to_string()),
        }
    }
}
