//! Packs a model by a recipe, runs it, and compares it with the dense one.

use std::fs;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result};
use checkpoint::{Model, Packed, Plan, Recipe};
use codec_api::{Certificate, NoProgress, Registry};
use harness::matrix::Machine;
use harness::models::{DENSE, ModelRow};
use rayon::{ThreadPool, ThreadPoolBuilder};
use runtime::{Decoder, Evaluation, Protocol, Text, evaluate};
use tempfile::TempDir;

use super::progress::Progress;
use crate::args::Bench;
use crate::bench::{COMMIT, interrupt};
use crate::running::{self, Resident};

/// The dense model and the texts.
pub struct Subject<'a> {
    args: &'a Bench,
    registry: &'a Registry,
    path: &'a Path,
    model: &'a Model,
    dense: &'a Decoder,
    texts: &'a [Text],
    protocol: Protocol,
    progress: Progress,
    pool: ThreadPool,
}

/// A recipe's plan. The packed model is in a folder that goes with it.
pub struct Planned {
    name: String,
    plan: Plan,
    place: TempDir,
}

/// Sizes of a model, and its error.
#[derive(Default)]
struct Sizes {
    weights: u64,
    bytes: u64,
    file_bytes: u64,
    error: Option<f64>,
}

impl<'a> Subject<'a> {
    /// For so many recipes.
    ///
    /// # Errors
    /// If the protocol does not fit the model, or the system gives no threads.
    pub fn new(
        args: &'a Bench,
        registry: &'a Registry,
        (path, model, dense): (&'a Path, &'a Model, &'a Decoder),
        texts: &'a [Text],
        protocol: Protocol,
        recipes: usize,
    ) -> Result<Self> {
        let tokens = protocol.work(dense, texts)?;
        let progress = Progress::new(tokens * (recipes as u64 + 1));
        let threads = ThreadPoolBuilder::new().num_threads(dense.threads());
        let pool = threads.build().context("cannot start the threads")?;
        Ok(Self { args, registry, path, model, dense, texts, protocol, progress, pool })
    }

    /// Plans to pack the model by each recipe.
    ///
    /// # Errors
    /// With the name of the recipe.
    pub fn plan<'r>(&self, recipes: impl Iterator<Item = (&'r String, &'r Recipe)>) -> Result<Vec<Planned>> {
        let plan = |(name, recipe): (&String, &Recipe)| -> Result<Planned> {
            let place = tempfile::tempdir().context("cannot make a folder for packed models")?;
            let target = place.path().join("model.nw.safetensors");
            self.progress.begin(name);
            let (path, seed, registry) = (self.path, self.args.seed, self.registry);
            let plan = self.pool.install(|| Plan::new(path, target, recipe, seed, registry));
            Ok(Planned { name: name.clone(), plan: plan.with_context(|| of(name))?, place })
        };
        recipes.map(plan).collect()
    }

    /// Runs the dense model.
    ///
    /// # Errors
    /// Those of [`evaluate`].
    pub fn dense(&self) -> Result<ModelRow> {
        self.progress.begin(DENSE);
        let mut sizes = Sizes::default();
        if let Model::Dense(model) = self.model {
            for name in model.names() {
                let spec = model.spec(name)?;
                sizes.weights += spec.elements() as u64;
                sizes.bytes += spec.byte_len() as u64;
            }
            for file in model.files() {
                sizes.file_bytes += fs::metadata(file).with_context(|| file.display().to_string())?.len();
            }
        }
        let found = self.evaluate(self.dense, None)?;
        self.row((DENSE, None), &sizes, &found, self.dense)
    }

    /// Packs the model and runs it.
    ///
    /// # Errors
    /// If it cannot be packed or run, with the name of the recipe.
    pub fn packed(&self, planned: &Planned) -> Result<ModelRow> {
        self.progress.begin(&planned.name);
        self.pack_and_run(planned).with_context(|| of(&planned.name))
    }

    fn pack_and_run(&self, Planned { name, plan, place }: &Planned) -> Result<ModelRow> {
        let (begin, registry) = (Instant::now(), self.registry);
        self.pool.install(|| -> Result<()> {
            plan.run(registry, &NoProgress)?;
            interrupt::watch().check()?;
            Ok(plan.commit(registry, Some(&NoProgress))?)
        })?;
        let seconds = begin.elapsed().as_secs_f64();
        // The packed file is alone: the runtime wants the configuration beside it.
        running::copy_beside(self.model, place.path())?;
        let model = Model::open(plan.written(), &[], self.registry)?;
        let decoder = Decoder::open(&model, running::options(self.dense.threads(), Resident::Packed))?;
        let found = self.evaluate(&decoder, Some(self.dense))?;
        let Model::Packed(packed) = &model else { anyhow::bail!("the model is not packed") };
        self.row((name, Some(seconds)), &Sizes::of(packed), &found, &decoder)
    }

    fn evaluate(&self, decoder: &Decoder, reference: Option<&Decoder>) -> Result<Evaluation> {
        let cancel = interrupt::watch();
        Ok(evaluate(decoder, reference, self.texts, self.protocol, |tokens| {
            self.progress.add(tokens);
            Ok(cancel.check()?)
        })?)
    }

    fn row(
        &self,
        (recipe, pack_seconds): (&str, Option<f64>),
        sizes: &Sizes,
        found: &Evaluation,
        decoder: &Decoder,
    ) -> Result<ModelRow> {
        let (context, stride) = self.protocol.sizes(self.dense)?;
        let (options, machine, difference) = (&self.args.language, Machine::this(), found.difference.as_ref());
        let quantile = |i: usize| difference.map(|difference| difference.kl_quantiles[i]);
        let texts: Vec<_> = options.text.iter().map(|path| path.display().to_string()).collect();
        Ok(ModelRow {
            model: self.path.display().to_string(),
            text: texts.join(" "),
            recipe: recipe.to_owned(),
            context,
            stride,
            tokens: found.tokens,
            weights: sizes.weights,
            bytes: sizes.bytes,
            file_bytes: sizes.file_bytes,
            bits_per_weight: 8.0 * sizes.bytes as f64 / sizes.weights.max(1) as f64,
            relative_error: sizes.error,
            nll: found.nll,
            perplexity: found.perplexity(),
            bits_per_byte: found.bits_per_byte,
            perplexity_change: difference.map(|difference| difference.perplexity_change),
            perplexity_change_error: difference.map(|difference| difference.perplexity_change_error),
            kl: difference.map(|difference| difference.kl),
            kl_median: quantile(0),
            kl_99: quantile(1),
            kl_999: quantile(2),
            top1: difference.map(|difference| difference.top1),
            tokens_per_s: found.tokens_per_second(),
            resident_bytes: decoder.resident_bytes(),
            pack_seconds,
            threads: decoder.threads(),
            seed: self.args.seed,
            commit: COMMIT.map(str::to_owned),
            cpu: machine.cpu,
            simd: machine.simd,
            rustc: machine.rustc,
        })
    }
}

impl Sizes {
    fn of(packed: &Packed) -> Self {
        let mut sizes = Self { file_bytes: packed.file_bytes(), ..Self::default() };
        let mut error = Certificate::EMPTY;
        for tensor in packed.tensors() {
            sizes.weights += tensor.spec().elements() as u64;
            sizes.bytes += tensor.bytes();
            error.add(&tensor.certificate());
        }
        sizes.error = Some(error.rel_frobenius());
        sizes
    }
}

fn of(recipe: &str) -> String {
    format!("recipe `{recipe}`")
}
