//! Errors of building, evaluating and reading graphs.

use std::path::PathBuf;

use codec_api::CodecError;

/// The result of this crate's functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a node could not be built or evaluated, or a file not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operands do not fit the operation.
    #[error("`{operation}` of {operands}: {reason}")]
    Operands {
        /// The operation's name.
        operation: String,
        /// Number, dtype and shape of every operand.
        operands: String,
        /// What does not fit.
        reason: String,
    },
    /// A node was used with another graph than its own.
    #[error("a node of another graph was given; build all operands with the graph that uses them")]
    Foreign,
    /// A graph would be too large.
    #[error("a graph holds at most {} nodes; divide it among several graphs", u32::MAX)]
    TooManyNodes,
    /// A leaf that cannot be made or read.
    #[error("leaf {leaf}: {error}")]
    Leaf {
        /// What the leaf is.
        leaf: String,
        /// The reason.
        error: CodecError,
    },
    /// An operation failed.
    #[error("`{operation}`, node {node}: {error}")]
    Operation {
        /// The operation's name.
        operation: String,
        /// Its node.
        node: u32,
        /// The reason.
        error: CodecError,
    },
    /// A checkpoint could not be read.
    #[error(transparent)]
    Checkpoint(#[from] checkpoint::Error),
    /// A model of a leaf is not there, or lacks the tensor.
    #[error(
        "`{graph}` is computed of `{path}`, tensor `{tensor}`: {reason}; put that model there, or write the graph anew"
    )]
    Missing {
        /// The file of the graph.
        graph: PathBuf,
        /// The model.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// Why it cannot be read.
        reason: String,
    },
    /// A tensor is not the one that a graph was built with.
    #[error(
        "`{path}`, tensor `{tensor}`: {reason}; give the file that the graph was written with, or build the graph anew"
    )]
    Changed {
        /// The file or directory.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// What differs.
        reason: String,
    },
    /// Too many nodes for a picture.
    #[error("a picture of {nodes} nodes cannot be read; at most {most} are drawn: choose one output")]
    Picture {
        /// Nodes of the expressions.
        nodes: usize,
        /// Nodes that are drawn.
        most: usize,
    },
    /// The byte budget is too small.
    #[error("the evaluation needs at least {needed} bytes of memory, and {allowed} are allowed; allow more")]
    Memory {
        /// Bytes of results and of the smallest blocks.
        needed: u64,
        /// Bytes that are allowed.
        allowed: u64,
    },
    /// A file that is not a graph, or one that this version cannot read.
    #[error("`{path}` is not a readable graph: {reason}")]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong, and what to do.
        reason: String,
    },
    /// The caller has cancelled the evaluation.
    #[error("cancelled")]
    Cancelled,
}
