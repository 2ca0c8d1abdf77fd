//! Vector instructions for Netweight's kernels.
//!
//! A kernel is written once inside [`kernel!`], in plain Rust over blocks of [`LANES`] values
//! ([`load`], [`store`]). It is compiled for every [`Level`] and called at the level of this CPU.
//! Rust neither reorders nor fuses floating-point operations, so every level gives the same bits.
//! Operations that the compiler does not vectorise by itself are methods of [`Simd`], with one
//! implementation for each level.
//!
//! ```
//! simd::kernel! {
//!     /// Multiplies every value by `factor`.
//!     fn scale<'a>(_simd, values: &'a mut [f32], factor: f32) {
//!         for v in values {
//!             *v *= factor;
//!         }
//!     }
//! }
//! let mut values = [1.0, 2.0];
//! scale(&mut values, 3.0);
//! assert_eq!(values, [3.0, 6.0]);
//! ```
//!
//! # Writing kernels
//! - Build arrays by index, with [`lanes!`], not with `array::map`: a closure of `array::map` that
//!   is not inlined is compiled without the level's instructions.
//! - The compiler may vectorise a loop of plain arithmetic across the blocks instead of within a
//!   block; the loop then needs gathers. If the generated code does this, call a method of [`Simd`]
//!   in the loop body.
//! - [`stream()`] bypasses the caches when it writes an output of 16 MiB or more.

mod convert;
mod dispatch;
mod lanes;
mod level;
mod reduce;
mod scalar;
mod stream;
mod table;
mod vector;
#[cfg(target_arch = "x86_64")]
mod x86;

pub use convert::{bf16_to_f32, f16_to_f32, f32_to_bf16, f32_to_f16};
pub use dispatch::{Kernel, dispatch};
pub use lanes::{LANES, load, store};
pub use level::{Level, with_level};
pub use reduce::{Lanes, dot, dot_tolerance, magnitudes, max_abs, sum};
pub use stream::{StreamWriter, prefetch, prefetch_behind, stream};
pub use table::Table;
pub use vector::Simd;
