//! Events that opening sends to a tracing subscriber.

use std::fs::File;

use checkpoint::Checkpoint;

use crate::support::{Dir, model, pair};

#[test]
fn opening_tells_path_tensors_and_bytes() {
    let dir = Dir::new();
    let path = dir.write("made.safetensors", model(&[pair("v", [1.0, 2.0]), pair("w", [3.0, 4.0])]));
    let log = dir.path().join("log");
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::DEBUG)
        .with_ansi(false)
        .with_writer(File::create(&log).unwrap())
        .finish();
    tracing::subscriber::with_default(subscriber, || Checkpoint::open(&path)).unwrap();
    let text = std::fs::read_to_string(log).unwrap();
    for part in ["DEBUG open{path=", "made.safetensors", "opened", "files=1", "tensors=2", "bytes=16"] {
        assert!(text.contains(part), "`{part}` is not in: {text}");
    }
}
