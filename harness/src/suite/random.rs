//! Random numbers for seeded tensors, with the same bits on every machine.

use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{Rng, SeedableRng};

/// xoshiro256++, seeded with the blake3 of the suite's seed and the tensor's name.
#[derive(Clone, Debug)]
pub struct Draw {
    rng: Xoshiro256PlusPlus,
    /// The second normal number of the polar method, which gives two at a time.
    spare: Option<f64>,
}

impl Draw {
    /// The numbers of this tensor.
    pub fn new(seed: u64, name: &str) -> Self {
        let mut hash = blake3::Hasher::new();
        hash.update(&seed.to_le_bytes());
        hash.update(name.as_bytes());
        Self { rng: Xoshiro256PlusPlus::from_seed(hash.finalize().into()), spare: None }
    }

    /// 64 random bits.
    pub fn word(&mut self) -> u64 {
        self.rng.next_u64()
    }

    /// Uniform in [0, 1), a multiple of 2⁻⁵³.
    fn unit(&mut self) -> f64 {
        (self.word() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Uniform in [−`limit`, `limit`).
    pub(super) fn uniform(&mut self, limit: f64) -> f64 {
        (2.0 * self.unit() - 1.0) * limit
    }

    /// True with probability `probability`.
    pub(super) fn chance(&mut self, probability: f64) -> bool {
        self.unit() < probability
    }

    /// N(0, 1), by Marsaglia's polar method.
    pub fn normal(&mut self) -> f64 {
        if let Some(spare) = self.spare.take() {
            return spare;
        }
        loop {
            let (x, y) = (self.uniform(1.0), self.uniform(1.0));
            let square = x * x + y * y;
            if 0.0 < square && square < 1.0 {
                let factor = (-2.0 * libm::log(square) / square).sqrt();
                self.spare = Some(y * factor);
                return x * factor;
            }
        }
    }

    /// Laplace with mean 0 and variance 1: an exponential with a random sign.
    pub(super) fn laplace(&mut self) -> f64 {
        let signed = self.uniform(1.0);
        let magnitude = -libm::log(1.0 - signed.abs().min(1.0 - f64::EPSILON)) * std::f64::consts::FRAC_1_SQRT_2;
        magnitude.copysign(signed)
    }
}
