//! From weights to codebooks and indices.

use codec_api::util::{Importance, pack_bits};
use codec_api::{Dtype, EncodeCx, Payload, Result, Section, TensorView};
use simd::{f16_to_f32, f32_to_f16, max_abs};

use super::points::Source;
use super::train::{Assignment, sample_size, train};
use super::{Layout, NAMES, Stage, VectorQuant};

/// F16 octave of the largest weight: between 2^14 and 2^15.
const TOP_OCTAVE: i32 = 14;
/// The largest centroid, below 2^15, so that even the largest f32 is rounded to a finite number.
const LARGEST: f32 = 32752.0;

pub(super) fn encode(codec: &VectorQuant, tensor: &TensorView<'_>, cx: &EncodeCx<'_>) -> Result<Payload> {
    cx.cancel.check()?;
    let values = tensor.to_finite_f32()?;
    let layout = codec.layout(tensor.spec());
    let exponent = exponent_of(max_abs(&values));
    let unit = f32::from_bits(((127 - exponent) as u32) << 23);
    let importance = Importance::new(tensor.spec(), cx)?;
    let source = Source { values: &values, length: layout.length, unit, importance };
    let sizes: Vec<usize> = layout.stages.iter().map(|stage| stage.size).collect();
    let points = source.gather(0..source.count());
    let mut books = train(&source, &points, &sizes, cx)?;
    let halves: Vec<Vec<u16>> = books.iter_mut().map(|book| round(book)).collect();
    let indices = Assignment::new(&points, &books, cx.cancel)?.indices;

    let exponent = Section::from_values(Dtype::I8, [1], vec![exponent as i8])?;
    let mut payload = Payload::new().with("exponent", exponent)?;
    for (((stage, [codebook, name]), indices), halves) in layout.stages.iter().zip(NAMES).zip(indices).zip(halves) {
        let packed = pack_bits(indices.into_iter().map(u64::from), stage.bits);
        payload = payload
            .with(codebook, Section::from_values(Dtype::F16, [stage.size, layout.length], halves)?)?
            .with(name, Section::from_bytes(packed)?)?;
    }
    cx.progress.tick(values.len() as u64);
    Ok(payload)
}

/// Heap bytes of an encode with calibration: all vectors and the sample, the residuals of the
/// sample, the state of rounds for each vector and for each coordinate of a centroid, and the
/// products of centroids.
pub(super) fn scratch_bytes(layout: &Layout) -> u64 {
    let of_vector = 2 * size_of::<f32>() * layout.length;
    let sample = layout.vectors.min(sample_size(layout.stages.iter().map(|stage| stage.size)));
    let of_stage = |stage: &Stage| {
        let coordinates = stage.size * layout.length;
        sample * of_vector
            + layout.vectors * size_of::<u16>()
            + coordinates * (2 * size_of::<f64>() + 3 * size_of::<f32>())
    };
    let stages: usize = layout.stages.iter().map(of_stage).sum();
    let errors = layout.vectors * 2 * size_of::<f32>();
    // Some extra for the padding of last blocks.
    (layout.vectors * of_vector + stages + errors + size_of::<f32>() * layout.choices() + 4096) as u64
}

/// Exponent of the power of two by which weights are divided. It puts the largest weight in
/// [`TOP_OCTAVE`], or below it if the weights are near the lower end of f32.
fn exponent_of(largest: f32) -> i32 {
    ((largest.to_bits() >> 23) as i32 - 127 - TOP_OCTAVE).max(-126)
}

/// Rounds centroids to F16; returns their bits and replaces the centroids by their values.
fn round(book: &mut [f32]) -> Vec<u16> {
    for c in book.iter_mut() {
        *c = c.clamp(-LARGEST, LARGEST);
    }
    let mut halves = vec![0; book.len()];
    f32_to_f16(book, &mut halves);
    f16_to_f32(&halves, book);
    halves
}
