//! Attention: each head of keys and values, with the heads of the queries that share it, belongs to
//! one thread.

use super::cache::Cache;
use super::layer::{Layer, Norm};
use crate::config::{Config, Rope};
use crate::kernels::{dots, exponentials, rms_norm, weighted_rows};

/// Numbers of what is projected.
const QUERIES: usize = 0;
const KEYS: usize = 1;
const VALUES: usize = 2;

/// Where queries, keys and values of the tokens are in a buffer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Places {
    /// First value, and values from one token to the next.
    places: [(usize, usize); 3],
}

impl Places {
    /// The places for outputs of one fused layer or of three.
    pub(super) fn new(config: &Config, fused: bool, tokens: usize) -> Self {
        let (queries, kv) = (config.query_width(), config.kv_width());
        let all = queries + 2 * kv;
        let places = if fused {
            [(0, all), (queries, all), (queries + kv, all)]
        } else {
            [(0, queries), (tokens * queries, kv), (tokens * (queries + kv), kv)]
        };
        Self { places }
    }

    /// Copies the heads `kv` of keys and values, and those of the queries that share them, from the
    /// values of some tokens, which are at places of their own. `first` is the number of the first.
    pub(super) fn copy(
        &self,
        out: &mut [f32],
        first: usize,
        (values, tokens, places): (&[f32], usize, Self),
        kv: &std::ops::Range<usize>,
        config: &Config,
    ) {
        let shared = config.heads / config.kv_heads;
        for (what, shared) in [(QUERIES, shared), (KEYS, 1), (VALUES, 1)] {
            let (head, width) = (kv.start * shared, config.head_width);
            let len = kv.len() * shared * width;
            for token in 0..tokens {
                let from = places.of(what, token, head, width).start;
                let to = self.of(what, first + token, head, width).start;
                // After an error in another thread, its values may be fewer.
                if let Some(values) = values.get(from..from + len) {
                    out[to..to + len].copy_from_slice(values);
                }
            }
        }
    }

    /// The values of head `head` of token `token` of [`QUERIES`], [`KEYS`] or [`VALUES`].
    fn of(&self, what: usize, token: usize, head: usize, width: usize) -> std::ops::Range<usize> {
        let (first, stride) = self.places[what];
        let start = first + token * stride + head * width;
        start..start + width
    }
}

/// Sines and cosines of the positions of some tokens.
#[derive(Debug, Default)]
pub(crate) struct Rotation {
    /// For each token, cosine and sine of each pair.
    turns: Vec<(f32, f32)>,
    pairs: usize,
}

impl Rotation {
    /// Those of `tokens` positions from `first` on.
    pub(crate) fn set(&mut self, rope: &Rope, first: usize, tokens: usize) {
        self.turns.clear();
        self.pairs = rope.frequencies.len();
        for position in first..first + tokens {
            self.turns.extend(rope.frequencies.iter().map(|frequency| {
                // Rounded to f32 as in transformers, so that large positions agree.
                let angle = f64::from(position as f32 * frequency);
                ((libm::cos(angle) as f32) * rope.scale, (libm::sin(angle) as f32) * rope.scale)
            }));
        }
    }

    pub(crate) fn apply(&self, token: usize, head: &mut [f32]) {
        if self.pairs == 0 {
            return;
        }
        let (low, high) = head.split_at_mut(self.pairs);
        let turns = &self.turns[token * self.pairs..(token + 1) * self.pairs];
        for ((a, b), (cos, sin)) in low.iter_mut().zip(high).zip(turns) {
            (*a, *b) = (*a * cos - *b * sin, *b * cos + *a * sin);
        }
    }

    /// The transpose of [`Self::apply`], which turns gradients back.
    pub(crate) fn apply_back(&self, token: usize, head: &mut [f32]) {
        if self.pairs == 0 {
            return;
        }
        let (low, high) = head.split_at_mut(self.pairs);
        let turns = &self.turns[token * self.pairs..(token + 1) * self.pairs];
        for ((a, b), (cos, sin)) in low.iter_mut().zip(high).zip(turns) {
            (*a, *b) = (*a * cos + *b * sin, *b * cos - *a * sin);
        }
    }
}

/// Memory of a thread, which grows but does not shrink.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    wide: [Vec<f32>; 2],
    scores: Vec<f32>,
    head: Vec<f32>,
}

/// The tokens of a step of attention.
#[derive(Debug)]
pub(super) struct Step<'a> {
    pub(super) config: &'a Config,
    pub(super) layer: &'a Layer,
    pub(super) number: usize,
    pub(super) cache: &'a Cache,
    pub(super) rotation: &'a Rotation,
    pub(super) places: Places,
    /// Position of the first token.
    pub(super) first: usize,
    pub(super) tokens: usize,
}

impl Step<'_> {
    /// The attention of the heads `group` of keys and values. `projected` holds queries, keys and
    /// values; `out` gets `tokens ×` the values of the group's heads.
    pub(super) fn attend(
        &self,
        group: std::ops::Range<usize>,
        projected: &mut [f32],
        out: &mut [f32],
        scratch: &mut Scratch,
    ) {
        let (width, shared) = (self.config.head_width, self.config.heads / self.config.kv_heads);
        let stride = group.len() * shared * width;
        for (number, kv) in group.enumerate() {
            self.store(kv, projected, &mut scratch.head);
            let head = self.cache.head(self.number, kv);
            let [keys, values] = head.read((self.first + self.tokens) * width, &mut scratch.wide);
            for token in 0..self.tokens {
                for query in 0..shared {
                    let place = self.places.of(QUERIES, token, kv * shared + query, width);
                    let vector = &mut projected[place];
                    self.turn(token, vector, QUERIES, &mut scratch.head);
                    let first = token * stride + (number * shared + query) * width;
                    let out = &mut out[first..first + width];
                    self.mix(token, vector, [keys, values], out, &mut scratch.scores);
                }
            }
        }
    }

    /// Adds keys and values of the tokens to the cache.
    fn store(&self, kv: usize, projected: &mut [f32], scratch: &mut Vec<f32>) {
        let width = self.config.head_width;
        let mut head = self.cache.head(self.number, kv);
        for token in 0..self.tokens {
            let key = self.places.of(KEYS, token, kv, width);
            let value = self.places.of(VALUES, token, kv, width);
            self.turn(token, &mut projected[key.clone()], KEYS, scratch);
            head.write((self.first + token) * width, &projected[key], &projected[value]);
        }
    }

    /// Normalises a head of [`QUERIES`] or [`KEYS`], and turns it to its position.
    fn turn(&self, token: usize, head: &mut [f32], what: usize, scratch: &mut Vec<f32>) {
        if let Some(norms) = &self.layer.head_norms {
            let Norm { kind, weight, .. } = &norms[what];
            scratch.clear();
            scratch.extend_from_slice(head);
            rms_norm(scratch, weight, kind.epsilon, head);
        }
        self.rotation.apply(token, head);
    }

    /// The mean of the values, weighted by the softmax of the scores.
    fn mix(
        &self,
        token: usize,
        query: &mut [f32],
        [keys, values]: [&[f32]; 2],
        out: &mut [f32],
        scores: &mut Vec<f32>,
    ) {
        let (width, position) = (self.config.head_width, self.first + token);
        let first = self.layer.window.map_or(0, |window| (position + 1).saturating_sub(window));
        let (rows, count) = (first * width..(position + 1) * width, position + 1 - first);
        scale_by(query, 1.0 / (width as f32).sqrt());
        scores.resize(scores.len().max(count), 0.0);
        let scores = &mut scores[..count];
        dots(&keys[rows.clone()], query, scores);
        let sum = exponentials(scores);
        weighted_rows(&values[rows], scores, out);
        scale_by(out, (1.0 / sum) as f32);
    }
}

fn scale_by(values: &mut [f32], factor: f32) {
    for value in values {
        *value *= factor;
    }
}
