//! A plane of bytes in the model that takes the fewest bits. Codecs of several kinds of numbers use
//! it.
//!
//! # Layout
//! An empty plane has no bytes. Otherwise the first byte is the mode:
//! - 0, constant: the common byte follows;
//! - 1, raw: the bytes follow;
//! - 2, one table: frequencies and a stream follow;
//! - 3, contexts: tables and a stream follow. Encoder and decoder are given the same contexts;
//! - 4, by the plane before: first comes the number of classes (the encoder makes at most 32).
//!   Then, for each class but the last, in ascending order, comes the byte of the plane before that
//!   forms the class; the last class is all other bytes. The rest is as in mode 3, with the classes
//!   as contexts.
//!
//! Neighbouring contexts share tables. Tables begin with a byte for the way in which frequencies
//! are written, then a byte for the number of tables after the first (at most 63), then for each of
//! these the first context that uses it, in ascending order. The frequencies of all tables follow.
//! In way 0 they have the form of [`Frequencies::write`]. In way 1 they are sixteen bytes: the
//! frequencies of the upper four bits, out of 256, each divided equally among sixteen symbols.
//!
//! Sharing tables helps small tensors: neighbouring contexts share one where two would cost more
//! than they save.
//!
//! # Damage
//! A plane has no checksum, and some changed bits do not change a decoded byte, such as contexts
//! that share a table. Exact codecs seal their payloads (`Payload::sealed` in `codec-api`) to
//! notice each change.

mod reader;

use simd::kernel;

use crate::counts::Counts;
use crate::frequencies::count;
use crate::{Encoder, Error, Frequencies, STATE_BYTES, Tables, information};
pub use reader::Reader;

/// Most classes of the plane before.
const CLASSES: usize = 32;

/// Knowledge about a plane that encoder and decoder share.
#[derive(Clone, Copy, Debug, Default)]
pub struct Known<'a> {
    /// A context for each byte, or empty. Contexts with neighbouring numbers should be similar, as
    /// they may share a table.
    pub contexts: &'a [u8],
    /// Bytes that the decoder needs to get the contexts; using contexts must save more than that.
    pub side_bytes: usize,
    /// The plane before, or empty.
    pub before: &'a [u8],
}

impl<'a> Known<'a> {
    /// These contexts, at no extra cost for the decoder.
    pub fn of_contexts(contexts: &'a [u8]) -> Self {
        Self { contexts, ..Self::default() }
    }

    /// The plane before, without contexts.
    pub fn after(before: &'a [u8]) -> Self {
        Self { before, ..Self::default() }
    }
}

/// Mode of a raw plane: the first byte, followed by the bytes themselves.
pub const RAW: u8 = 1;
/// Mode of a plane coded with contexts.
const BY_CONTEXTS: u8 = 3;
/// Mode of a plane coded with classes of the plane before.
const BY_CLASSES: u8 = 4;

/// Whether decoding this plane requires its contexts.
pub fn needs_contexts(plane: &[u8]) -> bool {
    plane.first() == Some(&BY_CONTEXTS)
}

/// A model, and the size of the plane in it.
struct Candidate<'a> {
    mode: u8,
    /// Everything before the stream.
    head: Vec<u8>,
    /// The table of each symbol is `map` of its byte here; empty for a single table.
    given: &'a [u8],
    map: [u8; 256],
    tables: Vec<Frequencies>,
    /// Head and stream, in bytes.
    cost: f64,
}

/// Codes a plane with the smallest model, or raw.
///
/// # Errors
/// [`Error::Contexts`] for contexts of the wrong length; see [`Known`].
pub fn encode(bytes: &[u8], known: Known<'_>) -> Result<Vec<u8>, Error> {
    Ok(encode_smaller(bytes, known, 0.0)?.unwrap_or_else(|| raw(bytes)))
}

/// Writes a plane raw.
pub fn raw(bytes: &[u8]) -> Vec<u8> {
    if bytes.is_empty() { Vec::new() } else { [&[RAW], bytes].concat() }
}

/// Codes a plane if a model saves at least the share `gain` of its size, otherwise gives `None`. A
/// `gain` of 1 tries only the constant model.
///
/// # Errors
/// [`Error::Contexts`] for contexts of the wrong length; see [`Known`].
pub fn encode_smaller(bytes: &[u8], known: Known<'_>, gain: f64) -> Result<Option<Vec<u8>>, Error> {
    for given in [known.contexts, known.before] {
        if !given.is_empty() && given.len() != bytes.len() {
            return Err(Error::Contexts { contexts: given.len(), symbols: bytes.len() });
        }
    }
    let Some(first) = bytes.first() else { return Ok(None) };
    if bytes.iter().all(|byte| byte == first) {
        return Ok(Some(vec![0, *first]));
    }
    // The states of a stream take that many bytes.
    if gain >= 1.0 || bytes.len() <= STATE_BYTES {
        return Ok(None);
    }
    let by_context = (!known.contexts.is_empty()).then(|| Counts::of(bytes, known.contexts));
    // The sum over the contexts saves counting the bytes once more.
    let counts = by_context.as_ref().map_or_else(|| count(bytes), Counts::total);
    let most = (1.0 - gain) * bytes.len() as f64;
    if least_cost(&counts, bytes.len(), 0.0) >= most {
        return Ok(None);
    }
    let with_contexts = by_context.and_then(|counts| by_contexts(&counts, known));
    let candidates = [plain(&counts), with_contexts, by_classes(bytes, known.before, most)];
    let best = candidates.into_iter().flatten().min_by(|a, b| a.cost.total_cmp(&b.cost));
    let Some(best) = best.filter(|best| best.cost < most) else { return Ok(None) };
    let mut out = Vec::with_capacity(best.cost as usize + 256);
    out.push(best.mode);
    out.extend(best.head);
    Encoder::new(&best.tables).append_mapped(bytes, best.given, &best.map, &mut out)?;
    Ok(Some(out).filter(|out| out.len() <= bytes.len()))
}

/// Elements in a run of a [`sample`].
const RUN: usize = 1 << 9;
/// Runs in a sample.
const RUNS: usize = 16;

/// Elements of `width` bytes from all over a tensor or plane: at most 16 runs of 512 elements.
pub fn sample(bytes: &[u8], width: usize) -> Vec<u8> {
    runs(bytes, width, RUN).collect::<Vec<_>>().concat()
}

/// At most 16 runs of `run` elements.
fn runs(bytes: &[u8], width: usize, run: usize) -> impl Iterator<Item = &[u8]> {
    let step = (bytes.len() / width).div_ceil(RUNS).max(run) * width;
    bytes.chunks(step).map(move |part| &part[..part.len().min(run * width)])
}

/// Whether one table saves at least the share `gain` of a plane's size, as far as a [`sample`]
/// shows; tables of several contexts may save more.
pub fn likely_saves(bytes: &[u8], gain: f64) -> bool {
    // A smaller sample is enough for most planes: its estimate is off by less than this.
    const ERROR: f64 = 1.0 / 32.0;
    sampled_gain(bytes, RUN / 8) + ERROR >= gain && sampled_gain(bytes, RUN) >= gain
}

/// Share of the plane's size that one table saves, estimated from runs of `run` bytes.
fn sampled_gain(bytes: &[u8], run: usize) -> f64 {
    let counts = count(&runs(bytes, 1, run).collect::<Vec<_>>().concat());
    let (total, used) = (counts.iter().sum::<u64>(), counts.iter().filter(|n| **n > 0).count());
    // The information in a sample is too low by this many bits on average (Miller and Madow).
    let bias = if total < bytes.len() as u64 { (used.max(1) - 1) as f64 / 2.0 * std::f64::consts::LOG2_E } else { 0.0 };
    1.0 - (information(&counts) + bias) / (8 * total.max(1)) as f64
}

/// Bytes that no model of `symbols` symbols with these counts and at least this many `bits` of
/// information goes below: the states, and either a byte of some table for each value that occurs,
/// or sixteen bytes for a table and half a byte for each symbol.
fn least_cost(counts: &[u64; 256], symbols: usize, bits: f64) -> f64 {
    let used = counts.iter().filter(|n| **n > 0).count();
    let (whole, shared) = ((used + 1) as f64 + bits / 8.0, 16.0 + (symbols as f64 / 2.0).max(bits / 8.0));
    STATE_BYTES as f64 + whole.min(shared)
}

fn plain(counts: &[u64; 256]) -> Option<Candidate<'static>> {
    let frequencies = Frequencies::of_counts(counts)?;
    let mut head = Vec::new();
    frequencies.write(&mut head);
    let cost = frequencies.cost(counts) / 8.0 + head.len() as f64 + STATE_BYTES as f64;
    Some(Candidate { mode: 2, head, given: &[], map: [0; 256], tables: vec![frequencies], cost })
}

fn by_contexts<'a>(counts: &Counts, known: Known<'a>) -> Option<Candidate<'a>> {
    let tables = Tables::of(counts)?;
    // Contexts beyond the last one do not occur.
    let map = std::array::from_fn(|context| tables.group.get(context).copied().unwrap_or_default());
    let cost = tables.cost + known.side_bytes as f64;
    Some(Candidate {
        mode: BY_CONTEXTS,
        head: tables.head,
        given: known.contexts,
        map,
        tables: tables.frequencies,
        cost,
    })
}

/// The result is `None` also if the information in the classes alone takes `most` bytes or more.
fn by_classes<'a>(bytes: &[u8], before: &'a [u8], most: f64) -> Option<Candidate<'a>> {
    if before.is_empty() {
        return None;
    }
    // The most frequent bytes (of equal counts the lowest) get classes of their own, in the order
    // of their values.
    let counts = count(before);
    let mut order: Vec<u8> = (0..=u8::MAX).filter(|byte| counts[usize::from(*byte)] > 0).collect();
    order.sort_by_key(|byte| std::cmp::Reverse(counts[usize::from(*byte)]));
    order.truncate(CLASSES - 1);
    order.sort_unstable();
    let class = classes(&order);
    let mut contexts = vec![0; bytes.len()];
    look_up(&class, before, &mut contexts);
    let counts = Counts::of(bytes, &contexts);
    // Classes that share a table take at least as many bits as alone.
    if least_cost(&counts.total(), bytes.len(), counts.rows().map(information).sum()) >= most {
        return None;
    }
    let found = Tables::of(&counts)?;
    let head = [&[order.len() as u8 + 1], &order[..], &found.head].concat();
    let cost = found.cost + (1 + order.len()) as f64;
    let map = class.map(|class| found.group.get(usize::from(class)).copied().unwrap_or_default());
    Some(Candidate { mode: BY_CLASSES, head, given: before, map, tables: found.frequencies, cost })
}

/// The class of each byte value: its place in `order`, or `order.len()` for other values.
fn classes(order: &[u8]) -> [u8; 256] {
    let mut class = [order.len() as u8; 256];
    for (place, byte) in (0..).zip(order) {
        class[usize::from(*byte)] = place;
    }
    class
}

kernel! {
    /// `table[byte]` for each byte.
    pub(crate) fn look_up<'a>(simd, table: &'a [u8; 256], bytes: &'a [u8], out: &'a mut [u8]) {
        let Some(first) = table.first_chunk::<64>() else { return };
        let ((blocks, rest), (outs, tail)) = (bytes.as_chunks::<64>(), out.as_chunks_mut());
        for (block, out) in blocks.iter().zip(outs) {
            // Most tables are for contexts, which are below 64.
            if block.iter().fold(0, |all, byte| all | byte) < 64 {
                *out = simd.lookup64(first, block);
            } else {
                block.iter().zip(out).for_each(|(byte, out)| *out = table[usize::from(*byte)]);
            }
        }
        rest.iter().zip(tail).for_each(|(byte, out)| *out = table[usize::from(*byte)]);
    }
}

/// Decodes a plane of `out.len()` bytes.
///
/// # Errors
/// As [`Reader`].
pub fn decode(bytes: &[u8], known: Known<'_>, out: &mut [u8]) -> Result<(), Error> {
    let mut reader = Reader::new(bytes, out.len())?;
    reader.read(known, out)?;
    reader.finish()
}

/// Decodes a plane of `len` bytes into a new buffer.
///
/// # Errors
/// As [`decode`]; [`Error::Memory`] if the buffer cannot be allocated.
pub fn decoded(bytes: &[u8], known: Known<'_>, len: usize) -> Result<Vec<u8>, Error> {
    let mut out = Vec::new();
    out.try_reserve_exact(len).map_err(|_| Error::Memory(len))?;
    out.resize(len, 0);
    decode(bytes, known, &mut out)?;
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(n: usize) -> Vec<u8> {
        let mut state = 1u64;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 56) as u8
        };
        (0..n).map(|_| next()).collect()
    }

    /// Mode and size of a plane, after a check that it decodes to the same bytes.
    fn coded(bytes: &[u8], known: Known<'_>, gain: f64) -> (u8, usize) {
        let plane = encode_smaller(bytes, known, gain).expect("it encodes").unwrap_or_else(|| raw(bytes));
        let mut out = vec![0; bytes.len()];
        assert_eq!(decode(&plane, known, &mut out), Ok(()));
        assert!(out == bytes);
        for end in 0..plane.len().min(300) {
            assert!(decode(&plane[..end], known, &mut out).is_err(), "{end} of {} bytes", plane.len());
        }
        (plane[0], plane.len())
    }

    #[test]
    fn each_plane_has_the_model_that_suits_it() {
        let (n, nothing) = (20_000, Known::default());
        assert_eq!(encode(&[], nothing), Ok(Vec::new()));
        assert_eq!(coded(&vec![9; n], nothing, 0.0), (0, 2));
        let random = noise(n);
        assert_eq!(coded(&random, nothing, 0.0), (1, n + 1));
        let low: Vec<u8> = random.iter().map(|byte| byte & 15).collect();
        assert_eq!(coded(&low, nothing, 0.0).0, 2);
        assert_eq!(coded(&low, nothing, 0.6).0, 1, "four bits of eight are not six tenths");
        // The upper half follows from the context, or from the plane before.
        let around: Vec<u8> =
            low.iter().zip(noise(2 * n).iter().skip(n)).map(|(low, byte)| low << 4 | byte & 15).collect();
        let (mode, size) = coded(&around, Known { contexts: &low, ..nothing }, 0.0);
        assert!(mode == 3 && size < n / 2 + 1000, "{mode} {size}");
        let (mode, size) = coded(&around, Known { before: &low, ..nothing }, 0.0);
        assert!(mode == 4 && size < n / 2 + 1000, "{mode} {size}");
        // A table for each byte would cost more than it saves.
        let known = Known { contexts: &low[..3000], ..nothing };
        let (mode, size) = coded(&around[..3000], known, 0.0);
        assert!(mode == 3 && size < 1500 + 16 * 20 + 200, "{mode} {size}");
    }

    #[test]
    fn wrong_knowledge_is_refused() {
        let bytes = noise(100);
        assert!(encode(&bytes, Known { contexts: &bytes[1..], ..Known::default() }).is_err());
        let mut out = vec![0; 100];
        for mode in 0..=255 {
            for rest in [&[][..], &[0; 40], &[255; 40], &[1; 120]] {
                let plane = [&[mode], rest].concat();
                for known in [
                    Known::default(),
                    Known { contexts: &[63; 100], ..Known::default() },
                    Known { before: &bytes, ..Known::default() },
                ] {
                    let _ = decode(&plane, known, &mut out);
                }
            }
        }
    }
}
