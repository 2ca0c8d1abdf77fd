//! Models for tests.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use checkpoint::{Model, Plan, Recipe};
use codec_api::{NoProgress, Registry};
use codecs as _;
use runtime::{CacheType, Decoder, Options};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde_json::Value;
use tempfile::TempDir;

pub(crate) const MODELS: [&str; 11] = [
    "gpt2",
    "llama",
    "llama-linear-rope",
    "llama-tied-bias",
    "llama-yarn",
    "llama3-rope",
    "mistral-window",
    "mixtral",
    "qwen2",
    "qwen3",
    "qwen3-moe",
];

/// Dtype, shape and bytes of each tensor.
pub(crate) type Tensors = BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)>;

/// A folder with one of the tiny models.
pub(crate) struct Tiny(TempDir);

impl Tiny {
    pub(crate) fn new(name: &str) -> Self {
        let (place, models) =
            (tempfile::tempdir().unwrap(), Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/models"));
        let weights = models.join(name).join("model.safetensors");
        let weights = if weights.exists() { weights } else { models.join("llama/model.safetensors") };
        fs::copy(weights, place.path().join("model.safetensors")).unwrap();
        fs::copy(models.join(name).join("config.json"), place.path().join("config.json")).unwrap();
        Self(place)
    }

    /// A copy of the model in this folder.
    pub(crate) fn at(folder: &Path) -> Self {
        let place = tempfile::tempdir().unwrap();
        for file in ["model.safetensors", "config.json"] {
            fs::copy(folder.join(file), place.path().join(file)).unwrap();
        }
        Self(place)
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.0.path().to_owned()
    }

    pub(crate) fn decoder(&self, threads: usize) -> runtime::Result<Decoder> {
        open(&self.path(), Options::new(threads))
    }

    /// Changes the configuration.
    pub(crate) fn configure(&self, change: impl FnOnce(&mut Value)) {
        let path = self.path().join("config.json");
        let mut config = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        change(&mut config);
        fs::write(path, config.to_string()).unwrap();
    }

    /// Writes the weights again, after a change.
    pub(crate) fn rewrite(&self, change: impl FnOnce(&mut Tensors)) {
        let path = self.path().join("model.safetensors");
        let bytes = fs::read(&path).unwrap();
        let mut tensors = Tensors::new();
        for (name, view) in SafeTensors::deserialize(&bytes).unwrap().tensors() {
            tensors.insert(name, (view.dtype(), view.shape().to_vec(), view.data().to_vec()));
        }
        change(&mut tensors);
        let views = tensors
            .iter()
            .map(|(name, (dtype, shape, data))| (name, TensorView::new(*dtype, shape.clone(), data).unwrap()));
        let bytes = safetensors::serialize(views, None).unwrap();
        // A new file: the old one may be mapped.
        fs::remove_file(&path).unwrap();
        fs::write(path, bytes).unwrap();
    }

    /// Rounds all weights to a dtype of 16 bits.
    pub(crate) fn narrow(&self, dtype: Dtype) {
        self.rewrite(|tensors| {
            for tensor in tensors.values_mut() {
                let values: &[f32] = &bytemuck::pod_collect_to_vec(&tensor.2);
                let mut narrow = vec![0; values.len() * 2];
                codec_api::util::narrow(dtype, values, &mut narrow).unwrap();
                (tensor.0, tensor.2) = (dtype, narrow);
            }
        });
    }

    /// Packs the model, with this codec for all matrices.
    pub(crate) fn pack(&self, codec: &str) -> Tiny {
        let (place, registry) = (tempfile::tempdir().unwrap(), Registry::linked().unwrap());
        let target = place.path().join("model.nw.safetensors");
        let recipe = Recipe::for_matrices(codec);
        let plan = Plan::new(self.path(), &target, &recipe, 0, &registry).unwrap();
        plan.run(&registry, &NoProgress).unwrap();
        plan.commit(&registry, None).unwrap();
        fs::copy(self.path().join("config.json"), place.path().join("config.json")).unwrap();
        Self(place)
    }
}

pub(crate) fn open(path: &Path, options: Options) -> runtime::Result<Decoder> {
    let model = Model::open(path, &[], &Registry::linked().unwrap()).map_err(runtime::Error::from)?;
    Decoder::open(&model, options)
}

/// The tokens and the logits of transformers.
pub(crate) fn reference(name: &str) -> (Vec<u32>, Vec<Vec<f32>>) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/models").join(name).join("logits.json");
    let json: Value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    (serde_json::from_value(json["ids"].clone()).unwrap(), serde_json::from_value(json["logits"].clone()).unwrap())
}

/// The logits of all tokens, which run in pieces of so many tokens.
pub(crate) fn logits(decoder: &Decoder, ids: &[u32], piece: usize, cache: CacheType) -> Vec<Vec<f32>> {
    let (mut session, mut all) = (decoder.session(cache), Vec::new());
    for ids in ids.chunks(piece) {
        let add = |number: usize, logits: &[f32]| {
            assert_eq!(number, all.len() % piece);
            all.push(logits.to_vec());
            Ok(())
        };
        session.feed_each(ids, 0..ids.len(), add).unwrap();
    }
    all
}

/// The largest difference.
pub(crate) fn difference(a: &[Vec<f32>], b: &[Vec<f32>]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().flatten().zip(b.iter().flatten()).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}
