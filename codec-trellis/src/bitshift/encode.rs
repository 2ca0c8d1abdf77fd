//! From weights to rings of bits and scales.

use codec_api::util::Importance;
use codec_api::{Dtype, EncodeCx, Payload, Result, Section, TensorView};

use super::Bitshift;
use super::block::{BlockCoder, Moments};
use super::layout::{Layout, blocks};
use super::scale::{factor, level};
use super::trellis::Trellis;

/// Number of blocks in the sample for the search of the scale.
const SAMPLE: usize = 16;

pub(super) fn encode(codec: &Bitshift, tensor: &TensorView<'_>, cx: &EncodeCx<'_>) -> Result<Payload> {
    let (coder, codes) = Coder::encode(codec, tensor, cx)?;
    coder.payload(codes)
}

/// Scales of a tensor, and the search for its codes.
pub(super) struct Coder {
    pub(super) layout: Layout,
    importance: Option<Importance>,
    /// How far the deviation of each span is below the largest one.
    levels: Vec<u8>,
    search: BlockCoder,
    /// The tensor's scale in the search, and in the payload.
    searched: f64,
    stored: f32,
}

/// First weight, length and span of a block.
#[derive(Clone, Copy)]
pub(super) struct Block {
    pub(super) start: usize,
    pub(super) len: usize,
    pub(super) span: usize,
}

impl Coder {
    /// Encodes a tensor. Returns its codes too.
    pub(super) fn encode(codec: &Bitshift, tensor: &TensorView<'_>, cx: &EncodeCx<'_>) -> Result<(Self, Vec<u8>)> {
        cx.cancel.check()?;
        let (values, layout) = (tensor.to_finite_f32()?, Layout::new(codec, tensor.spec()));
        let trellis = Trellis::new(codec.bits.get() as usize, codec.state_bits.get() as usize, codec.code);
        let deviations: Vec<f64> = values.chunks(layout.span).map(root_mean_square).collect();
        let deviation = deviations.iter().fold(0.0, |most: f64, d| most.max(*d));
        let levels =
            deviations.iter().map(|d| if deviation == 0.0 { level(0.0) } else { level(d / deviation) }).collect();
        let (importance, search) = (Importance::new(tensor.spec(), cx)?, BlockCoder::new(trellis));
        let mut coder = Self { layout, importance, levels, search, searched: deviation * codec.ratio(), stored: 0.0 };
        let blocks = all_blocks(&layout);
        coder.choose_scale(&values, &blocks, cx)?;
        let (mut codes, mut moments) = (Vec::with_capacity(layout.codes_len()), Moments::default());
        for block in &blocks {
            cx.cancel.check()?;
            match coder.search(*block, &values[block.start..][..block.len]) {
                Some(found) => {
                    moments.add(&found);
                    codes.extend(coder.search.packed());
                }
                None => codes.resize(codes.len() + layout.bytes(block.len), 0),
            }
            cx.progress.tick(block.len as u64);
        }
        coder.stored = moments.best_scale();
        Ok((coder, codes))
    }

    pub(super) fn payload(self, codes: Vec<u8>) -> Result<Payload> {
        Payload::new()
            .with("codes", Section::from_bytes(codes)?)?
            .with("scale", Section::from_values(Dtype::F32, [1], vec![self.stored])?)?
            .with("levels", Section::from_bytes(self.levels)?)
    }

    /// Writes the codes of one block, and replaces its weights by those that a decoder gives.
    pub(super) fn code(&mut self, block: Block, weights: &mut [f32], codes: &mut [u8]) {
        if self.search(block, weights).is_some() {
            codes.copy_from_slice(&self.search.packed());
            self.search.decode(self.stored * factor(self.levels[block.span]), weights);
        } else {
            codes.fill(0);
            weights.fill(0.0);
        }
    }

    /// Searches one block; `None` if its span counts as zeros.
    fn search(&mut self, block: Block, weights: &[f32]) -> Option<Moments> {
        let factor = factor(self.levels[block.span]);
        let importance = |i: usize| self.importance.as_ref().map_or(1.0, |importance| importance.of(block.start + i));
        (factor > 0.0).then(|| self.search.search(weights, self.searched, factor, importance))
    }

    /// Finds the tensor's scale: starts at the best scale for normal weights, and climbs in steps
    /// of a tenth while the error of a sample of blocks decreases.
    fn choose_scale(&mut self, values: &[f32], blocks: &[Block], cx: &EncodeCx<'_>) -> Result<()> {
        const STEP: f64 = 1.1;
        const MOST_STEPS: usize = 16;
        let (start, picks) = (self.searched, SAMPLE.min(blocks.len()));
        let mut error = |scale: f64| -> Result<f64> {
            self.searched = scale;
            let mut sum = 0.0;
            for i in 0..picks {
                cx.cancel.check()?;
                let block = blocks[i * blocks.len() / picks];
                let found = self.search(block, &values[block.start..][..block.len]);
                sum += found.map_or(0.0, |moments| moments.error);
            }
            Ok(sum)
        };
        let mut best = (error(start)?, start);
        for factor in [STEP, 1.0 / STEP] {
            for _ in 0..MOST_STEPS {
                let next = best.1 * factor;
                let found = error(next)?;
                if found >= best.0 {
                    break;
                }
                best = (found, next);
            }
            if best.1 != start {
                break;
            }
        }
        self.searched = best.1;
        Ok(())
    }
}

/// The blocks of all spans.
fn all_blocks(layout: &Layout) -> Vec<Block> {
    let mut start = 0;
    let cut = |span| blocks(layout.weights(span)).map(move |len| (span, len));
    let block = |(span, len)| {
        start += len;
        Block { start: start - len, len, span }
    };
    (0..layout.spans()).flat_map(cut).map(block).collect()
}

fn root_mean_square(weights: &[f32]) -> f64 {
    let squares: f64 = weights.iter().map(|w| f64::from(*w) * f64::from(*w)).sum();
    (squares / weights.len() as f64).sqrt()
}
