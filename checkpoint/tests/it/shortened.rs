//! A file that becomes shorter while it is open. Windows does not allow this.
#![cfg(unix)]

use std::fs::{self, File};
use std::path::Path;

use checkpoint::{Checkpoint, Error};

use crate::support::{Dir, assert_says, model, pair};

const ONE: &str = "1.safetensors";
const TWO: &str = "2.safetensors";

/// A model of two files. Both are larger than a page, so that reading behind the end of a shortened
/// one would kill the test.
fn sharded() -> (Dir, Checkpoint) {
    let dir = Dir::new();
    for (name, tensor) in [(ONE, "a"), (TWO, "b")] {
        dir.write(name, model(&[(tensor, "U8", &[10_000], vec![7; 10_000])]));
    }
    dir.write_index(&[("a", ONE), ("b", TWO)]);
    let read = dir.open().unwrap();
    (dir, read)
}

fn set_length(file: &Path, length: u64) {
    File::options().write(true).open(file).unwrap().set_len(length).unwrap();
}

#[test]
fn a_shortened_file_is_an_error() {
    let (dir, read) = sharded();
    let file = dir.path().join(ONE);
    let before = fs::metadata(&file).unwrap().len();
    assert!(read.hash().is_ok() && read.tensor("a").is_ok());
    for length in [before - 1, 4096, 0] {
        set_length(&file, length);
        for error in [read.tensor("a").unwrap_err(), read.bytes("a").unwrap_err(), read.hash().unwrap_err()] {
            assert!(matches!(error, Error::Shortened { .. }), "{error:?}");
            let lengths = format!("has {length} bytes, but {before} when it was opened");
            assert_says(&error, &[ONE, &lengths, "open it again when it is complete"]);
        }
        // The other file is whole.
        assert_eq!(*read.tensor("b").unwrap().bytes(), [7; 10_000]);
    }
    set_length(&file, before + 1);
    assert!(read.hash().is_ok(), "a longer file is no danger");
}

#[test]
fn the_map_keeps_a_file_that_is_replaced_or_removed() {
    let (dir, read) = sharded();
    let new = dir.write("new", model(&[pair("a", [0.0; 2])]));
    fs::rename(new, dir.path().join(ONE)).unwrap();
    fs::remove_file(dir.path().join(TWO)).unwrap();
    read.hash().unwrap();
    for name in ["a", "b"] {
        assert_eq!(*read.tensor(name).unwrap().bytes(), [7; 10_000]);
    }
}
