//! Attention in both directions, sequence by sequence and head by head.

use std::ops::Range;

use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef, Par};
use rayon::prelude::*;

use super::Batch;
use super::backward::norm_gradients;
use crate::config::Config;
use crate::decoder::{Norm, Rotation};
use crate::kernels::softmax;

/// What attention does besides the projections.
#[derive(Clone, Copy)]
pub(super) struct Heads<'a> {
    pub(super) config: &'a Config,
    pub(super) norms: Option<&'a [Norm; 2]>,
    pub(super) window: Option<usize>,
    /// Whether one linear layer projects to queries, keys and values.
    pub(super) fused: bool,
}

/// Numbers of what is projected.
const QUERIES: usize = 0;
const KEYS: usize = 1;
const VALUES: usize = 2;

impl Heads<'_> {
    /// Buffer, its width, and the first value of head `head` of [`QUERIES`], [`KEYS`] or
    /// [`VALUES`].
    fn place(&self, what: usize, head: usize) -> (usize, usize, usize) {
        let (queries, kv) = (self.config.query_width(), self.config.kv_width());
        let first = head * self.config.head_width;
        if self.fused {
            return (0, queries + 2 * kv, [0, queries, queries + kv][what] + first);
        }
        (what, if what == QUERIES { queries } else { kv }, first)
    }

    /// The values of a head for some tokens, side by side.
    fn gather(&self, buffers: &[Vec<f32>], what: usize, head: usize, tokens: &Range<usize>) -> Vec<f32> {
        let (buffer, stride, first) = self.place(what, head);
        let width = self.config.head_width;
        tokens.clone().flat_map(|token| &buffers[buffer][token * stride + first..][..width]).copied().collect()
    }

    fn scatter(&self, buffers: &mut [Vec<f32>], what: usize, head: usize, tokens: &Range<usize>, values: &[f32]) {
        let (buffer, stride, first) = self.place(what, head);
        let width = self.config.head_width;
        for (token, values) in tokens.clone().zip(values.chunks_exact(width)) {
            buffers[buffer][token * stride + first..][..width].copy_from_slice(values);
        }
    }

    /// Normalises the heads of queries or keys, and turns them to their positions.
    fn turn(&self, raw: &[f32], what: usize, rotation: &Rotation) -> Vec<f32> {
        let mut turned = raw.to_vec();
        if let Some(norms) = self.norms {
            norms[what].apply(raw, &mut turned);
        }
        for (token, head) in turned.chunks_exact_mut(self.config.head_width).enumerate() {
            rotation.apply(token, head);
        }
        turned
    }

    /// The gradients before [`Self::turn`].
    fn turn_back(&self, raw: &[f32], mut g: Vec<f32>, what: usize, rotation: &Rotation) -> Vec<f32> {
        for (token, head) in g.chunks_exact_mut(self.config.head_width).enumerate() {
            rotation.apply_back(token, head);
        }
        let Some(norms) = self.norms else { return g };
        let mut of_raw = vec![0.0; g.len()];
        norm_gradients(&norms[what], raw, &g, &mut of_raw);
        of_raw
    }

    fn rotation(&self, tokens: usize) -> Rotation {
        let mut rotation = Rotation::default();
        if let Some(rope) = &self.config.rope {
            rotation.set(rope, 0, tokens);
        }
        rotation
    }

    fn matrix<'m>(&self, values: &'m [f32]) -> MatRef<'m, f32> {
        MatRef::from_row_major_slice(values, values.len() / self.config.head_width, self.config.head_width)
    }

    fn matrix_mut<'m>(&self, values: &'m mut [f32]) -> MatMut<'m, f32> {
        let rows = values.len() / self.config.head_width;
        MatMut::from_row_major_slice_mut(values, rows, self.config.head_width)
    }

    /// The softmax of the scores: a row for each query.
    fn shares(&self, queries: &[f32], keys: &[f32]) -> Vec<f32> {
        let tokens = queries.len() / self.config.head_width;
        let mut scores = vec![0.0; tokens * tokens];
        let (q, k) = (self.matrix(queries), self.matrix(keys));
        let target = MatMut::from_row_major_slice_mut(&mut scores, tokens, tokens);
        matmul(target, Accum::Replace, q, k.transpose(), self.scale(), Par::Seq);
        for (position, row) in scores.chunks_exact_mut(tokens).enumerate() {
            let first = self.window.map_or(0, |window| (position + 1).saturating_sub(window));
            row[..first].fill(0.0);
            row[position + 1..].fill(0.0);
            let seen = &mut row[first..=position];
            softmax(seen);
        }
        scores
    }

    fn scale(&self) -> f32 {
        1.0 / (self.config.head_width as f32).sqrt()
    }

    /// Calls `of` for each sequence and each head of keys and values.
    fn each<T: Send>(
        &self,
        batch: &Batch<'_>,
        of: impl Fn(&Range<usize>, usize) -> T + Sync,
    ) -> Vec<(Range<usize>, usize, T)> {
        let heads = |range: Range<usize>| (0..self.config.kv_heads).map(move |head| (range.clone(), head));
        let all: Vec<_> = batch.ranges().into_iter().flat_map(heads).collect();
        all.into_par_iter()
            .map(|(range, head)| {
                let found = of(&range, head);
                (range, head, found)
            })
            .collect()
    }

    /// The heads of queries that share a head of keys and values.
    fn sharing(&self, kv: usize) -> Range<usize> {
        let shared = self.config.heads / self.config.kv_heads;
        kv * shared..(kv + 1) * shared
    }
}

/// The outputs of attention for each token.
pub(super) fn attend(heads: &Heads<'_>, batch: &Batch<'_>, projected: &[Vec<f32>]) -> Vec<f32> {
    let found = heads.each(batch, |tokens, kv| {
        let rotation = heads.rotation(tokens.len());
        let keys = heads.turn(&heads.gather(projected, KEYS, kv, tokens), KEYS, &rotation);
        let values = heads.gather(projected, VALUES, kv, tokens);
        let of_query = |head: usize| {
            let queries = heads.turn(&heads.gather(projected, QUERIES, head, tokens), QUERIES, &rotation);
            let shares = heads.shares(&queries, &keys);
            let mut out = vec![0.0; queries.len()];
            let shares = MatRef::from_row_major_slice(&shares, tokens.len(), tokens.len());
            matmul(heads.matrix_mut(&mut out), Accum::Replace, shares, heads.matrix(&values), 1.0, Par::Seq);
            out
        };
        heads.sharing(kv).map(of_query).collect::<Vec<_>>()
    });
    let queries = heads.config.query_width();
    let mut mixed = vec![vec![0.0; batch.tokens() * queries]];
    // The outputs are laid out as unfused queries.
    let plain = Heads { fused: false, ..*heads };
    for (tokens, kv, outs) in found {
        for (head, out) in heads.sharing(kv).zip(outs) {
            plain.scatter(&mut mixed, QUERIES, head, &tokens, &out);
        }
    }
    mixed.remove(0)
}

/// The gradients at the projections, for gradients `g` at the outputs of attention.
pub(super) fn attend_backward(
    heads: &Heads<'_>,
    batch: &Batch<'_>,
    projected: &[Vec<f32>],
    g: &[f32],
) -> Vec<Vec<f32>> {
    let plain = Heads { fused: false, ..*heads };
    let of_mixed = [g.to_vec()];
    let found = heads.each(batch, |tokens, kv| {
        let rotation = heads.rotation(tokens.len());
        let raw_keys = heads.gather(projected, KEYS, kv, tokens);
        let keys = heads.turn(&raw_keys, KEYS, &rotation);
        let values = heads.gather(projected, VALUES, kv, tokens);
        let (mut of_keys, mut of_values) = (vec![0.0; keys.len()], vec![0.0; keys.len()]);
        let mut of_queries = Vec::new();
        for head in heads.sharing(kv) {
            let raw = heads.gather(projected, QUERIES, head, tokens);
            let queries = heads.turn(&raw, QUERIES, &rotation);
            let g = plain.gather(&of_mixed, QUERIES, head, tokens);
            let of = one_head(heads, [&queries, &keys, &values], &g, [&mut of_keys, &mut of_values]);
            of_queries.push(heads.turn_back(&raw, of, QUERIES, &rotation));
        }
        (of_queries, heads.turn_back(&raw_keys, of_keys, KEYS, &rotation), of_values)
    });
    let mut out: Vec<Vec<f32>> = projected.iter().map(|buffer| vec![0.0; buffer.len()]).collect();
    for (tokens, kv, (of_queries, of_keys, of_values)) in found {
        for (head, of) in heads.sharing(kv).zip(of_queries) {
            heads.scatter(&mut out, QUERIES, head, &tokens, &of);
        }
        heads.scatter(&mut out, KEYS, kv, &tokens, &of_keys);
        heads.scatter(&mut out, VALUES, kv, &tokens, &of_values);
    }
    out
}

/// The gradients at the queries of a head; adds those at keys and values.
///
/// With shares `P = softmax(s·Q·Kᵀ)` and outputs `P·V`: `∂V = Pᵀ·g`, `∂P = g·Vᵀ`,
/// `∂S = P∘(∂P − Σⱼ P∘∂P)`, `∂Q = s·∂S·K`, `∂K = s·∂Sᵀ·Q`.
fn one_head(
    heads: &Heads<'_>,
    [queries, keys, values]: [&[f32]; 3],
    g: &[f32],
    [of_keys, of_values]: [&mut [f32]; 2],
) -> Vec<f32> {
    let tokens = queries.len() / heads.config.head_width;
    let shares = heads.shares(queries, keys);
    let square = |values| MatRef::from_row_major_slice(values, tokens, tokens);
    let g = heads.matrix(g);
    matmul(heads.matrix_mut(of_values), Accum::Add, square(&shares).transpose(), g, 1.0, Par::Seq);
    let mut of_scores = vec![0.0; tokens * tokens];
    let target = MatMut::from_row_major_slice_mut(&mut of_scores, tokens, tokens);
    matmul(target, Accum::Replace, g, heads.matrix(values).transpose(), 1.0, Par::Seq);
    for (of, shares) in of_scores.chunks_exact_mut(tokens).zip(shares.chunks_exact(tokens)) {
        let mean: f32 = of.iter().zip(shares).map(|(of, share)| of * share).sum();
        of.iter_mut().zip(shares).for_each(|(of, share)| *of = share * (*of - mean));
    }
    let mut of_queries = vec![0.0; queries.len()];
    let of_scores = square(&of_scores);
    matmul(heads.matrix_mut(&mut of_queries), Accum::Replace, of_scores, heads.matrix(keys), heads.scale(), Par::Seq);
    let target = heads.matrix_mut(of_keys);
    matmul(target, Accum::Add, of_scores.transpose(), heads.matrix(queries), heads.scale(), Par::Seq);
    of_queries
}
