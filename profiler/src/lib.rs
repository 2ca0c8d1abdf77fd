//! Measures variants of a language model: what [`planner`] decides from.
//!
//! - [`Subject`]: the dense model, the texts and the settings of a measurement; its
//!   [`Subject::profile`] gives the [`planner::Profile`] of a variant
//! - [`Quality`]: perplexity, KL divergence and top-1 agreement with intervals over windows
//! - [`Requests`]: loads a model and times requests; [`Timing`] is the result
//!
//! A process that has run other models has the memory of these. The peak of [`Timing`] is that of
//! the variant if a process of its own runs [`Requests::time`]; `netweight profile` starts one.

mod error;
mod interval;
mod quality;
mod requests;
mod subject;

pub use error::{Error, Result};
pub use quality::Quality;
pub use requests::{Requests, Timing};
pub use subject::{DENSE, Depth, Subject, Texts, bytes_on_disk, this_machine};
