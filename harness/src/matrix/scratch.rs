//! Heap use of a codec besides input and output.

/// Measures heap use. A program with a counting allocator passes a meter to the matrix.
///
/// The column `peak_scratch_bytes` is the larger of
/// - the peak of one encode above the heap at its start, minus the bytes of the returned payload,
///   and
/// - the peak of one decode above the heap at its start (the output buffer is allocated before).
///
/// The allocator counts the whole process: allocations of other threads are included, and so is
/// unused capacity of a payload's buffers. Not included is memory outside Rust's allocator:
/// `malloc` of C libraries such as Zstandard, and memory maps.
///
/// Counting makes encodes slower. A counting allocator that implements only `alloc` zeroes fresh
/// memory by writing to it, while the system allocator returns pages that are already zero. For
/// large outputs the matrix therefore shows lower encode speeds than a benchmark without a meter;
/// the difference is this one pass over the output.
pub trait ScratchMeter {
    /// Makes the heap in use now the reference level, and resets the peak.
    fn start(&self);
    /// Peak heap use since [`Self::start`], in bytes above the reference level.
    fn peak(&self) -> u64;
}
