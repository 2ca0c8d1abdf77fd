//! The machine that a measurement was made on.

use std::hint::black_box;
use std::time::Instant;

use simd::Level;

use super::timing::median;

/// The machine and the compiler behind a run.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Machine {
    /// CPU model, if the system reports it.
    pub cpu: Option<String>,
    /// Vector instructions that the kernels use on this thread.
    pub simd: String,
    /// Version of the compiler, from `rustc --version`.
    pub rustc: Option<String>,
}

impl Machine {
    /// The current machine.
    pub fn this() -> Self {
        Self {
            cpu: cpu_model(),
            simd: Level::current().to_string(),
            rustc: option_env!("NETWEIGHT_RUSTC").map(str::to_owned),
        }
    }
}

fn cpu_model() -> Option<String> {
    let text = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// Load average of the last minute (processes running or waiting), if the system reports it. If it
/// exceeds the number of idle cores, measured speeds are not reliable.
pub fn load_average() -> Option<f64> {
    std::fs::read_to_string("/proc/loadavg").ok()?.split(' ').next()?.parse().ok()
}

/// The most memory that a process has had so far, in bytes, if the system reports it: `VmHWM` of
/// `/proc/PROCESS/status`. `process` is its number, or `self`.
pub fn peak_rss(process: &str) -> Option<u64> {
    status(process, "VmHWM:")
}

/// The memory that this process has now, in bytes, if the system reports it: `VmRSS` of
/// `/proc/self/status`.
pub fn rss() -> Option<u64> {
    status("self", "VmRSS:")
}

fn status(process: &str, key: &str) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(key))?;
    let kibibytes: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kibibytes << 10)
}

/// Speed of a memcpy of 64 MiB on one thread, in 10⁶ bytes per second: the median of 9 runs. It is
/// the reference for the speed of a codec.
pub fn memcpy_mb_per_s() -> f64 {
    const BYTES: usize = 64 << 20;
    const RUNS: usize = 9;
    let source = vec![1u8; BYTES];
    // Written once before, so that no run includes page faults.
    let mut target = vec![2u8; BYTES];
    let seconds = (0..RUNS).map(|_| {
        let start = Instant::now();
        target.copy_from_slice(black_box(&source));
        black_box(&mut target);
        start.elapsed().as_secs_f64()
    });
    BYTES as f64 / 1e6 / median(seconds.collect())
}
