//! The names of stored sections, `TENSOR/CHUNK/SECTION`, and of the files of a set.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use crate::layout;

/// The end of the name of every packed file.
pub const PACKED_EXTENSION: &str = ".nw.safetensors";

/// Whether a path is named like a packed file.
pub(crate) fn is_packed_name(path: &Path) -> bool {
    path.to_str().is_some_and(|path| path.ends_with(PACKED_EXTENSION))
}

/// The stored name of a section. In the tensor's name `%` becomes `%25` and `/` becomes `%2F`, so
/// that no two sections have the same stored name: the first two slashes end tensor and chunk.
pub(crate) fn section(tensor: &str, chunk: usize, section: &str) -> String {
    format!("{}/{chunk}/{section}", escaped(tensor))
}

/// The stored name of the header of source file number `file`. It is no section of a tensor, since
/// `header` is not the number of a chunk.
pub(crate) fn header(file: usize) -> String {
    format!("__netweight__/header/{file}")
}

/// The stored name of the index of a sharded source.
pub(crate) const INDEX: &str = "__netweight__/index";

/// The stored name of a compressed manifest.
pub(crate) const MANIFEST: &str = "__netweight__/manifest";

/// The beginning of the stored names of [`padding`].
pub(crate) const PADDING: &str = "__netweight__/padding/";

/// The stored name of the zeros that align the sections of a quality level.
pub(crate) fn padding(level: usize) -> String {
    format!("{PADDING}{level}")
}

/// Least digits of a number in the name of a shard.
const DIGITS: usize = 5;

/// The path of a shard, counted from 1: `m-00001-of-00003.nw.safetensors` of the packed file
/// `m.nw.safetensors`, whose place the shards take.
pub(crate) fn shard(whole: &Path, number: usize, count: usize) -> PathBuf {
    let name = layout::name(whole);
    let stem = name.strip_suffix(PACKED_EXTENSION).unwrap_or(&name);
    whole.with_file_name(format!("{stem}-{number:0DIGITS$}-of-{count:0DIGITS$}{PACKED_EXTENSION}"))
}

/// The packed file whose place a shard takes, the number of the shard, and their count, by the name
/// of the shard.
pub(crate) fn parse_shard(path: &Path) -> Option<(PathBuf, usize, usize)> {
    let (rest, count) = path.file_name()?.to_str()?.strip_suffix(PACKED_EXTENSION)?.rsplit_once("-of-")?;
    let (stem, number) = rest.rsplit_once('-')?;
    let parse = |text: &str| {
        let is_number = text.len() >= DIGITS && text.bytes().all(|byte| byte.is_ascii_digit());
        if is_number { text.parse().ok() } else { None }
    };
    Some((path.with_file_name(format!("{stem}{PACKED_EXTENSION}")), parse(number)?, parse(count)?))
}

/// The path of the index of the shards that take the place of the packed file `whole`.
pub(crate) fn set_index(whole: &Path) -> PathBuf {
    whole.with_file_name(format!("{}{}", layout::name(whole), layout::INDEX))
}

/// The packed file whose place the shards of this index take; `None` if it is named otherwise.
pub(crate) fn packed_file_of_index(index: &Path) -> Option<PathBuf> {
    let name = index.file_name()?.to_str()?.strip_suffix(layout::INDEX)?;
    name.ends_with(PACKED_EXTENSION).then(|| index.with_file_name(name))
}

/// The index of the shards that are there instead of the packed file `whole`.
pub(crate) fn index_in_place_of(whole: &Path) -> Option<PathBuf> {
    let index = (is_packed_name(whole) && !whole.exists()).then(|| set_index(whole))?;
    index.exists().then_some(index)
}

fn escaped(tensor: &str) -> Cow<'_, str> {
    if tensor.contains(['%', '/']) { tensor.replace('%', "%25").replace('/', "%2F").into() } else { tensor.into() }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_of_shards_are_read_as_they_are_written() {
        let whole = Path::new("folder/m-x.nw.safetensors");
        for (number, count) in [(1, 2), (99_999, 100_000), (123_456, 1_234_567)] {
            let path = shard(whole, number, count);
            assert_eq!(parse_shard(&path), Some((whole.to_owned(), number, count)), "{}", path.display());
        }
        assert_eq!(shard(whole, 1, 3), Path::new("folder/m-x-00001-of-00003.nw.safetensors"));
        assert_eq!(packed_file_of_index(&set_index(whole)).as_deref(), Some(whole));
        for other in ["m.nw.safetensors", "m-1-of-3.nw.safetensors", "m-00001-of-+0003.nw.safetensors"] {
            assert_eq!(parse_shard(Path::new(other)), None, "{other}");
        }
        assert_eq!(parse_shard(Path::new("m-00001-of-00003.safetensors")), None);
        assert_eq!(packed_file_of_index(Path::new("m.safetensors.index.json")), None);
    }

    #[test]
    fn different_sections_have_different_names() {
        assert_eq!(section("model.norm.weight", 3, "second/codes"), "model.norm.weight/3/second/codes");
        let tensors =
            ["", "a", "a/0", "a%2F0", "a%", "a%25", "/", "%2F", "ü/é", "__netweight__", "__netweight__/header"];
        let mut names: BTreeSet<_> = [header(0), header(1), padding(1), INDEX.to_owned(), MANIFEST.to_owned()].into();
        for tensor in tensors {
            for chunk in [0, 1] {
                names.extend(["x", "0/x"].map(|name| section(tensor, chunk, name)));
            }
        }
        assert_eq!(names.len(), 5 + 4 * tensors.len());
        assert!(!names.contains("__metadata__"));
    }
}
