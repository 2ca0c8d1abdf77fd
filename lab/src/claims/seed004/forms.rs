//! The two forms of a model, and its products alone.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use checkpoint::{Checkpoint, Model, PACKED_EXTENSION, Packed, Recipe};
use codec_api::util::transpose;
use codec_api::{DecodeCx, Dtype, Inputs, LinearOp, Product, TensorSpec, TensorView};
use harness::matrix::rss;
use runtime::{Decoder, Lengths, Options, Shape, Speed};

use super::PROTOCOL;
use crate::claims::language::threads;
use crate::lab::Lab;

/// The parts of a model by what they are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Linear,
    /// The embedding, which is also the head.
    Embedding,
    Positions,
    /// Norms and biases.
    Vector,
}

impl Kind {
    pub(super) fn of(name: &str, spec: &TensorSpec) -> Self {
        match name {
            _ if spec.shape().len() < 2 => Self::Vector,
            _ if name.ends_with("wte.weight") => Self::Embedding,
            _ if name.ends_with("wpe.weight") => Self::Positions,
            _ => Self::Linear,
        }
    }

    /// The product with matrices of this kind; `None` if they are only looked up.
    fn product(self) -> Option<Product> {
        match self {
            Self::Linear => Some(Product::Transposed),
            Self::Embedding => Some(Product::Forward),
            Self::Positions | Self::Vector => None,
        }
    }
}

/// The files of a shape in both forms.
#[derive(Debug)]
pub(super) struct Files {
    pub(super) dense: PathBuf,
    pub(super) packed: PathBuf,
}

impl Files {
    /// Writes a model with random weights, and packs it.
    ///
    /// # Errors
    /// For an unknown shape, and if files cannot be written.
    pub(super) fn write(lab: &Lab, shape: &str, folder: &Path) -> Result<Self> {
        let dense = folder.join("dense");
        Shape::named(shape).with_context(|| format!("no shape `{shape}`"))?.write(0, &dense)?;
        let place = folder.join("packed");
        std::fs::create_dir_all(&place)?;
        let packed = place.join(format!("model{PACKED_EXTENSION}"));
        let recipe = Recipe::built_in("int8").context("the recipe int8")?;
        lab.pack(&dense, &packed, &[], &recipe)?;
        std::fs::copy(dense.join("config.json"), place.join("config.json"))?;
        Ok(Self { dense, packed })
    }
}

/// A form of a model, ready to run.
#[derive(Debug)]
pub(super) struct Form {
    pub(super) decoder: Decoder,
    /// Bytes by which the memory of the process grew.
    pub(super) grown: Option<u64>,
    /// Seconds of each run of the protocol.
    pub(super) runs: Vec<f64>,
    /// Seconds of a token after the prompt, in each run.
    pub(super) tokens: Vec<f64>,
}

impl Form {
    /// # Errors
    /// If the model cannot be read.
    pub(super) fn open(lab: &Lab, path: &Path) -> Result<Self> {
        heap::trim();
        let before = rss();
        let decoder = Decoder::open(&Model::open(path, &[], &lab.registry)?, Options::new(threads()))?;
        // Mapped pages are in memory when they are read; loading needs memory beside the weights.
        runtime::measure(&decoder, Lengths { prompt: 1, tokens: 1 })?;
        heap::trim();
        let grown = rss().zip(before).map(|(after, before)| after.saturating_sub(before));
        Ok(Self { decoder, grown, runs: Vec::new(), tokens: Vec::new() })
    }

    /// Runs the protocol once more.
    ///
    /// # Errors
    /// Those of [`runtime::measure`].
    pub(super) fn run(&mut self) -> Result<()> {
        let Speed { prefill, decode, .. } = runtime::measure(&self.decoder, PROTOCOL)?;
        self.runs.push(PROTOCOL.prompt as f64 / prefill + PROTOCOL.tokens as f64 / decode);
        self.tokens.push(1.0 / decode);
        Ok(())
    }
}

/// The products of a token with the matrices of a kind, each matrix with its product.
pub(super) struct Products(Vec<(Product, Box<dyn LinearOp>)>);

impl Products {
    /// Those with dense matrices, whose outputs are rows, as the decoder keeps them.
    ///
    /// # Errors
    /// If the model cannot be read.
    pub(super) fn dense(path: &Path, kind: Kind) -> Result<Self> {
        let model = Checkpoint::open(path)?;
        let mut all = Vec::new();
        for name in model.names().filter(|name| model.spec(name).is_ok_and(|spec| Kind::of(name, spec) == kind)) {
            let view = model.tensor(name)?;
            let operator = if kind.product() == Some(Product::Transposed) {
                let (rows, columns) = view.spec().matrix();
                let mut turned = vec![0; view.bytes().len()];
                let words = view.bytes().as_chunks::<4>().0;
                transpose((rows, columns), words, turned.as_chunks_mut::<4>().0);
                let spec = TensorSpec::new(Dtype::F32, [columns, rows])?;
                runtime::dense_operator(&TensorView::new(spec, &turned)?)?
            } else {
                runtime::dense_operator(&view)?
            };
            all.push((Product::Forward, operator));
            model.release();
        }
        Ok(Self(all))
    }

    /// Those with packed matrices.
    ///
    /// # Errors
    /// If the model cannot be read.
    pub(super) fn packed(lab: &Lab, path: &Path, kind: Kind) -> Result<Self> {
        let model = Packed::open(path, &lab.registry)?;
        let Some(product) = kind.product() else { bail!("no product with {kind:?}") };
        let cx = DecodeCx::new().for_product(product);
        let tensors = model.tensors().filter(|tensor| Kind::of(tensor.name(), tensor.spec()) == kind);
        let operators = tensors.flat_map(|tensor| tensor.chunks().collect::<Vec<_>>());
        let all = operators.map(|chunk| Ok((product, runtime::operator(chunk.encoded(), &cx)?)));
        Ok(Self(all.collect::<Result<_>>()?))
    }

    /// Seconds of all products with a vector. Each thread computes its part of the outputs of every
    /// matrix, and none waits for another one.
    ///
    /// # Errors
    /// Those of the operators.
    pub(super) fn seconds(&self) -> Result<f64> {
        let threads = threads();
        let widest = self.0.iter().map(|(_, operator)| operator.shape()).map(|(rows, columns)| rows.max(columns)).max();
        let x = vec![0.5; widest.unwrap_or_default()];
        let multiply = |thread: usize| -> Result<()> {
            let mut y = vec![0.0; x.len()];
            for (product, operator) in &self.0 {
                let (inputs, outputs) = product.sides(operator.shape());
                // Sixteen outputs lie side by side.
                let part = |index: usize| (outputs * index / threads).next_multiple_of(64).min(outputs);
                let range = part(thread)..part(thread + 1);
                let y = &mut y[..range.len()];
                operator.apply_outputs(*product, range, &Inputs::new(&x[..inputs], 1)?, y)?;
            }
            Ok(())
        };
        let begin = Instant::now();
        std::thread::scope(|scope| {
            let others: Vec<_> = (1..threads).map(|thread| scope.spawn(move || multiply(thread))).collect();
            let own = multiply(0);
            others.into_iter().try_fold((), |(), other| other.join().unwrap_or_else(|_| bail!("a thread failed")))?;
            own
        })?;
        Ok(begin.elapsed().as_secs_f64())
    }
}
