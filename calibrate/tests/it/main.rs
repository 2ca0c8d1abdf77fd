//! Tests of the crate `calibrate`.

use codecs as _;

mod factor;
mod feedback;
mod sequential;
mod statistics;
mod support;
