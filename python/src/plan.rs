//! The steps of a compression in several processes.

use std::path::PathBuf;
use std::sync::Arc;

use checkpoint::{Plan as Units, Ran};
use codec_api::Progress;
use pyo3::prelude::*;

use crate::error::Result;
use crate::guest::registry;
use crate::model::{Packing, make_plan};
use crate::work;

/// A plan: units that any process may encode, and their commit.
#[pyclass(frozen, module = "netweight._netweight")]
#[derive(Debug)]
pub struct Plan(Arc<Units>);

#[pymethods]
impl Plan {
    /// Plans to pack a model, and refuses a target that exists.
    #[staticmethod]
    fn make(py: Python<'_>, source: PathBuf, target: PathBuf, packing: Packing) -> Result<Self> {
        let (plan, _) = make_plan(py, source, target, packing, None)?;
        Ok(Self(Arc::new(plan)))
    }

    /// Reads a plan's file.
    #[staticmethod]
    fn load(path: PathBuf) -> Result<Self> {
        Ok(Self(Arc::new(Units::load(&path)?)))
    }

    /// Writes the plan's file.
    fn save(&self, path: PathBuf) -> Result<()> {
        Ok(self.0.save(&path)?)
    }

    /// Number of weights of each unit.
    fn weights(&self) -> Vec<u64> {
        (0..self.0.units()).map(|unit| self.0.size(&[unit]).0).collect()
    }

    /// The names of the tensors of a unit.
    fn names(&self, unit: usize) -> Vec<&str> {
        self.0.names(unit)
    }

    /// The files of the source that a unit reads; `None` if there are others, too.
    fn files(&self, unit: usize) -> Option<Vec<PathBuf>> {
        self.0.files(unit)
    }

    /// The file that a unit writes.
    fn part(&self, unit: usize) -> PathBuf {
        self.0.part_path(unit)
    }

    /// The units that have not run.
    fn missing(&self) -> Result<Vec<usize>> {
        Ok(self.0.missing_units()?)
    }

    /// Encodes a unit; whether it had not run before.
    fn run(&self, py: Python<'_>, unit: usize, threads: Option<usize>) -> Result<bool> {
        let (plan, registry) = (Arc::clone(&self.0), registry()?);
        work::in_pool(py, threads, None, move |state| Ok(plan.run_unit(unit, &registry, state)? == Ran::Encoded))
    }

    /// Puts the parts together; returns the packed file, or the index of several.
    fn commit(
        &self,
        py: Python<'_>,
        verify: bool,
        threads: Option<usize>,
        progress: Option<Py<PyAny>>,
    ) -> Result<PathBuf> {
        let (plan, registry) = (Arc::clone(&self.0), registry()?);
        work::in_pool(py, threads, progress.as_ref(), move |state| {
            let (weights, _) = plan.size(&(0..plan.units()).collect::<Vec<_>>());
            state.stage("check", weights);
            plan.commit(&registry, verify.then_some(state as &dyn Progress))?;
            Ok(plan.written())
        })
    }

    /// The folder of the parts, which exists while there are some.
    #[getter]
    fn parts(&self) -> PathBuf {
        self.0.parts()
    }
}
