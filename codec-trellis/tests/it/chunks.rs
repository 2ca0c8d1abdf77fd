//! Chunks that share the statistics of their tensor.

use codec_api::{
    Calibration, Codec, CodecError, DecodeCx, EncodeCx, InputAxis, Payload, Registry, Statistics, TensorView, survey,
};
use codec_trellis::Trellis;
use harness::testing::weights;

use super::nmse;

/// A tensor encoded in chunks: the shared statistics, the payloads and the decoded weights.
struct Chunked {
    shared: Statistics,
    payloads: Vec<Payload>,
    decoded: Vec<f32>,
}

impl Chunked {
    fn new(spec: &str, shape: [usize; 2], values: &[f32], cx: &EncodeCx<'_>, count: usize) -> Self {
        let codec = Registry::linked().unwrap().parse_spec(spec).unwrap();
        let (facet, view) = (codec.as_surveyed().unwrap(), TensorView::from_f32(shape, values).unwrap());
        let ranges: Vec<_> = (0..count).map(|i| i * shape[0] / count..(i + 1) * shape[0] / count).collect();
        let chunk = |i: usize, cx: &EncodeCx<'_>, found: Option<&Statistics>| {
            let rows = ranges[i].clone();
            let mut cx = cx.clone();
            cx.shared = found.map(Statistics::shared);
            let part = facet.observe(view.rows(rows.start, rows.end)?, &cx.for_rows(view.spec(), rows)?)?;
            Ok::<_, CodecError>(part)
        };
        let shared = survey(facet, |found| (0..count).map(|i| chunk(i, cx, found)).collect()).unwrap();
        let (mut payloads, mut decoded) = (Vec::new(), Vec::new());
        let cx = cx.clone().with_shared(shared.shared());
        for rows in ranges {
            let chunk = view.rows(rows.start, rows.end).unwrap();
            let payload = codec.encode(chunk.clone(), &cx.for_rows(view.spec(), rows).unwrap()).unwrap();
            let mut out = vec![0.0; chunk.spec().elements()];
            codec.decode(chunk.spec(), payload.view(), &DecodeCx::new(), &mut out).unwrap();
            payloads.push(payload);
            decoded.extend(out);
        }
        Self { shared, payloads, decoded }
    }

    /// Bytes of these sections in all chunks.
    fn bytes(&self, names: &[&str]) -> f64 {
        let sections = self.payloads.iter().flat_map(codec_api::Payload::sections);
        sections
            .filter(|(name, _)| names.contains(&name.as_str()))
            .map(|(_, section)| section.data().len() as f64)
            .sum()
    }

    fn steps(&self) -> Vec<f32> {
        let step = |payload: &Payload| payload.sections()["step"].data().as_ref().try_into().unwrap();
        self.payloads.iter().map(|payload| f32::from_le_bytes(step(payload))).collect()
    }
}

/// What each chunk has once, or once for each column.
const TABLES: [&str; 5] = ["step", "shifts", "model", "columns", "exponent"];
const CODES: [&str; 6] = ["streams", "lengths", "escapes", "escape_lengths", "low", "rows"];

#[test]
fn chunks_have_one_step_and_the_rate_of_the_whole() {
    let shape = [1024, 1024];
    for (suite, spec, bits) in [
        ("laplace:1024x1024", "trellis:bits=1", 1.0),
        ("gaussian:1024x1024", "trellis:bits=3", 3.0),
        ("laplace:1024x1024", "trellis:bits=4:states=64", 4.0),
    ] {
        let values = weights(suite, shape[0] * shape[1]);
        let chunked = [1, 3, 8].map(|count| Chunked::new(spec, shape, &values, &EncodeCx::new(0), count));
        let whole = chunked[0].bytes(&CODES);
        for found in &chunked {
            let (case, count) = (format!("{spec} in {} chunks", found.payloads.len()), found.payloads.len() as f64);
            assert_eq!(found.shared, chunked[0].shared, "{case}");
            // Each chunk fits the decoded step to its weights.
            let near = |step: &f32| (step / chunked[0].steps()[0] - 1.0).abs() < if bits < 1.5 { 0.1 } else { 0.005 };
            assert!(found.steps().iter().all(near), "{case}: {:?}", found.steps());
            // The states of each stream.
            let states = 128.0 * count;
            assert!((found.bytes(&CODES) - whole).abs() <= 1e-3 * whole + states, "{case}: {}", found.bytes(&CODES));
            assert!(found.bytes(&TABLES) <= 1000.0 * count, "{case}: {}", found.bytes(&TABLES));
            let rate = 8.0 * (found.bytes(&CODES) + found.bytes(&TABLES) / count) / values.len() as f64;
            assert!((0.99 * bits..=1.003 * bits).contains(&rate), "{case}: {rate} bits");
        }
        let errors = chunked.map(|found| nmse(&values, &found.decoded));
        assert!(errors.iter().all(|error| (error / errors[0] - 1.0).abs() < 0.005), "{spec}: {errors:?}");
    }
}

/// A sample of the rows finds the step, although most of the energy is in a few rows.
#[test]
fn a_sample_represents_all_rows() {
    let shape = [12_288, 256];
    let mut values = weights("gaussian:12288x256", shape[0] * shape[1]);
    for (row, values) in values.chunks_mut(shape[1]).enumerate() {
        let scale = if row % 97 == 3 { 20.0 } else { 1.0 + row as f32 / shape[0] as f32 };
        for w in values.iter_mut() {
            *w *= scale;
        }
    }
    let found = Chunked::new("trellis:bits=3", shape, &values, &EncodeCx::new(0), 3);
    let rate = 8.0 * (found.bytes(&CODES) + found.bytes(&TABLES) / 3.0) / values.len() as f64;
    assert!((2.97..=3.02).contains(&rate), "{rate} bits");
    let found = Chunked::new("trellis:error=0.01", shape, &values, &EncodeCx::new(0), 3);
    let error = nmse(&values, &found.decoded);
    assert!((0.0098..=0.0101).contains(&error), "{error}");
}

#[test]
fn importances_are_relative_to_the_largest_of_the_tensor() {
    let shape = [256, 256];
    let values = weights("gaussian", shape[0] * shape[1]);
    // The rows of the first chunk are the most important ones.
    let squares: Vec<f32> = (0..256).map(|row| if row < 64 { 16.0 } else { 1.0 }).collect();
    let cx = EncodeCx::new(0).with_calibration(Calibration::new(InputAxis::Rows, &squares));
    let found = Chunked::new("trellis:bits=4", shape, &values, &cx, 4);
    let error = |rows: std::ops::Range<usize>| {
        let part = rows.start * 256..rows.end * 256;
        nmse(&values[part.clone()], &found.decoded[part])
    };
    let ratio = error(64..256) / error(0..64);
    assert!((14.0..18.0).contains(&ratio), "{ratio}");
}

#[test]
fn foreign_statistics_are_refused() {
    let values = [1.0; 8];
    let encode = |scalars: &[f64]| {
        let shared = Statistics::new(scalars.to_vec(), Vec::new());
        let tensor = TensorView::from_f32([2, 4], &values).unwrap();
        Trellis::default().encode(tensor, &EncodeCx::new(0).with_shared(shared.shared()))
    };
    for scalars in [&[][..], &[1.0], &[2.0, 4.0, 1.0, 0.0], &[2.0, 4.0, 1.0, 0.0, 0.1, 7.0]] {
        assert!(matches!(encode(scalars), Err(CodecError::Usage(_))), "{scalars:?}");
    }
}
