//! Tests of the crate `calibrate`.

use codecs as _;

mod allocation;
mod factor;
mod feedback;
mod mixture;
mod scaling;
mod sequential;
mod statistics;
mod support;
mod tuning;
