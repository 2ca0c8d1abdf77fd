//! A mixture of experts: a router chooses a few for each token, and no other is touched.

use codec_api::Inputs;

use super::layer::Network;
use crate::config::{Activation, Experts};
use crate::error::Result;
use crate::kernels::{activate, exponentials, multiply};
use crate::team::{Job, Worker};
use crate::weights::{Linear, Store};

/// The tokens of an expert, with the weight of its output for each.
#[derive(Debug, Default)]
struct Share {
    tokens: Vec<(usize, f32)>,
    x: Vec<f32>,
    hidden: Vec<f32>,
    up: Vec<f32>,
    out: Vec<f32>,
}

/// Adds the outputs of the experts for the tokens `h`, `tokens × width`, to `x`. The store loads
/// those that are not in memory.
///
/// # Errors
/// None but those of [`Inputs::new`].
pub(super) fn mixture(
    worker: &Worker<'_>,
    store: Option<&Store>,
    (router, experts): (&Linear, &[Network]),
    (config, activation): (&Experts, Activation),
    (width, h): (usize, &[f32]),
    x: &mut [f32],
) -> Result<()> {
    let tokens = h.len() / width;
    let mut scores = vec![0.0; tokens * config.count];
    worker.multiply(&mut [Job { linear: router, x: &Inputs::new(h, tokens)?, out: &mut scores }]);
    let mut shares: Vec<Share> = Vec::new();
    shares.resize_with(config.count, Share::default);
    for (token, scores) in scores.chunks_exact_mut(config.count).enumerate() {
        for (expert, weight) in route(config, scores) {
            shares[expert].tokens.push((token, weight));
            shares[expert].x.extend_from_slice(&h[token * width..(token + 1) * width]);
        }
    }
    let mut used: Vec<(&Network, Share)> =
        experts.iter().zip(shares).filter(|(_, share)| !share.tokens.is_empty()).collect();
    if let Some(store) = store.filter(|_| worker.index == 0) {
        store.expect(&used.iter().map(|(network, _)| network.items()).collect::<Vec<_>>());
    }
    run(worker, &mut used, (width, config.feed_forward), activation)?;
    // In the order of the experts, as transformers adds them.
    for (_, share) in &used {
        for ((token, weight), out) in share.tokens.iter().zip(share.out.chunks_exact(width)) {
            x[token * width..(token + 1) * width].iter_mut().zip(out).for_each(|(x, out)| *x += weight * out);
        }
    }
    Ok(())
}

/// The experts of a token and their weights. The scores become exponentials.
pub(crate) fn route(config: &Experts, scores: &mut [f32]) -> Vec<(usize, f32)> {
    let sum = exponentials(scores);
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
    order.truncate(config.used);
    let total = if config.normalised { order.iter().map(|&i| f64::from(scores[i])).sum() } else { sum };
    order.into_iter().map(|i| (i, (f64::from(scores[i]) / total) as f32)).collect()
}

/// Runs all experts in two steps.
fn run(
    worker: &Worker<'_>,
    used: &mut [(&Network, Share)],
    (width, feed_forward): (usize, usize),
    activation: Activation,
) -> Result<()> {
    let mut jobs = Vec::new();
    let mut given = Vec::new();
    let mut outputs = Vec::new();
    for (network, share) in &mut *used {
        let batch = share.tokens.len();
        share.hidden.resize(batch * feed_forward, 0.0);
        share.up.resize(if network.gate.is_some() { batch * feed_forward } else { 0 }, 0.0);
        share.out.resize(batch * width, 0.0);
        given.push(Inputs::new(&share.x, batch)?);
        outputs.push((&**network, &mut share.hidden, &mut share.up));
    }
    for ((network, hidden, up), x) in outputs.into_iter().zip(&given) {
        match &network.gate {
            Some(gate) => {
                jobs.push(Job { linear: gate, x, out: hidden });
                jobs.push(Job { linear: &network.up, x, out: up });
            }
            None => jobs.push(Job { linear: &network.up, x, out: hidden }),
        }
    }
    worker.multiply(&mut jobs);
    drop(jobs);
    let mut given = Vec::new();
    let mut outputs = Vec::new();
    for (network, share) in used {
        activate(activation, &mut share.hidden);
        if network.gate.is_some() {
            multiply(&mut share.hidden, &share.up);
        }
        given.push(Inputs::new(&share.hidden, share.tokens.len())?);
        outputs.push((&network.down, &mut share.out));
    }
    let jobs = outputs.into_iter().zip(&given).map(|((linear, out), x)| Job { linear, x, out });
    worker.multiply(&mut jobs.collect::<Vec<_>>());
    Ok(())
}
