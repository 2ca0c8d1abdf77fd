//! Calls a kernel compiled for the level of this CPU.
#![allow(unsafe_code)]

use crate::level::Level;
use crate::scalar::Scalar;
use crate::vector::Simd;
#[cfg(target_arch = "x86_64")]
use crate::x86::{Avx2, Avx512};

/// A kernel call: the arguments, and the code that is compiled for every level.
/// [`kernel!`](crate::kernel!) writes the implementations.
pub trait Kernel {
    /// What the kernel returns.
    type Output;

    /// The kernel's body. It must be `#[inline(always)]`, and so must every hot function that it
    /// calls.
    fn run<S: Simd>(self, simd: S) -> Self::Output;
}

/// Runs a kernel at [`Level::current`].
pub fn dispatch<K: Kernel>(kernel: K) -> K::Output {
    match Level::current() {
        // SAFETY: `Level::current` is never above `Level::detected`, so this CPU has the features.
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 => unsafe { avx512(kernel) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Level::Avx2 => unsafe { avx2(kernel) },
        _ => kernel.run(Scalar),
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,f16c,bmi1,bmi2,lzcnt,popcnt")]
fn avx2<K: Kernel>(kernel: K) -> K::Output {
    kernel.run(Avx2::new())
}

#[cfg(target_arch = "x86_64")]
#[target_feature(
    enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni,avx2,fma,f16c,bmi1,bmi2,lzcnt,popcnt"
)]
fn avx512<K: Kernel>(kernel: K) -> K::Output {
    kernel.run(Avx512::new())
}

/// Defines a function whose body is compiled for every [`Level`](crate::Level) and called at the
/// current one.
///
/// The first parameter has no type: it is the [`Simd`](crate::Simd) value of the level. Lifetimes
/// must be written out.
#[macro_export]
macro_rules! kernel {
    ($(#[$meta:meta])* $vis:vis fn $name:ident $(<$($life:lifetime),+>)? ($simd:ident $(, $arg:ident : $type:ty)* $(,)?) $body:block) => {
        $crate::kernel! { $(#[$meta])* $vis fn $name $(<$($life),+>)? ($simd $(, $arg: $type)*) -> () $body }
    };
    ($(#[$meta:meta])* $vis:vis fn $name:ident $(<$($life:lifetime),+>)? ($simd:ident $(, $arg:ident : $type:ty)* $(,)?) -> $out:ty $body:block) => {
        $(#[$meta])*
        $vis fn $name $(<$($life),+>)? ($($arg: $type),*) -> $out {
            struct Call $(<$($life),+>)? { $($arg: $type),* }
            impl $(<$($life),+>)? $crate::Kernel for Call $(<$($life),+>)? {
                type Output = $out;
                #[inline(always)]
                fn run<S: $crate::Simd>(self, $simd: S) -> $out {
                    let Self { $($arg),* } = self;
                    $body
                }
            }
            $crate::dispatch(Call { $($arg),* })
        }
    };
}
