//! The extension module of the Python package `netweight`. The Python files beside it turn its raw
//! tensors (dtype, shape, bytes) into arrays; `python/netweight` documents the interface.
//!
//! Long work runs without the interpreter's lock, on another thread: the calling one looks for
//! Ctrl-C and shows progress meanwhile (`work`).

#![allow(clippy::needless_pass_by_value, reason = "functions for Python own their arguments")]

// The registry finds the codecs and the openers of computed models only in crates that are named.
use {codecs as _, graph as _, merge as _};

mod bench;
mod codecs_list;
mod encoded;
mod error;
mod file;
mod guest;
mod info;
mod language;
mod model;
mod plan;
mod raw;
mod work;

use pyo3::prelude::*;

#[global_allocator]
static HEAP: heap::Counting = heap::Counting;

#[pymodule]
fn _netweight(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = module.py();
    module.add("NetweightError", py.get_type::<error::NetweightError>())?;
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    module.add_class::<encoded::Encoded>()?;
    module.add_class::<file::File>()?;
    module.add_class::<plan::Plan>()?;
    module.add_class::<raw::Buffer>()?;
    module.add_function(wrap_pyfunction!(bench::bench, module)?)?;
    module.add_function(wrap_pyfunction!(codecs_list::list_codecs, module)?)?;
    module.add_function(wrap_pyfunction!(encoded::encode, module)?)?;
    module.add_function(wrap_pyfunction!(guest::register_codec, module)?)?;
    module.add_function(wrap_pyfunction!(info::info, module)?)?;
    module.add_function(wrap_pyfunction!(language::eval, module)?)?;
    module.add_function(wrap_pyfunction!(language::generate, module)?)?;
    module.add_function(wrap_pyfunction!(model::compress, module)?)?;
    module.add_function(wrap_pyfunction!(model::decompress, module)?)?;
    module.add_function(wrap_pyfunction!(model::diff, module)?)?;
    module.add_function(wrap_pyfunction!(model::verify, module)?)?;
    Ok(())
}
