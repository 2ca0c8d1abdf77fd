//! Times of calls, and the values that they work on.

use std::time::Instant;

use harness::suite::Draw;

use crate::measure::significant;

/// Seconds of many calls, in ascending order.
pub(super) struct Times(Vec<f64>);

impl Times {
    /// Calls each function in turn, so often, after some calls that are not measured.
    pub(super) fn of<const N: usize>(calls: usize, mut functions: [&mut dyn FnMut(); N]) -> [Self; N] {
        let mut times = [const { Vec::new() }; N];
        for round in 0..calls + calls.div_ceil(20) {
            for (function, times) in functions.iter_mut().zip(&mut times) {
                let begin = Instant::now();
                function();
                if round >= calls.div_ceil(20) {
                    times.push(begin.elapsed().as_secs_f64());
                }
            }
        }
        times.map(|mut seconds| {
            seconds.sort_by(f64::total_cmp);
            Self(seconds)
        })
    }

    fn quantile(&self, share: f64) -> f64 {
        self.0[(share * (self.0.len() - 1) as f64).round() as usize]
    }

    /// Seconds.
    pub(super) fn median(&self) -> f64 {
        self.quantile(0.5)
    }

    /// The median, and the fifth and the ninety-fifth percentile.
    pub(super) fn text(&self) -> String {
        let (factor, unit) = if self.median() < 1e-3 { (1e6, "µs") } else { (1e3, "ms") };
        let number = |share| significant(factor * self.quantile(share));
        format!("{} {unit} ({}–{})", number(0.5), number(0.05), number(0.95))
    }
}

/// Numbers of N(0, `deviation`²).
pub(super) fn normal(name: &str, n: usize, deviation: f32) -> Vec<f32> {
    let mut draw = Draw::new(0, name);
    (0..n).map(|_| deviation * draw.normal() as f32).collect()
}
