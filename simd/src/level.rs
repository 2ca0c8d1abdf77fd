//! The vector instructions to use: detected once, tests can override them.

use std::cell::Cell;
use std::fmt;
use std::sync::OnceLock;

/// A set of vector instructions. Every kernel gives the same bits at every level.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Level {
    /// The baseline of the compiler's target.
    Scalar,
    /// AVX2, FMA and F16C (x86-64-v3).
    Avx2,
    /// AVX-512 F, BW, DQ, VL, VBMI and VNNI (Ice Lake and Zen 4 on).
    Avx512,
}

impl Level {
    /// The best level of this CPU.
    pub fn detected() -> Self {
        static DETECTED: OnceLock<Level> = OnceLock::new();
        *DETECTED.get_or_init(detect)
    }

    /// All levels of this CPU, lowest first.
    pub fn available() -> Vec<Self> {
        [Self::Scalar, Self::Avx2, Self::Avx512].into_iter().filter(|level| *level <= Self::detected()).collect()
    }

    /// The level that kernels use on this thread: the detected one, or the override of
    /// [`with_level`].
    pub fn current() -> Self {
        OVERRIDE.get().unwrap_or_else(Self::detected)
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Scalar => "scalar",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512",
        })
    }
}

thread_local! {
    static OVERRIDE: Cell<Option<Level>> = const { Cell::new(None) };
}

/// Runs `f` with kernels on this thread at `level`, or at the CPU's best level if that is lower.
pub fn with_level<R>(level: Level, f: impl FnOnce() -> R) -> R {
    struct Restore(Option<Level>);
    impl Drop for Restore {
        fn drop(&mut self) {
            OVERRIDE.set(self.0);
        }
    }
    let _restore = Restore(OVERRIDE.replace(Some(level.min(Level::detected()))));
    f()
}

#[cfg(target_arch = "x86_64")]
fn detect() -> Level {
    macro_rules! has { ($($feature:tt),+) => { $(is_x86_feature_detected!($feature))&&+ } }
    if !has!("avx2", "fma", "f16c", "bmi1", "bmi2", "lzcnt", "popcnt") {
        Level::Scalar
    } else if has!("avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512vbmi", "avx512vnni") {
        Level::Avx512
    } else {
        Level::Avx2
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn detect() -> Level {
    Level::Scalar
}
