//! Writes safetensors files: tensors in the order of the caller, and a file that appears under its
//! name only when it is whole.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use codec_api::TensorSpec;
use tempfile::TempPath;

use super::disk::OnDisk;
use super::manifest::crc32c;
use crate::error::Error;
use crate::layout::{self, directory};

/// Limit of the safetensors format for the JSON text, in bytes.
pub(crate) const MAX_HEADER: usize = 100_000_000;

/// The end of the name of a temporary file; it begins with a dot.
const TEMPORARY: &str = ".tmp";

/// Whether a file of this name is a temporary file that an interrupted run may have left
/// ([`AtomicFile`]).
pub fn is_temporary(name: &str) -> bool {
    name.starts_with('.') && name.ends_with(TEMPORARY)
}

/// As [`safetensors_header`], with two metadata strings: `text` under `key`, and its CRC-32C under
/// `key.crc32c`.
///
/// # Errors
/// As there.
pub(crate) fn header<'a>(
    tensors: impl IntoIterator<Item = (&'a str, &'a TensorSpec)>,
    (key, text): (&str, &str),
) -> Result<Vec<u8>, String> {
    let (checksum, sum) = (format!("{key}.crc32c"), format!("{:08x}", crc32c(text.as_bytes())));
    safetensors_header(tensors, &BTreeMap::from([(key, text), (&checksum, &sum)]))
}

/// The bytes before the data of a safetensors file with these tensors, in this order, and these
/// metadata strings: the length of the JSON text, the text, and spaces up to a multiple of 8 bytes.
///
/// # Errors
/// A reason if the text exceeds the limit of the format.
pub fn safetensors_header<'a>(
    tensors: impl IntoIterator<Item = (&'a str, &'a TensorSpec)>,
    metadata: &BTreeMap<&str, &str>,
) -> Result<Vec<u8>, String> {
    let failed = |e: serde_json::Error| e.to_string();
    let mut text = format!("{{\"__metadata__\":{}", serde_json::to_string(metadata).map_err(failed)?);
    let mut begin = 0u64;
    for (name, spec) in tensors {
        let end = begin + spec.byte_len() as u64;
        text += &entry(name, spec, [begin, end]);
        begin = end;
    }
    text.push('}');
    let length = text.len().next_multiple_of(8);
    if length > MAX_HEADER {
        return Err(format!("its header would have {length} bytes; the safetensors format allows {MAX_HEADER}"));
    }
    text.extend(std::iter::repeat_n(' ', length - text.len()));
    Ok([&(length as u64).to_le_bytes(), text.as_bytes()].concat())
}

/// What a header says of a tensor, with a comma before.
pub(crate) fn entry(name: &str, spec: &TensorSpec, offsets: [u64; 2]) -> String {
    let (name, dtype, shape) = (serde_json::Value::from(name), spec.dtype(), spec.shape());
    format!(",{name}:{{\"dtype\":\"{dtype}\",\"shape\":{shape:?},\"data_offsets\":{offsets:?}}}")
}

/// A file that appears under its name only in [`Self::commit`], whole and on the disk. Dropped
/// before, it leaves nothing.
#[derive(Debug)]
pub struct AtomicFile {
    file: BufWriter<fs::File>,
    place: Sealed,
}

impl AtomicFile {
    /// Creates a temporary file in the folder of `target`.
    ///
    /// # Errors
    /// [`Error::Write`] if the folder does not allow it.
    pub fn create(target: &Path) -> Result<Self, Error> {
        Self::create_in(directory(target), target)
    }

    /// As [`Self::create`], in a folder on the same disk.
    ///
    /// # Errors
    /// As [`Self::create`].
    pub fn create_in(folder: &Path, target: &Path) -> Result<Self, Error> {
        let mut builder = tempfile::Builder::new();
        let prefix = format!(".{}.", layout::name(target));
        builder.prefix(&prefix).suffix(TEMPORARY);
        // Otherwise only the owner could read it.
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
        let created = builder.tempfile_in(folder).map_err(|error| Error::write(target, error))?;
        let (file, path) = created.into_parts();
        Ok(Self { file: buffered(file), place: Sealed { path, target: target.to_owned() } })
    }

    /// Appends bytes.
    ///
    /// # Errors
    /// [`Error::Write`], for example on a full disk.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.file.write_all(bytes).map_err(|error| self.place.failed(error))
    }

    /// Appends bytes of another file, inside the system where it can copy. They are in the file
    /// when it returns.
    ///
    /// # Errors
    /// As [`Self::write`]; [`Error::Io`] if `path`, the name of the source, is too short.
    pub(crate) fn copy_from(
        &mut self,
        source: &mut fs::File,
        path: &Path,
        offset: u64,
        length: u64,
    ) -> Result<(), Error> {
        self.flush()?;
        source.seek(SeekFrom::Start(offset)).map_err(|error| Error::io(path, error))?;
        let copied = io::copy(&mut source.take(length), self.file.get_mut());
        match copied.map_err(|error| self.place.failed(error))? {
            copied if copied < length => Err(Error::io(path, io::ErrorKind::UnexpectedEof.into())),
            _ => Ok(()),
        }
    }

    /// Writes bytes at this distance from the beginning.
    ///
    /// # Errors
    /// As [`Self::write`].
    pub(crate) fn write_at(&mut self, offset: u64, bytes: &[u8]) -> Result<(), Error> {
        let write = |file: &mut BufWriter<fs::File>| {
            file.seek(SeekFrom::Start(offset))?;
            file.write_all(bytes)
        };
        write(&mut self.file).map_err(|error| self.place.failed(error))
    }

    /// Gives the file its final length; what is not written yet is zeros.
    ///
    /// # Errors
    /// As [`Self::write`].
    pub(crate) fn set_len(&mut self, bytes: u64) -> Result<(), Error> {
        self.flush()?;
        self.file.get_ref().set_len(bytes).map_err(|error| self.place.failed(error))
    }

    fn flush(&mut self) -> Result<(), Error> {
        self.file.flush().map_err(|error| self.place.failed(error))
    }

    /// The file, for another thread that waits for the disk.
    ///
    /// # Errors
    /// As [`Self::write`].
    pub(crate) fn disk(&self) -> Result<OnDisk, Error> {
        let file = self.file.get_ref().try_clone().map_err(|error| self.place.failed(error))?;
        Ok(OnDisk { file, target: self.place.target.clone() })
    }

    /// Waits until the bytes are on the disk, then gives the file its name. An older file of this
    /// name is replaced in the same instant.
    ///
    /// # Errors
    /// As [`Self::write`].
    pub fn commit(self) -> Result<(), Error> {
        let target = self.place.target.clone();
        let sealed = self.sealed()?;
        sealed.sync()?;
        sealed.persist()?;
        sync_directory(&target)
    }

    /// Closes the file, which does not have its name yet.
    ///
    /// # Errors
    /// As [`Self::write`].
    pub(crate) fn sealed(mut self) -> Result<Sealed, Error> {
        self.flush()?;
        Ok(self.place)
    }

    /// Gives the file its name without waiting for the disk: it survives the end of this process,
    /// but not of the system.
    ///
    /// # Errors
    /// As [`Self::write`].
    pub(crate) fn persist(self) -> Result<(), Error> {
        self.sealed()?.persist()
    }
}

fn buffered(file: fs::File) -> BufWriter<fs::File> {
    BufWriter::with_capacity(1 << 20, file)
}

/// A closed file that does not have its name yet. Dropped, it leaves nothing.
#[derive(Debug)]
pub(crate) struct Sealed {
    path: TempPath,
    target: PathBuf,
}

impl Sealed {
    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The name that it will have.
    pub(crate) fn target(&self) -> &Path {
        &self.target
    }

    fn failed(&self, error: io::Error) -> Error {
        Error::write(&self.target, error)
    }

    fn open(&self) -> Result<fs::File, Error> {
        fs::File::options().write(true).open(&self.path).map_err(|error| self.failed(error))
    }

    /// Opens it again, to write from this distance from the beginning on.
    ///
    /// # Errors
    /// [`Error::Write`].
    pub(crate) fn reopened(self, offset: u64) -> Result<AtomicFile, Error> {
        let mut file = self.open()?;
        file.seek(SeekFrom::Start(offset)).map_err(|error| self.failed(error))?;
        Ok(AtomicFile { file: buffered(file), place: self })
    }

    /// Waits until the bytes are on the disk.
    ///
    /// # Errors
    /// [`Error::Write`].
    pub(crate) fn sync(&self) -> Result<(), Error> {
        self.open()?.sync_all().map_err(|error| self.failed(error))
    }

    /// Gives the file its name. An older file of this name is replaced in the same instant.
    ///
    /// # Errors
    /// [`Error::Write`].
    pub(crate) fn persist(self) -> Result<(), Error> {
        let Self { path, target } = self;
        path.persist(&target).map_err(|e| Error::write(&target, e.error))
    }
}

/// Writes a whole file under its name, or none.
///
/// # Errors
/// [`Error::Write`].
pub(crate) fn write_file(target: &Path, bytes: &[u8]) -> Result<(), Error> {
    let mut file = AtomicFile::create(target)?;
    file.write(bytes)?;
    file.commit()
}

/// Creates the folder and those above it.
///
/// # Errors
/// [`Error::Write`].
pub(crate) fn create_directory(path: &Path) -> Result<(), Error> {
    fs::create_dir_all(path).map_err(|error| Error::write(path, error))
}

/// Makes the rename to this name survive a power failure. Where a directory cannot be opened, the
/// rename is as safe as the system makes it.
///
/// # Errors
/// [`Error::Write`].
pub(crate) fn sync_directory(target: &Path) -> Result<(), Error> {
    if cfg!(not(unix)) {
        return Ok(());
    }
    let synced = fs::File::open(directory(target)).and_then(|folder| folder.sync_all());
    synced.map_err(|error| Error::write(target, error))
}

#[cfg(test)]
mod tests {
    use codec_api::Dtype;
    use tempfile::TempDir;

    use super::super::manifest::checked;
    use super::*;

    fn spec(dtype: Dtype, shape: &[usize]) -> TensorSpec {
        TensorSpec::new(dtype, shape).unwrap()
    }

    #[test]
    fn the_safetensors_crate_reads_any_order_name_and_shape() {
        let tensors = [
            ("wörter/\"x\"\n", spec(Dtype::U8, &[3])),
            ("b", spec(Dtype::F32, &[2, 1])),
            ("empty", spec(Dtype::I64, &[0, 7])),
            ("a", spec(Dtype::BF16, &[])),
        ];
        let data: Vec<u8> = (0..13).collect();
        let mut file = header(tensors.iter().map(|(name, spec)| (*name, spec)), ("key", "{\"a\":\"ü\"}")).unwrap();
        assert!(file.len().is_multiple_of(8));
        file.extend(&data);
        let read = safetensors::SafeTensors::deserialize(&file).unwrap();
        let mut begin = 0;
        for (name, spec) in &tensors {
            let found = read.tensor(name).unwrap();
            assert_eq!((found.dtype(), found.shape()), (spec.dtype(), spec.shape()));
            assert_eq!(found.data(), &data[begin..begin + spec.byte_len()], "{name}");
            begin += spec.byte_len();
        }
        let (_, metadata) = safetensors::SafeTensors::read_metadata(&file).unwrap();
        assert_eq!(checked(metadata.metadata().as_ref().unwrap(), "key").unwrap(), "{\"a\":\"ü\"}");
        codec_api::read_safetensors_header(&file).unwrap();
    }

    #[test]
    fn a_file_appears_whole_or_not_at_all() {
        let dir = TempDir::new().unwrap();
        let target = dir.path().join("x");
        let names = || fs::read_dir(dir.path()).unwrap().count();
        let mut file = AtomicFile::create(&target).unwrap();
        file.write(b"half").unwrap();
        assert!(!target.exists());
        drop(file);
        assert_eq!(names(), 0, "no temporary file stays");
        write_file(&target, b"whole").unwrap();
        write_file(&target, b"new").unwrap();
        assert_eq!((fs::read(&target).unwrap().as_slice(), names()), (&b"new"[..], 1));
    }

    #[test]
    fn bytes_land_at_their_offsets() {
        let dir = TempDir::new().unwrap();
        let target = dir.path().join("x");
        let mut file = AtomicFile::create(&target).unwrap();
        file.write(b"head").unwrap();
        file.write_at(6, b"cd").unwrap();
        file.write_at(4, b"ab").unwrap();
        file.set_len(9).unwrap();
        let sealed = file.sealed().unwrap();
        assert_eq!(fs::read(sealed.path()).unwrap(), b"headabcd\0");
        let mut file = sealed.reopened(8).unwrap();
        file.write(b"e").unwrap();
        file.commit().unwrap();
        assert_eq!(fs::read(&target).unwrap(), b"headabcde");
    }

    #[test]
    fn an_unwritable_place_is_named() {
        let dir = TempDir::new().unwrap();
        let message = write_file(&dir.path().join("none/x"), b"").unwrap_err().to_string();
        assert!(message.contains("none/x") && message.contains("cannot write"), "{message}");
    }
}
