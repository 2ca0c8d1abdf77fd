//! From weights to bits: layer by layer, block by block.

use std::borrow::Cow;

use codec_api::util::pack_bits;
use codec_api::{Dtype, EncodeCx, Payload, Result, Section, TensorSpec, TensorView};
use rand_xoshiro::rand_core::Rng;

use crate::block::{Code, MAX_BLOCK};
use crate::config::{Budget, SeedLm};
use crate::decode::{Layer, decode};
use crate::fit::Fitter;
use crate::grid::Grid;
use crate::importance::{Alike, alike};
use crate::lfsr::Lfsr;
use crate::planes;
use crate::scan::WALK_BYTES;
use crate::search::{BATCH, Method, Search, Seeds};
use crate::sections::{BIAS, CODES, name};
use crate::tables::run_row;
use crate::ticks::Ticks;

/// Encodes a tensor; `method` finds the codes.
pub(crate) fn encode(config: &SeedLm, tensor: &TensorView<'_>, cx: &EncodeCx<'_>, method: Method) -> Result<Payload> {
    cx.cancel.check()?;
    let source = tensor.to_finite_f32()?;
    let (shape, levels) = (config.shape(), config.layers.get() as usize);
    let lfsr = Lfsr::new(shape.seed_bits);
    let seeds = seeds(config, cx);
    let alike = alike(tensor.spec(), shape.weights, cx)?;
    let ticks = Ticks::new(cx.progress, config.layers.get());
    let mut payload = Payload::new();
    let mut rest = Cow::Borrowed(&*source);
    let mut decoded = vec![0.0; if levels > 1 { source.len() } else { 0 }];
    for level in 0..levels {
        let grid = Grid::reaching(largest_norm(&rest, shape.weights), config.per_octave.get(), shape);
        let fitter = Fitter::new(shape, config.refine, grid);
        let search = Search { fitter: &fitter, lfsr: &lfsr, seeds: &seeds, method, cancel: cx.cancel, ticks: &ticks };
        let best = best_codes(&search, &rest, &alike)?;
        payload = write(config, level, &best, grid, payload)?;
        if level + 1 < levels {
            let layer = Layer::read(config, level, tensor.spec(), &payload.view())?;
            decode(&lfsr, shape, &layer, 0, level > 0, &mut decoded);
            for ((rest, w), d) in rest.to_mut().iter_mut().zip(source.iter()).zip(&decoded) {
                // The difference of two f32 near opposite ends of the range overflows.
                *rest = (w - d).clamp(f32::MIN, f32::MAX);
            }
        }
    }
    Ok(payload)
}

/// Adds the sections of a level.
fn write(config: &SeedLm, level: usize, codes: &[Code], grid: Grid, payload: Payload) -> Result<Payload> {
    let shape = config.shape();
    let payload = if config.coded {
        planes::write(shape, level, codes, payload)?
    } else {
        let packed = pack_bits(codes.iter().map(|code| code.to_bits(shape)), shape.bits());
        payload.with(&name(CODES, level), Section::from_bytes(packed)?)?
    };
    payload.with(&name(BIAS, level), Section::from_values(Dtype::I16, [1], vec![grid.bias as i16])?)
}

/// Number of seeds tried for each block.
pub(crate) fn seed_count(config: &SeedLm) -> usize {
    let all = config.shape().seeds();
    match config.search {
        Budget::All => all as usize,
        Budget::Draw(count) => all.min(count) as usize,
    }
}

fn tries_all(config: &SeedLm) -> bool {
    seed_count(config) == config.shape().seeds() as usize
}

/// Whether the search walks through all seeds in the register's order. Few seeds are quicker one by
/// one.
fn is_run(config: &SeedLm) -> bool {
    tries_all(config) && config.k.get() >= 16
}

fn seeds(config: &SeedLm, cx: &EncodeCx<'_>) -> Seeds {
    let all = config.shape().seeds();
    if is_run(config) {
        return Seeds::All;
    }
    if tries_all(config) {
        return Seeds::Some((1..=all).collect());
    }
    let mut rng = cx.rng(0);
    Seeds::Some((0..seed_count(config)).map(|_| 1 + rng.next_u32() % all).collect())
}

/// Heap bytes of an encode: copies of the weights, codes, and the tables of a batch of seeds. A
/// decode takes less: its planes, if there are any.
pub(crate) fn scratch_bytes(config: &SeedLm, spec: &TensorSpec) -> u64 {
    let shape = config.shape();
    let blocks = spec.elements().div_ceil(shape.weights);
    let seeds = seed_count(config);
    // A seed in order needs state, pattern and row. A seed alone needs itself and its basis, in
    // vectors that grow; any seed in order may turn out to need this too.
    let in_order_bytes = 4 + 2 + 4 * run_row(shape.rank);
    let alone_bytes = 2 * (4 + 4 * shape.weights * shape.rank);
    let list = if is_run(config) { 0 } else { 4 * seeds };
    let tables = seeds.min(BATCH) * if is_run(config) { in_order_bytes + alone_bytes } else { alone_bytes };
    // With calibration each block may be a group of its own.
    let per_block = 256;
    let coder = if config.coded { CODER_BYTES } else { 0 };
    // The weights as F32, and with several levels what is decoded so far and what it leaves.
    let copies = if config.layers.get() > 1 { 3 } else { 1 };
    (4 * copies * spec.elements() + per_block * blocks + list + tables) as u64 + WALK_BYTES + PASS_BYTES + coder
}

/// Heap bytes of a pass over the blocks, beside its tables.
const PASS_BYTES: u64 = 16 << 10;

/// Heap bytes that the entropy coder takes for its tables and streams.
const CODER_BYTES: u64 = 192 << 10;

/// The largest `‖w‖` of all blocks.
fn largest_norm(values: &[f32], weights: usize) -> f64 {
    let energy = |block: &[f32]| block.iter().map(|w| f64::from(*w) * f64::from(*w)).sum::<f64>();
    values.chunks(weights).map(energy).fold(0.0, f64::max).sqrt()
}

fn best_codes(search: &Search<'_>, values: &[f32], alike: &Alike) -> Result<Vec<Code>> {
    let weights = search.fitter.shape.weights;
    let mut codes = vec![Code::default(); values.len().div_ceil(weights)];
    for (importance, blocks) in alike {
        let importance: [f64; MAX_BLOCK] = importance.map(|h| f32::from_bits(h).into());
        let targets: Vec<&[f32]> =
            blocks.iter().map(|b| &values[b * weights..values.len().min((b + 1) * weights)]).collect();
        for (block, code) in blocks.iter().zip(search.best(&targets, importance)?) {
            codes[*block] = code;
        }
    }
    Ok(codes)
}
