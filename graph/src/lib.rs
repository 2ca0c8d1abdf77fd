//! Weights as expressions of other weights, evaluated lazily by blocks of rows.
//!
//! A [`Graph`] holds expressions of tensors: a fine-tune is *base + delta*, a LoRA is
//! *W + s·B·A*, a merge is *Σ wᵢ·Wᵢ*. Leaves are tensors of checkpoints ([`Source`]), dense or
//! packed, payloads of codecs, arrays in memory, and random numbers. Building a node checks dtypes
//! and shapes and computes nothing.
//!
//! An evaluation divides the expressions into steps. Nodes that one step alone uses are computed by
//! blocks of rows, which stay in the caches; the others are kept until their last use.
//!
//! ```
//! let graph = graph::Graph::new();
//! let a = graph.array([2, 2], vec![1.0, 2.0, 3.0, 4.0])?;
//! let b = graph.scale(graph.add(a, a)?, 0.5)?;
//! let product = graph.matmul(b, graph.transpose(a)?)?;
//! assert_eq!(graph.eval(product)?.values(), [5.0, 11.0, 11.0, 25.0]);
//! # Ok::<(), graph::Error>(())
//! ```
//!
//! An operation of another crate implements [`Operation`] and is registered by its typetag name.

mod build;
mod cache;
mod error;
mod evaluate;
mod file;
mod graph;
mod leaf;
mod model;
mod operation;
mod operations;
mod optimise;
mod picture;
mod plan;
mod reader;
mod run;
mod summary;
mod sync;

pub use cache::{Cache, Value};
pub use error::{Error, Result};
pub use evaluate::{Options, Statistics};
pub use graph::{Graph, Node};
pub use leaf::Source;
pub use operation::{Access, Block, Operand, Operands, Operation, Survey, rows_and_columns};
pub use optimise::Optimised;
pub use picture::Picture;
pub use summary::Summary;
