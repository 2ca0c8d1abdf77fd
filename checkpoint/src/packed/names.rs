//! The names of stored sections: `TENSOR/CHUNK/SECTION`.

use std::borrow::Cow;

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

/// The beginning of the stored names of [`padding`].
pub(crate) const PADDING: &str = "__netweight__/padding/";

/// The stored name of the zeros that align the sections of a quality level.
pub(crate) fn padding(level: usize) -> String {
    format!("{PADDING}{level}")
}

fn escaped(tensor: &str) -> Cow<'_, str> {
    if tensor.contains(['%', '/']) { tensor.replace('%', "%25").replace('/', "%2F").into() } else { tensor.into() }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn different_sections_have_different_names() {
        assert_eq!(section("model.norm.weight", 3, "second/codes"), "model.norm.weight/3/second/codes");
        let tensors =
            ["", "a", "a/0", "a%2F0", "a%", "a%25", "/", "%2F", "ü/é", "__netweight__", "__netweight__/header"];
        let mut names: BTreeSet<_> = [header(0), header(1), padding(1), INDEX.to_owned()].into();
        for tensor in tensors {
            for chunk in [0, 1] {
                names.extend(["x", "0/x"].map(|name| section(tensor, chunk, name)));
            }
        }
        assert_eq!(names.len(), 4 + 4 * tensors.len());
        assert!(!names.contains("__metadata__"));
    }
}
