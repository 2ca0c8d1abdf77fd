//! Decoding of a plane in parts, so that several planes go through the cache together.

use super::{BY_CLASSES, BY_CONTEXTS, Known, RAW, classes, look_up};
use crate::{Decoder, Error, Frequencies, STATES, States, Tables};

/// A coded plane during decoding.
#[derive(Debug)]
pub struct Reader<'a> {
    model: Model<'a>,
    left: usize,
}

#[derive(Debug)]
enum Model<'a> {
    /// The common byte.
    Constant(u8),
    /// The bytes that are left.
    Raw(&'a [u8]),
    Coded(Box<Coded<'a>>),
}

#[derive(Debug)]
struct Coded<'a> {
    states: States<'a>,
    decoder: Decoder,
    by: By,
}

/// Where the table of a byte comes from.
#[derive(Debug)]
enum By {
    Nothing,
    /// The table of each context.
    Contexts([u8; 256]),
    /// The table of each byte of the plane before.
    Before([u8; 256]),
}

/// Bytes whose tables are looked up together; a multiple of 32.
const PART: usize = 4096;

impl<'a> Reader<'a> {
    /// Reads how a plane of `len` bytes is coded.
    ///
    /// # Errors
    /// [`Error::Damaged`] if the bytes are no model, or not one for `len` bytes.
    pub fn new(bytes: &'a [u8], len: usize) -> Result<Self, Error> {
        if len == 0 {
            let nothing = bytes.is_empty().then_some(Self { model: Model::Raw(bytes), left: 0 });
            return nothing.ok_or(Error::Damaged("there is more than nothing"));
        }
        let (mode, mut rest) = bytes.split_first().ok_or(Error::Damaged("a plane is cut off"))?;
        let model = match (*mode, rest) {
            (0, [byte]) => Model::Constant(*byte),
            (RAW, raw) if raw.len() == len => Model::Raw(raw),
            (2, _) => {
                let table = Frequencies::read(&mut rest).ok_or(Error::Damaged("frequencies"))?;
                Model::coded(By::Nothing, &[table], rest, len)?
            }
            (BY_CONTEXTS, _) => {
                let (group, tables) = Tables::read(&mut rest)?;
                Model::coded(By::Contexts(group), &tables, rest, len)?
            }
            (BY_CLASSES, [n, tail @ ..]) if *n > 0 && tail.len() >= usize::from(*n) => {
                let (order, mut rest) = tail.split_at(usize::from(*n - 1));
                let (group, tables) = Tables::read(&mut rest)?;
                let table = classes(order).map(|class| group[usize::from(class)]);
                Model::coded(By::Before(table), &tables, rest, len)?
            }
            _ => return Err(Error::Damaged("there is no such model")),
        };
        Ok(Self { model, left: len })
    }

    /// Whether [`Self::read`] requires the plane before.
    pub fn needs_before(&self) -> bool {
        matches!(&self.model, Model::Coded(coded) if matches!(coded.by, By::Before(_)))
    }

    /// Decodes the next `out.len()` bytes: a multiple of 32, or all that are left. `known`
    /// describes these bytes only.
    ///
    /// # Errors
    /// [`Error::Part`] for any other number, [`Error::Contexts`] if required knowledge is missing
    /// for some byte.
    pub fn read(&mut self, known: Known<'_>, out: &mut [u8]) -> Result<(), Error> {
        let (symbols, left) = (out.len(), self.left);
        if symbols > left || symbols < left && !symbols.is_multiple_of(STATES) {
            return Err(Error::Part { symbols, left });
        }
        self.left -= symbols;
        match &mut self.model {
            Model::Constant(byte) => out.fill(*byte),
            Model::Raw(bytes) => {
                let (now, rest) = bytes.split_at(symbols.min(bytes.len()));
                out.copy_from_slice(now);
                *bytes = rest;
            }
            Model::Coded(coded) => coded.read(known, out)?,
        }
        Ok(())
    }

    /// Checks that all bytes were read, and that the plane ended with them.
    ///
    /// # Errors
    /// [`Error::Damaged`] otherwise.
    pub fn finish(self) -> Result<(), Error> {
        match self.model {
            Model::Coded(coded) => coded.states.finish(),
            _ if self.left == 0 => Ok(()),
            _ => Err(Error::Damaged("bytes are left")),
        }
    }
}

impl<'a> Model<'a> {
    fn coded(by: By, tables: &[Frequencies], stream: &'a [u8], len: usize) -> Result<Self, Error> {
        Ok(Self::Coded(Box::new(Coded { states: States::new(stream, len)?, decoder: Decoder::new(tables), by })))
    }
}

impl Coded<'_> {
    fn read(&mut self, known: Known<'_>, out: &mut [u8]) -> Result<(), Error> {
        let (by, table) = match &self.by {
            By::Nothing => return self.decoder.decode_part(&mut self.states, &[], out),
            By::Contexts(table) => (known.contexts, table),
            By::Before(table) => (known.before, table),
        };
        if by.len() != out.len() {
            return Err(Error::Contexts { contexts: by.len(), symbols: out.len() });
        }
        let mut contexts = [0; PART];
        for (by, out) in by.chunks(PART).zip(out.chunks_mut(PART)) {
            let contexts = &mut contexts[..by.len()];
            look_up(table, by, contexts);
            self.decoder.decode_part(&mut self.states, contexts, out)?;
        }
        Ok(())
    }
}
