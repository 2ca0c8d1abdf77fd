//! Merges of models by recipe, streamed block by block in bounded memory, and LoRA adapters.
//!
//! The methods know no files: [`Method::prepare`] and [`Prepared::apply`] work on any [`Source`].

mod blocks;
mod error;
pub mod lora;
mod method;
#[cfg(feature = "graph")]
mod nodes;
mod plan;
mod recipe;
mod rng;
mod run;
mod select;
mod source;
mod vocabulary;

pub use blocks::Inputs;
pub use error::{Error, Result};
pub use method::{Method, Prepared, Sparsify, Task, TaskModel, Vectors};
#[cfg(feature = "graph")]
pub use nodes::{has_graph, write_graph};
pub use plan::{Input, Operation, OutputTensor, Plan, PlanOptions, dtype};
pub use recipe::{ModelReference, Recipe};
pub use rng::Draws;
pub use run::{Differing, Ran, RunOptions, differing, is_unfinished, run};
pub use source::{Source, Stored};
