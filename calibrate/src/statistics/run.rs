//! The steps of a collection.

use runtime::{Batch, LayerPass, Layered};

use super::collect::{Collection, Step};
use super::folder::Folder;
use super::sequences::batches;
use super::sums::Sums;
use super::tables::{self, Embedded, Head};
use super::vectors::{Reader, Writer};
use crate::error::Result;

/// What is told how many multiplications are done, and of how many.
pub(super) type Each<'a> = dyn FnMut(u64, u64) -> Result<()> + 'a;

/// Says how far a collection is.
pub(super) struct Progress<'a> {
    pub(super) done: u64,
    pub(super) all: u64,
    pub(super) each: &'a mut Each<'a>,
}

impl Progress<'_> {
    pub(super) fn add(&mut self, work: u64) -> Result<()> {
        self.done += work;
        (self.each)(self.done, self.all)
    }
}

/// A step that runs.
pub(super) struct Run<'a, 'e> {
    pub(super) of: &'a Collection<'a>,
    pub(super) step: Step,
    pub(super) folder: &'a Folder,
    pub(super) progress: &'a mut Progress<'e>,
}

impl<'a> Run<'a, '_> {
    /// Runs the step. What it writes is on the disk at the end.
    pub(super) fn run(mut self) -> Result<()> {
        match self.step {
            Step::Embed => self.embed(),
            Step::Forward(number) => self.forward(number),
            Step::Head => self.head(),
            Step::Backward(number) => self.backward(number),
            Step::Tables => self.tables(),
            Step::Write => Ok(()),
        }
    }

    fn embed(&mut self) -> Result<()> {
        let (embedding, mut out) = (self.model().embedding()?, self.create(&inputs(0))?);
        self.each_batch(|batch, _| out.push(&embedding.run(batch)?))?;
        out.finish()
    }

    fn forward(&mut self, number: usize) -> Result<()> {
        let layer = self.model().layer(number)?;
        let (mut x, mut out) = (self.read(&inputs(number))?, self.create(&inputs(number + 1))?);
        let mut sums = self.of.protocol.forward_only.then(Sums::default);
        self.each_batch(|batch, values| {
            let observer = sums.as_mut().map(|sums| sums as _);
            out.push(&layer.forward(batch, &x.next(values)?, observer)?)
        })?;
        out.finish()?;
        sums.map_or(Ok(()), |sums| self.part(number, layer, &sums))
    }

    fn head(&mut self) -> Result<()> {
        let (model, protocol) = (self.model(), self.of.protocol);
        let layers = model.config().layers;
        let (head, mut x, mut sums) = (model.head()?, self.read(&inputs(layers))?, Sums::default());
        let labels = (!protocol.forward_only).then_some(protocol.seed);
        let mut out = labels.map(|_| self.create(&gradients(layers))).transpose()?;
        self.each_batch(|batch, values| {
            let g = head.run(batch, &x.next(values)?, labels, &mut sums)?;
            out.as_mut().map_or(Ok(()), |out| out.push(&g))
        })?;
        out.map_or(Ok(()), Writer::finish)?;
        let (embedding, _, own) = model.tables();
        Head::save(sums.inputs(&own.unwrap_or(embedding))?, &sums.variances, &self.folder.file(HEAD))
    }

    fn backward(&mut self, number: usize) -> Result<()> {
        let (layer, mut sums) = (self.model().layer(number)?, Sums::default());
        let (mut x, mut g) = (self.read(&inputs(number))?, self.read(&gradients(number + 1))?);
        let mut out = self.create(&gradients(number))?;
        self.each_batch(|batch, values| {
            out.push(&layer.backward(batch, &x.next(values)?, g.next(values)?, &mut sums)?)
        })?;
        out.finish()?;
        self.part(number, layer, &sums)
    }

    /// Writes the statistics of a layer, whose weights are not needed any more.
    fn part(&self, number: usize, layer: LayerPass<'_>, sums: &Sums) -> Result<()> {
        let (places, experts, tokens) = (layer.linears(), layer.experts(), self.of.tokens());
        drop(layer);
        let pool = sums.pool(number, &experts, tokens)?;
        sums.part(places, &pool, tokens)?.write(&self.folder.file(&part(number)))
    }

    fn tables(&mut self) -> Result<()> {
        let (model, width) = (self.model(), self.model().config().width);
        let mut embedded = None;
        if !self.of.protocol.forward_only {
            let (mut g, sums) = (self.read(&gradients(0))?, embedded.insert(Embedded::new(model)));
            self.each_batch(|batch, values| {
                sums.add(batch, &g.next(values)?, width);
                Ok(())
            })?;
        }
        let head = Head::open(&self.folder.file(HEAD), width)?;
        tables::save(model, head, embedded.as_ref(), self.of.sequences(), &self.folder.file(TABLES))
    }

    fn model(&self) -> &'a Layered<'a> {
        self.of.model
    }

    fn read(&self, name: &str) -> Result<Reader> {
        Reader::open(self.folder.file(name))
    }

    fn create(&self, name: &str) -> Result<Writer> {
        Writer::create(&self.folder.file(name))
    }

    /// Calls `of` with each batch and the number of values of its vectors.
    fn each_batch(&mut self, mut of: impl FnMut(&Batch<'_>, usize) -> Result<()>) -> Result<()> {
        let (work, all) = (self.of.work(self.step), self.of.tokens().max(1) as u64);
        let mut first = 0;
        for sequences in batches(self.of.sequences()) {
            let views: Vec<&[u32]> = sequences.iter().map(|ids| &**ids).collect();
            let batch = Batch { sequences: &views, first };
            of(&batch, batch.tokens() * self.of.model.config().width)?;
            first += sequences.len();
            self.progress.add(work / all * batch.tokens() as u64)?;
        }
        Ok(())
    }
}

/// What goes into a layer, or into the head.
pub(super) fn inputs(layer: usize) -> String {
    format!("inputs-{layer}")
}

/// Gradients at what goes into a layer, or into the head.
pub(super) fn gradients(layer: usize) -> String {
    format!("gradients-{layer}")
}

/// Statistics of a layer.
pub(super) fn part(layer: usize) -> String {
    format!("layer-{layer}.safetensors")
}

/// Those of the embedding, the positions and the head.
pub(super) const TABLES: &str = "tables.safetensors";

/// Sums at the head.
pub(super) const HEAD: &str = "head.safetensors";
