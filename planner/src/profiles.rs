//! A file of profiles.

use std::fs::OpenOptions;
use std::io::{self, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::profile::{Key, Profile};

/// A file of JSON lines, one [`Profile`] a line. Later lines count more than earlier ones.
#[derive(Debug)]
pub struct Profiles {
    path: PathBuf,
    lines: Vec<Profile>,
}

impl Profiles {
    /// Reads a file; one that does not exist has no profiles. What an interrupted [`Self::append`]
    /// leaves, a part of a last line, is no profile.
    ///
    /// # Errors
    /// [`Error::File`] if it cannot be read, [`Error::Line`] for a line that is no profile.
    pub fn open(path: &Path) -> Result<Self> {
        let bytes = match std::fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(Error::io(path, &error)),
        };
        // The last line may end within a character.
        let text = std::str::from_utf8(&bytes[..complete(&bytes)])
            .map_err(|error| Error::File { path: path.to_owned(), reason: error.to_string() })?;
        let mut profiles = Vec::new();
        for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            let fail = |reason: String| Error::line(path, index + 1, reason);
            let profile: Profile = serde_json::from_str(line).map_err(|error| fail(error.to_string()))?;
            profile.check().map_err(fail)?;
            profiles.push(profile);
        }
        Ok(Self { path: path.to_owned(), lines: profiles })
    }

    /// As [`Self::open`], for a file that has to exist.
    ///
    /// # Errors
    /// As [`Self::open`], and if there is none.
    pub fn open_existing(path: &Path) -> Result<Self> {
        std::fs::metadata(path).map_err(|error| Error::io(path, &error))?;
        Self::open(path)
    }

    /// All profiles, in the order of the file.
    pub fn all(&self) -> &[Profile] {
        &self.lines
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The profile that holds for this key: same model, recipe, machine and settings.
    pub fn find(&self, key: &Key) -> Option<&Profile> {
        self.lines.iter().rev().find(|profile| profile.key == *key)
    }

    /// Writes a profile behind the others, also those that other programs have written meanwhile,
    /// and syncs the file.
    ///
    /// # Errors
    /// [`Error::File`] if a value is wrong ([`Profile::check`]) or the file cannot be written.
    pub fn append(&mut self, profile: Profile) -> Result<()> {
        let fail = |reason: String| Error::File { path: self.path.clone(), reason };
        profile.check().map_err(fail)?;
        let mut line = serde_json::to_string(&profile).map_err(|error| fail(error.to_string()))?;
        line.push('\n');
        self.write(&line).map_err(|error| Error::io(&self.path, &error))?;
        self.lines.push(profile);
        Ok(())
    }

    /// Writes in place of an incomplete last line. A lock keeps other programs from writing at the
    /// same time.
    fn write(&self, line: &str) -> io::Result<()> {
        let mut file = OpenOptions::new().read(true).append(true).create(true).open(&self.path)?;
        file.lock()?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let lines = complete(&bytes);
        file.set_len(lines as u64)?;
        let end = if lines == 0 || bytes[lines - 1] == b'\n' { "" } else { "\n" };
        file.write_all(format!("{end}{line}").as_bytes())?;
        file.sync_all()
    }
}

/// Bytes of the lines that are complete: that have an end, and a last one that is a profile.
fn complete(bytes: &[u8]) -> usize {
    let lines = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    if serde_json::from_slice::<Profile>(&bytes[lines..]).is_ok() { bytes.len() } else { lines }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::tests::profile;

    #[test]
    fn profiles_are_read_as_written_and_found_by_their_key() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("profiles.jsonl");
        let mut file = Profiles::open(&path).unwrap();
        assert!(Profiles::open_existing(&path).is_err() && file.all().is_empty());
        file.append(profile("int8")).unwrap();
        file.append(profile("nf4")).unwrap();
        let mut newer = profile("int8");
        newer.load_ms = None;
        file.append(newer.clone()).unwrap();
        let mut file = Profiles::open(&path).unwrap();
        assert_eq!(file.all(), [profile("int8"), profile("nf4"), newer.clone()]);
        assert_eq!(file.find(&newer.key), Some(&newer));
        let changes: [fn(&mut Key); 4] = [
            |key| key.model_hash.push('0'),
            |key| key.recipe.push('0'),
            |key| key.machine.cores += 1,
            |key| key.settings.threads += 1,
        ];
        for change in changes {
            let mut key = newer.key.clone();
            change(&mut key);
            assert_eq!(file.find(&key), None);
        }
        let mut wrong = profile("int8");
        wrong.decode_tokens_per_s = Some(f64::NAN);
        assert!(file.append(wrong).unwrap_err().to_string().contains("`decode_tokens_per_s` is NaN"));
        assert_eq!(Profiles::open(&path).unwrap().all().len(), 3);
    }

    #[test]
    fn an_interrupted_line_is_written_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("profiles.jsonl");
        Profiles::open(&path).unwrap().append(profile("int8")).unwrap();
        let whole = std::fs::read_to_string(&path).unwrap();
        let mut bytes = whole.clone().into_bytes();
        bytes.extend(&whole.as_bytes()[..whole.len() / 2]);
        // The first byte of a character of two.
        bytes.push("ä".as_bytes()[0]);
        std::fs::write(&path, bytes).unwrap();
        let mut file = Profiles::open(&path).unwrap();
        assert_eq!(file.all().len(), 1);
        file.append(profile("nf4")).unwrap();
        assert_eq!(Profiles::open(&path).unwrap().all(), [profile("int8"), profile("nf4")]);
    }

    #[test]
    fn programs_that_write_the_same_file_keep_each_others_lines() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("profiles.jsonl");
        let (mut one, mut other) = (Profiles::open(&path).unwrap(), Profiles::open(&path).unwrap());
        for _ in 0..2 {
            one.append(profile("int8")).unwrap();
            other.append(profile("nf4")).unwrap();
        }
        // A line that a person wrote may lack its end.
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, text.trim_end()).unwrap();
        one.append(profile("q4")).unwrap();
        let recipes: Vec<_> = Profiles::open(&path).unwrap().all().iter().map(|p| p.key.recipe.clone()).collect();
        assert_eq!(recipes, ["int8", "nf4", "int8", "nf4", "q4"]);
    }

    #[test]
    fn a_wrong_line_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("profiles.jsonl");
        let good = serde_json::to_string(&profile("int8")).unwrap();
        for (bad, says) in [
            ("{}".to_owned(), "missing field `model`"),
            ("not JSON".to_owned(), "expected"),
            (good.replace("\"load_ms\"", "\"lode_ms\""), "unknown field `lode_ms`"),
            (good.replace("\"load_ms\":5.0", "\"load_ms\":-5.0"), "`load_ms` is -5"),
        ] {
            std::fs::write(&path, format!("{good}\n\n{bad}\n")).unwrap();
            let text = Profiles::open(&path).unwrap_err().to_string();
            assert!(text.contains("profiles.jsonl`, line 3: ") && text.contains(says), "{text}");
        }
    }
}
