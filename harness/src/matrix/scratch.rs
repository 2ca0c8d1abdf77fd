//! How much heap a codec needs beside input and output.

/// Measures heap use. A program that installs a counting allocator hands one to the matrix.
///
/// The column `peak_scratch_bytes` is the larger of
/// - the peak of one encode above the heap at its start, less the bytes of the payload it returned, and
/// - the peak of one decode above the heap at its start (its output buffer is allocated before).
///
/// The allocator counts the whole process: what other threads allocate meanwhile is in the figure. A payload
/// that holds more capacity than bytes shows the difference.
pub trait ScratchMeter {
    /// Takes the heap in use now as the level to measure from, and forgets earlier peaks.
    fn start(&self);
    /// Bytes of the highest heap use since [`Self::start`] above that level.
    fn peak(&self) -> u64;
}
