//! The root of a monotone function, by secants that stay between known points.

/// Limit of a miss in bits; a tensor worth coding never misses by more.
const MOST: f64 = 64.0;

/// A search for the logarithm of the step at which the miss is 0.
#[derive(Debug)]
pub(super) struct Secant {
    log: f64,
    limits: (f64, f64),
    /// 1 if the miss rises with the step, −1 if it falls.
    sign: f64,
    slope: f64,
    before: Option<(f64, f64)>,
    /// The nearest known points below and above the root.
    bracket: [f64; 2],
}

impl Secant {
    pub(super) fn new(log: f64, limits: (f64, f64), falls: bool) -> Self {
        let sign = if falls { -1.0 } else { 1.0 };
        let bracket = [f64::NEG_INFINITY, f64::INFINITY];
        Self { log: log.clamp(limits.0, limits.1), limits, sign, slope: sign, before: None, bracket }
    }

    /// The point to evaluate next.
    pub(super) fn log(&self) -> f64 {
        self.log
    }

    /// Forgets known points, because the function has changed slightly.
    pub(super) fn forget(&mut self) {
        self.before = None;
        self.bracket = [f64::NEG_INFINITY, f64::INFINITY];
    }

    /// Continues with the miss at the current point.
    pub(super) fn step(&mut self, miss: f64) {
        // The miss of a part that is all zero may be infinite.
        let miss = miss.clamp(-MOST, MOST);
        if let Some((log, before)) = self.before.filter(|(log, _)| (log - self.log).abs() > 1e-6) {
            self.slope = self.sign * (self.sign * (miss - before) / (self.log - log)).clamp(0.3, 10.0);
        }
        self.before = Some((self.log, miss));
        self.bracket[usize::from(miss * self.sign > 0.0)] = self.log;
        let next = self.log - miss / self.slope;
        let inside = self.bracket[0] < next && next < self.bracket[1];
        let middle = 0.5 * (self.bracket[0] + self.bracket[1]);
        self.log = if inside || !middle.is_finite() { next } else { middle };
        self.log = self.log.clamp(self.limits.0, self.limits.1);
    }
}

/// The bytes to aim at after a payload of `found` bytes, more than `most`, whose estimate was
/// `estimate`. It allows for the error of the estimate, and for more from round to round: an aim at
/// or above the estimate would find the same step again.
pub(super) fn lower_aim(most: u64, found: u64, estimate: f64, round: i32) -> f64 {
    const MARGIN: f64 = 4.0;
    most as f64 - (found as f64 - estimate) - MARGIN.powi(round)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The estimate is within the rate, but the payload is two bytes too large.
    #[test]
    fn a_lower_aim_excludes_the_step_that_gave_too_many_bytes() {
        for round in 0..5 {
            let aim = lower_aim(527_853, 527_855, 527_828.0, round);
            assert!((527_500.0..527_828.0).contains(&aim), "round {round}: {aim}");
        }
        assert!(lower_aim(100, 101, 100.0, 1) < lower_aim(100, 101, 100.0, 0));
    }

    #[test]
    fn it_finds_roots_of_rising_and_falling_functions() {
        for falls in [false, true] {
            let sign = if falls { -1.0 } else { 1.0 };
            for root in [-3.0, 0.1, 4.0] {
                for steepness in [0.5, 1.0, 5.0] {
                    let mut secant = Secant::new(0.0, (-20.0, 20.0), falls);
                    for _ in 0..25 {
                        let distance = secant.log() - root;
                        secant.step(sign * steepness * (distance + 0.1 * distance.powi(3)));
                    }
                    assert!((secant.log() - root).abs() < 1e-3, "{root} {steepness}: {secant:?}");
                }
            }
        }
    }
}
