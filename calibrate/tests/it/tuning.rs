//! Norms and biases, tuned after a compression.

use std::collections::BTreeMap;
use std::sync::Arc;

use calibrate::{Compressed, Tuning};
use codec_api::{Codec, InputAxis};

use super::sequential::{Opened, opened};

const MATRICES: &str = "quant.int:bits=2:group=64";
const VECTORS: &str = "quant.cast:to=f16";

fn codecs(of: &Opened) -> BTreeMap<String, Arc<dyn Codec>> {
    let spec = |name: &str| if name.contains("norm") { VECTORS } else { MATRICES };
    of.source.names().map(|name| (name.to_owned(), of.codec(spec(name)).expect("a codec"))).collect()
}

fn compressed(of: &Opened) -> Compressed {
    let choice = |name: &str, _: InputAxis| Ok(Some(of.codec(MATRICES)?).filter(|_| name.contains("layers")));
    of.run(2, &choice)
}

/// The vectors lower the divergence on sequences that they were not tuned on; one thread and three
/// give the same bytes.
#[test]
fn tuned_vectors_lower_the_divergence_on_held_out_sequences() {
    let mut of = opened();
    of.statistics.sequences.truncate(of.statistics.sequences.len() / 3);
    let (before, codecs) = (compressed(&of), codecs(&of));
    let run = |threads: usize| {
        let (mut tuned, told) = (before.clone(), std::sync::Mutex::new(Vec::new()));
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
        let each = |steps: usize, divergence: f64| told.lock().expect("no panic").push((steps, divergence));
        let tuning = Tuning { subject: of.subject(), codecs: &codecs };
        pool.install(|| tuning.run(&mut tuned, &each)).expect("vectors");
        (tuned, told.into_inner().expect("no panic"))
    };
    let ((tuned, told), (again, _)) = (run(1), run(3));
    assert!(tuned.payloads == again.payloads && tuned.divergence == again.divergence);
    let [first, last] = [told[0], told[told.len() - 1]];
    assert_eq!((first.0, last.0), (0, 40));
    // The tuner's own passes agree with those of the compression.
    assert!((first.1 / before.divergence.expect("held out") - 1.0).abs() < 1e-3, "{first:?}");
    let least = told.iter().map(|(_, divergence)| *divergence).fold(f64::INFINITY, f64::min);
    assert_eq!(tuned.divergence, Some(least));
    assert!(least < first.1, "{told:?}");
    let vectors = tuned.payloads.keys().filter(|name| !before.payloads.contains_key(*name));
    assert!(vectors.clone().count() == 2 * 5 + 1 && vectors.clone().all(|name| name.contains("norm")));
}

#[test]
fn without_sequences_it_is_refused() {
    let mut of = opened();
    let (mut compressed, codecs) = (compressed(&of), codecs(&of));
    let held_out = std::mem::take(&mut of.statistics.held_out);
    for _ in 0..2 {
        let tuning = Tuning { subject: of.subject(), codecs: &codecs };
        let error = tuning.run(&mut compressed, &|_, _| ()).unwrap_err().to_string();
        assert!(error.contains("no sequences are held out"), "{error}");
        // Nothing to learn from.
        (of.statistics.sequences, of.statistics.held_out) = (Vec::new(), held_out.clone());
    }
}
