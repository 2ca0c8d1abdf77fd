//! The laws, over codecs with one fault each and over codecs that keep them all.

mod broken;
mod conformance;
mod find_faults;
mod generated;
mod passing;
mod versions;
