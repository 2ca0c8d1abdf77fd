//! Small codecs that keep every law. Together they cover every optional trait, a base, calibration
//! and a child.

mod layers;
mod negate;
mod raw;
mod steps;
mod truncate;
mod weighted;
mod xor;
