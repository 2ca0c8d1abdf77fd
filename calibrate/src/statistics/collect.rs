//! Collects statistics layer by layer.

use std::path::Path;

use checkpoint::{AtomicFile, Checkpoint, Hash};
use runtime::Layered;

use super::About;
use super::file::assemble;
use super::folder::Folder;
use super::run::{Each, HEAD, Progress, Run, TABLES, gradients, inputs, part};
use super::sequences::{Protocol, Text, sequences};
use crate::error::Result;

/// What is run for statistics of a model.
///
/// All batches go through one layer before the next one is loaded. A folder beside the output keeps
/// what goes into each layer, for the way back. So memory holds one layer, its statistics, and the
/// activations of one batch in it.
#[derive(Debug)]
pub struct Collection<'a> {
    pub(super) model: &'a Layered<'a>,
    about: About,
    pub(super) protocol: Protocol,
    sequences: Vec<Vec<u32>>,
    held_out: Vec<Vec<u32>>,
}

/// A step, after which an interrupted collection can go on.
#[derive(Clone, Copy, Debug)]
pub(super) enum Step {
    Embed,
    Forward(usize),
    Head,
    Backward(usize),
    /// The embedding, the positions and the head.
    Tables,
    /// The file of all statistics.
    Write,
}

impl<'a> Collection<'a> {
    /// Chooses the sequences. `hash` is that of the model ([`checkpoint::Checkpoint::hash`]).
    ///
    /// # Errors
    /// [`crate::Error::Usage`] if the texts are too short, or the sequences too long for the model.
    pub fn new(model: &'a Layered<'a>, hash: &str, texts: &[Text], protocol: Protocol) -> Result<Self> {
        let [sequences, held_out] = sequences(model.config(), texts, protocol)?;
        let Protocol { context, seed, forward_only, .. } = protocol;
        let about = About { model: hash.to_owned(), context, seed, forward_only };
        Ok(Self { model, about, protocol, sequences, held_out })
    }

    /// The sequences that are run.
    pub fn sequences(&self) -> &[Vec<u32>] {
        &self.sequences
    }

    /// Number of the matrices that get statistics.
    pub fn matrices(&self) -> usize {
        let (_, positions, head) = self.model.tables();
        let layers = 0..self.model.config().layers;
        let of_layers: usize = layers.flat_map(|layer| self.model.sizes(layer)).map(|sizes| sizes.outputs.len()).sum();
        // Without gradients, only the head has any behind the layers.
        let tables =
            if self.protocol.forward_only { 0 } else { usize::from(head.is_some()) + usize::from(positions.is_some()) };
        of_layers + 1 + tables
    }

    /// Number of the tokens that are run.
    pub fn tokens(&self) -> usize {
        self.sequences.iter().map(Vec::len).sum()
    }

    /// Runs the model, sums up what its linear layers see, and writes the file of statistics
    /// ([`super::Statistics::open`]), whole or not at all.
    ///
    /// The working folder ([`super::folder()`]) is removed at the end. If an earlier run was
    /// interrupted, this one goes on after the last step that was done. `each` is told how much
    /// work is done, and of how much, at first and after each batch and step; an error of it ends
    /// the run.
    ///
    /// The result is the same with any number of threads, and with any interruptions. Its last bits
    /// may depend on the CPU, because the crate `faer` selects its instructions.
    ///
    /// # Errors
    /// [`crate::Error::File`] if a file cannot be written, or the folder belongs to something else;
    /// those of the model; those of `each`; [`crate::Error::Tensor`] for a curvature that is not
    /// finite.
    pub fn run(&self, output: &Path, each: &mut Each<'_>) -> Result<()> {
        let steps = self.steps();
        let mut folder = Folder::open(output, self.identity(), steps.len())?;
        let work = |steps: &[Step]| steps.iter().map(|step| self.work(*step)).sum::<u64>();
        let (before, after) = steps.split_at(folder.done());
        let mut progress = Progress { done: work(before), all: work(&steps), each };
        progress.add(0)?;
        before.iter().try_for_each(|step| folder.discard(&self.read_last_by(*step)))?;
        for (step, done) in after.iter().zip(before.len() + 1..) {
            match step {
                Step::Write => self.write(&folder, output)?,
                _ => Run { of: self, step: *step, folder: &folder, progress: &mut progress }.run()?,
            }
            folder.set_done(done)?;
            folder.discard(&self.read_last_by(*step))?;
            progress.add(0)?;
        }
        folder.remove()
    }

    fn write(&self, folder: &Folder, output: &Path) -> Result<()> {
        let parts = (0..self.model.config().layers).map(part).chain([TABLES.to_owned()]);
        let parts = parts.map(|name| Ok(Checkpoint::open(folder.file(&name))?)).collect::<Result<Vec<_>>>()?;
        // In the folder, because an interrupted run leaves nothing beside the output but it.
        let file = AtomicFile::create_in(folder.path(), output)?;
        assemble(file, &self.about, [&self.sequences, &self.held_out], &parts)
    }

    /// A hash of all that the statistics depend on.
    fn identity(&self) -> Hash {
        let Self { about, sequences, held_out, .. } = self;
        let (config, program) = (self.model.config(), env!("CARGO_PKG_VERSION"));
        Hash::of(format!("{program} {about:?} {config:?} {sequences:?} {held_out:?}").as_bytes())
    }

    fn steps(&self) -> Vec<Step> {
        let layers = self.model.config().layers;
        let back = if self.protocol.forward_only { 0 } else { layers };
        let forward = [Step::Embed].into_iter().chain((0..layers).map(Step::Forward)).chain([Step::Head]);
        forward.chain((0..back).rev().map(Step::Backward)).chain([Step::Tables, Step::Write]).collect()
    }

    /// The files that no step after this one reads.
    fn read_last_by(&self, step: Step) -> Vec<String> {
        match step {
            Step::Forward(layer) if self.protocol.forward_only => vec![inputs(layer)],
            Step::Embed | Step::Forward(_) | Step::Write => Vec::new(),
            Step::Head => vec![inputs(self.model.config().layers)],
            Step::Backward(layer) => vec![inputs(layer), gradients(layer + 1)],
            Step::Tables => vec![gradients(0), HEAD.to_owned()],
        }
    }
}
