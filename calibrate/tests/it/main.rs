//! Tests of the crate `calibrate`.

use codecs as _;

mod allocation;
mod factor;
mod feedback;
mod scaling;
mod sequential;
mod statistics;
mod support;
