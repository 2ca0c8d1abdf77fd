//! Whole models: packs, unpacks, verifies and compares them, as the commands of these names do.

use std::fs;
use std::path::{Path, PathBuf};

use checkpoint::contents::ChangedContents;
use checkpoint::{Checkpoint, Companions, Model, Obstacle, PackedTensor, Plan, Recipe};
use checkpoint::{Packed, diff as compare};
use codec_api::{Progress, Registry, TensorSpec};
use pyo3::prelude::*;

use crate::error::{Error, Result};
use crate::guest::registry;
use crate::work::{self, Work};

/// The end of the name of a dense file.
const DENSE: &str = ".safetensors";

/// What `compress` is asked for.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub struct Packing {
    recipe: String,
    codec: Option<String>,
    bases: Vec<PathBuf>,
    seed: u64,
    force: bool,
    verify: bool,
}

/// Plans to pack a model, and refuses what is in the way of the packed one.
pub fn make_plan(
    py: Python<'_>,
    source: PathBuf,
    target: PathBuf,
    packing: Packing,
    threads: Option<usize>,
) -> Result<(Plan, Packing)> {
    let (known, pool) = (registry()?, work::pool(threads)?);
    let place = target.clone();
    // A plan writes nothing, and its trials may take long.
    let (plan, packing) = work::apart(py, None, move |_| {
        let recipe = match &packing.codec {
            Some(codec) => Recipe::for_matrices(codec),
            None => Recipe::load(&packing.recipe)?,
        };
        let plan = || Plan::relative(&source, &target, &packing.bases, &recipe, packing.seed, &known);
        let plan = pool.install(plan)?;
        Ok((plan, packing))
    })?;
    refuse(if packing.force { None } else { plan.obstacle(&place)? })?;
    Ok((plan, packing))
}

/// Packs a model; returns the packed file, the index of several.
#[pyfunction]
pub fn compress(
    py: Python<'_>,
    source: PathBuf,
    target: PathBuf,
    packing: Packing,
    threads: Option<usize>,
    progress: Option<Py<PyAny>>,
) -> Result<PathBuf> {
    let registry = registry()?;
    let (plan, packing) = make_plan(py, source, target, packing, threads)?;
    work::in_pool(py, threads, progress.as_ref(), |state| {
        let (weights, _) = plan.size(&(0..plan.units()).collect::<Vec<_>>());
        state.stage("encode", weights);
        plan.run(&registry, state)?;
        if packing.verify {
            state.stage("check", weights);
        }
        plan.commit(&registry, packing.verify.then_some(state as &dyn Progress))?;
        Ok(())
    })?;
    Ok(plan.written())
}

/// Refuses what is in the way.
pub fn refuse(obstacle: Option<Obstacle>) -> Result<()> {
    obstacle.map_or(Ok(()), |obstacle| Err(Error::exists(obstacle.message("force=True"))))
}

/// Refuses a file that exists, and a directory that is not empty.
fn check_free(path: &Path, force: bool) -> Result<()> {
    refuse(if force { None } else { Obstacle::at(path)? })
}

fn weights<'a>(specs: impl Iterator<Item = &'a TensorSpec>) -> u64 {
    specs.map(|spec| spec.elements() as u64).sum()
}

/// Writes the dense model of a packed or computed one.
#[pyfunction]
pub fn decompress(
    py: Python<'_>,
    source: PathBuf,
    target: PathBuf,
    bases: Vec<PathBuf>,
    options: (Option<usize>, bool),
    threads: Option<usize>,
    progress: Option<Py<PyAny>>,
) -> Result<()> {
    let (registry, (level, force)) = (registry()?, options);
    work::in_pool(py, threads, progress.as_ref(), |state| {
        if Checkpoint::open(&source).is_ok_and(|model| model.is_computed()) {
            return compute(&source, &target, &bases, options, &registry, state);
        }
        let packed = Packed::open(&source, &registry)?.with_bases(&bases, &registry)?;
        packed.require_base()?;
        let packed = if let Some(level) = level { packed.at_level(level)? } else { packed };
        check_free(&target, force)?;
        state.stage("decode", weights(packed.tensors().map(|tensor| PackedTensor::spec(&tensor))));
        if is_file(&target) {
            return Ok(packed.unpack_single(&target, state)?);
        }
        let find = || Companions::find(&source, &target, &packed.paths());
        let companions = source.is_dir().then(find).transpose()?;
        packed.unpack(&target, state)?;
        Ok(companions.map_or(Ok(()), |companions| companions.copy())?)
    })
}

fn is_file(target: &Path) -> bool {
    target.to_str().is_some_and(|name| name.ends_with(DENSE))
}

fn compute(
    source: &Path,
    target: &Path,
    bases: &[PathBuf],
    (level, force): (Option<usize>, bool),
    registry: &Registry,
    state: &Work,
) -> Result<()> {
    if level.is_some() {
        return Err(Error::value(format!("`{}` is a model of expressions, which has no levels", source.display())));
    }
    let Model::Computed(model) = Model::open(source, bases, registry)? else {
        return Err(Error::failed(format!("`{}` is no model of expressions", source.display())));
    };
    check_free(target, force)?;
    state.stage("compute", weights(model.inner().tensors().iter().map(|(_, spec)| spec)));
    if is_file(target) {
        return Ok(model.write(target, state)?);
    }
    let find = || Companions::find(source, target, &[model.path().to_owned()]);
    let companions = source.is_dir().then(find).transpose()?;
    fs::create_dir_all(target)?;
    model.write(&target.join(model.path().file_name().unwrap_or_default()), state)?;
    Ok(companions.map_or(Ok(()), |companions| companions.copy())?)
}

/// The faults of a packed model, or of what a computed one is computed of.
#[pyfunction]
pub fn verify(
    py: Python<'_>,
    source: PathBuf,
    against: Option<PathBuf>,
    bases: Vec<PathBuf>,
    threads: Option<usize>,
    progress: Option<Py<PyAny>>,
) -> Result<Vec<String>> {
    let registry = registry()?;
    work::in_pool(py, threads, progress.as_ref(), |state| {
        let faults = match (Checkpoint::open(&source).is_ok_and(|model| model.is_computed()), &against) {
            (true, Some(_)) => {
                let shown = source.display();
                return Err(Error::value(format!("`{shown}` is a model of expressions; `diff` compares the values")));
            }
            (true, None) => match Model::open(&source, &bases, &registry)? {
                Model::Computed(model) => {
                    state.stage("verify", model.inner().size().0);
                    model.inner().verify(state)
                }
                _ => Vec::new(),
            },
            (false, _) => packed_faults(&source, against.as_deref(), &bases, &registry, state)?,
        };
        Ok(faults.iter().map(ToString::to_string).collect())
    })
}

fn packed_faults(
    source: &Path,
    against: Option<&Path>,
    bases: &[PathBuf],
    registry: &Registry,
    state: &Work,
) -> Result<Vec<checkpoint::Error>> {
    let packed = Packed::open(source, registry)?.with_bases(bases, registry)?;
    packed.require_base()?;
    state.stage("verify", weights(packed.stored_tensors().map(|tensor| PackedTensor::spec(&tensor))));
    let Some(other) = against else { return Ok(packed.verify(state)) };
    let mut faults = packed.verify_against(other, registry, state)?;
    if source.is_dir() && other.is_dir() {
        faults.extend(packed.verify_companions(other)?);
    }
    Ok(faults)
}

/// JSON: how the tensors of two models differ.
#[pyfunction]
pub fn diff(
    py: Python<'_>,
    first: PathBuf,
    second: PathBuf,
    bases: Vec<PathBuf>,
    threads: Option<usize>,
    progress: Option<Py<PyAny>>,
) -> Result<String> {
    let registry = registry()?;
    let open = |path: &Path| Model::open_one_of_two(path, &bases, &registry);
    work::in_pool(py, threads, progress.as_ref(), |state| {
        let [first, second] = [open(&first)?, open(&second)?];
        let specs =
            first.names().into_iter().map(|name| first.spec(name)).collect::<std::result::Result<Vec<_>, _>>()?;
        state.stage("compare", weights(specs.into_iter()));
        let found = compare(&first, &second, state)?;
        Ok(serde_json::to_string(&found.iter().map(ChangedContents::of).collect::<Vec<_>>())?)
    })
}
