//! Statistics of a quantised tensor: the count of each multiple, and the sum of its weights.

/// Magnitudes up to this one are counted one by one.
const COUNTED: usize = 1 << 11;

/// Counts and sums over quantised weights, in units of the step.
#[derive(Clone, Debug)]
pub(crate) struct Stats {
    /// Number of weights.
    pub weights: usize,
    /// Count and sum of weights of each multiple from −2¹¹ up; one table for even positions, one
    /// for odd positions.
    bins: [Vec<(u32, f64)>; 2],
    /// Multiples outside the tables.
    far: Vec<i32>,
    /// Sums over `far`: of `x·j`, of `j²`, of `|j|`, and of weights times the sign of their
    /// multiple.
    far_sums: [f64; 4],
    /// Sum of the squares of the weights.
    pub squares: f64,
    /// Number of weights too large for multiples; they are counted as 0.
    pub too_large: u64,
}

/// Counts of the magnitudes of upper parts, by parity and side of 0: `[parity][side][magnitude]`.
pub(crate) type Uppers = [[Vec<u32>; 2]; 2];

/// The weights of one magnitude: their number, and their sum, each times the sign of its multiple.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Magnitude {
    pub count: f64,
    pub sum: f64,
}

impl Stats {
    pub(crate) fn new() -> Self {
        let bins = || vec![(0, 0.0); 2 * COUNTED + 1];
        Self { weights: 0, bins: [bins(), bins()], far: Vec::new(), far_sums: [0.0; 4], squares: 0.0, too_large: 0 }
    }

    /// Adds weights, in steps, and their multiples.
    pub(crate) fn add(&mut self, x: &[f32], multiples: &[i32]) {
        self.weights += x.len();
        let mut squares = [0.0; 4];
        for (i, (x, j)) in x.iter().zip(multiples).enumerate() {
            let x = f64::from(*x);
            squares[i % 4] += x * x;
            let place = (*j as usize).wrapping_add(COUNTED);
            // Two tables in turn, so that equal neighbours do not wait for each other.
            if let Some((count, sum)) = self.bins[i % 2].get_mut(place) {
                *count += 1;
                *sum += x;
            } else {
                self.far.push(*j);
                let j = f64::from(*j);
                for (sum, term) in self.far_sums.iter_mut().zip([j * x, j * j, j.abs(), x * j.signum()]) {
                    *sum += term;
                }
            }
        }
        self.squares += squares.iter().sum::<f64>();
    }

    /// Count of the multiple at a place of the tables.
    fn count(&self, place: usize) -> u32 {
        self.bins[0][place].0 + self.bins[1][place].0
    }

    /// The weights with multiples `j` and `−j`; `j` is not 0 and is counted one by one.
    pub(crate) fn magnitude(&self, j: usize) -> Magnitude {
        let (above, below) = (COUNTED + j, COUNTED - j);
        Magnitude {
            count: f64::from(self.count(above)) + f64::from(self.count(below)),
            sum: self.bins.iter().map(|bins| bins[above].1 - bins[below].1).sum(),
        }
    }

    /// Number of weights with multiple 0.
    pub(crate) fn zeros(&self) -> f64 {
        self.count(COUNTED).into()
    }

    /// Number of even and of odd multiples.
    pub(crate) fn parities(&self) -> [f64; 2] {
        let mut parities = [0.0; 2];
        for place in 0..=2 * COUNTED {
            parities[place & 1] += f64::from(self.count(place));
        }
        for j in &self.far {
            parities[(*j & 1) as usize] += 1.0;
        }
        parities
    }

    /// Sums of `x·j` and of `j²` over weights `x` with multiples `j`, from magnitude `from` on.
    pub(crate) fn products(&self, from: usize) -> [f64; 2] {
        let mut sums = [self.far_sums[0], self.far_sums[1]];
        for j in from.max(1)..=COUNTED {
            let Magnitude { count, sum } = self.magnitude(j);
            sums[0] += sum * j as f64;
            sums[1] += count * (j * j) as f64;
        }
        sums
    }

    /// Number of weights, sum of `|j|`, and sum of weights times the sign of their multiple, from
    /// magnitude `from` on.
    pub(crate) fn firsts(&self, from: usize) -> [f64; 3] {
        let mut sums = [self.far.len() as f64, self.far_sums[2], self.far_sums[3]];
        for j in from..=COUNTED {
            let Magnitude { count, sum } = self.magnitude(j);
            sums[0] += count;
            sums[1] += count * j as f64;
            sums[2] += sum;
        }
        sums
    }

    /// Counts of upper parts; see [`Uppers`].
    pub(crate) fn uppers(&self, low_bits: u32) -> Uppers {
        let mut uppers = Uppers::default();
        let counted = (0..=2 * COUNTED).map(|place| (place as i32 - COUNTED as i32, self.count(place)));
        let counted = counted.filter(|(_, n)| *n > 0);
        for (j, n) in counted.chain(self.far.iter().map(|j| (*j, 1))) {
            let q = j >> 1 >> low_bits;
            let side = &mut uppers[(j & 1) as usize][usize::from(q < 0)];
            // Magnitudes far beyond every reach need not be distinguished.
            let magnitude = (q.unsigned_abs() as usize).min(COUNTED);
            if side.len() <= magnitude {
                side.resize(magnitude + 1, 0);
            }
            side[magnitude] += n;
        }
        uppers
    }
}
