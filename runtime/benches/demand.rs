//! Tokens per second of a mixture of experts that is larger than its memory, dense and packed.
//!
//! The model is a synthetic one of 1.5 GB in BF16, with seeded random weights: Mixtral's
//! architecture with 8 layers of 8 experts, of which a token needs 2. It is written to a temporary
//! directory and packed. The tokens are random too, so that the router has no favourites. The files
//! were just written, so that loads read the system's cache, not the disk: the column `read` says
//! what a disk would have to deliver.

use std::error::Error;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use checkpoint::{Model, Plan, Recipe};
use codec_api::{NoProgress, Registry};
use codecs as _;
use runtime::{CacheType, Decoder, Options};

const HIDDEN: usize = 1024;
const FEED_FORWARD: usize = 3584;
const LAYERS: usize = 8;
const EXPERTS: usize = 8;
const KV: usize = 256;
const VOCABULARY: usize = 4096;
const THREADS: usize = 2;
/// Tokens before the clock starts, and timed ones.
const TOKENS: [usize; 2] = [8, 24];

type Outcome<T> = Result<T, Box<dyn Error>>;

struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 32
    }

    /// A BF16 weight, the sum of four uniform numbers: bell-shaped, with a standard deviation near
    /// `1/√1024`.
    fn weight(&mut self) -> [u8; 2] {
        let (a, b) = (self.next(), self.next());
        let sum = (a & 0xffff) + (a >> 16) + (b & 0xffff) + (b >> 16);
        let value = (sum as f32 / 65536.0 - 2.0) * 0.054;
        let [.., low, high] = value.to_bits().to_le_bytes();
        [low, high]
    }
}

/// Names and shapes of all tensors.
fn tensors() -> Vec<(String, Vec<usize>)> {
    let mut all = vec![("model.embed_tokens.weight".to_owned(), vec![VOCABULARY, HIDDEN])];
    for layer in 0..LAYERS {
        let mut add =
            |name: &str, shape: &[usize]| all.push((format!("model.layers.{layer}.{name}.weight"), shape.to_vec()));
        add("input_layernorm", &[HIDDEN]);
        for (name, rows) in [("q", HIDDEN), ("k", KV), ("v", KV), ("o", HIDDEN)] {
            add(&format!("self_attn.{name}_proj"), &[rows, HIDDEN]);
        }
        add("post_attention_layernorm", &[HIDDEN]);
        add("block_sparse_moe.gate", &[EXPERTS, HIDDEN]);
        for expert in 0..EXPERTS {
            for (name, shape) in
                [("w1", [FEED_FORWARD, HIDDEN]), ("w3", [FEED_FORWARD, HIDDEN]), ("w2", [HIDDEN, FEED_FORWARD])]
            {
                add(&format!("block_sparse_moe.experts.{expert}.{name}"), &shape);
            }
        }
    }
    all.push(("model.norm.weight".to_owned(), vec![HIDDEN]));
    all.push(("lm_head.weight".to_owned(), vec![VOCABULARY, HIDDEN]));
    all
}

fn config() -> String {
    format!(
        r#"{{"model_type":"mixtral","hidden_size":{HIDDEN},"intermediate_size":{FEED_FORWARD},
        "num_hidden_layers":{LAYERS},"num_attention_heads":16,"num_key_value_heads":{},"vocab_size":{VOCABULARY},
        "num_local_experts":{EXPERTS},"num_experts_per_tok":2,"max_position_embeddings":4096,"hidden_act":"silu",
        "rms_norm_eps":1e-5,"rope_theta":1000000.0,"tie_word_embeddings":false,"torch_dtype":"bfloat16"}}"#,
        KV / (HIDDEN / 16)
    )
}

/// Writes the dense model, and returns the bytes of its tensors.
fn write(folder: &Path) -> Outcome<u64> {
    let (mut header, mut end) = (serde_json::Map::new(), 0);
    let tensors = tensors();
    for (name, shape) in &tensors {
        let start = end;
        end += 2 * shape.iter().product::<usize>();
        header.insert(name.clone(), serde_json::json!({"dtype": "BF16", "shape": shape, "data_offsets": [start, end]}));
    }
    let header = serde_json::Value::Object(header).to_string();
    let mut file = BufWriter::new(File::create(folder.join("model.safetensors"))?);
    file.write_all(&(header.len() as u64).to_le_bytes())?;
    file.write_all(header.as_bytes())?;
    let mut noise = Noise(1);
    for (_, shape) in &tensors {
        for _ in 0..shape.iter().product() {
            // The norms have weights of 1.
            file.write_all(&if shape.len() == 1 { [0x80, 0x3f] } else { noise.weight() })?;
        }
    }
    file.flush()?;
    fs::write(folder.join("config.json"), config())?;
    Ok(end as u64)
}

fn pack(dense: &Path, folder: &Path, codec: &str, registry: &Registry) -> Outcome<()> {
    let plan = Plan::new(dense, folder.join("model.nw.safetensors"), &Recipe::for_matrices(codec), 0, registry)?;
    std::thread::scope(|scope| {
        let work: Vec<_> = (0..THREADS).map(|_| scope.spawn(|| plan.run(registry, &NoProgress).map(drop))).collect();
        work.into_iter().try_for_each(|thread| thread.join().expect("no panic"))
    })?;
    plan.commit(registry, None)?;
    fs::write(folder.join("config.json"), config())?;
    Ok(())
}

/// Prints a line of the table.
fn measure(name: &str, folder: &Path, (share, limit): (&str, Option<u64>), registry: &Registry) -> Outcome<()> {
    let options = limit.iter().fold(Options::new(THREADS), |options, bytes| options.with_memory(*bytes));
    let decoder = Decoder::open(&Model::open(folder, &[], registry)?, options)?;
    let (mut session, mut noise) = (decoder.session(CacheType::F32), Noise(2));
    let mut feed = |tokens: usize| -> Outcome<f32> {
        let mut sum = 0.0;
        for _ in 0..tokens {
            sum += session.feed(&[(noise.next() % VOCABULARY as u64) as u32], |logits| logits[0])?;
        }
        Ok(sum)
    };
    feed(TOKENS[0])?;
    let (before, start) = (decoder.demand().unwrap_or_default(), Instant::now());
    let sum = feed(TOKENS[1])?;
    let (speed, after) = (TOKENS[1] as f64 / start.elapsed().as_secs_f64(), decoder.demand().unwrap_or_default());
    let resident = decoder.resident_bytes() as f64 / 1e9;
    let (hits, read) = match after.experts - before.experts {
        0 => ("–".to_owned(), 0.0),
        experts => {
            let hits = 100.0 * (after.hits - before.hits) as f64 / experts as f64;
            (format!("{hits:.0} %"), (after.read - before.read) as f64 / 1e6 / TOKENS[1] as f64)
        }
    };
    println!("| {name} | {share} | {resident:.2} GB | {speed:.1} | {hits} | {read:.0} MB | {sum:.4} |");
    Ok(())
}

fn main() -> Outcome<()> {
    let (registry, place) = (Registry::linked()?, tempfile::tempdir()?);
    let dense = place.path().join("dense");
    fs::create_dir(&dense)?;
    let bytes = write(&dense)?;
    let mut forms: Vec<(&str, PathBuf)> = vec![("dense BF16", dense.clone())];
    for (number, codec) in ["lossless.bf16x12", "quant.int:bits=8", "quant.q4_0"].into_iter().enumerate() {
        let folder = place.path().join(number.to_string());
        fs::create_dir(&folder)?;
        pack(&dense, &folder, codec, &registry)?;
        forms.push((codec, folder));
    }
    println!("{:.2} GB of weights, {THREADS} threads, {}", bytes as f64 / 1e9, simd::Level::current());
    println!("| weights | memory | in use | tokens/s | experts in memory | read per token | logits |");
    println!("|---|---|---|---|---|---|---|");
    for (name, folder) in &forms {
        for (share, limit) in
            [("1/4", Some(bytes / 4)), ("1/2", Some(bytes / 2)), ("3/4", Some(bytes / 4 * 3)), ("all", None)]
        {
            measure(name, folder, (share, limit), &registry)?;
        }
    }
    Ok(())
}
