//! How much heap a codec needs beside input and output.

/// Measures heap use. A program that installs a counting allocator hands one to the matrix.
///
/// The column `peak_scratch_bytes` is the larger of
/// - the peak of one encode above the heap at its start, less the bytes of the payload it returned, and
/// - the peak of one decode above the heap at its start (its output buffer is allocated before).
///
/// The allocator counts the whole process: what other threads allocate meanwhile is in the figure. A payload
/// that holds more capacity than bytes shows the difference. Not in it is what does not pass Rust's allocator: memory
/// that C libraries such as Zstandard take with `malloc`, and memory maps.
///
/// Counting has a price. An allocator that counts through `alloc` alone makes fresh zeroed memory by writing zeros,
/// where the system's own hands out pages that are zero already. The matrix's encode speeds of large outputs lie below
/// those of a benchmark without a meter, by that one pass over them.
pub trait ScratchMeter {
    /// Takes the heap in use now as the level to measure from, and forgets earlier peaks.
    fn start(&self);
    /// Bytes of the highest heap use since [`Self::start`] above that level.
    fn peak(&self) -> u64;
}
