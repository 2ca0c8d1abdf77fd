//! Law 9, docs: the source file that defines a codec's header documents the format so that a reader
//! can reimplement it.

use std::fs;
use std::path::{Path, PathBuf};

use super::{Law, Subject, Violation};

/// The headings that a codec's module docs must have.
const HEADINGS: [&str; 6] = ["Source", "Sections", "Header", "Bound", "Cost", "Limits"];

/// The file in `src` or `tests` with `#[typetag::serde(name = "ID")]` (or else
/// `register_codec!("ID"`) begins with module docs. They consist of a first paragraph and the
/// sections `# Source`, `# Sections`, `# Header` with a Rust doctest that contains the id,
/// `# Bound`, `# Cost` and `# Limits`. No section is empty.
///
/// # Errors
/// The first violation found.
pub fn docs(subject: &Subject) -> Result<(), Violation> {
    let wrong = |place: &Path, found: &str, wanted: &str| {
        subject.violation(Law::Docs, format!("file {}", place.display()), found, wanted)
    };
    let id = subject.entry.id;
    let Some((path, source)) = defining_file(&subject.manifest_dir, id) else {
        let wanted = format!("a file in `src` with `#[typetag::serde(name = \"{id}\")]`");
        return Err(wrong(&subject.manifest_dir, "no source file defines the codec", &wanted));
    };
    let parts = parts(&source);
    if !parts.iter().any(|part| part.heading.is_none() && !part.text.trim().is_empty()) {
        return Err(wrong(&path, "no `//!` paragraph at the top", "a first paragraph that says what the codec does"));
    }
    for heading in HEADINGS {
        let text = parts.iter().find(|part| part.heading.as_deref() == Some(heading)).map(|part| part.text.trim());
        if text.is_none_or(str::is_empty) {
            let found = format!("its module docs have no section `# {heading}`, or an empty one");
            return Err(wrong(&path, &found, &format!("`//! # {heading}` with text below it")));
        }
    }
    let header = parts.iter().filter(|part| part.heading.as_deref() == Some("Header"));
    if header.flat_map(|part| &part.doctests).any(|code| code.contains(&format!("\"{id}\""))) {
        return Ok(());
    }
    Err(wrong(&path, "`# Header` has no doctest with the id", &format!("a Rust doctest that reads \"{id}\" JSON")))
}

/// A heading and the text below it, up to the next heading.
#[derive(Default)]
struct Part {
    heading: Option<String>,
    text: String,
    doctests: Vec<String>,
}

/// Cuts a file's module docs at their headings.
fn parts(source: &str) -> Vec<Part> {
    let mut parts = vec![Part::default()];
    // `Some` inside a code block: whether rustdoc runs that block.
    let mut fence: Option<bool> = None;
    for line in source.lines().filter_map(|line| line.trim_start().strip_prefix("//!")).map(str::trim) {
        if fence.is_none()
            && let Some(heading) = line.strip_prefix("# ")
        {
            parts.push(Part { heading: Some(heading.trim().to_owned()), ..Part::default() });
            continue;
        }
        let Some(part) = parts.last_mut() else { continue };
        match (line.strip_prefix("```"), fence) {
            (Some(_), Some(_)) => fence = None,
            (Some(language), None) => {
                let runs = ["", "rust"].contains(&language.trim());
                fence = Some(runs);
                part.doctests.extend(runs.then(String::new));
            }
            (None, Some(true)) => part.doctests.iter_mut().last().into_iter().for_each(|code| code.push_str(line)),
            (None, _) => {}
        }
        part.text += line;
        part.text.push('\n');
    }
    parts
}

/// The file that implements the codec, or else the file that registers it.
fn defining_file(manifest_dir: &Path, id: &str) -> Option<(PathBuf, String)> {
    let mut files = Vec::new();
    for folder in ["src", "tests"] {
        rust_files(&manifest_dir.join(folder), &mut files);
    }
    let read = files.into_iter().filter_map(|path| fs::read_to_string(&path).ok().map(|text| (path, text)));
    let read = read.collect::<Vec<_>>();
    [format!("typetag::serde(name=\"{id}\")"), format!("register_codec!(\"{id}\"")].iter().find_map(|mark| {
        let defines = |text: &str| {
            // The search ignores formatting and comments.
            let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
            code.flat_map(str::chars).filter(|c| !c.is_whitespace()).collect::<String>().contains(mark)
        };
        read.iter().find(|(_, text)| defines(text)).cloned()
    })
}

/// All `.rs` files below a folder, in a fixed order.
fn rust_files(folder: &Path, files: &mut Vec<PathBuf>) {
    let mut entries: Vec<_> = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            rust_files(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}
