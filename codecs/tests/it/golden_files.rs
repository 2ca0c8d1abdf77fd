//! The golden files: one per preset, written once per format version and decoded in every later
//! version.

use std::path::PathBuf;
use std::sync::Arc;

use codec_api::{
    BaseTensor, Codec, CodecEntry, DecodeCx, Dtype, EncodeCx, EncodedTensor, Need, Registry, TensorSpec, TensorView,
};

/// Shapes to try in this order: rows that end inside a group of any size; rows of whole blocks, for
/// codecs that require them; more rows, for codecs that refuse a tensor with few rows.
const SHAPES: [[usize; 2]; 3] = [[7, 100], [3, 256], [40, 100]];

/// The directory of the files. A name that ends in `-1` is that of a file of format version 1 of a
/// codec that has a newer one.
pub fn directory() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("golden/v1")
}

/// File names without extension, and codecs, of all presets with a stable format.
pub fn presets(registry: &Registry) -> impl Iterator<Item = (String, Arc<dyn Codec>)> {
    let ours = |entry: &CodecEntry| entry.origin.0.starts_with("netweight-codec-") && !entry.experimental;
    registry
        .presets()
        .filter(move |(entry, ..)| ours(entry))
        .map(|(entry, name, codec)| (format!("{}-{name}", entry.id), codec))
}

/// The default tensor: rows of different scale, zeros, an outlier.
pub fn weights([rows, columns]: [usize; 2]) -> Vec<f32> {
    let mut state = 1u32;
    let mut random = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1u32 << 24) as f32 - 0.5
    };
    let mut weights: Vec<f32> =
        (0..rows * columns).map(|i| (random() + random()) * [0.02, 1.0, 40.0][i / columns % 3]).collect();
    weights[250..260].fill(0.0);
    weights[333] = -321.5;
    weights
}

/// A matrix of rank one, for codecs that refuse the default tensor as unsuitable.
fn of_rank_one([rows, columns]: [usize; 2]) -> Vec<f32> {
    (0..rows * columns).map(|i| (i / columns) as f32 * 0.25 * ((i % columns * 37 % columns) as f32 - 20.0)).collect()
}

/// The tensor for sparse codecs: never two nonzero values among four neighbours.
fn mostly_zeros(shape: [usize; 2]) -> Vec<f32> {
    weights(shape).into_iter().enumerate().map(|(i, w)| if i % 19 == 0 { w } else { 0.0 }).collect()
}

/// The base for codecs that require one: all weights of the default tensor, changed by up to a few
/// per cent.
fn base(shape: [usize; 2]) -> Vec<f32> {
    weights(shape).into_iter().enumerate().map(|(i, w)| w * (1.0 + 0.005 * ((i * 37 % 13) as f32 - 6.0))).collect()
}

/// What this program encodes for a preset.
pub fn encode(codec: &Arc<dyn Codec>) -> EncodedTensor {
    let cx = EncodeCx::for_tensor(0, "golden");
    let relative = codec.needs().base == Need::Requires;
    let mut shapes = SHAPES;
    if relative {
        // Starts with the shape with most rows, for formats that share data along a column.
        shapes.reverse();
    }
    // Pruning creates its own zeros.
    let sparse = codec.typetag_name().starts_with("sparse") && codec.typetag_name() != "sparse.prune";
    let first = if sparse { mostly_zeros } else { weights };
    let encoded = [first as fn([usize; 2]) -> Vec<f32>, of_rank_one]
        .into_iter()
        .flat_map(|fill| shapes.map(|shape| (shape, fill(shape))))
        .find_map(|(shape, weights)| {
            let (base, mut cx) = (base(shape), cx.clone());
            let [tensor, base] = [&weights, &base].map(|v| TensorView::from_f32(shape, v).expect("the shape fits"));
            cx.base = relative.then(|| BaseTensor::new(base));
            EncodedTensor::encode(Arc::clone(codec), tensor, &cx).ok()
        });
    let encoded = encoded.or_else(|| encode_bf16(codec, &cx));
    encoded.expect("it takes one of them")
}

/// The default tensor truncated to BF16, for codecs that accept only BF16.
fn encode_bf16(codec: &Arc<dyn Codec>, cx: &EncodeCx<'_>) -> Option<EncodedTensor> {
    let bytes: Vec<u8> = weights(SHAPES[0]).iter().flat_map(|w| ((w.to_bits() >> 16) as u16).to_le_bytes()).collect();
    let spec = TensorSpec::new(Dtype::BF16, SHAPES[0]).expect("a small shape");
    let tensor = TensorView::new(spec, &bytes).expect("the shape fits");
    EncodedTensor::encode(Arc::clone(codec), tensor, cx).ok()
}

/// blake3 of the bits of the decoded values, in hexadecimal.
pub fn decoded_hash(file: Vec<u8>, registry: &Registry) -> String {
    let encoded = EncodedTensor::from_bytes(&file.into(), registry).expect("the file is read");
    let base = <[usize; 2]>::try_from(encoded.spec.shape()).map(base).expect("every file has a matrix");
    let mut cx = DecodeCx::new();
    if encoded.codec.needs().base == Need::Requires {
        cx = cx.with_base(BaseTensor::new(TensorView::from_f32(encoded.spec.shape(), &base).expect("the shape fits")));
    }
    let values = encoded.decode(&cx).expect("the file decodes");
    let mut hash = blake3::Hasher::new();
    for value in values {
        hash.update(&value.to_le_bytes());
    }
    hash.finalize().to_string()
}
