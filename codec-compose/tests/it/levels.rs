//! Quality levels of residuals.

use codec_api::{Certificate, CodecError, DecodeCx, EncodeCx, EncodedTensor, QualityLevel, TensorView, survey};
use harness::testing::weights;

use crate::{codec, encoded};

const SHAPE: [usize; 2] = [128, 256];

/// The payload of the levels up to this one.
fn prefix(whole: &EncodedTensor, levels: &[QualityLevel], level: usize) -> EncodedTensor {
    let names: Vec<String> = whole.payload.sections().keys().cloned().collect();
    let kept: Vec<_> = names.into_iter().filter(|name| levels[..=level].iter().any(|part| part.has(name))).collect();
    let mut prefix = whole.clone();
    prefix.payload = whole.payload.restricted_to(&kept);
    prefix
}

#[test]
fn levels_are_those_of_the_children_in_turn() {
    let spec = codec_api::TensorSpec::new(codec_api::Dtype::F32, SHAPE).unwrap();
    let names = |text: &str| -> Vec<String> {
        codec(text).levels(&spec).into_iter().map(|level| level.sections.join(" ")).collect()
    };
    assert_eq!(names("quant.int"), [""]);
    assert_eq!(names("residual(quant.int,quant.int)"), ["first/", "second/"]);
    assert_eq!(names("residual(residual(quant.int,quant.int),trellis)"), ["first/first/", "first/second/", "second/"]);
    assert_eq!(names("residual(trellis,residual(trellis,quant.int))"), ["first/", "second/first/", "second/second/"]);
    let residual = codec("residual(quant.int,quant.int)");
    let least: u64 = residual.levels(&spec).iter().map(|level| *level.bytes.start()).sum();
    assert_eq!(least, *residual.cost(&spec).bytes.start());
}

#[test]
fn a_level_decodes_from_its_sections_alone() {
    let values = weights("gaussian", SHAPE[0] * SHAPE[1]);
    for spec in [
        "residual(quant.int:bits=3,residual(quant.int:bits=3,lossless.zstd))",
        "residual(trellis:bits=2,trellis:bits=1)",
    ] {
        let whole = encoded(spec, &SHAPE, &values, &EncodeCx::new(0));
        let levels = whole.codec.levels(&whole.spec);
        let mut before = f64::INFINITY;
        for level in 0..levels.len() {
            let prefix = prefix(&whole, &levels, level);
            let decoded = prefix.decode_level(level, &DecodeCx::new()).unwrap();
            assert_eq!(decoded, whole.decode_level(level, &DecodeCx::new()).unwrap());
            let mut stored = vec![0; 4 * values.len()];
            whole.decode_level_stored(level, &DecodeCx::new(), &mut stored).unwrap();
            assert_eq!(stored, decoded.iter().flat_map(|w| w.to_le_bytes()).collect::<Vec<_>>());
            let nmse = Certificate::measure(&values, &decoded).nmse();
            assert!(nmse < before, "{spec}, level {level}");
            before = nmse;
            let beyond = prefix.decode_level(level + 1, &DecodeCx::new());
            assert!(beyond.is_err(), "{spec}, level {level}");
        }
        assert_eq!(
            whole.decode_level(levels.len() - 1, &DecodeCx::new()).unwrap(),
            whole.decode(&DecodeCx::new()).unwrap()
        );
        let beyond = whole.decode_level(levels.len(), &DecodeCx::new());
        assert!(matches!(beyond, Err(CodecError::Usage(_))), "{beyond:?}");
    }
}

#[test]
fn levels_of_trellises_cost_little() {
    let spec = "residual(trellis:states=64:bits=2,residual(trellis:states=64:bits=1,trellis:states=64:bits=1))";
    for kind in ["gaussian", "laplace", "scale-mixed"] {
        let values = weights(kind, SHAPE[0] * SHAPE[1]);
        let whole = encoded(spec, &SHAPE, &values, &EncodeCx::new(0));
        let levels = whole.codec.levels(&whole.spec);
        for level in 0..3 {
            let bits = 8.0 * prefix(&whole, &levels, level).payload.bytes() as f64 / values.len() as f64;
            let one = encoded(&format!("trellis:states=64:bits={bits}"), &SHAPE, &values, &EncodeCx::new(0));
            let found = Certificate::measure(&values, &whole.decode_level(level, &DecodeCx::new()).unwrap());
            let ratio = found.nmse() / one.certificate.nmse();
            println!("{kind}, level {level}: {bits:.3} bits, {ratio:.3} of the error of one level");
            assert!(ratio <= 1.25, "{kind}, level {level}: {ratio}");
        }
    }
}

#[test]
fn chunks_share_the_statistics_of_the_first() {
    let (codec, values) = (codec("residual(trellis:bits=3,trellis:bits=2)"), weights("gaussian", 64 * 256));
    let (view, cx) = (TensorView::from_f32([64, 256], &values).unwrap(), EncodeCx::new(0));
    let facet = codec.as_surveyed().unwrap();
    assert!(!facet.chunks_equal_whole());
    let found = survey(facet, |found| {
        let mut cx = cx.clone();
        cx.shared = found.map(codec_api::Statistics::shared);
        [0, 32]
            .map(|row| facet.observe(view.rows(row, row + 32)?, &cx.for_rows(view.spec(), row..row + 32)?))
            .into_iter()
            .collect()
    })
    .unwrap();
    let cx = cx.with_shared(found.shared());
    let step = |row: usize| {
        let chunk = view.rows(row, row + 32).unwrap();
        let chunk =
            EncodedTensor::encode(codec.clone(), chunk, &cx.for_rows(view.spec(), row..row + 32).unwrap()).unwrap();
        assert!(chunk.certificate.nmse() < 0.004);
        chunk.payload.sections()["first/step"].data().clone()
    };
    // The points of a chunk are fitted to its weights, which moves the step a little.
    let [a, b] = [step(0), step(32)].map(|bytes| f32::from_le_bytes(bytes.as_ref().try_into().unwrap()));
    assert!((a / b - 1.0).abs() < 0.02, "{a} {b}");
}
