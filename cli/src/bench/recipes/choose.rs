//! What an entry of `--recipes` means.

use std::path::Path;

use anyhow::{Result, anyhow};
use checkpoint::Recipe;
use codec_api::Registry;

use crate::suggest;

/// The built-in recipe of this name, the recipe in this file, or the recipe with this codec for the
/// matrices.
///
/// # Errors
/// If it is none of them.
pub fn recipe(text: &str, registry: &Registry) -> Result<Recipe> {
    if let Some(recipe) = Recipe::built_in(text) {
        return Ok(recipe);
    }
    if Path::new(text).is_file() {
        return Ok(Recipe::load(text)?);
    }
    // `best` chooses a codec, and is none.
    if text.split(':').next() == Some("best") {
        return Ok(Recipe::for_matrices(text));
    }
    match registry.parse_spec(text) {
        Ok(_) => Ok(Recipe::for_matrices(text)),
        Err(error) => {
            let known = Recipe::names().collect::<Vec<_>>().join(", ");
            let error = suggest::for_spec(error, registry);
            Err(anyhow!("`{text}` is no built-in recipe ({known}), no file, and no codec spec: {error}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use codecs as _;

    use super::*;

    #[test]
    fn names_specs_and_files_are_recipes() {
        let registry = Registry::linked().unwrap();
        let of = |text: &str| recipe(text, &registry);
        assert_eq!(of("int8").unwrap(), Recipe::built_in("int8").unwrap());
        assert_eq!(of("quant.nf4").unwrap(), Recipe::for_matrices("quant.nf4"));
        assert_eq!(of("best:bits=4").unwrap(), Recipe::for_matrices("best:bits=4"));
        let file = tempfile::NamedTempFile::with_suffix(".toml").unwrap();
        std::fs::write(file.path(), "default = \"lossless.raw\"").unwrap();
        assert_eq!(of(file.path().to_str().unwrap()).unwrap().default, "lossless.raw");
        std::fs::write(file.path(), "wrong = 1").unwrap();
        assert!(of(file.path().to_str().unwrap()).unwrap_err().to_string().contains("wrong"));
    }

    #[test]
    fn what_is_unknown_is_refused_with_the_choices() {
        let registry = Registry::linked().unwrap();
        for (text, part) in [
            ("int9", "no built-in recipe (lossless, int8"),
            ("q4_k", "did you mean `quant.q4_k`?"),
            ("quant.int:bits=x", "bits"),
            ("", "no codec spec"),
        ] {
            let error = recipe(text, &registry).unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
