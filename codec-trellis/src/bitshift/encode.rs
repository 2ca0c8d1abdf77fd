//! From weights to rings of bits and scales.

use codec_api::{Bound, Dtype, EncodeCx, Importance, Payload, Result, Section, TensorView};

use super::Bitshift;
use super::block::{BlockCoder, Moments};
use super::decode::Prepared;
use super::layout::{Layout, blocks};
use super::scale::{factor, level};
use super::trellis::Trellis;

/// Number of blocks in the sample for the search of the scale.
const SAMPLE: usize = 16;

pub(super) fn encode(codec: &Bitshift, tensor: &TensorView<'_>, cx: &EncodeCx<'_>) -> Result<Payload> {
    cx.cancel.check()?;
    let values = tensor.to_finite_f32()?;
    let trellis = Trellis::new(codec.bits.get() as usize, codec.state_bits.get() as usize, codec.code);
    let source = Source::new(codec, tensor, &values, cx)?;
    let mut coder = BlockCoder::new(&trellis);
    let scale = source.choose_scale(&mut coder, codec.ratio(), cx)?;
    let mut codes = Vec::with_capacity(source.layout.codes_len());
    let mut moments = Moments::default();
    for block in &source.blocks {
        cx.cancel.check()?;
        match source.search(&mut coder, block, scale) {
            Some(found) => {
                moments.add(&found);
                coder.pack(&mut codes);
            }
            None => codes.resize(codes.len() + source.layout.bytes(block.len), 0),
        }
        cx.progress.tick(block.len as u64);
    }
    let payload = Payload::new(Bound::None)
        .with("codes", Section::from_bytes(codes)?)
        .with("scale", Section::from_values(Dtype::F32, [1], vec![moments.best_scale()])?)
        .with("levels", Section::from_bytes(source.levels.clone())?);
    let mut decoded = vec![0.0; values.len()];
    Prepared::read(codec, tensor.spec(), &payload.view())?.decode(0..source.layout.spans(), &mut decoded);
    Ok(payload.with_bound(Bound::measure(&values, &decoded)))
}

/// The tensor to encode.
struct Source<'a> {
    values: &'a [f32],
    layout: Layout,
    importance: Option<Importance>,
    /// The largest deviation of all spans; `levels` say how far each span is below it.
    deviation: f64,
    levels: Vec<u8>,
    blocks: Vec<Block>,
}

/// First weight, length and span of a block.
struct Block {
    start: usize,
    len: usize,
    span: usize,
}

impl<'a> Source<'a> {
    fn new(codec: &Bitshift, tensor: &TensorView<'_>, values: &'a [f32], cx: &EncodeCx<'_>) -> Result<Self> {
        let layout = Layout::new(codec, tensor.spec());
        let deviations: Vec<f64> = values.chunks(layout.span).map(root_mean_square).collect();
        let deviation = deviations.iter().fold(0.0, |most: f64, d| most.max(*d));
        let levels =
            deviations.iter().map(|d| if deviation == 0.0 { level(0.0) } else { level(d / deviation) }).collect();
        let mut start = 0;
        let cut = |span| blocks(layout.weights(span)).map(move |len| (span, len));
        let block = |(span, len)| {
            start += len;
            Block { start: start - len, len, span }
        };
        let blocks = (0..layout.spans()).flat_map(cut).map(block).collect();
        Ok(Self { values, layout, importance: Importance::new(tensor.spec(), cx)?, deviation, levels, blocks })
    }

    /// Searches one block at this scale of the tensor; `None` if the span of the block counts as
    /// zeros.
    fn search(&self, coder: &mut BlockCoder<'_>, block: &Block, scale: f64) -> Option<Moments> {
        let factor = factor(self.levels[block.span]);
        let importance = |i: usize| self.importance.as_ref().map_or(1.0, |importance| importance.of(block.start + i));
        let weights = &self.values[block.start..block.start + block.len];
        (factor > 0.0).then(|| coder.search(weights, scale, factor, importance))
    }

    /// Finds the tensor's scale: starts at the best scale for normal weights, and climbs in steps
    /// of a tenth while the error of a sample of blocks decreases.
    fn choose_scale(&self, coder: &mut BlockCoder<'_>, ratio: f64, cx: &EncodeCx<'_>) -> Result<f64> {
        const STEP: f64 = 1.1;
        const MOST_STEPS: usize = 16;
        let picks = SAMPLE.min(self.blocks.len());
        let mut error = |scale: f64| -> Result<f64> {
            let mut sum = 0.0;
            for i in 0..picks {
                cx.cancel.check()?;
                let found = self.search(coder, &self.blocks[i * self.blocks.len() / picks], scale);
                sum += found.map_or(0.0, |moments| moments.error);
            }
            Ok(sum)
        };
        let start = self.deviation * ratio;
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
        Ok(best.1)
    }
}

fn root_mean_square(weights: &[f32]) -> f64 {
    let squares: f64 = weights.iter().map(|w| f64::from(*w) * f64::from(*w)).sum();
    (squares / weights.len() as f64).sqrt()
}
