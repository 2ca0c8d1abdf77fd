//! A decoder written from the documentation alone, and an independent search for the optimum.

use codec_api::{Bounded, Codec, DecodeCx, EncodeCx, EncodedTensor, Payload, Registry, TensorView};
use codec_seedlm::SeedLm;
use harness::testing::weights;
use nalgebra::{DMatrix, DVector};

/// The settings that a decoder needs.
struct Format {
    k: u32,
    c: usize,
    p: usize,
    mantissa_bits: u32,
    per_octave: i32,
}

impl Format {
    fn step(&self, state: u32) -> u32 {
        let taps: &[u32] = match self.k {
            8 => &[0, 2, 3, 4],
            12 => &[0, 1, 2, 8],
            16 => &[0, 1, 3, 12],
            _ => &[0, 1, 2, 7],
        };
        let parity = taps.iter().fold(0, |parity, tap| parity ^ state >> tap & 1);
        state >> 1 | parity << (self.k - 1)
    }

    /// V, row by row.
    fn basis(&self, seed: u32) -> Vec<i64> {
        let mut state = seed;
        let mut next = || {
            state = self.step(state);
            i64::from(state) - (1 << (self.k - 1))
        };
        (0..self.c * self.p).map(|_| next()).collect()
    }

    fn divisor(&self) -> f64 {
        f64::from((1u32 << (self.k - 1)) - 1)
    }

    fn decode(&self, codes: &[u8], bias: i16, n: usize) -> Vec<f32> {
        let mut place = 0;
        let mut take = |bits: u32| {
            let value = (0..bits)
                .fold(0, |v, b| v | u32::from(codes[(place + b as usize) / 8] >> ((place + b as usize) % 8) & 1) << b);
            place += bits as usize;
            value
        };
        let mut weights = Vec::new();
        while weights.len() < n {
            let (seed, field) = (take(self.k), take(4));
            let sign = 1 << (self.mantissa_bits - 1);
            let mantissas: Vec<i64> =
                (0..self.p).map(|_| i64::from(take(self.mantissa_bits) ^ sign) - i64::from(sign)).collect();
            let exponent = i32::from(bias) + field as i32;
            let root = 2f64.powf(f64::from(exponent.rem_euclid(self.per_octave)) / f64::from(self.per_octave));
            for row in self.basis(seed).chunks(self.p) {
                let sum: i64 = row.iter().zip(&mantissas).map(|(v, m)| v * m).sum();
                let power = 2f32.powi(exponent.div_euclid(self.per_octave));
                weights.push(sum as f32 * (root / self.divisor()) as f32 * power);
            }
        }
        weights.truncate(n);
        weights
    }
}

fn bias(payload: &Payload, name: &str) -> i16 {
    let bytes = payload.sections()[name].data();
    i16::from_le_bytes([bytes[0], bytes[1]])
}

#[test]
fn a_decoder_from_the_documentation_reads_every_payload() {
    let registry = Registry::linked().unwrap();
    for (k, c, p, mantissa_bits, per_octave) in
        [(16, 8, 3, 4, 2), (16, 12, 4, 4, 1), (12, 13, 3, 2, 4), (24, 16, 4, 6, 2), (8, 5, 1, 5, 1)]
    {
        let spec = format!(
            "seedlm:k={k}:c={c}:p={p}:mantissa_bits={mantissa_bits}:per_octave={per_octave}:search=300:layers=2"
        );
        let values: Vec<f32> = weights("gaussian", 301).iter().map(|w| w * 0.03).collect();
        let tensor = TensorView::from_f32([7, 43], &values).unwrap();
        let encoded = EncodedTensor::encode(registry.parse_spec(&spec).unwrap(), tensor, &EncodeCx::new(5)).unwrap();
        let format = Format { k, c, p, mantissa_bits, per_octave };
        let layer =
            |codes, name| format.decode(encoded.payload.sections()[codes].data(), bias(&encoded.payload, name), 301);
        let sum: Vec<f32> = layer("codes", "bias").iter().zip(layer("codes_1", "bias_1")).map(|(a, b)| a + b).collect();
        assert_eq!(encoded.decode(&DecodeCx::new()).unwrap(), sum, "{spec}");
    }
}

/// The least squared error of a block over all seeds, two exponents for each seed, and all
/// mantissas on either side of the least-squares solution.
fn best_of_all_seeds(format: &Format, block: &[f32], bias: i16) -> f64 {
    let w = DVector::from_iterator(format.c, block.iter().map(|w| f64::from(*w)));
    let most = (1 << (format.mantissa_bits - 1)) - 1;
    let mut best = f64::INFINITY;
    for seed in 1..1u32 << format.k {
        let basis = format.basis(seed);
        let u = DMatrix::from_row_iterator(format.c, format.p, basis.iter().map(|v| *v as f64 / format.divisor()));
        let Some(t) = (u.transpose() * &u).cholesky().map(|c| c.solve(&(u.transpose() * &w))) else { continue };
        let step = |field: i32| 2f64.powf(f64::from(i32::from(bias) + field) / f64::from(format.per_octave));
        let fits = (0..16).find(|field| t.amax() <= (f64::from(most) + 0.5) * step(*field)).unwrap_or(15);
        for field in [fits, (fits + 1).min(15)] {
            for sides in 0..1 << format.p {
                let rounded = t.map_with_location(|p, _, t| {
                    let m = (t / step(field)).floor() + f64::from(sides >> p & 1);
                    m.clamp(f64::from(-most - 1), f64::from(most)) * step(field)
                });
                best = best.min((&w - &u * rounded).norm_squared());
            }
        }
    }
    best
}

#[test]
fn no_seed_of_the_textbook_search_is_better() {
    for (config, format) in [
        (SeedLm::four_bit(), Format { k: 16, c: 8, p: 3, mantissa_bits: 4, per_octave: 2 }),
        (SeedLm::three_bit(), Format { k: 16, c: 12, p: 4, mantissa_bits: 4, per_octave: 2 }),
    ] {
        let values = weights("gaussian", format.c * 4);
        let tensor = TensorView::from_f32([values.len()], &values).unwrap();
        let payload = config.encode(tensor.clone(), &EncodeCx::new(0)).unwrap();
        let mut decoded = vec![0.0; values.len()];
        config.decode(tensor.spec(), payload.view(), &DecodeCx::new(), &mut decoded).unwrap();
        for (w, d) in values.chunks(format.c).zip(decoded.chunks(format.c)) {
            let found: f64 = w.iter().zip(d).map(|(w, d)| (f64::from(*w) - f64::from(*d)).powi(2)).sum();
            let textbook = best_of_all_seeds(&format, w, bias(&payload, "bias"));
            assert!(found <= textbook * 1.00001, "error {found}, the textbook's is {textbook}");
            assert!(found > textbook * 0.5, "error {found} is too good beside {textbook}");
        }
    }
}

#[test]
fn layers_are_levels_of_the_same_payload() {
    let values = weights("gaussian", 400);
    let tensor = TensorView::from_f32([400], &values).unwrap();
    let one = SeedLm::two_bit().encode(tensor.clone(), &EncodeCx::new(0)).unwrap();
    let three = SeedLm::two_bit().layered(Bounded::at::<3>()).encode(tensor, &EncodeCx::new(0)).unwrap();
    for name in ["codes", "bias"] {
        assert_eq!(one.sections()[name].data(), three.sections()[name].data());
    }
}
