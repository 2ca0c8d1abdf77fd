//! Scales that cancel.

use checkpoint::Model;
use codec_api::Registry;
use runtime::{CacheType, Differentiable, Fold};

use crate::support::{MODELS, Tensors, Tiny, difference, logits, reference};

/// Scales from an eighth to eight.
fn scales(width: usize, seed: usize) -> Vec<f32> {
    (0..width).map(|channel| f32::powf(2.0, ((channel * 7 + seed * 5) % 13) as f32 / 2.0 - 3.0)).collect()
}

/// Changes the values of a tensor in F32.
fn edit(tensors: &mut Tensors, name: &str, change: impl FnOnce(&[usize], &mut [f32])) {
    let (_, shape, data) = tensors.get_mut(name).expect(name);
    let mut values: Vec<f32> = bytemuck::pod_collect_to_vec(data);
    change(shape, &mut values);
    *data = bytemuck::cast_slice(&values).to_vec();
}

fn apply(tensors: &mut Tensors, fold: &Fold, seed: usize) {
    let scales = scales(fold.width(), seed);
    for reader in &fold.readers {
        edit(tensors, &reader.tensor, |shape, values| fold.multiply(reader.axis, shape[1], values, &scales));
    }
    for writer in &fold.writers {
        edit(tensors, &writer.tensor, |shape, values| writer.divide(shape, values, &scales));
    }
}

/// In every family, with biases, shared heads, one matrix for all of attention, and experts.
#[test]
fn scales_leave_the_logits_as_they_are() {
    for name in MODELS {
        let (tiny, (ids, expected)) = (Tiny::new(name), reference(name));
        let model = Model::open(tiny.path(), &[], &Registry::linked().unwrap()).unwrap();
        let found = Differentiable::open(&model).unwrap();
        let folds = found.folds();
        // Those of attention, and one for each of four or six experts.
        let each = match name {
            "gpt2" => 3,
            "mixtral" => 2 + 4,
            "qwen3-moe" => 2 + 6,
            _ => 4,
        };
        assert_eq!(folds.len(), each * found.config().layers + usize::from(found.tables().2.is_some()), "{name}");
        drop(model);
        tiny.rewrite(|tensors| folds.iter().enumerate().for_each(|(seed, fold)| apply(tensors, fold, seed)));
        let scaled = logits(&tiny.decoder(2).unwrap(), &ids, 64, CacheType::F32);
        assert!(difference(&scaled, &expected) < 2e-4, "{name}: {}", difference(&scaled, &expected));
        // A scale without its inverse does change them.
        tiny.rewrite(|tensors| {
            let writer = &folds[1].writers[0];
            edit(tensors, &writer.tensor, |shape, values| writer.divide(shape, values, &scales(folds[1].width(), 1)));
        });
        let broken = logits(&tiny.decoder(2).unwrap(), &ids, 64, CacheType::F32);
        assert!(difference(&broken, &expected) > 1e-2, "{name}");
    }
}
