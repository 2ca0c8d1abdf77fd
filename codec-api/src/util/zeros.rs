//! Allocations that fail with an error.

use bytemuck::{Zeroable, allocation::try_zeroed_vec};

use crate::error::{CodecError, Result};

/// `len` zeros, for outputs and scratch memory whose size a payload states.
///
/// # Errors
/// [`CodecError::Limit`] if there is not enough memory.
pub fn zeros<T: Zeroable>(len: usize) -> Result<Vec<T>> {
    let too_many = |()| CodecError::Limit(format!("no memory for {len} values of {} bytes", size_of::<T>()));
    try_zeroed_vec(len).map_err(too_many)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_machine_has_is_an_error() {
        assert_eq!(zeros::<f32>(3).unwrap(), [0.0; 3]);
        for len in [usize::MAX, isize::MAX as usize / 4] {
            let error = zeros::<f32>(len).unwrap_err().to_string();
            assert_eq!(error, format!("limit: no memory for {len} values of 4 bytes"));
        }
    }
}
