//! Merges of models by recipe, streamed block by block in bounded memory, and LoRA adapters.
//!
//! The methods know no files: [`Method::prepare`] and [`Prepared::apply`] work on any [`Source`].

mod blocks;
mod error;
mod method;
mod rng;
mod select;
mod source;

pub use blocks::Inputs;
pub use error::{Error, Result};
pub use method::{Method, Prepared, Sparsify, Task, TaskModel, Vectors};
pub use rng::Draws;
pub use source::{Source, Stored};
