//! Codes of rows and columns: short lists of bytes, whose tables must be short too.

use codec_api::{CodecError, Result};
use entropy::plane::{self, Known};
use entropy::{Decoder, Encoder, Frequencies, States};
use simd::{LANES, Table, kernel};

/// The first byte of a list: a plane in the layout of `entropy::plane`, or a bell.
const PLANE: u8 = 0;
const BELL: u8 = 1;

/// Widths of a bell are powers of two in quarters of an octave, from 2⁻² up.
const PER_OCTAVE: f64 = 4.0;
const LEAST_LOG: f64 = -2.0;

/// Codes a list of bytes in the smaller of both ways.
pub(super) fn encode(codes: &[u8]) -> Result<Vec<u8>> {
    if codes.is_empty() {
        return Ok(Vec::new());
    }
    let mut text = vec![PLANE];
    text.extend(plane::encode(codes, Known::default()).map_err(CodecError::codec)?);
    if text.len() <= 3 {
        return Ok(text);
    }
    let Some((centre, width, frequencies)) = fit(codes) else { return Ok(text) };
    let mut bell = vec![BELL, centre, width];
    Encoder::new(&[frequencies]).append_narrow(codes, &[], 1, &mut bell).map_err(CodecError::codec)?;
    Ok(if bell.len() < text.len() { bell } else { text })
}

/// Decodes `len` bytes.
///
/// # Errors
/// What is wrong with the text.
pub(super) fn decode(text: &[u8], len: usize) -> Result<Vec<u8>, String> {
    if len == 0 && text.is_empty() {
        return Ok(Vec::new());
    }
    let failed = |error: entropy::Error| error.to_string();
    match text {
        [PLANE, plane @ ..] => plane::decoded(plane, Known::default(), len).map_err(failed),
        [BELL, centre, width, stream @ ..] => {
            let frequencies = bell(*centre, *width).ok_or("it has no codes")?;
            let decoder = Decoder::new(&[frequencies]);
            let states = States::narrow(stream, len, 1).map_err(failed)?;
            let mut codes = vec![0; len];
            let states = read(decoder.table().ok_or("it has no table")?, states, &mut codes);
            states.finish().map_err(failed)?;
            Ok(codes)
        }
        _ => Err("it has no codes".to_owned()),
    }
}

kernel! {
    fn read<'a, 's>(simd, table: Table<'a>, states: States<'s>, out: &'a mut [u8]) -> States<'s> {
        let mut states = states;
        for out in out.chunks_mut(2 * LANES) {
            let symbols = states.step(simd, table, &[[0; LANES]; 2]);
            out.copy_from_slice(&symbols.as_flattened()[..out.len()]);
        }
        states
    }
}

/// Nearly the best centre and width of a bell for these codes, and its frequencies.
fn fit(codes: &[u8]) -> Option<(u8, u8, Frequencies)> {
    let counts = entropy::count(codes);
    let mean = codes.iter().map(|code| f64::from(*code)).sum::<f64>() / codes.len() as f64;
    let mut sorted = codes.to_vec();
    sorted.sort_unstable();
    let at = |share: f64| f64::from(sorted[((codes.len() - 1) as f64 * share) as usize]);
    // Quartiles of a normal distribution are 1.35 deviations apart.
    let spread = ((at(0.75) - at(0.25)) / 1.35).max(0.3);
    let middle = libm::round((libm::log2(spread) - LEAST_LOG) * PER_OCTAVE).clamp(0.0, 250.0) as u8;
    let centres = [at(0.5) as u8, libm::round(mean) as u8];
    let widths = middle.saturating_sub(1)..=middle + 3;
    let candidates = centres.into_iter().flat_map(|centre| widths.clone().map(move |width| (centre, width)));
    let priced = candidates.filter_map(|(centre, width)| {
        let frequencies = bell(centre, width)?;
        Some((frequencies.cost(&counts), centre, width, frequencies))
    });
    let best = priced.min_by(|a, b| a.0.total_cmp(&b.0));
    best.map(|(_, centre, width, frequencies)| (centre, width, frequencies))
}

/// The frequencies of a bell: normal, with wide tails.
fn bell(centre: u8, width: u8) -> Option<Frequencies> {
    let scale = libm::exp2(f64::from(width) / PER_OCTAVE + LEAST_LOG);
    let probability = |code: u8| {
        let x = f64::from(code.abs_diff(centre)) / scale;
        libm::exp(-0.5 * x * x) + 0.02 * libm::exp(-0.3 * x) + 1e-4
    };
    let all: Vec<f64> = (0..=u8::MAX).map(probability).collect();
    Frequencies::of_probabilities(&all)
}
