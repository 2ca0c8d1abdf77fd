//! The effect of each key, refusals, and checks beyond the laws' presets.

use crate::common::{encode, low_rank};
use codec_api::{CodecError, Dtype, Registry, TensorSpec};
use faer::linalg::svd::{ComputeSvdVectors, svd_scratch};
use faer::{Par, Spec};
use harness::testing::weights;

const SHAPE: [usize; 2] = [96, 64];

/// A matrix of full rank with decreasing components.
fn falling() -> Vec<f32> {
    let (strong, weak) = (low_rank(SHAPE, 4, 0.3), low_rank(SHAPE, 30, 0.01));
    strong.iter().zip(weak).map(|(a, b)| a + 0.1 * b).collect()
}

#[test]
fn every_preset_is_there() {
    let registry = Registry::linked().unwrap();
    let names: Vec<_> = registry.presets_of("lowrank.svd").iter().map(|(name, _)| *name).collect();
    assert_eq!(names, ["energy", "rank8", "rank8-int8", "half-energy", "half-error"]);
}

#[test]
fn at_most_one_key_says_how_much_is_kept() {
    let registry = Registry::linked().unwrap();
    let refused = |spec: &str| registry.parse_spec(spec).unwrap_err().to_string();
    let keys = ["rank=3", "energy=0.5", "error=0.5", "bytes=100"];
    for (i, one) in keys.iter().enumerate() {
        for other in &keys[i + 1..] {
            let message = refused(&format!("lowrank.svd:{one}:{other}"));
            let named =
                [one, other].iter().all(|key| message.contains(&format!("`{}`", key.split_once('=').unwrap().0)));
            assert!(named, "{message}");
        }
    }
    for (key, wanted) in [
        ("rank=0", "rank: 0 is out of range"),
        ("energy=0", "energy: 0 is out of range"),
        ("energy=1.5", "energy: 1.5 is out of range"),
        ("error=-1", "error: -1 is out of range"),
        ("bytes=0", "bytes: "),
        ("method=best", "best"),
    ] {
        let message = refused(&format!("lowrank.svd:{key}"));
        assert!(message.contains(wanted), "{message}");
    }
    assert!(refused("lowrank.svd:preset=rank8:energy=0.5").contains("`rank` and `energy`"));
    // A null key counts as absent; the default is written out.
    let inner = r#"{"codec":"quant.cast","version":1,"to":"f16"}"#;
    let header =
        format!(r#"{{"codec":"lowrank.svd","version":1,"inner":{inner},"rank":null,"energy":0.9999,"method":"auto"}}"#);
    let codec = registry.parse_header(&header).unwrap();
    assert_eq!(registry.spec_of(&*codec), "lowrank.svd(quant.cast:to=f16):energy=0.9999:method=auto");
    assert_eq!(registry.spec_of(&*registry.parse_spec("lowrank.svd").unwrap()), registry.spec_of(&*codec));
}

#[test]
fn bytes_is_kept_and_used_up() {
    let values = falling();
    for inner in ["lossless.raw", "quant.cast", "quant.int:bits=4", "lossless.zstd"] {
        for limit in [700u64, 2_000, 2_001, 6_000] {
            let coded = encode(&format!("lowrank.svd({inner}):bytes={limit}"), &SHAPE, &values);
            let Ok(coded) = coded else {
                assert!(limit == 700 && inner.starts_with("lossless"), "{inner} in {limit} bytes");
                continue;
            };
            assert!(coded.bytes() <= limit, "{inner}: {} bytes of {limit}", coded.bytes());
            match encode(&format!("lowrank.svd({inner}):rank={}", coded.rank() + 1), &SHAPE, &values) {
                Ok(more) => assert!(more.bytes() > limit, "{inner}: another component also fits into {limit} bytes"),
                Err(_) => assert_eq!(coded.rank(), 38, "{inner} in {limit} bytes: the break-even is 38.161"),
            }
        }
    }
    // A limit above the tensor's size acts as that size; the inner codec saves little of noise.
    let noise = harness::testing::weights("gaussian", 64 * 64);
    let all = encode("lowrank.svd(lossless.zstd):bytes=100000", &[64, 64], &noise).unwrap();
    assert!(all.bytes() < 4 * 64 * 64);
    let refusal = encode("lowrank.svd:bytes=100", &SHAPE, &values).err().unwrap();
    assert!(matches!(refusal, CodecError::Unsuitable { number: 326.0, .. }), "{refusal}");
}

#[test]
fn error_is_kept_by_the_lowest_rank_that_does() {
    let values = falling();
    for inner in ["lossless.raw", "quant.cast", "quant.int:bits=8", "quant.int:bits=6"] {
        for limit in [0.8, 0.3, 0.12, 0.08] {
            let coded = encode(&format!("lowrank.svd({inner}):error={limit}"), &SHAPE, &values).unwrap();
            assert!(coded.error <= limit, "{inner}: {} above {limit}", coded.error);
            if coded.rank() > 1 {
                let less = encode(&format!("lowrank.svd({inner}):rank={}", coded.rank() - 1), &SHAPE, &values).unwrap();
                assert!(less.error > limit, "{inner}: rank {} also keeps {limit}", coded.rank() - 1);
            }
        }
    }
    match encode("lowrank.svd(quant.int:bits=3):error=0.001", &SHAPE, &values).err().unwrap() {
        CodecError::Unsuitable { reason, number } => {
            assert!(reason.contains("rank 38") && number > 0.001 && number < 1.0, "{reason} ({number})");
        }
        other => panic!("{other}"),
    }
}

#[test]
fn zeros_have_one_component_of_nothing() {
    for keep in ["", ":error=0.1", ":bytes=400"] {
        let coded = encode(&format!("lowrank.svd{keep}"), &SHAPE, &vec![0.0; 96 * 64]).unwrap();
        assert_eq!(coded.s(), [0.0]);
        assert!(coded.decoded.iter().all(|w| *w == 0.0));
    }
    assert_eq!(encode("lowrank.svd:rank=3", &SHAPE, &vec![0.0; 96 * 64]).unwrap().s(), [0.0; 3]);
}

#[test]
fn what_cannot_pay_is_refused_with_the_number() {
    let registry = Registry::linked().unwrap();
    let codec = registry.parse_spec("lowrank.svd").unwrap();
    for (shape, even) in
        [(&[1, 300][..], "0.993"), (&[300, 1], "0.993"), (&[77], "0.975"), (&[], "0.333"), (&[0, 5], "0.000")]
    {
        let refusal = codec.accepts(&TensorSpec::new(Dtype::F32, shape).unwrap()).unwrap_err();
        assert!(matches!(&refusal, CodecError::Unsupported(reason) if reason.contains(even)), "{shape:?}: {refusal}");
    }
    // Rank 1 pays with 8 numbers instead of 10. As F16 it does not pay: vectors of 14 bytes, and 6
    // for exponent and singular value, are as many bytes as the tensor has.
    assert!(codec.accepts(&TensorSpec::new(Dtype::F32, [2, 5]).unwrap()).is_ok());
    let refusal = codec.accepts(&TensorSpec::new(Dtype::F16, [2, 5]).unwrap()).unwrap_err();
    assert!(refusal.to_string().contains("20 bytes, the tensor 20"), "{refusal}");

    let values = weights("gaussian", 7 * 100);
    for rank in [7.0, 8.0, 1e6] {
        match encode(&format!("lowrank.svd:rank={rank}"), &[7, 100], &values).err().unwrap() {
            CodecError::Unsuitable { reason, number } => {
                assert!(number == rank && reason.contains("6.481"), "{reason} ({number})");
            }
            other => panic!("{other}"),
        }
    }
    assert!(encode("lowrank.svd:rank=6", &[7, 100], &values).is_ok());
    // The default energy needs nearly all components of noise, more than any rank that pays.
    match encode("lowrank.svd", &SHAPE, &weights("gaussian", 96 * 64)).err().unwrap() {
        CodecError::Unsuitable { reason, number } => {
            assert!((60.0..=64.0).contains(&number) && reason.contains("38.161"), "{reason} ({number})");
        }
        other => panic!("{other}"),
    }
}

#[test]
fn coded_factors_may_not_outweigh_the_tensor() {
    let registry = Registry::linked().unwrap();
    // As F16 the tensor has half the bytes per number of its factors in F32: rank 19 pays, rank 20
    // does not.
    let codec = registry.parse_spec("lowrank.svd(lossless.raw):rank=20").unwrap();
    let spec = TensorSpec::new(Dtype::F16, SHAPE).unwrap();
    codec.accepts(&spec).unwrap();
    let bytes = vec![0x3c; spec.byte_len()];
    let view = codec_api::TensorView::new(spec, &bytes).unwrap();
    match codec.encode(view, &codec_api::EncodeCx::new(0)).unwrap_err() {
        CodecError::Unsuitable { reason, number } => {
            assert!(reason.contains("above rank 19") && number == 20.0, "{reason}");
        }
        other => panic!("{other}"),
    }
}

#[test]
fn a_convolution_kernel_is_a_matrix_of_its_outputs() {
    let values = low_rank([64, 288], 6, 0.01);
    let (kernel, matrix) =
        (encode("lowrank.svd", &[64, 32, 3, 3], &values), encode("lowrank.svd", &[64, 288], &values));
    let (kernel, matrix) = (kernel.unwrap(), matrix.unwrap());
    assert_eq!((kernel.rank(), &kernel.decoded), (6, &matrix.decoded));
    assert_eq!(kernel.encoded.payload, matrix.encoded.payload);
}

#[test]
fn left_vectors_have_their_largest_element_positive() {
    let coded = encode("lowrank.svd(lossless.raw):rank=8", &SHAPE, &falling()).unwrap();
    let u: Vec<f32> = coded.encoded.payload.view().scoped("u").values("data", Dtype::F32, &[8, 96]).unwrap();
    for u in u.chunks_exact(96) {
        let largest = u.iter().fold(0.0f32, |most, x| if x.abs() > most.abs() { *x } else { most });
        let norm: f32 = u.iter().map(|x| x * x).sum();
        assert!(largest > 0.0 && (norm - 1.0).abs() < 1e-5, "{largest}, norm² {norm}");
    }
    assert!(coded.s().is_sorted_by(|a, b| a >= b));
}

#[test]
fn the_memory_of_a_decomposition_is_predicted() {
    let codec = Registry::linked().unwrap().parse_spec("lowrank.svd:rank=8").unwrap();
    for shape in [[768, 768], [3072, 768], [768, 3072], [4096, 4096], [4096, 11008]] {
        let [rows, columns] = shape;
        let thin = ComputeSvdVectors::Thin;
        let svd = svd_scratch::<f32>(columns, rows, thin, thin, Par::Seq, Spec::default());
        let vectors = rows.min(columns) * (rows + columns);
        let taken = 4 * (rows * columns + vectors) + svd.unaligned_bytes_required();
        let predicted = codec.cost(&TensorSpec::new(Dtype::F32, shape).unwrap()).scratch_bytes;
        let share = predicted as f64 / taken as f64;
        // The prediction also covers a decomposition in f64, which takes more for a square matrix.
        assert!((1.0..1.6).contains(&share), "{rows} x {columns}: {predicted} bytes predicted, {taken} taken");
    }
}
