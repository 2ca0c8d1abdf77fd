//! Measures codecs on tensors.

use bytes::Bytes;
use codec_api::Progress;
use harness::matrix::{self, Observer, Options, Row, columns_for};
use harness::suite::{Item, Suite, SuiteOptions};
use pyo3::prelude::*;

use crate::error::Result;
use crate::guest::registry;
use crate::raw::Given;
use crate::work::{self, Work};

/// Where the tensors are: a suite's name, or arrays by name.
#[derive(FromPyObject)]
pub enum Tensors<'py> {
    /// `model:PATH`, or a made-up suite.
    Suite(String),
    /// Name and tensor.
    Arrays(Vec<(String, Given<'py>)>),
}

/// JSON: a row for each tensor and codec; without codecs, for each preset of each codec.
#[pyfunction]
pub fn bench(
    py: Python<'_>,
    tensors: Tensors<'_>,
    codecs: Vec<String>,
    seed: u64,
    progress: Option<Py<PyAny>>,
) -> Result<String> {
    let registry = registry()?;
    let columns = columns_for(&registry, &codecs)?;
    let suite = suite(tensors, seed)?;
    let rows = work::apart(py, progress.as_ref(), move |state| {
        let cells = (suite.items.len() * columns.len()) as u64;
        state.stage("measure", cells);
        Ok(matrix::run(&suite, &columns, &Options::new(&registry).cancel(state.cancel()), &mut Cells(state)))
    })?;
    Ok(serde_json::to_string(&rows)?)
}

fn suite(tensors: Tensors<'_>, seed: u64) -> Result<Suite> {
    match tensors {
        Tensors::Suite(name) => Ok(Suite::parse(&name, &SuiteOptions { seed, ..SuiteOptions::default() })?),
        Tensors::Arrays(arrays) => {
            let item = |(name, array): &(String, Given<'_>)| {
                let view = array.view()?;
                Ok(Item::new(name, view.spec().clone(), Bytes::copy_from_slice(view.bytes())))
            };
            Ok(Suite::new("arrays", seed, arrays.iter().map(item).collect::<Result<_>>()?))
        }
    }
}

/// Each cell is a step.
struct Cells<'a>(&'a Work);

impl Observer for Cells<'_> {
    fn start(&mut self, _: usize) {}

    fn begin(&mut self, _: &str, _: &str) {}

    fn finish(&mut self, _: &Row) {
        self.0.tick(1);
    }
}
