//! What every measurement needs: the source tree and the codecs.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use checkpoint::{Plan, Recipe};
use codec_api::{NoProgress, Registry};

/// Trained layers whose rows are whole blocks of every format, below the root.
pub const LAYERS: &str = "assets/gpt2_mini_layers";

/// A checkout of the workspace, and the codecs linked into this program.
#[derive(Debug)]
pub struct Lab {
    /// Root directory of the checkout.
    pub root: PathBuf,
    pub registry: Registry,
}

impl Lab {
    /// The checkout from which cargo runs this program.
    ///
    /// # Errors
    /// If cargo did not start the program, or two codecs have the same id.
    pub fn open() -> Result<Self> {
        // Read at run time: checkouts with a common target directory share the program's file.
        let manifest = std::env::var_os("CARGO_MANIFEST_DIR").context("run this as `cargo xtask …`")?;
        let root = Path::new(&manifest).parent().context("lab/ has no parent directory")?.to_owned();
        Ok(Self { root, registry: Registry::linked()? })
    }

    /// Packs a model as a file, relative to the first of `bases` if there is one, and checks it.
    ///
    /// # Errors
    /// Those of the plan, of its units and of the commit.
    pub fn pack(&self, model: &Path, target: &Path, bases: &[PathBuf], recipe: &Recipe) -> Result<()> {
        let plan = Plan::relative(model, target, bases, recipe, 0, &self.registry)?;
        plan.run(&self.registry, &NoProgress)?;
        Ok(plan.commit(&self.registry, Some(&NoProgress))?)
    }

    /// The suite of [`LAYERS`].
    pub fn layers(&self) -> String {
        format!("model:{}", self.root.join(LAYERS).display())
    }
}
