//! Sharded models and their indexes, complete and broken.

use checkpoint::{Checkpoint, Error};

use crate::support::{Dir, assert_says, file, model, pair};

const INDEX: &str = "model.safetensors.index.json";
const ONE: &str = "model-00001-of-00002.safetensors";
const TWO: &str = "model-00002-of-00002.safetensors";

/// Two shards and their index.
fn sharded() -> Dir {
    let dir = Dir::new();
    dir.write(ONE, model(&[pair("b", [1.0, 2.0]), pair("z", [3.0, 4.0])]));
    dir.write(TWO, model(&[pair("a", [5.0, 6.0])]));
    dir.write_index(&[("a", TWO), ("b", ONE), ("z", ONE)]);
    dir
}

#[test]
fn shards_are_read_in_order() {
    let dir = sharded();
    // A file that the index does not list is not part of the model.
    dir.write("consolidated.safetensors", model(&[pair("a", [0.0, 0.0])]));
    let read = dir.open().unwrap();
    assert_eq!(read.files(), [dir.path().join(ONE), dir.path().join(TWO)]);
    assert_eq!(read.names().collect::<Vec<_>>(), ["b", "z", "a"]);
    assert_eq!(*read.tensor("a").unwrap().to_f32().unwrap(), [5.0, 6.0]);
    assert_eq!(*read.tensor("z").unwrap().to_f32().unwrap(), [3.0, 4.0]);
}

#[test]
fn one_shard_opens_alone() {
    let dir = sharded();
    let read = Checkpoint::open(dir.path().join(ONE)).unwrap();
    assert_eq!(read.names().collect::<Vec<_>>(), ["b", "z"]);
}

#[test]
fn missing_shards_are_named_together() {
    let dir = sharded();
    std::fs::remove_file(dir.path().join(TWO)).unwrap();
    let error = dir.open().unwrap_err();
    assert!(matches!(error, Error::MissingShards { count: 1, total: 2, .. }), "{error:?}");
    assert_says(&error, &["1 of the 2 shards", INDEX, &format!("cannot be found: {TWO};"), "download what is missing"]);

    let names: Vec<_> = (0..40).map(|i| (format!("t{i:02}"), format!("sub/s{i:02}"))).collect();
    let places: Vec<_> = names.iter().map(|(tensor, shard)| (tensor.as_str(), shard.as_str())).collect();
    dir.write_index(&[&places[..], &[("b", ONE)]].concat());
    let all: Vec<_> = places[..32].iter().map(|(_, shard)| *shard).collect();
    assert_says(&dir.open().unwrap_err(), &["40 of the 41 shards", &format!(": {}, …;", all.join(", "))]);
}

#[test]
fn a_shard_that_is_a_directory() {
    let dir = Dir::new();
    dir.write("shard/file", "");
    dir.write_index(&[("a", "shard")]);
    assert!(matches!(dir.open().unwrap_err(), Error::NotAFile { .. }));
}

#[test]
fn a_damaged_shard_is_named() {
    let dir = sharded();
    let bytes = model(&[pair("a", [5.0, 6.0])]);
    dir.write(TWO, &bytes[..bytes.len() - 1]);
    let error = dir.open().unwrap_err();
    assert!(matches!(error, Error::Invalid { .. }));
    assert_says(&error, &[TWO, "`a` ends at 8, the file has 7", "fetch it"]);
}

#[test]
fn a_tensor_that_its_shard_lacks() {
    let dir = sharded();
    dir.write_index(&[("a", TWO), ("b", ONE), ("gone", ONE), ("z", ONE)]);
    let error = dir.open().unwrap_err();
    assert!(matches!(error, Error::MissingTensor { .. }));
    assert_says(&error, &[INDEX, ONE, "`gone`", "fetch index and shards again"]);
}

#[test]
fn a_tensor_in_another_shard_than_the_index_says() {
    let dir = sharded();
    dir.write_index(&[("a", TWO), ("b", ONE), ("z", TWO)]);
    let error = dir.open().unwrap_err();
    assert!(matches!(error, Error::MissingTensor { .. }));
    assert_says(&error, &[TWO, "`z`"]);
}

/// A shard of another model may be used again: the index takes some of its tensors.
#[test]
fn the_index_decides_which_tensors_belong_to_the_model() {
    let dir = Dir::new();
    dir.write("base.safetensors", model(&[pair("b", [1.0, 2.0]), pair("stale", [0.0, 0.0]), pair("unused", [0.0; 2])]));
    dir.write("overlay.safetensors", model(&[pair("b", [9.0, 9.0]), pair("stale", [3.0, 4.0])]));
    dir.write_index(&[("b", "base.safetensors"), ("stale", "overlay.safetensors")]);
    let read = dir.open().unwrap();
    assert_eq!(read.names().collect::<Vec<_>>(), ["b", "stale"]);
    assert_eq!(*read.tensor("b").unwrap().to_f32().unwrap(), [1.0, 2.0]);
    assert_eq!(*read.tensor("stale").unwrap().to_f32().unwrap(), [3.0, 4.0]);
    assert!(matches!(read.tensor("unused").unwrap_err(), Error::UnknownTensor { .. }));
    let elsewhere = "tensors in several shards are taken from the shard that the index names (2): \
                     `stale` from overlay.safetensors, not base.safetensors, \
                     `b` from base.safetensors, not overlay.safetensors";
    let unlisted = "tensors that the index does not list are left out (1): `unused` in base.safetensors";
    assert_eq!(read.notes(), [elsewhere, unlisted]);
    // The same tensors in one file are the same model.
    let whole = crate::support::open(model(&[pair("b", [1.0, 2.0]), pair("stale", [3.0, 4.0])])).unwrap();
    assert_eq!(read.hash().unwrap(), whole.hash().unwrap());
    assert_eq!(whole.notes(), [""; 0]);
}

#[test]
fn notes_name_the_first_tensors() {
    let dir = Dir::new();
    let names: Vec<_> = (0..9).map(|i| format!("t{i}")).collect();
    let tensors: Vec<_> = names.iter().map(|name| pair(name, [0.0; 2])).collect();
    dir.write(ONE, model(&tensors));
    dir.write_index(&[("t3", ONE)]);
    let left = "left out (8): `t0` in ONE, `t1` in ONE, `t2` in ONE, `t4` in ONE, …".replace("ONE", ONE);
    assert!(dir.open().unwrap().notes()[0].ends_with(&left), "{:?}", dir.open().unwrap().notes());
}

#[test]
fn an_index_opens_by_its_path() {
    let dir = sharded();
    let variant = "other.safetensors.index.fp16.json";
    std::fs::copy(dir.path().join(INDEX), dir.path().join(variant)).unwrap();
    for name in [INDEX, variant] {
        let read = Checkpoint::open(dir.path().join(name)).unwrap();
        assert_eq!(read.names().collect::<Vec<_>>(), ["b", "z", "a"], "{name}");
    }
}

#[test]
fn shards_outside_the_directory() {
    let parent = Dir::new();
    let outside = parent.write("outside.safetensors", model(&[pair("a", [0.0; 2])]));
    let absolute = outside.display().to_string();
    let names = ["../outside.safetensors", "sub/../../outside.safetensors", &absolute, "..", ".", "", "/"];
    for name in names {
        let text = format!(r#"{{"weight_map":{{"a":{name:?}}}}}"#);
        parent.write(&format!("model/{INDEX}"), text);
        let error = Checkpoint::open(parent.path().join("model")).unwrap_err();
        assert!(matches!(error, Error::Index { .. }), "{name}: {error:?}");
        assert_says(&error, &[INDEX, "`a`", &format!("`{name}`"), "below its directory"]);
    }
}

#[test]
fn shards_in_a_subdirectory_and_behind_a_link() {
    let dir = Dir::new();
    dir.write("shards/one.safetensors", model(&[pair("a", [1.0, 2.0])]));
    dir.write_index(&[("a", "shards/one.safetensors")]);
    assert_eq!(dir.open().unwrap().len(), 1);
    #[cfg(unix)]
    {
        // The Hugging Face cache stores its files like this.
        let snapshot = Dir::new();
        std::os::unix::fs::symlink(dir.path().join("shards/one.safetensors"), snapshot.path().join(ONE)).unwrap();
        snapshot.write_index(&[("a", ONE)]);
        assert_eq!(*snapshot.open().unwrap().tensor("a").unwrap().to_f32().unwrap(), [1.0, 2.0]);
    }
}

#[test]
fn an_index_that_is_none() {
    let cases: [(&[u8], &str); 7] = [
        (b"", "EOF"),
        (b"{not json", "key must be a string"),
        (b"{}", "missing field `weight_map`"),
        (br#"{"weight_map":{}}"#, "lists no tensor"),
        (br#"{"weight_map":{"a":1}}"#, "expected a string"),
        (b"{\"weight_map\":{\"a\":\"\xff\"}}", "unicode"),
        (&[b'['; 4_000], "invalid type"),
    ];
    for (text, reason) in cases {
        let dir = Dir::new();
        dir.write(INDEX, text);
        let error = dir.open().unwrap_err();
        assert!(matches!(error, Error::Index { .. }), "{error:?}");
        assert_says(&error, &[INDEX, reason, "open a shard by its own path"]);
    }
}

#[test]
fn an_index_in_another_format_is_named() {
    let cases = [
        ("version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "a Git LFS pointer", "`git lfs pull`"),
        ("Entry not found", "plain text (`Entry not found`)", "download the file again"),
        ("\n <html>", "HTML", "download the file again"),
    ];
    for (text, format, remedy) in cases {
        let dir = Dir::new();
        dir.write(INDEX, text);
        let error = dir.open().unwrap_err();
        assert!(matches!(error, Error::Foreign { .. }), "{error:?}");
        assert_says(&error, &[INDEX, format, remedy]);
    }
}

#[test]
fn an_index_beyond_the_limit() {
    let dir = Dir::new();
    let path = dir.write(INDEX, "{");
    // A sparse file: it takes no disk space.
    std::fs::File::options().append(true).open(path).unwrap().set_len(10_000_000_000_000).unwrap();
    assert_says(&dir.open().unwrap_err(), &[INDEX, "larger than 100000000 bytes"]);
}

#[test]
fn metadata_is_sorted_and_the_first_file_counts() {
    let dir = Dir::new();
    dir.write(ONE, file(r#"{"__metadata__":{"format":"pt","b":"2","a":"1"}}"#, &[]));
    let one = Checkpoint::open(dir.path().join(ONE)).unwrap();
    let strings: Vec<_> = one.metadata().iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    assert_eq!(strings, [("a", "1"), ("b", "2"), ("format", "pt")]);

    let tensor = |name, strings: &str| {
        let entry = crate::support::entry(name, "U8", &[1], [0, 1]);
        file(&format!(r#"{{"__metadata__":{{{strings}}},{entry}}}"#), &[0])
    };
    dir.write(ONE, tensor("a", r#""step":"1""#));
    dir.write(TWO, tensor("b", r#""step":"2","more":"x""#));
    dir.write_index(&[("a", ONE), ("b", TWO)]);
    let both = dir.open().unwrap();
    assert_eq!(both.metadata().get("step").unwrap(), "1");
    assert_eq!(both.metadata().get("more").unwrap(), "x");
}
