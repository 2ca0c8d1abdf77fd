//! One cell of the matrix.

use std::fmt;

use codec_api::Dtype;
use serde::{Deserialize, Serialize};

use super::{Column, Machine, Options};
use crate::suite::{Item, Suite};

/// Outcome of a cell, best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Encoded, read back and decoded; the certificate holds.
    Ok,
    /// The codec does not support this tensor, or would change it as much as zeros, or more.
    Unsupported,
    /// An error, a panic, a wrong certificate, or a size outside the codec's cost.
    Failed,
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Ok => "ok",
            Self::Unsupported => "unsupported",
            Self::Failed => "failed",
        })
    }
}

/// The result of one cell: a tensor through a codec. Serialised, it is a line of the JSON Lines
/// report, which is a stable interface: one object that always has all of these keys in this order.
/// Unknown values are null.
///
/// | key | type | meaning |
/// |---|---|---|
/// | `suite` | string | the suite's name |
/// | `tensor` | string | the tensor's name; (`suite`, `tensor`, `codec`) is unique in a run |
/// | `shape` | integers | extent of each axis, outermost first |
/// | `dtype` | string | stored dtype: `F32`, `BF16`, `I64`, … |
/// | `codec` | string | spec text of the codec with all its keys |
/// | `preset` | string? | the preset of this configuration |
/// | `calibrated` | boolean | the codec got the calibration of the tensor |
/// | `status` | string | `ok`, `unsupported` or `failed`; see below |
/// | `reason` | string? | why the cell is not `ok` |
/// | `weights` | integer | elements of the tensor |
/// | `bytes` | integer? | sum of the payload's section bytes |
/// | `header_bytes` | integer? | all other bytes of the encoded file; see below |
/// | `bits_per_weight` | number? | `8·bytes/weights`; null for an empty tensor |
/// | `ratio` | number? | stored dense bytes / `bytes` (below 1: growth); null if either is 0 |
/// | `exact` | boolean? | every bit is restored |
/// | `nmse` | number? | ‖w − ŵ‖²/‖w‖²; 0 without any error |
/// | `relative_error` | number? | `√nmse` |
/// | `mse` | number? | ‖w − ŵ‖²/weights |
/// | `max_abs_error` | number? | max \|w − ŵ\| |
/// | `snr_db` | number? | `10·log₁₀(1/nmse)`; null when `nmse` is 0 |
/// | `shannon_gap_bits` | number? | `bits_per_weight − ½·log₂(1/nmse)`; null if either is 0 |
/// | `encode_mb_per_s` | number? | 10⁶ stored dense bytes per second, median of the runs |
/// | `decode_mb_per_s` | number? | the same for decoding into a reused buffer |
/// | `peak_scratch_bytes` | integer? | heap besides input and output, or null |
/// | `timing_runs` | integer? | timed runs: the smaller number of encode and decode |
/// | `threads` | integer | number of threads: 1 |
/// | `seed` | integer | seed of suite and codec |
/// | `commit` | string? | commit of the program |
/// | `cpu` | string? | CPU model |
/// | `simd` | string | vector instructions of the kernels |
/// | `rustc` | string? | compiler version |
/// | `tensor_hash` | string? | blake3 of the tensor as stored; null for a seeded suite |
///
/// Errors are those of the tensor that a user gets back: of the decoded weights, rounded to the
/// stored dtype, computed in f64. They agree with the certificate in the file. A `failed` row keeps
/// the values that were measured before the failure.
///
/// - `status`: `ok`; `unsupported` if the codec does not support the tensor, or would change it
///   as much as zeros, or more; `failed` if it returned another error, panicked or violated its
///   contract.
/// - `header_bytes`: header, spec, certificate and section names.
/// - `shannon_gap_bits`: bits above the rate of independent Gaussian weights with the same ‖w‖. It
///   is negative for tensors that are easier to code, for example with a common mean.
/// - `peak_scratch_bytes`: the larger of encode and decode, without payload and output; excludes
///   the `malloc` of C libraries (Zstandard). It is null if the program's allocator is not
///   [`heap::Counting`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the table above documents every key")]
pub struct Row {
    pub suite: String,
    pub tensor: String,
    pub shape: Vec<usize>,
    pub dtype: Dtype,
    pub codec: String,
    pub preset: Option<String>,
    /// False in reports of earlier versions, which had no calibration.
    #[serde(default)]
    pub calibrated: bool,
    pub status: Status,
    pub reason: Option<String>,
    pub weights: u64,
    pub bytes: Option<u64>,
    pub header_bytes: Option<u64>,
    pub bits_per_weight: Option<f64>,
    pub ratio: Option<f64>,
    pub exact: Option<bool>,
    pub nmse: Option<f64>,
    pub relative_error: Option<f64>,
    pub mse: Option<f64>,
    pub max_abs_error: Option<f64>,
    pub snr_db: Option<f64>,
    pub shannon_gap_bits: Option<f64>,
    pub encode_mb_per_s: Option<f64>,
    pub decode_mb_per_s: Option<f64>,
    pub peak_scratch_bytes: Option<u64>,
    pub timing_runs: Option<u32>,
    pub threads: u32,
    pub seed: u64,
    pub commit: Option<String>,
    pub cpu: Option<String>,
    pub simd: String,
    pub rustc: Option<String>,
    /// Absent in reports of earlier versions, which had a hash of the whole model.
    #[serde(default)]
    pub tensor_hash: Option<String>,
    /// ‖w‖² of a float tensor. Not part of any report; used to pool errors over tensors.
    #[serde(skip)]
    pub energy: Option<f64>,
}

impl Row {
    /// A row with everything that is known before the codec runs.
    pub(super) fn new(suite: &Suite, item: &Item, column: &Column, options: &Options<'_>, machine: &Machine) -> Self {
        Self {
            suite: suite.name.clone(),
            tensor: item.name.clone(),
            shape: item.spec.shape().to_vec(),
            dtype: item.spec.dtype(),
            codec: column.spec.clone(),
            preset: column.preset.clone(),
            calibrated: false,
            status: Status::Ok,
            reason: None,
            weights: item.spec.elements() as u64,
            bytes: None,
            header_bytes: None,
            bits_per_weight: None,
            ratio: None,
            exact: None,
            nmse: None,
            relative_error: None,
            mse: None,
            max_abs_error: None,
            snr_db: None,
            shannon_gap_bits: None,
            encode_mb_per_s: None,
            decode_mb_per_s: None,
            peak_scratch_bytes: None,
            timing_runs: None,
            threads: 1,
            seed: suite.seed,
            commit: options.commit.clone(),
            cpu: machine.cpu.clone(),
            simd: machine.simd.clone(),
            rustc: machine.rustc.clone(),
            tensor_hash: None,
            energy: None,
        }
    }

    /// Size of the stored tensor in bytes.
    pub fn dense_bytes(&self) -> u64 {
        self.weights * self.dtype.bitsize() as u64 / 8
    }
}
